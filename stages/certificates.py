"""Signers: who signs, whether C2PA will accept them, and a local test authority.

A signer is a chain file (the leaf first, then what issued it) and its key file.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stages.errors import InputError
from stages.files import attempt, locked

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

__all__ = [
    "Signer",
    "check_signer",
    "is_anchored",
    "read_anchors",
    "signer_for",
    "signer_from_environment",
    "test_signer",
]

TEST_ORGANISATION = "Afterframe test signer"
"""The organisation on every test leaf. Whoever else writes it only calls himself a test."""

CERT_VARIABLE = "AFTERFRAME_SIGNER_CERT"
KEY_VARIABLE = "AFTERFRAME_SIGNER_KEY"

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
class Signer:
    """Who signs. `chain` is a PEM file with the leaf first, `key` its private key, PEM without a password.

    `name` is the leaf's common name, `serial` its decimal serial number (as C2PA
    reports it), `fingerprint` the SHA-256 of the leaf in hexadecimal. A test
    signer has a `root`: the anchor that makes what it signs trusted.
    """

    chain: Path
    key: Path
    kind: Literal["test", "own"]
    name: str
    serial: str
    fingerprint: str
    root: Path | None = None


def signer_from_environment() -> Signer | None:
    """The signer that AFTERFRAME_SIGNER_CERT and AFTERFRAME_SIGNER_KEY name; None if neither is set.

    Raises InputError naming the variable if only one is set, or if its file
    cannot be read.
    """
    given = {name: os.environ.get(name, "") for name in (CERT_VARIABLE, KEY_VARIABLE)}
    if not any(given.values()):
        return None
    for name, other in ((CERT_VARIABLE, KEY_VARIABLE), (KEY_VARIABLE, CERT_VARIABLE)):
        if not given[name]:
            raise InputError(f"{other} is set, but {name} is not: a signer needs both")
        if not os.access(given[name], os.R_OK) or Path(given[name]).is_dir():
            raise InputError(f"{name}: {given[name]} cannot be read")
    chain, key = Path(given[CERT_VARIABLE]), Path(given[KEY_VARIABLE])
    try:
        return _signer(chain, key, "own")
    except InputError as error:
        raise InputError(f"{CERT_VARIABLE}: {error}") from None


def signer_for(state: Path) -> Signer:
    """Who signs in the project whose `.pipeline/` is `state`: the environment's signer, else a local test signer.

    Raises what either raises.
    """
    return signer_from_environment() or test_signer(state / "signer")


def test_signer(folder: Path) -> Signer:
    """The signer of a local test authority, made in `folder` the first time and used again from then on.

    `folder` gets test-root.pem (the anchor), test-signer.pem (leaf and
    intermediate) and test-signer.key (readable by the user alone). The keys of
    the authority are thrown away. Within a day of its end the signer is made
    again, and the older root stays in test-root.pem. Two processes at once get
    the same signer. Raises WriteError where the folder cannot be written.
    """
    files = root, chain, key = (
        folder / "test-root.pem",
        folder / "test-signer.pem",
        folder / "test-signer.key",
    )
    if not _usable(files):
        with locked(folder / ".lock"):
            if not _usable(files):
                _make_test_signer(root, chain, key)
    return _signer(chain, key, "test", root)


def check_signer(signer: Signer) -> list[str]:
    """What is wrong with `signer`, a sentence each; empty if C2PA accepts it.

    Looks at the leaf's extensions, its dates, the chain and the key, and tells
    nothing about trust: that is for those who verify.
    """
    try:
        chain = _chain(signer.chain)
    except InputError as error:
        return [str(error)]
    return [*_wrong_with_leaf(chain[0]), *_wrong_with_chain(chain), *_wrong_with_key(signer.key, chain[0])]


def read_anchors(files: Sequence[Path]) -> str:
    """The certificates in PEM `files`, as one PEM text. Raises InputError naming a file that is none."""
    return b"".join(_pem(certificate) for file in files for certificate in _chain(file)).decode()


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


def _signer(chain: Path, key: Path, kind: Literal["test", "own"], root: Path | None = None) -> Signer:
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 -- heavy

    leaf = _chain(chain)[0]
    return Signer(
        chain,
        key,
        kind,
        _common_name(leaf),
        str(leaf.serial_number),
        leaf.fingerprint(hashes.SHA256()).hex(),
        root,
    )


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

    place = store.find(b"\x30\x82")
    while place >= 0:
        end = place + 4 + int.from_bytes(store[place + 2 : place + 4], "big")
        with contextlib.suppress(ValueError):
            yield x509.load_der_x509_certificate(store[place:end])
        place = store.find(b"\x30\x82", place + 1)


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
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 -- heavy

    try:
        certificate.verify_directly_issued_by(issuer)
        return issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
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
    if algorithm_of(file) is None:
        yield f"{file}: C2PA takes EC keys (P-256, P-384, P-521), RSA of 2048 bits or more, and Ed25519"


def algorithm_of(key: Path) -> str | None:
    """C2PA's name of the signature that the key in `key` makes (`ES256`); None for a key it does not take."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 -- heavy
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415 -- heavy

    try:
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError):
        return None
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}.get(private.curve.name)
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
        return "PS256"
    return "ED25519" if isinstance(private, ed25519.Ed25519PrivateKey) else None


# ---------------------------------------------------------------- the test authority


def _usable(files: tuple[Path, Path, Path]) -> bool:
    """Whether the three files belong together and last for another day."""
    root, chain, key = files
    if not all(file.exists() for file in files):
        return False
    try:
        leaf, roots = _chain(chain), _chain(root)
    except InputError:
        return False
    lasting = leaf[0].not_valid_after_utc > datetime.now(UTC) + RENEWED_BEFORE
    return lasting and _issued(leaf[-1], roots[0]) and not list(_wrong_with_key(key, leaf[0]))


def _make_test_signer(root_file: Path, chain_file: Path, key_file: Path) -> None:
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
