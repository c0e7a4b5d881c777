"""What exists: finished tasks as folders with a note, users' files as facts, and the lock on both.

A task is made in `tmp/` and its whole folder renamed into `tasks/`, with
`note.json` written last: a folder in `tasks/` is a finished task. All of
`.pipeline/` is a cache; deleting it loses time, never money.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.plan import FileFacts, Ingested, Note, Task, World, plan
from pipeline.recipe import Given, Recipe
from stages.certificates import read_anchors
from stages.clip import Action, Clip, PictureFacts, SoundFacts, Source, Word
from stages.delivery import Delivered
from stages.errors import InputError
from stages.ffmpeg import ffmpeg_binary, ffmpeg_version
from stages.files import WriteError, attempt, home, sha256, sync, told
from stages.filming import ROOTS, Market, market
from stages.ledger import open_ledger
from stages.media import clip_from, probe
from stages.provenance import sdk_version, signer_from_environment, test_signer
from stages.sound import SoundReport
from stages.stage import nearest

if TYPE_CHECKING:
    from cattrs import Converter

RESULTS: Mapping[str, type] = {"ingest": Ingested, "sound": SoundReport, "delivery": Delivered}
"""What each kind of task notes; the kind is the first word of its name, and any other is a job's."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A job's clip as it is noted: the file it made or bought, what is in it, and how it came about."""

    file: Path
    picture: PictureFacts | None
    sound: SoundFacts | None
    words: tuple[Word, ...]
    history: tuple[Action, ...]

    @classmethod
    def of(cls, clip: Clip) -> Kept:
        """What to note of a clip that is just the streams of one file."""
        streams = [stream for stream in clip.streams if isinstance(stream, Source)]
        (file,) = {stream.path for stream in streams}
        picture = next((s.facts for s in streams if isinstance(s.facts, PictureFacts)), None)
        sound = next((s.facts for s in streams if isinstance(s.facts, SoundFacts)), None)
        return cls(file, picture, sound, clip.sound.words if clip.sound else (), clip.history)

    @property
    def clip(self) -> Clip:
        """The clip again."""
        clip = clip_from(self.file, self.picture, self.sound)
        return Clip(clip.picture, clip.sound and replace(clip.sound, words=self.words), self.history)


@dataclass(frozen=True, slots=True)
class Store:
    """The state of one project, in `folder` (its `.pipeline/`). `simulate`: the simulator films everything."""

    folder: Path
    simulate: bool = False

    @property
    def tasks(self) -> Path:
        """Where finished tasks lie."""
        return self.folder / "tasks"

    @property
    def signer(self) -> Path:
        """Where the local test signer lies."""
        return self.folder / "signer"

    @property
    def anchors(self) -> tuple[Path, ...]:
        """The roots that runs in this project trusted, the simulator's and its own test root among them."""
        own = self.signer / "test-root.pem"
        simulated = sorted(self.tasks.glob(f"generate-*/{ROOTS}"))
        return (*sorted((self.folder / "anchors").glob("*.pem")), *simulated, *([own] if own.exists() else []))

    # ------------------------------------------------------------ the lock

    @contextlib.contextmanager
    def locked(self, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Be the only run in this project; what a killed one left half-made is cleared away."""
        with told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(handle, fcntl.LOCK_EX)
            shutil.rmtree(self.folder / "tmp", ignore_errors=True)
            yield
        finally:
            os.close(handle)

    # ------------------------------------------------------------ the snapshot

    def world(self, recipe: Recipe) -> World:
        """What exists now, as far as `recipe` can tell."""
        with contextlib.suppress(WriteError):  # planning works where nothing may be written
            self._keep_anchors(recipe)
        facts = self._facts((*recipe.files, *recipe.anchors))
        delivered = {d.file: sha256(d.file) for d in recipe.deliveries if d.file.is_file()}
        notes = Notes(self)
        return World(
            facts,
            notes,
            Latest(self.folder / "slots", notes),
            self._tools(),
            self._signer(),
            delivered,
            self._shop(recipe),
            self.takes(recipe),
        )

    def _shop(self, recipe: Recipe) -> Market:
        """What can be bought; a recipe that buys nothing needs no ledger."""
        if not any(step.stage.quote for step in recipe.steps):
            return Market(date.today())
        return market(open_ledger(), recipe.project, self.simulate)

    # ------------------------------------------------------------ takes

    def takes(self, recipe: Recipe) -> dict[str, int]:
        """The takes that `--retake` asked for, by step."""
        return dict(self._kept("takes.json").get(str(recipe.file.name), {}))

    def retake(self, recipe: Recipe, step: str) -> None:
        """Ask for one more take of a step from now on, unless the one asked for last is yet to be made."""
        if not any(each.name == step and each.stage.quote for each in recipe.steps):
            bought = [each.name for each in recipe.steps if each.stage.quote]
            raise InputError(f"--retake {step}: is no step that buys{nearest(step, bought)}")
        kept = self._kept("takes.json")
        mine = kept.setdefault(recipe.file.name, {})
        planned = plan(recipe, self.world(recipe))
        task = next(task for task in planned.tasks if task.steps == (step,) and task.slot == step)
        if step not in mine or task.action == "cached":
            written = next((s.arguments.get("take") for s in recipe.steps if s.name == step), None)
            first = written.value if isinstance(written, Given) and isinstance(written.value, int) else 1
            mine[step] = max(mine.get(step, 0), first) + 1
            self._keep("takes.json", kept)

    def _keep_anchors(self, recipe: Recipe) -> None:
        for anchor in recipe.anchors:
            kept = self.folder / "anchors" / f"{sha256(anchor)[:16]}.pem"
            if not kept.exists():
                read_anchors([anchor])  # a wrong one, once kept, would stop every later run
                with attempt(kept) as part:
                    shutil.copyfile(anchor, part)

    def _signer(self) -> str:
        try:
            signer = signer_from_environment() or test_signer(self.signer)
        except InputError:
            if self.signer.exists() or os.access(self.folder.parent, os.W_OK):
                raise
            return "test"
        return sha256(signer.chain)[:20]

    def _tools(self) -> dict[str, str]:
        kept = self._kept("tools.json")
        binary = Path(ffmpeg_binary())
        stamp = _stamp(binary) if binary.is_absolute() else str(binary)
        if kept.get("stamp") != [str(binary), stamp]:
            kept = {"stamp": [str(binary), stamp], "ffmpeg": ffmpeg_version()}
            self._keep("tools.json", kept)
        return {"ffmpeg": str(kept["ffmpeg"]), "c2pa": sdk_version()}

    def _facts(self, files: tuple[Path, ...]) -> dict[Path, FileFacts]:
        """Each file's hash and streams; read again only when its size, time or inode changed."""
        kept = self._kept("files.json")
        found: dict[Path, FileFacts] = {}
        fresh = dict(kept)
        for file in files:
            entry = kept.get(str(file))
            if not entry or entry["stamp"] != _stamp(file):
                entry = {"stamp": _stamp(file), **_examined(file)}
                fresh[str(file)] = entry
            picture = entry["picture"] and converter().structure(entry["picture"], PictureFacts)
            sound = entry["sound"] and converter().structure(entry["sound"], SoundFacts)
            clip = clip_from(file, picture, sound) if picture or sound else None
            found[file] = FileFacts(entry["sha256"], clip, entry["fault"])
        if fresh != kept:
            self._keep("files.json", fresh)
        return found

    def _kept(self, name: str) -> dict[str, Any]:
        try:
            kept = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return kept if isinstance(kept, dict) else {}

    def _keep(self, name: str, content: Mapping[str, Any]) -> None:
        with contextlib.suppress(InputError, OSError), attempt(self.folder / name) as part:
            part.write_text(json.dumps(content), encoding="utf-8")

    # ------------------------------------------------------------ making

    def places(self, task: Path) -> Places:
        """The folders that noted paths are relative to, so that a project can be moved."""
        return (("task", task), ("home", home()), ("project", self.folder.parent))

    @contextlib.contextmanager
    def making(self, task: Task) -> Iterator[Making]:
        """A fresh folder to make `task` in; it becomes the task's folder if `Making.done` was called."""
        folder = self.folder / "tmp" / f"{task.name}.{os.getpid()}-{secrets.token_hex(4)}"
        with told(folder):
            folder.mkdir(parents=True)
        making = Making(task, folder, self.places(folder))
        try:
            yield making
            if making.noted:
                self._commit(task, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _commit(self, task: Task, folder: Path) -> None:
        with told(folder):
            self.tasks.mkdir(parents=True, exist_ok=True)
            for file in folder.iterdir():
                sync(file)
            sync(folder)
            target = self.tasks / task.name
            old = folder.with_name(f"{folder.name}.old")
            with contextlib.suppress(FileNotFoundError):  # somebody cleared a part of it out
                target.rename(old)
            folder.rename(target)
            shutil.rmtree(old, ignore_errors=True)
            sync(self.tasks)
            slot = self.folder / "slots" / _slot_name(task.slot)
            with attempt(slot) as part:
                part.write_text(task.name, encoding="utf-8")


@dataclass(slots=True)
class Making:
    """A task being made in `folder`."""

    task: Task
    folder: Path
    places: Places = ()
    started: float = 0.0
    noted: bool = False

    def __post_init__(self) -> None:
        self.started = time.monotonic()

    def done(self, files: tuple[str, ...], result: object) -> None:
        """Write the note: `files` by name, the main one first, and what the work returned."""
        note = {
            "name": self.task.name,
            "slot": self.task.slot,
            "parts": dict(self.task.parts),
            "files": {file: sha256(self.folder / file) for file in files},
            "seconds": round(time.monotonic() - self.started, 3),
            "result": converter(self.places).unstructure(Kept.of(result) if isinstance(result, Clip) else result),
        }
        with told(self.folder / "note.json"):
            (self.folder / "note.json").write_text(json.dumps(note, indent=1), encoding="utf-8")
        self.noted = True


class Notes(Mapping[str, Note]):
    """The finished tasks by name, read when asked for."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.folder = store.tasks
        self.read: dict[str, Note] = {}

    def __getitem__(self, name: str) -> Note:
        if name not in self.read:
            try:
                text = (self.folder / name / "note.json").read_text(encoding="utf-8")
            except OSError:
                raise KeyError(name) from None
            loaded = json.loads(text)
            if not all((self.folder / name / file).is_file() for file in loaded["files"]):
                raise KeyError(name)  # somebody cleared it out
            kind = RESULTS.get(name.split("-")[0], Kept)
            result: Any = converter(self.store.places(self.folder / name)).structure(loaded["result"], kind)
            if isinstance(result, Kept):
                if not result.file.is_file():
                    raise KeyError(name)
                result = result.clip
            self.read[name] = Note(
                name, loaded["slot"], loaded["parts"], loaded["files"], result, self.folder / name, loaded["seconds"]
            )
        return self.read[name]

    def __iter__(self) -> Iterator[str]:
        return (entry.name for entry in self.folder.glob("*") if (entry / "note.json").exists())

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Latest(Mapping[str, Note]):
    """The task that was last made for a slot, to say what changed since."""

    def __init__(self, folder: Path, notes: Notes) -> None:
        self.folder = folder
        self.notes = notes

    def __getitem__(self, slot: str) -> Note:
        try:
            return self.notes[(self.folder / _slot_name(slot)).read_text(encoding="utf-8")]
        except OSError:
            raise KeyError(slot) from None

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _slot_name(slot: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in slot)[-150:]


def _stamp(file: Path) -> str:
    status = file.stat()
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


def _examined(file: Path) -> dict[str, Any]:
    picture, sound, fault = None, None, ""
    try:
        picture, sound = probe(file)
    except InputError as error:
        fault = str(error)
    try:
        digest = sha256(file)
    except PermissionError:
        raise WriteError(f"{file}: may not be read by this user") from None
    return {
        "sha256": digest,
        "picture": converter().unstructure(picture),
        "sound": converter().unstructure(sound),
        "fault": fault,
    }


Places = tuple[tuple[str, Path], ...]


@cache
def converter(places: Places = ()) -> Converter:
    """Frozen dataclasses to JSON and back: fractions as `24000/1001`, paths as `home:originals/….mp4`."""
    from cattrs import Converter  # noqa: PLC0415 -- heavy: `--help` needs none of it

    def written(path: Path) -> str:
        for name, folder in places:
            if path.is_relative_to(folder):
                return f"{name}:{path.relative_to(folder)}"
        return str(path)

    def read(text: str, _: object) -> Path:
        name, colon, rest = text.partition(":")
        return dict(places)[name] / rest if colon and name in dict(places) else Path(text)

    made = Converter()
    made.register_unstructure_hook(Fraction, str)
    made.register_structure_hook(Fraction, lambda text, _: Fraction(text))
    made.register_unstructure_hook(Path, written)
    made.register_structure_hook(Path, read)
    return made
