"""From a recipe and a snapshot of the world to the tasks that make it. Pure.

The same edits run here on promises that run later on probed files. Each task
has a name: a hash of everything that its result depends on, which is at once
its cache key, its place on disk, and how it is found again after a crash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pipeline.recipe import Argument, Delivery, FromFile, FromStep, Given, Recipe, Step
from stages import delivery as delivering
from stages.clip import Clip, origins
from stages.credentials import Credentials
from stages.errors import InputError, RecipeError
from stages.sound import Measured, Track

Parts = Mapping[str, str]
"""What a result depends on, by name: `trim.length: 6s`, `clip: sha256:…`, `ffmpeg: n9.0.2`."""

Action = Literal["cached", "encode", "copy", "make", "pay"]

SOUND_VERSION, DELIVERY_VERSION, INGEST_VERSION = 1, 1, 1
"""Raised when the same parts come to mean another result."""


# ---------------------------------------------------------------- the world


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A user's file: its SHA-256, and the clip in it, or why there is none."""

    sha256: str
    clip: Clip | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """What the store knows of a finished task.

    `files` are the names and SHA-256 of what lies in its folder, the main one
    first; `result` is what its work returned, and `seconds` how long that took.
    """

    name: str
    slot: str
    parts: Parts
    files: Mapping[str, str]
    result: Any
    folder: Path
    seconds: float = 0.0

    @property
    def sha256(self) -> str:
        """Of its main file."""
        return next(iter(self.files.values()))

    @property
    def file(self) -> Path:
        """Its main file."""
        return self.folder / next(iter(self.files))


@dataclass(frozen=True, slots=True)
class World:
    """One snapshot of what exists.

    `notes` are the finished tasks by name and `latest` the last one for a slot;
    `tools` are versions, `signer` a fingerprint; `delivered` says which
    deliveries lie in place, by SHA-256.
    """

    files: Mapping[Path, FileFacts]
    notes: Mapping[str, Note] = field(default_factory=dict)
    latest: Mapping[str, Note] = field(default_factory=dict)
    tools: Parts = field(default_factory=dict)
    signer: str = ""
    delivered: Mapping[Path, str] = field(default_factory=dict)


# ---------------------------------------------------------------- the tasks


@dataclass(frozen=True, slots=True)
class Ingest:
    """Read a file's credentials and archive them, before anything touches it."""

    file: Path


@dataclass(frozen=True, slots=True)
class Ingested:
    """What was found in a file at ingest: its credentials, and how loud it is."""

    credentials: Credentials
    loudness: Measured | None


@dataclass(frozen=True, slots=True)
class MakeSound:
    """Mix, level and encode one sound."""

    track: Track


@dataclass(frozen=True, slots=True)
class MakeDelivery:
    """Encode, sign and verify one file; `sound` and `archives` name the tasks that it reads."""

    delivery: delivering.Delivery
    file: Path
    sound: str
    archives: Mapping[Path, str]


Work = Ingest | MakeSound | MakeDelivery


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to make, in a folder of its name.

    `slot` is the same for every version of it, so that one can say what changed.
    """

    name: str
    slot: str
    steps: tuple[str, ...]
    parts: Parts
    needs: tuple[str, ...]
    work: Work
    action: Action
    reason: str
    price: Decimal | None = None
    promised: bool = False

    @property
    def title(self) -> str:
        """What people call it: `sound`, `web`, `bunny.mp4`."""
        return self.slot.split(":", 1)[1]


@dataclass(frozen=True, slots=True)
class Plan:
    """The tasks, each after those it needs; `remarks` are worth telling before anything runs."""

    tasks: tuple[Task, ...]
    remarks: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Task:
        return next(task for task in self.tasks if task.name == name)


# ---------------------------------------------------------------- planning


@dataclass(frozen=True, slots=True)
class Made:
    """A step's result: the clip, what its picture and its sound depend on, and the tasks behind it."""

    clip: Clip
    picture: Parts
    sound: Parts
    steps: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, str]:
        return {**self.sound, **self.picture}


def plan(recipe: Recipe, world: World) -> Plan:
    """The tasks of `recipe`, with what each would do in this world.

    Raises RecipeError with every step or delivery that cannot work, told with its line.
    """
    mistakes: list[str] = []
    made: dict[str, Made] = {}
    for step in recipe.steps:
        if any(name not in made for name in _steps_read(step)):
            continue  # what it reads is wrong already
        try:
            made[step.name] = _edited(step, made, world)
        except InputError as error:
            mistakes.append(f"{recipe.place(_blame(step, str(error)))}: {_named(step, str(error))}")
    tasks: dict[str, Task] = {}
    remarks: list[str] = []
    for delivery in recipe.deliveries:
        if isinstance(delivery.of, str) and delivery.of not in made:
            continue
        try:
            for task in _delivery_tasks(recipe, delivery, made, world, remarks):
                tasks.setdefault(task.name, task)
        except InputError as error:
            mistakes.append(f"{recipe.place(delivery.line)}: deliver: {error}")
    if mistakes:
        raise RecipeError(mistakes)
    return Plan(tuple(tasks.values()), tuple(dict.fromkeys(remarks)))


def _steps_read(step: Step) -> Iterator[str]:
    for argument in step.arguments.values():
        for one in argument if isinstance(argument, tuple) else (argument,):
            if isinstance(one, FromStep):
                yield one.name


def _edited(step: Step, made: Mapping[str, Made], world: World) -> Made:
    """Run an edit on what its arguments will be, and note what its picture and its sound now depend on."""
    kinds = {p.name: p.kind for p in step.stage.parameters}
    resolved = {key: _resolved(key, argument, kinds[key], made, world) for key, argument in step.arguments.items()}
    first = next(name for name, kind in kinds.items() if kind == "clip")
    before = resolved.pop(first)
    assert isinstance(before, Made)
    clip = step.stage.function(before.clip, **{key: _plain(value) for key, value in resolved.items()})
    own = {step.name: f"{step.stage.name} {step.stage.version}"}
    for key, value in resolved.items():
        own |= _part(f"{step.name}.{key}", value)
    others = [value for value in resolved.values() if isinstance(value, Made)]
    return Made(
        clip,
        before.picture if before.clip.picture is clip.picture else {**before.picture, **own},
        before.sound if before.clip.sound is clip.sound else {**before.sound, **own},
        (*before.steps, *(name for other in others for name in other.steps), step.name),
        tuple(dict.fromkeys((*before.needs, *(need for other in others for need in other.needs)))),
    )


@dataclass(frozen=True, slots=True)
class _File:
    """A file that is read as a file, not as a clip."""

    path: Path
    sha256: str


def _resolved(key: str, argument: Argument, kind: str, made: Mapping[str, Made], world: World) -> Made | Given | _File:
    """What an argument stands for: the result of a step, the clip in a file, a file, or a value."""
    if isinstance(argument, FromStep):
        return made[argument.name]
    if isinstance(argument, FromFile):
        if kind == "clip":
            return _opened(argument.path, world, f"{key}: ")
        return _File(argument.path, world.files[argument.path].sha256)
    assert isinstance(argument, Given)
    return argument


def _opened(path: Path, world: World, where: str = "") -> Made:
    facts = world.files[path]
    if facts.clip is None:
        raise InputError(f"{where}{facts.fault}")
    parts = {path.name: f"sha256:{facts.sha256}"}
    return Made(facts.clip, parts if facts.clip.picture else {}, parts if facts.clip.sound else {})


def _plain(value: Made | Given | _File) -> object:
    """What the stage's function is called with."""
    if isinstance(value, Given):
        return value.value
    return value.path if isinstance(value, _File) else value.clip


def _part(key: str, value: Made | Given | _File) -> dict[str, str]:
    if isinstance(value, Given):
        return {key: value.text}
    if isinstance(value, _File):
        return {key: f"sha256:{value.sha256}"}
    return {f"{key} > {inner}": text for inner, text in value.parts.items()}


def _blame(step: Step, message: str) -> int:
    """The line of the argument that a message talks of, else the step's."""
    return next((line for key, line in step.lines.items() if f"{key}:" in message), step.line)


def _named(step: Step, message: str) -> str:
    return message if message.startswith(f"{step.stage.name}:") else f"{step.name}: {message}"


# ---------------------------------------------------------------- deliveries


def _delivery_tasks(
    recipe: Recipe, wanted: Delivery, made: Mapping[str, Made], world: World, remarks: list[str]
) -> Iterator[Task]:
    of = made[wanted.of] if isinstance(wanted.of, str) else _opened(wanted.of.path, world)
    options: dict[str, Any] = {key: given.value for key, given in wanted.options.items()}
    delivery = delivering.planned(of.clip, wanted.preset, **options)
    remarks.extend(f"{wanted.preset}: {note}" for note in delivery.notes)
    sheet = delivering.delivery_preset(wanted.preset)
    values = {f"{wanted.preset}.{key}": str(value.value) for key, value in sheet.values.items()}
    options_parts = {f"deliver.{key}": given.text for key, given in wanted.options.items()}

    archives: dict[Path, str] = {}
    for origin in origins(of.clip.history):
        if origin.file in world.files:
            task = _ingest(recipe, origin.file, world)
            archives[origin.file] = task.name
            yield task

    sound = ""
    if delivery.track:
        task = _sound(recipe, wanted, of, delivery.track, values, world)
        sound = task.name
        yield task

    parts = {
        **of.parts, **values, **options_parts,
        "@sound": sound,
        "@signer": world.signer,
        "@anchors": _anchors(recipe, world),
        "@ffmpeg": world.tools.get("ffmpeg", ""), "@c2pa": world.tools.get("c2pa", ""),
        "@version": str(DELIVERY_VERSION),
    }  # fmt: skip
    needs = tuple(dict.fromkeys((*of.needs, *archives.values(), *([sound] if sound else []))))
    work = MakeDelivery(delivery, wanted.file, sound, archives)
    slot = f"{_relative(wanted.file, recipe)}:{wanted.preset}"
    task = _task("delivery", slot, of.steps, parts, needs, work, world, of.clip.promised)
    if task.action == "cached":
        yield replace(task, reason=_in_place(wanted.file, world.notes[task.name], world))
    elif delivery.reason:
        yield replace(task, action="encode", reason=f"{task.reason}; {delivery.reason}")
    else:
        yield replace(task, action="copy")


def _in_place(file: Path, note: Note, world: World) -> str:
    lies = world.delivered.get(file)
    if lies == note.sha256:
        return ""
    return "is missing: restored from the cache" if lies is None else "differs: restored from the cache"


def _ingest(recipe: Recipe, file: Path, world: World) -> Task:
    parts = {
        file.name: f"sha256:{world.files[file].sha256}",
        "@anchors": _anchors(recipe, world),
        "@c2pa": world.tools.get("c2pa", ""),
        "@version": str(INGEST_VERSION),
    }
    return _task("ingest", f"ingest:{file.name}", (), parts, (), Ingest(file), world)


def _sound(recipe: Recipe, wanted: Delivery, of: Made, track: Track, values: Parts, world: World) -> Task:
    """One sound for all deliveries that want the same: it depends on the sound's steps alone."""
    parts = {
        **of.sound,
        "@samples": str(track.samples),
        "@loudness": str(track.sound.loudness),
        "@audio_rate": str(track.bit_rate),
        "@edit_lists": str(track.edit_lists),
        "@ffmpeg": world.tools.get("ffmpeg", ""),
        "@version": str(SOUND_VERSION),
    }
    slot = f"{_relative(wanted.file, recipe)}:sound for {wanted.preset}"
    return _task("sound", slot, of.steps, parts, of.needs, MakeSound(track), world, of.clip.promised)


def _task(
    kind: str,
    slot: str,
    steps: Sequence[str],
    parts: Parts,
    needs: Sequence[str],
    work: Work,
    world: World,
    promised: bool = False,
) -> Task:
    name = f"{kind}-{_digest(parts)}"
    if name in world.notes:
        action: Action = "cached"
        reason = ""
    else:
        action = "make"
        reason = _what_changed(parts, world.latest.get(slot))
    return Task(name, slot, tuple(dict.fromkeys(steps)), parts, tuple(needs), work, action, reason, promised=promised)


def _digest(parts: Parts) -> str:
    text = "\n".join(f"{key}={value}" for key, value in sorted(parts.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _what_changed(parts: Parts, before: Note | None) -> str:
    """The first difference to what was made last time: `trim.length: 6s, was 5s`."""
    if before is None:
        return "new"
    for key in (*parts, *(key for key in before.parts if key not in parts)):
        now, was = parts.get(key), before.parts.get(key)
        if now != was:
            return f"{key}: {_short(now)}, was {_short(was)}"
    return "made before, and gone"


def _short(text: str | None) -> str:
    if text is None:
        return "nothing"
    return text[:19] + "…" if text.startswith("sha256:") or len(text) > 60 else text


def _anchors(recipe: Recipe, world: World) -> str:
    return _digest({str(number): world.files[anchor].sha256 for number, anchor in enumerate(recipe.anchors)})


def _relative(file: Path, recipe: Recipe) -> str:
    return str(file.relative_to(recipe.project)) if file.is_relative_to(recipe.project) else str(file)
