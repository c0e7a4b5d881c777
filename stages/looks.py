"""How a picture moves, and which part of it is the steadiest: what `trim: {anchor: best}` goes by.

look(picture)                 # one decode, on small frames: motion, cuts, what is black or frozen
steadiest(looks, frames)      # pure: the first frame of the best window
"""

from __future__ import annotations

import re
import tempfile
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate, groupby, pairwise
from pathlib import Path

from stages.clip import ENGINE, Clip, Filter, Picture, Source, Stream, filtered, printed_seconds
from stages.errors import FfmpegError, InputError
from stages.ffmpeg import measure_command, run_command
from stages.files import fresh_folder
from stages.judging import DARK, FREEZE, LOOKS, STILL
from stages.lowering import framed, rewritten

CUT = 10
"""ffmpeg's scdet score, 0 to 100, from which a frame begins another shot: its default; "good values" are 8 to 14."""

BLACK = 98
"""Per cent of dark pixels in a black frame (blackframe's default)."""

SIDE = 320
"""The longer side of what is looked at, in pixels: an average of many pixels, in which grain is no motion."""

MOTION = 4
"""Motion weighs a quarter of jerk: a smooth pan is steadier than a shake of half its speed, a still camera steadier
than both."""

FAULT = 4
"""A cut, and an end that is black or frozen, is as bad as a fourth of the window being black or frozen."""


@dataclass(frozen=True, slots=True)
class Looks:
    """What was seen of a picture, frame by frame, in numbers of frames.

    `steps` is how much each frame differs from the one before: mean luma, in thousandths of a code value; the
    first, which has none before, is 0. `cuts` are the frames that begin another shot; `blank` those that are black,
    or repeat the one before for half a second or more.
    """

    rate: Fraction
    steps: tuple[int, ...]
    cuts: tuple[int, ...] = ()
    blank: tuple[int, ...] = ()


def to_look_at(clip: Clip) -> Picture:
    """The picture whose steadiest part is asked for. Raises InputError if there is none."""
    if clip.picture is None:
        raise InputError("best is the steadiest part of a picture, and this clip has none", "anchor")
    return clip.picture


def look(picture: Picture) -> Looks:
    """Decode `picture` once, with its edits and in its frame, and measure each of its frames.

    Raises InputError if it rests on a file that is yet to be made, and FfmpegError if it cannot be decoded.
    """
    if Clip(picture).promised:
        raise InputError("best looks at the film, which is yet to be made: make it and open it first", "anchor")
    with fresh_folder(Path(tempfile.gettempdir())) as work:
        run_command(measure_command({"looks": _seen(picture)}), work)
        printed = (work / "looks.txt").read_text(encoding="utf-8")
    steps = [round(1000 * float(step)) for step in _figures(printed, "signalstats.YDIF")][: picture.frames]
    if len(steps) < picture.frames:
        raise FfmpegError(f"the source ends after {len(steps)} of {picture.frames} frames")
    return looks_from(picture.rate, steps, _figures(printed, "scd.score"), _figures(printed, "blackframe.pblack"))


def unseen(picture: Picture) -> Looks:
    """What is known of a picture that nobody looked at yet."""
    return Looks(picture.rate, ())


def yet_to_be_found(clip: Clip) -> Clip:
    """The clip as one that is yet to be made: which part of its sources it shows is known once they were looked at."""

    def promised(stream: Stream) -> Stream:
        return rewritten(stream, lambda node: replace(node, promised=True) if isinstance(node, Source) else node)

    return replace(
        clip,
        picture=clip.picture and replace(clip.picture, stream=promised(clip.picture.stream)),
        sound=clip.sound and replace(clip.sound, stream=promised(clip.sound.stream)),
    )


def looks_from(rate: Fraction, steps: Sequence[int], cuts: Sequence[float], dark: Sequence[float]) -> Looks:
    """What the figures of each frame come to: steps in thousandths, scdet's scores, per cent of dark pixels."""
    black = {number for number, share in enumerate(dark[: len(steps)]) if share >= BLACK}
    # A cut out of a held picture shows in the score of the frame that begins the other.
    begins = tuple(number for number, score in enumerate(cuts[: len(steps)]) if number and score >= CUT)
    return Looks(rate, (0, *steps[1:]), begins, tuple(sorted(black | set(_frozen(steps, rate)))))


def steadiest(looks: Looks, frames: int) -> int:
    """The first frame of the best window of `frames`; of windows as good, the earliest.

    First the one with the least faults: frames in it that are black or frozen,
    cuts in it, and ends that are black or frozen (`FAULT`). Among those the
    steadiest: with the least jerk, which is how much the motion changes from
    frame to frame, and a little the least motion (`MOTION`). A window that
    begins with a cut has none in it. Raises InputError if there are not as many frames.
    """
    spare = len(looks.steps) - frames
    if frames < 1 or spare < 0:
        raise InputError(f"{frames} frames are asked of {len(looks.steps)}", "length")
    cuts, blank = set(looks.cuts), set(looks.blank)
    blanks = _sums(number in blank for number in range(len(looks.steps)))
    # What a cut steps by is no motion.
    steps = [0 if number in cuts else step for number, step in enumerate(looks.steps)]
    jerks = [0, *(abs(after - before) for before, after in pairwise(steps))]
    jerks = [0 if {number, number - 1} & cuts else jerk for number, jerk in enumerate(jerks)]
    motion, jerk = _sums(steps), _sums(jerks)

    def badness(first: int) -> tuple[int, int, int]:
        end = first + frames
        ends = (first in blank) + (end - 1 in blank)
        faults = FAULT * (blanks[end] - blanks[first]) + frames * (cuts_within(looks, first, frames) + ends)
        # The step into the first frame is not seen, nor how the second's differs from it.
        inner, second = min(first + 1, end), min(first + 2, end)
        return faults, MOTION * (jerk[end] - jerk[second]) + motion[end] - motion[inner], first

    return min(range(spare + 1), key=badness)


def best_part(looks: Looks, whole: int, frames: int) -> tuple[int, tuple[str, ...]]:
    """The first frame of the best window of `frames`, and why, for people. Before anybody looked (`Looks` of no
    frames), the end stands for it, since the window's length is known, and that it may begin anywhere."""
    if not looks.steps:
        return whole - frames, ()
    first = steadiest(looks, frames)
    begin, end = (printed_seconds(Fraction(number) / looks.rate) for number in (first, first + frames))
    return first, (f"took {begin}–{end} s, the steadiest: {told(looks, first, frames)}",)


def cuts_within(looks: Looks, first: int, frames: int) -> int:
    """How many cuts a viewer of this window would see."""
    return bisect_left(looks.cuts, first + frames) - bisect_left(looks.cuts, first + 1)


def told(looks: Looks, first: int, frames: int) -> str:
    """What that window is like, beside the whole: for people who wonder why it was taken."""
    cuts = cuts_within(looks, first, frames)
    blank = bisect_left(looks.blank, first + frames) - bisect_left(looks.blank, first)
    shown = f"{_count(cuts, 'cut') or 'no cut'} and {_count(blank, 'frame') or 'nothing'} black or frozen"
    here, all_of_it = looks.steps[first + 1 : first + frames], looks.steps[1:]
    return f"{shown} in it; its frames differ by {_mean(here):.2f} luma, those of the whole by {_mean(all_of_it):.2f}"


# ---------------------------------------------------------------- measuring


def _seen(picture: Picture) -> Stream:
    """The picture in its frame, small, with what the filters say of each frame of it."""

    def quick(node: Stream) -> Stream:
        if not isinstance(node, Filter) or node.name != ENGINE:
            return node
        given = dict(node.options)  # what an engine would draw in hours moves as its source does
        return filtered("scale", node.inputs[0], w=given["width"], h=given["height"])

    stream = filtered(
        "scale", rewritten(framed(picture), quick), w=SIDE, h=SIDE,
        force_original_aspect_ratio="decrease", force_divisible_by=2, flags="area",
    )  # fmt: skip
    stream = filtered("format", stream, pix_fmts="yuv420p")
    stream = filtered("scdet", filtered("signalstats", stream), threshold=CUT)
    return filtered("blackframe", stream, amount=0, threshold=DARK)


def _figures(printed: str, key: str) -> list[float]:
    return [float(figure) for figure in re.findall(rf"^lavfi\.{key}=(.+)$", printed, re.MULTILINE)]


def _frozen(steps: Sequence[int], rate: Fraction) -> Iterable[int]:
    """The frames that repeat the one before, for half a second or more: judging.py's limits, which are of `LOOKS` a
    second. Photos held at 24, 30 and 60 a second and encoded at CRF 23 step by 0.02 at most; a zoom of 0.7 % a second
    by 0.1 to 0.3 in the middle. Grain as strong as noise=8 hides a freeze: it steps by more than that zoom."""
    still = round(1000 * Fraction(STILL) * LOOKS / rate)
    for moves, run in groupby(range(1, len(steps)), lambda number: steps[number] >= still):
        numbers = list(run)
        if not moves and len(numbers) + 1 >= FREEZE * rate / LOOKS:
            yield from numbers  # the one that is then held is new to a viewer


def _sums(numbers: Iterable[int]) -> list[int]:
    """The sum of the first n, for every n."""
    return [0, *accumulate(numbers)]


def _count(many: int, what: str) -> str:
    """`1 cut`, `2 cuts`; nothing for none."""
    return f"{many} {what}{'s' if many > 1 else ''}" if many else ""


def _mean(steps: Sequence[int]) -> float:
    return sum(steps) / len(steps) / 1000 if steps else 0.0
