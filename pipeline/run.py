"""Make what the plan says is missing, in parallel where it may be, and put the deliveries in place.

When a job's promise gives way to facts the recipe is planned again, so that a
run that was killed, or whose film came a frame short, takes up where it stands.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pipeline.plan import plan
from pipeline.recipe import Recipe
from pipeline.store import Elsewhere, Notes, Store
from pipeline.tasks import Call, FileOf, Film, Placement, Plan, ResultOf, Task, World
from stages.clip import Clip
from stages.delivery import FILM, Delivered, Filmed, Shot, make_films
from stages.errors import BudgetExceeded, FfmpegError, Later, WriteError
from stages.ffmpeg import stop_all
from stages.files import copy_whole, sha256, sweep
from stages.mixing import SOUND
from stages.provenance import signer_from_environment, test_signer

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
        """US dollars that this run paid."""
        return sum((task.price or Decimal(0) for task in self.bought), Decimal(0))

    def count(self, action: str) -> int:
        """How many tasks were done that way; `cached` counts those that needed nothing."""
        if action == "cached":
            return sum(task.action == "cached" for task in self.first.tasks)
        return sum(task.action == action for task in self.made)


class Damaged(Exception):
    """A file in the cache is not what its note says."""

    def __init__(self, task: str) -> None:
        super().__init__(task)
        self.task = task


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
    store.tidy()
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
            stop_all()
            raise
    if work.errors:
        raise work.errors[0] if len(work.errors) == 1 else ExceptionGroup("several tasks failed", work.errors)
    work.result.seconds = time.monotonic() - started
    return work.result


def check_targets(recipe: Recipe) -> None:
    """Raise WriteError before anything is paid for or encoded that could not be delivered."""
    for folder in {delivery.file.parent for delivery in recipe.deliveries}:
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not there.is_dir():
            raise WriteError(f"{folder}: a part of its path is a file, not a folder")
        if not os.access(there, os.W_OK | os.X_OK):
            raise WriteError(f"{folder}: this user may not write there")
        sweep(folder)


@dataclass(slots=True)
class _Work:
    """One run under way."""

    recipe: Recipe
    store: Store
    watch: Watch
    result: Result
    running: dict[Future[list[str]], tuple[Task, ...]] = field(default_factory=dict)
    later: dict[str, float] = field(default_factory=dict)  # what asked to be called again, and when
    failed: set[str] = field(default_factory=set)
    errors: list[Exception] = field(default_factory=list)
    placed: set[Path] = field(default_factory=set)
    told: set[str] = field(default_factory=set)

    def off(self, pool: ThreadPoolExecutor) -> None:
        """Start what is ready, wait for one to end; until nothing is missing or can be made."""
        while True:
            self.place()
            missing = self.missing()
            if any(task.promised and all(map(self.done, task.needs)) for task in missing):
                self.result.final = plan(self.recipe, self.result.world)  # another run made what it rests on
                missing = self.missing()
            for group in groups(missing, self.done, self.busy()):
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
        if group[0].name not in self.told:
            self.watch(Event("started", group))
            self.told.add(group[0].name)
        self.running[pool.submit(_make, group, self.store, self.result.world, self.watch)] = group

    def ended(self) -> set[Future[list[str]]]:
        """Those that have ended, once there is one, or it is time to call a job again."""
        seconds = min(self.later.values(), default=0.0) - time.monotonic() if self.later else None
        if not self.running:
            time.sleep(max(0.0, seconds or 0.0))
            return set()
        return wait(self.running, timeout=seconds and max(0.0, seconds), return_when=FIRST_COMPLETED).done

    def end(self, future: Future[list[str]], tasks: tuple[Task, ...]) -> None:
        try:
            self.result.warnings += future.result()
        except Later as later:
            self.later[tasks[0].name] = time.monotonic() + later.seconds
            if isinstance(later, Elsewhere):
                self.watch(Event("waiting", tasks))
            return
        except Damaged as damaged:
            self.discard(damaged.task)
            return
        except Exception as error:
            self.failed |= {task.name for task in tasks}
            self.errors.append(error)
            self.watch(Event("failed", tasks, error=error))
            return
        unmade = [task.name for task in tasks if not self.done(task.name)]
        assert not unmade, f"made, and not there: {unmade}"
        self.result.made += tasks
        self.watch(Event("done", tasks, 1.0))
        if any(isinstance(self.result.world.notes[task.name].result, Clip) for task in tasks):
            self.result.final = plan(self.recipe, self.result.world)

    def discard(self, name: str) -> None:
        """Forget a damaged task: it is made again."""
        self.store.discard(name)
        assert isinstance(self.result.world.notes, Notes)
        self.result.world.notes.forget(name)
        self.result.final = plan(self.recipe, self.result.world)

    def place(self) -> None:
        """Copy each finished film to where the recipe wants it, unless that very file lies there already."""
        for placement in self.result.final.deliveries:
            if placement.file in self.placed or not self.done(placement.task):
                continue
            try:
                put = list(_put(placement, self.result.world))
            except Damaged as damaged:
                self.discard(damaged.task)
                break  # it is made again, and then placed
            self.placed.add(placement.file)
            self.result.placed += put
            for file in put:
                self.watch(Event("placed", file=file))


def groups(missing: Sequence[Task], done: Callable[[str], bool], busy: set[str]) -> Iterator[tuple[Task, ...]]:
    """The tasks that can start now. Films of the same sources wait for each other and share a process."""
    ready = [task for task in missing if not task.promised and all(map(done, task.needs)) and task.name not in busy]
    shared: dict[object, list[Task]] = {}
    for task in missing:
        if isinstance(task.work, Film) and task.action == "encode":
            shared.setdefault(task.work.cut.sources, []).append(task)
        elif task in ready:
            yield (task,)
    for films in shared.values():
        if all(task in ready for task in films):
            for start in range(0, len(films), SHARED):
                yield tuple(films[start : start + SHARED])


# ---------------------------------------------------------------- making


def _make(tasks: Sequence[Task], store: Store, world: World, watch: Watch) -> list[str]:
    """Make one task, or several films in one encode. Returns warnings."""
    if isinstance(tasks[0].work, Film):
        return _make_films(tasks, store, world, watch)
    (task,) = tasks
    assert isinstance(task.work, Call)
    with store.making(task) as making:
        if _made_meanwhile(task, world):
            return []
        fills = {
            "folder": making.folder,
            "target": making.folder / FILM,
            "signer": signer_from_environment() or test_signer(store.signer),
            "inputs": task.work.inputs,
            "on_progress": lambda fraction: watch(Event("progress", (task,), fraction)),
        }
        takes = inspect.signature(task.work.function).parameters
        given = {key: _settled(value, world) for key, value in task.work.arguments.items()}
        made = task.work.function(**given, **{key: value for key, value in fills.items() if key in takes})
        store.unchanged(world)
        making.done(made, _main(made))
    return []


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
        if sha256(note.folder / value.file) != note.files[value.file]:
            raise Damaged(value.task)
        return note.folder / value.file
    if isinstance(value, ResultOf):
        return getattr(world.notes[value.task].result, value.name)
    if isinstance(value, Mapping):
        return {key: _settled(inner, world) for key, inner in value.items()}
    return value


def _make_films(tasks: Sequence[Task], store: Store, world: World, watch: Watch) -> list[str]:
    """All in one process; if that fails, each by itself, so that one does not hold up the others."""
    try:
        return _filmed(tasks, store, world, watch)
    except FfmpegError:
        if len(tasks) == 1:
            raise
        return [warning for task in tasks for warning in _filmed((task,), store, world, watch)]


def _filmed(tasks: Sequence[Task], store: Store, world: World, watch: Watch) -> list[str]:
    with ExitStack() as stack:
        todo = [(task, stack.enter_context(store.making(task))) for task in tasks if not _made_meanwhile(task, world)]
        shots = [
            Shot(task.work.cut, _settled(task.work.sound, world), making.folder, sheet=True)
            for task, making in todo
            if isinstance(task.work, Film)
        ]
        if not shots:
            return []
        frames = max(shot.cut.picture.frames for shot in shots)
        films = make_films(shots, lambda done: watch(Event("progress", tuple(tasks), min(1.0, done / frames))))
        store.unchanged(world)
        for (_, making), film in zip(todo, films, strict=True):
            making.done(film, FILM)
    complaints = dict.fromkeys(said for film in films for said in film.damage)
    return [f"{tasks[0].title}: the source is damaged: {said}" for said in complaints]


# ---------------------------------------------------------------- delivering


def _put(placement: Placement, world: World) -> Iterator[Path]:
    """Copy the film and its sidecars to their places; what lies there already is left alone."""
    note = world.notes[placement.task]
    pairs = [(note.file, placement.file, note.sha256)]
    for extra in note.result.sidecars:
        pairs.append((note.folder / extra.name, placement.file.with_suffix(extra.suffix), note.files[extra.name]))
    for kept, target, wanted in pairs:
        if target.is_file() and (world.delivered.get(target) or sha256(target)) == wanted:
            continue
        if sha256(kept) != wanted:
            raise Damaged(placement.task)
        copy_whole(kept, target)
        yield target
