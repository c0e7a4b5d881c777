"""Make what the plan says is missing, in parallel where it may be, and put the deliveries in place.

When a job's promise gives way to facts the recipe is planned again, so that a
run that was killed, or whose film came a frame short, takes up where it stands.
"""

from __future__ import annotations

import inspect
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pipeline.costs import costs
from pipeline.plan import plan
from pipeline.recipe import Recipe
from pipeline.store import Damaged, Elsewhere, Notes, Store, Unmade
from pipeline.tasks import Call, FileOf, Film, Note, Placement, Plan, ResultOf, Task, World
from stages.carriers import sidecar_of
from stages.clip import Clip
from stages.delivery import FILM, Cut, Delivered, Filmed, Shot, make_films
from stages.destinations import address_of, bucket_of, deliver_to, lies, take_away
from stages.errors import (
    AfterframeError,
    BudgetExceeded,
    FfmpegError,
    InputError,
    Later,
    ProviderError,
    Struck,
    WriteError,
)
from stages.ffmpeg import stop_all
from stages.files import sha256
from stages.ingestion import Ingested
from stages.ledger import open_ledger
from stages.market import Market
from stages.mixing import SOUND, SoundReport
from stages.money import dollars
from stages.provenance import signer_for
from stages.watching import due

SHARED = 4
"""Films in one process: sharing the decoder and the first filters saves a quarter; memory grows with each."""

HINTS = 1.0
"""Seconds between two looks into the ledger for what webhooks said."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person may want to see: `fraction` is of these tasks, 0 to 1; `said` is why they wait."""

    kind: Literal["planned", "waiting", "started", "progress", "done", "failed", "placed"]
    tasks: tuple[Task, ...] = ()
    fraction: float = 0.0
    file: Path | None = None
    error: BaseException | None = None
    said: str = ""


Watch = Callable[[Event], None]

NOBODY: Mapping[str, ProviderError] = {}


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

    def sound(self, placement: Placement) -> SoundReport | None:
        """What was noted of a delivery's sound; None if it has none."""
        needs = next((task.needs for task in self.final.tasks if task.name == placement.task), ())
        found = (self.world.notes[need].result for need in needs if need in self.world.notes)
        return next((result for result in found if isinstance(result, SoundReport)), None)

    def count_costs(self, shop: Market) -> None:
        """What each file cost, with what was bought meanwhile."""
        self.world = replace(self.world, shop=shop)
        tasks = {task.name: task for task in self.final.tasks}
        self.final = replace(self.final, costs=costs(self.final.deliveries, tasks, self.world))

    @property
    def bought(self) -> list[Task]:
        """What this run paid for."""
        return [task for task in self.made if task.action == "pay"]

    @property
    def spent(self) -> Decimal:
        """US dollars that this run's purchases cost, simulated ones too."""
        return sum((task.price for task in self.bought), Decimal(0))

    @property
    def simulated(self) -> Decimal:
        """How much of `spent` a simulator asked for, which nobody paid."""
        return self.spent - sum((task.real_price for task in self.bought), Decimal(0))

    def count(self, action: str) -> int:
        """How many tasks were done that way; `cached` counts those that needed nothing."""
        if action == "cached":
            return sum(task.action == "cached" for task in self.first.tasks)
        return sum(task.action == action for task in self.made)


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
    store.tidy(recipe)
    work = Work.begin(recipe, store, watch)
    first = work.result.first
    if (first.price or first.unknown_prices) and not agree(first):
        raise BudgetExceeded(f"nobody agreed to pay {dollars(first.price)}: nothing was bought")
    watch(Event("planned", first.tasks))
    with ThreadPoolExecutor(slots or os.cpu_count() or 1) as pool:
        try:
            work.off(pool)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # what waits for a slot may cost money
            stop_all()
            raise
    if work.errors:
        raise work.errors[0] if len(work.errors) == 1 else ExceptionGroup("several tasks failed", work.errors)
    if first.keys:
        work.result.count_costs(store.shop(recipe))
    work.result.seconds = time.monotonic() - started
    return work.result


def check_targets(recipe: Recipe) -> None:
    """Raise WriteError before anything is paid for or encoded that could not be delivered."""
    for delivery in recipe.deliveries:
        if address_of(delivery.file):
            bucket_of(delivery.file)
            continue
        folder = delivery.file.parent
        if delivery.file.is_dir():
            raise WriteError(f"{delivery.file}: is a folder")
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not there.is_dir():
            raise WriteError(f"{folder}: a part of its path is a file, not a folder")
        if not os.access(there, os.W_OK | os.X_OK):
            raise WriteError(f"{folder}: this user may not write there")


@dataclass(slots=True)
class Work:
    """One run under way."""

    recipe: Recipe
    store: Store
    watch: Watch
    result: Result
    running: dict[Future[Done], tuple[Task, ...]] = field(default_factory=dict)
    later: dict[str, float] = field(default_factory=dict)  # what asked to be called again, and when
    lines: dict[str, str] = field(default_factory=dict)  # in which line it stood when it last asked
    alone: set[str] = field(default_factory=set)  # films whose shared encode failed
    failed: set[str] = field(default_factory=set)
    errors: list[Exception] = field(default_factory=list)
    placed: set[Path] = field(default_factory=set)
    told: set[tuple[str, ...]] = field(default_factory=set)
    local: bool = True  # whether it is delivered on this machine

    @classmethod
    def begin(
        cls, recipe: Recipe, store: Store, watch: Watch = lambda _: None, struck: Mapping[str, ProviderError] = NOBODY
    ) -> Work:
        """With nothing done yet; `struck` are models that cannot film. Raises what planning does, and
        BudgetExceeded if it costs more than the recipe allows."""
        check_targets(recipe)
        world = store.world(recipe)
        if struck:
            world = replace(world, shop=replace(world.shop, struck=dict(struck)))
        first = plan(recipe, world)
        if first.over:
            raise BudgetExceeded(f"{first.over}: nothing was bought")
        return cls(recipe, store, watch, Result(first, first, world))

    def off(self, pool: ThreadPoolExecutor) -> None:
        """Start what is ready, wait for one to end; until nothing is missing or can be made."""
        while True:
            for group in self.ready():
                self.start(pool, group)
            if not self.running and not self.later:
                missing = self.missing()
                assert self.errors or not missing, f"nothing can start: {[task.name for task in missing]}"
                return
            for future in self.ended():
                self.end(future.result, self.running.pop(future))

    def ready(self) -> list[tuple[Task, ...]]:
        """Put in place what is finished; what can be made now, together what shares an encode."""
        self.place()
        missing = self.missing()
        if any(task.promised and all(map(self.done, task.needs)) for task in missing):
            self.result.final = plan(self.recipe, self.result.world)  # it was looked at, or another run made it
            missing = self.missing()
        return list(groups(missing, self.done, self.busy(), self.alone))

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
        keys = self.result.final.keys
        self.running[pool.submit(make, group, self.store, self.result.world, self.watch, keys)] = group

    def ended(self) -> set[Future[Done]]:
        """Those that have ended, once there is one, or it is time to call a job again."""
        seconds = None
        if self.later:
            bought = self.bought_and_waiting()
            seconds = max(0.0, min(self.later.values()) - time.monotonic())
            seconds = min(seconds, HINTS) if bought else seconds
            self.heed_hints(bought)
        if not self.running:
            time.sleep(seconds or 0.0)
            return set()
        return wait(self.running, timeout=seconds, return_when=FIRST_COMPLETED).done

    def bought_and_waiting(self) -> dict[str, str]:
        """The ledger's keys of what is being filmed, with the tasks that wait for it."""
        waiting = (task for task in self.result.final.tasks if task.name in self.later)
        return {key: task.name for task in waiting for key in task.keys}

    def heed_hints(self, bought: Mapping[str, str]) -> None:
        """Call a job again at once if a webhook, or another's list, says that there is news of its film."""
        for key in due(open_ledger(), bought) if bought else ():
            self.later.pop(bought[key], None)

    def end(self, outcome: Callable[[], Done], tasks: tuple[Task, ...]) -> None:
        """Take note of what making `tasks` came to: what `outcome` returns or raises."""
        try:
            done = outcome()
        except Later as later:
            self.later[tasks[0].name] = time.monotonic() + later.seconds
            self.lines[tasks[0].name] = later.line
            if later.why or isinstance(later, Elsewhere):
                self.watch(Event("waiting", tasks, said=later.why))
            return
        except Struck as struck:
            self.strike(struck, tasks)
            return
        except Damaged as damaged:
            self.discard(damaged)
            return
        except Unmade:  # another that needs the same found it damaged meanwhile: it is made again first
            return
        except Exception as error:
            if isinstance(error, FfmpegError) and len(tasks) > 1:
                self.alone |= {task.name for task in tasks}  # so that one does not hold up the others
                return
            self.fail(tasks, error)
            return
        unmade = [task.name for task in tasks if not self.done(task.name)]
        assert not unmade, f"made, and not there: {unmade}"
        self.result.made += done.made
        self.result.warnings += done.warnings
        self.watch(Event("done", tasks, 1.0))
        if any(isinstance(self.result.world.notes[task.name].result, Clip) for task in tasks):
            self.result.final = plan(self.recipe, self.result.world)

    def fail(self, tasks: tuple[Task, ...], error: Exception) -> None:
        """Stop what needs these, and go on with the rest."""
        self.failed |= {task.name for task in tasks}
        self.errors.append(error)
        self.watch(Event("failed", tasks, error=error))

    def strike(self, struck: Struck, tasks: tuple[Task, ...]) -> None:
        """Plan again without the model that failed; where nobody is left to film, its failure is the run's."""
        shop = self.result.world.shop
        without = replace(shop, struck={**shop.struck, **struck.shop.struck})
        world = replace(self.result.world, shop=without)
        try:
            final = plan(self.recipe, world)
        except AfterframeError:
            self.fail(tasks, struck.error)
            return
        agreed, would = self.result.first.real_price, final.real_price
        purse = self.recipe.purse
        if final.over or (would > agreed and (purse.approve or not purse.limited)):
            dearer = final.over or f"this run would pay {dollars(would)}, and {dollars(agreed)} were agreed to"
            self.fail(tasks, BudgetExceeded(f"{struck.error}; by another model {dearer}"))
            return
        self.result.final, self.result.world = final, world
        self.result.warnings.append(f"{tasks[0].title}: {struck.error}; another was asked")

    def discard(self, damaged: Damaged) -> None:
        """Forget a damaged task: it is made again. Two that met the same damage say so twice."""
        note, notes = damaged.note, self.result.world.notes
        if damaged.why:
            self.result.warnings.append(f"{damaged.why}: it is made again")
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
            if not self.local and not address_of(placement.file):
                self.placed.add(placement.file)
                continue
            try:
                for file in _put(placement, self.store, self.result.world):
                    self.result.placed.append(file)
                    self.watch(Event("placed", file=file))
            except Damaged as damaged:
                self.discard(damaged)
                break  # it is made again, and then placed
            except (WriteError, InputError) as error:
                self.errors.append(error)
            except OSError as error:  # what lies there cannot be read
                self.errors.append(WriteError(str(error)))
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


def make(tasks: Sequence[Task], store: Store, world: World, watch: Watch, keys: frozenset[str]) -> Done:
    """Make one task, or several films in one encode; `keys` are those of all that the run buys."""
    if isinstance(tasks[0].work, Film):
        return _filmed(tasks, store, world, watch)
    (task,) = tasks
    assert isinstance(task.work, Call)
    with store.making(task, world.files) as making:
        if _made_meanwhile(task, world):
            return Done()
        store.bring(world.notes[need] for need in task.needs)
        fills = {
            "folder": making.folder,
            "target": making.folder / _target(task.work),
            "unfinished": store.unfinished / task.name,
            "signer": signer_for(store.folder),
            "inputs": task.work.inputs,
            "keys": keys,
            "on_progress": lambda fraction: watch(Event("progress", (task,), fraction)),
        }
        takes = inspect.signature(task.work.function).parameters
        given = {key: _settled(value, world) for key, value in task.work.arguments.items()}
        made = task.work.function(**given, **{key: value for key, value in fills.items() if key in takes})
        store.unchanged(world)
        making.done(made, _main(made))
    shutil.rmtree(store.unfinished / task.name, ignore_errors=True)
    remarks = made.remarks if isinstance(made, Clip | Ingested) else ()
    return Done((task,), tuple(f"{task.title}: {remark}" for remark in remarks))


def _made_meanwhile(task: Task, world: World) -> bool:
    """Whether another run made it between the plan and now."""
    return task.name in world.notes


def _main(made: object) -> str:
    """The name of the file that a task is mainly about."""
    if isinstance(made, Clip):
        return made.file.name
    if isinstance(made, Delivered):
        return made.file.name
    return made.file if isinstance(made, Filmed | SoundReport) else SOUND


def _target(work: Call) -> str:
    """What a delivery is called in its folder."""
    made = work.arguments.get("made")
    return made.encoding.file if isinstance(made, Cut) else FILM


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
        held = {
            task.name: stack.enter_context(store.making(task, world.files))
            for task in sorted(tasks, key=lambda t: t.name)
        }
        todo = [task for task in tasks if not _made_meanwhile(task, world)]
        store.bring(world.notes[need] for need in dict.fromkeys(need for task in todo for need in task.needs))
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
            held[task.name].done(film, film.file)
    complaints = dict.fromkeys(said for film in films for said in film.damage)
    return Done(tuple(todo), tuple(f"{tasks[0].title}: the source is damaged: {said}" for said in complaints))


# ---------------------------------------------------------------- delivering


def _put(placement: Placement, store: Store, world: World) -> Iterator[Path]:
    """Copy the film and its sidecars to their places; what lies there already is left alone."""
    note = world.notes[placement.task]
    if placement.cut.encoding.apart and not note.result.credentials_apart:
        take_away(sidecar_of(placement.file))  # a signed forerunner's
    beside = [(extra.name, placement.beside(extra)) for extra in note.result.sidecars]
    # Credentials go first: whoever finds the film finds them.
    pairs = sorted([(note.file.name, placement.file), *beside], key=lambda pair: not pair[0].endswith(".c2pa"))
    for kept, target in pairs:
        if (world.delivered.get(target) or lies(target)) == note.files[kept]:
            continue
        store.bring([note])
        _check_whole(note, kept)
        deliver_to(note.folder / kept, target, note.files[kept])
        yield target
