"""Sounds are laid, ducked and levelled as asked, and nothing else about the clip changes."""

from __future__ import annotations

import wave
from array import array
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import described, film, samples, sound_of, tone

import stages.mixing
from stages import Clip, InputError, Word, level, measure, mix_audio, music, open_clip, replace_audio, strip_audio
from stages.clip import Loudness
from stages.ffmpeg import Command, run_command, sound_command
from stages.mixing import Measured, Track, envelope, enveloped, heard, make_sound, write_wav

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


def test_a_standard_is_what_its_broadcasters_want() -> None:
    assert sound_of(level(described())).loudness == Loudness(-14, -1)
    assert sound_of(level(described(), standard="ebu-r128")).loudness == Loudness(-23, -1)
    assert sound_of(level(described(), standard="atsc-a85", true_peak=-3)).loudness == Loudness(-24, -3)
    with pytest.raises(InputError, match="-20 LUFS is not ebu-r128's -23 LUFS: give one of them"):
        level(described(), standard="ebu-r128", loudness="-20 LUFS")


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


@pytest.mark.parametrize(
    ("amplitude", "raised", "remark"),
    [
        (0, 0, "it is silent, or too short to be measured: not brought to -14 LUFS"),
        (0.0008, 0, "LUFS there is little but noise to be heard: left as it is, not brought to -14 LUFS"),
        (0.004, 30, "-14 LUFS would raise it by more than 30 dB, and its noise with it: it is -1"),
    ],
)
def test_noise_is_not_raised_to_a_voice(amplitude: float, raised: float, remark: str, tmp_path: Path) -> None:
    hiss = made_sound(tmp_path / "hiss.wav", "A*(random(0)*2-1)|A*(random(1)*2-1)".replace("A", f"{amplitude:.4f}"))
    report = make_sound(Track(sound_of(level(hiss)), 48_000), folder=tmp_path)
    assert remark in report.remark
    assert report.gain == raised
    assert report.after.loudness == pytest.approx(report.before.loudness + raised, abs=2)


# ---------------------------------------------------------------- a bed of music


def mixed(clip: Clip, folder: Path) -> npt.NDArray[np.float32]:
    """Its sound before it is encoded."""
    stream = enveloped(sound_of(clip).stream, folder)
    run_command(sound_command(stream, "mix.wav", acodec="pcm_f32le"), folder)
    return samples(folder / "mix.wav")


def made_sound(target: Path, expression: str, seconds: float = 1, rate: int = 48_000) -> Clip:
    return open_clip(film(target, "-f", "lavfi", "-i", f"aevalsrc='{expression}':s={rate}:d={seconds}"))


@pytest.mark.parametrize(("overlap", "turn"), [("0.25s", 36_000), ("0s", 48_000), ("3s", 24_000)])
def test_music_goes_round_to_the_sample(overlap: str, turn: int, shot: Path, tmp_path: Path) -> None:
    """It starts at its own beginning; three seconds of overlap are more than half of one."""
    tick = made_sound(tmp_path / "tick.wav", "0.5*eq(n,23990)")
    silent = strip_audio(open_clip(shot))
    (left, right) = mixed(music(silent, sound=tick, gain=0, overlap=overlap, fade_out=0), tmp_path)
    assert len(left) == 144_000
    assert list(np.flatnonzero(np.abs(left) > 0.1)) == list(range(23_990, 144_000, turn))
    assert np.array_equal(left, right)


def test_the_level_of_music_holds_where_it_goes_round(shot: Path, tmp_path: Path) -> None:
    pink = "anoisesrc=color=pink:seed=1:r=44100:d=1"
    noise = open_clip(film(tmp_path / "noise.wav", "-f", "lavfi", "-i", pink))
    left = mixed(music(strip_audio(open_clip(shot)), sound=noise, gain=0, overlap="0.3s", fade_out=0), tmp_path)[0]
    loud = [20 * np.log10(np.sqrt(np.mean(left[at : at + 9600] ** 2))) for at in range(0, 144_000, 9600)]
    assert max(loud) - min(loud) < 2.5


def test_music_fades_at_its_ends_and_is_cut_or_followed_by_silence(shot: Path, tmp_path: Path) -> None:
    silent = strip_audio(open_clip(shot))
    long = made_sound(tmp_path / "long.wav", "0.1*sin(2*PI*300*t)", 5, 24_000)
    left = mixed(music(silent, sound=long, gain=6, fade_in="1s", fade_out="1s"), tmp_path)[0]
    assert len(left) == 144_000
    for begin, loud in ((0.45, -20), (1.5, -14), (2.45, -20)):  # half way through a fade, in the middle, again
        assert tone(left, 300, begin, begin + 0.1) == pytest.approx(loud, abs=0.5)
    short = made_sound(tmp_path / "short.wav", "0.1*sin(2*PI*300*t)", 1)
    left = mixed(music(silent, sound=short, gain=0, loop=False, fade_out="0.5s"), tmp_path)[0]
    assert tone(left, 300, 0.1, 0.4) == pytest.approx(-20, abs=0.1)
    assert tone(left, 300, 0.7, 0.8) == pytest.approx(-26, abs=0.5)
    assert not left[48_000:].any()


def test_music_is_lower_under_the_words_and_nowhere_else(shot: Path, tmp_path: Path) -> None:
    """The clip's own sound never falls silent: only its words say where anybody speaks."""
    clip = open_clip(shot)
    own = replace(
        sound_of(clip), words=(Word("one", Fraction(1), Fraction(6, 5)), Word("two", Fraction(13, 10), Fraction(2)))
    )
    tune = made_sound(tmp_path / "tune.wav", "0.1*sin(2*PI*1000*t)", 2)
    bed = music(replace(clip, sound=own), sound=tune, gain=-6, duck="12 dB", attack="0.1s", release="0.2s", fade_out=0)
    assert sound_of(bed).words == own.words
    left = mixed(bed, tmp_path)[0]
    for begin, end, loud in ((0.2, 0.85, -26), (1.0, 1.4, -38), (2.25, 2.9, -26)):
        assert tone(left, 1000, begin, end) == pytest.approx(loud, abs=0.3)
        assert tone(left, 300, begin, end) == pytest.approx(-20, abs=0.3)


def test_music_that_cannot_be_is_refused_with_the_numbers() -> None:
    with pytest.raises(InputError, match=r"music: 4 s of fades in 3 s of music"):
        music(described(seconds=3), sound=talk(), fade_in="2s", fade_out="2s")
    with pytest.raises(InputError, match="music: sound: has no sound in it"):
        music(described(), sound=strip_audio(described()))


def test_loudness_is_measured_without_decoding_the_picture(
    shot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With it, a measurement took five times the CPU."""
    calls: list[tuple[str, ...]] = []

    def noted(made: Command, folder: Path) -> str:
        calls.append(made.arguments)
        return run_command(made, folder)

    monkeypatch.setattr(stages.mixing, "run_command", noted)
    measure(sound_of(shot), tmp_path)
    make_sound(Track(sound_of(level(open_clip(shot), loudness=-20)), 144_000), folder=tmp_path)
    assert len(calls) == 4  # mixed, encoded once, decoded once to be measured and drawn
    assert all("-vn" in arguments for arguments in calls)
    assert not any("[0:v]" in argument for arguments in calls for argument in arguments)
