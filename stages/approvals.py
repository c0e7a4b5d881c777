"""Whether somebody with the purse has agreed to a price: asked in the ledger, so that it can be answered elsewhere."""

from __future__ import annotations

import getpass
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from stages.errors import InputError
from stages.rows import Ledger


@dataclass(frozen=True, slots=True)
class Approval:
    """A question: may so many US dollars be paid for `what`? `at` is when it was asked, in seconds since 1970;
    `by` who answered."""

    id: str
    what: str
    price: Decimal
    at: float
    state: Literal["asked", "approved", "declined"]
    by: str = ""


def ask(ledger: Ledger, keys: Iterable[str], price: Decimal, what: str) -> Approval:
    """Ask whether the purchases of `keys` may cost `price`, unless that was asked before: the answer so far.

    Another price or another purchase is another question.
    """
    number = hashlib.sha256("\n".join([str(price), *sorted(keys)]).encode()).hexdigest()[:8]
    row = {"id": number, "what": what, "price": str(price), "at": ledger.clock(), "state": "asked", "by": ""}
    with ledger.store.transaction() as database:
        database.change(
            "INSERT INTO approval (id, what, price, at, state, answered_by)"
            " VALUES (:id, :what, :price, :at, :state, :by) ON CONFLICT DO NOTHING",
            row,
        )
        (found,) = database.rows("SELECT * FROM approval WHERE id = :id", row)
    return _approval(found)


def asked(ledger: Ledger) -> tuple[Approval, ...]:
    """What waits for an answer, oldest first."""
    with ledger.store.transaction(alone=False) as database:
        rows = database.rows("SELECT * FROM approval WHERE state = 'asked' ORDER BY at, id")
    return tuple(_approval(row) for row in rows)


def answer(ledger: Ledger, number: str, *, yes: bool) -> Approval:
    """Approve or decline what was asked under `number`. Raises InputError if nothing of that number waits."""
    state, by = "approved" if yes else "declined", getpass.getuser()
    news = {"id": number, "state": state, "by": by}
    with ledger.store.transaction() as database:
        changed = database.change(
            "UPDATE approval SET state = :state, answered_by = :by WHERE id = :id AND state = 'asked'", news
        )
        found = database.rows("SELECT * FROM approval WHERE id = :id", news)
    if not found:
        raise InputError(f"nothing was asked as {number}; `pipeline approve` lists what waits")
    if not changed:
        raise InputError(f"{number} was {found[0]['state']} already, by {found[0]['answered_by']}")
    return _approval(found[0])


def _approval(row: dict[str, Any]) -> Approval:
    return Approval(row["id"], row["what"], Decimal(row["price"]), row["at"], row["state"], row["answered_by"])
