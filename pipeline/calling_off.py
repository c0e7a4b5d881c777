"""What a batch that is cancelled has bought and what nobody has begun to make is taken back from its providers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal

from pipeline.roster import Batch
from pipeline.yard import Yard
from stages.bookkeeping import call_off
from stages.buying import seller
from stages.errors import AfterframeError, Later
from stages.ledger import open_ledger
from stages.money import dollars
from stages.providers import Provider
from stages.rows import SIMULATED, Ledger, Purchase, select

ARRIVES = 10.0
"""Seconds for which a request that is on its way is waited for: until it is answered there is no job to cancel."""

AGAIN = 2.0
"""Seconds after which is looked again for what was sold: a worker that was in the middle of a step when the batch was
cancelled buys anew what it finds called off."""

AT_ONCE = 8
"""Jobs that are cancelled at the same time."""


@dataclass(frozen=True, slots=True)
class CalledOff:
    """What became of purchases that had not been fetched: `back` are those that were taken back, `kept` go on being
    made and are paid, `open` were sent and not answered yet. `faults` say why some could not be asked for."""

    back: tuple[Purchase, ...]
    kept: tuple[Purchase, ...]
    open: tuple[Purchase, ...]
    faults: tuple[str, ...]

    def __str__(self) -> str:
        """A line for each kind that there is."""
        says = (
            (self.back, "called off before they were begun: {} not paid"),
            (self.kept, "paid, and made to the end: {}; `pipeline resume` fetches them"),
            (self.open, "on their way to who films them: whether their {} are paid is not known yet"),
        )
        lines = [f"{len(rows)} {told.format(_worth(rows))}" for rows, told in says if rows]
        return "\n".join([*lines, *(f"{many} not asked back: {why}" for why, many in Counter(self.faults).items())])


def _worth(rows: Sequence[Purchase]) -> str:
    simulated = all(row.account == SIMULATED for row in rows)
    return f"{dollars(sum((row.price for row in rows), Decimal(0)))}{' (SIMULATED)' if simulated else ''}"


def take_back(
    yard: Yard, batch: Batch, wanted: Collection[str] = (), watch: Callable[[int, int], None] = lambda *_: None
) -> CalledOff:
    """Have all jobs of a batch cancelled that have not begun, but for those of the keys that others have `wanted`.
    `watch` is told how many of how many were asked for."""
    keys = batch.keys - frozenset(wanted)
    if not keys:
        return CalledOff((), (), (), ())
    ledger, (_, recipe, store) = open_ledger(), yard.open(batch.id, next(each.id for each in batch.good if each.keys))
    shop, why = store.shop(recipe), f"{batch.id} was cancelled"
    sellers: dict[tuple[str, str], Provider | None] = {}
    found: dict[tuple[str, int], tuple[Purchase, _Answer]] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while True:
            rows = _under_way(ledger, keys)
            fresh = [row for row in rows if row.state == "ACCEPTED" and (row.key, row.attempt) not in found]
            for row in fresh:
                if _account(row) not in sellers:
                    sellers[_account(row)] = seller(row, shop, yard.folder)
            answers = pool.map(lambda row: _asked(ledger, sellers[_account(row)], row, why), fresh)
            for number, (row, answer) in enumerate(zip(fresh, answers, strict=True), 1):
                found[row.key, row.attempt] = row, answer
                watch(number, len(fresh))
            if not any(isinstance(found[row.key, row.attempt][1], Purchase) for row in fresh):
                break
            time.sleep(AGAIN)
    back = tuple(answer for _, answer in found.values() if isinstance(answer, Purchase))
    kept = tuple(row for row, answer in found.values() if not isinstance(answer, Purchase))
    faults = tuple(answer for _, answer in found.values() if isinstance(answer, str))
    return CalledOff(back, kept, tuple(row for row in rows if row.state == "SENDING"), faults)


def _under_way(ledger: Ledger, keys: Collection[str]) -> list[Purchase]:
    """What was sent and is not here, once all that is on its way has arrived, or does not arrive in time."""
    end = time.monotonic() + ARRIVES
    while True:
        rows = [row for row in select(ledger, "WHERE state IN ('SENDING', 'ACCEPTED')") if row.key in keys]
        if all(row.state == "ACCEPTED" for row in rows) or time.monotonic() > end:
            return rows
        time.sleep(0.2)


def _account(row: Purchase) -> tuple[str, str]:
    return row.provider, row.account


_Answer = Purchase | str | None
"""The row of a job that was called off; None if it goes on, or why that could not be asked."""


def _asked(ledger: Ledger, provider: Provider | None, row: Purchase, why: str) -> _Answer:
    if provider is None:
        return f"nothing here names {row.provider} at {row.account} any more"
    try:
        return call_off(ledger, provider, row, why)
    except AfterframeError as error:
        return str(error)
    except Later as later:
        return f"{row.provider} asks to be left alone for {later.seconds:.0f} s: cancel again"
