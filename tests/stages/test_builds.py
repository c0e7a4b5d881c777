"""What one build of ffmpeg does and another does not must not be seen: each film is made by imageio-ffmpeg's and by
Debian's 5.1. Inputs of every kind are in `tests/torture`."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from lab import counted, film, luma, numbers, onsets, picture_of, samples, sound_of, times

from stages import Cue, Encoding, fit, level, measure, open_clip, render, replace_audio, trim, upscale
from stages.clip import Captions, Clip, samples_for
from stages.media import mp4_layout

pytestmark = pytest.mark.usefixtures("build")

EXACT = Encoding(preset="ultrafast", crf=0, profile="", gop=Fraction(1), b_frames=0)


def rendered(clip: Clip, target: Path, encoding: Encoding = EXACT) -> Path:
    render(clip, target, encoding)
    return target


@pytest.mark.parametrize("edit_lists", [True, False])
@pytest.mark.parametrize("frames", [58, 59])
def test_a_cut_of_an_odd_length_keeps_its_last_samples(
    frames: int, edit_lists: bool, shot: Path, tmp_path: Path
) -> None:
    """58 frames at 24 are 2.416… s: an edit list that counts milliseconds ends 32 samples early."""
    clip = trim(open_clip(shot), length=f"{frames}f")
    made = rendered(clip, tmp_path / "out.mp4", Encoding(preset="ultrafast", edit_lists=edit_lists))
    assert sound_of(made).samples == samples_for(frames, Fraction(24))
    assert len(luma(made)) == picture_of(made).frames == frames
    assert mp4_layout(made).edit_lists == edit_lists


@pytest.mark.parametrize("rate", ["24000/1001", "30000/1001"])
def test_a_cut_has_exactly_the_frames_asked_for(rate: str, tmp_path: Path) -> None:
    source = counted(tmp_path / "counted.mp4", "-c:v", "libx264", "-crf", "4", "-bf", "3", rate=rate, seconds=1.5)
    made = rendered(trim(open_clip(source), start="7f", length="20f"), tmp_path / "out.mp4", Encoding(crf=4))
    assert numbers(made) == list(range(7, 27))
    assert times(made) == pytest.approx([float(n / Fraction(rate)) for n in range(20)], abs=1e-4)


@pytest.mark.parametrize("edit", ["copied", "scaled", "cut"])
def test_what_an_encoder_put_before_the_sound_is_not_heard(edit: str, flashes: Path, tmp_path: Path) -> None:
    """In Matroska, whose clock then starts before zero."""
    source = film(tmp_path / "primed.mkv", "-i", str(flashes), "-c:v", "libx264", "-bf", "2", "-c:a", "aac")
    clip = open_clip(source)
    clip = {"copied": clip, "scaled": upscale(clip, size="2x"), "cut": trim(clip, start="6f")}[edit]
    made = rendered(clip, tmp_path / "out.mp4", Encoding(preset="ultrafast"))
    flash = [at for at, y in zip(times(made), luma(made), strict=True) if y.mean() > 128]
    begin = 0.25 if edit == "cut" else 0
    assert flash == pytest.approx([at - begin for at in (0.5, 1.5, 2.5)], abs=1e-3)
    assert onsets(samples(made)[0]) == pytest.approx(flash, abs=1e-3)


def test_a_level_is_reached(shot: Path, voice: Path, tmp_path: Path) -> None:
    clip = level(replace_audio(open_clip(shot), sound=open_clip(voice), at="1s"), loudness=-20)
    found = measure(sound_of(rendered(clip, tmp_path / "out.mp4")))
    assert found.loudness == pytest.approx(-20, abs=0.2)
    assert found.true_peak <= -1


def test_a_caption_is_seen_exactly_while_it_is_said(shot: Path, tmp_path: Path) -> None:
    clip = fit(trim(open_clip(shot), length="1s"), size="180x320", mode="blur")
    picture = picture_of(clip)
    captions = Captions((Cue("Morning", Fraction(1, 4), Fraction(3, 4)),))
    written = Clip(replace(picture, captions=captions))
    plain = Clip(picture)
    pairs = zip(luma(rendered(plain, tmp_path / "a.mp4")), luma(rendered(written, tmp_path / "b.mp4")), strict=True)
    assert [bool((one != other).any()) for one, other in pairs] == [6 <= number < 18 for number in range(24)]
