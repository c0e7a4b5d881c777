"""What a file is, by its first bytes: real files of every kind that is taken, and some that are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from stages.ffmpeg import run_ffmpeg
from stages.filetypes import HEAD, filetype_of

PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=64x64:d=0.2")
SOUND = ("-f", "lavfi", "-i", "sine=440:d=0.2")
MADE = {
    ".mp4": (*PICTURE, "-c:v", "libx264"),
    ".png": (*PICTURE, "-frames:v", "1", "-update", "1"),
    ".jpg": (*PICTURE, "-frames:v", "1", "-update", "1"),
    ".webp": (*PICTURE, "-frames:v", "1"),
    ".wav": SOUND,
    ".mp3": SOUND,
    ".flac": SOUND,
    ".ogg": (*SOUND, "-c:a", "libvorbis"),
}


def head(file: Path) -> bytes:
    return file.read_bytes()[:HEAD]


@pytest.mark.parametrize("suffix", MADE)
def test_what_is_taken_is_known(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"file{suffix}"
    run_ffmpeg([*MADE[suffix], str(file)])
    kind = filetype_of(head(file))
    assert kind
    assert kind.suffix == suffix
    assert kind.media_type.split("/")[0] == {".mp4": "video"}.get(
        suffix, "image" if "testsrc" in str(MADE[suffix]) else "audio"
    )


def test_an_mp3_without_a_tag_is_one(tmp_path: Path) -> None:
    run_ffmpeg([*SOUND, "-id3v2_version", "0", "-write_xing", "0", str(tmp_path / "bare.mp3")])
    kind = filetype_of(head(tmp_path / "bare.mp3"))
    assert kind
    assert kind.suffix == ".mp3"


@pytest.mark.parametrize("suffix", [".aac", ".mkv", ".gif", ".avi"])
def test_other_films_and_sounds_are_not_taken(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"file{suffix}"
    run_ffmpeg([*(SOUND if suffix == ".aac" else PICTURE), str(file)])
    assert filetype_of(head(file)) is None


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")
def test_a_picture_in_an_mp4s_clothes_is_no_mp4(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.avif")
    assert head(tmp_path / "picture.avif")[4:8] == b"ftyp"
    assert filetype_of(head(tmp_path / "picture.avif")) is None


@given(
    st.one_of(st.text().map(str.encode), st.sampled_from([b"<html>502</html>", b'{"error": {}}', b"\xef\xbb\xbf{}"]))
)
def test_a_page_or_a_note_is_nothing(said: bytes) -> None:
    kind = filetype_of(said[:HEAD])
    assert kind is None or said.startswith((b"ID3", b"fLaC", b"OggS", b"RIFF")) or said[4:8] == b"ftyp"
