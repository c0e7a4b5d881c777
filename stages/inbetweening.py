"""Frames between frames, drawn by an interpolator of a plug-in: which frame is seen when, and where none is drawn.

Output frame n shows the moment n * from / wanted, counted in frames of the source. Where that is a whole number, or
lies behind the last one, the source's own frame is shown: it, too, goes through RGB and back, so that no colour
flickers. Across a cut nothing lies between two frames: there, as in ffmpeg's minterpolate, the nearer one is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import TypeAlias

from stages.clip import ENGINE, Picture, Size, filtered
from stages.errors import InputError

CUT = 10.0
"""Percent of full scale by which a frame must differ from the one before, and by which that difference must itself
be new, to be the first of another shot: scd_threshold of ffmpeg's minterpolate, whose rule this is."""

STRAY = 12.0
"""Code values, on average, by which a drawn frame may be farther from both its neighbours than they are from each
other; a blend of the two is never farther. It is fidelity.BROKEN_DRIFT: a tenth too dark is refused."""

SAMPLES = 20_000
"""Bytes of a frame that are looked at for both; 3 ms of CPU in Python alone, whatever the size."""

Draw: TypeAlias = Callable[[bytes, bytes, Size, Fraction], bytes]
"""An interpolator's `between`."""


def interpolated(picture: Picture, rate: Fraction, engine: str) -> Picture:
    """The picture at a higher `rate`, by the interpolator `engine`; its intentions stay."""
    frames = round(picture.frames * rate / picture.rate)
    stream = filtered(
        ENGINE, picture.stream,
        engine=engine, model="", from_width=picture.size.width, from_height=picture.size.height,
        from_rate=picture.rate, from_frames=picture.frames,
        width=picture.size.width, height=picture.size.height, rate=rate, frames=frames,
    )  # fmt: skip
    return replace(picture, stream=stream, rate=rate, frames=frames)


def first_needed(start: int, pace: Fraction) -> int:
    """The source's frame from which on `filled` wants them, to begin with output frame `start` at `pace` source
    frames an output frame: one earlier than it shows, by which a cut is told from quick motion."""
    return max(0, start * pace.numerator // pace.denominator - 1)


def filled(frames: Iterable[bytes], size: Size, pace: Fraction, start: int, draw: Draw, who: str) -> Iterator[bytes]:
    """The output frames from number `start` on, without end; `frames` are the source's from `first_needed` on.

    No more than two of them are held. Raises InputError, naming `who`, for a
    drawn frame of another length, or that shows something else than its neighbours.
    """
    coming, at = iter(frames), first_needed(start, pace)
    before = next(coming)
    after, moved, cut = next(coming, None), 0.0, False
    if after is not None:
        moved, cut = _change(before, after, moved)
    number = start
    while True:
        whole, share = divmod(number * pace, 1)
        while after is not None and at < whole:
            before, after, at = after, next(coming, None), at + 1
            if after is not None:
                moved, cut = _change(before, after, moved)
        if after is None or not share or before == after:
            yield before
        elif cut:
            yield before if share <= Fraction(1, 2) else after
        else:
            made = draw(before, after, size, share)
            _check(made, before, after, number, who)
            yield made
        number += 1


def _change(before: bytes, after: bytes, moved: float) -> tuple[float, bool]:
    """How much changes from one frame to the next, and whether it is a cut, given how much changed just before."""
    change = apart(before, after) * 100 / 256
    return change, min(change, abs(change - moved)) > CUT


def apart(one: bytes, other: bytes) -> float:
    """The mean difference of two frames in code values, over a sample of their bytes."""
    step = max(1, len(one) // SAMPLES)
    step += step % 3 == 0  # else it were one colour alone
    here, there = one[::step], other[::step]
    return sum(abs(a - b) for a, b in zip(here, there, strict=True)) / len(here)


def _check(made: bytes, before: bytes, after: bytes, number: int, who: str) -> None:
    if len(made) != len(before):
        raise InputError(f"{who} draws frames of {len(made)} bytes, and these are of {len(before)}", "engine")
    off, among = min(apart(made, before), apart(made, after)), apart(before, after)
    if off > among + STRAY:
        raise InputError(
            f"{who} draws something else than what lies between: its frame {number} is {off:.0f} levels from the one"
            f" before and the one after, which are {among:.0f} apart",
            "engine",
        )
