"""What verifying may ask of others, where that was asked for: credentials that lie elsewhere, and whether a
certificate was revoked.

Both addresses stand in the file, which a stranger wrote. So they are asked only if they are public, credentials over
https alone; private and plain ones only of hosts that were named.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from stages.carriers import MOST
from stages.credentials import Json, codes_in, found_now, shown
from stages.errors import InputError, Later, ProviderError
from stages.http import Service, fetch, is_open

ASKED = 8
"""How many responders are asked of one file at most: one that never answers takes 30 s."""

KINDS = ("failure", "success", "informational")
WORDS = {
    "signingCredential.ocsp.notRevoked": "not revoked",
    "signingCredential.ocsp.revoked": "REVOKED",
    "signingCredential.ocsp.unknown": "a certificate is not known there",
    "signingCredential.ocsp.inaccessible": "no answer of use",
}
"""What C2PA's codes say of a certificate, in words."""


def fetch_store(address: str, hosts: Sequence[str]) -> tuple[bytes, str]:
    """The manifest store at `address`, and what came of asking there; the store is empty if none came."""
    service = Service("where the credentials lie", "", file_hosts=tuple(hosts), patience=20.0)
    with TemporaryDirectory() as folder:
        target = Path(folder) / "store.c2pa"
        try:
            fetch(service, address, target, limit=MOST)
        except (InputError, Later, ProviderError) as error:
            return b"", f"credentials not fetched from {shown(address)}: {shown(error)}"
        return target.read_bytes(), f"credentials fetched from {shown(address)}"


def responders(named: Mapping[str, Sequence[str]], hosts: Sequence[str]) -> tuple[str, ...]:
    """Those that may be asked whether a certificate was revoked, of those whom the certificates name."""
    addresses = dict.fromkeys(address for each in named.values() for address in each)
    return tuple(each for each in addresses if is_open(each, hosts, plain=True))[:ASKED]


def origin_of(address: str) -> str:
    """`http://host:8080` of an address, as the library compares it: without a port that goes without saying."""
    parts = urllib.parse.urlsplit(address)
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in (None, usual) else "")


def revocation_told(report: Json, named: Mapping[str, Sequence[str]], asked: Sequence[str]) -> Iterator[str]:
    """What was learnt of those who were asked, and who was not; `named` are those whom each certificate names, by the
    label of the manifest that it signed."""
    if not named:
        yield "revocation not asked: no certificate says whom to ask"
    if asked:
        about = (codes_in(entry, kind) for label, entry in found_now(report) if label in named for kind in KINDS)
        words = dict.fromkeys(WORDS[code] for codes in about for code in codes if code in WORDS)
        said = ", ".join(words) or WORDS["signingCredential.ocsp.inaccessible"]
        yield f"revocation asked of {', '.join(map(shown, asked))}: {said}"
    for each in dict.fromkeys(address for addresses in named.values() for address in addresses):
        if each not in asked:
            yield f"revocation not asked of {shown(each)}: it is not public, or one too many"
