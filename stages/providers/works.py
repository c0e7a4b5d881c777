"""Work on films that were bought: who can be asked for which, and with what said besides.

What a protocol has no words for is refused before anything is sent: done
half, or filmed instead, it would be paid for and missed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from stages.errors import InputError, ProviderUnavailable
from stages.http import NOT_SENT
from stages.providers import FILMS, Footage, VideoRequest, Work

DEEDS: Mapping[Work, str] = {
    "film": "film",
    "remix": "film a film anew",
    "extend": "go on where a film ends",
    "upscale": "make a film larger",
    "draw": "draw a picture",
    "foley": "make a sound",
    "score": "make music",
}

WISHES = {
    "reference": "a first frame",
    "last_frame": "a last frame",
    "audio": "a film without sound (`strip_audio` takes it off)",
    "negative": "what should not be seen",
    "loop": "a loop (the `loop` edit makes one)",
    "seed": "a seed",
}


def check_work(name: str, request: VideoRequest, works: frozenset[Work] = FILMS) -> None:
    """Raise InputError if `request` asks for other than the provider's `works`, or does not say of which film."""
    if request.work not in works:
        can = " and ".join(deed for work, deed in DEEDS.items() if work in works)
        raise InputError(f"{name} cannot {DEEDS[request.work]}, it can {can}: nothing was sent", "work")
    if request.work == "film" and request.footage:
        raise InputError(
            f"{request.footage.file} is there, and nothing is to be done with it: nothing was sent", "work"
        )
    if request.work == "upscale" and request.prompt:
        raise InputError("nothing is filmed when a film is made larger: there is no prompt", "prompt")
    if request.work in ("remix", "extend", "upscale"):
        footage_of(request)


def footage_of(request: VideoRequest) -> Footage:
    """The film that is worked on. Raises InputError if there is none."""
    if request.footage is None:
        raise InputError(f"to {DEEDS[request.work]} there must be one", "footage")
    return request.footage


def job_of(name: str, request: VideoRequest) -> str:
    """The provider's job that made the film that is worked on. Raises InputError if another account made it."""
    footage = footage_of(request)
    if not footage.job_id:
        sentence = f"{name} can {DEEDS[request.work]} only where the same account made it"
        raise InputError(f"{sentence}: {footage.file.name} is from elsewhere", "footage")
    return footage.job_id


def wishes(request: VideoRequest) -> tuple[str, ...]:
    """The fields of `request` that ask for something special."""
    asked = {
        "reference": request.reference is not None,
        "last_frame": request.last_frame is not None,
        "audio": not request.audio,
        "negative": bool(request.negative),
        "loop": request.loop,
        "seed": request.seed is not None,
    }
    return tuple(name for name, is_asked in asked.items() if is_asked)


def check_wishes(name: str, request: VideoRequest, heard: Collection[str] = (), options: Collection[str] = ()) -> None:
    """Raise InputError for wishes besides those that are `heard`, and for options besides `options`."""
    if lacking := [wish for wish in wishes(request) if wish not in heard]:
        meant = " or ".join(WISHES[wish] for wish in lacking)
        raise InputError(f"{name} has no words for {meant} to {DEEDS[request.work]}: nothing was sent", lacking[0])
    if unknown := sorted(set(dict(request.options)) - set(options)):
        known = f"; there are {', '.join(options)}" if options else ""
        raise InputError(f"{name} has no option '{unknown[0]}' to {DEEDS[request.work]}{known}", "options")


@contextmanager
def nothing_sent() -> Iterator[None]:
    """Whatever breaks in here, nothing was bought yet: the ledger is told so."""
    try:
        yield
    except ProviderUnavailable as error:
        raise ProviderUnavailable(error.message, error.failure, NOT_SENT, error.text) from None
