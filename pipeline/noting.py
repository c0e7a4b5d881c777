"""How what a task made is noted, as JSON that holds where the project is moved, and on other machines.

Paths are relative to the places that may lie elsewhere, and a user's file is
noted by what it holds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.sharing import of_home, swapped
from pipeline.tasks import FileFacts, Task
from stages.clip import Action, Clip, PictureFacts, SoundFacts, Source, Word
from stages.delivery import Delivered, Filmed
from stages.files import sha256, told
from stages.ingestion import Ingested
from stages.looks import Looks
from stages.media import clip_from
from stages.mixing import SoundReport

if TYPE_CHECKING:
    from cattrs import Converter

RESULTS: Mapping[str, type] = {
    "ingest": Ingested,
    "look": Looks,
    "sound": SoundReport,
    "film": Filmed,
    "delivery": Delivered,
}
"""What each kind of task notes; the kind is the first word of its name, and any other is a job's."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A job's clip as it is noted: the file it made or bought, what is in it, and how it came about."""

    file: Path
    picture: PictureFacts | None
    sound: SoundFacts | None
    words: tuple[Word, ...]
    history: tuple[Action, ...]
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, clip: Clip) -> Kept:
        """What to note of a clip that is just the streams of one file."""
        streams = [stream for stream in clip.streams if isinstance(stream, Source)]
        picture = next((s.facts for s in streams if isinstance(s.facts, PictureFacts)), None)
        sound = next((s.facts for s in streams if isinstance(s.facts, SoundFacts)), None)
        return cls(clip.file, picture, sound, clip.sound.words if clip.sound else (), clip.history, clip.remarks)

    @property
    def clip(self) -> Clip:
        """The clip again."""
        clip = clip_from(self.file, self.picture, self.sound)
        sound = clip.sound and replace(clip.sound, words=self.words)
        return Clip(clip.picture, sound, self.history, self.remarks)


INPUT = "input:"
"""How a user's file is noted: `input:SHA256/NAME`."""


def input_text(file: Path, facts: FileFacts) -> str:
    """A user's file as it is noted."""
    return f"{INPUT}{facts.sha256}/{file.name}"


Places = tuple[tuple[str, Path], ...]

_places: ContextVar[Places] = ContextVar("places", default=())


@contextmanager
def relative_to(places: Places) -> Iterator[None]:
    """Within the block, paths below one of `places` are written as `home:originals/….mp4`, and read so."""
    before = _places.set(places)
    try:
        yield
    finally:
        _places.reset(before)


@cache
def converter() -> Converter:
    """Frozen dataclasses to JSON and back: fractions as `24000/1001`. One for all: it compiles what it does with each
    class."""
    from cattrs import Converter  # noqa: PLC0415 -- heavy: `--help` needs none of it

    def written(path: Path) -> str:
        for name, folder in _places.get():
            if path.is_relative_to(folder):
                return f"{name}:{path.relative_to(folder)}"
        return str(path)

    def read(text: str, _: object) -> Path:
        name, colon, rest = text.partition(":")
        places = dict(_places.get())
        return places[name] / rest if colon and name in places else Path(text)

    made = Converter()
    made.register_unstructure_hook(Fraction, str)
    made.register_structure_hook(Fraction, lambda text, _: Fraction(text))
    made.register_unstructure_hook(Path, written)
    made.register_structure_hook(Path, read)
    return made


@dataclass(slots=True)
class Making:
    """A task being made in `folder`."""

    task: Task
    folder: Path
    places: Places
    started: float
    files: Mapping[Path, FileFacts] = field(default_factory=dict)
    noted: bool = False

    def done(self, result: object, main: str = "") -> None:
        """Write the note: the files in the folder, `main` first, and what the work returned."""
        names = sorted((file.name for file in self.folder.iterdir() if file.is_file()), key=lambda name: name != main)
        with relative_to(self.places):
            kept = converter().unstructure(Kept.of(result) if isinstance(result, Clip) else result)
            # A user's file is noted by what it holds: elsewhere it has another path.
            named = {converter().unstructure(file): input_text(file, facts) for file, facts in self.files.items()}
        note = {
            "name": self.task.name,
            "slot": self.task.slot,
            "parts": dict(self.task.parts),
            "files": {name: sha256(self.folder / name) for name in names},
            "sizes": {name: (self.folder / name).stat().st_size for name in names},
            "home": of_home(kept),
            "seconds": round(time.monotonic() - self.started, 3),
            "result": swapped(kept, lambda text: named.get(text, text)),
        }
        with told(self.folder / "note.json"):
            (self.folder / "note.json").write_text(json.dumps(note, indent=1), encoding="utf-8")
        self.noted = True
