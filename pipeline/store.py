"""What exists: finished tasks as folders with a note, and users' files as facts.

A task is made in a fresh folder that is then renamed into `tasks/`, with
`note.json` written last: a folder in `tasks/` is a finished task. All of
`.pipeline/` is a cache; deleting it loses time, never money.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.noting import INPUT, RESULTS, Kept, Making, Places, converter, input_text, relative_to
from pipeline.plan import plan
from pipeline.recipe import Given, Recipe
from pipeline.sharing import INPUTS, UNSENT, Lost, Sharing, sharing_of, swapped
from pipeline.tasks import FileFacts, Note, Parts, Task, World
from stages.attesting import ROOTS
from stages.carriers import is_apart, sidecar_in_use
from stages.certificates import read_anchors
from stages.clip import PictureFacts, SoundFacts
from stages.destinations import address_of, lies
from stages.encoding import Encoding, delivery_preset, encoded_by, encoding_of
from stages.errors import FfmpegError, InputError, Later, WriteError
from stages.faces import detector, find_faces
from stages.ffmpeg import ffmpeg_binary, ffmpeg_version, lacking
from stages.files import attempt, fresh_folder, home, locked, now_in, part_name, sha256, sweep, told, touch
from stages.ledger import Budget, open_ledger, spent
from stages.market import Market, for_recipe, open_market
from stages.media import clip_from, probe
from stages.provenance import sdk_version, signer_for
from stages.purse import DAY, Purse
from stages.signers import check_able
from stages.stage import nearest
from stages.stores import turn
from stages.trust import trust_anchors, trust_lists

ELSEWHERE, FAR = 0.5, 2.0
"""Seconds until a task that another run, or another machine, is making is looked for again."""


ABANDONED = 14 * 24 * 3600
"""Seconds after which what a killed run left unfinished is cleared away."""


class Elsewhere(Later):
    """Another run is making this task."""


class Damaged(Exception):
    """A file in the cache is not what its note says, or is gone; or `why` it could not be fetched from the store."""

    def __init__(self, note: Note, why: str = "") -> None:
        super().__init__(why or note.name)
        self.note = note
        self.why = why


class Unmade(KeyError):
    """No such task is finished; or not any more, since it was found damaged."""


def _lacking(recipe: Recipe) -> dict[Encoding, str]:
    """Why the special hardware that deliveries ask for cannot be used, each tried with a frame."""
    found: dict[Encoding, str] = {}
    for delivery in recipe.deliveries:
        asked = delivery.options.get("encoder")
        with contextlib.suppress(InputError):  # what never works is told where it is planned
            if asked and (wanted := encoded_by(encoding_of(delivery_preset(delivery.preset)), asked.text)).hardware:
                found[wanted] = found.get(wanted) or lacking(wanted)
    return found


OWN_ROOT = "this project's own test root, which nobody else knows"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is the same for every row of a recipe, so that a batch of thousands looks at it once.

    `tools` are versions, `trust` the anchors, `signer` who would sign and
    `unable` why he cannot; `market` is what is for sale, where anything is
    bought; `takes` what --retake asked for. `files` are those that were looked at so far.
    """

    tools: Mapping[str, str]
    trust: tuple[Path, ...]
    signer: str
    unable: str
    market: Market | None
    takes: Mapping[str, int]
    files: dict[Path, FileFacts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Store:
    """The state of one project, in `folder` (its `.pipeline/`). `simulate`: the simulator films everything;
    `models` is where models.yaml is, if not beside the recipe."""

    folder: Path
    simulate: bool = False
    models: Path | None = None

    @property
    def shared(self) -> Sharing | None:
        """What it shares with other machines, if AFTERFRAME_STORE is set."""
        return sharing_of(self.folder)

    @property
    def tasks(self) -> Path:
        """Where finished tasks lie."""
        return self.folder / "tasks"

    @property
    def unfinished(self) -> Path:
        """Where tasks that take long keep what they have, each in a folder of its name, for when a run is killed.
        What nobody goes on with is gone after two weeks."""
        return self.folder / "unfinished"

    @property
    def anchors(self) -> tuple[Path, ...]:
        """What `pipeline verify` trusts in this project: the C2PA's lists, the roots that its recipes named, the
        simulator's, and its own test root. A run trusts what its own recipe names, and the lists."""
        return tuple(self.known)

    @property
    def known(self) -> dict[Path, str]:
        """The same, with who each is in words."""
        own = self.folder / "signer" / "test-root.pem"
        lists = (each for each in trust_lists() if each.default and not each.stamps)
        return {
            **{each.file: f"the trust list “{each.name}” of {each.issued}" for each in lists},
            **dict.fromkeys(sorted((self.folder / "anchors").glob("*.pem")), "a root that a recipe here names"),
            **dict.fromkeys(sorted(self.tasks.glob(f"*/{ROOTS}")), "the root that came with a bought film"),
            **({own: OWN_ROOT} if own.exists() else {}),
        }

    # ------------------------------------------------------------ the snapshot

    def world(self, recipe: Recipe, around: Surroundings | None = None) -> World:
        """What exists now, as far as `recipe` can tell; of what is `around` it, as it was seen before.

        Raises InputError if the signer cannot sign and the recipe would have him: before anything is bought.
        """
        with contextlib.suppress(WriteError):  # planning works where nothing may be written
            self._keep_anchors(recipe)
        around = around or self.around(recipe)
        if around.unable and (recipe.policy.signs or any(step.stage.offer for step in recipe.steps)):
            raise InputError(around.unable)  # what is bought unsigned is attested
        facts = {file: self.facts(file, around) for file in (*recipe.files, *recipe.anchors)}
        delivered = Lying(tuple(delivery.file for delivery in recipe.deliveries))
        notes, latest = Notes(self, facts), Latest(self.folder / "slots")
        shop = self.shop(recipe, around.market)
        return World(
            facts, notes, latest, around.tools, around.signer, around.trust, delivered, shop, around.takes,
            self._spent(recipe.purse), _lacking(recipe),
        )  # fmt: skip

    def around(self, recipe: Recipe) -> Surroundings:
        """What is the same for all rows of `recipe`."""
        if shared := self.shared:
            shared.send_late(self.tasks)
            shared.share_signer()
        trust = trust_anchors()
        signer, unable = self._signer()
        market = self._market(recipe) if recipe.buys else None
        return Surroundings(self._tools(trust), trust, signer, unable, market, self.takes(recipe))

    def unchanged(self, world: World) -> None:
        """Raise InputError if a file was changed since `world` was taken: what was made of it is not what it says."""
        for file, facts in world.files.items():
            if not file.exists() or _stamp(file) != facts.stamp or _beside(file) != facts.beside:
                raise InputError(f"{file.name}: was changed while the recipe ran; run it again")

    def _keep_anchors(self, recipe: Recipe) -> None:
        for anchor in recipe.anchors:
            kept = self.folder / "anchors" / f"{_hash(anchor)[:16]}.pem"
            if not kept.exists():
                read_anchors([anchor])  # a wrong one, once kept, would stop every `pipeline verify` here
                with attempt(kept) as part:
                    shutil.copyfile(anchor, part)

    def _signer(self) -> tuple[str, str]:
        """Who would sign, and why he cannot."""
        try:
            signer = signer_for(self.folder)
        except WriteError:
            return "a test signer", ""
        unable = ""
        try:
            check_able(signer)
        except InputError as error:
            unable = str(error)
        return _hash(signer.chain)[:20], unable

    def _tools(self, trust: Sequence[Path]) -> dict[str, str]:
        kept, binary = self._kept("tools.json"), Path(ffmpeg_binary())
        found = shutil.which(str(binary))
        if found is None:
            raise FfmpegError(f"{binary}: there is no such program to run as ffmpeg")
        stamp = [found, _stamp(Path(found))]
        if kept.get("stamp") != stamp:
            kept = {"stamp": stamp, "ffmpeg": ffmpeg_version()}
            self._keep("tools.json", kept)
        names = " ".join(_hash(file)[:20] for file in trust)
        return {"ffmpeg": str(kept["ffmpeg"]), "c2pa": sdk_version(), "trust": names}

    def facts(self, file: Path, around: Surroundings) -> FileFacts:
        """A file's hash, streams and faces; read again only when its size, time or inode changed, or who looks.
        Raises InputError and OSError if it cannot be read."""
        if (seen := around.files.get(file)) is None:
            seen = around.files[file] = self.look_at(file)
        return seen

    def look_at(self, file: Path) -> FileFacts:
        """As `facts`, whether or not it was looked at before."""
        name = f"files/{hashlib.sha256(str(file).encode()).hexdigest()[:20]}.json"  # a batch reads thousands
        stamp, entry = _stamp(file), self._kept(name)
        if not entry or entry["stamp"] != stamp or entry.get("looked") != detector():
            entry = {"stamp": stamp, **_examined(file)}
            self._keep(name, entry)
        picture = entry["picture"] and converter().structure(entry["picture"], PictureFacts)
        sound = entry["sound"] and converter().structure(entry["sound"], SoundFacts)
        clip = clip_from(file, picture, sound) if picture or sound else None
        return FileFacts(entry["sha256"], clip, entry["fault"], stamp, entry["faces"], _beside(file))

    def shop(self, recipe: Recipe, market: Market | None = None) -> Market:
        """What can be bought now, or at `market`; a recipe that buys nothing needs no ledger."""
        if not recipe.buys:
            return Market(date.today())
        return for_recipe(market or self._market(recipe), recipe.purse, recipe.region)

    def _market(self, recipe: Recipe) -> Market:
        beside = self.models.parent if self.models else recipe.file.parent
        return open_market(open_ledger(), recipe.project, self.simulate, beside=beside)

    def _spent(self, purse: Purse) -> dict[str, Decimal]:
        """What counts already against the day's budget and the label's."""
        found: dict[str, Decimal] = {}
        if purse.day is not None:
            found["day"] = spent(open_ledger(), Budget("", purse.day, within=DAY))
        if purse.label is not None:
            limit = Budget("", purse.label.limit, within=purse.label.within, bill_to=purse.bill_to)
            found["label"] = spent(open_ledger(), limit)
        return found

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
        bought = {each.name: each for each in recipe.steps if each.stage.buys}
        whole, _, line = step.partition(" ")
        if line and whole in bought:
            raise InputError(f"--retake {step}: is a part of {whole}; give its line take: 2, or --retake {whole}")
        if step not in bought:
            raise InputError(f"--retake {step}: is no step that buys{nearest(step, bought)}")
        part = recipe.until(step)  # as far as deliveries go, a step whose film is in the cache may not be needed
        world = self.world(part)

        def planned(take: int) -> list[Task]:
            """The step's task, or those of its parts."""
            takes = {**world.takes, step: take} if take else world.takes
            tasks = plan(part, replace(world, takes=takes)).tasks
            return [task for task in tasks if task.slot == step or task.slot.startswith(f"{step} ")]

        def is_new(task: Task) -> bool:
            """Not one that is owned already, from before a cache was deleted."""
            owned = any(key in world.shop.bought for key in task.keys)
            return task.action == "pay" or (task.action == "make" and not owned)

        with locked(self.folder / "takes.lock"):
            kept = self._kept("takes.json")
            mine = kept.setdefault(recipe.known_as, {})
            tasks = planned(mine.get(step, 0))
            if all(
                task.action == "cached" or (step not in mine and not task.prices) for task in tasks
            ):  # bought, if not here
                written = bought[step].arguments.get("take")
                take = written.value if isinstance(written, Given) and isinstance(written.value, int) else 1
                take = max(mine.get(step, 0), take)
                while not all(map(is_new, tasks)):
                    take += 1
                    tasks = planned(take)
                mine[step] = take
                self._keep("takes.json", kept)

    # ------------------------------------------------------------ making

    def tidy(self, recipe: Recipe) -> None:
        """Clear away what killed runs left half-made, here and beside the deliveries."""
        beside = {delivery.file.parent for delivery in recipe.deliveries if not address_of(delivery.file)}
        for folder in (self.folder, self.folder / "tmp", self.folder / "slots", self.folder / "anchors", *beside):
            sweep(folder)
        for kept in self.unfinished.glob("*"):
            if (self.tasks / kept.name / "note.json").exists() or _age(kept) > ABANDONED:
                shutil.rmtree(kept, ignore_errors=True)

    def places(self, task: Path) -> Places:
        """The folders that noted paths are relative to, so that a project can be moved."""
        return (("task", task), ("home", home()), ("project", self.folder.parent))

    @contextlib.contextmanager
    def making(self, task: Task, files: Mapping[Path, FileFacts] | None = None) -> Iterator[Making]:
        """A fresh folder to make `task` in; it becomes the task's folder if `Making.done` was called. `files` are the
        users' that it may read.

        Raises Elsewhere while another run, or another machine, makes the same task.
        """
        with self._alone(task), fresh_folder(self.folder / "tmp") as folder:
            making = Making(task, folder, self.places(folder), time.monotonic(), files or {})
            yield making
            if making.noted:
                self._commit(task, folder)

    @contextlib.contextmanager
    def _alone(self, task: Task) -> Iterator[None]:
        """Hold the task's lock: two runs in one project share the work, and two machines that share a database."""
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
            with self._alone_everywhere(task):
                yield
        finally:
            lock.unlink(missing_ok=True)
            os.close(handle)

    @contextlib.contextmanager
    def _alone_everywhere(self, task: Task) -> Iterator[None]:
        shared = self.shared
        if shared is None:
            yield
            return
        with turn(f"{shared.depot.url} {task.name}") as mine:
            if not mine:
                raise Elsewhere(FAR)
            shared.seen.forget(task.name)  # it may be there since it was looked for
            yield

    def _commit(self, task: Task, folder: Path) -> None:
        """Whatever a power cut spoils of it is not as it was noted, and made again: to wait for the disk took a
        fortieth of the time of a slot."""
        target, shared = self.tasks / task.name, self.shared
        with told(target):
            self.tasks.mkdir(parents=True, exist_ok=True)
            if shared:
                (self.folder / UNSENT).mkdir(exist_ok=True)
                (self.folder / UNSENT / task.name).touch()
            if target.exists() and not Notes(self).here(task.name):
                self.discard(task.name)
            if not target.exists():
                folder.rename(target)
        slot = self.folder / "slots" / _slot_name(task.memory)
        with attempt(slot, lasting=False) as part:
            part.write_text(json.dumps(dict(task.parts)), encoding="utf-8")
        if shared:
            shared.send(target)
            (self.folder / UNSENT / task.name).unlink(missing_ok=True)

    def bring(self, notes: Iterable[Note]) -> None:
        """Have the files of finished tasks on this machine. Raises Damaged for one that cannot be fetched."""
        for note in notes:
            if (shared := self.shared) and not Notes(self).here(note.name):
                self.discard(note.name)
                try:
                    shared.bring(note.name, note.folder)
                except Lost as lost:
                    raise Damaged(note, str(lost)) from None

    def discard(self, name: str) -> None:
        """Take a damaged task out of the way on this machine, if it is still there."""
        away = self.folder / "tmp" / part_name()
        with told(away):
            away.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                (self.tasks / name).rename(away)
        shutil.rmtree(away, ignore_errors=True)


class Notes(Mapping[str, Note]):
    """The finished tasks by name, read when asked for. What cannot be read is not there."""

    def __init__(self, store: Store, files: Mapping[Path, FileFacts] | None = None) -> None:
        self.store = store
        self.read: dict[str, Note] = {}
        self.inputs = {input_text(file, facts).partition("/")[0]: str(file) for file, facts in (files or {}).items()}

    def __getitem__(self, name: str) -> Note:
        if name not in self.read:
            self.read[name] = self._read(name)
        return self.read[name]

    def _read(self, name: str) -> Note:
        if note := self.here(name):
            return note
        if (shared := self.store.shared) and (loaded := shared.note(name)):
            with contextlib.suppress(Exception):  # noted by another version, whose results look otherwise
                return self._noted(name, loaded)[0]
        raise Unmade(name)

    def here(self, name: str) -> Note | None:
        """A task that is finished and whole on this machine."""
        folder = self.store.tasks / name
        try:
            note, result = self._noted(name, json.loads((folder / "note.json").read_text(encoding="utf-8")))
        except Exception:  # damaged, or noted by another version: made again
            return None
        touch(folder / "note.json")
        whole = all((folder / file).is_file() for file in note.files)
        return note if whole and not (isinstance(result, Kept) and not result.file.is_file()) else None

    def _noted(self, name: str, loaded: Mapping[str, Any]) -> tuple[Note, Any]:
        folder, kind = self.store.tasks / name, RESULTS.get(name.split("-")[0], Kept)
        with relative_to(self.store.places(folder)):
            result: Any = converter().structure(swapped(loaded["result"], self._input), kind)
        note = Note(
            name, loaded["slot"], loaded["parts"], loaded["files"], result, folder, loaded["seconds"],
            loaded.get("sizes", {}),
        )  # fmt: skip
        return (replace(note, result=result.clip) if isinstance(result, Kept) else note), result

    def _input(self, text: str) -> str:
        """A user's file as it is called here, by what it holds."""
        if not text.startswith(INPUT):
            return text
        digest, _, name = text.removeprefix(INPUT).partition("/")
        return self.inputs.get(INPUT + digest) or str(self.store.folder / INPUTS / digest / name)

    def forget(self, name: str) -> None:
        """Read it anew when next asked for."""
        self.read.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return (entry.name for entry in self.store.tasks.glob("*") if entry.name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Lying(Mapping[Path, str]):
    """What lies where deliveries go, by SHA-256; looked at when it is first asked for."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        self.files = files
        self.seen: dict[Path, str] = {}

    def __getitem__(self, file: Path) -> str:
        if file in self.files and file not in self.seen:
            try:
                self.seen[file] = lies(file) or ""
            except OSError as error:
                raise InputError(f"{file}: cannot be read ({(error.strerror or str(error)).lower()})") from None
        if not self.seen.get(file):
            raise KeyError(file)
        return self.seen[file]

    def __iter__(self) -> Iterator[Path]:
        return (file for file in self.files if file in self)

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


def _beside(file: Path) -> str | None:
    """The SHA-256 of a file's sidecar; empty if it has none and would need one, None if it needs none."""
    if not is_apart(file):
        return None
    beside = sidecar_in_use(file)
    return _hash(beside) if beside else ""


def _age(folder: Path) -> float:
    """Seconds since anything was put into it."""
    try:
        return now_in(folder.parent) - folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


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
    still = sound is None and (picture is None or picture.frames == 1)
    faces = _faces_in(file) if still else None
    return {"sha256": _hash(file), **facts, "fault": fault, "faces": faces, "looked": detector()}


def _faces_in(file: Path) -> int | None:
    """How many faces a picture shows; None for what is no picture, and without the extra `faces`."""
    try:
        found = find_faces(file)
    except InputError:
        return None
    return None if found is None else len(found)
