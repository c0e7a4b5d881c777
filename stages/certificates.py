"""Certificates: what C2PA accepts, whom they lead to, what signs by them, and a local test authority.

A chain file is PEM, the leaf first, then who issued it. The only importer of cryptography.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from stages.errors import InputError
from stages.files import attempt

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

__all__ = [
    "Leaf",
    "algorithm_of",
    "authorities",
    "fingerprints_in",
    "is_anchored",
    "leaf_of",
    "make_authority",
    "read_anchors",
    "responders_in",
    "usable",
    "verified",
    "wrong_with",
]

TEST_ORGANISATION = "Afterframe test signer"
"""The organisation on every test leaf. Whoever else writes it only calls himself a test."""

ALLOWED_USES = {
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.36": "documentSigning",
    "1.3.6.1.4.1.311.76.59.1.9": "Microsoft C2PA signing",
    "1.3.6.1.4.1.62558.2.1": "C2PA claim signing",
}
"""Extended key usages that a C2PA signer may have. The library allows only the first unless it is told."""

ANY_USE = "2.5.29.37.0"
LIFE = timedelta(days=3650)
"""How long a test certificate lasts. Without a timestamp a signature ends with its certificate."""

RENEWED_BEFORE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Leaf:
    """The first certificate of a chain: its common name, its serial number in decimal (as C2PA reports it), the
    SHA-256 of it in hexadecimal, and C2PA's name of the signatures that its key makes (`ES256`; empty if it takes
    none of its kind)."""

    name: str
    serial: str
    fingerprint: str
    algorithm: str


def leaf_of(chain: Path) -> Leaf:
    """What the chain file begins with. Raises InputError if it is none."""
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 -- heavy

    leaf = _chain(chain)[0]
    fingerprint = leaf.fingerprint(hashes.SHA256()).hex()
    return Leaf(_common_name(leaf), str(leaf.serial_number), fingerprint, algorithm_of(leaf.public_key()))


def wrong_with(chain: Path, key: Path | None) -> list[str]:
    """Why C2PA would not accept what this chain signs, a sentence each: the leaf's extensions, its dates, the chain
    and the key, if it lies in a file. Nothing about trust: that is for those who verify."""
    try:
        found = _chain(chain)
    except InputError as error:
        return [str(error)]
    of_key = _wrong_with_key(key, found[0]) if key else _wrong_with_kind(chain, found[0])
    return [*_wrong_with_leaf(found[0]), *_wrong_with_chain(found), *of_key]


def verified(chain: Path, content: bytes, signature: bytes) -> bytes:
    """`signature` of `content` as C2PA wants it, if the leaf's key made it; empty if not.

    C2PA wants ECDSA's as its two numbers side by side (RFC 9053, section 2.1); most key stores hand out DER.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 -- heavy
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 -- heavy
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils  # noqa: PLC0415 -- heavy

    public = _chain(chain)[0].public_key()
    try:
        if isinstance(public, ec.EllipticCurvePublicKey):
            width = (public.curve.key_size + 7) // 8
            if len(signature) != 2 * width:
                r, s = utils.decode_dss_signature(signature)
                signature = r.to_bytes(width, "big") + s.to_bytes(width, "big")
            numbers = (int.from_bytes(signature[:width], "big"), int.from_bytes(signature[width:], "big"))
            digest: hashes.HashAlgorithm = {32: hashes.SHA256(), 48: hashes.SHA384()}.get(width, hashes.SHA512())
            public.verify(utils.encode_dss_signature(*numbers), content, ec.ECDSA(digest))
        elif isinstance(public, rsa.RSAPublicKey):
            salted = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
            public.verify(signature, content, salted, hashes.SHA256())
        elif isinstance(public, ed25519.Ed25519PublicKey):
            public.verify(signature, content)
        else:
            return b""
    except (InvalidSignature, ValueError, OverflowError):
        return b""
    return signature


def read_anchors(files: Sequence[Path]) -> str:
    """The certificates in PEM `files`, as one PEM text. Raises InputError naming a file that is none."""
    return b"".join(_pem(certificate) for file in files for certificate in _chain(file)).decode()


def authorities(pem: bytes) -> tuple[str, ...]:
    """The fingerprints of the authorities (CA) in a PEM text; empty if there is anything else in it, or nothing."""
    from cryptography import x509  # noqa: PLC0415 -- heavy
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 -- heavy

    try:
        found = x509.load_pem_x509_certificates(pem)
        if not all(each.extensions.get_extension_for_class(x509.BasicConstraints).value.ca for each in found):
            return ()
    except (ValueError, x509.ExtensionNotFound):
        return ()
    return tuple(each.fingerprint(hashes.SHA256()).hex() for each in found)


def fingerprints_in(store: bytes, serial: str) -> frozenset[str]:
    """The SHA-256 of each certificate in a manifest `store` that has this serial number, in hexadecimal."""
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 -- heavy

    found = (each for each in _certificates_in(store) if str(each.serial_number) == serial)
    return frozenset(each.fingerprint(hashes.SHA256()).hex() for each in found)


def responders_in(store: bytes, serial: str) -> tuple[str, ...]:
    """The addresses at which it can be asked whether the certificate `serial` in a manifest `store` was revoked
    (OCSP, RFC 6960), each once."""
    from cryptography import x509  # noqa: PLC0415 -- heavy
    from cryptography.x509.oid import AuthorityInformationAccessOID  # noqa: PLC0415 -- heavy

    found: dict[str, None] = {}
    for each in _certificates_in(store):
        if str(each.serial_number) == serial:
            with contextlib.suppress(ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
                access = each.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
                named = (
                    one.access_location for one in access if one.access_method == AuthorityInformationAccessOID.OCSP
                )
                found |= dict.fromkeys(one.value for one in named if isinstance(one, x509.UniformResourceIdentifier))
    return tuple(found)


def is_anchored(store: bytes, serial: str, anchors: Sequence[Path]) -> bool:
    """Whether the certificate `serial` in a manifest `store` leads to an anchor, whatever the date is.

    The reader calls every expired certificate untrusted too; this tells an
    honest one that grew old from a stranger's. Every certificate of that serial
    must lead there, so that a stranger gains nothing by adding a real one.
    """
    roots = [certificate for file in anchors for certificate in _chain(file)]
    found = list(_certificates_in(store))
    leaves = [certificate for certificate in found if str(certificate.serial_number) == serial]
    return bool(leaves) and all(_leads_to(leaf, found, roots) for leaf in leaves)


# ---------------------------------------------------------------- reading certificates


def _chain(file: Path) -> list[x509.Certificate]:
    """The certificates in a PEM file, at least one."""
    from cryptography import x509  # noqa: PLC0415 -- heavy

    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise InputError(f"{file}: holds no certificate in PEM form") from None


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 -- heavy

    return certificate.public_bytes(Encoding.PEM)


def _common_name(certificate: x509.Certificate) -> str:
    from cryptography.x509.oid import NameOID  # noqa: PLC0415 -- heavy

    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def _certificates_in(store: bytes) -> Iterator[x509.Certificate]:
    """Whatever reads as a DER certificate in `store`; the reader does not hand out the chain."""
    from cryptography import x509  # noqa: PLC0415 -- heavy

    for begin in (match.start() for match in CERTIFICATE.finditer(store)):
        end = begin + 4 + int.from_bytes(store[begin + 2 : begin + 4], "big")
        with contextlib.suppress(ValueError):
            yield x509.load_der_x509_certificate(store[begin:end])


CERTIFICATE = re.compile(rb"(?=\x30\x82..\x30\x82..\xa0\x03\x02\x01\x02)", re.DOTALL)
"""How a certificate of version 3 begins (RFC 5280, 4.1): two sequences of 256 bytes or more, and the version. Less
would let a thumbnail full of beginnings hold up whoever reads it."""


def _leads_to(leaf: x509.Certificate, between: list[x509.Certificate], roots: list[x509.Certificate]) -> bool:
    reached, known = [leaf], {leaf}
    while reached:
        certificate = reached.pop()
        if certificate in roots or any(_issued(certificate, root) for root in roots):
            return True
        issuers = [other for other in between if other not in known and _issued(certificate, other)]
        reached += issuers
        known.update(issuers)
    return False


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    from cryptography import x509  # noqa: PLC0415 -- heavy
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415 -- heavy

    unreadable = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.ExtensionNotFound)
    try:
        certificate.verify_directly_issued_by(issuer)
        return issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (InvalidSignature, *unreadable):  # a forger's certificate may hold anything
        return False


# ---------------------------------------------------------------- what is wrong with a signer


def _wrong_with_leaf(leaf: x509.Certificate) -> Iterator[str]:
    from cryptography import x509  # noqa: PLC0415 -- heavy

    def extension(kind: type) -> x509.ExtensionType | None:
        try:
            return leaf.extensions.get_extension_for_class(kind).value
        except x509.ExtensionNotFound:
            return None

    now = datetime.now(UTC)
    if leaf.not_valid_before_utc > now:
        yield f"the certificate is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    if leaf.not_valid_after_utc < now:
        yield f"the certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if leaf.version is not x509.Version.v3:
        yield "the certificate is not X.509 version 3"
    basic = extension(x509.BasicConstraints)
    if isinstance(basic, x509.BasicConstraints) and basic.ca:
        yield "the first certificate is an authority's (CA): the file must begin with the signer's own"
    yield from _wrong_with_uses(extension(x509.KeyUsage), extension(x509.ExtendedKeyUsage))
    if extension(x509.AuthorityKeyIdentifier) is None:
        yield "the certificate lacks the extension AuthorityKeyIdentifier"


def _wrong_with_uses(usage: x509.ExtensionType | None, extended: x509.ExtensionType | None) -> Iterator[str]:
    from cryptography import x509  # noqa: PLC0415 -- heavy

    if not isinstance(usage, x509.KeyUsage):
        yield "the certificate lacks the extension KeyUsage with digitalSignature"
    else:
        if not (usage.digital_signature or usage.content_commitment):
            yield "KeyUsage does not allow digitalSignature"
        if usage.key_cert_sign:
            yield "KeyUsage allows keyCertSign, which a signer must not have"
    if not isinstance(extended, x509.ExtendedKeyUsage):
        yield f"the certificate lacks ExtendedKeyUsage; it needs one of {', '.join(ALLOWED_USES.values())}"
        return
    uses = [use.dotted_string for use in extended]
    if ANY_USE in uses:
        yield "ExtendedKeyUsage names anyExtendedKeyUsage, which C2PA refuses"
    if not any(use in ALLOWED_USES for use in uses):
        yield f"ExtendedKeyUsage has {', '.join(uses)}; it needs one of {', '.join(ALLOWED_USES.values())}"


def _wrong_with_chain(chain: list[x509.Certificate]) -> Iterator[str]:
    leaf = chain[0]
    if leaf.issuer == leaf.subject:
        yield "the certificate is self-signed: nobody else vouches for it"
    elif len(chain) == 1:
        yield "the file holds the signer's certificate alone: add the certificates of those who issued it"
    now = datetime.now(UTC)
    for lower, upper in itertools.pairwise(chain):
        if not _issued(lower, upper):
            yield f"the chain is broken: '{_common_name(upper)}' did not issue '{_common_name(lower)}'"
        if not upper.not_valid_before_utc <= now <= upper.not_valid_after_utc:
            until = f"{upper.not_valid_after_utc:%Y-%m-%d}"
            yield f"'{_common_name(upper)}' in the chain is not valid now (its last day is {until})"


def _wrong_with_key(file: Path, leaf: x509.Certificate) -> Iterator[str]:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 -- heavy

    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        yield f"{file}: cannot be read ({error.strerror})"
        return
    except (ValueError, TypeError):
        yield f"{file}: holds no private key in PEM form that opens without a password"
        return
    if key.public_key() != leaf.public_key():
        yield f"{file}: is not the key of '{_common_name(leaf)}'"
    yield from _wrong_with_kind(file, leaf)


def _wrong_with_kind(file: Path, leaf: x509.Certificate) -> Iterator[str]:
    if not algorithm_of(leaf.public_key()):
        yield f"{file}: C2PA takes EC keys (P-256, P-384, P-521), RSA of 2048 bits or more, and Ed25519"


def algorithm_of(public: object) -> str:
    """C2PA's name of the signatures that belong to a public key (`ES256`); empty for a key it does not take."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415 -- heavy

    if isinstance(public, ec.EllipticCurvePublicKey):
        return {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}.get(public.curve.name, "")
    if isinstance(public, rsa.RSAPublicKey) and public.key_size >= 2048:
        return "PS256"
    return "ED25519" if isinstance(public, ed25519.Ed25519PublicKey) else ""


# ---------------------------------------------------------------- the test authority


def usable(root: Path, chain: Path, key: Path) -> bool:
    """Whether the three files belong together and last for another day."""
    if not all(file.exists() for file in (root, chain, key)):
        return False
    try:
        leaf, roots = _chain(chain), _chain(root)
    except InputError:
        return False
    lasting = leaf[0].not_valid_after_utc > datetime.now(UTC) + RENEWED_BEFORE
    return lasting and _issued(leaf[-1], roots[0]) and not list(_wrong_with_key(key, leaf[0]))


def make_authority(root_file: Path, chain_file: Path, key_file: Path) -> None:
    """Make a root, who it certifies, and a signer; the keys of the first two are thrown away. A root that is in
    `root_file` already stays in it, below."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 -- heavy
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 -- heavy

    root_key, between_key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    root = _certificate("Afterframe test root", root_key, "Afterframe test root", root_key, authority=True)
    between = _certificate("Afterframe test authority", between_key, "Afterframe test root", root_key, authority=True)
    leaf = _certificate("Afterframe test signer", leaf_key, "Afterframe test authority", between_key, authority=False)

    private = leaf_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    older = root_file.read_bytes() if root_file.exists() else b""
    _write(root_file, _pem(root) + older)
    _write(chain_file, _pem(leaf) + _pem(between))
    _write(key_file, private, mode=0o600)


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    authority: bool,
) -> x509.Certificate:
    """A certificate with the extensions that C2PA asks for: of an authority, or of one who signs files."""
    from cryptography import x509  # noqa: PLC0415 -- heavy
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 -- heavy
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415 -- heavy

    def name(common: str) -> x509.Name:
        parts = ((NameOID.ORGANIZATION_NAME, TEST_ORGANISATION), (NameOID.COMMON_NAME, common))
        return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts])

    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=not authority, key_cert_sign=authority, crl_sign=authority,
        content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    identity = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = (
        x509.CertificateBuilder(name(issuer), name(subject), key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks differ
        .not_valid_after(now + LIFE)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(identity, critical=False)
    )
    if not authority:
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(uses, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _write(file: Path, content: bytes, mode: int = 0o644) -> None:
    """The file whole or not at all, and never readable by more than `mode` says."""
    with (
        attempt(file) as part,
        open(part, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as handle,
    ):
        handle.write(content)
