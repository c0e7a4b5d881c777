"""Edits of the frame: what part of a picture is shown, and how large."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, TypeAlias

from stages.clip import Box, Clip, Picture, Scaler, Size, Source, Stream, Unit, filtered, sources
from stages.engines import FILTERS, engine_named, engine_names
from stages.enlarging import enlarged
from stages.errors import InputError
from stages.ffmpeg import filter_fault
from stages.geometry import Focus, Mode, even, inside, parse_focus, times, window
from stages.lowering import hdr, on_blur, rewritten, scaled
from stages.stage import edit, nearest

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


SHARP = 0.3
"""How much `lanczos-sharp` sharpens: VMAF-NEG +0.12 and SSIM -0.003 on photos at 1.5x, so a matter of taste."""


def parse_engine(text: str) -> str:
    """The name of an engine. Raises InputError with the nearest name if there is none."""
    known = (*FILTERS, *engine_names())
    if text.partition(":")[0] not in known:
        raise InputError(f"there is no engine '{text}'{nearest(text, known)}; there are {', '.join(known)}")
    return text


def parse_sharpen(text: str) -> float:
    """A strength from 0 (not at all) to 1."""
    try:
        strength = float(text)
    except ValueError:
        strength = -1.0
    if not 0 <= strength <= 1:
        raise InputError(f"should be a number from 0 to 1 such as 0.3, not '{text}'")
    return strength


EngineName: TypeAlias = Annotated[
    str, Unit(parse_engine, "lanczos | lanczos-sharp | libplacebo | anime4k | realesrgan | onnx:MODEL", rest="model")
]
Strength: TypeAlias = Annotated[float | str, Unit(parse_sharpen, "0.3")]


def enlarger(clip: Clip, *, engine: str = "lanczos", model: Path | str | None = None, **_: object) -> tuple[str, bool]:
    """Who enlarges: an engine's software and model, and whether that was trained; nobody, where a filter does it."""
    name, model = _named(engine, model)
    if name in FILTERS:
        return "", False
    worker = engine_named(name, model)
    return worker.version, worker.trained


@edit(by=enlarger)
def upscale(
    clip: Clip,
    *,
    size: Target,
    engine: EngineName = "lanczos",
    model: Path | None = None,
    sharpen: Strength | None = None,
) -> Clip:
    """Show the picture larger (or smaller) by `engine`; its shape stays, so nothing is cut.

    `size` is `1080p` or `4k` (the shorter side), a factor (`1.5x`) or an exact
    size of the same shape. `lanczos`: nothing measured beats it on every metric
    at 1.5x on a CPU; `lanczos-sharp` is that with `sharpen: 0.3`, from 0 to 1, which
    any engine takes, and came nearer at 2x (`pipeline engines` has the figures).
    `libplacebo` needs a GPU with Vulkan. `anime4k`, `realesrgan` and `onnx:MODEL`,
    a model of your own in a file, are trained models: they draw what was not
    filmed, the film's credentials say so, and they take seconds a frame on a CPU.
    Their frames are kept, and are not made again when later steps change.
    In a recipe `engine: runway`, or another who sells that, buys it: see `enlarge`.

    Raises InputError if an exact size has another shape (`fit` does that), and
    where the engine cannot work here, saying what is missing.
    """
    picture = _picture(clip, "upscale")
    frame = target_frame(picture.frame, size)
    if not frame.deliverable:
        raise InputError(f"upscale: {size} of {picture.frame} is {frame}; it should be of even numbers from 16 to 8192")
    if abs(frame.aspect / picture.frame.aspect - 1) > ROUNDING:
        raise InputError(f"upscale: {frame} has another shape than the clip's {picture.frame}; use fit for that")
    name, model = _named(engine, model)
    strength = SHARP if name == "lanczos-sharp" else 0.0
    strength = strength if sharpen is None else parse_sharpen(str(sharpen))
    if frame == picture.frame and not strength:
        return clip
    if name in FILTERS:
        filter_engine = "libplacebo" if name == "libplacebo" else "lanczos"
        _check_filter(filter_engine)
        scaler = _enlarged(picture, frame, filter_engine)
        return replace(clip, picture=replace(picture, scaler=replace(scaler, sharpen=strength)))
    if frame.width <= picture.frame.width:
        raise InputError(f"{name} enlarges, and {frame} is no larger than {picture.frame}: use lanczos", "engine")
    if fault := engine_named(name, model).probe():
        raise InputError(f"{name} cannot work here: {fault}", "engine")
    made = enlarged(settled(picture), frame, name, model)
    sharpener = Scaler(Box.of(frame), frame, frame, sharpen=strength) if strength else None
    return replace(clip, picture=replace(made, scaler=sharpener))


def _named(engine: str, model: Path | str | None) -> tuple[str, Path | None]:
    """`onnx:MODEL` as the name of the engine and its model."""
    name, _, behind = parse_engine(engine).partition(":")
    given = behind or model
    return name, Path(given) if given else None


def _check_filter(name: str) -> None:
    if name == "libplacebo" and (fault := filter_fault("libplacebo=w=64:h=64")):
        raise InputError(f"libplacebo cannot work here: it needs a GPU with a Vulkan driver ({fault})", "engine")


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
    asked = picture.scaler  # how to enlarge, and how sharp: that outlives the size
    picture = settled(picture)
    whole = Box.of(picture.size)
    if mode == "cover":
        scaler = Scaler(window(picture.size, frame.aspect, parse_focus(focus)), frame, frame)
    elif mode == "stretch":
        scaler = Scaler(whole, frame, frame)
    else:
        scaler = Scaler(whole, inside(picture.size, frame), frame, background="blur" if mode == "blur" else "black")
    if asked:
        scaler = replace(scaler, engine=asked.engine, sharpen=asked.sharpen)
    return replace(clip, picture=replace(picture, scaler=scaler))


@edit()
def tonemap(clip: Clip) -> Clip:
    """Bring HDR (PQ or HLG) down to BT.709, as a step of its own: what it loses must be somebody's wish.

    Up to 30 % of diffuse white (203 cd/m2, ITU-R BT.2408) everything stays as
    bright as it was, above it lights are rolled off so that 1000 cd/m2 is
    white. HLG's colours come out richer than they are, by up to 11 code values.
    A clip that is no HDR stays as it is. Wants an ffmpeg with zscale.
    """
    picture = _picture(clip, "tonemap")
    if not any(map(hdr, sources(picture.stream))):
        return clip

    def mapped(stream: Stream) -> Stream:
        return replace(stream, tonemap=True) if isinstance(stream, Source) and hdr(stream) else stream

    return replace(clip, picture=replace(picture, stream=rewritten(picture.stream, mapped)))


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


def target_frame(frame: Size, size: Size | str) -> Size:
    """The frame that `size` asks for, given the one there is: `4k`, `1.5x` or a size."""
    target = parse_target(size) if isinstance(size, str) else size
    if isinstance(target, Size):
        return target
    factor = target if isinstance(target, Fraction) else Fraction(target, min(frame.width, frame.height))
    return times(frame, factor)


def _picture(clip: Clip, who: str) -> Picture:
    if clip.picture is None:
        raise InputError(f"{who}: the clip has no picture")
    return clip.picture
