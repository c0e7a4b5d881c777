"""Edits of the sound: what is heard, from when, how loud."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from stages.clip import (
    DUCK,
    SAMPLE_RATE,
    Clip,
    Decibels,
    Loudness,
    Sound,
    Time,
    Word,
    decibels,
    exactly,
    filtered,
    printed_seconds,
    samples_for,
    seconds,
)
from stages.errors import InputError
from stages.stage import edit

# ---------------------------------------------------------------- edits


@edit()
def strip_audio(clip: Clip) -> Clip:
    """Take the sound away."""
    return replace(clip, sound=None) if clip.sound else clip


@edit()
def replace_audio(clip: Clip, *, sound: Clip, at: Time = 0, gain: Decibels = 0.0) -> Clip:
    """Put `sound` in the place of the clip's own, `at` a moment, `gain` decibels louder or softer.

    The clip keeps its length. Raises InputError if `sound` does not fit into it.
    """
    laid = _laid(clip, sound, at, gain, "replace_audio")
    return replace(clip, sound=replace(laid, loudness=clip.sound.loudness if clip.sound else None))


@edit()
def mix_audio(
    clip: Clip,
    *,
    sound: Clip,
    at: Time = 0,
    gain: Decibels = 0.0,
    duck: Decibels = 0.0,
    attack: Time = Fraction(3, 20),
    release: Time = Fraction(7, 20),
) -> Clip:
    """Lay `sound` over the clip's own sound, `at` a moment, `gain` decibels louder or softer.

    `duck` lowers the clip's own sound by that many decibels wherever `sound`
    is heard, reached `attack` before it and left over `release` after it. The
    clip keeps its length and, without `duck`, its level. A clip without sound
    gets `sound` alone. Raises InputError if `sound` does not fit into the clip.
    """
    laid = _laid(clip, sound, at, gain, "mix_audio")
    if clip.sound is None:
        return replace(clip, sound=laid)
    bed, rate = exactly(clip.sound.stream, laid.samples), _rate(clip)
    if depth := abs(decibels(duck)):
        bed = filtered(
            DUCK, bed, laid.stream,
            depth=str(depth), samples=laid.samples,
            attack=round(seconds(attack, rate) * SAMPLE_RATE),
            release=round(seconds(release, rate) * SAMPLE_RATE),
        )  # fmt: skip
    # amix scales every input down by default; a voice-over must not make the
    # scene quieter, so normalisation is off.
    mixed = filtered("amix", bed, laid.stream, inputs=2, normalize=0, duration="first", dropout_transition=0)
    words = tuple(sorted((*clip.sound.words, *laid.words), key=lambda word: word.start))
    return replace(clip, sound=replace(clip.sound, stream=mixed, samples=laid.samples, words=words))


@edit()
def level(clip: Clip, *, loudness: Decibels = -14.0, true_peak: Decibels = -1.0) -> Clip:
    """Bring the finished sound to `loudness` LUFS with true peaks under `true_peak` dBTP (ITU-R BS.1770).

    An intention, carried out last, on the mix. What is silent or under 0.4 s
    is left alone, and what cannot reach the target under the ceiling is reported.
    """
    if clip.sound is None:
        return clip
    target, ceiling = decibels(loudness), decibels(true_peak)
    if not (-70 < target < 0 and -20 <= ceiling <= 0):
        raise InputError(f"level: {target:g} LUFS under {ceiling:g} dBTP: should be -70 to 0 LUFS and -20 to 0 dBTP")
    return replace(clip, sound=replace(clip.sound, loudness=Loudness(target, ceiling)))


def _rate(clip: Clip) -> Fraction:
    return clip.picture.rate if clip.picture else Fraction(SAMPLE_RATE)


def _laid(clip: Clip, sound: Clip, at: Time, gain: Decibels, who: str) -> Sound:
    """`sound`'s sound at its place on the clip's clock, exactly as long as the clip."""
    if sound.sound is None:
        raise InputError(f"{who}: sound: has no sound in it")
    begin = seconds(at, _rate(clip))
    if begin + sound.sound.duration > clip.duration + Fraction(1, 1000):
        raise InputError(
            f"{who}: {printed_seconds(sound.sound.duration)} s of sound at {printed_seconds(begin)} s"
            f" do not fit into a clip of {printed_seconds(clip.duration)} s"
        )
    stream, offset = sound.sound.stream, round(begin * SAMPLE_RATE)
    if change := decibels(gain):
        stream = filtered("volume", stream, volume=f"{change:g}dB")
    if offset:
        stream = filtered("adelay", stream, delays=f"{offset}S", all=1)
    total = _clip_samples(clip)
    words = tuple(Word(w.text, w.start + begin, w.end + begin) for w in sound.sound.words)
    return Sound(exactly(stream, total), total, words)


def _clip_samples(clip: Clip) -> int:
    if clip.picture:
        return samples_for(clip.picture.frames, clip.picture.rate)
    return clip.sound.samples if clip.sound else 0
