"""Make what the plan says is missing, in parallel where it may be, and put the deliveries in place.

When a job's promise gives way to facts the recipe is planned again, so that a
run that was killed, or whose film came a frame short, takes up where it stands.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pipeline.plan import plan
from pipeline.recipe import Recipe
from pipeline.store import Elsewhere, Notes, Store
from pipeline.tasks import Call, FileOf, Film, Note, Placement, Plan, ResultOf, Task, World
from stages.clip import Clip
from stages.delivery import FILM, Delivered, Filmed, Shot, make_films
from stages.errors import BudgetExceeded, FfmpegError, Later, WriteError
from stages.ffmpeg import stop_all
from stages.files import copy_whole, sha256
from stages.mixing import SOUND
from stages.provenance import signer_for

SHARED = 4
"""Films in one process: sharing the decoder and the first filters saves a quarter; memory grows with each."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person may want to see: `fraction` is of these tasks, 0 to 1."""

    kind: Literal["planned", "waiting", "started", "progress", "done", "failed", "placed"]
    tasks: tuple[Task, ...] = ()
    fraction: float = 0.0
    file: Path | None = None
    error: BaseException | None = None


Watch = Callable[[Event], None]


@dataclass(slots=True)
class Result:
    """What a run came to. `first` is the plan as it stood before anything was made."""

    first: Plan
    final: Plan
    world: World
    made: list[Task] = field(default_factory=list)
    placed: list[Path] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def delivered(self, placement: Placement) -> Delivered:
        """What was noted of a delivery."""
        result: Delivered = self.world.notes[placement.task].result
        return result

    @property
    def bought(self) -> list[Task]:
        """What this run paid for."""
        made = {task.name for task in self.made}
        return [task for task in self.first.tasks if task.action == "pay" and task.name in made]

    @property
    def spent(self) -> Decimal:
        """US dollars that this run's purchases cost, simulated ones too."""
        return sum((task.price or Decimal(0) for task in self.bought), Decimal(0))

    @property
    def simulated(self) -> Decimal:
        """How much of `spent` a simulator asked for, which nobody paid."""
        return self.spent - sum((task.real_price for task in self.bought), Decimal(0))

    def count(self, action: str) -> int:
        """How many tasks were done that way; `cached` counts those that needed nothing."""
        if action == "cached":
            return sum(task.action == "cached" for task in self.first.tasks)
        return sum(task.action == action for task in self.made)


class Damaged(Exception):
    """A file in the cache is not what its note says, or is gone."""

    def __init__(self, note: Note) -> None:
        super().__init__(note.name)
        self.note = note


@dataclass(frozen=True, slots=True)
class Done:
    """What a call of the workers came to: the tasks it made itself (another run may have been first), and warnings."""

    made: tuple[Task, ...] = ()
    warnings: tuple[str, ...] = ()


def run(
    recipe: Recipe,
    store: Store,
    watch: Watch = lambda _: None,
    slots: int = 0,
    agree: Callable[[Plan], bool] = lambda _: True,
) -> Result:
    """Make everything that `recipe` asks for and that is not there yet, and put each delivery in place when it is done.

    `slots` is how many tasks may work at once; by default one a core. `agree`
    is asked before anything is paid for. What fails stops what needs it and
    nothing else. Raises what the stages raise, in an ExceptionGroup if several
    failed, and BudgetExceeded if the plan costs more than the recipe allows or
    nobody agreed to its price.
    """
    started = time.monotonic()
    check_targets(recipe)
    store.tidy(recipe)
    world = store.world(recipe)
    first = plan(recipe, world)
    if first.over:
        raise BudgetExceeded(f"{first.over}: nothing was bought")
    if first.real_price and not agree(first):
        raise BudgetExceeded(f"nobody agreed to pay ${first.real_price}: nothing was bought")
    watch(Event("planned", first.tasks))
    work = _Work(recipe, store, watch, Result(first, first, world))
    with ThreadPoolExecutor(slots or os.cpu_count() or 1) as pool:
        try:
            work.off(pool)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # what waits for a slot may cost money
            stop_all()
            raise
    if work.errors:
        raise work.errors[0] if len(work.errors) == 1 else ExceptionGroup("several tasks failed", work.errors)
    work.result.seconds = time.monotonic() - started
    return work.result


def check_targets(recipe: Recipe) -> None:
    """Raise WriteError before anything is paid for or encoded that could not be delivered."""
    for delivery in recipe.deliveries:
        folder = delivery.file.parent
        if delivery.file.is_dir():
            raise WriteError(f"{delivery.file}: is a folder")
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not there.is_dir():
            raise WriteError(f"{folder}: a part of its path is a file, not a folder")
        if not os.access(there, os.W_OK | os.X_OK):
            raise WriteError(f"{folder}: this user may not write there")


@dataclass(slots=True)
class _Work:
    """One run under way."""

    recipe: Recipe
    store: Store
    watch: Watch
    result: Result
    running: dict[Future[Done], tuple[Task, ...]] = field(default_factory=dict)
    later: dict[str, float] = field(default_factory=dict)  # what asked to be called again, and when
    alone: set[str] = field(default_factory=set)  # films whose shared encode failed
    failed: set[str] = field(default_factory=set)
    errors: list[Exception] = field(default_factory=list)
    placed: set[Path] = field(default_factory=set)
    told: set[tuple[str, ...]] = field(default_factory=set)

    def off(self, pool: ThreadPoolExecutor) -> None:
        """Start what is ready, wait for one to end; until nothing is missing or can be made."""
        while True:
            self.place()
            missing = self.missing()
            if any(task.promised and all(map(self.done, task.needs)) for task in missing):
                self.result.final = plan(self.recipe, self.result.world)  # another run made what it rests on
                missing = self.missing()
            for group in groups(missing, self.done, self.busy(), self.alone):
                self.start(pool, group)
            if not self.running and not self.later:
                assert self.errors or not missing, f"nothing can start: {[task.name for task in missing]}"
                return
            for future in self.ended():
                self.end(future, self.running.pop(future))

    def missing(self) -> list[Task]:
        """What is to be made and can still be: not what needs something that failed."""
        found: list[Task] = []
        for task in self.result.final.tasks:
            if task.action == "cached" or self.done(task.name):
                continue
            if task.name in self.failed or self.failed & set(task.needs):
                self.failed.add(task.name)
            else:
                found.append(task)
        return found

    def done(self, name: str) -> bool:
        return name in self.result.world.notes

    def busy(self) -> set[str]:
        now = time.monotonic()
        self.later = {name: when for name, when in self.later.items() if when > now}
        return {task.name for tasks in self.running.values() for task in tasks} | set(self.later)

    def start(self, pool: ThreadPoolExecutor, group: tuple[Task, ...]) -> None:
        names = tuple(task.name for task in group)
        if names not in self.told:
            self.watch(Event("started", group))
            self.told.add(names)
        self.running[pool.submit(_make, group, self.store, self.result.world, self.watch)] = group

    def ended(self) -> set[Future[Done]]:
        """Those that have ended, once there is one, or it is time to call a job again."""
        seconds = min(self.later.values(), default=0.0) - time.monotonic() if self.later else None
        if not self.running:
            time.sleep(max(0.0, seconds or 0.0))
            return set()
        return wait(self.running, timeout=seconds and max(0.0, seconds), return_when=FIRST_COMPLETED).done

    def end(self, future: Future[Done], tasks: tuple[Task, ...]) -> None:
        try:
            done = future.result()
        except Later as later:
            self.later[tasks[0].name] = time.monotonic() + later.seconds
            if isinstance(later, Elsewhere):
                self.watch(Event("waiting", tasks))
            return
        except Damaged as damaged:
            self.discard(damaged.note)
            return
        except Exception as error:
            if isinstance(error, FfmpegError) and len(tasks) > 1:
                self.alone |= {task.name for task in tasks}  # so that one does not hold up the others
                return
            self.failed |= {task.name for task in tasks}
            self.errors.append(error)
            self.watch(Event("failed", tasks, error=error))
            return
        unmade = [task.name for task in tasks if not self.done(task.name)]
        assert not unmade, f"made, and not there: {unmade}"
        self.result.made += done.made
        self.result.warnings += done.warnings
        self.watch(Event("done", tasks, 1.0))
        if any(isinstance(self.result.world.notes[task.name].result, Clip) for task in tasks):
            self.result.final = plan(self.recipe, self.result.world)

    def discard(self, note: Note) -> None:
        """Forget a damaged task: it is made again. Two that met the same damage say so twice."""
        notes = self.result.world.notes
        if notes.get(note.name) is not note:
            return  # gone already, or made again since
        self.store.discard(note.name)
        assert isinstance(notes, Notes)
        notes.forget(note.name)
        self.result.final = plan(self.recipe, self.result.world)

    def place(self) -> None:
        """Copy each finished film to where the recipe wants it, unless that very file lies there already.

        One that cannot be placed holds up no other.
        """
        for placement in self.result.final.deliveries:
            if placement.file in self.placed or not self.done(placement.task):
                continue
            try:
                for file in _put(placement, self.result.world):
                    self.result.placed.append(file)
                    self.watch(Event("placed", file=file))
            except Damaged as damaged:
                self.discard(damaged.note)
                break  # it is made again, and then placed
            except WriteError as error:
                self.errors.append(error)
            self.placed.add(placement.file)


def groups(
    missing: Sequence[Task], done: Callable[[str], bool], busy: Set[str] = frozenset(), alone: Set[str] = frozenset()
) -> Iterator[tuple[Task, ...]]:
    """The tasks that can start now. Films of the same sources wait for each other and share a process,
    but for those that are to be made `alone`."""
    ready = [task for task in missing if not task.promised and all(map(done, task.needs)) and task.name not in busy]
    shared: dict[object, list[Task]] = {}
    for task in missing:
        if isinstance(task.work, Film) and task.action == "encode" and task.name not in alone:
            shared.setdefault(task.work.cut.sources, []).append(task)
        elif task in ready:
            yield (task,)
    for films in shared.values():
        if all(task in ready for task in films):
            for start in range(0, len(films), SHARED):
                yield tuple(films[start : start + SHARED])


# ---------------------------------------------------------------- making


def _make(tasks: Sequence[Task], store: Store, world: World, watch: Watch) -> Done:
    """Make one task, or several films in one encode."""
    if isinstance(tasks[0].work, Film):
        return _filmed(tasks, store, world, watch)
    (task,) = tasks
    assert isinstance(task.work, Call)
    with store.making(task) as making:
        if _made_meanwhile(task, world):
            return Done()
        fills = {
            "folder": making.folder,
            "target": making.folder / FILM,
            "signer": signer_for(store.folder),
            "inputs": task.work.inputs,
            "on_progress": lambda fraction: watch(Event("progress", (task,), fraction)),
        }
        takes = inspect.signature(task.work.function).parameters
        given = {key: _settled(value, world) for key, value in task.work.arguments.items()}
        made = task.work.function(**given, **{key: value for key, value in fills.items() if key in takes})
        store.unchanged(world)
        making.done(made, _main(made))
    return Done((task,))


def _made_meanwhile(task: Task, world: World) -> bool:
    """Whether another run made it between the plan and now."""
    return task.name in world.notes


def _main(made: object) -> str:
    """The name of the file that a task is mainly about."""
    if isinstance(made, Clip):
        return made.file.name
    return FILM if isinstance(made, Delivered | Filmed) else SOUND


def _settled(value: Any, world: World) -> Any:
    """An argument with what it stands for: the file or result of another task, the file behind a clip."""
    if isinstance(value, FileOf):
        note = world.notes[value.task]
        _check_whole(note, value.file)
        return note.folder / value.file
    if isinstance(value, ResultOf):
        return getattr(world.notes[value.task].result, value.name)
    if isinstance(value, Mapping):
        return {key: _settled(inner, world) for key, inner in value.items()}
    return value


def _check_whole(note: Note, file: str) -> None:
    """Raise Damaged unless the file in a finished task's folder is the one that was noted."""
    try:
        whole = sha256(note.folder / file) == note.files[file]
    except OSError:
        whole = False
    if not whole:
        raise Damaged(note)


def _filmed(tasks: Sequence[Task], store: Store, world: World, watch: Watch) -> Done:
    """All in one process, but for those that another run made meanwhile."""
    with ExitStack() as stack:
        # Locked before it is looked, and in one order: two runs can neither both encode nor both give way.
        held = {task.name: stack.enter_context(store.making(task)) for task in sorted(tasks, key=lambda t: t.name)}
        todo = [task for task in tasks if not _made_meanwhile(task, world)]
        shots = [
            Shot(task.work.cut, _settled(task.work.sound, world), held[task.name].folder, sheet=True)
            for task in todo
            if isinstance(task.work, Film)
        ]
        if not shots:
            return Done()
        frames = max(shot.cut.picture.frames for shot in shots)
        films = make_films(shots, lambda done: watch(Event("progress", tuple(tasks), min(1.0, done / frames))))
        store.unchanged(world)
        for task, film in zip(todo, films, strict=True):
            held[task.name].done(film, FILM)
    complaints = dict.fromkeys(said for film in films for said in film.damage)
    return Done(tuple(todo), tuple(f"{tasks[0].title}: the source is damaged: {said}" for said in complaints))


# ---------------------------------------------------------------- delivering


def _put(placement: Placement, world: World) -> Iterator[Path]:
    """Copy the film and its sidecars to their places; what lies there already is left alone."""
    note = world.notes[placement.task]
    pairs = [(note.file.name, placement.file)]
    for extra in note.result.sidecars:
        pairs.append((extra.name, placement.file.with_suffix(extra.suffix)))
    for kept, target in pairs:
        if target.is_file() and (world.delivered.get(target) or sha256(target)) == note.files[kept]:
            continue
        _check_whole(note, kept)
        copy_whole(note.folder / kept, target)
        yield target
