"""Sounds are laid, ducked and levelled as asked, and nothing else about the clip changes."""

from __future__ import annotations

import wave
from array import array
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import described, sound_of

from stages import Clip, InputError, Word, level, measure, mix_audio, open_clip, replace_audio, strip_audio
from stages.clip import Loudness
from stages.mixing import Measured, envelope, heard, write_wav

WORDS = (Word("Hello", Fraction(1, 5), Fraction(1, 2)),)


def talk(seconds: int = 1) -> Clip:
    """A sound of its own, with a word in it."""
    clip = described(seconds=seconds, name="/media/talk.wav")
    return replace(clip, picture=None, sound=replace(sound_of(clip), words=WORDS))


# ---------------------------------------------------------------- laying


def test_a_clip_keeps_its_length_and_its_picture() -> None:
    clip = described(seconds=3)
    for laid in (mix_audio(clip, sound=talk(), at="0.5s"), replace_audio(clip, sound=talk(), at="0.5s")):
        assert laid.picture is clip.picture
        assert sound_of(laid).samples == 144_000


def test_words_ride_on_the_sound() -> None:
    clip = mix_audio(mix_audio(described(), sound=talk(), at="2s"), sound=talk(), at="12f")
    assert [(word.start, word.end) for word in sound_of(clip).words] == [
        (Fraction(7, 10), Fraction(1)),
        (Fraction(11, 5), Fraction(5, 2)),
    ]
    assert sound_of(replace_audio(clip, sound=talk())).words == WORDS


def test_a_clip_without_sound_gets_the_sound_alone() -> None:
    silent = strip_audio(described())
    assert sound_of(mix_audio(silent, sound=talk())).samples == 144_000
    assert strip_audio(silent) is silent


def test_stripping_takes_the_sound_and_nothing_else() -> None:
    clip = described()
    assert strip_audio(clip) == replace(clip, sound=None)


@pytest.mark.parametrize("lay", [mix_audio, replace_audio])
def test_a_sound_that_does_not_fit_is_refused_with_the_numbers(lay: object) -> None:
    assert callable(lay)
    name = getattr(lay, "__name__", "")
    with pytest.raises(InputError) as refused:
        lay(described(seconds=3), sound=talk(2), at="1.5s")
    assert str(refused.value) == f"{name}: 2 s of sound at 1.5 s do not fit into a clip of 3 s"
    with pytest.raises(InputError, match=f"{name}: sound: has no sound in it"):
        lay(described(), sound=strip_audio(described()))


def test_the_record_keeps_what_was_laid_in() -> None:
    action = mix_audio(described(), sound=talk(), at="0.5s").history[-1]
    assert (action.name, action.parameters, action.inputs) == ("mix_audio", (("at", "0.5s"),), (talk().history,))


# ---------------------------------------------------------------- levelling is an intention


def test_a_level_is_kept_for_the_end() -> None:
    clip = mix_audio(level(described(), loudness="-16 LUFS"), sound=talk())
    assert sound_of(clip).loudness == Loudness(-16, -1)
    assert sound_of(replace_audio(clip, sound=talk())).loudness == Loudness(-16, -1)
    assert sound_of(level(clip, loudness=-23, true_peak=-2)).loudness == Loudness(-23, -2)


def test_there_is_nothing_to_level_in_a_silent_film() -> None:
    clip = strip_audio(described())
    assert level(clip) is clip


@pytest.mark.parametrize(
    ("loudness", "peak"), [("3 dB", "-1"), ("0", "-1"), ("-70", "-1"), ("-14", "1"), ("-14", "-40")]
)
def test_a_level_that_no_sound_can_have_is_refused(loudness: str, peak: str) -> None:
    with pytest.raises(InputError, match=r"level: \S+ LUFS under \S+ dBTP: should be"):
        level(described(), loudness=loudness, true_peak=peak)


# ---------------------------------------------------------------- the envelope of ducking

spans = (
    st.lists(st.integers(0, 3000), max_size=8, unique=True)
    .map(sorted)
    .map(lambda e: list(zip(e[::2], e[1::2], strict=False)))
)


@given(spans, st.integers(1, 2500), st.floats(1, 40), st.integers(0, 300), st.integers(0, 300))
def test_an_envelope_is_down_where_a_voice_is_heard_and_up_far_from_it(
    voice: list[tuple[int, int]], samples: int, depth: float, attack: int, release: int
) -> None:
    gains = envelope(voice, samples, depth, attack, release)
    assert len(gains) == samples
    low = round(32767 * 10 ** (-depth / 20))
    for at, gain in enumerate(gains):
        inside = any(begin <= at < end for begin, end in voice)
        near = any(begin - attack <= at < end + release for begin, end in voice)
        assert gain == low if inside else gain == 32767 if not near else low <= gain <= 32767


def test_an_envelope_falls_and_rises_in_even_decibels() -> None:
    gains = np.array(envelope([(1000, 2000)], 4000, 20, 400, 800))
    fall, rise = 20 * np.log10(gains[600:1001] / 32767), 20 * np.log10(gains[2000:2800] / 32767)
    assert np.allclose(fall, np.linspace(0, -20, 401), atol=0.1)
    assert np.allclose(rise, np.linspace(-20, 0, 800, endpoint=False), atol=0.1)


def test_a_wav_file_is_one_that_others_read(tmp_path: Path) -> None:
    values = array("h", [0, 32767, -32768, 5])
    write_wav(tmp_path / "e.wav", values)
    with wave.open(str(tmp_path / "e.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 48_000)
        assert file.readframes(9) == values.tobytes()


# ---------------------------------------------------------------- with ffmpeg


def test_a_voice_is_heard_where_it_is(voice: Path, tmp_path: Path) -> None:
    found = heard(sound_of(voice).stream, sound_of(voice).samples, tmp_path)
    for (begin, end), (first, last) in zip(found, [(0, 0.5), (0.9, 1.5)], strict=True):
        assert begin / 48_000 == pytest.approx(first, abs=0.01)
        assert end / 48_000 == pytest.approx(last, abs=0.01)


def test_a_voice_in_a_longer_film_is_heard_nowhere_else(voice: Path, shot: Path, tmp_path: Path) -> None:
    """The silence after it reaches to the end, and the end is no voice."""
    laid = sound_of(replace_audio(open_clip(shot), sound=open_clip(voice), at="0.5s"))
    edges = [edge / 48_000 for span in heard(laid.stream, laid.samples, tmp_path) for edge in span]
    assert edges == pytest.approx([0.6, 1.0, 1.4, 1.9], abs=0.01)


def test_a_tone_is_measured_as_the_standard_says(shot: Path) -> None:
    # A 997 Hz sine at -20 dBFS in both channels reads -20 LUFS less the K weighting; at 300 Hz about 0.6 less.
    found = measure(sound_of(shot))
    assert found.loudness == pytest.approx(-20.7, abs=0.2)
    assert found.true_peak == pytest.approx(-20, abs=1.1)  # AAC overshoots where the tone begins
    assert not found.silent


def test_silence_is_silent() -> None:
    assert Measured(-70, -99, 0).silent
