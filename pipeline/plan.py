"""From a recipe and a snapshot of the world to the tasks that make it. Pure.

The same edits run here on promises that run later on probed files. Each task
has a name: a hash of everything that its result depends on, which is at once
its cache key, its place on disk, and how it is found again after a crash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.chains import Asked, Chain, File, Made, Value, digest, file_of, identities, needs_of, plain, what_changed
from pipeline.recipe import Argument, Budget, Delivery, FromFile, FromStep, Given, Recipe, Step
from pipeline.tasks import Action, Call, FileOf, Film, Note, Parts, Placement, Plan, ResultOf, Task, World
from stages.clip import Size, origins
from stages.delivery import FILM, Cut, cut, delivery_preset, finish
from stages.errors import InputError, RecipeError
from stages.filming import ROOTS
from stages.ingestion import ARCHIVE, ingest
from stages.mixing import SOUND, make_sound

INGEST, SOUND_VERSION, FILM_VERSION, DELIVERY_VERSION = "1", "1", "1", "1"
"""Raised when the same parts come to mean another result."""


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
    deliveries: list[Placement] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)

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
        tasks = self.needed()
        over = _over(tasks, self.recipe.budget)
        return Plan(tasks, tuple(self.deliveries), tuple(dict.fromkeys(self.remarks)), over)

    def mistaken(self, step: Step, error: InputError) -> None:
        line = step.lines.get(error.parameter, step.line)
        where = f"{step.name}.{error.parameter}" if error.parameter else step.name
        said = str(error).removeprefix(f"{step.stage.name}: ")
        self.mistakes.append(f"{self.recipe.place(line)}: {where}: {said}")

    def needed(self) -> tuple[Task, ...]:
        """The tasks without those that only finished ones would need."""
        wanted: set[str] = set()
        read = {need for task in self.tasks.values() for need in task.needs}
        waiting = [name for name in self.tasks if name not in read]
        while waiting:
            task = self.tasks[waiting.pop()]
            if task.name not in wanted:
                wanted.add(task.name)
                waiting += task.needs if task.action != "cached" else ()
        return tuple(task for task in self.tasks.values() if task.name in wanted or task.action == "cached")

    # ------------------------------------------------------------ arguments

    def resolved(self, step: Step) -> dict[str, Value]:
        kinds = {parameter.name: parameter.kind for parameter in step.stage.parameters}
        return {key: self.resolve(key, argument, kinds[key]) for key, argument in step.arguments.items()}

    def resolve(self, key: str, argument: Argument, kind: str) -> Value:
        """What an argument stands for: the result of a step, the clip in a file, a file, or a value."""
        if isinstance(argument, FromStep):
            return self.made[argument.name]
        if isinstance(argument, FromFile):
            return self.opened(argument.path, key) if kind == "clip" else self.file(argument.path)
        return argument

    def opened(self, path: Path, parameter: str = "") -> Made:
        facts = self.world.files[path]
        if facts.clip is None:
            raise InputError(facts.fault, parameter)
        chain = Chain(facts.sha256, "", {path.name: f"sha256:{facts.sha256}"})
        return Made(facts.clip, chain if facts.clip.picture else Chain(), chain if facts.clip.sound else Chain())

    def file(self, path: Path) -> File:
        return File(path, self.world.files[path].sha256)

    # ------------------------------------------------------------ edits

    def edit(self, step: Step) -> Made:
        """Run an edit on what its arguments will be; what it left alone depends on nothing new.

        What it changed may depend on both halves: `at: 12f` in a sound is counted at the picture's rate.
        """
        resolved = self.resolved(step)
        first = next(parameter.name for parameter in step.stage.parameters if parameter.kind == "clip")
        before = resolved.pop(first)
        assert isinstance(before, Made)
        clip = step.stage.function(before.clip, **{key: plain(value) for key, value in resolved.items()})
        longer = before.both.longer(step, resolved)
        others = [value for value in resolved.values() if isinstance(value, Made)]
        return Made(
            clip,
            before.picture if before.clip.picture is clip.picture else longer,
            before.sound if before.clip.sound is clip.sound else longer,
            (*before.steps, *(name for other in others for name in other.steps), step.name),
            needs_of(before, *others),
        )

    # ------------------------------------------------------------ jobs

    def job(self, step: Step) -> Made:
        """What a job promises, or what it made if it was done; and the task to do it."""
        stage, resolved = step.stage, self.resolved(step)
        resolved |= self.filled(step)
        for parameter in stage.parameters:
            if parameter.required and parameter.name not in resolved:
                raise InputError(f"is missing (such as {parameter.example})", parameter.name)
        kinds = {parameter.name: parameter.kind for parameter in stage.parameters}
        arguments = {k: file_of(v, k) if kinds[k] == "file" else plain(v) for k, v in resolved.items()}
        price: Decimal | None = None
        offered: Mapping[str, object] = {}
        said, owned, simulated = "", False, False
        if stage.offer:
            offer = stage.offer(**arguments, shop=self.world.shop, identities=identities(resolved))
            price, offered, said = offer.price, offer.fills, offer.said
            owned, simulated = offer.owned, offer.simulated
        assert stage.promise is not None
        promised = stage.promise(**arguments, **offered)
        chain = Chain().longer(step, resolved)
        chain = replace(chain, version=digest(chain.version, promised.history[-1].agent))
        others = [value for value in resolved.values() if isinstance(value, Made)]
        read = [value.path for value in resolved.values() if isinstance(value, File)]
        needs = (*needs_of(*others), *(self.ingest(path).name for path in read))
        inputs = {key: value.clip for key, value in resolved.items() if isinstance(value, Made)}
        task = self.task(
            stage.name, step.name, (step.name,), digest(chain.identity, chain.version),
            {**chain.parts, f"{stage.name} by": promised.history[-1].agent}, needs,
            Call(stage.function, {**arguments, **offered}, inputs), any(other.clip.promised for other in others),
            f"{self.recipe.known_as}:{step.name}",
        )  # fmt: skip
        if task.action != "cached":
            reason = f"{task.reason}; {said}" if said else task.reason
            action: Action = "pay" if offered and not owned else "make"
            task = self.add(replace(task, action=action, price=price, reason=reason, simulated=simulated))
        clip = self.world.notes[task.name].result if task.action == "cached" else promised
        return Made(clip, chain, chain, (*(n for other in others for n in other.steps), step.name), (*needs, task.name))

    def filled(self, step: Step) -> dict[str, Value]:
        """What the author left open and the recipe implies: the frame that the deliveries agree on,
        the take that was asked for last, the shape of a picture that a later step wants."""
        names = {parameter.name for parameter in step.stage.parameters}
        left = names - set(step.arguments)
        found: dict[str, Value] = {}
        if "frame" in left and (frame := self.agreed_frame()):
            found["frame"] = Given(frame, frame)
        if "take" in names and step.name in self.world.takes:
            found["take"] = Given(str(self.world.takes[step.name]), self.world.takes[step.name])
        for reader in self.recipe.whole.steps:
            if reader.stage.offer and step.name in reader.reads:
                found |= {key: Asked(text) for key, text in self.asked(reader).items() if key in left}
        return found

    def asked(self, reader: Step) -> Mapping[str, str]:
        """What a step that is yet to come wants of the file that it reads."""
        assert reader.stage.offer is not None
        given = {key: argument.value for key, argument in reader.arguments.items() if isinstance(argument, Given)}
        if "frame" not in given and (frame := self.agreed_frame()):
            given["frame"] = frame
        try:
            for parameter in reader.stage.parameters:
                if parameter.required and parameter.kind != "file" and parameter.name not in given:
                    raise InputError(f"is missing (such as {parameter.example})", parameter.name)
            return dict(reader.stage.offer(**given, shop=self.world.shop, identities={}).asks)
        except InputError as error:
            self.mistaken(reader, error)
            raise _Said from None

    def agreed_frame(self) -> str:
        """The frame of all deliveries that want an exact one, if they agree."""
        sheets = [delivery_preset(delivery.preset) for delivery in self.recipe.whole.deliveries]
        shapes = {Size.parse(sheet["frame"]).aspect for sheet in sheets if "frame" in sheet.values}
        if len(shapes) != 1:
            return ""
        (shape,) = shapes
        return f"{shape.numerator}:{shape.denominator}"

    # ------------------------------------------------------------ tasks

    def add(self, task: Task) -> Task:
        self.tasks[task.name] = task
        return task

    def task(
        self, kind: str, slot: str, steps: Sequence[str], hashed: str, parts: Parts, needs: Sequence[str],
        work: Call | Film, promised: bool = False, memory: str = "",
    ) -> Task:  # fmt: skip
        name = f"{kind}-{hashed}"
        cached = name in self.world.notes
        reason = "" if cached else what_changed(parts, self.world.latest.get(memory or slot))
        steps, needs = tuple(dict.fromkeys(steps)), tuple(dict.fromkeys(needs))
        action: Action = "cached" if cached else "make"
        return self.add(Task(name, slot, steps, parts, needs, work, action, reason, memory or slot, promised=promised))

    def ingest(self, file: Path) -> Task:
        facts = self.world.files[file]
        parts = {file.name: f"sha256:{facts.sha256}", "anchors": self.anchors(), **self.tool("c2pa"), "ingest": INGEST}
        call = Call(ingest, {"file": file, "clip": facts.clip, "anchors": self.recipe.anchors})
        hashed = digest(facts.sha256, {key: parts[key] for key in ("anchors", "c2pa", "ingest")})
        return self.task("ingest", f"ingest:{file.name}", (), hashed, parts, (), call)

    def sound(self, wanted: Delivery, of: Made, made: Cut) -> Task | None:
        """One sound for all deliveries that want the same: it depends on the sound's steps alone."""
        track = made.track
        if track is None:
            return None
        parts = {
            "loudness": f"{track.sound.loudness.target:g}, {track.sound.loudness.true_peak:g}"
            if track.sound.loudness
            else "",
            "audio rate": str(track.bit_rate),
            "edit lists": str(track.edit_lists),
            **self.tool("ffmpeg"),
            "sound version": SOUND_VERSION,
        }
        if of.clip.picture and made.picture.rate != of.clip.picture.rate:
            parts["pace"] = str(made.picture.rate)
        hashed = digest(of.sound.identity, of.sound.version, parts)
        slot = f"{self.relative(wanted.file)}:sound for {wanted.preset}"
        words = {**of.sound.parts, **parts}
        return self.task(
            "sound", slot, of.steps, hashed, words, of.needs, Call(make_sound, {"track": track}), of.clip.promised
        )

    def film(self, wanted: Delivery, of: Made, made: Cut, sound: Task | None) -> Task:
        """One film for all deliveries that want the same picture and sound."""
        sheet = delivery_preset(wanted.preset)
        shape = {key: str(sheet[key]) for key in ("frame", "max_frame", "rate_min", "rate_max") if key in sheet.values}
        parts = {
            **{f"{wanted.preset}.{key}": str(value) for key, value in {**shape, **asdict(made.encoding)}.items()},
            **{f"deliver.{key}": given.text for key, given in wanted.options.items()},
            "sound": sound.name if sound else "none",
            **self.tool("ffmpeg"),
            "film version": FILM_VERSION,
        }
        named = {key.partition(".")[2] or key: text for key, text in parts.items()}  # whatever the preset's name
        hashed = digest(of.both.identity, of.both.version, named)
        slot = f"{self.relative(wanted.file)}:film for {wanted.preset}"
        work = Film(made, FileOf(sound.name, SOUND) if sound else None)
        needs = (*of.needs, *([sound.name] if sound else []))
        task = self.task("film", slot, of.steps, hashed, {**of.both.parts, **parts}, needs, work, of.clip.promised)
        if task.action == "cached":
            return task
        reason = f"{task.reason}; {made.reason}" if made.reason else task.reason
        return self.add(replace(task, action="encode" if made.reason else "copy", reason=reason))

    def deliver(self, wanted: Delivery) -> None:
        of = self.opened(wanted.of.path) if isinstance(wanted.of, FromFile) else self.made[wanted.of]
        options: dict[str, Any] = {key: given.value for key, given in wanted.options.items()}
        made = cut(of.clip, wanted.preset, simulated=self.world.shop.simulate, **options)
        self.remarks.extend(f"{wanted.preset}: {note}" for note in made.notes)
        self.check_beside(wanted, made)
        sound = self.sound(wanted, of, made)
        film = self.film(wanted, of, made, sound)
        archives = self.archives(of)
        arguments = {
            "film": FileOf(film.name, FILM),
            "made": made,
            "loudness": ResultOf(sound.name, "after") if sound else None,
            "anchors": (*self.recipe.anchors, *self.roots(of)),
            "archives": {file: FileOf(name, ARCHIVE) for file, name in archives.items()},
        }
        sheet = delivery_preset(wanted.preset)
        parts = {
            **{f"{wanted.preset}.{key}": str(value.value) for key, value in sheet.values.items()},
            "film": film.name,
            "signer": self.world.signer,
            "anchors": self.anchors(),
            **self.tool("c2pa"),
            "delivery version": DELIVERY_VERSION,
        }
        slot = f"{self.relative(wanted.file)}:{wanted.preset}"
        needs = (*of.needs, *archives.values(), *([sound.name] if sound else []), film.name)
        task = self.task(
            "delivery", slot, of.steps, digest(parts), parts, needs, Call(finish, arguments), of.clip.promised
        )
        if task.action == "cached":
            self.add(replace(task, reason=self.in_place(wanted.file, self.world.notes[task.name])))
        self.deliveries.append(Placement(wanted.file, made, task.name))

    def check_beside(self, wanted: Delivery, made: Cut) -> None:
        """The captions beside a film must not fall on what the recipe reads."""
        captions = made.picture.captions
        beside = wanted.file.with_suffix(f".{captions.sidecar}") if captions and captions.sidecar else None
        if beside in self.world.files:
            raise InputError(f"the captions beside {wanted.file.name} would fall on the input {beside}")

    def archives(self, of: Made) -> dict[Path, str]:
        """The task that archived the credentials of each file behind a clip."""
        found: dict[Path, str] = {}
        for origin in origins(of.clip.history):
            if origin.file in self.world.files:
                found[origin.file] = self.ingest(origin.file).name
            for note in self.notes(of):
                if ARCHIVE in note.files and note.holds(origin.file):
                    found[origin.file] = note.name
        return found

    def roots(self, of: Made) -> list[Path]:
        """The roots that came with bought films: the simulator's, trusted for its own films alone."""
        return [note.folder / ROOTS for note in self.notes(of) if ROOTS in note.files]

    def notes(self, of: Made) -> list[Note]:
        return [self.world.notes[name] for name in of.needs if name in self.world.notes]

    def in_place(self, file: Path, note: Note) -> str:
        lies = self.world.delivered.get(file)
        if lies == note.sha256:
            return ""
        return "is missing: restored from the cache" if lies is None else "differs: restored from the cache"

    def tool(self, name: str) -> dict[str, str]:
        return {name: self.world.tools.get(name, "")}

    def anchors(self) -> str:
        return digest(*(self.world.files[anchor].sha256 for anchor in self.recipe.anchors))

    def relative(self, file: Path) -> str:
        project = self.recipe.project
        return str(file.relative_to(project)) if file.is_relative_to(project) else str(file)


def _over(tasks: Sequence[Task], budget: Budget | None) -> str:
    """By how much the purchases pass the budget, in a sentence; nothing if they do not."""
    prices = {task.title: task.price for task in tasks if task.price}
    total = sum(prices.values(), Decimal(0))
    for title, price in prices.items():
        if budget and budget.each is not None and price > budget.each:
            return f"{title} costs ${price}, and the recipe's budget for each purchase is ${budget.each}"
    if budget and budget.total is not None and total > budget.total:
        return f"this run would pay ${total}, and the recipe's budget is ${budget.total}"
    return ""


class _Said(Exception):
    """A step cannot be planned, and why was told where it is wrong."""
