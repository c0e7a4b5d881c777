"""A recipe, read: what was asked for. Every value is parsed, every name is bound."""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from stages.errors import InputError
from stages.notices import Notify
from stages.policy import Policy
from stages.purse import Purse
from stages.stage import Stage, nearest


@dataclass(frozen=True, slots=True)
class Given:
    """A plain value: as written, and as its stage takes it."""

    text: str
    value: object


@dataclass(frozen=True, slots=True)
class FromFile:
    """A file that the author named; the path is absolute."""

    path: Path


@dataclass(frozen=True, slots=True)
class FromStep:
    """The result of an earlier step."""

    name: str


Argument = Given | FromFile | FromStep | tuple[FromFile | FromStep, ...]
"""What a parameter is given: a value, a file, a step's result, or several of the last two."""


def parts_of(argument: Argument) -> tuple[Given | FromFile | FromStep, ...]:
    """An argument's parts: itself, if it is not several."""
    return argument if isinstance(argument, tuple) else (argument,)


@dataclass(frozen=True, slots=True)
class Step:
    """One stage to run. `lines` say where each of its arguments stands."""

    name: str
    stage: Stage
    arguments: Mapping[str, Argument]
    line: int
    lines: Mapping[str, int]

    @property
    def reads(self) -> tuple[str, ...]:
        """The earlier steps whose results it takes."""
        given = (one for argument in self.arguments.values() for one in parts_of(argument))
        return tuple(one.name for one in given if isinstance(one, FromStep))


@dataclass(frozen=True, slots=True)
class Delivery:
    """One file to deliver, of the result of the step `of`."""

    preset: str
    file: Path
    of: str | FromFile
    options: Mapping[str, Given]
    line: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """What was asked for. `project` is the folder that outputs and state belong to.

    `policy` is what is asked of the credentials of what goes in, `purse` what
    may be spent, `region` where everything must be that is sent anywhere;
    `notify` is who is told when it is over.
    `part_of` is the recipe that this one is the beginning of: what the author
    left open follows from the whole.
    """

    file: Path
    project: Path
    steps: tuple[Step, ...]
    deliveries: tuple[Delivery, ...]
    anchors: tuple[Path, ...] = ()
    policy: Policy = field(default_factory=Policy)
    purse: Purse = field(default_factory=Purse)
    region: str = ""
    part_of: Recipe | None = None
    notify: Notify | None = None

    @property
    def whole(self) -> Recipe:
        """With all the steps and deliveries that were written."""
        return self.part_of or self

    @property
    def known_as(self) -> str:
        """Its place in the project, so that both may be moved together."""
        return os.path.relpath(self.file, self.project)

    @property
    def buys(self) -> bool:
        """Whether any step of it may cost money."""
        return any(step.stage.buys for step in self.steps)

    def place(self, line: int) -> str:
        """`finish.yaml:14`."""
        return f"{self.file.name}:{line}"

    def until(self, name: str) -> Recipe:
        """The recipe up to the step `name`, delivering nothing. Raises InputError if there is no such step."""
        names = [step.name for step in self.steps]
        if name not in names:
            raise InputError(f"--until {name}: there is no such step{nearest(name, names)}")
        return replace(self, steps=self.steps[: names.index(name) + 1], deliveries=(), part_of=self.whole)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it reads, each once."""
        found: dict[Path, None] = {}
        for step in self.steps:
            for one in (one for argument in step.arguments.values() for one in parts_of(argument)):
                if isinstance(one, FromFile):
                    found[one.path] = None
        for delivery in self.deliveries:
            if isinstance(delivery.of, FromFile):
                found[delivery.of.path] = None
        return tuple(found)
