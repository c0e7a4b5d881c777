"""What planning, making and telling share: the world as it is, and the tasks to carry out in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from stages.clip import Clip, printed_seconds
from stages.delivery import Cut
from stages.encoding import Encoding
from stages.market import Market
from stages.money import dollars

Parts = Mapping[str, str]
"""What a result depends on, by name: `trim.length: 6s`, `clip: sha256:…`, `ffmpeg: n9.0.2`."""

Action = Literal["cached", "encode", "copy", "make", "pay"]


# ---------------------------------------------------------------- the world


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A user's file: its SHA-256, and the clip in it, or why there is none. `stamp` tells whether it changed;
    `faces` how many a picture shows, where that can be told. `beside` is the SHA-256 of the credentials that lie
    beside it, for kinds of files that cannot hold any; empty if none lie there."""

    sha256: str
    clip: Clip | None = None
    fault: str = ""
    stamp: str = ""
    faces: int | None = None
    beside: str | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """What the store knows of a finished task.

    `files` are the names and SHA-256 of what lies in its folder, the main one
    first, and `sizes` their bytes; `result` is what its work returned, and
    `seconds` how long that took. Where a store is shared, the files may be on
    another machine yet.
    """

    name: str
    slot: str
    parts: Parts
    files: Mapping[str, str]
    result: Any
    folder: Path
    seconds: float = 0.0
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of its main file; 0 where it has none."""
        name = next(iter(self.files), "")
        return self.sizes[name] if name in self.sizes else self.file.stat().st_size if name else 0

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
    `tools` are versions, `signer` a fingerprint, `trust` the PEM files of those
    who are trusted in every project; `delivered` says which
    deliveries lie in place, by SHA-256; `shop` is what can be bought and what
    was; `takes` are those that were asked for after the recipe was written,
    `spent` is what counts already against budgets that reach beyond the run, and
    `lacking` says of encodings in special hardware why they do not work here.
    """

    files: Mapping[Path, FileFacts]
    notes: Mapping[str, Note] = field(default_factory=dict)
    latest: Mapping[str, Parts] = field(default_factory=dict)
    tools: Parts = field(default_factory=dict)
    signer: str = ""
    trust: tuple[Path, ...] = ()
    delivered: Mapping[Path, str] = field(default_factory=dict)
    shop: Market = field(default_factory=lambda: Market(date.today()))
    takes: Mapping[str, int] = field(default_factory=dict)
    spent: Mapping[str, Decimal] = field(default_factory=dict)
    lacking: Mapping[Encoding, str] = field(default_factory=dict)


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
    `prices` are those of what it would buy, None where nobody knows.
    `simulated`: they are a simulator's, and nobody is paid. `keys` are the
    ledger's, of what it buys or owns, `seconds` of film it would buy; `hosts` says who would get what.
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
    prices: tuple[Decimal | None, ...] = ()
    promised: bool = False
    simulated: bool = False
    keys: tuple[str, ...] = ()
    seconds: int = 0
    hosts: tuple[tuple[str, str], ...] = ()

    @property
    def price(self) -> Decimal:
        """US dollars that it costs, as far as is known."""
        return sum((price for price in self.prices if price), Decimal(0))

    @property
    def unknown_prices(self) -> int:
        """Of how many purchases nobody knows the price."""
        return self.prices.count(None)

    @property
    def real_price(self) -> Decimal:
        """What it costs in money that exists: what a simulator sells is priced, and not paid."""
        return Decimal(0) if self.simulated else self.price

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

    def beside(self, sidecar: Path) -> Path:
        """Where a sidecar of it goes: `film.de.srt` of its folder beside `out/tall.mp4` as `out/tall.de.srt`."""
        return self.file.with_suffix(sidecar.name.removeprefix(Path(self.cut.encoding.file).stem))


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars that were `paid` for a file and are `to_pay`; seconds of film `bought` for it and `kept` in it.

    `unknown` is of how many to pay nobody knows the price, `films` and `failures` are how many purchases came and
    failed. `simulated`: nobody was paid.
    """

    paid: Decimal
    to_pay: Decimal
    unknown: int
    bought: Fraction
    kept: Fraction
    films: int
    failures: int
    simulated: bool

    @property
    def wasted(self) -> Fraction:
        """Seconds that were paid and are not in the file."""
        return max(self.bought - self.kept, Fraction(0))

    def __str__(self) -> str:
        whole = dollars(self.paid + self.to_pay)
        parts = [f"{whole} (SIMULATED)" if self.simulated else whole]
        if self.unknown:
            parts.append(f"and the unknown price of {self.unknown}")
        if self.films > 1:
            parts.append(f"{self.films} purchases")
        if self.failures:
            parts.append(f"{self.failures} that failed")
        if self.bought:
            parts.append(
                f"{printed_seconds(self.bought)} s bought, {printed_seconds(self.kept)} s kept,"
                f" {printed_seconds(self.wasted)} s wasted"
            )
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Plan:
    """The tasks, each after those it needs; `remarks` are worth telling before anything runs.

    `over` says by how much it passes the recipe's budget; such a plan is not
    carried out. `costs` are those of the deliveries that anything is bought for.
    """

    tasks: tuple[Task, ...]
    deliveries: tuple[Placement, ...] = ()
    remarks: tuple[str, ...] = ()
    over: str = ""
    costs: Mapping[Path, Cost] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Task:
        return next(task for task in self.tasks if task.name == name)

    @property
    def keys(self) -> frozenset[str]:
        """The ledger's keys of all that it buys, or bought."""
        return frozenset(key for task in self.tasks for key in task.keys)

    @property
    def price(self) -> Decimal:
        """US dollars that are asked for carrying it out, by simulators too."""
        return sum((task.price for task in self.tasks), Decimal(0))

    @property
    def unknown_prices(self) -> int:
        """Of how many purchases nobody knows the price."""
        return sum(task.unknown_prices for task in self.tasks)

    @property
    def real_price(self) -> Decimal:
        """US dollars that carrying it out would really cost."""
        return sum((task.real_price for task in self.tasks), Decimal(0))
