"""From YAML text to a Recipe, or to every mistake in it at once.

YAML's nodes are read, not its values, so that scalars reach the stages as they
were written: `6:30` stays a time, `no` stays a word, and each has its line.
"""

from __future__ import annotations

import inspect
import os.path
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import yaml

import presets
from pipeline.bought import as_purchase
from pipeline.recipe import Argument, Delivery, FromFile, FromStep, Given, Recipe, Step, parts_of
from stages import plugins
from stages.carriers import is_named_apart, sidecar_of
from stages.clip import parse_switch
from stages.delivery import cut
from stages.destinations import destination
from stages.encoding import check_suffix, no_preset
from stages.errors import InputError, RecipeError
from stages.files import project_folder
from stages.notices import Notify
from stages.policy import Policy
from stages.purse import Allowance, Purse
from stages.stage import Parameter, Stage, nearest, parameters_of, stage_of
from stages.trust import named_list
from stages.voices.models import with_file

TOP = (
    *("version", "name", "inputs", "matrix", "rows", "budget", "bill_to", "region", "provenance", "notify", "steps"),
    "deliver",
)
DELIVERY_OPTIONS = ("mode", "focus", "captions", "encoder", "language", "export")
DELIVERY_STEPS = ("overlay",)
"""Edits that one delivery may have to itself."""

LAST = "to sign and to verify is the last that each delivery does, and no step: nothing may be edited after it"

Node = yaml.nodes.Node
T = TypeVar("T")


def read_recipe(file: Path, given: Mapping[str, str] | None = None) -> Recipe:
    """The recipe in `file`, with the values in `given` for its inputs.

    Raises RecipeError with every mistake, each as `finish.yaml:14: trim.length: …`.
    """
    return recipe_in(recipe_text(file), file, given)


def recipe_text(file: Path) -> str:
    """What stands in a recipe's file. Raises RecipeError if that cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = sorted(path.stem for path in (presets.FOLDER / "recipes").glob("*.yaml"))
        raise RecipeError([f"{file}: there is no such recipe; packaged ones are {', '.join(known)}"]) from None
    except IsADirectoryError:
        raise RecipeError([f"{file}: is a folder, not a recipe"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError([f"{file}: cannot be read as UTF-8 text ({error})"]) from None


def recipe_in(
    text: str,
    file: Path,
    given: Mapping[str, str] | None = None,
    beside: Path | None = None,
    place: Callable[[Path], Path] = lambda path: path,
) -> Recipe:
    """The recipe with this `text`, as if it stood in `file`; paths in `given` are looked up in `beside` first, by
    default in the working folder. `place` says where a file really lies that is written there. Raises RecipeError as
    `read_recipe` does, and whatever `place` does."""
    root = _composed(text, file)
    reader = _Reader(file.absolute(), dict(given or {}), beside or Path.cwd(), place)
    recipe = reader.read(root)
    if reader.mistakes:
        raise RecipeError([f"{file.name}:{line}: {what}" for line, what in sorted(reader.mistakes)])
    return recipe


@dataclass(frozen=True, slots=True)
class Heading:
    """What a recipe says of its renders: its inputs with their values, None where one must be given; the values
    that each input of its `matrix:` takes, the file of its `rows:`, and who is to be told when all are over."""

    inputs: Mapping[str, str | None]
    matrix: Mapping[str, tuple[str, ...]]
    rows: str
    notify: Notify | None = None


def read_heading(file: Path, text: str) -> Heading:
    """The heading of a recipe. Raises RecipeError if it is no YAML, or its matrix is none."""
    root = _composed(text, file)
    top = {str(key.value): value for key, value in root.value} if isinstance(root, yaml.MappingNode) else {}
    reader = _Reader(file.absolute(), {}, Path.cwd())
    inputs = (
        {name: _text(value) for name, value in reader.entries(top["inputs"], "inputs", None)} if "inputs" in top else {}
    )
    matrix = dict(reader.matrix_of(top["matrix"])) if "matrix" in top else {}
    notify = reader.read_notify(top.get("notify"))
    if reader.mistakes:
        raise RecipeError([f"{file.name}:{line}: {what}" for line, what in sorted(reader.mistakes)])
    return Heading(inputs, matrix, (_text(top["rows"]) or "") if "rows" in top else "", notify)


@lru_cache(maxsize=4)  # a batch reads one recipe thousands of times, and that was a tenth of its submission
def _composed(text: str, file: Path) -> Node | None:
    try:
        root: Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise RecipeError([f"{file.name}:{mark.line + 1 if mark else 1}: is not YAML: {error.problem}"]) from None
    except yaml.YAMLError as error:
        raise RecipeError([f"{file.name}:1: is not YAML: {error}"]) from None
    except RecursionError:
        raise RecipeError([f"{file.name}:1: is nested too deeply"]) from None
    return root


@dataclass(slots=True)
class _Reader:
    """One reading: it goes on after a mistake, so that all are told at once."""

    file: Path
    given: dict[str, str]
    beside: Path
    place: Callable[[Path], Path] = lambda path: path
    mistakes: list[tuple[int, str]] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    steps: dict[str, Step] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    laid: list[Step] = field(default_factory=list)

    def wrong(self, node: Node, what: str) -> None:
        self.mistakes.append((_line(node), what))

    # ------------------------------------------------------------ the whole

    def read(self, root: Node | None) -> Recipe:
        top = dict(self.entries(root, "a recipe", TOP)) if root else {}
        if root is None:
            self.mistakes.append((1, "the recipe is empty"))
        if "inputs" in top:
            self.read_inputs(top["inputs"])
        if "matrix" in top:
            self.read_matrix(top["matrix"])
        for name in self.given:
            if name not in self.inputs:
                self.mistakes.append((1, f"--set {name}: the recipe has no such input{nearest(name, self.inputs)}"))
        for node in self.items(top.get("steps"), "steps"):
            self.read_step(node)
        deliveries = [
            d for node in self.items(top.get("deliver"), "deliver") if (d := self.read_delivery(node)) is not None
        ]
        self.check_targets(deliveries)
        if root is not None and not deliveries and not self.mistakes:
            self.mistakes.append((1, "deliver: nothing is delivered; name a preset: and a file:"))
        (anchors, policy), purse = self.read_provenance(top.get("provenance")), self.read_purse(top)
        region = self.substituted("region", top["region"]) or "" if "region" in top else ""
        steps, notify = (*self.steps.values(), *self.laid), self.read_notify(top.get("notify"))
        return Recipe(
            self.file, self.project(), steps, tuple(deliveries), anchors, policy, purse, region, notify=notify
        )

    def project(self) -> Path:
        """Outputs of an installed recipe go to the working folder, of any other to its own project."""
        installed = {"site-packages", "dist-packages"} & set(self.file.parts)
        return project_folder(Path.cwd() if installed else self.file.parent)

    def read_inputs(self, node: Node) -> None:
        for name, value in self.entries(node, "inputs", None):
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                self.wrong(value, f"inputs.{name}: a name is small letters, digits and _, and starts with a letter")
            text = self.given.get(name, _text(value))
            if text is None:
                fine = isinstance(value, yaml.ScalarNode)
                what = f"must be given: --set {name}=…" if fine else "should be a value, not a list or a mapping"
                self.wrong(value, f"inputs.{name}: {what}")
                self.missing.add(name)
                text = ""
            self.inputs[name] = text

    def read_matrix(self, node: Node) -> None:
        """Of its inputs one value each is given; `pipeline batch` gives every combination."""
        for name, values in self.matrix_of(node):
            if name in self.inputs:
                self.wrong(node, f"matrix.{name}: is an input already")
            if name not in self.given:
                self.wrong(
                    node, f"matrix.{name}: has {len(values)} values: `pipeline batch` takes all, --set {name}=… one"
                )
                self.missing.add(name)
            self.inputs[name] = self.given.get(name, "")

    def matrix_of(self, node: Node) -> Iterator[tuple[str, tuple[str, ...]]]:
        for name, value in self.entries(node, "matrix", None):
            texts = [_text(each) for each in self.items(value, f"matrix.{name}")]
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                self.wrong(value, f"matrix.{name}: a name is small letters, digits and _, and starts with a letter")
            if not texts or None in texts:
                self.wrong(value, f"matrix.{name}: should be a list of values")
            yield name, tuple(text for text in texts if text is not None)

    def read_provenance(self, node: Node | None) -> tuple[tuple[Path, ...], Policy]:
        """`provenance: {origin: require-trusted, missing: stop, anchors: [FILE]}`."""
        known = {parameter.name: parameter for parameter in parameters_of(Policy)}
        anchors: list[Path] = []
        said: dict[str, Any] = {}
        for key, value in self.entries(node, "provenance", ("anchors", *known)) if node else ():
            if key == "anchors":
                anchors += [file for item in self.items(value, "provenance.anchors") if (file := self.anchor(item))]
            elif isinstance(given := self.argument(f"provenance.{key}", known[key], value), Given):
                said[key] = given.value
        return tuple(anchors), Policy(**said)

    def anchor(self, node: Node) -> Path | None:
        """A trust list by its name, or a PEM file."""
        if listed := named_list(self.substituted("provenance.anchors", node) or ""):
            return listed
        found = self.file_argument(node)
        return found.path if found else None

    def read_purse(self, top: Mapping[str, Node]) -> Purse:
        """`budget: $6`, or `{total: $6, each: $2, day: $50, account: $500/month, …}`, and `bill_to:`."""
        bill_to = self.substituted("bill_to", top["bill_to"]) or "" if "bill_to" in top else ""
        node = top.get("budget")
        if node is None:
            return Purse(bill_to=bill_to)
        if isinstance(node, yaml.ScalarNode):
            allowed = self.allowance("budget", node)
            return Purse(total=allowed.limit if allowed else None, bill_to=bill_to)
        known = ("total", "each", "day", "account", "label", "unknown_price", "approve")
        said: dict[str, Any] = {}
        for key, value in self.entries(node, "budget", known):
            where, text = f"budget.{key}", _text(value) or ""
            if key == "approve":
                said[key] = self.parsed(where, value, parse_switch, text)
            elif key == "unknown_price":
                if text not in ("pay", "stop"):
                    self.wrong(value, f"{where}: should be pay or stop, not '{text}'")
                said[key] = text == "pay"
            elif (allowed := self.allowance(where, value)) is not None:
                if key in ("total", "each", "day") and allowed.within:
                    self.wrong(value, f"{where}: should be an amount such as $6, without /day or /month")
                said[key] = allowed if key in ("account", "label") else allowed.limit
        if "label" in said and not bill_to:
            self.wrong(node, "budget.label: is for what is billed to a label: give bill_to:")
        return Purse(bill_to=bill_to, **{key: value for key, value in said.items() if value is not None})

    def read_notify(self, node: Node | None) -> Notify | None:
        """`notify: https://…`, or `{url: https://…, each: yes}`. No input goes into it: rows may be others' words."""
        if node is None or isinstance(node, yaml.ScalarNode):
            return self.parsed("notify", node, Notify.parse, _text(node) or "") if node else None
        said = dict(self.entries(node, "notify", ("url", "each")))
        each = (
            self.parsed("notify.each", said["each"], parse_switch, _text(said["each"]) or "") if "each" in said else 0
        )
        url = said.get("url", node)
        return self.parsed("notify.url", url, lambda text: Notify.parse(text, bool(each)), _text(url) or "")

    def allowance(self, where: str, node: Node) -> Allowance | None:
        return self.parsed(where, node, Allowance.parse, _text(node) or "")

    def parsed(self, where: str, node: Node, parse: Callable[[str], T], text: str) -> T | None:
        try:
            return parse(text)
        except InputError as error:
            self.wrong(node, f"{where}: {error}")
            return None

    # ------------------------------------------------------------ steps

    def read_step(self, node: Node) -> None:
        if isinstance(node, yaml.ScalarNode):
            pairs: list[tuple[str, Node]] = [(node.value, yaml.MappingNode("", [], node.start_mark, node.end_mark))]
        else:
            pairs = list(self.entries(node, "a step", None))
        named = next((_text(value) for key, value in pairs if key == "name"), None)
        stages = [(key, value) for key, value in pairs if key != "name"]
        if len(stages) != 1:
            self.wrong(node, f"a step names one stage, not {len(stages)}: {', '.join(key for key, _ in stages)}")
            return
        key, body = stages[0]
        name = named or key
        try:
            stage, body = as_purchase(stage_of(plugins.find("pipeline.stages", key)), body)
        except InputError as error:
            self.wrong(body, LAST if key in ("sign", "verify") else str(error))
            self.failed.add(name)
            return
        if name in self.steps:
            self.wrong(node, f"{name}: there is a step of that name already; give this one a name:")
        arguments, lines = self.arguments(name, stage, body)
        self.steps[name] = Step(name, stage, arguments, _line(node), lines)

    def arguments(
        self, name: str, stage: Stage, body: Node, of: FromFile | FromStep | None = None
    ) -> tuple[dict[str, Argument], dict[str, int]]:
        """Those of a step, whose clip is `of` or else the step before it; and their lines."""
        parameters = stage.parameters
        by_name = {parameter.name: parameter for parameter in parameters}
        body = _apart(_shorthand(body, parameters), by_name)
        arguments: dict[str, Argument] = {}
        lines: dict[str, int] = {}
        for key, value in self.entries(body, name, tuple(by_name)):
            lines[key] = _line(value)
            argument = self.argument(f"{name}.{key}", by_name[key], value)
            if argument is not None:
                arguments[key] = argument
        first = next((p for p in parameters if p.kind == "clip"), None)
        if first and first.name not in lines and first.required:
            previous = self.previous()
            if of := of or (FromStep(previous) if previous else None):
                arguments[first.name] = of
        for parameter in parameters if stage.kind == "edit" else ():  # a job's may be filled by the plan
            if parameter.required and parameter.name not in arguments and parameter.name not in lines:
                if parameter is first and self.failed:
                    continue  # the step before it is wrong, and said so
                self.wrong(body, f"{name}: {parameter.name}: is missing (such as {parameter.example})")
        return arguments, lines

    def previous(self) -> str | None:
        return next(reversed(self.steps), None)

    def argument(self, where: str, parameter: Parameter, node: Node) -> Argument | None:
        if parameter.kind == "words":
            return self.words(where, node)
        if parameter.kind == "rows":
            return self.rows(where, parameter, node)
        if parameter.kind == "table":
            return self.table(where, node)
        if parameter.kind == "fields":
            return self.fields(where, parameter, node)
        if parameter.kind == "clips":
            nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
            found = [self.argument(where, replace(parameter, kind="clip", example="$clip"), each) for each in nodes]
            return tuple(one for one in found if isinstance(one, FromFile | FromStep)) if all(found) else None
        if not isinstance(node, yaml.ScalarNode):
            self.wrong(node, f"{where}: should be {parameter.example}, not a list or a mapping")
            return None
        if parameter.kind in ("clip", "file"):
            return self.reference(where, node)
        text = self.substituted(where, node)
        if text is None:
            return None
        try:
            return Given(text, parameter.parse(text))
        except InputError as error:
            self.wrong(node, f"{where}: {error}")
            return None

    def words(self, where: str, node: Node) -> Given | None:
        """A list of names, or one name alone; a voice's file (`piper:amy.onnx`) is relative to the recipe."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found = [(each, word) for each in nodes if (word := self.substituted(where, each)) is not None]
        placed = tuple(with_file(word, partial(self.path_of, each)) for each, word in found)
        return Given(", ".join(word for _, word in found), placed) if found else None

    def rows(self, where: str, parameter: Parameter, node: Node) -> Given | None:
        """A list, each of whose items is a mapping or a text; or one text."""
        if isinstance(node, yaml.ScalarNode):
            text = self.substituted(where, node)
            return None if text is None else Given(text, text)
        nodes = list(self.items(node, where))
        found = [self.fields(f"{where} {number}", parameter, one) for number, one in enumerate(nodes, 1)]
        rows = [row for row in found if row]
        return Given("; ".join(row.text for row in rows), tuple(row.value for row in rows)) if all(found) else None

    def table(self, where: str, node: Node) -> Given | None:
        """Names, each with one or several others."""
        rows = {key: self.words(f"{where}.{key}", value) for key, value in self.entries(node, where, None)}
        text = ", ".join(f"{key}: {row.text}" for key, row in rows.items() if row)
        return Given(text, {key: row.value for key, row in rows.items() if row}) if all(rows.values()) else None

    def fields(self, where: str, parameter: Parameter, node: Node) -> Given | None:
        """A mapping, each of whose values is a field of its own; or one text, where the value can be read off that."""
        short = getattr(parameter.parse, "parse", None)
        if short and isinstance(node, yaml.ScalarNode):
            text = self.substituted(where, node)
            value = None if text is None else self.parsed(where, node, short, text)
            return None if text is None or value is None else Given(text, value)
        known = {field.name: field for field in parameter.fields}
        given: dict[str, Given] = {}
        for key, value in self.entries(node, where, tuple(known)):
            argument = self.argument(f"{where}.{key}", known[key], value)
            if isinstance(argument, Given):
                given[key] = argument
        missing = [name for name, field in known.items() if field.required and name not in given]
        if missing and isinstance(node, yaml.MappingNode):
            self.wrong(node, f"{where}: {' and '.join(missing)} missing")
        if missing:
            return None
        text = ", ".join(f"{key}: {value.text}" for key, value in given.items())
        values = {key: value.value for key, value in given.items()}
        made = self.parsed(where, node, lambda _: parameter.parse(**values), text)
        return None if made is None else Given(text, made)

    def reference(self, where: str, node: Node) -> FromFile | FromStep | None:
        """`$step`, `$input` that names a file, or a file."""
        text = _text(node) or ""
        if match := re.fullmatch(r"\$([a-z][a-z0-9_]*)", text):
            name = match[1]
            if name in self.steps:
                return FromStep(name)
            if name in self.failed:
                return None
            if name not in self.inputs:
                self.wrong(node, f"{where}: there is no input or earlier step ${name}{self.close(name)}")
                return None
        return self.file_argument(node, where)

    def file_argument(self, node: Node, where: str = "provenance.anchors") -> FromFile | None:
        text = self.substituted(where, node)
        if text is None:
            return None
        path = self.path_of(node, Path(text).expanduser())
        if not text or not path.is_file():
            what = f"{text}: is a folder, not a file" if path.is_dir() else f"{text}: there is no such file"
            self.wrong(node, f"{where}: {what if text else 'is empty'}")
            return None
        return FromFile(path)

    def path_of(self, node: Node, path: Path) -> Path:
        """Paths are relative to the recipe; one that was given with --set is first looked for where the user is."""
        given = (_text(node) or "").removeprefix("$") in self.given
        near = self.place(Path(_normal(self.beside / path))) if given else None
        return near if near and near.exists() else self.place(Path(_normal(self.file.parent / path)))

    def substituted(self, where: str, node: Node) -> str | None:
        """The text with `$name` replaced by that input; `$$` is a dollar and `$4` is money."""
        text = _text(node)
        if text is None:
            self.wrong(node, f"{where}: is empty")
            return None
        unknown: list[str] = []

        def value(match: re.Match[str]) -> str:
            if match[0] == "$$":
                return "$"
            name = match[1]
            if name in self.inputs and name not in self.missing:
                return self.inputs[name]
            unknown.append(name)
            if name in self.missing:
                return ""  # said already
            what = "is a step, not a text" if name in self.steps else f"is not an input{self.close(name)}"
            self.wrong(node, f"{where}: ${name} {what}")
            return ""

        replaced = re.sub(r"\$\$|\$([a-z][a-z0-9_]*)", value, text)
        return None if unknown else replaced

    def close(self, name: str) -> str:
        return nearest(name, (*self.inputs, *self.steps))

    # ------------------------------------------------------------ deliveries

    def read_delivery(self, node: Node) -> Delivery | None:
        entries = dict(self.entries(node, "deliver", ("preset", "file", "clip", *DELIVERY_STEPS, *DELIVERY_OPTIONS)))
        missing = [key for key in ("preset", "file") if key not in entries]
        if missing:
            self.wrong(node, f"deliver: {' and '.join(missing)} missing")
            return None
        preset = self.substituted("deliver.preset", entries["preset"])
        if preset is not None and preset not in presets.names("delivery"):
            self.wrong(entries["preset"], f"deliver.preset: {no_preset(preset)}")
        file = self.substituted("deliver.file", entries["file"])
        bucket = self.parsed("deliver.file", entries["file"], destination, file or "")
        target = bucket or Path(_normal(self.project() / (file or "")))
        if file is not None and preset in presets.names("delivery"):
            self.parsed("deliver.file", entries["file"], lambda text: check_suffix(str(preset), Path(text)), file)
        of: str | FromFile | None
        if "clip" in entries:
            reference = self.reference("deliver.clip", entries["clip"])
            of = reference.name if isinstance(reference, FromStep) else reference
        else:
            of = self.previous()
            if of is None and not self.failed and not self.mistakes:
                self.wrong(node, "deliver: there are no steps; name a clip:")
        options = self.delivery_options(entries)
        if of is None or preset is None or file is None:
            return None
        for name in DELIVERY_STEPS:
            if name in entries:
                of = self.laid_over(name, entries[name], of, file)
        return Delivery(preset, target, of, options, _line(node))

    def laid_over(self, name: str, body: Node, of: str | FromFile, file: str) -> str:
        """The name of a step of the delivery's own, of the clip `of`: planned and put on record as any other."""
        stage = stage_of(plugins.find("pipeline.stages", name))
        first = stage.parameters[0]
        if isinstance(body, yaml.MappingNode) and first.name in (key.value for key, _ in body.value):
            self.wrong(body, f"deliver.{name}.{first.name}: is not known; it is the delivery's {first.name}")
            return f"{name} of {file}"
        clip = of if isinstance(of, FromFile) else FromStep(of)
        arguments, lines = self.arguments(f"deliver.{name}", stage, body, clip)
        step = Step(f"{name} of {file}", stage, arguments, _line(body), lines)
        self.laid.append(step)
        return step.name

    def delivery_options(self, entries: Mapping[str, Node]) -> dict[str, Given]:
        parameters = {p.name: p for p in parameters_of(cut) if p.name in DELIVERY_OPTIONS}
        found: dict[str, Given] = {}
        for key, node in entries.items():
            if key in parameters:
                argument = self.argument(f"deliver.{key}", parameters[key], node)
                if isinstance(argument, Given):
                    found[key] = argument
        return found

    def check_targets(self, deliveries: Sequence[Delivery]) -> None:
        """Nothing may be written to twice, since it is signed, and nothing that is read may be written to."""
        taken: dict[str, int] = {}
        for delivery in deliveries:
            target = os.path.realpath(delivery.file)
            if target in taken:
                line = taken[target]
                self.mistakes.append(
                    (delivery.line, f"deliver.file: {delivery.file.name} is delivered already at line {line}")
                )
            taken.setdefault(target, delivery.line)
        read = [delivery.of for delivery in deliveries if isinstance(delivery.of, FromFile)]
        for argument in (a for step in self.steps.values() for a in step.arguments.values()):
            read += [one for one in parts_of(argument) if isinstance(one, FromFile)]
        inputs = {os.path.realpath(file.path) for file in read}
        for delivery in deliveries:
            if os.path.realpath(delivery.file) in inputs:
                self.mistakes.append((delivery.line, f"deliver.file: {delivery.file.name} is one of the inputs"))
        self.check_sidecars(deliveries, inputs)

    def check_sidecars(self, deliveries: Sequence[Delivery], inputs: Iterable[str]) -> None:
        """Credentials that lie beside a film may not fall on those of another, `x.webm`'s on those of `x.mkv`."""
        held = {os.path.realpath(sidecar_of(file)): file for file in map(Path, inputs) if is_named_apart(file)}
        for delivery in deliveries:
            file, sidecar = Path(os.path.realpath(delivery.file)), sidecar_of(delivery.file)
            if is_named_apart(file) and (other := held.setdefault(os.path.realpath(sidecar), file)) != file:
                said = f"{file.name} and {other.name} would both have their credentials in {sidecar.name}"
                self.mistakes.append((delivery.line, f"deliver.file: {said}"))

    # ------------------------------------------------------------ nodes

    def entries(self, node: Node, where: str, known: Sequence[str] | None) -> Iterator[tuple[str, Node]]:
        """The keys and values of a mapping, each key once and known."""
        if not isinstance(node, yaml.MappingNode):
            self.wrong(node, f"{where}: should be a mapping of names to values")
            return
        seen: set[str] = set()
        for key_node, value in node.value:
            key = str(key_node.value)
            told = key if where.startswith("a ") else f"{where}.{key}"
            if known is not None and key not in known:
                self.wrong(
                    key_node,
                    f"{told}: is not known{nearest(key, known)}; there are {', '.join(known)}",
                )
            elif key in seen:
                self.wrong(key_node, f"{told}: is given twice")
            else:
                seen.add(key)
                yield key, value

    def items(self, node: Node | None, where: str) -> Iterator[Node]:
        if node is None:
            return
        if not isinstance(node, yaml.SequenceNode):
            self.wrong(node, f"{where}: should be a list")
            return
        yield from node.value


def _shorthand(body: Node, parameters: Sequence[Parameter]) -> Node:
    """`trim: 6s` is `trim: {length: 6s}`: a lone value is the first parameter that is not the clip, and a list
    is the clips of a stage that takes several."""
    pairs: list[tuple[Node, Node]] = []
    if isinstance(body, yaml.ScalarNode):
        first = next((p for p in parameters if p.kind in ("value", "rows")), None) or next(iter(parameters), None)
    else:
        first = next((p for p in parameters if p.kind in ("clips", "rows")), None)
        if first is None or not isinstance(body, yaml.SequenceNode):
            return body
    if first and (first.kind in ("clips", "rows") or _text(body) is not None):
        pairs = [(yaml.ScalarNode("", first.name, body.start_mark, body.end_mark), body)]
    return yaml.MappingNode("", pairs, body.start_mark, body.end_mark)


def _apart(body: Node, parameters: Mapping[str, Parameter]) -> Node:
    """`engine: onnx:MODEL` is `engine: onnx` and `model: MODEL`, where a parameter says so."""
    if not isinstance(body, yaml.MappingNode):
        return body
    pairs: list[tuple[Node, Node]] = []
    for key, value in body.value:
        rest = parameters[key.value].rest if key.value in parameters else ""
        first, colon, behind = (_text(value) or "").partition(":")
        if rest and colon:
            whole = yaml.ScalarNode("", rest, key.start_mark, key.end_mark)
            pairs.append((key, yaml.ScalarNode("", first, value.start_mark, value.end_mark)))
            pairs.append((whole, yaml.ScalarNode("", behind, value.start_mark, value.end_mark)))
        else:
            pairs.append((key, value))
    return yaml.MappingNode("", pairs, body.start_mark, body.end_mark)


def _text(node: Node) -> str | None:
    """A scalar as it was written; None for `~`, nothing, or what is no scalar."""
    if not isinstance(node, yaml.ScalarNode) or (not node.style and node.value in ("", "~", "null")):
        return None
    return str(node.value)


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _normal(path: Path) -> str:
    return os.path.normpath(path)


def json_schema() -> dict[str, object]:
    """The JSON Schema of recipes, from the stages' signatures, for editors."""
    stages = {name: stage_of(plugins.find("pipeline.stages", name)) for name in plugins.names("pipeline.stages")}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Afterframe recipe",
        "type": "object",
        "additionalProperties": False,
        "required": ["deliver"],
        "properties": {
            "version": {"const": 1},
            "name": {"type": "string"},
            "inputs": {"type": "object"},
            "matrix": {"type": "object", "additionalProperties": {"type": "array"}},
            "rows": {"type": "string"},
            "budget": {"type": ["string", "number", "object"], "examples": ["$6", {"total": "$6", "each": "$2"}]},
            "bill_to": {"type": "string"},
            "region": {"type": "string"},
            "provenance": {
                "type": "object",
                "properties": {"anchors": {"type": "array"}}
                | {parameter.name: {"enum": list(parameter.choices)} for parameter in parameters_of(Policy)},
                "additionalProperties": False,
            },
            "notify": {
                "type": ["string", "object"],
                "properties": {"url": {"type": "string", "format": "uri"}, "each": {"type": "boolean"}},
                "additionalProperties": False,
            },
            "steps": {
                "type": "array",
                "items": {
                    "anyOf": [
                        {
                            "type": "object",
                            "properties": {"name": {"type": "string"}}
                            | {name: _stage_schema(stage.help, stage.parameters) for name, stage in stages.items()},
                            "additionalProperties": False,
                        },
                        {"type": "string", "enum": list(stages)},
                    ],
                },
            },
            "deliver": {
                "type": "array",
                "items": _delivery_schema(stages) | {"required": ["preset", "file"]},
            },
        },
    }


def _delivery_schema(stages: Mapping[str, Stage]) -> dict[str, object]:
    schema = _stage_schema(inspect.getdoc(cut) or "", parameters_of(cut))
    own = {name: _stage_schema(stages[name].help, stages[name].parameters) for name in DELIVERY_STEPS}
    properties = schema["properties"]
    assert isinstance(properties, dict)
    return schema | {"properties": properties | own}


def _stage_schema(text: str, parameters: Sequence[Parameter]) -> dict[str, object]:
    return {
        "description": text.split("\n\n")[0],
        "type": [
            "object",
            "string",
            "number",
            "null",
            *(["array"] if any(p.kind in ("clips", "rows") for p in parameters) else []),
        ],
        "properties": {
            p.name: {"enum": list(p.choices)} if p.choices else {"examples": [p.example]} for p in parameters
        },
    }
