"""Servers that hand the goods over in their very answer, as they do pictures, speech and sound effects.

A film is ordered, made and fetched, and the ledger knows it by the provider's
job. Here the answer to the purchase is the goods: there is no job, no list, and
nothing to ask again; an answer that is lost is money lost. So what arrives is
put, whole and fsynced, into a folder of AFTERFRAME_HOME before anybody is told
of it, under the key that was sent and a fresh number. That name is the job:
`check` says whether it is there, `download` hands it over, `clear` throws it
away once the ledger has it. What came and was never noted, since a kill came
between, is found again by its key (`received`). What never came is for a human
to judge, unless the server is proven to honour keys.

To build on it, a protocol says how it asks, in one method, and registers under
`pipeline.providers` like any other:

    @dataclass(frozen=True, slots=True)
    class Effects(Handover):
        usual_url = "https://host/v1"
        key_variable: str = "HOST_API_KEY"
        name: str = "effects"

        def order(self, request: VideoRequest, key: str) -> bytes | Link:
            said = {"model": request.model, "text": request.prompt}
            return checked(self.service, ask(self.service, "POST", "sounds", data=said)).body

The ledger takes what `stages/filetypes.py` knows by its first bytes, and refuses
the rest. What is sold without a length has `seconds` 0.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import secrets
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from stages.errors import ProviderError, ProviderRefused, ProviderUnavailable, WriteError
from stages.files import attempt, home, sweep, told
from stages.http import NOT_SENT, fetch
from stages.providers import VideoJob, VideoRequest
from stages.providers.account import Account

ROOM = 64 * 1024**2
"""Bytes that must be free before anything is ordered: a picture of 3840x2160 may take 25 MB."""

LINK = ".link"
"""The suffix of what is here as an address only."""


@dataclass(frozen=True, slots=True)
class Link:
    """Where the goods are, if the answer says only that; such addresses last for an hour or so."""

    url: str


@dataclass(frozen=True, slots=True)
class Handover(Account, ABC):
    """One account at a server that hands over. A protocol says `order`; times are as in `Provider`.

    `patience` is how long the goods may take, since the answer is awaited;
    `settle` must be longer than that and `send_within` together.
    """

    settle: float = 180.0
    poll: float = 2.0
    typical: float = 0.0

    @abstractmethod
    def order(self, request: VideoRequest, key: str) -> bytes | Link:
        """Buy, once: the goods, whole, or where they are. Raises as `Provider.submit` does."""

    def submit(self, request: VideoRequest, key: str) -> VideoJob:
        """Buy, and keep what comes. What has come for `key` before is not bought again."""
        if came := self.received(key):
            return came
        folder = self._room()
        goods = self.order(request, key)
        job_id = f"{key}-{secrets.token_hex(8)}"
        link = isinstance(goods, Link)
        with attempt(folder / f"{job_id}{LINK if link else ''}") as part:
            part.write_bytes(goods.url.encode() if isinstance(goods, Link) else goods)
        if link:
            with contextlib.suppress(ProviderError, WriteError):  # `download` tries again, and says what is wrong
                self._fetch(job_id)
        return VideoJob(job_id, "done")

    def received(self, key: str) -> VideoJob | None:
        """What came for the request that was sent with `key`, whether or not anybody was told."""
        ours = rf"{re.escape(key)}-[0-9a-f]{{16}}"
        names = sorted(file.name.removesuffix(LINK) for file in _folder().glob(f"{glob.escape(key)}-*"))
        return next((VideoJob(name, "done") for name in names if re.fullmatch(ours, name)), None)

    def check(self, job_id: str) -> VideoJob:
        """Whether it is here."""
        if _file(job_id).exists() or _file(job_id, LINK).exists():
            return VideoJob(job_id, "done")
        return VideoJob(job_id, "gone", failure="lost", code="not_here")

    def download(self, job_id: str, target: Path) -> None:
        """Copy it to `target`."""
        if not _file(job_id).exists() and _file(job_id, LINK).exists():
            self._fetch(job_id)
        try:
            shutil.copyfile(_file(job_id), target)
        except FileNotFoundError:
            sentence = f"what {self.name} handed over is not in {_folder()}: another machine may have received it"
            raise ProviderRefused(sentence, "expired", "not_here") from None

    def clear(self, job_id: str) -> None:
        """Throw away what the ledger has by now."""
        for suffix in ("", LINK):
            _file(job_id, suffix).unlink(missing_ok=True)

    def find(self, since: float) -> list[VideoJob]:
        """Such servers keep no list: raises ProviderUnavailable, since an empty one would mean «nothing was bought»."""
        raise ProviderUnavailable(f"{self.name} keeps no list of what it hands over", "transient", "no_list")

    def _fetch(self, job_id: str) -> None:
        url = _file(job_id, LINK).read_text(encoding="utf-8")
        with attempt(_file(job_id)) as part:
            fetch(self.service, url, part)

    def _room(self) -> Path:
        """The folder for what comes. Raises ProviderUnavailable, before anything is sent, if it cannot take it."""
        folder, why = _folder(), "has no room"
        try:
            with told(folder):
                folder.mkdir(parents=True, exist_ok=True)
            sweep(folder)
            if not os.access(folder, os.W_OK | os.X_OK):
                why = "may not be written"
            elif shutil.disk_usage(folder).free >= ROOM:
                return folder
        except WriteError as error:
            raise ProviderUnavailable(f"{error}: nothing was sent to {self.name}", "transient", NOT_SENT) from None
        sentence = f"{folder}: {why} for what {self.name} would send: nothing was sent"
        raise ProviderUnavailable(sentence, "transient", NOT_SENT)


def _folder() -> Path:
    return home() / "handed"


def _file(job_id: str, suffix: str = "") -> Path:
    """A human may have written the id: it must not lead anywhere else."""
    return _folder() / f"{Path(job_id).name}{suffix}"
