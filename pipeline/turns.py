"""The steps of a render: the same loop over the same tasks as `pipeline run`, one task at a time.

A step looks at what exists, plans, and makes the next thing that is missing;
so one that is done twice, or by two machines at once, changes nothing. What
folders and the ledger do not tell (what failed, whom not to ask again) goes
from step to step as a small JSON object, `Sofar`. All else that one step leaves
to the next in the same process only saves it looking and planning again.

    buy     makes what a purchase rests on, and buys; waits, holding nothing
    make    makes the rest, on a slot of a processor
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal

from pipeline.recipe import Recipe
from pipeline.run import Event, Watch, Work, make
from pipeline.show import cost_json, measured_json
from pipeline.store import Store
from pipeline.tasks import Placement, Task
from stages.destinations import told
from stages.errors import AfterframeError, BudgetExceeded, ProviderError, ProviderUnavailable, WriteError, line_of
from stages.ledger import open_ledger, purchases

Role = Literal["buy", "make"]

RETRIES = (5.0, 20.0, 60.0, 300.0, 900.0)
"""Seconds until what an outage or a full disk spoilt is tried again; after the last it has failed."""


@dataclass(slots=True)
class Sofar:
    """What the steps of a render came to that no folder tells: errors as `{error, says, transient}`, the models
    that cannot film as errors are written, and what was made, by kind of action."""

    failed: list[str] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    struck: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    made: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    tries: int = 0
    began: float = 0.0  # seconds since 1970


@dataclass(frozen=True, slots=True)
class Step:
    """What a step came to, and what comes next.

    `again`: there is more to make. `wait`: for `seconds`, or until there is
    news of one of `keys`, or its turn in `line`. `hand over`: the rest is for the other role. `end`:
    `result` says how; `stop`, that the money for the whole batch is spent.
    """

    next: Literal["again", "wait", "hand over", "end"]
    sofar: Sofar
    made: tuple[dict[str, Any], ...] = ()
    seconds: float = 0.0
    keys: tuple[str, ...] = ()
    line: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    stop: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the engine."""
        return asdict(self)


def sofar_from(said: Mapping[str, Any]) -> Sofar:
    """As an earlier step left it."""
    return Sofar(**said)


@dataclass(slots=True)
class Turn:
    """A render in this process, whose `role` it is to make a part of it; `keys` are those of all that its batch buys,
    `slot` is held while anything is made, for one that has made so many tasks.

    What one step looked at and planned is there for the next. Only what passes from step to step as `Sofar` counts:
    whoever goes on after a crash begins a turn with that, and plans anew.
    """

    recipe: Recipe
    store: Store
    role: Role
    keys: frozenset[str] = frozenset()
    watch: Watch = lambda _: None
    slot: Callable[[int], AbstractContextManager[object]] = nullcontext
    work: Work | None = None
    came_to: Sofar | None = None

    def step(self, sofar: Sofar) -> Step:
        """Make the next task. Raises nothing of ours: what went wrong is in the step."""
        try:
            step = self._step(sofar)
        except AfterframeError as error:
            step = broken(sofar, error)
        except OSError as error:  # of this machine, not of the render: another may do better
            step = broken(sofar, WriteError(str(error)))
        if step.next != "again" or step.sofar.errors:  # much may happen until it goes on
            self.work = None
        self.came_to = step.sofar
        return step

    def _step(self, sofar: Sofar) -> Step:
        work = self.work = self._work(sofar)
        if not sofar.began:
            sofar = replace(sofar, began=time.time())
            self.watch(Event("planned", work.result.first.tasks))
        changed = False
        for _ in range(1000):  # each round makes something, or finds out that one more has to wait
            groups = [group for group in work.ready() if _suits(self.role, group, work.missing())]
            if changed and (groups or work.errors):
                return _again(work, sofar)
            if changed or not groups:
                break
            before = len(work.failed), len(work.alone), len(work.result.world.shop.struck)
            group = groups[0]
            with self.slot(sum(sofar.made.values())):
                self.watch(Event("started", group))
                work.end(lambda tasks=group: self._made(work, tasks), group)  # type: ignore[misc]
            after = len(work.failed), len(work.alone), len(work.result.world.shop.struck)
            changed = bool(work.result.made) or before != after
        missing, noted, made = work.missing(), _noted(work, sofar), _papers(work)
        if work.later:
            keys = tuple(sorted(work.bought_and_waiting()))
            line = line_of(work.lines.get(name, "") for name in work.later)
            return Step("wait", noted, made, seconds=_soonest(work), keys=keys, line=line)
        if missing and not work.errors and not sofar.errors and _other(self.role, missing):
            return Step("hand over", noted, made)
        return _end(work, sofar)

    def _work(self, sofar: Sofar) -> Work:
        """As the last step left it, or planned anew."""
        if self.work and self.came_to == sofar:
            self.work.result.made, self.work.result.warnings = [], []  # they are in `sofar`
            return self.work
        work = Work.begin(
            self.recipe, self.store, self.watch, {name: _error(said) for name, said in sofar.struck.items()}
        )
        work.local = self.store.shared is None  # else whoever watches the batch fetches what was delivered
        work.failed |= set(sofar.failed)
        work.alone |= set(sofar.alone)
        return work

    def _made(self, work: Work, tasks: tuple[Task, ...]) -> Any:
        every = self.keys if work.result.final.keys <= self.keys else self.keys | work.result.final.keys
        return make(tasks, work.store, work.result.world, work.watch, every)


def _suits(role: Role, group: Sequence[Task], missing: Sequence[Task]) -> bool:
    """Whoever buys also makes what a purchase rests on: the picture that it begins with, the end of another film."""
    wanted: set[str] = set()
    for task in reversed(missing):
        if task.action == "pay" or task.keys or task.name in wanted:
            wanted |= {task.name, *task.needs}
    bought = any(task.name in wanted for task in group)
    return bought if role == "buy" else not bought


def _other(role: Role, missing: Sequence[Task]) -> bool:
    """Whether the other role has something to do."""
    other: Role = "make" if role == "buy" else "buy"
    return any(_suits(other, (task,), missing) for task in missing)


def _soonest(work: Work) -> float:
    return max(0.05, min(work.later.values()) - time.monotonic())


# ---------------------------------------------------------------- what goes from step to step


def _noted(work: Work, sofar: Sofar) -> Sofar:
    made = dict(sofar.made)
    for task in work.result.made:
        made[task.action] = made.get(task.action, 0) + 1
    seconds = sum(work.result.world.notes[task.name].seconds for task in work.result.made)
    return replace(
        sofar,
        failed=sorted(work.failed),
        alone=sorted(work.alone),
        errors=_once([*sofar.errors, *(_said(error) for error in work.errors)]),
        struck={name: _words(error) for name, error in work.result.world.shop.struck.items()},
        warnings=list(dict.fromkeys([*sofar.warnings, *work.result.warnings])),
        made=made,
        seconds=round(sofar.seconds + seconds, 3),
        tries=0 if work.result.made else sofar.tries,
    )


def _once(errors: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({str(error["says"]): error for error in errors}.values())


def _later(work: Work, sofar: Sofar) -> Step | None:
    """Try again what failed, if that may help."""
    passes = work.errors and all(_passes(work, error) for error in work.errors)
    if not passes or sofar.tries >= len(RETRIES):
        return None
    again = replace(_noted(work, sofar), failed=sofar.failed, errors=sofar.errors, tries=sofar.tries + 1)
    return Step("wait", again, _papers(work), seconds=RETRIES[sofar.tries])


def _again(work: Work, sofar: Sofar) -> Step:
    if later := _later(work, sofar):
        return later
    noted = _noted(work, sofar)
    stop = next((str(error) for error in work.errors if isinstance(error, BudgetExceeded)), "")
    return Step("again", noted, _papers(work), stop=stop)


def _passes(work: Work, error: Exception) -> bool:
    """Whether it may go well later, without being paid again: an outage, a full disk; not a film that failed."""
    if isinstance(error, WriteError | OSError):
        return True
    if not isinstance(error, ProviderUnavailable):
        return False
    ledger = open_ledger()
    rows = [row for key in work.result.final.keys for row in purchases(ledger, key)]
    return not any(row.state == "FAILED" for row in rows)


def broken(sofar: Sofar, error: AfterframeError) -> Step:
    """It cannot even be planned."""
    if isinstance(error, WriteError) and sofar.tries < len(RETRIES):
        return Step("wait", replace(sofar, tries=sofar.tries + 1), seconds=RETRIES[sofar.tries])
    errors = [*sofar.errors, _said(error)]
    stop = str(error) if isinstance(error, BudgetExceeded) else ""
    told = {"state": "failed", "errors": errors, "files": [], "warnings": sofar.warnings, "seconds": sofar.seconds}
    return Step("end", replace(sofar, errors=errors), result={**told, "made": sofar.made, "paid": "0"}, stop=stop)


def _said(error: Exception) -> dict[str, Any]:
    failure = error.failure if isinstance(error, ProviderError) else ""
    return {"error": type(error).__name__, "says": str(error), "failure": failure}


def _words(error: ProviderError) -> list[str]:
    return [error.message, error.failure, error.code, error.text]


def _error(said: Sequence[str]) -> ProviderError:
    return ProviderError(*said)


def _papers(work: Work) -> tuple[dict[str, Any], ...]:
    """What the engine is told of the tasks that a step finished."""
    return tuple(_paper(work, task) for task in work.result.made)


def _paper(work: Work, task: Task) -> dict[str, Any]:
    """Where one is, and what it is."""
    note = work.result.world.notes[task.name]
    return {
        "task": task.name,
        "action": task.action,
        **({"uri": shared.depot.uri(note.sha256)} if (shared := work.store.shared) and note.files else {}),
        "sha256": note.sha256 if note.files else "",
        "size": note.size,
        "seconds": note.seconds,
    }


def _end(work: Work, sofar: Sofar) -> Step:
    if later := _later(work, sofar):
        return later
    noted, placed = _noted(work, sofar), work.placed
    files = [_file(work, each) for each in work.result.final.deliveries if each.file in placed and work.done(each.task)]
    shop = work.store.shop(work.recipe) if work.result.final.keys else work.result.world.shop
    work.result.count_costs(shop)
    paid = sum((cost.paid for cost in work.result.final.costs.values()), Decimal(0))
    costs = {told(file, work.recipe.project): cost_json(cost) for file, cost in work.result.final.costs.items()}
    result = {
        "state": "failed" if noted.errors else "done",
        "files": files,
        "errors": noted.errors,
        "warnings": [*noted.warnings, *work.result.final.remarks],
        "made": noted.made,
        "seconds": noted.seconds,
        "paid": f"{paid:.2f}",
        "simulated": bool(work.result.final.costs) and all(c.simulated for c in work.result.final.costs.values()),
        "costs": costs,
    }
    stop = next((str(error) for error in work.errors if isinstance(error, BudgetExceeded)), "")
    return Step("end", noted, _papers(work), result=result, stop=stop)


def _file(work: Work, placement: Placement) -> dict[str, Any]:
    """A delivered file: where, what, how far it is proved, and the task that has its contact sheet."""
    made, note = work.result.delivered(placement), work.result.world.notes[placement.task]
    film = next((need for need in work.result.final[placement.task].needs if need.startswith("film-")), "")
    return {
        "path": told(placement.file, work.recipe.project),
        "sha256": note.sha256,
        "beside": {
            told(placement.beside(extra), work.recipe.project): note.files[extra.name] for extra in made.sidecars
        },
        "bytes": note.size,
        **measured_json(made),
        "film": film,
    }
