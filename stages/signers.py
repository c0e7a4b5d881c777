"""Who signs: a key in a file, a function, or a service that keeps the key to itself.

signer_from_environment()          # AFTERFRAME_SIGNER_CERT with AFTERFRAME_SIGNER_KEY, or with AFTERFRAME_SIGNER_URL
signer_with(Path("chain.pem"), sign_in_kms)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from stages.certificates import Leaf, leaf_of, make_authority, usable, verified, wrong_with
from stages.errors import AfterframeError, InputError
from stages.files import locked, sweep
from stages.http import Service, ask, checked

__all__ = [
    "Hand",
    "Signer",
    "SigningService",
    "check_signer",
    "signer_for",
    "signer_from_environment",
    "signer_with",
    "test_signer",
]

CERT_VARIABLE = "AFTERFRAME_SIGNER_CERT"
KEY_VARIABLE = "AFTERFRAME_SIGNER_KEY"
URL_VARIABLE = "AFTERFRAME_SIGNER_URL"
TOKEN_VARIABLE = "AFTERFRAME_SIGNER_TOKEN"
TIMESTAMPS_VARIABLE = "AFTERFRAME_TSA_URL"

Hand: TypeAlias = Callable[[bytes], bytes]
"""What signs: it is given the bytes, hashes them itself (SHA-256 for P-256, RSA-PSS and so on), and returns the
signature, as DER or raw."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs. `chain` is a PEM file with the leaf first; `key` its private key, PEM without a password, unless
    it lies elsewhere and a `hand` signs.

    `name` is the leaf's common name, `serial` its decimal serial number (as C2PA
    reports it), `fingerprint` the SHA-256 of the leaf in hexadecimal. A test
    signer has a `root`: the anchor that makes what it signs trusted. With
    `timestamps`, the address of a timestamp authority (RFC 3161), a signature
    outlives its certificate.
    """

    chain: Path
    key: Path | None
    kind: Literal["test", "own"]
    name: str
    serial: str
    fingerprint: str
    root: Path | None = None
    hand: Hand | None = None
    timestamps: str = ""


@dataclass(frozen=True, slots=True)
class SigningService:
    """A service that keeps the key: it is sent the bytes with POST and answers with the signature, nothing else.

    So does c2patool's `[signer.remote]` (c2pa-rs, docs/signing.md). A token from AFTERFRAME_SIGNER_TOKEN goes
    with it as a bearer's, where that is set.
    """

    url: str

    def __call__(self, content: bytes) -> bytes:
        """Raises ProviderRefused and ProviderUnavailable as `stages.http` does."""
        token = TOKEN_VARIABLE if os.environ.get(TOKEN_VARIABLE) else ""
        service = Service("the signing service", self.url, token)
        return checked(service, ask(service, "POST", self.url, content=content)).body


def signer_with(chain: Path, hand: Hand, *, timestamps: str = "") -> Signer:
    """The signer of `chain` whose signatures `hand` makes, so that no key need lie on this machine.

    Raises InputError if `chain` is none.
    """
    return _signer(chain, None, "own", hand=hand, timestamps=timestamps)


def signer_from_environment() -> Signer | None:
    """The signer that AFTERFRAME_SIGNER_CERT names, with its key in the file AFTERFRAME_SIGNER_KEY or in the service
    at AFTERFRAME_SIGNER_URL; None if none of them is set. AFTERFRAME_TSA_URL names a timestamp authority.

    Raises InputError naming the variable if one is missing, or if its file cannot be read.
    """
    given = {name: os.environ.get(name, "") for name in (CERT_VARIABLE, KEY_VARIABLE, URL_VARIABLE)}
    chain, key, url = given.values()
    if not any(given.values()):
        return None
    if key and url:
        raise InputError(f"{KEY_VARIABLE} and {URL_VARIABLE} are both set: a signer has one of them")
    if not chain:
        raise InputError(
            f"{KEY_VARIABLE if key else URL_VARIABLE} is set, but {CERT_VARIABLE} is not: a signer needs both"
        )
    if not (key or url):
        raise InputError(f"{CERT_VARIABLE} is set, but {KEY_VARIABLE} is not: a signer needs both (or {URL_VARIABLE})")
    for name in (CERT_VARIABLE, KEY_VARIABLE):
        if given[name] and (not os.access(given[name], os.R_OK) or Path(given[name]).is_dir()):
            raise InputError(f"{name}: {given[name]} cannot be read")
    timestamps = os.environ.get(TIMESTAMPS_VARIABLE, "")
    try:
        if url:
            return signer_with(Path(chain), SigningService(url), timestamps=timestamps)
        return _signer(Path(chain), Path(key), "own", timestamps=timestamps)
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
    files = root, chain, key = (folder / "test-root.pem", folder / "test-signer.pem", folder / "test-signer.key")
    if not usable(*files):
        with locked(folder / ".lock"):
            if not usable(*files):
                sweep(folder)  # a kill may have left half of one
                make_authority(root, chain, key)
    return _signer(chain, key, "test", root)


def check_signer(signer: Signer, *, once: bool = False) -> list[str]:
    """What is wrong with `signer`, a sentence each; empty if C2PA accepts it.

    Looks at the leaf's extensions, its dates, the chain and the key, and tells
    nothing about trust: that is for those who verify. `once`: where a hand
    signs, it is asked for one signature, which must be the leaf's.
    """
    wrong = wrong_with(signer.chain, signer.key)
    if once and signer.hand and not wrong:
        try:
            signature = signer.hand(TRIAL)
        except AfterframeError as error:
            return [str(error)]
        if not verified(signer.chain, TRIAL, signature):
            wrong.append(
                f"what signs for '{signer.name}' made a signature of {len(signature)} bytes that is not its key's"
            )
    return wrong


def check_able(signer: Signer) -> None:
    """Raise InputError with all that is wrong with a signer of one's own; what keeps his key is not asked."""
    if signer.kind == "own" and (wrong := check_signer(signer)):
        raise InputError(f"{CERT_VARIABLE}: {signer.chain}: cannot sign: {'; '.join(wrong)}")


TRIAL = b"Afterframe asks for a signature to see whether it is one."


def _signer(
    chain: Path,
    key: Path | None,
    kind: Literal["test", "own"],
    root: Path | None = None,
    hand: Hand | None = None,
    timestamps: str = "",
) -> Signer:
    leaf: Leaf = leaf_of(chain)
    return Signer(chain, key, kind, leaf.name, leaf.serial, leaf.fingerprint, root, hand, timestamps)
