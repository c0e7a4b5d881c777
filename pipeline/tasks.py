"""What planning, making and telling share: the world as it is, and the tasks to carry out in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from stages.clip import Clip
from stages.delivery import Cut
from stages.routing import Market

Parts = Mapping[str, str]
"""What a result depends on, by name: `trim.length: 6s`, `clip: sha256:…`, `ffmpeg: n9.0.2`."""

Action = Literal["cached", "encode", "copy", "make", "pay"]


# ---------------------------------------------------------------- the world


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A user's file: its SHA-256, and the clip in it, or why there is none. `stamp` tells whether it changed."""

    sha256: str
    clip: Clip | None = None
    fault: str = ""
    stamp: str = ""


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

    `notes` are the finished tasks by name, `latest` the parts of the last one for a slot;
    `tools` are versions, `signer` a fingerprint; `delivered` says which
    deliveries lie in place, by SHA-256; `shop` is what can be bought and what
    was; `takes` are those that were asked for after the recipe was written.
    """

    files: Mapping[Path, FileFacts]
    notes: Mapping[str, Note] = field(default_factory=dict)
    latest: Mapping[str, Parts] = field(default_factory=dict)
    tools: Parts = field(default_factory=dict)
    signer: str = ""
    delivered: Mapping[Path, str] = field(default_factory=dict)
    shop: Market = field(default_factory=lambda: Market(date.today()))
    takes: Mapping[str, int] = field(default_factory=dict)


# ---------------------------------------------------------------- the tasks


@dataclass(frozen=True, slots=True)
class FileOf:
    """A file that another task makes."""

    task: str
    file: str


@dataclass(frozen=True, slots=True)
class ResultOf:
    """One field of what another task's function returns."""

    task: str
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """Call `function` with `arguments`, in which a FileOf or ResultOf stands for what another task made.

    The runner adds what only it knows, by the names of the parameters.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    inputs: Mapping[str, Clip] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Film:
    """Encode a cut, together with others of the same sources where there are any."""

    cut: Cut
    sound: FileOf | None


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to make, in a folder of its name.

    `memory` is the same for every version of it, so that one can say what
    changed: its slot, and for a step's job the recipe as well, since a step of
    that name in another recipe is another's. `promised`: it rests on something that is yet to be made.
    `simulated`: its price is a simulator's, and nobody is paid.
    """

    name: str
    slot: str
    steps: tuple[str, ...]
    parts: Parts
    needs: tuple[str, ...]
    work: Call | Film
    action: Action
    reason: str
    memory: str
    price: Decimal | None = None
    promised: bool = False
    simulated: bool = False

    @property
    def real_price(self) -> Decimal:
        """What it costs in money that exists: what a simulator sells is priced, and not paid."""
        return Decimal(0) if self.simulated else self.price or Decimal(0)

    @property
    def title(self) -> str:
        """What people call it: `sound for web`, `web`, `bunny.mp4`."""
        return self.slot.split(":", 1)[-1]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a delivery goes, and the task that makes it."""

    file: Path
    cut: Cut
    task: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The tasks, each after those it needs; `remarks` are worth telling before anything runs.

    `over` says by how much it passes the recipe's budget; such a plan is not carried out.
    """

    tasks: tuple[Task, ...]
    deliveries: tuple[Placement, ...] = ()
    remarks: tuple[str, ...] = ()
    over: str = ""

    def __getitem__(self, name: str) -> Task:
        return next(task for task in self.tasks if task.name == name)

    @property
    def real_price(self) -> Decimal:
        """US dollars that carrying it out would really cost."""
        return sum((task.real_price for task in self.tasks), Decimal(0))
