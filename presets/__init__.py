"""Data, and the few functions that read it: what generators sell, what platforms want, recipes to run.

A preset is a YAML file of `values:`, each `{value, source, checked}`: no number
stands without where it comes from and when that was last looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

FOLDER = Path(__file__).parent

Kind = Literal["delivery", "models", "servers", "images", "voices", "sounds", "trust"]

__all__ = ["Sheet", "Value", "names", "owners", "quality", "read", "recipe"]


@dataclass(frozen=True, slots=True)
class Value:
    """One number or word of a preset, with its line in the file, its source and the day it was checked."""

    value: Any
    line: int
    source: str
    checked: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """One preset: its values by name (`price.1280x720` where they are nested), and plain `facts`."""

    name: str
    file: Path
    facts: Mapping[str, Any]
    values: Mapping[str, Value]

    @property
    def about(self) -> str:
        """What it is for, in a sentence."""
        return str(self.facts.get("about", ""))

    def __getitem__(self, key: str) -> Any:
        return self.values[key].value

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`, or `default` where the preset does not say."""
        return self.values[key].value if key in self.values else default

    def place(self, key: str) -> str:
        """Where `key` stands, as `youtube.yaml:12`."""
        return f"{self.file.name}:{self.values[key].line}" if key in self.values else self.file.name


def names(kind: Kind) -> tuple[str, ...]:
    """The presets of a kind, by name."""
    return _names(FOLDER / kind)


@cache  # a plan asks some thirty times, and they are packaged
def _names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


@cache
def read(kind: Kind, name: str) -> Sheet:
    """The preset `name`. Raises KeyError if there is none."""
    file = FOLDER / kind / f"{name}.yaml"
    if name not in names(kind):
        raise KeyError(name)
    root, loaded = _parsed(file)
    facts = {key: value for key, value in loaded.items() if not isinstance(value, dict)}
    return Sheet(name, file, facts, dict(_values(root, loaded, "")))


@cache
def owners() -> Mapping[str, Value]:
    """Who is behind a host; one that begins with a dot stands for all that end so."""
    root, loaded = _parsed(FOLDER / "hosts.yaml")
    return dict(_values(root, loaded, ""))


@cache
def quality() -> Mapping[str, Value]:
    """How near an engine comes to a film that is known, as `lanczos.psnr` and `lanczos.neg`."""
    root, loaded = _parsed(FOLDER / "engines.yaml")
    return dict(_values(root, loaded, ""))


LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's is eight times as fast, which counts where fifty presets are read to choose among."""


def _parsed(file: Path) -> tuple[yaml.MappingNode, Mapping[Any, Any]]:
    """A file of presets as nodes, which know their lines, and as values."""
    loader = LOADER(file.read_text(encoding="utf-8"))
    try:
        root = loader.get_single_node()
        assert isinstance(root, yaml.MappingNode)
        return root, loader.construct_document(root)
    finally:
        loader.dispose()


def _values(node: yaml.MappingNode, loaded: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Value]]:
    """The sourced values below a mapping, with their lines."""
    for key_node, inner in node.value:
        key = key_node.value
        entry = loaded[key] if key in loaded else loaded.get(_as_read(key))
        if not isinstance(entry, dict):
            continue
        if "value" in entry:
            line = key_node.start_mark.line + 1
            yield f"{prefix}{key}", Value(entry["value"], line, str(entry["source"]), str(entry["checked"]))
        else:
            yield from _values(inner, entry, "" if key == "values" else f"{prefix}{key}.")


def _as_read(key: str) -> Any:
    return yaml.safe_load(key)


def recipe(name: str) -> Path | None:
    """The packaged recipe of that name, if there is one."""
    file = FOLDER / "recipes" / f"{name.removesuffix('.yaml')}.yaml"
    return file if file.is_file() else None
