"""From a recipe and a snapshot of the world to the tasks that make it. Pure.

The same edits run here on promises that run later on probed files. Each task
has a name: a hash of everything that its result depends on, which is at once
its cache key, its place on disk, and how it is found again after a crash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.chains import (
    Asked,
    Chain,
    File,
    Made,
    One,
    Value,
    digest,
    file_of,
    identities,
    needs_of,
    plain,
    spread,
    what_changed,
)
from pipeline.costs import costs
from pipeline.recipe import Argument, Delivery, FromFile, FromStep, Given, Recipe, Step
from pipeline.tasks import Action, Call, FileOf, Film, Note, Parts, Placement, Plan, ResultOf, Task, World
from stages.attesting import ROOTS
from stages.carriers import sidecar_of
from stages.clip import Clip, Filter, Picture, Size, Stream, origins, sources
from stages.delivery import Cut, beside, cut, finish, in_software
from stages.destinations import told
from stages.encoding import delivery_preset
from stages.enlarging import make_frames, promise_frames, settled_with, unsettled
from stages.errors import InputError, ProvenanceError, RecipeError
from stages.ingestion import ARCHIVE, ingest
from stages.looks import Looks, look, unseen, yet_to_be_found
from stages.mixing import make_sound
from stages.money import dollars
from stages.policy import Policy
from stages.purse import Purse
from stages.stage import InParts, Offer

INGEST, LOOK_VERSION, SOUND_VERSION, FRAMES_VERSION, FILM_VERSION, DELIVERY_VERSION = "1", "1", "4", "1", "2", "2"
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
        over = _over(tasks, self.recipe.purse, self.world.spent)
        told = tuple(dict.fromkeys(self.remarks))
        return Plan(tasks, tuple(self.deliveries), told, over, costs(self.deliveries, self.tasks, self.world))

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
            return self.opened(argument.path, key) if kind in ("clip", "clips") else self.file(argument.path)
        if isinstance(argument, tuple):
            several = (self.resolve(key, one, kind) for one in argument)
            return tuple(one for one in several if isinstance(one, Made))
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
        arguments = {key: plain(value) for key, value in resolved.items()}
        first = next(p for p in step.stage.parameters if p.kind in ("clip", "clips"))
        read = spread(resolved)
        before = read.pop(first.name if first.kind == "clip" else f"{first.name}.1")
        assert isinstance(before, Made)
        longer = before.both.longer(step, read)
        looked = None
        if step.stage.sees and (picture := step.stage.sees(**arguments)):
            looked = self.look(step, before, picture)
            there = looked.action == "cached" and not looked.promised
            looks: Looks = self.world.notes[looked.name].result if there else unseen(picture)
            arguments["looks"] = looks
            longer = replace(longer, version=digest(longer.version, looked.name))
        clip = step.stage.function(**arguments)
        if looked and not looks.steps:
            clip = yet_to_be_found(clip)
        others = [value for value in read.values() if isinstance(value, Made)]
        known = {remark for made in (before, *others) for remark in made.clip.remarks}
        self.remarks += [f"{step.name}: {remark}" for remark in clip.remarks if remark not in known]
        made = Made(
            clip,
            before.picture if before.clip.picture is clip.picture else longer,
            before.sound if before.clip.sound is clip.sound else longer,
            (*before.steps, *(name for other in others for name in other.steps), step.name),
            (*needs_of(before, *others), *([looked.name] if looked else [])),
        )
        return self.enlarged(step, made) if clip.picture and unsettled(clip.picture.stream) else made

    def look(self, step: Step, of: Made, picture: Picture) -> Task:
        """The task that looks at a picture: one for every step that must see the same."""
        parts = {**of.picture.parts, **self.tool("ffmpeg"), "look version": LOOK_VERSION}
        hashed = digest(
            of.picture.identity, of.picture.version, {key: parts[key] for key in ("ffmpeg", "look version")}
        )
        slot, memory = f"look:motion for {step.name}", f"{self.recipe.known_as}:{step.name} looks"
        call = Call(look, {"picture": picture})
        return self.task("look", slot, of.steps, hashed, parts, of.needs, call, Clip(picture).promised, memory)

    def enlarged(self, step: Step, of: Made) -> Made:
        """With a task for the frames that an engine has to make: what comes after sees the film of them.

        What is tampered with is found before, not after hours of work.
        """
        by = {f"{step.name} by": of.clip.history[-1].agent, **self.tool("ffmpeg"), "frames version": FRAMES_VERSION}
        chain = of.picture
        chain = replace(chain, version=digest(chain.version, by), parts={**chain.parts, **by})
        needs = (*of.needs, *self.archives(of).values())
        made: list[str] = []

        def film(node: Filter) -> Stream:
            rests = any(source.promised for source in sources(node))
            task = self.task(
                "frames", step.name, of.steps, digest(chain.identity, chain.version, str(len(made))), chain.parts,
                (*needs, *made), Call(make_frames, {"node": node}), rests, f"{self.recipe.known_as}:{step.name}",
            )  # fmt: skip
            made.append(task.name)
            if task.action != "cached":
                return promise_frames(node)
            kept: Clip = self.world.notes[task.name].result
            assert kept.picture is not None
            return kept.picture.stream

        clip = settled_with(of.clip, film)
        return replace(of, clip=clip, picture=chain, needs=(*of.needs, *made))

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
        given = spread(resolved)
        if stage.parts:
            return self.in_parts(step, stage.parts, given, arguments)
        offer = None
        if stage.offer:
            offer = stage.offer(**arguments, shop=self.world.shop, identities=identities(given))
        offered = offer.fills if offer else {}
        assert stage.promise is not None
        promised = stage.promise(**arguments, **offered)
        chain = Chain().longer(step, given)
        by = {f"{stage.name} by": promised.history[-1].agent}
        for tool in stage.tools:
            by |= self.tool(tool)
        chain = replace(chain, version=digest(chain.version, *by.values()))
        if offer and offer.keys:  # who is asked, and all else that buys nothing new, makes it no other purchase
            chain = replace(chain, identity=digest(*offer.keys), version=digest(chain.version, chain.identity))
        others = [value for value in given.values() if isinstance(value, Made)]
        read = [value.path for value in given.values() if isinstance(value, File)]
        needs = (*needs_of(*others), *(self.ingest(path).name for path in read))
        inputs = {key: value.clip for key, value in given.items() if isinstance(value, Made)}
        task = self.task(
            stage.name, step.name, (step.name,), digest(chain.identity, chain.version),
            {**chain.parts, **by}, needs,
            Call(stage.function, {**arguments, **offered}, inputs), any(other.clip.promised for other in others),
            f"{self.recipe.known_as}:{step.name}",
        )  # fmt: skip
        if offer:
            task = self.add(replace(task, keys=offer.keys))
        if offer and task.action != "cached":
            task = self.add(self.offered(step, task, offer, inputs))
        clip = self.world.notes[task.name].result if task.action == "cached" else promised
        if stage.after:
            clip = stage.after(clip, **arguments)
        return Made(clip, chain, chain, (*(n for other in others for n in other.steps), step.name), (*needs, task.name))

    def in_parts(self, step: Step, parts: InParts, given: Mapping[str, One], arguments: Mapping[str, Any]) -> Made:
        """What is composed of the parts of a job, and a task for each: what a part depends on is its own alone."""
        made: dict[str, Made] = {}

        def make(asked: Mapping[str, Mapping[str, object]]) -> tuple[Clip, ...]:
            before = dict(self.tasks)
            try:
                for part, values in asked.items():
                    named = {key: Given(_written(value), value) for key, value in values.items()}
                    name = f"{step.name} {part}".rstrip()
                    made[part] = self.job(replace(step, name=name, stage=parts.stage, arguments=named))
            except InputError:
                self.tasks = before  # another may do these parts, and then all of them
                raise
            return tuple(made[part].clip for part in asked)

        clip = parts.compose(**arguments, shop=self.world.shop, make=make)
        self.remarks += [f"{step.name}: {remark}" for remark in clip.remarks]
        chain = Chain().longer(step, {**given, **{f"part {part}": one for part, one in made.items()}})
        return Made(clip, chain, chain, (step.name,), needs_of(*made.values()))

    def offered(self, step: Step, task: Task, offer: Offer, inputs: Mapping[str, Clip]) -> Task:
        """The task with what it would buy; what else is worth telling before that is paid goes into the remarks."""
        self.remarks += [f"{step.name}: {remark}" for remark in offer.remarks]
        if offer.no_faces:
            self.remarks += [f"{step.name}: {told}" for told in self.faces(offer.no_faces, inputs, step)]
        return replace(
            task,
            action="pay" if offer.prices else "make",
            prices=offer.prices,
            reason=f"{task.reason}; {offer.said}" if offer.said else task.reason,
            simulated=offer.simulated,
            seconds=offer.seconds,
            hosts=offer.hosts,
        )

    def faces(self, model: str, inputs: Mapping[str, Clip], step: Step) -> Iterator[str]:
        """A warning for each photo with a face that a model would be shown which refuses faces."""
        behind = {origin.file for clip in inputs.values() for origin in origins(clip.history)}
        read = {argument.path for argument in step.arguments.values() if isinstance(argument, FromFile)}
        for file in sorted(behind | read):
            if file in self.world.files and self.world.files[file].faces:
                consent = " (that consent is on record does not change it)" if "consent" in step.arguments else ""
                yield (
                    f"{file.name} shows a face, and {model} refuses people in its reference{consent}:"
                    " it may be paid and refused"
                )

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
            if reader.stage.offer and step.name in _read_as_file(reader):
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
        policy = {**self.policy(), **self.beside(file)}
        parts = {
            file.name: f"sha256:{facts.sha256}",
            "anchors": self.anchors(),
            **policy,
            **self.tool("c2pa"),
            "ingest": INGEST,
        }
        asked = {"anchors": self.trusted(), "policy": self.recipe.policy}
        call = Call(ingest, {"file": file, "clip": facts.clip, **asked})
        hashed = digest(facts.sha256, {key: parts[key] for key in ("anchors", "c2pa", "ingest", *policy)})
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
        if track.codec != "aac":
            parts["audio codec"] = track.codec
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
        shape = {
            key: str(sheet[key])
            for key in ("frame", "max_frame", "rate_min", "rate_max", "safe_area")
            if key in sheet.values
        }
        parts = {
            **{f"{wanted.preset}.{key}": str(value) for key, value in {**shape, **asdict(made.encoding)}.items()},
            **{f"deliver.{key}": given.text for key, given in wanted.options.items() if key != "export"},
            "sound": sound.name if sound else "none",
            **self.tool("ffmpeg"),
            "film version": FILM_VERSION,
        }
        named = {key.partition(".")[2] or key: text for key, text in parts.items()}  # whatever the preset's name
        hashed = digest(of.both.identity, of.both.version, named)
        slot = f"{self.relative(wanted.file)}:film for {wanted.preset}"
        work = Film(made, FileOf(sound.name, made.track.file) if sound and made.track else None)
        needs = (*of.needs, *([sound.name] if sound else []))
        task = self.task("film", slot, of.steps, hashed, {**of.both.parts, **parts}, needs, work, of.clip.promised)
        if task.action == "cached":
            return task
        reason = f"{task.reason}; {made.said}" if made.said else task.reason
        return self.add(replace(task, action="encode" if made.reason else "copy", reason=reason))

    def deliver(self, wanted: Delivery) -> None:
        of = self.opened(wanted.of.path) if isinstance(wanted.of, FromFile) else self.made[wanted.of]
        options: dict[str, Any] = {key: given.value for key, given in wanted.options.items()}
        made = cut(of.clip, wanted.preset, simulated=self.world.shop.simulate, **options)
        if made.reason and (why := self.world.lacking.get(made.encoding)):
            made = in_software(made, why)
        self.remarks.extend(f"{wanted.preset}: {note}" for note in made.notes)
        self.check_beside(wanted, made)
        self.check_strip(of.clip)
        sound = self.sound(wanted, of, made)
        film = self.film(wanted, of, made, sound)
        archives = self.archives(of)
        arguments = {
            "film": FileOf(film.name, made.encoding.file),
            "made": made,
            "loudness": ResultOf(sound.name, "after") if sound else None,
            "anchors": (*self.trusted(), *self.roots(of)),
            "policy": self.recipe.policy,
            "archives": {file: FileOf(name, ARCHIVE) for file, name in archives.items()},
            "name": wanted.file.name,
        }
        sheet = delivery_preset(wanted.preset)
        parts = {
            **{f"{wanted.preset}.{key}": str(value.value) for key, value in sheet.values.items()},
            "film": film.name,
            "signer": self.world.signer,
            "anchors": self.anchors(),
            **self.policy(),
            **{key: text for origin in origins(of.clip.history) for key, text in self.beside(origin.file).items()},
            **self.tool("c2pa"),
            "delivery version": DELIVERY_VERSION,
            **({"deliver.export": made.export} if made.export else {}),
        }
        slot = f"{self.relative(wanted.file)}:{wanted.preset}"
        needs = (*of.needs, *archives.values(), *([sound.name] if sound else []), film.name)
        task = self.task(
            "delivery", slot, of.steps, digest(parts), parts, needs, Call(finish, arguments), of.clip.promised
        )
        if task.action == "cached":
            self.add(replace(task, reason=self.in_place(wanted.file, self.world.notes[task.name])))
        self.deliveries.append(Placement(wanted.file, made, task.name))

    def check_strip(self, clip: Clip) -> None:
        """What a model makes is not left unmarked without a word, and that is told before anything is paid."""
        for action in clip.history:
            try:
                self.recipe.policy.check_strip(f"what {action.name} made", signed=False, ai=action.ai)
            except ProvenanceError as error:
                raise InputError(str(error)) from None
        if not self.recipe.policy.signs:
            self.remarks.append("NOT SIGNED: the recipe says provenance: {sign: off}; nothing will say who made it")

    def check_beside(self, wanted: Delivery, made: Cut) -> None:
        """The captions beside a film must not fall on what the recipe reads."""
        for file in beside(made, wanted.file):
            if file in self.world.files:
                raise InputError(f"the captions beside {wanted.file.name} would fall on the input {file}")

    def beside(self, file: Path) -> dict[str, str]:
        """The credentials that lie beside a file, where it has such."""
        facts = self.world.files.get(file)
        return {f"{sidecar_of(file).name} of {file.name}": facts.beside} if facts and facts.beside else {}

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

    def trusted(self) -> tuple[Path, ...]:
        return (*self.world.trust, *self.recipe.anchors)

    def anchors(self) -> str:
        """Whom a verdict rests on, by content."""
        lists = [found] if (found := self.world.tools.get("trust")) else []
        return digest(*(self.world.files[anchor].sha256 for anchor in self.recipe.anchors), *lists)

    def policy(self) -> dict[str, str]:
        """The recipe's policy, where it has one of its own."""
        return {"provenance": str(self.recipe.policy)} if self.recipe.policy != Policy() else {}

    def relative(self, file: Path) -> str:
        return told(file, self.recipe.project).replace("://", "/")  # a colon ends the place in a slot


def _read_as_file(reader: Step) -> list[str]:
    """The earlier steps whose files it takes."""
    files = {parameter.name for parameter in reader.stage.parameters if parameter.kind == "file"}
    return [of.name for key, of in reader.arguments.items() if key in files and isinstance(of, FromStep)]


def _over(tasks: Sequence[Task], purse: Purse, spent: Mapping[str, Decimal]) -> str:
    """By how much the purchases pass what may be spent, in a sentence; nothing if they do not.

    `spent` is what counts already against the limits that reach beyond this run. What each account may
    spend is the ledger's business, when it is sent.
    """
    for task in tasks:
        dearest = max((price for price in task.prices if price), default=Decimal(0))
        if purse.each is not None and dearest > purse.each:
            return f"{task.title} costs {dollars(dearest)}, and the recipe's budget for each purchase is ${purse.each}"
    total = sum((task.price for task in tasks), Decimal(0))
    if purse.total is not None and total > purse.total:
        return f"this run would pay {dollars(total)}, and the recipe's budget is ${purse.total}"
    real = sum((task.real_price for task in tasks), Decimal(0))
    for what, limit in (("day", purse.day), ("label", purse.label.limit if purse.label else None)):
        so_far = spent.get(what, Decimal(0))
        if limit is not None and real and real + so_far > limit:
            whose = "the last 24 hours" if what == "day" else purse.bill_to
            return (
                f"this run would pay {dollars(real)}; with the {dollars(so_far)} of {whose} that is more than ${limit}"
            )
    return ""


def _written(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


class _Said(Exception):
    """A step cannot be planned, and why was told where it is wrong."""
