"""Edits in time: which frames, and the sound that belongs to them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from stages.clip import SAMPLE_RATE, Clip, Picture, Sound, Time, Word, filtered, frame_count, printed_seconds
from stages.errors import InputError
from stages.stage import edit
from stages.subtitles import shifted

FADE = SAMPLE_RATE // 200
"""5 ms at a cut keep it from clicking (auto-editor PR 1272)."""


@edit()
def trim(clip: Clip, *, length: Time | None = None, start: Time = 0, end: Time | None = None) -> Clip:
    """Keep exactly the frames from `start`, for `length` or up to `end`, and the sound that belongs to them.

    Times are rounded to the nearest frame. A clip without a picture is cut to
    the sample. With none of the three, a generated clip is cut to the length
    that was asked for. Raises InputError if both `length` and `end` are given, if
    nothing would be left, or if the clip is shorter than asked.
    """
    if length is None and end is None and not start:
        length = _length_asked_for(clip)
    if length is not None and end is not None:
        raise InputError("give length: or end:, not both", "end")
    rate = clip.picture.rate if clip.picture else Fraction(SAMPLE_RATE)
    whole = clip.picture.frames if clip.picture else clip.sound.samples if clip.sound else 0
    first = frame_count(start, rate)
    last = _last(first, whole, rate, length, end)
    asked = f"{printed_seconds(first / rate)}–{printed_seconds(last / rate)} s"
    parameter = "length" if length is not None else "end" if end is not None else "start"
    if last <= first:
        raise InputError(f"{asked} leaves nothing of a {printed_seconds(whole / rate)} s clip", parameter)
    if last > whole:
        raise InputError(f"{asked} is asked of a clip that is {printed_seconds(whole / rate)} s long", parameter)
    if (first, last) == (0, whole):
        return clip
    begin, span = first / rate, (last - first) / rate
    return replace(
        clip,
        picture=clip.picture and _trimmed_picture(clip.picture, first, last),
        sound=clip.sound and _trimmed_sound(clip.sound, begin, span),
    )


@edit()
def pace(clip: Clip, *, rate: Fraction) -> Clip:
    """Show the picture at `rate` frames a second: frames are repeated or left out, the length stays."""
    picture = clip.picture
    if picture is None or rate == picture.rate:
        return clip
    frames = round(picture.frames * rate / picture.rate)
    # The clone covers a last frame rounded away.
    stream = filtered("tpad", filtered("fps", picture.stream, fps=rate), stop=2, stop_mode="clone")
    stream = filtered("trim", stream, end_frame=frames)
    return replace(clip, picture=replace(picture, stream=stream, rate=rate, frames=frames))


def _length_asked_for(clip: Clip) -> Time:
    """The length that was asked of `generate`: what was bought is often longer."""
    for action in reversed(clip.history):
        if action.name == "generate" and (length := dict(action.parameters).get("length")):
            return length
    raise InputError("give length:, start: or end:", "length")


def _last(first: int, whole: int, rate: Fraction, length: Time | None, end: Time | None) -> int:
    if length is not None:
        return first + frame_count(length, rate)
    return whole if end is None else frame_count(end, rate)


def _trimmed_picture(picture: Picture, first: int, last: int) -> Picture:
    window = {"start_frame": first, "end_frame": last} if first else {"end_frame": last}
    stream = filtered("setpts", filtered("trim", picture.stream, **window), expr="PTS-STARTPTS")
    captions = shifted(picture.captions, first / picture.rate, (last - first) / picture.rate)
    return replace(picture, stream=stream, frames=last - first, captions=captions)


def _trimmed_sound(sound: Sound, begin: Fraction, span: Fraction) -> Sound:
    first, last = round(begin * SAMPLE_RATE), round((begin + span) * SAMPLE_RATE)
    stream = filtered("atrim", sound.stream, start_sample=first, end_sample=last)
    stream = filtered("asetpts", stream, expr="PTS-STARTPTS")
    if first:
        stream = filtered("afade", stream, type="in", nb_samples=FADE)
    samples = min(last, sound.samples) - first
    if samples > 2 * FADE:
        stream = filtered("afade", stream, type="out", start_sample=samples - FADE, nb_samples=FADE)
    words = tuple(_moved(word, begin) for word in sound.words if begin <= word.start and word.end <= begin + span)
    return replace(sound, stream=stream, samples=max(0, samples), words=words)


def _moved(word: Word, begin: Fraction) -> Word:
    return replace(word, start=word.start - begin, end=word.end - begin)
