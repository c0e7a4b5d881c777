"""Sound is stretched to its exact length and pitch, and what begins in it is found where it belongs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import onsets

from stages.stretching import beginnings, stretch

RATE = 48_000
Sound = npt.NDArray[np.float32]


def stretched(mono: Sound, tempo: str, folder: Path) -> Sound:
    np.stack([mono, mono], 1).astype(np.float32).tofile(folder / "in")
    made = stretch(folder / "in", folder / "out", Fraction(tempo))
    left, right = np.fromfile(folder / "out", np.float32).reshape(-1, 2).T
    assert len(left) == made == round(len(mono) / Fraction(tempo))
    assert np.array_equal(left, right)
    return left


def bed(kind: str, seconds: int) -> Sound:
    t = np.arange(seconds * RATE) / RATE
    chord = np.sin(2 * np.pi * np.outer((220, 277.2, 329.6), t)).sum(0)
    noise = np.random.default_rng(1).standard_normal(len(t))
    sounds = {"chord": 0.03 * chord, "noise": 0.02 * noise, "silence": 0 * t}
    return np.asarray(sounds[kind], np.float32)


def sine(hertz: float) -> Sound:
    return (0.1 * np.sin(2 * np.pi * hertz * np.arange(3 * RATE) / RATE)).astype(np.float32)


def with_clicks(sound: Sound, places: list[int]) -> Sound:
    click = 0.8 * np.sin(2 * np.pi * 2000 * np.arange(240) / RATE)
    for at in places:
        sound[at : at + 240] += click
    return sound


@pytest.mark.parametrize("kind", ["silence", "noise", "chord"])
@pytest.mark.parametrize("tempo", ["1/2", "9/10", "5/4", "2"])
def test_what_begins_is_heard_at_its_place(kind: str, tempo: str, tmp_path: Path) -> None:
    places = [RATE // 2 + k * (RATE + 137) for k in range(3)] + [3 * RATE + 10_000]
    made = stretched(with_clicks(bed(kind, 4), places), tempo, tmp_path)
    assert onsets(made) == pytest.approx([at / RATE / float(Fraction(tempo)) for at in places], abs=2e-4)


@pytest.mark.parametrize("hertz", [45, 440, 3011])
@pytest.mark.parametrize("tempo", ["1/2", "4/3", "2"])
def test_a_tone_stays_what_it_is(hertz: int, tempo: str, tmp_path: Path) -> None:
    heard = stretched(sine(hertz), tempo, tmp_path)[RATE // 5 : -RATE // 5].astype(np.float64)
    loudest = np.argmax(np.abs(np.fft.rfft(heard * np.hanning(len(heard))))) * RATE / len(heard)
    assert loudest == pytest.approx(hertz, abs=2 * RATE / len(heard)), "in pitch"
    tenths = heard[: len(heard) // 4800 * 4800].reshape(-1, 4800)
    assert 10 * np.log10(2 * (tenths**2).mean(1)) == pytest.approx(-20, abs=0.05), "and as loud all the time"


def test_beginnings_are_found_over_what_sounds_on() -> None:
    for kind in ("silence", "noise", "chord"):
        sound = with_clicks(bed(kind, 2), [20_000, 70_001])
        assert beginnings(sound) == pytest.approx([20_000, 70_001], abs=48)
        assert not beginnings(bed(kind, 2))


@given(samples=st.integers(0, 9000), tempo=st.fractions("1/2", "2", max_denominator=1000))
def test_any_length_becomes_what_it_should(
    samples: int, tempo: Fraction, tmp_path_factory: pytest.TempPathFactory
) -> None:
    noise = np.random.default_rng(samples).uniform(-1, 1, samples).astype(np.float32)
    made = stretched(noise, str(tempo), tmp_path_factory.mktemp("any"))
    assert np.abs(made).max(initial=0) <= 1.0001
