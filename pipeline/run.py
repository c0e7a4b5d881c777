"""Make what the plan says is missing, in parallel where it may be, and put the deliveries in place.

After each task the recipe is planned again on what exists by then, so that
promises give way to facts, and a run that was killed takes up where it stood.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.plan import Ingest, Ingested, MakeDelivery, Note, Plan, Task, World, plan
from pipeline.recipe import Recipe
from pipeline.store import Making, Store
from stages.delivery import Delivered, Shot, finish, make_pictures
from stages.errors import ProvenanceError
from stages.ffmpeg import contact_sheet, waveform
from stages.files import copy_whole, sha256
from stages.media import open_clip
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
        return [(task.work, notes[task.name]) for task in self.final.tasks if isinstance(task.work, MakeDelivery)]

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
    try:
        while True:
            busy = {task.name for tasks in running.values() for task in tasks}
            missing = [task for task in result.final.tasks if task.action != "cached"]
            for group in _groups([task for task in missing if task.name not in busy], result.world):
                watch(Event("started", group))
                running[pool.submit(_make, group, store, result.world, watch)] = group
            if not running:
                assert not missing, f"nothing can start, and these are missing: {[task.name for task in missing]}"
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                tasks = running.pop(future)
                result.warnings += future.result()
                result.made += tasks
                watch(Event("done", tasks, 1.0))
            result.final = plan(recipe, result.world)
    except BaseException:
        for future in running:
            future.cancel()
        raise


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
    files = [ARCHIVE]
    clip = open_clip(work.file)
    if clip.picture:
        contact_sheet(work.file, clip.picture.frames, making.folder / SHEET)
        files.append(SHEET)
    if clip.sound:
        waveform(work.file, making.folder / WAVES)
        files.append(WAVES)
    making.done(tuple(files), Ingested(credentials, measure(clip.sound) if clip.sound else None))


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
