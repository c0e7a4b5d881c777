"""Edits of a clip's pace: more frames a second, backwards, faster and slower."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import Annotated, TypeAlias

from stages.clip import (
    STRETCH,
    Clip,
    Picture,
    Sound,
    Stream,
    Unit,
    exactly,
    filtered,
    samples_for,
)
from stages.cutting import pace
from stages.engines import PACES, interpolator_named, interpolator_names
from stages.errors import InputError
from stages.inbetweening import interpolated
from stages.stage import edit, nearest
from stages.subtitles import moved

# ---------------------------------------------------------------- frames between frames


def parse_rate(text: str) -> Fraction:
    """`60`, `59.94` or `60000/1001` frames a second; the decimals of film and television are read as what they mean."""
    try:
        rate = Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        raise InputError(f"should be a rate such as 60 or 60000/1001, not '{text}'") from None
    exact = round(rate * 1001 / 1000) * Fraction(1000, 1001)
    return exact if rate.denominator not in (1, 1001) and abs(rate - exact) < Fraction(1, 100) else rate


Rate: TypeAlias = Annotated[Fraction | int | str, Unit(parse_rate, "60")]
"""Frames a second."""

FASTEST = 120
"""Frames a second; no delivery takes more than 60."""

MOVED: Mapping[str, Mapping[str, str | int]] = {
    "motion": {"mi_mode": "mci", "mc_mode": "aobmc", "vsbmc": 1},
    "blend": {"mi_mode": "blend"},
}
"""What minterpolate is told for each engine that it is."""


def parse_interpolator(text: str) -> str:
    """The name of who makes the frames. Raises InputError with the nearest name if there is none."""
    known = (*PACES, *interpolator_names())
    if text not in known:
        raise InputError(f"there is no engine '{text}'{nearest(text, known)}; there are {', '.join(known)}", "engine")
    return text


InterpolatorName: TypeAlias = Annotated[str, Unit(parse_interpolator, " | ".join(PACES))]


def inbetweener(clip: Clip, *, rate: Rate, engine: str = "motion") -> tuple[str, bool]:
    """Who draws the frames: an interpolator's software and model, and whether that was trained; nobody, where a
    filter makes them, or where frames are left out."""
    if engine in PACES or (clip.picture and _wanted(rate) < clip.picture.rate):
        return "", False
    worker = interpolator_named(engine)
    return worker.version, worker.trained


@edit(by=inbetweener)
def interpolate(clip: Clip, *, rate: Rate, engine: InterpolatorName = "motion") -> Clip:
    """Show the picture at `rate` frames a second, with new frames between those there are; the length stays.

    `motion` moves things along between two frames (ffmpeg's minterpolate: 0.3 s
    of CPU a frame in 720p), `blend` fades one into the next (thirty times
    faster), and `repeat` shows frames twice. A lower rate leaves frames out.
    Any other engine is a plug-in's (`pipeline engines` lists them): the frames
    it draws are kept and not made again when later steps change, a film's own
    frames stay, and over a cut the nearer one is repeated.
    Frames are exact: 2 s at 60 are 120. Raises InputError for a clip without a
    picture, for more than 120 a second, and where the engine cannot work here.
    """
    picture, wanted = _picture(clip), _wanted(rate)
    parse_interpolator(engine)
    if not 1 <= wanted <= FASTEST:
        raise InputError(f"{float(wanted):g} is no rate: 1 to {FASTEST} frames a second", "rate")
    if wanted == picture.rate:
        return clip
    if wanted < picture.rate or engine == "repeat":
        return replace(clip, picture=pace(clip, rate=wanted).picture)
    if engine not in PACES:
        if fault := interpolator_named(engine).probe():
            raise InputError(f"{engine} cannot work here: {fault}", "engine")
        return replace(clip, picture=interpolated(picture, wanted, engine))
    frames = round(picture.frames * wanted / picture.rate)
    # It ends two frames before its input does, and makes nothing of fewer than three.
    padded = filtered("tpad", picture.stream, stop=2, stop_mode="clone")
    stream = filtered("minterpolate", padded, fps=wanted, **MOVED[engine])
    stream = filtered("trim", stream, end_frame=frames)
    return replace(clip, picture=replace(picture, stream=stream, rate=wanted, frames=frames))


# ---------------------------------------------------------------- backwards

HELD = 2_000_000_000
"""Bytes: all frames of a clip are held at once to show the last one first."""


@edit()
def reverse(clip: Clip) -> Clip:
    """Show and play the clip backwards. Captions and what is laid over it stay with their frames; words are no
    longer known.

    All its frames are held in memory. Raises InputError if that is more than 2 GB, 13 s of 1080p at 50 a second.
    """
    picture = clip.picture
    if picture:
        held = picture.size.width * picture.size.height * 3 // 2 * picture.frames
        if held > HELD:
            raise InputError(
                f"{picture.frames} frames of {picture.size} are {held / 1e9:.1f} GB, and {HELD / 1e9:g} GB can be held:"
                " trim or fit the clip first"
            )
        whole = picture.duration
        backwards = filtered("setpts", filtered("reverse", picture.stream), expr="PTS-STARTPTS")
        picture = _moved(
            replace(picture, stream=backwards), lambda start, end: (max(Fraction(0), whole - end), whole - start)
        )
    sound = clip.sound
    if sound:
        samples = samples_for(picture.frames, picture.rate) if picture else sound.samples
        stream = filtered("asetpts", filtered("areverse", exactly(sound.stream, samples)), expr="N/SR/TB")
        sound = replace(sound, stream=stream, samples=samples, words=())
    return replace(clip, picture=picture, sound=sound)


# ---------------------------------------------------------------- faster and slower


def parse_factor(text: str) -> Fraction:
    """`2x`, `0.5x` or `1.5` as a fraction."""
    try:
        return Fraction(text.strip().removesuffix("x"))
    except (ValueError, ZeroDivisionError):
        raise InputError(f"should be a factor such as 2x or 0.5x, not '{text}'") from None


Factor: TypeAlias = Annotated[Fraction | int | str, Unit(parse_factor, "2x")]
"""How many times faster."""

SLOWEST, QUICKEST = Fraction(1, 100), Fraction(100)
TEMPO = (Fraction(1, 2), Fraction(2))
"""Beyond these, `stretching` leaves out pieces, or repeats them, so that it is heard."""


@edit()
def speed(clip: Clip, *, factor: Factor) -> Clip:
    """Play the clip `factor` times faster (`2x`) or slower (`0.5x`); its frame rate and the pitch of its sound stay.

    Frames are left out or repeated; `interpolate` before it makes slow motion
    smooth. What begins in the sound does so at its exact place, within 0.2 ms;
    the frame that belongs to it is shown at most one frame later. Words,
    captions and what is laid over it follow. Raises InputError for sound
    beyond 0.5x and 2x, and if no frame would be left.
    """
    times = parse_factor(factor) if isinstance(factor, str) else Fraction(factor)
    low, high = TEMPO if clip.sound else (SLOWEST, QUICKEST)
    if not low <= times <= high:
        more = "; more goes without sound: strip_audio first" if clip.sound else ""
        raise InputError(f"{float(times):g} is not from {float(low):g} to {float(high):g} times{more}", "factor")
    if times == 1:
        return clip
    picture = clip.picture and _sped_picture(clip.picture, times)
    samples = samples_for(picture.frames, picture.rate) if picture else None
    return replace(clip, picture=picture, sound=clip.sound and _sped_sound(clip.sound, times, samples))


def _sped_picture(picture: Picture, times: Fraction) -> Picture:
    frames = round(picture.frames / times)
    if frames < 1:
        raise InputError(f"{float(times):g} times faster leaves nothing of {picture.frames} frames", "factor")
    rate = picture.rate
    ticks = rate.numerator * times.numerator
    if ticks >= 2**31:
        raise InputError(f"{times} is too fine: three decimals at most", "factor")
    # On a clock in which every frame begins at a tick; rounded up, frame k is the one that begins at or before
    # k times the factor.
    counted = filtered("settb", picture.stream, expr=Fraction(1, ticks))
    counted = filtered("setpts", counted, expr=f"N*{rate.denominator * times.denominator}")
    stream: Stream = filtered("fps", counted, fps=rate, round="up")
    stream = filtered("tpad", stream, stop=ceil(1 / times) + 1, stop_mode="clone")
    stream = filtered("trim", stream, end_frame=frames)
    there = replace(picture, stream=stream, frames=frames)
    return _moved(there, lambda start, end: (start / times, min(end / times, there.duration)))


def _sped_sound(sound: Sound, times: Fraction, samples: int | None) -> Sound:
    count = round(sound.samples / times) if samples is None else samples
    stream = exactly(filtered(STRETCH, sound.stream, tempo=times), count)
    words = tuple(word.stretched(1 / times) for word in sound.words)
    return replace(sound, stream=stream, samples=count, words=words)


# ---------------------------------------------------------------- what follows


def _moved(picture: Picture, move: Callable[[Fraction, Fraction], tuple[Fraction, Fraction]]) -> Picture:
    """With all that is shown in it moved from its start and end to what `move` says."""
    cues = (moved(cue, move) for cue in (picture.captions.cues if picture.captions else ()))
    captions = picture.captions and replace(picture.captions, cues=tuple(sorted(cues, key=lambda cue: cue.start)))
    return replace(picture, captions=captions, overlays=tuple(moved(one, move) for one in picture.overlays))


def _wanted(rate: Fraction | int | str) -> Fraction:
    return parse_rate(rate) if isinstance(rate, str) else Fraction(rate)


def _picture(clip: Clip) -> Picture:
    if clip.picture is None:
        raise InputError("the clip has no picture")
    return clip.picture
