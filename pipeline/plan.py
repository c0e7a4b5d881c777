"""From a recipe and a snapshot of the world to the tasks that make it. Pure.

The same edits run here on promises that run later on probed files. Each task
has a name: a hash of everything that its result depends on, which is at once
its cache key, its place on disk, and how it is found again after a crash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pipeline.recipe import Argument, Delivery, FromFile, FromStep, Given, Recipe, Step
from stages import delivery as delivering
from stages.clip import Clip, Size, origins
from stages.credentials import Credentials
from stages.errors import InputError, RecipeError
from stages.filming import ARCHIVE, Market, purchase_key
from stages.sound import Measured, Track
from stages.stage import Stage

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

    def holds(self, original: Path) -> bool:
        """Whether it is a job's, and `original` is the file that the job brought in."""
        return isinstance(self.result, Clip) and any(action.file == original for action in self.result.history)


@dataclass(frozen=True, slots=True)
class World:
    """One snapshot of what exists.

    `notes` are the finished tasks by name and `latest` the last one for a slot;
    `tools` are versions, `signer` a fingerprint; `delivered` says which
    deliveries lie in place, by SHA-256; `shop` is what can be bought and what
    was; `takes` are those that were asked for after the recipe was written.
    """

    files: Mapping[Path, FileFacts]
    notes: Mapping[str, Note] = field(default_factory=dict)
    latest: Mapping[str, Note] = field(default_factory=dict)
    tools: Parts = field(default_factory=dict)
    signer: str = ""
    delivered: Mapping[Path, str] = field(default_factory=dict)
    shop: Market = field(default_factory=lambda: Market(date.today()))
    takes: Mapping[str, int] = field(default_factory=dict)


# ---------------------------------------------------------------- the tasks


@dataclass(frozen=True, slots=True)
class Ingest:
    """Read a file's credentials and archive them, before anything touches it; `clip` is what it holds, if it does."""

    file: Path
    clip: Clip | None = None


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


@dataclass(frozen=True, slots=True)
class RunJob:
    """Call a job's function with `arguments`; `inputs` are the clips behind the files among them."""

    stage: Stage
    arguments: Mapping[str, Any]
    inputs: Mapping[str, Clip]


Work = Ingest | MakeSound | MakeDelivery | RunJob


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
        return self.slot.split(":", 1)[-1]


@dataclass(frozen=True, slots=True)
class Plan:
    """The tasks, each after those it needs; `remarks` are worth telling before anything runs."""

    tasks: tuple[Task, ...]
    remarks: tuple[str, ...] = ()
    deliveries: tuple[tuple[MakeDelivery, str], ...] = ()

    def __getitem__(self, name: str) -> Task:
        return next(task for task in self.tasks if task.name == name)


# ---------------------------------------------------------------- planning


@dataclass(frozen=True, slots=True)
class Chain:
    """What a picture or a sound depends on.

    `identity` is what was asked for, versions aside: stages, parameters as
    written, hashes of users' files. `versions` are those of the stages and
    tools behind it. `parts` say the same in words, to tell what changed.
    """

    identity: str = ""
    versions: Parts = field(default_factory=dict)
    parts: Parts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """A step's result: the clip, what its picture and its sound depend on, and the tasks behind it."""

    clip: Clip
    picture: Chain
    sound: Chain
    steps: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """Of both."""
        return (
            self.picture.identity if self.picture == self.sound else _digest(self.picture.identity, self.sound.identity)
        )

    @property
    def versions(self) -> Parts:
        """Of both."""
        return {**self.sound.versions, **self.picture.versions}

    @property
    def parts(self) -> Parts:
        """Of both."""
        return {**self.sound.parts, **self.picture.parts}


def plan(recipe: Recipe, world: World) -> Plan:
    """The tasks of `recipe`, with what each would do in this world.

    Raises RecipeError with every step or delivery that cannot work, told with its line.
    """
    return _Planning(recipe, world).all()


@dataclass(slots=True)
class _Planning:
    """One planning: what the steps came to so far, and the tasks that this takes."""

    recipe: Recipe
    world: World
    made: dict[str, Made] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    deliveries: list[tuple[MakeDelivery, str]] = field(default_factory=list)

    def all(self) -> Plan:
        for step in self.recipe.steps:
            if any(name not in self.made for name in step.reads):
                continue  # what it reads is wrong already, and said so
            try:
                self.made[step.name] = self.job(step) if step.stage.kind == "job" else self.edit(step)
            except InputError as error:
                self.mistaken(step, error)
            except _Said:
                pass
        for delivery in self.recipe.deliveries:
            if isinstance(delivery.of, FromFile) or delivery.of in self.made:
                try:
                    self.deliver(delivery)
                except InputError as error:
                    self.mistakes.append(f"{self.recipe.place(delivery.line)}: deliver: {error}")
        if self.mistakes:
            raise RecipeError(self.mistakes)
        return Plan(tuple(self.tasks.values()), tuple(dict.fromkeys(self.remarks)), tuple(self.deliveries))

    # ------------------------------------------------------------ arguments

    def resolved(self, step: Step) -> dict[str, _Value]:
        kinds = {parameter.name: parameter.kind for parameter in step.stage.parameters}
        return {key: self.resolve(key, argument, kinds[key]) for key, argument in step.arguments.items()}

    def resolve(self, key: str, argument: Argument, kind: str) -> _Value:
        """What an argument stands for: the result of a step, the clip in a file, a file, or a value."""
        if isinstance(argument, FromStep):
            return self.made[argument.name]
        if isinstance(argument, FromFile):
            return self.opened(argument.path, f"{key}: ") if kind == "clip" else self.file(argument.path)
        assert isinstance(argument, Given)
        return argument

    def opened(self, path: Path, where: str = "") -> Made:
        facts = self.world.files[path]
        if facts.clip is None:
            raise InputError(f"{where}{facts.fault}")
        chain = Chain(facts.sha256, {}, {path.name: f"sha256:{facts.sha256}"})
        return Made(facts.clip, chain if facts.clip.picture else Chain(), chain if facts.clip.sound else Chain())

    def file(self, path: Path) -> _File:
        return _File(path, self.world.files[path].sha256)

    # ------------------------------------------------------------ edits

    def edit(self, step: Step) -> Made:
        """Run an edit on what its arguments will be; what it left alone depends on nothing new."""
        resolved = self.resolved(step)
        first = next(parameter.name for parameter in step.stage.parameters if parameter.kind == "clip")
        before = resolved.pop(first)
        assert isinstance(before, Made)
        clip = step.stage.function(before.clip, **{key: _plain(value) for key, value in resolved.items()})
        others = [value for value in resolved.values() if isinstance(value, Made)]
        picture, sound = before.picture, before.sound
        if before.clip.picture is not clip.picture:
            picture = _longer(picture, step, resolved)
        if before.clip.sound is not clip.sound:
            sound = _longer(sound, step, resolved)
        steps = (*before.steps, *(name for other in others for name in other.steps), step.name)
        return Made(clip, picture, sound, steps, _needs(before, *others))

    # ------------------------------------------------------------ jobs

    def job(self, step: Step) -> Made:
        """What a job promises, or what it made if it was done; and the task to do it."""
        resolved = self.resolved(step) | self.filled(step)
        for parameter in step.stage.parameters:
            if parameter.required and parameter.name not in resolved:
                raise InputError(f"{parameter.name}: is missing (such as {parameter.example})")
        chain = _longer(Chain(), step, resolved)
        others = [value for value in resolved.values() if isinstance(value, Made)]
        arguments = {key: _plain(value) for key, value in resolved.items()}
        price = None
        if step.stage.quote:
            key = _purchase(step, resolved)
            offer = step.stage.quote(**arguments, shop=self.world.shop, key=key)
            price = Decimal(0) if offer.bought else offer.price
            arguments |= {"shop": self.world.shop, "key": key}
        assert step.stage.promise is not None
        promised = step.stage.promise(**arguments)
        versions = {**chain.versions, f"{step.stage.name} by": promised.history[-1].agent}
        needs = (*_needs(*others), *self.ingested(resolved))
        work = RunJob(step.stage, arguments, {key: v.clip for key, v in resolved.items() if isinstance(v, Made)})
        task = self.task(
            step.stage.name, step.name, (step.name,), _digest(chain.identity, versions), {**chain.parts, **versions},
            needs, work, any(value.clip.promised for value in others),
        )  # fmt: skip
        if task.action != "cached" and price is not None:
            action: Action = "pay" if price else "make"
            task = self.add(replace(task, action=action, price=price))
        clip = self.world.notes[task.name].result if task.action == "cached" else promised
        chain = replace(chain, versions=versions)
        return Made(clip, chain, chain, (*(n for other in others for n in other.steps), step.name), (*needs, task.name))

    def filled(self, step: Step) -> dict[str, _Value]:
        """What the author left open and the recipe implies: the frame that the deliveries agree on,
        the shape of a picture that a later step asks for, the take that was last asked for."""
        open_ = {p.name for p in step.stage.parameters} - set(step.arguments)
        found: dict[str, _Value] = {}
        if "frame" in open_ and (frame := self.agreed_frame()):
            found["frame"] = Given(frame, frame)
        if "take" in {p.name for p in step.stage.parameters} and step.name in self.world.takes:
            take = self.world.takes[step.name]
            found["take"] = Given(str(take), take)
        for reader in self.recipe.steps:
            if reader.stage.asks and step.name in reader.reads:
                asked = self.asked(reader)
                found |= {key: _Asked(text) for key, text in asked.items() if key in open_}
        return found

    def asked(self, reader: Step) -> Mapping[str, str]:
        assert reader.stage.asks is not None
        try:
            return reader.stage.asks(**self.known(reader), shop=self.world.shop, key="")
        except InputError as error:
            self.mistaken(reader, error)
            raise _Said from None

    def mistaken(self, step: Step, error: InputError) -> None:
        self.mistakes.append(f"{self.recipe.place(_blame(step, str(error)))}: {_named(step, str(error))}")

    def known(self, step: Step) -> dict[str, object]:
        """The plain values of a step that is yet to come."""
        given = {key: argument.value for key, argument in step.arguments.items() if isinstance(argument, Given)}
        if "frame" in {p.name for p in step.stage.parameters} - set(given) and (frame := self.agreed_frame()):
            given["frame"] = frame
        return given

    def agreed_frame(self) -> str:
        """The frame of all deliveries that want an exact one, if they agree."""
        sheets = [delivering.delivery_preset(delivery.preset) for delivery in self.recipe.deliveries]
        shapes = {Size.parse(sheet["frame"]).aspect for sheet in sheets if "frame" in sheet.values}
        if len(shapes) != 1:
            return ""
        (shape,) = shapes
        return f"{shape.numerator}:{shape.denominator}"

    def ingested(self, resolved: Mapping[str, _Value]) -> tuple[str, ...]:
        """Every file that a job reads is read for its credentials first."""
        files = [value.path for value in resolved.values() if isinstance(value, _File)]
        return tuple(self.ingest(path).name for path in files)

    # ------------------------------------------------------------ tasks

    def add(self, task: Task) -> Task:
        self.tasks[task.name] = task
        return task

    def task(
        self, kind: str, slot: str, steps: Sequence[str], digest: str, parts: Parts, needs: Sequence[str],
        work: Work, promised: bool = False,
    ) -> Task:  # fmt: skip
        name = f"{kind}-{digest}"
        cached = name in self.world.notes
        reason = "" if cached else _what_changed(parts, self.world.latest.get(slot))
        steps, needs = tuple(dict.fromkeys(steps)), tuple(dict.fromkeys(needs))
        return self.add(
            Task(name, slot, steps, parts, needs, work, "cached" if cached else "make", reason, promised=promised)
        )

    def ingest(self, file: Path) -> Task:
        parts = {
            file.name: f"sha256:{self.world.files[file].sha256}",
            "anchors": self.anchors(),
            **self.tool("c2pa"),
            "ingest": str(INGEST_VERSION),
        }
        return self.task(
            "ingest", f"ingest:{file.name}", (), _digest(parts), parts, (), Ingest(file, self.world.files[file].clip)
        )

    def sound(self, wanted: Delivery, of: Made, track: Track) -> Task:
        """One sound for all deliveries that want the same: it depends on the sound's steps alone."""
        made = {
            "samples": str(track.samples),
            "frame rate": str(of.clip.picture and of.clip.picture.rate),  # `at: 12f` is counted at it
            "loudness": str(track.sound.loudness),
            "audio rate": str(track.bit_rate),
            "edit lists": str(track.edit_lists),
            **self.tool("ffmpeg"),
            "sound": str(SOUND_VERSION),
        }
        digest = _digest(of.sound.identity, of.sound.versions, made)
        slot = f"{self.relative(wanted.file)}:sound for {wanted.preset}"
        parts = {**of.sound.parts, **of.sound.versions, **made}
        return self.task("sound", slot, of.steps, digest, parts, of.needs, MakeSound(track), of.clip.promised)

    def deliver(self, wanted: Delivery) -> None:
        of = self.opened(wanted.of.path) if isinstance(wanted.of, FromFile) else self.made[wanted.of]
        options: dict[str, Any] = {key: given.value for key, given in wanted.options.items()}
        delivery = delivering.planned(of.clip, wanted.preset, **options)
        self.remarks.extend(f"{wanted.preset}: {note}" for note in delivery.notes)
        captions = delivery.picture.captions
        beside = wanted.file.with_suffix(f".{captions.sidecar}") if captions and captions.sidecar else None
        if beside in self.world.files:
            raise InputError(f"the captions beside {wanted.file.name} would fall on the input {beside}")
        archives = self.archives(of)
        sound = self.sound(wanted, of, delivery.track).name if delivery.track else ""
        sheet = delivering.delivery_preset(wanted.preset)
        made = {
            **{f"{wanted.preset}.{key}": str(value.value) for key, value in sheet.values.items()},
            **{f"deliver.{key}": given.text for key, given in wanted.options.items()},
            "sound": sound,
            "signer": self.world.signer,
            "anchors": self.anchors(),
            **self.tool("ffmpeg"),
            **self.tool("c2pa"),
            "delivery": str(DELIVERY_VERSION),
        }
        digest = _digest(of.identity, of.versions, made)
        needs = (*of.needs, *archives.values(), *([sound] if sound else []))
        work = MakeDelivery(delivery, wanted.file, sound, archives)
        slot = f"{self.relative(wanted.file)}:{wanted.preset}"
        parts = {**of.parts, **of.versions, **made}
        task = self.task("delivery", slot, of.steps, digest, parts, needs, work, of.clip.promised)
        self.deliveries.append((work, task.name))
        if task.action == "cached":
            self.add(replace(task, reason=self.in_place(wanted.file, self.world.notes[task.name])))
        elif delivery.reason:
            self.add(replace(task, action="encode", reason=f"{task.reason}; {delivery.reason}"))
        else:
            self.add(replace(task, action="copy"))

    def archives(self, of: Made) -> dict[Path, str]:
        """The task that archived the credentials of each file behind a clip."""
        found: dict[Path, str] = {}
        jobs = {name: self.world.notes[name] for name in of.needs if name in self.world.notes}
        for origin in origins(of.clip.history):
            if origin.file in self.world.files:
                found[origin.file] = self.ingest(origin.file).name
            for name, note in jobs.items():
                if note.holds(origin.file) and ARCHIVE in note.files:
                    found[origin.file] = name
        return found

    def in_place(self, file: Path, note: Note) -> str:
        lies = self.world.delivered.get(file)
        if lies == note.sha256:
            return ""
        return "is missing: restored from the cache" if lies is None else "differs: restored from the cache"

    def tool(self, name: str) -> dict[str, str]:
        return {name: self.world.tools.get(name, "")}

    def anchors(self) -> str:
        return _digest(*(self.world.files[anchor].sha256 for anchor in self.recipe.anchors))

    def relative(self, file: Path) -> str:
        project = self.recipe.project
        return str(file.relative_to(project)) if file.is_relative_to(project) else str(file)


class _Said(Exception):
    pass


# ---------------------------------------------------------------- words and hashes


@dataclass(frozen=True, slots=True)
class _File:
    """A file that is read as a file, not as a clip."""

    path: Path
    identity: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """A value that a later step asked for: it makes a difference to the name, not to the identity."""

    text: str


_Value = Made | Given | _File | _Asked


def _plain(value: _Value) -> object:
    """What the stage's function is called with."""
    if isinstance(value, Given):
        return value.value
    if isinstance(value, _Asked):
        return value.text
    return value.path if isinstance(value, _File) else value.clip


def _longer(chain: Chain, step: Step, resolved: Mapping[str, _Value]) -> Chain:
    """The chain with one more step on it."""
    versions = {**chain.versions, step.stage.name: str(step.stage.version)}
    parts = {**chain.parts, step.name: step.stage.name}
    said: dict[str, str] = {"stage": step.stage.name, "of": chain.identity}
    for key, value in resolved.items():
        if isinstance(value, Given):
            said[key] = parts[f"{step.name}.{key}"] = value.text
        elif isinstance(value, _File):
            said[key] = parts[f"{step.name}.{key}"] = f"sha256:{value.identity}"
        elif isinstance(value, _Asked):
            versions[f"{step.stage.name} {key}"] = value.text
        else:
            said[key] = value.identity
            versions |= value.versions
            parts |= {f"{step.name}.{key} > {inner}": text for inner, text in value.parts.items()}
    return Chain(_digest(said), versions, parts)


def _purchase(step: Step, resolved: Mapping[str, _Value]) -> str:
    """The key of what a job buys: the request alone."""
    asked: dict[str, Any] = {parameter.name: parameter.default for parameter in step.stage.parameters}
    asked |= {key: value.value for key, value in resolved.items() if isinstance(value, Given)}
    reference = resolved.get("reference")
    identity = reference.identity if isinstance(reference, Made | _File) else ""
    return purchase_key(asked["prompt"], asked["frame"], identity, asked["seed"], asked["take"])


def _needs(*made: Made) -> tuple[str, ...]:
    return tuple(dict.fromkeys(need for one in made for need in one.needs))


def _blame(step: Step, message: str) -> int:
    """The line of the argument that a message talks of, else the step's."""
    return next((line for key, line in step.lines.items() if f"{key}:" in message), step.line)


def _named(step: Step, message: str) -> str:
    return message if message.startswith(f"{step.stage.name}:") else f"{step.name}: {message}"


def _digest(*parts: str | Parts) -> str:
    text = "\n".join(part if isinstance(part, str) else repr(sorted(part.items())) for part in parts)
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
