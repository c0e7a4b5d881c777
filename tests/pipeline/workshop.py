"""A project in a folder of its own, with media of a second or two, to run recipes in."""

from __future__ import annotations

import difflib
import functools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import imageio_ffmpeg
from forks import run_module

from pipeline.plan import plan
from pipeline.read import read_recipe
from pipeline.recipe import Recipe
from pipeline.run import Result, run
from pipeline.store import Store
from pipeline.tasks import Plan

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"
GOLDENS = Path(__file__).parent / "goldens"
FFMPEG = str(imageio_ffmpeg.get_ffmpeg_exe())
"""The real one: found before a test puts another in its place."""

FILM = """\
inputs:
  clip: clip.mp4
  voice: voice.wav
steps:
  - trim: {clip: $clip, length: 1s}
  - mix_audio: {sound: $voice, at: 0.2s, duck: 10 dB}
  - level: {loudness: -16 LUFS}
  - caption: {file: words.srt}
  - upscale: {size: 320x180}
deliver:
  - {preset: web, file: out/web.mp4}
  - {preset: youtube, file: out/youtube.mp4}
"""
"""As presets/recipes/finish.yaml, but small."""

SRT = "1\n00:00:00,200 --> 00:00:00,900\nHello there\n"


def ffmpeg(*arguments: str | Path) -> str:
    """Run the real ffmpeg; returns what it said."""
    argv = [FFMPEG, "-hide_banner", "-nostdin", "-y", *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def make_media(folder: Path) -> None:
    """Two seconds of moving picture with a tone, and what else recipes of the tests read."""
    folder.mkdir(parents=True, exist_ok=True)
    tone, picture = ("-f", "lavfi", "-i", "sine=440:r=48000:d=2"), ("-f", "lavfi", "-i", "testsrc2=s=160x90:r=24:d=2")
    tagged = ("-vf", "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709")
    film = ("-c:v", "libx264", "-preset", "superfast", "-pix_fmt", "yuv420p", *tagged, "-c:a", "aac")
    ffmpeg(*picture, *tone, *film, folder / "clip.mp4")
    ffmpeg("-i", folder / "clip.mp4", "-an", "-c", "copy", folder / "silent.mp4")
    ffmpeg("-f", "lavfi", "-i", "sine=880:r=24000:d=0.6", folder / "voice.wav")
    (folder / "words.srt").write_text(SRT, encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Workshop:
    """One project. `log` is where its ffmpeg writes what it was called with."""

    folder: Path
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "log", self.folder / "ffmpeg.log")
        self.folder.mkdir(parents=True, exist_ok=True)
        # Else a stray mark in the folders above would make those the project.
        (self.folder / "pyproject.toml").touch()

    @property
    def store(self) -> Store:
        """Its state."""
        return Store(self.folder / ".pipeline")

    def write(self, text: str, name: str = "film.yaml") -> Path:
        """A recipe in it."""
        file = self.folder / name
        part = file.with_name(f".{threading.get_ident()}-{file.name}")  # others may be reading it
        part.write_text(text, encoding="utf-8")
        return part.replace(file)

    def read(self, text: str, given: Mapping[str, str] | None = None) -> Recipe:
        """`text` as its recipe, read."""
        return read_recipe(self.write(text), given)

    def plan(self, text: str = FILM, given: Mapping[str, str] | None = None) -> Plan:
        """What a run of `text` would do now."""
        recipe = self.read(text, given)
        return plan(recipe, self.store.world(recipe))

    def run(self, text: str = FILM, given: Mapping[str, str] | None = None) -> Result:
        """Run `text`, in this process."""
        return run(self.read(text, given), self.store)

    def command(self, *arguments: str | Path) -> list[str]:
        """The command line of `pipeline`."""
        return [sys.executable, "-m", "pipeline", *map(str, arguments)]

    def cli(
        self, *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `pipeline` as a user does, in a process of its own that need not load it first."""
        return run_module("pipeline", *map(str, arguments), cwd=cwd or self.folder, env=environment(env))

    def calls(self) -> list[str]:
        """What its watched ffmpeg was called with, since the last time this was asked."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [line for line in lines if "-version" not in line]

    def leftovers(self) -> list[str]:
        """Part files, and what a run makes its tasks in."""
        found = [*self.folder.rglob(".af-*"), *(self.folder / ".pipeline" / "tmp").glob("*")]
        return sorted(str(file.relative_to(self.folder)) for file in found)


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, without a signer of its own, and with the sources that are tested."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AFTERFRAME_SIGNER")}
    return {**kept, **(more or {})}


def program(file: Path, script: str) -> Path:
    """A shell script that may be run."""
    file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    file.chmod(0o755)
    return file


def watched_ffmpeg(workshop: Workshop) -> Path:
    """The real ffmpeg, but for a line in the workshop's log for each call."""
    return program(workshop.folder / "watched-ffmpeg", f'echo "$*" >> "{workshop.log}"\nexec "{FFMPEG}" "$@"')


def lacking_ffmpeg(folder: Path, name: str) -> Path:
    """The real ffmpeg, but for the filter `name`, which it does not know."""
    return program(
        folder / "lacking-ffmpeg",
        f'if [ "$2" = -filters ]; then "{FFMPEG}" "$@" | grep -v " {name} "; exit; fi\n'
        "for argument do\n"
        "  shift\n"
        f'  set -- "$@" "$(printf %s "$argument" | sed "s/\\b{name}=/no_{name}=/g")"\n'
        "done\n"
        f'exec "{FFMPEG}" "$@"',
    )


def frames_of(file: Path) -> int:
    """Decode the whole file; how many frames came out. Fails on any complaint of the decoder."""
    said = ffmpeg("-v", "info", "-xerror", "-i", file, "-f", "null", "-")
    bad = [line for line in said.splitlines() if "error" in line.lower() or "corrupt" in line.lower()]
    assert not bad, bad
    return int(said.rpartition("frame=")[2].split()[0])


def flip_a_byte(file: Path, within: bytes = b"mdat") -> None:
    """Change one byte in the middle of an MP4's box."""
    data = bytearray(file.read_bytes())
    at = data.rindex(within) - 4
    size = int.from_bytes(data[at : at + 4], "big") or len(data) - at
    data[at + size // 2] ^= 0x55
    file.write_bytes(data)


def golden(name: str, text: str) -> None:
    """Compare with `goldens/NAME`. `AFTERFRAME_GOLDENS=write pytest` writes it anew; then read the diff."""
    file = GOLDENS / name
    if os.environ.get("AFTERFRAME_GOLDENS") == "write":
        file.write_text(text, encoding="utf-8")
    wanted = file.read_text(encoding="utf-8")
    assert text == wanted, "\n".join(difflib.unified_diff(wanted.splitlines(), text.splitlines(), "was", "is", n=1))


@functools.cache
def chromium() -> str:
    """Debian's headless Chromium; empty where there is none."""
    return shutil.which("chromium-headless-shell") or ""
