"""Edits of the sound: what is heard, from when, how loud."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import Literal

import presets
from stages.clip import (
    DUCK,
    SAMPLE_RATE,
    Clip,
    Decibels,
    Loudness,
    Sound,
    Stream,
    Time,
    Word,
    decibels,
    exactly,
    filtered,
    printed_seconds,
    samples_for,
    seconds,
)
from stages.cutting import loop as looped
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
    own, rate = exactly(clip.sound.stream, laid.samples), _rate(clip)
    bed = _ducked(own, laid, duck, seconds(attack, rate), seconds(release, rate))
    words = tuple(sorted((*clip.sound.words, *laid.words), key=lambda word: word.start))
    mixed = _mixed(bed, laid.stream)
    return replace(clip, sound=replace(clip.sound, stream=mixed, samples=laid.samples, words=words))


@edit()
def music(
    clip: Clip,
    *,
    sound: Clip,
    gain: Decibels = -12.0,
    duck: Decibels = 10.0,
    loop: bool = True,
    overlap: Time = Fraction(1, 2),
    fade_in: Time = 0,
    fade_out: Time = 1,
    attack: Time = Fraction(3, 20),
    release: Time = Fraction(7, 20),
) -> Clip:
    """Lay `sound` as a bed under the whole clip, `gain` decibels louder or softer, and lower under its speech.

    A longer one is cut. A shorter one goes round and round, its end fading
    into its beginning for `overlap`, at most half of it; with `loop: false`
    silence follows it. It fades in and out at its ends for `fade_in` and
    `fade_out`. `duck` lowers it by that many decibels wherever the clip's
    words are spoken or, where none are known, wherever the clip's own sound is
    louder than -45 dBFS: reached `attack` before, left over `release` after.
    The clip keeps its length and its own sound. Raises InputError for a sound
    without sound, and for fades longer than what is heard.
    """
    if sound.sound is None:
        raise InputError("music: sound: has no sound in it")
    total, rate, played = _clip_samples(clip), _rate(clip), sound.sound
    into, out = (round(seconds(fade, rate) * SAMPLE_RATE) for fade in (fade_in, fade_out))
    if loop and played.samples < total:
        bed = _again(played, total, round(seconds(overlap, rate) * SAMPLE_RATE))
    else:
        bed = played.stream
    heard = total if loop else min(total, played.samples)
    if into + out > heard:
        faded = printed_seconds(Fraction(into + out, SAMPLE_RATE))
        raise InputError(f"music: {faded} s of fades in {printed_seconds(Fraction(heard, SAMPLE_RATE))} s of music")
    bed = exactly(_louder(bed, gain), heard)
    if into:
        bed = filtered("afade", bed, type="in", nb_samples=into)
    if out:
        bed = filtered("afade", bed, type="out", start_sample=heard - out, nb_samples=out)
    bed = exactly(bed, total)
    if clip.sound is None:
        return replace(clip, sound=Sound(bed, total))
    own = replace(clip.sound, stream=exactly(clip.sound.stream, total), samples=total)
    bed = _ducked(bed, own, duck, seconds(attack, rate), seconds(release, rate), spoken(own.words))
    return replace(clip, sound=replace(own, stream=_mixed(bed, own.stream)))


LEVELS = {"ebu-r128": "broadcast-ebu", "atsc-a85": "broadcast-atsc"}
"""Whose numbers a standard's are, which those deliveries take over whole."""


@edit()
def level(
    clip: Clip,
    *,
    loudness: Decibels | None = None,
    true_peak: Decibels | None = None,
    standard: Literal["", "ebu-r128", "atsc-a85"] = "",
) -> Clip:
    """Bring the finished sound to `loudness` LUFS with true peaks under `true_peak` dBTP (ITU-R BS.1770).

    -14 LUFS and -1 dBTP unless something else is said; `standard` says what
    broadcasters want, in Europe (EBU R 128) or America (ATSC A/85). An
    intention, carried out last, on the mix. What is silent or under 0.4 s is
    left alone, and what cannot reach the target under the ceiling is reported.
    Raises InputError for levels that no sound can have.
    """
    if clip.sound is None:
        return clip
    target, ceiling = _standard(standard)
    if standard and loudness is not None and decibels(loudness) != target:
        raise InputError(
            f"{decibels(loudness):g} LUFS is not {standard}'s {target:g} LUFS: give one of them", "loudness"
        )
    target = target if loudness is None else decibels(loudness)
    ceiling = ceiling if true_peak is None else decibels(true_peak)
    if not (-70 < target < 0 and -20 <= ceiling <= 0):
        raise InputError(f"level: {target:g} LUFS under {ceiling:g} dBTP: should be -70 to 0 LUFS and -20 to 0 dBTP")
    return replace(clip, sound=replace(clip.sound, loudness=Loudness(target, ceiling)))


def _standard(name: str) -> tuple[float, float]:
    """Its loudness and its ceiling."""
    if not name:
        return -14.0, -1.0
    sheet = presets.read("delivery", LEVELS[name])
    return float(sheet["loudness"]), float(sheet["true_peak"])


# ---------------------------------------------------------------- parts


def _rate(clip: Clip) -> Fraction:
    return clip.picture.rate if clip.picture else Fraction(SAMPLE_RATE)


def _laid(clip: Clip, sound: Clip, at: Time, gain: Decibels, who: str) -> Sound:
    """`sound`'s sound at its place on the clip's clock, exactly as long as the clip."""
    if sound.sound is None:
        raise InputError(f"{who}: sound: has no sound in it")
    begin = seconds(at, _rate(clip))
    if begin + sound.sound.duration > clip.duration + Fraction(1, 1000):
        about = "about " if sound.promised else ""
        raise InputError(
            f"{who}: {about}{printed_seconds(sound.sound.duration)} s of sound at {printed_seconds(begin)} s"
            f" do not fit into a clip of {printed_seconds(clip.duration)} s"
        )
    stream, offset = _louder(sound.sound.stream, gain), round(begin * SAMPLE_RATE)
    if offset:
        stream = filtered("adelay", stream, delays=f"{offset}S", all=1)
    total = _clip_samples(clip)
    words = tuple(Word(w.text, w.start + begin, w.end + begin) for w in sound.sound.words)
    return Sound(exactly(stream, total), total, words)


def _clip_samples(clip: Clip) -> int:
    if clip.picture:
        return samples_for(clip.picture.frames, clip.picture.rate)
    return clip.sound.samples if clip.sound else 0


def _louder(stream: Stream, gain: Decibels) -> Stream:
    change = decibels(gain)
    return filtered("volume", stream, volume=f"{change:g}dB") if change else stream


def _ducked(bed: Stream, voice: Sound, duck: Decibels, attack: Fraction, release: Fraction, spans: str = "") -> Stream:
    """`bed`, lower where `voice` is heard: over `spans`, if they are known."""
    depth = abs(decibels(duck))
    if not depth:
        return bed
    return filtered(
        DUCK, bed, voice.stream,
        depth=str(depth), samples=voice.samples,
        attack=round(attack * SAMPLE_RATE), release=round(release * SAMPLE_RATE),
        **({"spans": spans} if spans else {}),
    )  # fmt: skip


PAUSE = Fraction(1, 4)
"""Seconds: a shorter pause between words is speech, as in `mixing.GAP`."""


def spoken(words: tuple[Word, ...]) -> str:
    """From which sample to which words are spoken, as `DUCK` has it: `0-9600 24000-31200`."""
    spans: list[tuple[Fraction, Fraction]] = []
    for word in words:
        if spans and word.start - spans[-1][1] < PAUSE:
            spans[-1] = (spans[-1][0], max(spans[-1][1], word.end))
        else:
            spans.append((word.start, word.end))
    return " ".join(f"{round(begin * SAMPLE_RATE)}-{round(end * SAMPLE_RATE)}" for begin, end in spans)


def _mixed(one: Stream, other: Stream) -> Stream:
    """Both, each at its own level; they are equally long."""
    # amix scales every input down by default; a voice-over must not make the scene quieter, so normalisation
    # is off. With duration=first, 5.1 stops as soon as it has read the end of one, and loses what it has not yet
    # read of the other.
    return filtered("amix", one, other, inputs=2, normalize=0, duration="longest", dropout_transition=0)


def _again(sound: Sound, samples: int, overlap: int) -> Stream:
    """`sound` from its beginning, and again and again until `samples` are full; the graph does not grow with them."""
    overlap = min(overlap, sound.samples // 2)
    if overlap < 2:
        return filtered(
            "aloop", exactly(sound.stream, sound.samples), loop=samples // sound.samples, size=sound.samples
        )
    # A seamless loop begins where its fade ends: what comes before that is heard once, in front.
    whole = looped(Clip(sound=sound), overlap=Fraction(overlap, SAMPLE_RATE)).sound
    assert whole is not None
    head = filtered("atrim", sound.stream, end_sample=overlap)
    rounds = filtered("aloop", whole.stream, loop=ceil(samples / whole.samples), size=whole.samples)
    # By samples, since concat counts a part's length in microseconds.
    return filtered("asetpts", filtered("concat", head, rounds, n=2, v=0, a=1), expr="N/SR/TB")
