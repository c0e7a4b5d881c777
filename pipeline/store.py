"""What exists: finished tasks as folders with a note, and users' files as facts.

A task is made in a fresh folder that is then renamed into `tasks/`, with
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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.plan import plan
from pipeline.recipe import Given, Recipe
from pipeline.tasks import FileFacts, Note, Parts, Task, World
from stages.certificates import read_anchors
from stages.clip import Action, Clip, PictureFacts, SoundFacts, Source, Word
from stages.delivery import Delivered, Filmed
from stages.errors import FfmpegError, InputError, Later, WriteError
from stages.ffmpeg import ffmpeg_binary, ffmpeg_version
from stages.files import attempt, fresh_folder, home, locked, sha256, sweep, sync, told
from stages.filming import ROOTS
from stages.ingestion import Ingested
from stages.ledger import open_ledger
from stages.media import clip_from, probe
from stages.mixing import SoundReport
from stages.provenance import sdk_version, signer_for
from stages.routing import Market, market
from stages.stage import nearest

if TYPE_CHECKING:
    from cattrs import Converter

RESULTS: Mapping[str, type] = {"ingest": Ingested, "sound": SoundReport, "film": Filmed, "delivery": Delivered}
"""What each kind of task notes; the kind is the first word of its name, and any other is a job's."""

ELSEWHERE = 0.5
"""Seconds until a task that another run is making is looked for again."""


class Elsewhere(Later):
    """Another run is making this task."""


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
        picture = next((s.facts for s in streams if isinstance(s.facts, PictureFacts)), None)
        sound = next((s.facts for s in streams if isinstance(s.facts, SoundFacts)), None)
        return cls(clip.file, picture, sound, clip.sound.words if clip.sound else (), clip.history)

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
    def anchors(self) -> tuple[Path, ...]:
        """What `pipeline verify` trusts in this project: the roots that its recipes named, the simulator's,
        and its own test root. A run trusts what its own recipe names."""
        own = self.folder / "signer" / "test-root.pem"
        simulated = sorted(self.tasks.glob(f"generate-*/{ROOTS}"))
        return (*sorted((self.folder / "anchors").glob("*.pem")), *simulated, *([own] if own.exists() else []))

    # ------------------------------------------------------------ the snapshot

    def world(self, recipe: Recipe) -> World:
        """What exists now, as far as `recipe` can tell."""
        with contextlib.suppress(WriteError):  # planning works where nothing may be written
            self._keep_anchors(recipe)
        facts = self._facts((*recipe.files, *recipe.anchors))
        delivered = {d.file: _hash(d.file) for d in recipe.deliveries if d.file.is_file()}
        notes, latest = Notes(self), Latest(self.folder / "slots")
        shop, takes = self._shop(recipe), self.takes(recipe)
        return World(facts, notes, latest, self._tools(), self._signer(), delivered, shop, takes)

    def unchanged(self, world: World) -> None:
        """Raise InputError if a file was changed since `world` was taken: what was made of it is not what it says."""
        for file, facts in world.files.items():
            if not file.exists() or _stamp(file) != facts.stamp:
                raise InputError(f"{file.name}: was changed while the recipe ran; run it again")

    def _keep_anchors(self, recipe: Recipe) -> None:
        for anchor in recipe.anchors:
            kept = self.folder / "anchors" / f"{_hash(anchor)[:16]}.pem"
            if not kept.exists():
                read_anchors([anchor])  # a wrong one, once kept, would stop every `pipeline verify` here
                with attempt(kept) as part:
                    shutil.copyfile(anchor, part)

    def _signer(self) -> str:
        try:
            signer = signer_for(self.folder)
        except WriteError:
            return "a test signer"
        return _hash(signer.chain)[:20]

    def _tools(self) -> dict[str, str]:
        kept, binary = self._kept("tools.json"), Path(ffmpeg_binary())
        found = shutil.which(str(binary))
        if found is None:
            raise FfmpegError(f"{binary}: there is no such program to run as ffmpeg")
        stamp = [found, _stamp(Path(found))]
        if kept.get("stamp") != stamp:
            kept = {"stamp": stamp, "ffmpeg": ffmpeg_version()}
            self._keep("tools.json", kept)
        return {"ffmpeg": str(kept["ffmpeg"]), "c2pa": sdk_version()}

    def _facts(self, files: tuple[Path, ...]) -> dict[Path, FileFacts]:
        """Each file's hash and streams; read again only when its size, time or inode changed."""
        kept = self._kept("files.json")
        found: dict[Path, FileFacts] = {}
        fresh = dict(kept)
        for file in files:
            stamp, entry = _stamp(file), kept.get(str(file))
            if not entry or entry["stamp"] != stamp:
                entry = fresh[str(file)] = {"stamp": stamp, **_examined(file)}
            picture = entry["picture"] and converter().structure(entry["picture"], PictureFacts)
            sound = entry["sound"] and converter().structure(entry["sound"], SoundFacts)
            clip = clip_from(file, picture, sound) if picture or sound else None
            found[file] = FileFacts(entry["sha256"], clip, entry["fault"], stamp)
        if fresh != kept:
            self._keep("files.json", fresh)
        return found

    def _shop(self, recipe: Recipe) -> Market:
        """What can be bought; a recipe that buys nothing needs no ledger."""
        if not any(step.stage.offer for step in recipe.steps):
            return Market(date.today())
        return market(open_ledger(), recipe.project, self.simulate)

    def _kept(self, name: str) -> dict[str, Any]:
        try:
            kept = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return kept if isinstance(kept, dict) else {}

    def _keep(self, name: str, content: Mapping[str, Any]) -> None:
        with contextlib.suppress(WriteError, OSError), attempt(self.folder / name) as part:
            part.write_text(json.dumps(content), encoding="utf-8")

    # ------------------------------------------------------------ takes

    def takes(self, recipe: Recipe) -> dict[str, int]:
        """The takes that `--retake` asked for, by step."""
        return dict(self._kept("takes.json").get(recipe.known_as, {}))

    def retake(self, recipe: Recipe, step: str) -> None:
        """Ask for one more take of a step from now on, unless the one asked for last is yet to be made."""
        bought = {each.name: each for each in recipe.steps if each.stage.offer}
        if step not in bought:
            raise InputError(f"--retake {step}: is no step that buys{nearest(step, bought)}")
        part = recipe.until(step)  # as far as deliveries go, a step whose film is in the cache may not be needed
        world = self.world(part)

        def planned(take: int) -> Task:
            takes = {**world.takes, step: take} if take else world.takes
            return next(task for task in plan(part, replace(world, takes=takes)).tasks if task.slot == step)

        with locked(self.folder / "takes.lock"):
            kept = self._kept("takes.json")
            mine = kept.setdefault(recipe.known_as, {})
            task = planned(mine.get(step, 0))
            if task.action == "cached" or (step not in mine and not task.price):  # bought, if not here
                written = bought[step].arguments.get("take")
                take = written.value if isinstance(written, Given) and isinstance(written.value, int) else 1
                take = max(mine.get(step, 0), take)
                while task.action != "pay":  # one that is owned already, from before a cache was deleted, is none more
                    take += 1
                    task = planned(take)
                mine[step] = take
                self._keep("takes.json", kept)

    # ------------------------------------------------------------ making

    def tidy(self, recipe: Recipe) -> None:
        """Clear away what killed runs left half-made, here and beside the deliveries."""
        beside = {delivery.file.parent for delivery in recipe.deliveries}
        for folder in (self.folder, self.folder / "tmp", self.folder / "slots", self.folder / "anchors", *beside):
            sweep(folder)

    def places(self, task: Path) -> Places:
        """The folders that noted paths are relative to, so that a project can be moved."""
        return (("task", task), ("home", home()), ("project", self.folder.parent))

    @contextlib.contextmanager
    def making(self, task: Task) -> Iterator[Making]:
        """A fresh folder to make `task` in; it becomes the task's folder if `Making.done` was called.

        Raises Elsewhere while another run makes the same task.
        """
        with self._alone(task), fresh_folder(self.folder / "tmp") as folder:
            making = Making(task, folder, self.places(folder), time.monotonic())
            yield making
            if making.noted:
                self._commit(task, folder)

    @contextlib.contextmanager
    def _alone(self, task: Task) -> Iterator[None]:
        """Hold the task's lock: two runs in one project share the work."""
        lock = self.folder / "locks" / task.name
        with told(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise Elsewhere(ELSEWHERE) from None
        if _inode(lock) != os.fstat(handle).st_ino:  # its last holder took it away
            os.close(handle)
            raise Elsewhere(0.0)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
            os.close(handle)

    def _commit(self, task: Task, folder: Path) -> None:
        target = self.tasks / task.name
        with told(target):
            self.tasks.mkdir(parents=True, exist_ok=True)
            for file in folder.iterdir():
                sync(file)
            sync(folder)
            if target.exists() and task.name not in Notes(self):
                self.discard(task.name)
            if not target.exists():
                folder.rename(target)
            sync(self.tasks)
        slot = self.folder / "slots" / _slot_name(task.memory)
        with attempt(slot) as part:
            part.write_text(json.dumps(dict(task.parts)), encoding="utf-8")

    def discard(self, name: str) -> None:
        """Take a damaged task out of the way, if it is still there."""
        away = self.folder / "tmp" / f".af-{os.getpid()}-{secrets.token_hex(4)}"
        with told(away):
            away.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                (self.tasks / name).rename(away)
        shutil.rmtree(away, ignore_errors=True)


@dataclass(slots=True)
class Making:
    """A task being made in `folder`."""

    task: Task
    folder: Path
    places: Places
    started: float
    noted: bool = False

    def done(self, result: object, main: str = "") -> None:
        """Write the note: the files in the folder, `main` first, and what the work returned."""
        names = sorted((file.name for file in self.folder.iterdir() if file.is_file()), key=lambda name: name != main)
        note = {
            "name": self.task.name,
            "slot": self.task.slot,
            "parts": dict(self.task.parts),
            "files": {name: sha256(self.folder / name) for name in names},
            "seconds": round(time.monotonic() - self.started, 3),
            "result": converter(self.places).unstructure(Kept.of(result) if isinstance(result, Clip) else result),
        }
        with told(self.folder / "note.json"):
            (self.folder / "note.json").write_text(json.dumps(note, indent=1), encoding="utf-8")
        self.noted = True


class Notes(Mapping[str, Note]):
    """The finished tasks by name, read when asked for. What cannot be read is not there."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.read: dict[str, Note] = {}

    def __getitem__(self, name: str) -> Note:
        if name not in self.read:
            self.read[name] = self._read(name)
        return self.read[name]

    def _read(self, name: str) -> Note:
        folder = self.store.tasks / name
        kind = RESULTS.get(name.split("-")[0], Kept)
        try:
            loaded = json.loads((folder / "note.json").read_text(encoding="utf-8"))
            result: Any = converter(self.store.places(folder)).structure(loaded["result"], kind)
            note = Note(name, loaded["slot"], loaded["parts"], loaded["files"], result, folder, loaded["seconds"])
        except Exception:  # damaged, or noted by another version whose results look otherwise: made again
            raise KeyError(name) from None
        if not all((folder / file).is_file() for file in note.files):
            raise KeyError(name)
        if isinstance(result, Kept):
            if not result.file.is_file():
                raise KeyError(name)
            note = replace(note, result=result.clip)
        return note

    def forget(self, name: str) -> None:
        """Read it anew when next asked for."""
        self.read.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return (entry.name for entry in self.store.tasks.glob("*") if entry.name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Latest(Mapping[str, Parts]):
    """The parts of the task that was last made for a slot, to say what changed since."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, slot: str) -> Parts:
        try:
            parts: Parts = json.loads((self.folder / _slot_name(slot)).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise KeyError(slot) from None
        return parts

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _slot_name(slot: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in slot)[-150:]


def _stamp(file: Path) -> str:
    status = file.stat()
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


def _inode(file: Path) -> int:
    """0 where there is no such file."""
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return 0


def _hash(file: Path) -> str:
    try:
        return sha256(file)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({(error.strerror or str(error)).lower()})") from None


def _examined(file: Path) -> dict[str, Any]:
    picture, sound, fault = None, None, ""
    try:
        picture, sound = probe(file)
    except InputError as error:
        fault = str(error)
    facts = {"picture": converter().unstructure(picture), "sound": converter().unstructure(sound)}
    return {"sha256": _hash(file), **facts, "fault": fault}


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
