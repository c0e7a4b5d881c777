"""What cannot work is told in one sentence that names what and where, and leaves nothing half-written."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import pytest
from lab import LOSSLESS, TAGS, counted, described, film, luma, picture_of

from stages import (
    AfterframeError,
    Clip,
    Cue,
    Encoding,
    FfmpegError,
    InputError,
    deliver,
    mix_audio,
    open_clip,
    render,
    replace_audio,
    strip_audio,
    trim,
    upscale,
)
from stages.clip import Captions
from stages.delivery import FILM, Cut, Shot, cut, make_films
from stages.errors import WriteError
from stages.ffmpeg import ffmpeg_binary, ffmpeg_version


@pytest.fixture(autouse=True)
def _work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test in a folder of its own, where no project is."""
    monkeypatch.chdir(tmp_path)


def refused(action: Callable[[], object], kind: type[AfterframeError], *words: str) -> None:
    """`action` is refused in one sentence with these words in it, and leaves no file behind."""
    before = sorted(Path.cwd().rglob("*"))
    with pytest.raises(AfterframeError) as told:
        action()
    sentence = str(told.value)
    assert type(told.value) is kind, sentence
    assert sentence == sentence.strip()
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    assert 15 < len(sentence) < 300, sentence
    for word in words:
        assert word in sentence, sentence
    assert [file for file in sorted(Path.cwd().rglob("*")) if ".pipeline" not in file.parts] == before


# ---------------------------------------------------------------- files that are no films


def beginning(source: Path, target: Path, share: float) -> Path:
    data = source.read_bytes()
    target.write_bytes(data[: round(len(data) * share)])
    return target


@pytest.mark.parametrize("name", ["nowhere.mp4", "no/such/folder/shot.mp4"])
def test_a_file_that_is_not_there(name: str) -> None:
    refused(lambda: open_clip(name), InputError, f"{name}: there is no such file")


def test_a_folder(tmp_path: Path) -> None:
    refused(lambda: open_clip(tmp_path), InputError, f"{tmp_path}: is a folder, not a video or a sound")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    refused(lambda: open_clip("empty.mp4"), InputError, "empty.mp4: is empty (0 bytes)")


@pytest.mark.parametrize(
    "name", ["notes.txt", "notes.mp4", "notes.srt", "notes.json", "notes.nfo", "notes.wav", "notes"]
)
def test_a_text(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("1\n00:00:01,000 --> 00:00:02,000\nThis is no film.\n" * 20)
    refused(lambda: open_clip(name), InputError, f"{name}: ", "not")


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "wav", "ts", "bin"])
def test_noise(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"noise.{suffix}").write_bytes(bytes((7 * i * i + i // 3) % 256 for i in range(20_000)))
    refused(lambda: open_clip(f"noise.{suffix}"), InputError, f"noise.{suffix}: ")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "tiff"])
def test_a_picture(suffix: str, tmp_path: Path) -> None:
    image = film(
        tmp_path / f"still.{suffix}", "-f", "lavfi", "-i", "testsrc2=s=160x90:d=0.1", "-frames:v", "1", "-update", "1"
    )
    refused(lambda: open_clip(image), InputError, f"still.{suffix}: is a still picture, not a video or a sound")


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("index", ["first", "last"])
def test_a_truncated_film(share: float, index: str, shot: Path, tmp_path: Path) -> None:
    flags = ("-movflags", "+faststart") if index == "first" else ()
    whole = film(tmp_path / "whole.mp4", "-i", str(shot), "-c", "copy", *flags)
    file = beginning(whole, tmp_path / "half.mp4", share)
    refused(lambda: open_clip(file), InputError, "half.mp4: is", "truncated" if index == "first" else "not")


def test_a_film_whose_head_is_damaged(shot: Path, tmp_path: Path) -> None:
    data = shot.read_bytes()
    (tmp_path / "head.mp4").write_bytes(b"\x55" * 64 + data[64:])
    refused(lambda: open_clip("head.mp4"), InputError, "head.mp4: ")


def damaged(source: Path, target: Path, packets: range) -> Path:
    """The film with some bytes of these pictures turned."""
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        for number, packet in enumerate(container.demux(video=0)):
            if number in packets and packet.pos is not None:
                for at in range(packet.pos + 60, packet.pos + packet.size, 7):
                    data[at] ^= 0x5A
    target.write_bytes(data)
    return target


def test_a_film_with_a_damaged_picture_is_finished_and_the_damage_is_told(shot: Path, tmp_path: Path) -> None:
    clip = strip_audio(
        trim(open_clip(damaged(shot, tmp_path / "damaged.mp4", range(4, 5))), length="2s", lossless="never")
    )
    (film,) = make_films([Shot(Cut("", clip, Encoding(), None, "edited"), None, tmp_path)])
    assert film.damage
    assert all("\n" not in sign and len(sign) < 200 for sign in film.damage)
    assert len(luma(tmp_path / FILM)) == 48


def test_a_film_that_is_damaged_all_over_is_finished_or_refused_for_its_damage(shot: Path, tmp_path: Path) -> None:
    clip = strip_audio(trim(open_clip(damaged(shot, tmp_path / "damaged.mp4", range(3, 60))), length="2s"))
    told = ""
    try:
        render(clip, "out.mp4")
    except FfmpegError as error:
        told = str(error)
    assert "a source is damaged: " in told or len(luma(tmp_path / "out.mp4")) == 48
    assert not (told and Path("out.mp4").exists())


def test_an_hdr_film(tmp_path: Path) -> None:
    tags = TAGS.replace("color_trc=bt709", "color_trc=smpte2084").replace(
        "color_primaries=bt709", "color_primaries=bt2020"
    )
    tags = tags.replace("colorspace=bt709", "colorspace=bt2020nc")
    source = film(
        tmp_path / "hdr.mp4", "-f", "lavfi", "-i", f"testsrc2=s=160x90:r=24:d=0.5,format=yuv420p10le,{tags}", *LOSSLESS
    )
    clip = open_clip(source)
    refused(lambda: render(trim(clip, length="2f"), "out.mp4"), InputError, "hdr.mp4: is HDR (PQ)", "the step tonemap")
    refused(lambda: deliver(clip, "web", "out.mp4"), InputError, "hdr.mp4: is HDR (PQ)", "the step tonemap")


# ---------------------------------------------------------------- what is asked of them


def test_sound_without_a_picture(voice: Path) -> None:
    clip = open_clip(voice)
    refused(lambda: render(clip, "out.mp4"), InputError, "render: the clip has no picture")
    refused(lambda: deliver(clip, "web", "out.mp4"), InputError, "web: wants a picture, and the clip has none")
    refused(lambda: upscale(clip, size="1080p"), InputError, "upscale: the clip has no picture")


@pytest.mark.parametrize("lay", [mix_audio, replace_audio])
def test_a_sound_that_is_none(lay: Callable[..., Clip], shot: Path, tmp_path: Path) -> None:
    silent = open_clip(counted(tmp_path / "silent.mp4"))
    refused(lambda: lay(open_clip(shot), sound=silent), InputError, lay.__name__, "has no sound in it")


@pytest.mark.parametrize("lay", [mix_audio, replace_audio])
def test_a_sound_longer_than_the_clip(lay: Callable[..., Clip], shot: Path, voice: Path) -> None:
    clip = trim(open_clip(shot), length="1s")
    refused(
        lambda: lay(clip, sound=open_clip(voice)), InputError, lay.__name__, "1.5 s of sound at 0 s", "a clip of 1 s"
    )


def test_an_impossible_cut(shot: Path) -> None:
    refused(lambda: trim(open_clip(shot), start="2s", length="2s"), InputError, "2–4 s", "3 s long")
    refused(lambda: trim(open_clip(shot), length="soon"), InputError, "'soon'", "6s")


def test_a_preset_that_is_unknown(shot: Path) -> None:
    refused(
        lambda: deliver(open_clip(shot), "youtub", "out.mp4"),
        InputError,
        "there is no preset 'youtub' (did you mean youtube?)",
    )


def test_a_clip_that_is_too_short_or_too_long_for_its_platform(shot: Path) -> None:
    short = trim(open_clip(shot), length="2s")
    refused(
        lambda: deliver(short, "instagram-reels", "out.mp4"),
        InputError,
        "instagram-reels: wants at least 3s",
        "reels.yaml:",
        "2 s long",
    )
    refused(lambda: cut(described(seconds=901), "instagram-reels"), InputError, "wants at most 900s", "901 s long")


def test_a_character_that_the_caption_font_lacks(shot: Path) -> None:
    clip = open_clip(shot)
    said = replace(clip, picture=replace(picture_of(clip), captions=Captions((Cue("漢字", Fraction(0), Fraction(1)),))))
    refused(lambda: render(said, "out.mp4"), FfmpegError, "the caption font lacks a character", "0x6F22")


# ---------------------------------------------------------------- where it is to go


@pytest.mark.parametrize("target", ["file/out.mp4", "file/deeper/out.mp4"])
def test_a_target_below_a_file(target: str, shot: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    sentence = f"{target}: a part of its path is a file, not a folder"
    refused(lambda: render(open_clip(shot), target), WriteError, sentence)


def test_a_target_that_is_a_folder(shot: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").mkdir()
    refused(lambda: render(strip_audio(open_clip(shot)), "out.mp4"), WriteError, "out.mp4: is a folder")


def test_a_target_with_a_long_name(shot: Path) -> None:
    clip = strip_audio(open_clip(shot))
    refused(lambda: render(clip, "x" * 252 + ".mp4"), WriteError, ".mp4: its name is too long")
    render(clip, "x" * 251 + ".mp4")


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """As a user who is not root, to whom a read-only folder is one."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_a_folder_that_may_not_be_written(shot: Path, open_folder: Path) -> None:
    clip = open_clip(shutil.copy(shot, open_folder / "shot.mp4"))
    render(clip, open_folder / "warm.mp4")  # what is imported late lies where only root may read
    (open_folder / "locked").mkdir(mode=0o555)

    def make(target: Path) -> None:
        with nobody():
            render(clip, target)

    for target in (open_folder / "locked" / "out.mp4", open_folder / "locked" / "deeper" / "out.mp4"):
        refused(partial(make, target), WriteError, f"{open_folder / 'locked'}", ": this user may not write there")
    assert not list((open_folder / "locked").iterdir())


def test_a_file_that_may_not_be_read(shot: Path, open_folder: Path) -> None:
    file = Path(shutil.copy(shot, open_folder / "secret.mp4"))
    file.chmod(0o000)

    def read() -> None:
        with nobody():
            open_clip(file)

    refused(read, InputError, "secret.mp4: may not be read by this user")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk (mount, of Debian's package mount)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(shot: Path, small_disk: Path) -> None:
    clip = upscale(open_clip(shot), size="4x")
    refused(lambda: render(clip, small_disk / "out.mp4"), WriteError, "disk", "full", str(small_disk))
    refused(lambda: render(strip_audio(clip), small_disk / "out.mp4"), WriteError, "disk", "full", str(small_disk))
    assert not list(small_disk.iterdir())


# ---------------------------------------------------------------- an ffmpeg that is not what it should be


def program(target: Path, *lines: str) -> str:
    target.write_text("\n".join([f"#!{sys.executable}", *lines]) + "\n")
    target.chmod(0o755)
    return str(target)


def test_an_ffmpeg_that_lacks_a_filter(shot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ffmpeg_binary()
    lacking = program(
        tmp_path / "ffmpeg-of-a-distribution",
        "import os, sys",
        f"os.execv({real!r}, [{real!r}, *(a.replace('setparams=', 'lacking=') for a in sys.argv[1:])])",
    )
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", lacking)
    clip = trim(open_clip(shot), length="2f")
    refused(lambda: render(clip, "out.mp4"), FfmpegError, "this ffmpeg", lacking, "lacks the filter 'lacking'")
    refused(lambda: deliver(clip, "web", "out.mp4"), FfmpegError, lacking, "lacks the filter 'lacking'")


def test_an_ffmpeg_that_lacks_an_encoder(shot: Path) -> None:
    clip = trim(open_clip(shot), length="2f")
    refused(lambda: render(clip, "out.mp4", Encoding(codec="libx999")), FfmpegError, "lacks the encoder 'libx999'")


@pytest.mark.parametrize("call", [lambda clip: render(clip, "out.mp4"), lambda clip: ffmpeg_version()])
def test_an_ffmpeg_that_is_not_there(
    call: Callable[[Clip], object], shot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    refused(lambda: call(open_clip(shot)), FfmpegError, "/nowhere/ffmpeg", "No such file")


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "-9"),
        ("print('fine')", "no film"),
    ],
)
def test_an_ffmpeg_that_is_something_else(
    line: str, word: str, shot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", program(tmp_path / "other", line))
    clip = trim(open_clip(shot), length="2f")
    refused(lambda: render(strip_audio(clip), "out.mp4"), FfmpegError, "ffmpeg", word)
    refused(lambda: render(clip, "out.mp4"), FfmpegError, "ffmpeg")


def test_a_render_that_fails_leaves_the_older_file(shot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out.mp4").write_text("older")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", program(tmp_path / "other", "raise SystemExit(3)"))
    refused(lambda: render(open_clip(shot), "out.mp4"), FfmpegError, "exit code 3")
    assert (tmp_path / "out.mp4").read_text() == "older"


def test_an_encoder_that_makes_another_film_than_was_described(
    shot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came out is held against what was described, whatever ffmpeg says."""
    real = ffmpeg_binary()
    other = program(
        tmp_path / "other",
        "import os, sys",
        f"os.execv({real!r}, [{real!r}, *(a.replace('end_frame=10', 'end_frame=9') for a in sys.argv[1:])])",
    )
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", other)
    clip = strip_audio(trim(open_clip(shot), length="10f", lossless="never"))
    refused(lambda: render(clip, "out.mp4"), FfmpegError, "frames 9 instead of 10")
