"""How long models take, as the ledger has seen it: the ground for deadlines and for «time left»."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stages.rows import Ledger

LATEST = 1000
"""How many of a model's latest films count: it may be faster or slower than it was."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Half of `count` waits were at most `p50` seconds, 99 of 100 at most `p99`. Without any both are 0."""

    count: int = 0
    p50: float = 0.0
    p99: float = 0.0


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds that a model's jobs stood in its queue, were filmed, and both, from the sale to the film.

    Not every server says when it begins to film: then only `total` is known.
    """

    queue: Spread
    filming: Spread
    total: Spread


def waits(ledger: Ledger, model: str, *, provider: str = "") -> Waits:
    """What the model's latest films took, at `provider` alone if that is given.

    A wait counts only where somebody looked at the time; it is as coarse as
    the looks were.
    """
    sql = "SELECT created_at, running_at, done_at FROM purchase WHERE model = :model AND done_at > 0"
    sql += " AND provider = :provider" if provider else ""
    with ledger.store.transaction(alone=False) as database:
        rows = database.rows(f"{sql} ORDER BY done_at DESC LIMIT {LATEST}", {"model": model, "provider": provider})
    return Waits(
        queue=_spread([row["running_at"] - row["created_at"] for row in rows if row["running_at"]]),
        filming=_spread([row["done_at"] - row["running_at"] for row in rows if row["running_at"]]),
        total=_spread([row["done_at"] - row["created_at"] for row in rows]),
    )


def timed(ledger: Ledger) -> frozenset[tuple[str, str]]:
    """The providers and models that some wait is known of."""
    sql = "SELECT DISTINCT provider, model FROM purchase WHERE done_at > 0"
    with ledger.store.transaction(alone=False) as database:
        return frozenset((row["provider"], row["model"]) for row in database.rows(sql))


def _spread(seconds: Sequence[float]) -> Spread:
    """By nearest rank."""
    ranked = sorted(max(each, 0.0) for each in seconds)
    if not ranked:
        return Spread()
    p50, p99 = (ranked[math.ceil(len(ranked) * share) - 1] for share in (0.5, 0.99))
    return Spread(len(ranked), p50, p99)
