"""From YAML text to a Recipe, or to every mistake in it at once.

YAML's nodes are read, not its values, so that scalars reach the stages as they
were written: `6:30` stays a time, `no` stays a word, and each has its line.
"""

from __future__ import annotations

import inspect
import os.path
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import yaml

import presets
from pipeline.recipe import Argument, Budget, Delivery, FromFile, FromStep, Given, Recipe, Step
from stages import plugins
from stages.delivery import cut
from stages.errors import InputError, RecipeError
from stages.files import project_folder
from stages.stage import Parameter, Stage, nearest, parameters_of, stage_of

TOP = ("version", "name", "inputs", "budget", "provenance", "steps", "deliver")
DELIVERY_OPTIONS = ("mode", "focus", "captions")

Node = yaml.nodes.Node


def read_recipe(file: Path, given: Mapping[str, str] | None = None) -> Recipe:
    """The recipe in `file`, with the values in `given` for its inputs.

    Raises RecipeError with every mistake, each as `finish.yaml:14: trim.length: …`.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = sorted(path.stem for path in (presets.FOLDER / "recipes").glob("*.yaml"))
        raise RecipeError([f"{file}: there is no such recipe; packaged ones are {', '.join(known)}"]) from None
    except IsADirectoryError:
        raise RecipeError([f"{file}: is a folder, not a recipe"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError([f"{file}: cannot be read as UTF-8 text ({error})"]) from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise RecipeError([f"{file.name}:{mark.line + 1 if mark else 1}: is not YAML: {error.problem}"]) from None
    except yaml.YAMLError as error:
        raise RecipeError([f"{file.name}:1: is not YAML: {error}"]) from None
    except RecursionError:
        raise RecipeError([f"{file.name}:1: is nested too deeply"]) from None
    reader = _Reader(file.absolute(), dict(given or {}))
    recipe = reader.read(root)
    if reader.mistakes:
        raise RecipeError([f"{file.name}:{line}: {what}" for line, what in sorted(reader.mistakes)])
    return recipe


@dataclass(slots=True)
class _Reader:
    """One reading: it goes on after a mistake, so that all are told at once."""

    file: Path
    given: dict[str, str]
    mistakes: list[tuple[int, str]] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    steps: dict[str, Step] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def wrong(self, node: Node, what: str) -> None:
        self.mistakes.append((_line(node), what))

    # ------------------------------------------------------------ the whole

    def read(self, root: Node | None) -> Recipe:
        top = dict(self.entries(root, "a recipe", TOP)) if root else {}
        if root is None:
            self.mistakes.append((1, "the recipe is empty"))
        if "inputs" in top:
            self.read_inputs(top["inputs"])
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
        anchors, budget = self.read_anchors(top.get("provenance")), self.read_budget(top.get("budget"))
        return Recipe(self.file, self.project(), tuple(self.steps.values()), tuple(deliveries), anchors, budget)

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

    def read_anchors(self, node: Node | None) -> tuple[Path, ...]:
        if node is None:
            return ()
        for _, value in self.entries(node, "provenance", ("anchors",)):
            return tuple(
                path.path for item in self.items(value, "provenance.anchors") if (path := self.file_argument(item))
            )
        return ()

    def read_budget(self, node: Node | None) -> Budget | None:
        """`budget: $6`, or `{total: $6, each: $2}`."""
        if node is None:
            return None
        if isinstance(node, yaml.ScalarNode):
            return Budget(total=self.money("budget", node))
        entries = dict(self.entries(node, "budget", ("total", "each")))
        return Budget(**{key: self.money(f"budget.{key}", value) for key, value in entries.items()})

    def money(self, where: str, node: Node) -> Decimal | None:
        match = re.fullmatch(r"\$?(\d+(?:\.\d{1,2})?)(?:\s*USD)?", _text(node) or "")
        if not match:
            self.wrong(node, f"{where}: should be an amount of US dollars such as $6, not '{_text(node) or ''}'")
            return None
        return Decimal(match[1])

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
            stage = stage_of(plugins.find("pipeline.stages", key))
        except InputError as error:
            self.wrong(body, str(error))
            self.failed.add(name)
            return
        if name in self.steps:
            self.wrong(node, f"{name}: there is a step of that name already; give this one a name:")
        arguments, lines = self.arguments(name, stage, body)
        self.steps[name] = Step(name, stage, arguments, _line(node), lines)

    def arguments(self, name: str, stage: Stage, body: Node) -> tuple[dict[str, Argument], dict[str, int]]:
        parameters = stage.parameters
        by_name = {parameter.name: parameter for parameter in parameters}
        body = _shorthand(body, parameters)
        arguments: dict[str, Argument] = {}
        lines: dict[str, int] = {}
        for key, value in self.entries(body, name, tuple(by_name)):
            lines[key] = _line(value)
            argument = self.argument(f"{name}.{key}", by_name[key], value)
            if argument is not None:
                arguments[key] = argument
        first = next((p for p in parameters if p.kind == "clip"), None)
        if first and first.name not in lines and first.required and (previous := self.previous()):
            arguments[first.name] = FromStep(previous)
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
        """A list of names, or one name alone."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found = [word for each in nodes if (word := self.substituted(where, each)) is not None]
        return Given(", ".join(found), tuple(found)) if found else None

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
        if given and path.exists():
            return Path(_normal(Path.cwd() / path))
        return Path(_normal(self.file.parent / path))

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
        entries = dict(self.entries(node, "deliver", ("preset", "file", "clip", *DELIVERY_OPTIONS)))
        missing = [key for key in ("preset", "file") if key not in entries]
        if missing:
            self.wrong(node, f"deliver: {' and '.join(missing)} missing")
            return None
        preset = self.substituted("deliver.preset", entries["preset"])
        known = presets.names("delivery")
        if preset is not None and preset not in known:
            self.wrong(
                entries["preset"],
                f"deliver.preset: there is no preset '{preset}'{nearest(preset, known)}; there are {', '.join(known)}",
            )
        file = self.substituted("deliver.file", entries["file"])
        target = Path(_normal(self.project() / (file or "")))
        if file is not None and target.suffix.lower() != ".mp4":
            self.wrong(entries["file"], f"deliver.file: {file}: should end in .mp4")
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
        return Delivery(preset, target, of, options, _line(node))

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
        taken: dict[Path, int] = {}
        for delivery in deliveries:
            if delivery.file in taken:
                line = taken[delivery.file]
                self.mistakes.append(
                    (delivery.line, f"deliver.file: {delivery.file.name} is delivered already at line {line}")
                )
            taken.setdefault(delivery.file, delivery.line)
        read = [delivery.of for delivery in deliveries if isinstance(delivery.of, FromFile)]
        for argument in (a for step in self.steps.values() for a in step.arguments.values()):
            read += [f for f in (argument if isinstance(argument, tuple) else (argument,)) if isinstance(f, FromFile)]
        inputs = {os.path.realpath(file.path) for file in read}
        for delivery in deliveries:
            if os.path.realpath(delivery.file) in inputs:
                self.mistakes.append((delivery.line, f"deliver.file: {delivery.file.name} is one of the inputs"))

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
    """`trim: 6s` is `trim: {length: 6s}`: a lone value is the first parameter that is not the clip."""
    if not isinstance(body, yaml.ScalarNode):
        return body
    pairs: list[tuple[Node, Node]] = []
    first = next((p for p in parameters if p.kind == "value"), None) or next(iter(parameters), None)
    if first and _text(body) is not None:
        pairs = [(yaml.ScalarNode("", first.name, body.start_mark, body.end_mark), body)]
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
            "budget": {"type": ["string", "number", "object"], "examples": ["$6", {"total": "$6", "each": "$2"}]},
            "provenance": {"type": "object", "properties": {"anchors": {"type": "array"}}},
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
                "items": _stage_schema(inspect.getdoc(cut) or "", parameters_of(cut))
                | {"required": ["preset", "file"]},
            },
        },
    }


def _stage_schema(text: str, parameters: Sequence[Parameter]) -> dict[str, object]:
    return {
        "description": text.split("\n\n")[0],
        "type": ["object", "string", "number", "null"],
        "properties": {
            p.name: {"enum": list(p.choices)} if p.choices else {"examples": [p.example]} for p in parameters
        },
    }
