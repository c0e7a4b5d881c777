"""Edits of the frame: what part of a picture is shown, and how large."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from typing import Annotated, Literal, TypeAlias

from stages.clip import Box, Clip, Picture, Scaler, Size, Unit, filtered
from stages.errors import InputError
from stages.geometry import Focus, Mode, even, inside, parse_focus, times, window
from stages.lowering import on_blur, scaled
from stages.stage import edit

ROUNDING = Fraction(1, 50)
"""Shapes nearer than this are the same: generators and encoders round sides to multiples of 16."""

NAMED_LINES = {"720p": 720, "1080p": 1080, "1440p": 1440, "2160p": 2160, "4k": 2160}


def parse_target(text: str) -> Size | int | Fraction:
    """`1080x1920` as a Size, `1080p` or `4k` as lines of the shorter side, `1.5x` as a factor."""
    text = text.strip().lower()
    if text in NAMED_LINES:
        return NAMED_LINES[text]
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)x", text):
        return Fraction(match[1])
    try:
        return Size.parse(text)
    except InputError:
        raise InputError(f"should be a size such as 1080p, 4k, 1.5x or 1920x1080, not '{text}'") from None


Target: TypeAlias = Annotated[Size | str, Unit(parse_target, "1080p | 1920x1080 | 1.5x")]


@edit()
def upscale(clip: Clip, *, size: Target, engine: Literal["lanczos"] = "lanczos") -> Clip:
    """Show the picture larger (or smaller) by `engine`; its shape stays, so nothing is cut.

    `size` is `1080p` or `4k` (the shorter side), a factor (`1.5x`) or an exact
    size of the same shape. Lanczos: nothing measured beats it on every metric
    on a CPU. Raises InputError if an exact size has another shape: `fit` does that.
    """
    picture = _picture(clip, "upscale")
    frame = _target(picture.frame, size)
    if not frame.deliverable:
        raise InputError(f"upscale: {size} of {picture.frame} is {frame}; it should be of even numbers from 16 to 8192")
    if abs(frame.aspect / picture.frame.aspect - 1) > ROUNDING:
        raise InputError(f"upscale: {frame} has another shape than the clip's {picture.frame}; use fit for that")
    if frame == picture.frame:
        return clip
    return replace(clip, picture=replace(picture, scaler=_enlarged(picture, frame, engine)))


@edit()
def fit(
    clip: Clip,
    *,
    size: Size | str,
    mode: Mode = "cover",
    focus: Focus = "center",
) -> Clip:
    """Bring the picture into a frame of exactly `size`.

    `cover` crops around `focus`, `contain` adds black bars, `blur` fills the
    bars with a blurred copy, `stretch` distorts.
    """
    picture = _picture(clip, "fit")
    frame = Size.parse(size) if isinstance(size, str) else size
    if frame == picture.frame:
        return clip
    picture = settled(picture)
    whole = Box.of(picture.size)
    if mode == "cover":
        scaler = Scaler(window(picture.size, frame.aspect, parse_focus(focus)), frame, frame)
    elif mode == "stretch":
        scaler = Scaler(whole, frame, frame)
    else:
        scaler = Scaler(whole, inside(picture.size, frame), frame, background="blur" if mode == "blur" else "black")
    return replace(clip, picture=replace(picture, scaler=scaler))


def settled(picture: Picture) -> Picture:
    """The picture ready for another crop: a plain enlargement is dropped (the next one sets the size),
    a crop, a distortion or bars are carried out."""
    scaler = picture.scaler
    if scaler is None:
        return picture
    if scaler.window == Box.of(picture.size) and scaler.canvas == scaler.size:
        if abs(scaler.size.aspect / picture.size.aspect - 1) <= ROUNDING:
            return replace(picture, scaler=None)
        stream = filtered("setsar", scaled(picture.stream, scaler.size), sar=1)
        return replace(picture, stream=stream, size=scaler.size, scaler=None)
    left, top, width, height = scaler.window.even(picture.size)
    stream, size = filtered("crop", picture.stream, w=width, h=height, x=left, y=top), Size(width, height)
    if scaler.canvas == scaler.size:
        return replace(picture, stream=stream, size=size, scaler=None)
    if size.aspect > scaler.canvas.aspect:
        bars = Size(size.width, even(size.width / scaler.canvas.aspect))
    else:
        bars = Size(even(size.height * scaler.canvas.aspect), size.height)
    if scaler.background == "blur":
        return replace(picture, stream=on_blur(stream, size, bars), size=bars, scaler=None)
    stream = filtered(
        "pad", stream, w=bars.width, h=bars.height,
        x=(bars.width - size.width) // 4 * 2, y=(bars.height - size.height) // 4 * 2,
    )  # fmt: skip
    return replace(picture, stream=stream, size=bars, scaler=None)


def _enlarged(picture: Picture, frame: Size, engine: str) -> Scaler:
    scaler = picture.scaler or Scaler(Box.of(picture.size), picture.size, picture.size)
    shown = Size(
        even(Fraction(scaler.size.width * frame.width, scaler.canvas.width)),
        even(Fraction(scaler.size.height * frame.height, scaler.canvas.height)),
    )
    return replace(scaler, size=shown, canvas=frame, engine=engine)


def _target(frame: Size, size: Size | str) -> Size:
    target = parse_target(size) if isinstance(size, str) else size
    if isinstance(target, Size):
        return target
    factor = target if isinstance(target, Fraction) else Fraction(target, min(frame.width, frame.height))
    return times(frame, factor)


def _picture(clip: Clip, who: str) -> Picture:
    if clip.picture is None:
        raise InputError(f"{who}: the clip has no picture")
    return clip.picture
