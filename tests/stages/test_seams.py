"""Loops and joins rendered for real: where one frame meets another's neighbour, and which sample is heard when."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lab import (
    LOSSLESS,
    TAGS,
    Samples,
    colour,
    counted,
    film,
    luma,
    numbers,
    onsets,
    picture_of,
    planes,
    samples,
    seam,
    sound_of,
    tone,
)

from stages import Clip, Encoding, concat, fit, loop, open_clip, render, strip_audio, trim, upscale
from stages.clip import samples_for
from stages.ffmpeg import run_command, sound_command

FIXTURES = Path(__file__).parents[2] / "fixtures"
EXACT = Encoding(preset="ultrafast", crf=0, profile="", gop=Fraction(1), b_frames=0)


def rendered(clip: Clip, target: Path) -> Path:
    render(clip, target, EXACT)
    return target


def heard(clip: Clip, folder: Path) -> Samples:
    """Its sound before it is encoded: every sample in its place."""
    run_command(sound_command(sound_of(clip).stream, "heard.wav", acodec="pcm_f32le"), folder)
    return samples(folder / "heard.wav")


# ---------------------------------------------------------------- loops


@pytest.fixture(scope="module")
def meadow(media: Path) -> Clip:
    """2.5 s of a real film with a real sound, small."""
    source = film(
        media / "meadow.mov", "-i", str(FIXTURES / "bunny.mp4"), "-t", "2.5", *("-vf", f"scale=320:180,{TAGS}")
    )
    return open_clip(source)


def test_the_end_of_a_loop_is_followed_by_its_beginning(meadow: Clip, tmp_path: Path) -> None:
    """As smoothly as any frame in the fade by the next one; before, it jumped."""
    before = seam(rendered(trim(meadow, length="2s"), tmp_path / "before.mp4"))
    after = seam(rendered(loop(meadow, overlap="0.5s"), tmp_path / "after.mp4"))
    assert before.jump > 8 * before.usual_jump
    assert after.jump < 2.5 * after.usual_jump
    assert after.step < 6 * after.usual_step


def test_a_loop_shows_its_middle_untouched_and_then_the_fade(tmp_path: Path) -> None:
    made = loop(open_clip(counted(tmp_path / "counted.mp4")), overlap="12f")  # 48 frames
    shown = [float(np.median(frame) - 32) / 2 for frame in luma(rendered(made, tmp_path / "out.mp4"))]
    assert shown[:24] == list(range(12, 36))
    fade = [(36 + i) * (1 - i / 12) + i * (i / 12) for i in range(12)]
    assert shown[24:] == pytest.approx(fade, abs=0.6)


def test_the_level_holds_where_the_sound_of_a_loop_fades(media: Path, tmp_path: Path) -> None:
    """Wind that is never the same: a linear fade would lose 3 dB in its middle."""
    wind = film(
        media / "wind.wav", "-f", "lavfi", "-i", "anoisesrc=color=pink:seed=1:r=48000:d=6,pan=stereo|c0=c0|c1=c0"
    )
    sound = heard(loop(open_clip(wind), overlap="1s"), tmp_path)
    assert sound.shape[1] == 5 * 48_000
    loud = [20 * np.log10(np.sqrt(np.mean(sound[0, at : at + 9600] ** 2))) for at in range(0, 240_000, 9600)]
    assert max(loud[20:]) - min(loud[20:]) < 2
    assert np.mean(loud[20:]) == pytest.approx(np.mean(loud[:20]), abs=1)


def test_a_sound_goes_round_without_a_step(tmp_path: Path) -> None:
    """300 Hz for a whole number of its waves: the looped samples are the tone itself, played on."""
    hum = film(
        tmp_path / "hum.wav", "-f", "lavfi", "-i", "aevalsrc='0.3*sin(2*PI*300*t)|0.3*sin(2*PI*300*t)':s=48000:d=3"
    )
    (left, _) = heard(loop(open_clip(hum), overlap="0.1s"), tmp_path)
    twice = np.concatenate([left, left])
    steps = np.abs(np.diff(twice))
    assert steps[len(left) - 5 : len(left) + 5].max() <= steps[: len(left) // 2].max() * 1.01


# ---------------------------------------------------------------- joins


def test_clips_follow_each_other_frame_by_frame(tmp_path: Path) -> None:
    clip = open_clip(counted(tmp_path / "counted.mp4"))
    parts = [trim(clip, start="30f", length="9f"), trim(clip, length="1f"), clip, trim(clip, start="47f")]
    made = rendered(concat(tuple(parts)), tmp_path / "out.mp4")
    assert numbers(made) == [*range(30, 39), 0, *range(48), 47]


def test_a_crossfade_blends_frame_by_frame(tmp_path: Path) -> None:
    clip = open_clip(counted(tmp_path / "counted.mp4"))
    made = concat((trim(clip, length="12f"), trim(clip, start="40f")), crossfade="4f")
    shown = [float(np.median(frame) - 32) / 2 for frame in luma(rendered(made, tmp_path / "out.mp4"))]
    blended = [(8 + i) * (1 - i / 4) + (40 + i) * (i / 4) for i in range(4)]
    assert shown == pytest.approx([*range(8), *blended, *range(44, 48)], abs=0.6)


def test_a_clip_of_another_kind_is_brought_into_the_first_ones_frame(tmp_path: Path) -> None:
    """Upright, at another rate, in BT.601, with non-square pixels: red stays red and fills the frame."""
    red = "color=0xff0000:s={}:r={}:d=0.5,scale=out_color_matrix={}:out_range=tv,format=yuv420p,{}"
    first = red.format("160x90", 24, "bt709", TAGS)
    other = red.format("90x160", 30, "bt601", "setsar=4/3,setparams=range=tv:colorspace=smpte170m")
    clips = [
        open_clip(film(tmp_path / f"{number}.mp4", "-f", "lavfi", "-i", source, *LOSSLESS))
        for number, source in enumerate((first, other))
    ]
    made = concat(tuple(clips))
    frames = planes(rendered(made, tmp_path / "out.mp4"))
    assert len(frames) == 24
    for frame in (frames[0], frames[12], frames[23]):
        for left, top in ((0.02, 0.02), (0.5, 0.5), (0.98, 0.98)):
            assert colour(frame, left, top) == pytest.approx((255, 0, 0), abs=5)


def test_flash_and_click_stay_together_however_many_are_joined(flashes: Path, tmp_path: Path) -> None:
    """At 29.97 frames a second no clip is a whole number of samples long: added up one by one, they would drift."""
    slow = film(
        tmp_path / "slow.mov",
        *(
            "-i",
            str(flashes),
            "-vf",
            f"fps=30,settb=1001/30000,setpts=N,{TAGS}",
            "-af",
            "asetrate=48000,aresample=48000",
        ),
        *(*LOSSLESS, "-r", "30000/1001", "-c:a", "pcm_s16le"),
    )
    clip = trim(open_clip(slow), length="31f")  # one flash, one click
    many = concat((clip,) * 40)
    made = rendered(many, tmp_path / "out.mp4")
    assert (picture_of(made).frames, sound_of(made).samples) == (1240, samples_for(1240, Fraction(30000, 1001)))
    bright = [index for index, frame in enumerate(luma(made)) if frame.mean() > 150]
    flashed = [index for before, index in pairwise([-9, *bright]) if index - before > 1]
    clicked = onsets(samples(made)[0])
    assert len(flashed) == len(clicked) == 40
    apart = np.array(clicked) - np.array(flashed) * 1001 / 30000
    assert np.ptp(apart) < 2 / 48_000 + 1e-9


def test_a_clip_without_a_sound_is_silent_and_the_next_starts_on_time(shot: Path, tmp_path: Path) -> None:
    clip = open_clip(shot)
    made = rendered(concat((strip_audio(clip), clip, strip_audio(clip), clip)), tmp_path / "out.mp4")
    left = samples(made)[0]
    for begin, loud in ((0, False), (3, True), (6, False), (9, True)):
        found = tone(left, 300, begin + 0.05, begin + 2.95)
        assert found == pytest.approx(-20, abs=0.1) if loud else found < -80


def test_a_hard_join_does_not_click(tmp_path: Path) -> None:
    """A wave that is cut at its crest."""
    crest = film(
        tmp_path / "crest.wav", "-f", "lavfi", "-i", "aevalsrc='0.5*cos(2*PI*50*t)|0.5*cos(2*PI*50*t)':s=48000:d=0.5"
    )
    trough = film(
        tmp_path / "trough.wav", "-f", "lavfi", "-i", "aevalsrc='-0.5*cos(2*PI*50*t)|-0.5*cos(2*PI*50*t)':s=48000:d=0.5"
    )
    (left, _) = heard(concat((open_clip(crest), open_clip(trough))), tmp_path)
    assert len(left) == 48_000
    assert np.abs(np.diff(left)).max() < 0.02


# ---------------------------------------------------------------- whatever they are

KINDS: dict[str, tuple[str, str, float | None]] = {
    "24.mp4": ("24", "160x90", 1.5),
    "25.mkv": ("25", "64x96", None),
    "film.mkv": ("24000/1001", "160x90", 0.6),
    "tv.mov": ("30000/1001", "96x64", 2.5),
    "60.mp4": ("60", "90x160", 1.5),
}
"""Rate, size, and seconds of sound. Matroska's clock counts milliseconds."""


@pytest.fixture(scope="module")
def kinds(media: Path) -> dict[str, Clip]:
    """1.5 s each."""
    made: dict[str, Clip] = {}
    for name, (rate, size, sound) in KINDS.items():
        heard = ("-f", "lavfi", "-i", f"sine=f=300:r=44100:d={sound}", "-c:a", "aac") if sound else ()
        picture = ("-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}:d=1.5,format=yuv420p,{TAGS}")
        made[name] = open_clip(
            film(media / f"kind-{name}", *picture, *heard, "-c:v", "libx264", "-preset", "ultrafast")
        )
    return made


SLOW = settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@st.composite
def cuttings(draw: st.DrawFn, least: int = 4) -> tuple[str, int, int]:
    """A kind, and which of its frames."""
    name = draw(st.sampled_from(list(KINDS)))
    whole = round(Fraction(3, 2) * Fraction(KINDS[name][0]))
    first = draw(st.integers(0, whole - least))
    return name, first, draw(st.integers(least, whole - first))


def cut(kinds: dict[str, Clip], one: tuple[str, int, int]) -> Clip:
    name, first, length = one
    return trim(kinds[name], start=f"{first}f", length=f"{length}f")


def check_exact(clip: Clip, folder: Path) -> None:
    """Frames and samples of what is rendered, not of what was described; `render` holds the rest against it."""
    made = rendered(clip, folder / "out.mp4")
    assert len(luma(made)) == picture_of(clip).frames
    if clip.sound:
        assert heard(clip, folder).shape[1] == samples_for(picture_of(clip).frames, picture_of(clip).rate)


@SLOW
@given(st.lists(cuttings(least=12), min_size=2, max_size=4), st.sampled_from([0, 2, 3, 4]), st.booleans())
def test_joins_of_any_clips_have_exactly_the_promised_frames_and_samples(
    tmp_path: Path, kinds: dict[str, Clip], parts: list[tuple[str, int, int]], fade: int, larger: bool
) -> None:
    clips = [cut(kinds, one) for one in parts]
    rate = picture_of(clips[0]).rate
    paced = [round(picture_of(clip).frames * rate / picture_of(clip).rate) for clip in clips]
    if min(paced) < 2 * fade:
        fade = 0
    made = concat(tuple(clips), crossfade=f"{fade}f")
    made = upscale(made, size="2x") if larger else made
    assert picture_of(made).frames == sum(paced) - fade * (len(clips) - 1)
    check_exact(made, tmp_path)


@SLOW
@given(cuttings(), st.data())
def test_loops_of_any_clip_have_exactly_the_promised_frames_and_samples(
    tmp_path: Path, kinds: dict[str, Clip], part: tuple[str, int, int], data: st.DataObject
) -> None:
    clip, length = cut(kinds, part), part[2]
    overlap = data.draw(st.integers(2, length // 2))
    made = fit(loop(clip, overlap=f"{overlap}f"), size="64x64")
    assert picture_of(made).frames == length - overlap
    check_exact(made, tmp_path)


def test_a_join_of_joins_and_loops_is_exact_too(kinds: dict[str, Clip], tmp_path: Path) -> None:
    inner = concat((kinds["tv.mov"], kinds["25.mkv"]), crossfade="0.2s")
    made = concat((loop(inner, overlap="0.3s"), loop(kinds["film.mkv"]), inner), mode="contain")
    check_exact(made, tmp_path)
