"""Whom to trust: lists of roots that ship with Afterframe, or were fetched since. Nothing is fetched while verifying.

trust_anchors()                    # the C2PA's list of signers; stamp_anchors() of timestamp authorities
anchors_named(["interim", "roots/ours.pem"])
update(name)                       # fetch, check, date, keep in AFTERFRAME_HOME/trust
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import presets
from stages.certificates import authorities
from stages.errors import InputError
from stages.files import attempt, home
from stages.http import Service, download

LIMIT = 5_000_000
"""Bytes of one list; the C2PA's has 38 kB."""

SHRUNK = 0.5
"""A list that lost more than this share of its roots at once is taken for damaged."""


@dataclass(frozen=True, slots=True)
class TrustList:
    """Roots in the PEM file `file`, as they stood when they were `issued`; a newer list is due on `next`.

    `default`: trusted everywhere; else only where it is named. `stamps`: those who
    vouch for timestamps alone.
    """

    name: str
    about: str
    file: Path
    issued: date
    next: date | None
    default: bool
    stamps: bool
    fetched: bool

    @property
    def roots(self) -> int:
        """How many there are."""
        return len(authorities(self.file.read_bytes()))


def trust_lists() -> tuple[TrustList, ...]:
    """Every list: as it was last fetched, where that is later than what ships with Afterframe."""
    return tuple(map(_list, presets.names("trust")))


def trust_anchors() -> tuple[Path, ...]:
    """The PEM files of those who are trusted everywhere to sign."""
    return tuple(each.file for each in trust_lists() if each.default and not each.stamps)


def stamp_anchors() -> tuple[Path, ...]:
    """The PEM files of those who are trusted everywhere to say when something was signed."""
    return tuple(each.file for each in trust_lists() if each.default and each.stamps)


def named_list(name: str) -> Path | None:
    """The PEM file of the list of that name, if there is one."""
    return _list(name).file if name in presets.names("trust") else None


def anchors_named(names: Sequence[str | Path]) -> tuple[Path, ...]:
    """The PEM files that `names` stand for: a list's name, or else the path of a file."""
    return tuple(named_list(str(name)) or Path(name) for name in names)


def update(name: str, *, url: str = "", dates: str = "") -> TrustList:
    """Fetch the list `name` anew, from `url` if not from where it is published, and keep it if it holds up.

    Raises InputError if there is no such list, if what came is none, if it has
    lost more than half of its roots, or is older than what is here; and
    ProviderUnavailable and ProviderRefused as `stages.http` does.
    """
    if name not in presets.names("trust"):
        raise InputError(f"there is no trust list '{name}': {', '.join(presets.names('trust'))}")
    sheet, before = presets.read("trust", name), _list(name)
    with TemporaryDirectory() as folder:
        came = _fetched(name, url or sheet["url"], Path(folder) / "list.pem")
        at = dates or ("" if url else sheet.get("dates") or "")
        issued, following = _dates(name, _fetched(name, at, Path(folder) / "list.json")) if at else (_today(), None)
    roots = authorities(came)
    if not roots:
        raise InputError(f"what came for the trust list {name} holds no certificate of an authority: kept the old one")
    if len(roots) < before.roots * SHRUNK:
        raise InputError(f"the trust list {name} came with {len(roots)} roots and had {before.roots}: kept the old one")
    if issued < before.issued:
        raise InputError(
            f"the trust list {name} that came is of {issued}, and the one here of {before.issued}: kept that"
        )
    told = {"issued": issued.isoformat(), "next": following and following.isoformat(), "url": url or sheet["url"]}
    for file, content in ((_kept(name), came), (_kept(name).with_suffix(".json"), json.dumps(told).encode())):
        with attempt(file) as part:
            part.write_bytes(content)
    return _list(name)


def _list(name: str) -> TrustList:
    sheet, file = presets.read("trust", name), _kept(name)
    shipped: date = sheet["issued"]
    about, default, stamps = sheet.about, bool(sheet.facts["default"]), bool(sheet.facts.get("stamps"))
    try:
        told = json.loads(file.with_suffix(".json").read_bytes())
        issued, following = date.fromisoformat(told["issued"]), told["next"] and date.fromisoformat(told["next"])
        if issued >= shipped and file.is_file():
            return TrustList(name, about, file, issued, following, default, stamps, fetched=True)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # never fetched, or half of it: what ships is whole
    return TrustList(
        name, about, sheet.file.with_suffix(".pem"), shipped, sheet.get("next"), default, stamps, fetched=False
    )


def _kept(name: str) -> Path:
    return home() / "trust" / f"{name}.pem"


def _fetched(name: str, url: str, target: Path) -> bytes:
    download(Service(f"where the trust list {name} is published", url), url, target, limit=LIMIT)
    return target.read_bytes()


def _dates(name: str, told: bytes) -> tuple[date, date | None]:
    """When the list was issued, and when the next one is due (ETSI TS 119 602, as the C2PA publishes it)."""
    try:
        scheme: dict[str, Any] = json.loads(told)["LoTE"]["ListAndSchemeInformation"]
        issued = datetime.fromisoformat(scheme["ListIssueDateTime"]).date()
        following = datetime.fromisoformat(scheme["NextUpdate"]).date() if scheme.get("NextUpdate") else None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"the dates of the trust list {name} cannot be read: kept the old one") from None
    return issued, following


def _today() -> date:
    return datetime.now(UTC).date()
