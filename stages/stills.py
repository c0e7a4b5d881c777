"""The job that takes one frame of a clip as a picture: for the next shot to begin with, or to show beside it."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Annotated, TypeAlias

from stages.clip import Action, Clip, Frames, Picture, PictureFacts, Unit, parse_time, printed_seconds
from stages.enlarging import settle
from stages.errors import FfmpegError, InputError
from stages.ffmpeg import run_command, still_command
from stages.files import attempt, fresh_folder
from stages.media import clip_from
from stages.stage import job

STILL = "still.png"


def parse_moment(text: str) -> str | Fraction | Frames:
    """`start`, `middle`, `end`, or a time. Raises InputError for anything else."""
    if text.strip() in ("start", "middle", "end"):
        return text.strip()
    try:
        return parse_time(text)
    except InputError:
        raise InputError(f"should be start, middle, end or a time such as 1.5s or 36f, not '{text}'") from None


Moment: TypeAlias = Annotated[Fraction | int | str | Frames, Unit(parse_moment, "start | middle | end | 1.5s | 36f")]


def promise_still(of: Clip, *, at: Moment = "end", **_: object) -> Clip:
    """The picture that `still` will make. Raises InputError as `still` does."""
    return _clip(Path(STILL), of, at, promised=True)


@job(promise_still, tools=("ffmpeg",))
def still(of: Clip, *, at: Moment = "end", folder: Path) -> Clip:
    """Write one frame of a clip, as a viewer sees it, as `still.png` into `folder`.

    `at`: `start`, `middle`, `end` (the last frame), or a time: the frame that
    is then shown; `36f` is the frame after the first 36. What edits do to the
    picture is done: trims, crops, captions. RGB of 8 bits, in sRGB.

    The picture keeps the clip's history. As a reference of the next shot it
    is made of all that the clip is made of: take it before steps that change
    only the sound, or another sound would buy that shot anew.
    Raises InputError if the clip has no picture, or no frame at that time.
    """
    with attempt(folder / STILL) as part, fresh_folder(folder) as work:
        picture = _picture(settle(of, work))
        said = run_command(still_command(picture, frame_at(picture, at), STILL), work)
        if not (work / STILL).exists():
            raise FfmpegError("ffmpeg made no picture: the film ends before that frame", stderr=said)
        (work / STILL).replace(part)
    return _clip(folder / STILL, of, at)


def frame_at(picture: Picture, at: Moment) -> int:
    """Which frame is shown at that moment. Raises InputError if there is none any more."""
    moment = parse_moment(at) if isinstance(at, str) else at
    if isinstance(moment, str):
        return {"start": 0, "middle": picture.frames // 2, "end": picture.frames - 1}[moment]
    number = moment.count if isinstance(moment, Frames) else floor(Fraction(moment) * picture.rate)
    if number >= picture.frames:
        last = printed_seconds((picture.frames - 1) / picture.rate)
        asked = f"frame {number}" if isinstance(moment, Frames) else f"{printed_seconds(Fraction(moment))} s"
        raise InputError(f"{asked} is after the last frame, which is number {picture.frames - 1}, at {last} s", "at")
    return number


def _picture(of: Clip) -> Picture:
    if of.picture is None:
        raise InputError("the clip has no picture", "of")
    return of.picture


def _clip(file: Path, of: Clip, at: Moment, promised: bool = False) -> Clip:
    picture = _picture(of)
    said = (("at", f"{at.count}f" if isinstance(at, Frames) else str(at)), ("frame", str(frame_at(picture, at))))
    facts = PictureFacts(picture.frame, picture.frame, Fraction(1), 1, "png", pixel_format="rgb24")
    opened = clip_from(file, facts, None, promised)
    return Clip(opened.picture, None, (*of.history, Action("still", said)), of.remarks)
