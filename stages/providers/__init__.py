"""What a generator is: it takes a request once, says how the job stands, and hands over the file.

A provider is one file with one class and one entry point in the group
`pipeline.providers`. It never retries and never waits: when to send and when
to look is the ledger's business (`stages/ledger.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from stages.clip import Size

State = Literal["queued", "running", "done", "failed", "gone"]
Work = Literal["film", "remix", "extend", "upscale", "draw", "speak", "foley", "score"]
FILMS: frozenset[Work] = frozenset({"film"})
"""What every provider does."""


@dataclass(frozen=True, slots=True)
class Footage:
    """A film that was bought, to be worked on: its file, and the provider's id of its job, empty where another
    account made it."""

    file: Path
    job_id: str = ""


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """What is asked of a generator. `seconds` is one of the lengths that `model` sells.

    `work` is to film, or what is to be done to `footage`: `remix` films it anew
    as `prompt` says, `extend` goes on for `seconds` more, `upscale` makes it
    `size`; `draw` makes a picture, which has no seconds, `foley` and `score` a sound, which has no size; `speak`
    says `prompt`, of which neither is known before.
    `reference` becomes the first frame and `last_frame` the last; both have
    exactly `size`. `references` are pictures of any size that a drawing takes
    after, in order. `audio` False asks for a silent film where sound costs.
    `negative` is what should not be seen, `loop` asks for a seamless loop; what
    a protocol cannot say is refused with InputError, never dropped. `camera` is
    how the camera moves, which the prompt says too: for protocols that have
    parameters of it. `options` are whatever else one protocol understands, as pairs of text.
    """

    prompt: str
    model: str
    size: Size
    seconds: int
    reference: Path | None = None
    seed: int | None = None
    last_frame: Path | None = None
    audio: bool = True
    negative: str = ""
    loop: bool = False
    options: tuple[tuple[str, str], ...] = ()
    camera: str = ""
    work: Work = "film"
    footage: Footage | None = None
    references: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class VideoJob:
    """How a job stands, as far as the provider says: what it left out is empty, zero or None.

    `gone` means that the provider does not know the id. `progress` is 0 to 1.
    A failed job has `failure` (as in ProviderError), and the provider's own
    `code` and `text`; `billed` says whether it may be billed all the same,
    where that is known. Times are seconds since 1970. `work` is what was done,
    and `footage` the job whose film it was done to; both are rarely said.
    """

    id: str
    state: State
    progress: float | None = None
    failure: str = ""
    code: str = ""
    text: str = ""
    created_at: float | None = None
    expires_at: float | None = None
    seconds: int = 0
    size: Size | None = None
    model: str = ""
    prompt: str = ""
    billed: bool | None = None
    work: Work | Literal[""] = ""
    footage: str = ""


class Provider(Protocol):
    """A generator's protocol, one account of it.

    `idempotent`: proven to return the same job for the same key. `can_list`:
    `find` works. `settle`: seconds after which a request that was sent shows
    up in `find` or never will; longer than the request's own time limits plus
    the provider's delays. `poll`: the shortest distance between two looks at
    a job; `typical`: after how long the first look is worth its while. What it
    does besides filming it says in `works` (`works_of`).
    """

    @property
    def name(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def idempotent(self) -> bool: ...
    @property
    def can_list(self) -> bool: ...
    @property
    def settle(self) -> float: ...
    @property
    def poll(self) -> float: ...
    @property
    def typical(self) -> float: ...

    def submit(self, request: VideoRequest, key: str) -> VideoJob:
        """Buy, once. `key` is sent along for servers that honour it.

        Raises ProviderRefused or Later if the provider made nothing,
        ProviderUnavailable if that cannot be known (with the code
        `stages.http.NOT_SENT`: if it is certain).
        """
        ...

    def check(self, job_id: str) -> VideoJob:
        """How the job stands. Raises as `submit` does if that cannot be learnt."""
        ...

    def download(self, job_id: str, target: Path) -> None:
        """Write the finished film to `target`. Raises ProviderRefused with `expired` if it is not there."""
        ...

    def find(self, since: float) -> list[VideoJob]:
        """All jobs of the account created at or after `since` (seconds since 1970), newest first."""
        ...


def works_of(provider: Provider) -> frozenset[Work]:
    """The kinds of work that `provider` says it does, in `works`; one that does not say films."""
    found: frozenset[Work] = getattr(provider, "works", FILMS)
    return found


@runtime_checkable
class TakesBack(Protocol):
    """A provider at which a job that has not begun can be cancelled, and is then not paid."""

    def take_back(self, job_id: str) -> VideoJob:
        """Cancel the job, if it has not begun: how it stands then. `gone` and not `billed`: it will not be made, and
        costs nothing. One that has begun stays as it is, and is paid. Raises as `check` does.
        """
        ...


@runtime_checkable
class HandsOver(Protocol):
    """A provider whose very answer is the goods: what came is kept here until the ledger has it.

    Besides what every provider does (`stages/providers/handover.py`).
    """

    def received(self, key: str) -> VideoJob | None:
        """What came for the request that was sent with `key`, whether or not anybody was told."""
        ...

    def clear(self, job_id: str) -> None:
        """Throw away what the ledger has by now."""
        ...
