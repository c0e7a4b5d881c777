"""Conform catches whatever is off: films are made with one thing wrong, and that one is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import TAGS, film

from stages import conform

PICTURE = "testsrc2=s={size}:r={rate}:d={length},scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,{tags}"
# A hum, and a clap of 2 ms in it, which loudness hardly notices.
WAVE = "{gain}*sin(2*PI*300*t)+{clap}*between(t,1,1.002)"
SOUND = f"aevalsrc='{WAVE}|{WAVE}':s=48000:d={{heard}}"
GOOD = {
    "size": "320x180", "rate": "24", "length": "4", "heard": "4", "tags": TAGS, "gain": "0.219", "clap": "0",
    "c:v": "libx264", "preset": "ultrafast", "profile:v": "high", "pix_fmt": "yuv420p", "g": "12", "bf": "2",
    "x264-params": "b-adapt=0:cabac=1:8x8dct=1", "c:a": "aac", "b:a": "128k", "ar": "48000", "ac": "2",
    "use_editlist": "0", "movflags": "+faststart+negative_cts_offsets", "suffix": "mp4",
}  # fmt: skip
"""As YouTube wants it: what goes into the picture and the sound, then ffmpeg's options."""

INTO_SOURCES = ("size", "rate", "length", "heard", "tags", "gain", "clap", "suffix")


def made(target: Path, changes: dict[str, str]) -> Path:
    """The good film with `changes`."""
    wanted = GOOD | changes
    parts = {key: wanted[key] for key in INTO_SOURCES}
    given = {key: value for key, value in wanted.items() if value and key not in INTO_SOURCES}
    options = [word for key, value in given.items() for word in (f"-{key}", value)]
    inputs = ("-f", "lavfi", "-i", PICTURE.format(**parts), "-f", "lavfi", "-i", SOUND.format(**parts))
    return film(target.with_suffix(f".{wanted['suffix']}"), *inputs, *options)


def wrong(file: Path, preset: str) -> list[str]:
    """The numbers that are off."""
    return [row.key for row in conform(file, preset) if not row.fine]


def test_nothing_is_off_about_a_good_film(tmp_path: Path) -> None:
    rows = conform(made(tmp_path / "good", {}), "youtube")
    assert [str(row) for row in rows if not row.fine] == []
    assert len({row.key for row in rows}) == len(rows) > 20


SRGB = TAGS.replace("color_trc=bt709", "color_trc=iec61966-2-1")
HEVC = "log-level=none:bframes=2:keyint=12:open-gop=0"
FAULTS = {
    "container": ({"suffix": "mov"}, {"container"}),
    "codec": ({"c:v": "libx265", "x264-params": "", "profile:v": "main", "x265-params": HEVC}, {"codec"}),
    "profile": ({"pix_fmt": "yuv422p", "profile:v": "high422"}, {"profile", "pixel_format"}),
    "gop": ({"g": "48"}, {"gop"}),
    "closed_gop": ({"x264-params": "b-adapt=0:open-gop=1", "g": "8"}, {"closed_gop"}),
    "b_frames_max": ({"bf": "4"}, {"b_frames_max"}),
    "max_frame": ({"size": "3842x180"}, {"max_frame"}),
    "rate_max": ({"rate": "12", "g": "6"}, {"rate_max"}),
    "rate": ({"vf": "select='not(eq(n,30))'", "fps_mode": "passthrough"}, {"rate"}),
    "pixels": ({"aspect": "1:1"}, {"pixels"}),
    "colour": ({"tags": SRGB}, {"colour"}),
    "range": ({"tags": TAGS.replace("range=tv", "range=pc")}, {"range", "pixel_format"}),
    "start": ({"output_ts_offset": "1", "use_editlist": "1", "movflags": "+faststart"}, {"start", "edit_lists"}),
    "edit_lists": ({"use_editlist": "1", "movflags": "+faststart"}, {"edit_lists"}),
    "moov_first": ({"movflags": "+negative_cts_offsets"}, {"moov_first"}),
    "audio": ({"c:a": "ac3"}, {"audio"}),
    "sample_rate": ({"ar": "44100"}, {"sample_rate"}),
    "channels": ({"ac": "6"}, {"channels"}),
    "sound_length": ({"heard": "3"}, {"sound_length"}),
    "loudness": ({"gain": "0.2"}, {"loudness"}),
    "true_peak": ({"clap": "0.75"}, {"true_peak"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_each_number_is_caught_and_no_other(fault: str, tmp_path: Path) -> None:
    changes, expected = FAULTS[fault]
    found = set(wrong(made(tmp_path / "bad", changes), "youtube"))
    assert fault in found
    assert found == expected


REEL = {"size": "1080x1920", "g": "48"}
REEL_FAULTS = {
    "frame": {"size": "540x960"},
    "length_max": {"length": "2.5", "heard": "2.5"},
    "audio_rate": {"b:a": "256k"},
    "max_rate": {"length": "3", "heard": "3", "vf": "noise=alls=90", "crf": "1"},
}


@pytest.mark.parametrize("fault", REEL_FAULTS)
def test_a_fault_in_what_only_some_platforms_ask_is_caught(fault: str, tmp_path: Path) -> None:
    assert wrong(made(tmp_path / "bad", {**REEL, **REEL_FAULTS[fault]}), "instagram-reels") == [fault]


def test_a_file_that_is_too_large_is_caught(tmp_path: Path) -> None:
    reel = made(tmp_path / "good", REEL)
    assert wrong(reel, "instagram-reels") == []
    padding = 300_000_000
    with reel.open("ab") as file:
        file.write(padding.to_bytes(4, "big") + b"free")
        file.truncate(file.tell() + padding - 8)  # holes: nothing is written
    assert wrong(reel, "instagram-reels") == ["size_max"]


def test_a_film_that_is_no_film_and_one_in_matroska(tmp_path: Path) -> None:
    assert {"container", "moov_first"} <= set(wrong(made(tmp_path / "bad", {"suffix": "mkv", "movflags": ""}), "web"))
    heard = film(tmp_path / "heard.mp4", "-f", "lavfi", "-i", "sine=d=1")
    assert wrong(heard, "web") == ["picture", "loudness"]
