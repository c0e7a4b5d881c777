"""`pipeline gc`: what nobody has used for long is freed, on this machine and in the shared store.

Never freed is what an open render needs (each is planned, and so its tasks are
known), what somebody used within a day, and a paid original that a row of the
ledger stands for. What is freed costs time if it is wanted again, never money.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.batch import Engine
from pipeline.plan import plan
from pipeline.sharing import INPUTS, UNSENT, Sharing
from pipeline.yard import Yard
from stages.depot import Entry, Missing, object_name
from stages.errors import BudgetExceeded, InputError, ProvenanceError
from stages.ledger import open_ledger, purchases

RECENT = 86_400.0
"""Seconds for which what was used or put is left alone: somebody may be at it."""


OVER = ("done", "failed", "new")
"""Words for renders that need nothing more. One that is new is in no queue: the engine's tables were wiped since."""


@dataclass(frozen=True, slots=True)
class Needed:
    """What must stay: tasks by name and users' files by SHA-256 that `renders` open renders need, and the batches
    that these are of."""

    tasks: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    batches: frozenset[str] = frozenset()
    renders: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What is too much: what was not used for `age` seconds, and of the rest the oldest until `size` bytes are left."""

    age: float
    size: int | None = None

    def exceeded(self, unused: float, total: int) -> bool:
        """Whether what was not used for so many seconds is to go, while there are `total` bytes."""
        too_much = self.size is not None and total > self.size
        return unused > RECENT and (unused > self.age or too_much)

    def exceeding(self, found: Iterable[Item], now: float) -> list[Item]:
        """What is to go of `found`, the oldest first."""
        rest, going = sorted(found, key=lambda item: item.used), []
        total = sum(item.size for item in rest)
        for item in rest:
            if not item.needed and self.exceeded(now - item.used, total):
                going.append(item)
                total -= item.size
        return going


@dataclass(frozen=True, slots=True)
class Item:
    """Something that may be freed: bytes, when it was last used, and whether it must stay."""

    name: str
    size: int
    used: float
    needed: bool = False


@dataclass(frozen=True, slots=True)
class Freed:
    """What was freed somewhere, and what is left, in bytes."""

    where: str
    counts: Mapping[str, int]
    size: int
    left: int

    def __str__(self) -> str:
        parts = ", ".join(f"{count} {what}" for what, count in self.counts.items() if count) or "nothing"
        return f"{self.where}: {parts}; {_bytes(self.size)} freed, {_bytes(self.left)} left"


# ---------------------------------------------------------------- what must stay


def needed_by_open(yard: Yard) -> Needed:
    """What the renders need that are not over yet; one that cannot be planned needs nothing. Raises WriteError where
    that cannot be known."""
    names = yard.shelf.names()
    if not names:
        return Needed()
    engine = Engine.of(yard.folder)
    engine.prepare()
    tasks: set[str] = set()
    files: set[str] = set()
    batches: set[str] = set()
    renders = 0
    with engine.client() as desk:
        for name in names:
            batch = yard.shelf.read(name)
            states = desk.states(batch)
            for render in (each for each in batch.good if states[each.id].word not in OVER):
                batches.add(name)
                renders += 1
                with contextlib.suppress(InputError, BudgetExceeded, ProvenanceError):
                    _, recipe, store = yard.open(name, render.id)
                    planned = plan(recipe, store.world(recipe)).tasks
                    tasks |= {each for task in planned for each in (task.name, *task.needs)}
            if name in batches:
                files |= set(batch.files.values())
    return Needed(frozenset(tasks), frozenset(files), frozenset(batches), renders)


# ---------------------------------------------------------------- on this machine


def clean_here(yard: Yard, needed: Needed, limits: Limits, *, dry: bool = False) -> Freed:
    """Free what this machine keeps too long, or too much of."""
    found = {item.name: item for item in _here(yard.folder, needed)}
    going = limits.exceeding(found.values(), time.time())
    if not dry:
        for item in going:
            shutil.rmtree(yard.folder / item.name, ignore_errors=True)
    counts = Counter(item.name.partition("/")[0] for item in going)
    size = sum(item.size for item in going)
    return Freed(str(yard.folder), counts, size, sum(item.size for item in found.values()) - size)


def _here(folder: Path, needed: Needed) -> Iterator[Item]:
    unsent = {entry.name for entry in (folder / UNSENT).glob("*")}
    for kind, stays in (("tasks", needed.tasks | unsent), (INPUTS, needed.files), ("unfinished", needed.tasks)):
        for entry in (folder / kind).glob("*"):
            with contextlib.suppress(OSError):  # another clears away, too
                files = [file.stat() for file in (entry, *entry.rglob("*"))]
                used = max(file.st_mtime for file in files)
                # A user's file with credentials beside it is in SHA256-BESIDE; no task's name begins with one.
                needed_here = not stays.isdisjoint((entry.name, entry.name.partition("-")[0]))
                yield Item(f"{kind}/{entry.name}", sum(file.st_size for file in files), used, needed_here)


# ---------------------------------------------------------------- in the store


@dataclass(slots=True)
class _Refs:
    """Which objects the notes read, and how many notes each."""

    sizes: Mapping[str, int]
    of: dict[str, frozenset[str]] = field(default_factory=dict)
    count: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, objects: frozenset[str]) -> None:
        self.of[name] = objects
        self.count.update(objects)

    def drop(self, name: str) -> int:
        """Bytes that nobody reads any more."""
        self.count.subtract(self.of[name])
        return sum(self.sizes.get(each, 0) for each in self.of[name] if self.count[each] == 0)


def clean_store(shared: Sharing, needed: Needed, limits: Limits, *, dry: bool = False) -> Freed:
    """Free what the store keeps too long, or too much of: notes and batches by their age, and the files that none of
    those which stay reads. Raises WriteError and InputError as a store does."""
    now, depot = time.time(), shared.depot
    objects = {entry.name: entry for entry in depot.list("objects")}
    batches = {entry.name.removeprefix("batches/"): entry for entry in depot.list("batches")}
    notes = _listed(shared)
    refs = _Refs({name: entry.size for name, entry in objects.items()})
    for name, read in _read(shared, notes):
        refs.add(name, read)
    paid = {object_name(row.sha256) for row in purchases(open_ledger()) if row.state == "DONE"}
    old = {name for name, entry in batches.items() if now - entry.when > max(limits.age, RECENT)}
    old -= {name for name in old if name.removesuffix(".orders") in needed.batches}
    kept = paid | {object_name(digest) for digest in needed.files}
    for name in {name.removesuffix(".orders") for name in batches} - old:
        kept |= _inputs(shared, f"batches/{name}")
    for entry in depot.list("schedules"):
        kept |= _inputs(shared, entry.name)
    refs.count.update(kept)
    unread_before = sum(entry.size for entry in _unread(objects, refs, now))  # which go anyway
    going = _notes_to_go(notes, refs, needed, limits, now, sum(refs.sizes.values()) - unread_before)
    unread = _unread(objects, refs, now)
    if not dry:
        depot.remove(f"tasks/{name}" for name in going)
        depot.remove(f"batches/{name}" for name in old)
        fresh = {name: entry for name, entry in _listed(shared).items() if name not in notes}
        spared = {each for _, read in _read(shared, fresh) for each in read}  # made meanwhile, of the same files
        depot.remove(entry.name for entry in unread if entry.name not in spared)
        depot.sweep(now - RECENT)
    size = sum(entry.size for entry in unread)
    counts = {"tasks": len(going), "batches": sum(not name.endswith(".orders") for name in old), "files": len(unread)}
    return Freed(depot.url, counts, size, sum(refs.sizes.values()) - size)


def _unread(objects: Mapping[str, Entry], refs: _Refs, now: float) -> list[Entry]:
    """The files that nothing reads, and that nobody has just put for a note that is to come."""
    return [entry for name, entry in objects.items() if refs.count[name] <= 0 and now - entry.when > RECENT]


def _listed(shared: Sharing) -> dict[str, Entry]:
    return {entry.name.removeprefix("tasks/"): entry for entry in shared.depot.list("tasks")}


def _notes_to_go(
    notes: Mapping[str, Entry], refs: _Refs, needed: Needed, limits: Limits, now: float, total: int
) -> list[str]:
    """The oldest notes, until the rest is young and small enough."""
    going: list[str] = []
    for name in sorted(notes, key=lambda each: notes[each].when):
        if name not in needed.tasks and limits.exceeded(now - notes[name].when, total):
            total -= refs.drop(name)
            going.append(name)
    return going


def _read(shared: Sharing, names: Iterable[str]) -> list[tuple[str, frozenset[str]]]:
    """The objects that each note reads."""

    def one(name: str) -> tuple[str, frozenset[str]]:
        try:
            found = shared.depot.read(f"tasks/{name}")
            note = json.loads(found.text if found else "{}")
            return name, frozenset(
                object_name(digest) for part in ("files", "home") for digest in note.get(part, {}).values()
            )
        except (Missing, ValueError, AttributeError):  # gone meanwhile, or damaged: it stands for nothing
            return name, frozenset()

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(one, names))


def _inputs(shared: Sharing, name: str) -> set[str]:
    """The users' files that a batch reads, of which a text of that name tells."""
    try:
        found = shared.depot.read(name)
        return {object_name(digest) for digest in json.loads(found.text if found else "{}")["files"].values()}
    except (Missing, ValueError, KeyError):
        return set()


# ---------------------------------------------------------------- words

UNITS = {"h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
SIZES = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_age(text: str) -> float:
    """`30d` as seconds. Raises InputError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([hdw])", text)
    if not found:
        raise InputError(f"--older-than {text}: should be hours, days or weeks, such as 12h, 30d or 8w")
    return float(found[1]) * UNITS[found[2]]


def parse_size(text: str) -> int:
    """`200GB` as bytes. Raises InputError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MGT]B)", text)
    if not found:
        raise InputError(f"--keep-under {text}: should be a size such as 500MB, 200GB or 2TB")
    return int(float(found[1]) * SIZES[found[2]])


def _bytes(size: int) -> str:
    unit = next((unit for unit in ("TB", "GB") if size >= SIZES[unit]), "MB")
    return f"{size / SIZES[unit]:.1f} {unit}"
