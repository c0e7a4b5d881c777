"""Make what the plan says is missing, in parallel where it may be, and put the deliveries in place.

After each task the recipe is planned again on what exists by then, so that
promises give way to facts, and a run that was killed takes up where it stood.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Literal

from pipeline.plan import Ingest, Ingested, MakeDelivery, Note, Plan, RunJob, Task, World, plan
from pipeline.recipe import Recipe
from pipeline.store import Making, Store
from stages.clip import Clip, Source
from stages.delivery import Delivered, Shot, finish, make_pictures
from stages.errors import FfmpegError, Later, ProvenanceError
from stages.ffmpeg import contact_sheet, waveform
from stages.files import copy_whole, sha256
from stages.provenance import archive_ingredient, signer_from_environment, test_signer
from stages.sound import make_sound, measure

FILM, SOUND, ARCHIVE, SHEET, WAVES = "film.mp4", "sound.m4a", "ingredient.c2pa", "sheet.jpg", "waves.png"


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person may want to see: `fraction` is of this task, 0 to 1."""

    kind: Literal["waiting", "planned", "started", "progress", "done", "placed"]
    tasks: tuple[Task, ...] = ()
    fraction: float = 0.0
    file: Path | None = None


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

    @property
    def deliveries(self) -> list[tuple[MakeDelivery, Note]]:
        """Each delivered file's work and note, in the recipe's order."""
        notes = self.world.notes
        return [(work, notes[name]) for work, name in self.final.deliveries]

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


def run(recipe: Recipe, store: Store, watch: Watch = lambda _: None, slots: int = 0) -> Result:
    """Make everything that `recipe` asks for and that is not there yet.

    `slots` is how many tasks may work at once; by default one a core. The first
    error stops new work; what was finished stays. Raises what the stages raise.
    """
    started = time.monotonic()
    with store.locked(lambda: watch(Event("waiting"))):
        world = store.world(recipe)
        first = plan(recipe, world)
        watch(Event("planned", first.tasks))
        result = Result(first, first, world)
        with ThreadPoolExecutor(slots or os.cpu_count() or 1) as pool:
            _work_off(recipe, store, watch, result, pool)
        _place(result, watch)
    result.seconds = time.monotonic() - started
    return result


def _work_off(recipe: Recipe, store: Store, watch: Watch, result: Result, pool: ThreadPoolExecutor) -> None:
    """Start what is ready, wait for one to end, plan again; until nothing is missing."""
    running: dict[Future[list[str]], tuple[Task, ...]] = {}
    later: dict[str, float] = {}  # jobs that asked to be called again, and when
    called: set[str] = set()
    try:
        while True:
            now = time.monotonic()
            busy = {task.name for tasks in running.values() for task in tasks}
            busy |= {name for name, when in later.items() if when > now}
            missing = [task for task in result.final.tasks if task.action != "cached"]
            for group in _groups([task for task in missing if task.name not in busy], result.world):
                if group[0].name not in called:
                    watch(Event("started", group))
                called.add(group[0].name)
                running[pool.submit(_make, group, store, result.world, watch)] = group
            if not running and not later:
                assert not missing, f"nothing can start, and these are missing: {[task.name for task in missing]}"
                return
            soonest = min(later.values(), default=None)
            for future in _ended(running, None if soonest is None else max(0.0, soonest - time.monotonic())):
                tasks = running.pop(future)
                later.pop(tasks[0].name, None)
                try:
                    result.warnings += future.result()
                except Later as again:
                    later[tasks[0].name] = time.monotonic() + again.seconds
                    continue
                result.made += tasks
                watch(Event("done", tasks, 1.0))
            later = {name: when for name, when in later.items() if when > time.monotonic() or name in busy}
            result.final = plan(recipe, result.world)
    except BaseException:
        for future in running:
            future.cancel()
        raise


def _ended(running: Mapping[Future[list[str]], object], seconds: float | None) -> set[Future[list[str]]]:
    """Those that have ended, once there is one or `seconds` are over."""
    if not running:
        time.sleep(seconds or 0)
        return set()
    return wait(running, timeout=seconds, return_when=FIRST_COMPLETED).done


def _groups(missing: Sequence[Task], world: World) -> list[tuple[Task, ...]]:
    """The tasks that can start now. Encodes of the same sources wait for each other and share a process."""
    ready = [t for t in missing if not t.promised and all(need in world.notes for need in t.needs)]
    alone = [(t,) for t in ready if not isinstance(t.work, MakeDelivery) or t.action == "copy"]
    encodes = [t for t in missing if isinstance(t.work, MakeDelivery) and t.action == "encode"]
    shared: dict[object, list[Task]] = {}
    for task in encodes:
        assert isinstance(task.work, MakeDelivery)
        shared.setdefault(task.work.delivery.sources, []).append(task)
    return alone + [tuple(group) for group in shared.values() if all(task in ready for task in group)]


# ---------------------------------------------------------------- making


def _make(tasks: Sequence[Task], store: Store, world: World, watch: Watch) -> list[str]:
    """Make one task, or several deliveries in one encode. Returns warnings."""
    work = tasks[0].work
    if isinstance(work, MakeDelivery):
        return _make_deliveries(tasks, store, world, watch)
    with store.making(tasks[0]) as making:
        if isinstance(work, Ingest):
            _ingest(work, making, store)
        elif isinstance(work, RunJob):
            _run_job(work, making, watch)
        else:
            report = make_sound(work.track, making.folder / SOUND)
            waveform(making.folder / SOUND, making.folder / WAVES)
            making.done((SOUND, WAVES), report)
    return []


def _ingest(work: Ingest, making: Making, store: Store) -> None:
    """Read the credentials before anything touches the file; a file that was tampered with stops here."""
    credentials = archive_ingredient(work.file, making.folder / ARCHIVE, anchors=store.anchors)
    if credentials.state == "tampered":
        raise ProvenanceError(
            f"{work.file.name}: was changed after it was signed ({', '.join(credentials.codes)});"
            " it is not used, since what is made of it could not be proved",
            "tampered",
            credentials.codes,
        )
    files, clip = [ARCHIVE], work.clip or Clip()
    if clip.picture:
        contact_sheet(work.file, clip.picture.frames, making.folder / SHEET)
        files.append(SHEET)
    elif work.clip is None:
        with contextlib.suppress(FfmpegError):  # a photo; what is neither that nor a film has nothing to show
            contact_sheet(work.file, 1, making.folder / SHEET, columns=1)
            files.append(SHEET)
    if clip.sound:
        waveform(work.file, making.folder / WAVES)
        files.append(WAVES)
    making.done(tuple(files), Ingested(credentials, measure(clip.sound) if clip.sound else None))


def _run_job(work: RunJob, making: Making, watch: Watch) -> None:
    """Call the job's function with what it can take of what the runner fills in."""
    takes = inspect.signature(work.stage.function).parameters
    fills = {
        "folder": making.folder,
        "inputs": work.inputs,
        "on_progress": lambda fraction: watch(Event("progress", (making.task,), fraction)),
    }
    given = {key: _as_file(value) if isinstance(value, Clip) else value for key, value in work.arguments.items()}
    clip = work.stage.function(**given, **{key: value for key, value in fills.items() if key in takes})
    files = sorted(file.name for file in making.folder.iterdir() if file.is_file())
    main = next((stream.path.name for stream in clip.streams if isinstance(stream, Source)), "")
    making.done(tuple(sorted(files, key=lambda name: name != main)), clip)


def _as_file(clip: Clip) -> Path | Clip:
    """The file behind a clip that nothing was done to since a job made it."""
    stream = next(clip.streams)
    return stream.path if isinstance(stream, Source) else clip


def _make_deliveries(tasks: Sequence[Task], store: Store, world: World, watch: Watch) -> list[str]:
    """Encode all in one process; then each is signed, verified and kept by itself."""
    works = [task.work for task in tasks if isinstance(task.work, MakeDelivery)]
    frames = works[0].delivery.frames
    with store.making(tasks[0]) as shared:
        shots = [
            Shot(
                work.delivery,
                world.notes[work.sound].file if work.sound else None,
                shared.folder / f"unsigned{number}.mp4",
            )
            for number, work in enumerate(works)
        ]
        warnings = make_pictures(shots, lambda done: watch(Event("progress", tuple(tasks), min(1.0, done / frames))))
        for task, work, shot in zip(tasks, works, shots, strict=True):
            with store.making(task) as making:
                _finish(work, shot, making, store, world)
    return [f"{works[0].file.name}: the source is damaged: {said}" for said in warnings]


def _finish(work: MakeDelivery, shot: Shot, making: Making, store: Store, world: World) -> None:
    signer = signer_from_environment() or test_signer(store.signer)
    archives = {file: world.notes[name].folder / ARCHIVE for file, name in work.archives.items()}
    film = making.folder / FILM
    report = world.notes[work.sound].result if work.sound else None
    delivered = finish(
        shot.target,
        film,
        work.delivery,
        signer=signer,
        anchors=store.anchors,
        archives=archives,
        sound=report,
    )
    contact_sheet(film, delivered.frames, making.folder / SHEET)
    making.done((FILM, SHEET, *(extra.name for extra in delivered.sidecars)), delivered)


# ---------------------------------------------------------------- delivering


def _place(result: Result, watch: Watch) -> None:
    """Copy each finished film to where the recipe wants it, unless that very file lies there already."""
    for work, note in result.deliveries:
        pairs = [(note.file, work.file, note.sha256)]
        assert isinstance(note.result, Delivered)
        for extra in note.result.sidecars:
            pairs.append((note.folder / extra.name, work.file.with_suffix(extra.suffix), note.files[extra.name]))
        for kept, target, wanted in pairs:
            if target.is_file() and sha256(target) == wanted:
                continue
            copy_whole(kept, target)
            result.placed.append(target)
            watch(Event("placed", file=target))
