"""A batch's roster: which renders it has, what each is given, what is wrong with those that cannot run.

It is written once, when the batch is submitted, into `.pipeline/batches/`, and
holds all that a worker needs besides the files themselves: the text of the
recipe as it then was. A render's id is a hash of that text, of its row and of
the files it reads.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pipeline.chains import digest
from pipeline.plan import plan
from pipeline.read import read_heading, recipe_in, recipe_text
from pipeline.recipe import Recipe
from pipeline.rows import Row, Rows
from pipeline.run import check_targets
from pipeline.sharing import Sharing
from pipeline.store import Store, Surroundings
from stages.carriers import sidecar_of
from stages.errors import AfterframeError, BudgetExceeded, InputError, RecipeError
from stages.files import attempt, sha256
from stages.market import models_file
from stages.money import dollars
from stages.notices import Notify

Orders = Literal["go", "pause", "cancel", "stop"]
"""What a batch was told last: `stop` is by its budget, all else by a person."""


@dataclass(frozen=True, slots=True)
class Render:
    """One row's render. `run` is what the engine calls it; `fault` is why it cannot run; `other` is what its row says
    besides, which is told again beside what came of it, and changes nothing.

    `buys` says that it goes to market first; `price` is what that would cost in
    US dollars, as far as is known, and `keys` the ledger's of it.
    """

    id: str
    line: int
    given: Mapping[str, str]
    fault: str = ""
    run: str = ""
    buys: bool = False
    price: str = "0"
    unknown_prices: int = 0
    real: bool = False
    keys: tuple[str, ...] = ()
    other: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What was submitted. Paths are relative to the project: `recipe`, `beside`, the `models` that it buys by if
    there is such a file, and the `files` that are read, with their SHA-256."""

    id: str
    recipe: str
    text: str
    source: str
    beside: str
    simulate: bool
    submitted: float
    renders: tuple[Render, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    notify: Notify | None = None
    models: str = ""

    @property
    def good(self) -> tuple[Render, ...]:
        """Those that can run."""
        return tuple(render for render in self.renders if not render.fault)

    @property
    def bad(self) -> tuple[Render, ...]:
        """Those that cannot."""
        return tuple(render for render in self.renders if render.fault)

    @property
    def keys(self) -> frozenset[str]:
        """The ledger's keys of all that it buys: its budget is for them together."""
        return _keys(self)

    @property
    def price(self) -> Decimal:
        """US dollars that are asked for all of it, by simulators too."""
        return sum((Decimal(render.price) for render in self.good), Decimal(0))

    @property
    def real_price(self) -> Decimal:
        """US dollars that it would really cost."""
        return sum((Decimal(render.price) for render in self.good if render.real), Decimal(0))

    @property
    def unknown_prices(self) -> int:
        """Of how many purchases nobody knows the price."""
        return sum(render.unknown_prices for render in self.good)

    def render(self, id: str) -> Render:
        """The render of that id."""
        return _by_id(self)[id]

    def recipe_of(self, render: Render, project: Path, place: Callable[[Path], Path] = lambda path: path) -> Recipe:
        """The recipe of one of its rows, in the project where that is now; `place` says where files really lie.
        Raises RecipeError."""
        return recipe_in(self.text, project / self.recipe, render.given, project / self.beside, place)


@lru_cache(maxsize=16)
def _keys(batch: Batch) -> frozenset[str]:
    return frozenset(key for render in batch.renders for key in render.keys)


@lru_cache(maxsize=16)
def _by_id(batch: Batch) -> dict[str, Render]:
    return {render.id: render for render in batch.renders}


# ---------------------------------------------------------------- writing one


def draw_up(
    recipe: Path,
    rows: Rows,
    store: Store,
    *,
    simulate: bool = False,
    id: str = "",
    watch: Callable[[int], None] = lambda _: None,
) -> Batch:
    """The roster of a batch, with every row that cannot run told why; nothing is started.

    What buys is planned, so that the price is known before. `id` is by default
    the recipe's name and the time; `watch` is told how many rows were looked at.

    Raises RecipeError if the recipe itself is wrong, and BudgetExceeded if all
    together cost more than it allows.
    """
    text = recipe_text(recipe)
    if not rows.rows:
        raise InputError("there are no rows")
    project = store.folder.parent
    drawing = _Drawing(recipe, text, rows, store)
    renders: list[Render] = []
    for number, row in enumerate(rows.rows, 1):
        renders.append(replace(drawing.render(row), other=row.other))
        watch(number)
    if all(render.fault for render in renders) and len({render.fault for render in renders}) == 1:
        raise RecipeError(renders[0].fault.splitlines())  # it is the recipe that is wrong
    name = re.sub(r"[^a-z0-9]+", "-", recipe.stem.lower()).strip("-")[:20] or "batch"
    beside = within(rows.beside, project)
    batch = Batch(
        id or f"{name}-{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}", within(recipe.absolute(), project), text,
        rows.source, beside, simulate, time.time(), tuple(renders), drawing.hashes(),
        tuple(f"column {name} is no input of the recipe: `pipeline export` gives it back" for name in rows.unused),
        read_heading(recipe, text).notify,
        drawing.models(),
    )  # fmt: skip
    if drawing.limit is not None and batch.price > drawing.limit:
        raise BudgetExceeded(
            f"all would pay {dollars(batch.price)}, and the recipe's budget is ${drawing.limit}: nothing was bought"
        )
    return batch


@dataclass(slots=True)
class _Drawing:
    """One drawing up: which row delivers what, and the files that were read so far."""

    recipe: Path
    text: str
    rows: Rows
    store: Store
    taken: dict[Path, int] = field(default_factory=dict)
    around: Surroundings | None = None
    limit: Decimal | None = None

    def render(self, row: Row) -> Render:
        if row.fault:
            return Render("", row.line, row.given, row.fault)
        try:
            recipe = recipe_in(self.text, self.recipe, row.given, self.rows.beside)
            check_targets(recipe)
            self.check_alone(recipe, row)
            self.around = self.around or self.store.around(recipe)
            render = Render(self.identity(recipe, row, self.around), row.line, row.given)
            offers = any(step.stage.offer for step in recipe.steps)
            return self.priced(recipe, render, self.around) if offers else render
        except RecipeError as error:
            return Render("", row.line, row.given, "\n".join(error.mistakes))
        except (AfterframeError, OSError) as error:
            return Render("", row.line, row.given, str(error))

    def check_alone(self, recipe: Recipe, row: Row) -> None:
        """No other row delivers to the same place."""
        for delivery in recipe.deliveries:
            other = self.taken.setdefault(delivery.file, row.line)
            if other != row.line:
                raise InputError(
                    f"{delivery.file.name} is delivered by row {other} already:"
                    f" put one of the row's values into {recipe.place(delivery.line)}, as in file: out/$name.mp4"
                )

    def identity(self, recipe: Recipe, row: Row, around: Surroundings) -> str:
        facts = [self.store.facts(file, around) for file in (*recipe.files, *recipe.anchors)]
        files = [text for each in facts for text in (each.sha256, each.beside) if text]
        return digest("render 1", self.text, recipe.known_as, dict(row.given), *files)

    def priced(self, recipe: Recipe, render: Render, around: Surroundings) -> Render:
        planned = plan(recipe, self.store.world(recipe, around))
        self.limit = recipe.purse.total
        if planned.over:
            raise BudgetExceeded(planned.over)
        return replace(
            render, buys=True, price=str(planned.price), unknown_prices=planned.unknown_prices,
            real=bool(planned.real_price), keys=tuple(sorted(planned.keys)),
        )  # fmt: skip

    def hashes(self) -> dict[str, str]:
        project = self.store.folder.parent
        looked = self.around.files if self.around else {}
        hashed = {within(file, project): facts.sha256 for file, facts in looked.items()}
        hashed |= {within(sidecar_of(file), project): each.beside for file, each in looked.items() if each.beside}
        return hashed | ({name: sha256(project / name)} if (name := self.models()) else {})

    def models(self) -> str:
        """The `models.yaml` that the batch buys by."""
        project = self.store.folder.parent
        file = models_file(self.recipe.parent, project)
        return within(file.absolute(), project) if file.is_file() else ""


def within(path: Path, project: Path) -> str:
    """Within the project, so that it may be moved; elsewhere as it is."""
    return path.relative_to(project).as_posix() if path.is_relative_to(project) else str(path)


# ---------------------------------------------------------------- keeping them


def to_json(batch: Batch) -> str:
    """As it is kept."""
    return json.dumps({**asdict(batch), "version": 1})


def submitted(drawn: Batch, busy: Mapping[str, str]) -> tuple[Batch, tuple[Render, ...]]:
    """The batch with names for its runs, and those to begin: of what is `busy` already, the run that it is in."""
    renders = tuple(
        each if each.fault else replace(each, run=busy.get(each.id, f"{each.id}/{drawn.id}")) for each in drawn.renders
    )
    return replace(drawn, renders=renders), tuple(r for r in renders if r.run and r.id not in busy)


def from_json(text: str) -> Batch:
    """As it was kept."""
    said: dict[str, Any] = json.loads(text)
    renders = tuple(Render(**{**each, "keys": tuple(each["keys"])}) for each in said.pop("renders"))
    said.pop("version")
    notify = Notify(**said["notify"]) if said.get("notify") else None
    return Batch(**{**said, "renders": renders, "remarks": tuple(said["remarks"]), "notify": notify})


@dataclass(frozen=True, slots=True)
class Shelf:
    """The batches of a project, each in a file; what they were told lies beside. Where a store is `shared`, there."""

    folder: Path
    shared: Sharing | None = None

    def keep(self, batch: Batch) -> None:
        """Write it down."""
        if self.shared:
            self.shared.tell(f"batches/{batch.id}", to_json(batch))
            return
        with attempt(self.folder / f"{batch.id}.json") as part:
            part.write_text(to_json(batch), encoding="utf-8")
        _read.cache_clear()

    def names(self) -> list[str]:
        """The ids, the latest first."""
        if self.shared:
            kept = sorted(self.shared.depot.list("batches"), key=lambda entry: entry.when, reverse=True)
            return [name for entry in kept if not (name := entry.name.rpartition("/")[2]).endswith(".orders")]
        found = sorted(self.folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        return [file.stem for file in found if not file.name.startswith(".")]

    def read(self, id: str) -> Batch:
        """One of them. Raises InputError if there is none."""
        if not self.shared:
            return _read(self.folder / f"{id}.json")
        text = self.shared.text(f"batches/{id}", NEWS)
        if text is None:
            raise InputError(f"there is no batch {id}")
        return _parsed(text)

    def find(self, start: str) -> Batch:
        """The latest batch whose id starts so; the latest of all if `start` is empty. Raises InputError."""
        fitting = [name for name in self.names() if name.startswith(start)]
        if not fitting:
            raise InputError(f"there is no batch {start}" if start else "there is no batch yet: pipeline batch RECIPE")
        return self.read(fitting[0])

    def tell(self, id: str, orders: Orders, why: str = "") -> None:
        """Say what is to become of a batch from now on."""
        text = json.dumps({"orders": orders, "why": why})
        if self.shared:
            self.shared.tell(f"batches/{id}.orders", text)
            return
        with attempt(self.folder / f"{id}.orders") as part:
            part.write_text(text, encoding="utf-8")

    def told(self, id: str) -> tuple[Orders, str]:
        """What was said last, and why."""
        text = self.shared.text(f"batches/{id}.orders", NEWS) if self.shared else _orders(self.folder / f"{id}.orders")
        said = json.loads(text or '{"orders": "go", "why": ""}')
        return said["orders"], said["why"]


NEWS = 1.0
"""Seconds for which a machine may not know yet what a batch was told on another."""


def _orders(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


@lru_cache(maxsize=16)
def _parsed(text: str) -> Batch:
    return from_json(text)


@lru_cache(maxsize=16)
def _read(file: Path) -> Batch:
    try:
        return from_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no batch {file.stem}") from None
