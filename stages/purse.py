"""What a recipe lets be spent: for a purchase, a run, a day, at an account, under a label."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from stages.errors import InputError
from stages.rows import Budget

DAY, MONTH = 86_400.0, 30 * 86_400.0
"""Seconds: the last 24 hours and the last 30 days, whatever the calendar says."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """At most `limit` US dollars in the last `within` seconds; ever, where that is None."""

    limit: Decimal
    within: float | None = None

    @classmethod
    def parse(cls, text: str) -> Allowance:
        """`$6`, `6.50 USD`, `$50/day` or `$500/month`. Raises InputError."""
        match = re.fullmatch(r"\$?(\d+(?:\.\d{1,2})?)(?:\s*USD)?(?:\s*/\s*(day|month))?", text.strip())
        if not match:
            raise InputError(f"should be an amount of US dollars such as $6 or $500/month, not '{text}'")
        return cls(Decimal(match[1]), {"day": DAY, "month": MONTH}.get(match[2]))

    def __str__(self) -> str:
        every = {DAY: " in 24 hours", MONTH: " in 30 days"}.get(self.within or 0.0, "")
        return f"${self.limit}{every}"


@dataclass(frozen=True, slots=True)
class Purse:
    """What may be spent, in US dollars; None is no limit.

    `each` is for one purchase, `total` for all that a recipe buys, what its
    failures cost included; `day` for everything in any 24 hours, `account`
    for everything at the account that is bought from, `label` for everything
    billed to `bill_to`. `unknown_price` says whether what has no known price
    may be bought, `approve` that somebody must agree first (`pipeline approve`).
    """

    each: Decimal | None = None
    total: Decimal | None = None
    day: Decimal | None = None
    account: Allowance | None = None
    label: Allowance | None = None
    bill_to: str = ""
    unknown_price: bool = False
    approve: bool = False

    @property
    def limited(self) -> bool:
        """Whether it says how much may be spent, so that nobody need be asked."""
        return any(limit is not None for limit in (self.each, self.total, self.day, self.account, self.label))

    def budgets(self, account: str, keys: frozenset[str]) -> tuple[Budget, ...]:
        """What the ledger is to hold for a purchase at `account`, in a run that buys `keys`."""
        found: list[Budget] = []
        if self.total is not None:
            found.append(Budget("this recipe", self.total, keys=keys))
        if self.day is not None:
            found.append(Budget("the last 24 hours", self.day, within=DAY))
        if self.account:
            found.append(Budget(account, self.account.limit, within=self.account.within, account=account))
        if self.label:
            found.append(Budget(self.bill_to, self.label.limit, within=self.label.within, bill_to=self.bill_to))
        return tuple(found)
