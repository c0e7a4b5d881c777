"""Voices that are a file of one's own, as recipes name them: `piper:voices/en_US-amy-medium.onnx`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from stages import plugins


@dataclass(frozen=True, slots=True)
class VoiceModel:
    """The file of a voice and the JSON beside it.

    As text it is its name and a hash of what both hold, and nothing of where
    they lie: a task that is named after it is done again when the voice is
    another one, and not when the project is moved.
    """

    path: Path

    @property
    def config(self) -> Path:
        """What describes it: `en_US-amy-medium.onnx.json`."""
        return self.path.with_name(f"{self.path.name}.json")

    def __str__(self) -> str:
        try:
            hashed = ".".join(_hash(file, *_stamp(file)) for file in (self.path, self.config))
        except OSError as error:  # the voice's own check says so, as the plan asks it next
            hashed = str(error.strerror)
        return f"{self.path.name} {hashed}"


def voice_file(name: str) -> str:
    """The file that a voice is named after, `voices/amy.onnx`; nothing where it is none, as in `heart`."""
    kind, _, file = name.partition(":")
    return file if kind in plugins.names("pipeline.voices") else ""


def with_file(name: str, moved: Callable[[Path], Path]) -> str:
    """The name of a voice with its file, if it has one, as `moved` places it."""
    file = voice_file(name)
    return f"{name.partition(':')[0]}:{moved(Path(file).expanduser())}" if file else name


def named(name: str) -> str:
    """The name that is told and kept on record: a file's without its folder."""
    return with_file(name, lambda file: Path(file.name))


def cast(name: str) -> dict[str, object]:
    """The voice `name` as `speak_line` is given it."""
    file = voice_file(name)
    return {"voice": named(name), "model": VoiceModel(Path(file).expanduser())} if file else {"voice": name}


def _stamp(file: Path) -> tuple[int, int]:
    state = file.stat()
    return state.st_size, state.st_mtime_ns


@lru_cache(maxsize=64)  # 60 MB, and asked for each sentence
def _hash(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:20]
