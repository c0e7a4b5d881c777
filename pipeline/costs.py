"""What each delivered file costs: all that was bought for it, what was thrown away and what failed included. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from pipeline.tasks import Cost, Placement, Task, World
from stages.rows import SIMULATED, Purchase, counts


def costs(deliveries: Sequence[Placement], made_by: Mapping[str, Task], world: World) -> dict[Path, Cost]:
    """What each file costs that anything is bought for; `made_by` are the tasks by name."""
    found = {each.file: cost_of(each, made_by, world) for each in deliveries}
    return {file: cost for file, cost in found.items() if cost}


def cost_of(placement: Placement, made_by: Mapping[str, Task], world: World) -> Cost | None:
    """What the file of `placement` costs, as far as is known now; None where nothing is bought for it."""
    tasks = [task for task in _behind(made_by, placement.task) if task.keys]
    if not tasks:
        return None
    keys = dict.fromkeys(key for task in tasks for key in task.keys)
    rows = [row for key in keys for row in world.shop.bought.get(key, ())]
    came = [row for row in rows if row.state in ("DONE", "ACCEPTED", "SENDING")]
    planned = [task for task in tasks if task.action == "pay" and task.name not in world.notes]
    return Cost(
        paid=sum((row.price for row in rows if counts(row)), Decimal(0)),
        to_pay=sum((task.price for task in planned), Decimal(0)),
        unknown=sum(task.unknown_prices for task in planned),
        bought=Fraction(sum(row.seconds for row in came) + sum(task.seconds for task in planned)),
        kept=placement.cut.picture.frames / placement.cut.picture.rate,
        films=len(came) + sum(len(task.prices) for task in planned),
        failures=sum(row.state in ("FAILED", "REJECTED") for row in rows),
        simulated=all(_simulated(row) for row in rows) and all(task.simulated for task in planned),
    )


def _simulated(row: Purchase) -> bool:
    return row.account == SIMULATED


def _behind(made_by: Mapping[str, Task], name: str) -> list[Task]:
    """The tasks that one needs, itself included."""
    found: dict[str, Task] = {}
    waiting = [name]
    while waiting:
        task = made_by.get(waiting.pop())
        if task and task.name not in found:
            found[task.name] = task
            waiting += task.needs
    return list(found.values())
