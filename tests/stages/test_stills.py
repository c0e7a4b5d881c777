"""`still` takes the very frame that a viewer would see, in its colours, and knows what it was made of."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import counted, described, film, picture_of
from PIL import Image
from test_render import SOURCES, patch

from stages import Clip, Cue, FfmpegError, InputError, Size, concat, fit, loop, open_clip, prepare, still, trim, upscale
from stages.clip import Action, Captions, Frames, PictureFacts, Source, origins
from stages.stills import Moment, frame_at, promise_still

SHOT = Path("/media/shot.mp4")


def seen(clip: Clip) -> npt.NDArray[np.int32]:
    """Its pixels: height, width, RGB."""
    with Image.open(clip.file) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image).astype(np.int32)


def number(clip: Clip) -> int:
    """Which frame of a `counted` film it shows: luma 32 + 2n of video range, as grey of full range."""
    return round(((float(np.median(seen(clip))) * 219 / 255 + 16) - 32) / 2)


@pytest.fixture(scope="module")
def numbered(media: Path) -> Clip:
    """48 frames that can be told apart, B-frames among them."""
    return open_clip(counted(media / "numbered.mp4", "-c:v", "libx264", "-crf", "4", "-bf", "3"))


# ---------------------------------------------------------------- which frame


@pytest.mark.parametrize(
    ("at", "frame"),
    [
        *(("start", 0), ("middle", 36), ("end", 71), ("1s", 24), ("1.04s", 24), ("1.042s", 25), ("36f", 36)),
        *((2, 48), (Fraction(71, 24), 71), (Frames(3), 3), ("00:00:02.5", 60)),
    ],
)
def test_a_moment_is_the_frame_that_is_shown_then(at: Moment, frame: int) -> None:
    assert frame_at(picture_of(described(seconds=3)), at) == frame


@pytest.mark.parametrize(
    ("at", "sentence"),
    [
        ("3s", "3 s is after the last frame, which is number 71, at 2.958 s"),
        ("72f", "frame 72 is after the last frame, which is number 71, at 2.958 s"),
        ("last", "should be start, middle, end or a time such as 1.5s or 36f, not 'last'"),
    ],
)
def test_a_moment_that_is_not_there_is_refused(at: str, sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        promise_still(described(seconds=3), at=at)
    assert str(refused.value) == sentence


def test_a_sound_has_no_frame() -> None:
    with pytest.raises(InputError, match="the clip has no picture"):
        promise_still(replace(described(), picture=None))


@given(st.sampled_from(["24", "25", "24000/1001", "60"]), st.integers(0, 71))
def test_each_frame_is_found_at_its_own_time(rate: str, frame: int) -> None:
    picture = picture_of(described(seconds=4, rate=rate))
    assert frame_at(picture, frame / picture.rate) == frame
    assert frame_at(picture, (frame + Fraction(99, 100)) / picture.rate) == frame


@pytest.mark.parametrize(("at", "frame"), [("start", 0), ("middle", 24), ("end", 47), ("1s", 24), ("13f", 13)])
def test_it_is_that_very_frame(at: str, frame: int, numbered: Clip, tmp_path: Path) -> None:
    assert number(still(numbered, at=at, folder=tmp_path)) == frame


def test_the_frame_of_an_edited_clip_is_of_the_clip_as_edited(numbered: Clip, tmp_path: Path) -> None:
    part = trim(numbered, start="10f", length="20f")
    assert number(still(part, folder=tmp_path)) == 29
    assert number(still(concat((part, numbered)), at="20f", folder=tmp_path)) == 0
    assert number(still(loop(numbered, overlap="12f"), at="start", folder=tmp_path)) == 12
    assert [file.name for file in tmp_path.iterdir()] == ["still.png"]


# ---------------------------------------------------------------- how it looks


@pytest.mark.parametrize("kind", SOURCES)
def test_red_stays_red_in_a_still(kind: str, tmp_path: Path) -> None:
    source = patch(tmp_path / "patch.mov", *SOURCES[kind])
    shown = seen(still(open_clip(source), at="middle", folder=tmp_path))
    assert shown[45, 80] == pytest.approx((0xC8, 0x1E, 0x28), abs=4)
    assert shown[5, 5] == pytest.approx((0x80, 0x80, 0x80), abs=2)


def test_it_says_that_it_is_srgb(numbered: Clip, tmp_path: Path) -> None:
    """With a gamma of BT.709, which ffmpeg writes for a film's frame, browsers show it lighter."""
    data, at = still(numbered, folder=tmp_path).file.read_bytes(), 8
    chunks: dict[bytes, bytes] = {}
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        chunks[kind], at = data[at + 8 : at + 8 + length], at + 12 + length
    assert b"sRGB" in chunks
    assert struct.unpack(">I", chunks[b"gAMA"]) == (45455,)
    assert not {b"cICP", b"tEXt", b"tIME", b"eXIf"} & set(chunks)


def test_crops_and_sizes_are_carried_out(tmp_path: Path) -> None:
    halves = film(
        tmp_path / "halves.mp4",
        *("-f", "lavfi", "-i", "color=black:s=160x90:r=24:d=0.5,drawbox=x=80:w=80:color=white:t=fill"),
    )
    clip = upscale(fit(open_clip(halves), size="90x90", focus="1x0.5"), size="2x")
    shown = still(clip, at="start", folder=tmp_path)
    assert seen(shown).shape == (180, 180, 3)
    assert picture_of(shown).size == Size(180, 180)
    assert seen(shown)[90, 170].mean() > 240
    assert seen(shown)[90, 5].mean() < 15


def test_captions_are_drawn_where_they_are_shown(numbered: Clip, tmp_path: Path) -> None:
    cues = Captions((Cue("HELLO", Fraction(1, 2), Fraction(1)),))
    clip = replace(numbered, picture=replace(picture_of(numbered), captions=cues))
    later = trim(clip, start="0.25s")
    for at, spread in (("0.2s", 0), ("0.3s", 100), ("0.7s", 100), ("0.8s", 0)):
        assert np.ptp(seen(still(later, at=at, folder=tmp_path))) >= spread
        assert spread or np.ptp(seen(still(later, at=at, folder=tmp_path))) <= 2


# ---------------------------------------------------------------- what it is


def test_what_is_promised_is_what_is_made(numbered: Clip, tmp_path: Path) -> None:
    clip = fit(trim(numbered, length="1s"), size="64x64")
    promised, made = promise_still(clip, at="middle"), still(clip, at="middle", folder=tmp_path)
    assert promised.promised
    assert not made.promised
    for one in (promised, made):
        stream = picture_of(one).stream
        assert isinstance(stream, Source)
        assert stream.facts == PictureFacts(Size(64, 64), Size(64, 64), Fraction(1), 1, "png", pixel_format="rgb24")
        assert one.history == (*clip.history, Action("still", (("at", "middle"), ("frame", "12"))))


def test_the_film_behind_it_is_what_the_next_shot_was_shown(numbered: Clip, tmp_path: Path) -> None:
    """Prepared for the model in between, or not."""
    taken = still(trim(numbered, length="1s"), folder=tmp_path)
    ready = prepare(taken.file, size="64x64", folder=tmp_path, inputs={"image": taken})
    assert [action.name for action in ready.history] == ["open", "trim", "still", "prepare"]
    for picture in (taken, ready):
        shot = (Action("generate", file=SHOT, ai=True, inputs=(picture.history,)),)
        assert [(one.file, one.relationship) for one in origins(shot)] == [
            (SHOT, "parentOf"),
            (numbered.file, "inputTo"),
        ]


def test_a_prepared_photo_is_of_the_photo(tmp_path: Path) -> None:
    photo = film(tmp_path / "photo.png", "-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1")
    assert prepare(photo, size="32x32", folder=tmp_path).history[0] == Action("open", file=photo)


def test_a_film_that_ends_before_its_time_is_told(numbered: Clip, tmp_path: Path) -> None:
    short = film(tmp_path / "short.mp4", "-i", str(numbered.file), "-frames:v", "8", "-c:v", "libx264")
    stream = picture_of(numbered).stream
    assert isinstance(stream, Source)
    clip = replace(numbered, picture=replace(picture_of(numbered), stream=replace(stream, path=short)))
    with pytest.raises(FfmpegError, match="the film ends before that frame"):
        still(clip, folder=tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
