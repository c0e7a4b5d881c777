"""Real renders of tiny films, watched and listened to: what a viewer would notice, and nothing of how it was done."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from lab import (
    LOSSLESS,
    TAGS,
    Pixels,
    Rgb,
    colour,
    counted,
    film,
    luma,
    numbers,
    onsets,
    picture_of,
    planes,
    samples,
    sound_of,
    times,
    tone,
)
from PIL import Image

import presets
from stages import (
    Clip,
    Cue,
    Encoding,
    InputError,
    Size,
    conform,
    deliver,
    fit,
    level,
    measure,
    mix_audio,
    open_clip,
    render,
    replace_audio,
    strip_audio,
    trim,
    upscale,
)
from stages.clip import Captions, seconds
from stages.delivery import FILM, Cut, Shot, make_films
from stages.encoding import encoding_of
from stages.ffmpeg import run_command, sound_command
from stages.files import fresh_folder
from stages.media import mp4_layout, probe
from stages.mixing import SOUND, Track, enveloped, make_sound
from stages.provenance import read_credentials, signer_for

NO_EDIT_LISTS = Encoding(edit_lists=False)
EXACT = Encoding(preset="ultrafast", crf=0, profile="", gop=Fraction(1), b_frames=0)
"""Bit-exact, so that a pixel that changed was changed by us."""


def rendered(clip: Clip, target: Path, encoding: Encoding = EXACT) -> Path:
    render(clip, target, encoding)
    assert not [other for other in target.parent.iterdir() if other.name.startswith(".")], "part files are left"
    return target


# ---------------------------------------------------------------- which frames

RATES = ["24", "25", "30", "24000/1001", "30000/1001", "60"]


@pytest.mark.parametrize("rate", RATES)
def test_a_cut_has_exactly_the_frames_asked_for(rate: str, tmp_path: Path) -> None:
    clip = open_clip(counted(tmp_path / "counted.mp4", rate=rate, seconds=1.5))
    assert picture_of(clip).rate == Fraction(rate)
    made = rendered(trim(clip, start="7f", length="20f"), tmp_path / "out.mp4")
    assert numbers(made) == list(range(7, 27))
    assert picture_of(made).rate == Fraction(rate)
    assert times(made) == pytest.approx([float(n / Fraction(rate)) for n in range(20)], abs=1e-3)


@pytest.mark.parametrize(
    "encoder", [["-bf", "3", "-g", "30"], ["-bf", "0"], ["-bf", "2", "-x264-params", "open-gop=1:keyint=8"]]
)
def test_frames_are_counted_as_they_are_shown_and_not_as_they_are_stored(encoder: list[str], tmp_path: Path) -> None:
    source = counted(tmp_path / "counted.mp4", "-c:v", "libx264", "-crf", "4", *encoder)
    made = rendered(trim(open_clip(source), start="11f", length="9f"), tmp_path / "out.mp4")
    assert numbers(made) == list(range(11, 20))


def test_a_cut_of_a_cut_and_a_cut_for_delivery(tmp_path: Path) -> None:
    clip = open_clip(counted(tmp_path / "counted.mp4"))
    twice = trim(trim(clip, start="10f", length="30f"), start="5f", end="25f")
    assert numbers(rendered(twice, tmp_path / "out.mp4", Encoding(crf=4))) == list(range(15, 35))


def test_a_film_brought_to_another_rate_keeps_its_length_and_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fast = counted(tmp_path / "fast.mp4", rate="120", seconds=0.75, filters=",scale=64:64")
    made = deliver(open_clip(fast), "web", tmp_path / "out.mp4")
    assert (made.frames, int(made.rate)) == (45, 60)
    assert numbers(made.file) == pytest.approx(list(range(0, 90, 2)), abs=1)


def test_a_clock_coarser_than_the_frames_miscounts_none(tmp_path: Path) -> None:
    """Matroska counts milliseconds."""
    source = counted(tmp_path / "counted.mkv", rate="24000/1001")
    clip = open_clip(source)
    assert (picture_of(clip).rate, picture_of(clip).frames) == (Fraction(24000, 1001), 48)
    assert numbers(rendered(trim(clip, start="4f", end="40f"), tmp_path / "out.mp4")) == list(range(4, 40))


def variable(target: Path) -> Path:
    """A film at 24 frames a second in its first second and at 12 in its second: every other frame is gone."""
    return counted(target, *LOSSLESS, "-fps_mode", "vfr", filters=",select='lt(n,24)+not(mod(n,2))'")


def test_a_variable_rate_is_made_constant_before_anything_is_counted(tmp_path: Path) -> None:
    clip = open_clip(variable(tmp_path / "variable.mp4"))
    assert (picture_of(clip).frames, int(picture_of(clip).rate)) == (47, 24)  # the 48th is one of those gone
    made = rendered(trim(clip, start="20f", length="10f"), tmp_path / "out.mp4")
    assert numbers(made) == [20, 21, 22, 23, 24, 24, 26, 26, 28, 28]
    assert len(luma(rendered(clip, tmp_path / "whole.mp4"))) == 47


# ---------------------------------------------------------------- what is beside the picture


def test_a_film_without_sound_stays_without(tmp_path: Path) -> None:
    clip = trim(open_clip(counted(tmp_path / "counted.mp4")), length="1s")
    picture, sound = probe(rendered(clip, tmp_path / "out.mp4"))
    assert picture
    assert sound is None


@pytest.mark.parametrize("length", [0.7, 1.0, 2.9])
def test_the_sound_is_as_long_as_the_picture_whatever_it_was(length: float, tmp_path: Path) -> None:
    source = counted(
        tmp_path / "counted.mp4",
        *("-f", "lavfi", "-i", f"sine=f=300:r=48000:d={length}", *LOSSLESS, "-c:a", "aac"),
    )
    clip = open_clip(source)
    for made, wanted in (
        (rendered(clip, tmp_path / "copied.mp4"), 2),
        (rendered(trim(clip, start="0.25s", length="1s"), tmp_path / "cut.mp4"), 1),
        (rendered(trim(clip, start="1.5s"), tmp_path / "late.mp4"), 0.5),
    ):
        assert sound_of(made).samples == 48_000 * wanted
        assert picture_of(made).frames == 24 * wanted
    left = samples(tmp_path / "copied.mp4")[0]
    assert (abs(left[round(48_000 * min(length, 2)) + 2000 :]) < 1e-3).all()


def test_taking_the_sound_away_copies_the_picture(shot: Path, tmp_path: Path) -> None:
    made = rendered(strip_audio(open_clip(shot)), tmp_path / "out.mp4", Encoding())
    assert probe(made)[1] is None
    assert all(np.array_equal(one, other) for one, other in zip(luma(made), luma(shot), strict=True))
    assert times(made) == times(shot)


def test_new_sound_leaves_the_picture_as_it_is(shot: Path, voice: Path, tmp_path: Path) -> None:
    made = rendered(replace_audio(open_clip(shot), sound=open_clip(voice), at="1s"), tmp_path / "out.mp4", Encoding())
    assert all(np.array_equal(one, other) for one, other in zip(luma(made), luma(shot), strict=True))
    left = samples(made)[0]
    assert tone(left, 1000, 1.2, 1.4) == pytest.approx(-10.5, abs=0.3)
    assert tone(left, 300, 0.2, 0.8) < -80


@pytest.mark.parametrize(
    ("layout", "rate", "wanted"),
    [
        ("mono", 44_100, {440: (-20, -20)}),
        ("mono", 24_000, {440: (-20, -20)}),
        ("stereo", 44_100, {440: (-20, None), 660: (None, -20)}),
        ("stereo", 96_000, {440: (-20, None), 660: (None, -20)}),
    ],
)
def test_a_source_is_heard_as_loud_as_it_is(
    layout: str, rate: int, wanted: dict[int, tuple[float | None, ...]], tmp_path: Path
) -> None:
    tones = "|".join(f"0.1*sin(2*PI*{hertz}*t)" for hertz in wanted)
    source = counted(
        tmp_path / "counted.mov",
        *("-f", "lavfi", "-i", f"aevalsrc='{tones}':s={rate}:c={layout}:d=2", *LOSSLESS, "-c:a", "pcm_s16le"),
    )
    heard = samples(rendered(open_clip(source), tmp_path / "out.mp4"))
    assert heard.shape[0] == 2
    for hertz, levels in wanted.items():
        for channel, loud in zip(heard, levels, strict=True):
            found = tone(channel, hertz, 0.5, 1.5)
            assert found == pytest.approx(loud, abs=0.1) if loud is not None else found < -70


def test_all_of_a_surround_sound_is_heard(tmp_path: Path) -> None:
    tones = "|".join(f"0.1*sin(2*PI*{hertz}*t)" for hertz in (300, 500, 700, 0, 900, 1100))  # FL FR FC LFE BL BR
    source = counted(
        tmp_path / "counted.mov",
        *("-f", "lavfi", "-i", f"aevalsrc='{tones}':s=48000:c=5.1:d=2", *LOSSLESS, "-c:a", "pcm_s16le"),
    )
    left, right = samples(rendered(open_clip(source), tmp_path / "out.mp4"))
    loud = {hertz: (tone(left, hertz, 0.5, 1.5), tone(right, hertz, 0.5, 1.5)) for hertz in (300, 500, 700, 900, 1100)}
    assert loud[700][0] == pytest.approx(loud[700][1], abs=0.1)
    assert loud[300][0] == pytest.approx(-20, abs=0.1)
    assert loud[500][1] == pytest.approx(-20, abs=0.1)
    assert loud[300][0] - loud[700][0] == pytest.approx(3, abs=0.1)
    assert loud[300][0] - loud[900][0] == pytest.approx(3, abs=0.1)
    assert loud[300][1] < -60


# ---------------------------------------------------------------- the shape of the picture


def corners(file: Path, frame: int = 0) -> list[int]:
    """Luma in the middle of each quarter: top left, top right, bottom left, bottom right."""
    y = luma(file)[frame]
    return [int(y[int(y.shape[0] * top), int(y.shape[1] * left)]) for top in (0.25, 0.75) for left in (0.25, 0.75)]


QUARTERS = "geq=lum='40+40*gt(X,W/2-1)+80*gt(Y,H/2-1)':cb=128:cr=128"  # 40 80 / 120 160


def quarters(target: Path, size: str, *arguments: str, filters: str = "") -> Path:
    source = f"color=s={size}:r=24:d=0.5,format=yuv420p,{QUARTERS},{TAGS}{filters}"
    return film(target, "-f", "lavfi", "-i", source, *LOSSLESS, *arguments)


@pytest.mark.parametrize(
    ("turn", "wanted"),
    [(90, [80, 160, 40, 120]), (180, [160, 120, 80, 40]), (270, [120, 40, 160, 80])],
)
def test_a_phones_film_stands_upright(turn: int, wanted: list[int], tmp_path: Path) -> None:
    stored = quarters(tmp_path / "stored.mp4", "160x90")
    turned = film(tmp_path / "turned.mp4", "-display_rotation:v:0", str(turn), "-i", str(stored), "-c", "copy")
    clip = open_clip(turned)
    size = Size(160, 90) if turn == 180 else Size(90, 160)
    assert picture_of(clip).size == size
    made = rendered(clip, tmp_path / "out.mp4")
    assert picture_of(made).size == size
    assert corners(made) == pytest.approx(wanted, abs=2)
    facts = probe(made)[0]
    assert facts
    assert facts.rotation == 0
    cropped = rendered(fit(clip, size="48x80"), tmp_path / "cropped.mp4")
    assert corners(cropped) == pytest.approx(wanted, abs=2)


def test_pixels_that_are_not_square_become_square(tmp_path: Path) -> None:
    """PAL widescreen: 4:3 pixels; what is a circle must stay one."""
    circle = "geq=lum='if(lt(hypot((X-W/2)*4/3,Y-H/2),30),200,40)':cb=128:cr=128"
    source = film(
        tmp_path / "wide.mp4",
        *("-f", "lavfi", "-i", f"color=s=120x90:r=24:d=0.5,format=yuv420p,{circle},setsar=4/3,{TAGS}", *LOSSLESS),
    )
    clip = open_clip(source)
    assert picture_of(clip).size == Size(160, 90)
    for target in (rendered(clip, tmp_path / "o.mp4"), rendered(upscale(clip, size="2x"), tmp_path / "large.mp4")):
        lit = luma(target)[0] > 120
        assert lit.any(axis=0).sum() == pytest.approx(lit.any(axis=1).sum(), rel=0.05)
        facts = probe(target)[0]
        assert facts
        assert facts.sample_aspect == 1


@pytest.mark.parametrize("size", ["161x91", "163x93", "162x91", "163x90"])
def test_odd_sizes_lose_a_line_at_most(size: str, tmp_path: Path) -> None:
    source = film(
        tmp_path / "odd.mp4",
        *("-f", "lavfi", "-i", f"color=s={size}:r=24:d=0.5,format=yuv444p,{QUARTERS},{TAGS}"),
        *(*LOSSLESS, "-pix_fmt", "yuv444p"),
    )
    clip = open_clip(source)
    width, height = (int(side) // 2 * 2 for side in size.split("x"))
    for made, wanted in (
        (rendered(clip, tmp_path / "out.mp4"), Size(width, height)),
        (rendered(upscale(clip, size="2x"), tmp_path / "large.mp4"), Size(2 * width, 2 * height)),
        (rendered(fit(clip, size="90x160"), tmp_path / "cover.mp4"), Size(90, 160)),
        (rendered(fit(clip, size="90x160", mode="contain"), tmp_path / "contain.mp4"), Size(90, 160)),
        (rendered(fit(clip, size="90x160", mode="stretch"), tmp_path / "stretch.mp4"), Size(90, 160)),
    ):
        assert picture_of(made).size == wanted


def test_an_odd_film_can_be_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = quarters(tmp_path / "odd.mp4", "163x91", "-pix_fmt", "yuv444p", filters=",format=yuv444p")
    assert deliver(open_clip(source), "web", tmp_path / "web.mp4").size == Size(162, 90)


def test_the_four_ways_to_fit(tmp_path: Path) -> None:
    source = quarters(tmp_path / "wide.mp4", "160x80")

    def shown(**asked: str) -> Pixels:
        return luma(rendered(fit(open_clip(source), size="80x80", **asked), tmp_path / "out.mp4"))[0]  # type: ignore[arg-type]  # words of the Literal

    assert [shown(focus="0x0.5")[20, x] for x in (10, 70)] == [40, 40]
    assert [shown(focus="1x0.5")[60, x] for x in (10, 70)] == [160, 160]
    assert [shown(mode="stretch")[20, x] for x in (10, 70)] == [40, 80]
    contained, blurred = shown(mode="contain"), shown(mode="blur")
    assert [contained[y, 10] for y in (5, 30, 50, 75)] == [16, 40, 120, 16]
    assert [blurred[y, 10] for y in (30, 50)] == [40, 120]
    assert 30 < blurred[5, 10] < blurred[5, 70]


def test_a_fit_after_a_fit_shows_what_both_ask_for(tmp_path: Path) -> None:
    clip = open_clip(quarters(tmp_path / "wide.mp4", "160x80"))
    barred = fit(fit(clip, size="80x80", mode="contain"), size="160x80", mode="contain")
    y = luma(rendered(barred, tmp_path / "out.mp4"))[0]
    assert [y[40, 20], y[5, 80], y[30, 60], y[50, 100]] == [16, 16, 40, 160]
    blurred = fit(fit(clip, size="80x80", mode="blur"), size="160x80", mode="contain")
    y = luma(rendered(blurred, tmp_path / "out.mp4"))[0]
    assert [y[40, 20], y[30, 60]] == [16, 40]
    assert y[5, 60] > 30
    cropped = fit(fit(clip, size="80x80", focus="1x0.5"), size="80x160", focus="0.5x0.5")
    y = luma(rendered(cropped, tmp_path / "out.mp4"))[0]
    assert [y[40, 20], y[120, 60]] == [80, 160]


# ---------------------------------------------------------------- colour

RED: Rgb = (200, 30, 40)
SOURCES: dict[str, tuple[str, str]] = {  # how the patch is stored, and as what it is tagged
    "bt709": ("scale=out_color_matrix=bt709:out_range=tv,format=yuv420p", TAGS),
    "bt601 tagged": (
        "scale=out_color_matrix=smpte170m:out_range=tv,format=yuv420p",
        "setparams=range=tv:colorspace=smpte170m:color_primaries=smpte170m:color_trc=smpte170m",
    ),
    "pal tagged": (
        "scale=out_color_matrix=bt470bg:out_range=tv,format=yuv420p",
        "setparams=range=tv:colorspace=bt470bg:color_primaries=bt470bg:color_trc=bt709",
    ),
    "bt709 full range": (
        "scale=out_color_matrix=bt709:out_range=pc,format=yuv420p",
        "setparams=range=pc:colorspace=bt709:color_primaries=bt709:color_trc=bt709",
    ),
    "bt601 full range": (
        "scale=out_color_matrix=smpte170m:out_range=pc,format=yuvj420p",
        "setparams=range=pc:colorspace=smpte170m:color_primaries=bt709:color_trc=bt709",
    ),
    "untagged": (
        "scale=out_color_matrix=smpte170m:out_range=tv,format=yuv420p",
        "setparams=range=unknown:colorspace=unknown:color_primaries=unknown:color_trc=unknown",
    ),
    "rgb": ("format=gbrp", "null"),
    "10 bits": ("scale=out_color_matrix=bt709:out_range=tv,format=yuv420p10le", TAGS),
    "4:4:4": ("scale=out_color_matrix=bt709:out_range=tv,format=yuv444p", TAGS),
}


def patch(target: Path, store: str, tags: str, size: str = "160x90") -> Path:
    """A red patch in the middle of grey."""
    red = "drawbox=x=iw/4:y=ih/4:w=iw/2:h=ih/2:color=0xC81E28:t=fill"
    # RGB again after the box, which 5.1 draws in BT.601 without saying so.
    source = f"color=0x808080:s={size}:r=24:d=0.5,format=gbrp,{red},format=gbrp,{store},{tags}"
    codec = ("-c:v", "libx264rgb", "-crf", "0") if store == "format=gbrp" else ("-c:v", "libx264", "-qp", "1")
    return film(target, "-f", "lavfi", "-i", source, *codec)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("edit", ["trim", "upscale"])
def test_red_stays_red(kind: str, edit: str, tmp_path: Path) -> None:
    clip = open_clip(patch(tmp_path / "patch.mp4", *SOURCES[kind]))
    clip = trim(clip, length="6f") if edit == "trim" else upscale(clip, size="2x")
    check_red(rendered(clip, tmp_path / "out.mp4", Encoding(crf=2, preset="medium")))


def test_an_untagged_film_of_720_lines_is_taken_for_what_players_take_it(tmp_path: Path) -> None:
    untagged = SOURCES["untagged"][1]
    source = patch(tmp_path / "patch.mp4", SOURCES["bt709"][0], untagged, size="1280x720")
    check_red(rendered(trim(open_clip(source), length="2f"), tmp_path / "out.mp4", Encoding(crf=8)))


def check_red(made: Path) -> None:
    first = planes(made)[0]
    assert colour(first, 0.5, 0.5) == pytest.approx(RED, abs=3)
    assert colour(first, 0.1, 0.1) == pytest.approx((128, 128, 128), abs=3)
    facts = probe(made)[0]
    assert facts
    tags = facts.colour
    assert (tags.matrix, tags.primaries, tags.transfer, tags.range) == ("bt709", "bt709", "bt709", "tv")


# ---------------------------------------------------------------- the mix


def test_a_sound_is_laid_at_its_exact_sample(tmp_path: Path, shot: Path) -> None:
    click = film(tmp_path / "click.wav", "-f", "lavfi", "-i", "aevalsrc='0.5*eq(n,100)':s=48000:d=0.1")
    clip = replace_audio(open_clip(shot), sound=open_clip(click), at="1234.5ms")
    run_command(sound_command(sound_of(clip).stream, "mix.wav", acodec="pcm_f32le"), tmp_path)
    mix = samples(tmp_path / "mix.wav")
    assert mix.shape == (2, 144_000)
    assert [list(np.flatnonzero(channel)) for channel in mix] == [[59_256 + 100]] * 2
    assert mix.max() == pytest.approx(0.5, abs=1e-4)


def test_a_mix_changes_neither_of_its_parts(shot: Path, voice: Path, tmp_path: Path) -> None:
    made = rendered(mix_audio(open_clip(shot), sound=open_clip(voice), at="1s", gain="-6 dB"), tmp_path / "out.mp4")
    left = samples(made)[0]
    for begin in (0.2, 1.2, 2.6):
        assert tone(left, 300, begin, begin + 0.25) == pytest.approx(-20, abs=0.2)
    assert tone(left, 1000, 1.2, 1.4) == pytest.approx(-10.5 - 6, abs=0.2)


@pytest.mark.parametrize("bed", [0.4, 2.0, 5.0])
@pytest.mark.parametrize("duck", ["0 dB", "10 dB"])
def test_a_mix_is_heard_to_its_end_whichever_part_ends_first(
    bed: float, duck: str, voice: Path, tmp_path: Path
) -> None:
    """A bed shorter than the picture, and one longer, under a voice that ends with it."""
    source = counted(
        tmp_path / "counted.mov",
        *("-f", "lavfi", "-i", f"aevalsrc='0.1*sin(2*PI*300*t)|0.1*sin(2*PI*300*t)':s=48000:d={bed}"),
        *(*LOSSLESS, "-c:a", "pcm_s16le"),
    )
    clip = mix_audio(open_clip(source), sound=open_clip(voice), at="0.5s", duck=duck)
    with fresh_folder(tmp_path) as work:
        run_command(sound_command(enveloped(sound_of(clip).stream, work), "../mix.wav", acodec="pcm_f32le"), work)
    left = samples(tmp_path / "mix.wav")[0]
    assert len(left) == 96_000
    assert tone(left, 1000, 1.5, 1.85) == pytest.approx(-10.5, abs=0.3)
    assert tone(left, 300, 0.05, min(bed, 0.4)) == pytest.approx(-20, abs=0.5)


@pytest.mark.parametrize("depth", [6, 10, 24])
def test_the_scene_is_lowered_under_the_voice_and_nowhere_else(
    depth: int, shot: Path, voice: Path, tmp_path: Path
) -> None:
    clip = mix_audio(
        open_clip(shot), sound=open_clip(voice), at="1s", duck=f"{depth} dB", attack="100ms", release="100ms"
    )
    left = samples(rendered(clip, tmp_path / "out.mp4"))[0]
    for begin, end in ((1.15, 1.45), (1.95, 2.35)):  # the two bursts
        assert tone(left, 300, begin, end) == pytest.approx(-20 - depth, abs=1)
    for begin, end in ((0.1, 0.85), (1.62, 1.78), (2.62, 2.95)):  # before, between and after them
        assert tone(left, 300, begin, end) == pytest.approx(-20, abs=0.2)
    assert tone(left, 1000, 1.2, 1.4) == pytest.approx(-10.5, abs=0.2)


@pytest.mark.parametrize("target", [-14, -23])
@pytest.mark.parametrize("encoding", [EXACT, NO_EDIT_LISTS], ids=["edit lists", "no edit lists"])
def test_a_levelled_sound_reaches_its_loudness(
    target: int, encoding: Encoding, shot: Path, voice: Path, tmp_path: Path
) -> None:
    clip = level(mix_audio(open_clip(shot), sound=open_clip(voice), at="1s"), loudness=target)
    found = measure(sound_of(rendered(clip, tmp_path / "out.mp4", encoding)))
    assert found.loudness == pytest.approx(target, abs=0.2)
    assert found.true_peak <= -1


PEAKY = "0.05*sin(2*PI*300*t)+{peak}*sin(2*PI*2000*t)*lt(mod(t,0.5),{long})"


@pytest.mark.parametrize(
    ("peak", "long", "target"), [(0.4, 0.02, -14), (0.4, 0.05, -8), (0.9, 0.003, -14), (0.9, 0.003, -23)]
)
def test_peaks_stay_under_their_ceiling_and_what_is_missing_is_reported(
    peak: float, long: float, target: float, tmp_path: Path
) -> None:
    sound = PEAKY.format(peak=peak, long=long)
    file = film(tmp_path / "peaky.wav", "-f", "lavfi", "-i", f"aevalsrc='{sound}':s=48000:d=3")
    report = make_sound(Track(sound_of(level(open_clip(file), loudness=target)), 144_000), folder=tmp_path)
    found = measure(sound_of(tmp_path / SOUND))
    assert found.loudness == pytest.approx(report.after.loudness, abs=0.1)
    assert found.true_peak == pytest.approx(report.after.true_peak, abs=0.1)
    assert found.true_peak <= -1
    assert found.loudness == pytest.approx(target, abs=0.2) or (report.remark and found.loudness < target)
    assert found.loudness > min(target, report.before.loudness) - 0.2


def test_silence_is_left_alone(tmp_path: Path) -> None:
    source = counted(
        tmp_path / "counted.mp4",
        *("-f", "lavfi", "-i", "anullsrc=r=48000:cl=stereo:d=2", *LOSSLESS, "-c:a", "aac"),
    )
    made = rendered(level(open_clip(source)), tmp_path / "out.mp4")
    assert abs(samples(made)).max() < 1e-4


def test_a_sound_too_short_to_be_measured_is_left_alone(tmp_path: Path, shot: Path) -> None:
    clip = level(trim(open_clip(shot), length="6f"))
    left = samples(rendered(clip, tmp_path / "out.mp4"))[0]
    assert tone(left, 300, 0.05, 0.2) == pytest.approx(-20, abs=0.5)


# ---------------------------------------------------------------- sync


def watched(file: Path) -> tuple[list[float], list[float]]:
    """When it flashes, and when it clicks."""
    flash = [at for at, y in zip(times(file), luma(file), strict=True) if y.mean() > 128]
    return flash, onsets(samples(file)[0])


EDITS: dict[str, Callable[[Clip], Clip]] = {
    "copied": lambda clip: clip,
    "cut": lambda clip: trim(clip, start="0.25s"),
    "cut before the flash": lambda clip: trim(clip, start="11f"),
    "scaled and levelled": lambda clip: level(upscale(clip, size="2x"), loudness=-20),
    "mixed": lambda clip: mix_audio(clip, sound=trim(replace(clip, picture=None), length="0.1s"), duck="10 dB"),
}


@pytest.mark.parametrize("encoding", [Encoding(), NO_EDIT_LISTS], ids=["edit lists", "no edit lists"])
@pytest.mark.parametrize("edit", EDITS)
def test_a_flash_and_its_click_are_at_the_same_instant(
    edit: str, encoding: Encoding, flashes: Path, tmp_path: Path
) -> None:
    clip = EDITS[edit](open_clip(flashes))
    made = rendered(clip, tmp_path / "out.mp4", encoding)
    flash, click = watched(made)
    begin = 3 - float(clip.duration)
    assert flash == pytest.approx([at - begin for at in (0.5, 1.5, 2.5)], abs=1e-3)
    assert click == pytest.approx(flash, abs=1e-3)
    layout = mp4_layout(made)
    assert layout.moov_first
    assert layout.edit_lists == encoding.edit_lists


STARTS = {  # options of the second input, and how much later than the picture the sound starts
    "late sound": (["-itsoffset", "0.25"], []),
    "late picture": ([], ["-itsoffset", "0.25"]),
}


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "mov"])
@pytest.mark.parametrize("late", STARTS)
def test_streams_that_start_apart_stay_as_far_apart(late: str, suffix: str, flashes: Path, tmp_path: Path) -> None:
    sound, picture = STARTS[late]
    source = film(
        tmp_path / f"late.{suffix}",
        *(*picture, "-i", str(flashes), *sound, "-i", str(flashes), "-map", "0:v", "-map", "1:a"),
        *("-c:v", "libx264", "-c:a", "aac", "-b:a", "192k"),
    )
    flash, click = watched(rendered(trim(open_clip(source), end="60f"), tmp_path / "out.mp4"))
    apart = 0.25 if sound else -0.25
    pairs = [(one, other) for one in flash for other in click if abs(other - one - apart) < 0.1]
    assert len(pairs) >= 2
    for one, other in pairs:
        assert other - one == pytest.approx(apart, abs=2e-3)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "m4a", "ogg", "opus", "mkv"])
def test_a_narration_is_as_long_as_it_was_spoken(suffix: str, voice: Path, shot: Path, tmp_path: Path) -> None:
    """Whatever its encoder put in front of it and behind it."""
    file = film(tmp_path / f"voice.{suffix}", "-i", str(voice), "-ar", "48000")
    assert sound_of(file).samples == pytest.approx(72_000, abs=300 if suffix in ("mkv", "opus", "ogg") else 2)
    left = samples(rendered(replace_audio(open_clip(shot), sound=open_clip(file), at="1s"), tmp_path / "out.mp4"))[0]
    first = float(np.flatnonzero(abs(left) > 0.15)[0]) / 48_000
    assert first == pytest.approx(1.1, abs=2e-3)


# ---------------------------------------------------------------- captions


def captioned(clip: Clip, *cues: Cue) -> Clip:
    return replace(clip, picture=replace(picture_of(clip), captions=Captions(cues)))


def drawn(clip: Clip, tmp_path: Path, *cues: Cue) -> list[Pixels]:
    """Where captions changed each frame."""
    plain, written = rendered(clip, tmp_path / "plain.mp4"), rendered(captioned(clip, *cues), tmp_path / "written.mp4")
    return [one != other for one, other in zip(luma(plain), luma(written), strict=True)]


def test_a_caption_is_seen_low_in_the_frame_exactly_while_it_is_said(shot: Path, tmp_path: Path) -> None:
    clip = upscale(open_clip(shot), size="320x180")
    changed = drawn(clip, tmp_path, Cue("Morning comes\nto the meadow.", Fraction(1, 2), Fraction(5, 4)))
    assert [bool(frame.any()) for frame in changed] == [12 <= number < 30 for number in range(72)]
    rows = np.flatnonzero(changed[20].any(axis=1))
    assert rows.min() > 100
    assert rows.max() < 175
    assert changed[20].sum() > 500


@pytest.mark.parametrize("way", ["cover", "blur", "contain"])
def test_a_caption_is_whole_in_a_vertical_film(way: str, shot: Path, tmp_path: Path) -> None:
    clip = fit(open_clip(shot), size="180x320", mode=way)  # type: ignore[arg-type]  # words of the Literal
    changed = drawn(
        trim(clip, length="2f"),
        tmp_path,
        Cue("One very round rabbit wakes up in the morning", Fraction(0), Fraction(1)),
    )
    columns = np.flatnonzero(changed[0].any(axis=0))
    assert columns.min() >= 6
    assert columns.max() < 174
    assert np.ptp(columns) > 90
    assert np.flatnonzero(changed[0].any(axis=1)).max() < 320 * 0.85


def test_a_caption_laid_on_before_the_crop_is_not_cut_by_it(shot: Path, tmp_path: Path) -> None:
    clip = trim(open_clip(shot), length="2f")
    cue = Cue("One very round rabbit wakes up", Fraction(0), Fraction(1))
    before = rendered(fit(captioned(clip, cue), size="180x320"), tmp_path / "before.mp4")
    after = rendered(captioned(fit(clip, size="180x320"), cue), tmp_path / "after.mp4")
    assert np.array_equal(luma(before)[0], luma(after)[0])


@pytest.mark.parametrize("text", ["{curly} \\N C:\\new", "50% – “naïve” Ωmega 'quoted', a → b", "<i>&amp;</i>"])
def test_a_caption_is_drawn_as_it_is_written(text: str, shot: Path, tmp_path: Path) -> None:
    """Each character takes room: what libass swallows as a command would leave the text as wide as without it."""
    clip = upscale(trim(open_clip(shot), length="1f"), size="960x540")
    bare = "".join(c for c in text if c not in "{}\\<>&;")
    (whole,), (less,) = (drawn(clip, tmp_path, Cue(words, Fraction(0), Fraction(1))) for words in (text, bare))
    lines = [np.flatnonzero(frame.any(axis=1)) for frame in (whole, less)]
    assert np.ptp(lines[0]) < 60  # one line
    assert np.ptp(np.flatnonzero(whole.any(axis=0))) >= np.ptp(np.flatnonzero(less.any(axis=0))) + 4 * (
        len(text) - len(bare)
    )


# ---------------------------------------------------------------- files


def test_four_deliveries_of_one_process_are_those_of_four(shot: Path, tmp_path: Path) -> None:
    clip, cue = open_clip(shot), Cue("Hello", Fraction(0), Fraction(2))
    clips = [
        clip,
        trim(clip, start="1s"),
        fit(captioned(clip, cue), size="90x160"),
        captioned(upscale(clip, size="2x"), cue),
    ]
    cuts = [Cut("", one, EXACT, None, EXACT.refuses(picture_of(one))) for one in map(strip_audio, clips)]
    folders = [tmp_path / str(number) for number in range(5)]
    for folder in folders:
        folder.mkdir()
    made = make_films([Shot(asked, None, folder) for asked, folder in zip(cuts, folders, strict=False)])
    assert [film.frames for film in made] == [72, 48, 72, 72]
    assert not any(film.damage for film in made)
    for asked, folder in zip(cuts, folders, strict=False):
        make_films([Shot(asked, None, folders[4])])
        together, alone = luma(folder / FILM), luma(folders[4] / FILM)
        assert len(together) == asked.picture.frames
        assert all(np.array_equal(one, other) for one, other in zip(together, alone, strict=True))


SHEETS = {name: presets.read("delivery", name) for name in presets.names("delivery")}


@pytest.mark.parametrize("preset", [name for name, sheet in SHEETS.items() if encoding_of(sheet).is_film])
def test_every_preset_gets_what_it_asks_for(
    preset: str, voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sheet = SHEETS[preset]
    least = seconds(sheet.get("length_min", "0s"), Fraction(1))
    length = max(2, math.ceil(least))  # no longer than it must be: frames are large
    plain = open_clip(counted(tmp_path / "counted.mp4", seconds=length))
    name = f"film.{sheet.get('container', 'mp4')}"
    made = deliver(mix_audio(plain, sound=open_clip(voice), at="0.5s"), preset, f"out: 5%d [here]/{name}")
    rate = max(Fraction(24), Fraction(sheet["rate_min"]))
    assert [str(row) for row in conform(made.file, preset) if not row.fine] == []
    assert str(picture_of(made.file).size) == sheet.get("frame", "160x90")
    assert picture_of(made.file).frames == round(length * rate)
    assert mp4_layout(made.file).edit_lists <= (sheet["edit_lists"] == "allow")
    assert made.loudness
    if "loudness" in sheet.values:
        assert measure(sound_of(made.file)).loudness == pytest.approx(sheet["loudness"], abs=0.2)
        assert made.loudness.loudness == pytest.approx(sheet["loudness"], abs=0.2)
    beside = [made.credentials_apart] if made.credentials_apart else []
    assert {file.name for file in made.file.parent.iterdir()} == {name, *(file.name for file in beside)}
    if sheet["pixel_format"] == "yuv420p":
        shown = numbers(made.file)
        assert shown == sorted(shown)
        assert set(shown) == set(range(24 * length))


@pytest.mark.parametrize("preset", [name for name, sheet in SHEETS.items() if not encoding_of(sheet).is_film])
def test_every_picture_preset_gets_what_it_asks_for(preset: str, tmp_path: Path) -> None:
    """Frame n of the film is a grey of 32 + 2n of 16 to 235; pictures have 0 to 255."""
    clip, sheet = open_clip(counted(tmp_path / "counted.mp4", seconds=3)), SHEETS[preset]
    made = deliver(clip, preset, tmp_path / f"made.{sheet['container']}", signer=signer_for(tmp_path))
    assert [str(row) for row in conform(made.file, preset) if not row.fine] == []
    assert read_credentials(made.file).state == "untrusted"
    with Image.open(made.file) as picture:
        assert picture.size == (160, 90)
        frames = getattr(picture, "n_frames", 1)
        assert "still" not in sheet.values or frames == 1
        assert "gif" not in preset or frames == 38
        for number, film_frame in ((0, 36),) if frames == 1 else ((0, 0), (frames - 1, 71)):
            picture.seek(number)
            shade = picture.convert("RGB").getpixel((80, 45))
            assert shade == pytest.approx(((16 + 2 * film_frame) * 255 / 219,) * 3, abs=4)


def test_a_file_must_be_called_as_what_the_preset_makes(shot: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"film\.mp4: should end in \.mov, which mezzanine is"):
        deliver(open_clip(shot), "mezzanine", tmp_path / "film.mp4")


def test_progress_is_told_up_to_the_last_frame(shot: Path, tmp_path: Path) -> None:
    clip = upscale(strip_audio(open_clip(shot)), size="320x180")
    told: list[int] = []
    make_films([Shot(Cut("", clip, Encoding(), None, "edited"), None, tmp_path)], told.append)
    assert told == sorted(told)
    assert told[-1] == 72


def test_the_same_film_is_made_twice_byte_for_byte(shot: Path, tmp_path: Path) -> None:
    clip = level(upscale(open_clip(shot), size="2x"))
    one, other = (rendered(clip, tmp_path / name, Encoding()).read_bytes() for name in ("one.mp4", "other.mp4"))
    assert one == other


def test_nothing_of_the_source_or_the_tools_is_told(tmp_path: Path) -> None:
    source = counted(tmp_path / "counted.mp4", "-metadata", "comment=SECRET", "-c:v", "libx264", "-g", "24")
    for clip in (open_clip(source), trim(open_clip(source), length="1s")):
        told = rendered(clip, tmp_path / "out.mp4", Encoding()).read_bytes()
        assert b"SECRET" not in told
        assert b"Lavf" not in told


@pytest.mark.parametrize(
    "name", ["it's a [first]; take: 2, 50%.mp4", "take:2.mp4", "-i.mp4", "ñ 漢字 #1?.mp4", "pipe:0.mp4"]
)
def test_any_name_will_do(name: str, shot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(shot, tmp_path / name)
    clip = trim(open_clip(Path(name)), length="2f")
    (tmp_path / "made: 5%d [here]").mkdir()
    render(clip, Path("made: 5%d [here]") / name)
    assert picture_of(Path("made: 5%d [here]") / name).frames == 2
    assert [file.name for file in Path("made: 5%d [here]").iterdir()] == [name]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to see what is alive")
def test_ffmpeg_dies_with_its_parent() -> None:
    script = (
        "from stages.ffmpeg import run_ffmpeg\n"
        "run_ffmpeg(['-re', '-f', 'lavfi', '-i', 'testsrc2=s=160x90:r=24', '-f', 'null', '-'], None, print)\n"
    )
    with subprocess.Popen([sys.executable, "-u", "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert parent.stdout.readline()  # the first frame is done
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        parent.send_signal(signal.SIGKILL)
    assert len(children) == 1
    deadline = time.monotonic() + 60
    while alive(int(children[0])) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(int(children[0]))


def alive(process: int) -> bool:
    """Whether it runs: one that is dead and not yet buried does not."""
    try:
        os.kill(process, 0)
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
