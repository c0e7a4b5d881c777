"""From orders to paid films: each is sent once, watched, and fetched; the ledger remembers all of it.

What is decided here is only what a single row cannot know: that one list tells
of many jobs, that of several films the rest is still awaited when one fails,
and when a failure is another model's chance.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import presets
from stages import plugins
from stages.attesting import keep_root, kept, root_of
from stages.errors import (
    AfterframeError,
    BudgetExceeded,
    InputError,
    Later,
    ProviderError,
    ProviderRefused,
    Struck,
    SubmissionUnknown,
    line_of,
)
from stages.ledger import Ledger, Limits, Purchase, collect, purchases, standing, submit_once
from stages.market import Market
from stages.providers import HandsOver, Provider, VideoRequest
from stages.routing import OnRefusal, Route
from stages.rows import SIMULATED
from stages.watching import SETTLED, refresh

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Order:
    """One film to buy: by whom, what is sent, under which of the ledger's keys, and which purchases of that will do."""

    route: Route
    request: VideoRequest
    key: str
    accepts: Callable[[Purchase], bool]

    @property
    def name(self) -> str:
        """Who makes it."""
        return self.route.sheet.name


@dataclass(frozen=True, slots=True)
class Got:
    """What became of an order: the paid original, or why there is none."""

    order: Order
    original: Path | None = None
    error: AfterframeError | None = None


def buy(
    ledger: Ledger,
    orders: Sequence[Order],
    shop: Market,
    state: Path,
    keys: frozenset[str] = frozenset(),
    on_progress: Progress = lambda _: None,
) -> tuple[Got, ...]:
    """The paid originals of `orders`, of at least one; `keys` are those of all that the run buys.

    All are sent before one is awaited. What failed is not sent again while
    another is on its way or here. Raises Later, the only order's error, or
    the first of several if none came; SubmissionUnknown if a human must look.
    """
    rows = [purchases(ledger, order.key) for order in orders]
    live = [standing(each, order.accepts) for each, order in zip(rows, orders, strict=True)]
    got: list[Got] = []
    waiting: list[Later] = []
    for order, row, earlier in zip(orders, live, rows, strict=True):
        failed = _failed(earlier, order) if any(live) and not row else None
        try:
            if failed:
                raise failed
            every = keys if order.key in keys else keys | {order.key}  # of a batch it is one set, and large
            got.append(Got(order, _original(ledger, order, shop, state, every)))
        except Later as later:
            waiting.append(later)
        except (ProviderError, BudgetExceeded, SubmissionUnknown) as error:
            got.append(Got(order, error=error))
    if waiting:
        here = sum(1.0 for each in got if each.original) + sum(later.progress or 0.0 for later in waiting)
        if here:
            on_progress(here / len(orders))
        why = next((later.why for later in waiting if later.why), "")
        line = line_of(later.line for later in waiting)
        raise Later(min(later.seconds for later in waiting), here / len(orders) or None, why, line)
    errors = [each.error for each in got if each.error]
    unclear = next((error for error in errors if isinstance(error, SubmissionUnknown)), None)
    if unclear or len(errors) == len(orders):
        raise unclear or errors[0]
    return tuple(got)


def seller(row: Purchase, shop: Market, state: Path) -> Provider | None:
    """The account that a purchase was made from; None if neither the environment nor `models.yaml` names it now."""
    makers: list[Callable[[], Provider]] = [
        lambda sheet=sheet: provider_of(sheet, state)  # type: ignore[misc]  # mypy knows no lambda's default
        for sheet in shop.sheets()
        if sheet.facts["provider"] == row.provider
    ]
    if row.account != SIMULATED:
        makers.append(plugins.find("pipeline.providers", row.provider))
    for make in makers:
        with contextlib.suppress(InputError):  # one that has no address
            if (provider := make()).account == row.account:
                return provider
    return None


def strike(ledger: Ledger, order: Order, error: ProviderError, shop: Market, on_refusal: OnRefusal) -> Exception:
    """What to raise when the only order failed: Struck if that is another model's chance, else `error`.

    It is none while the request may still be, or become, a purchase.
    """
    if error.failure.startswith("moderation"):
        another = on_refusal == "next"
    else:
        another = not (isinstance(error, ProviderRefused) and error.failure in ("lost", "expired"))
    rows = purchases(ledger, order.key)
    open_still = any(row.state in ("SENDING", "ACCEPTED") for row in rows)
    return Struck(shop.without(order.name, error), error) if another and not open_still else error


def _failed(rows: Sequence[Purchase], order: Order) -> ProviderError | None:
    """With what this order failed, if it did."""
    model = order.route.sheet.facts["provider"], order.request.model
    for row in reversed(rows):
        if (row.provider, row.model) == model and row.state in ("REJECTED", "FAILED"):
            return ProviderError(f"{order.name}: {row.text or row.code}", row.failure, row.code, row.text)
    return None


def _original(ledger: Ledger, order: Order, shop: Market, state: Path, keys: frozenset[str]) -> Path:
    """Send it if that was not done, and fetch it if it is done. Raises Later while it is made."""
    original = kept(ledger, order.route.bought)
    if original and not (order.route.sheet.facts.get("simulated") and not root_of(original).exists()):
        return original
    sheet = order.route.sheet
    provider = provider_of(sheet, state)
    tier = int(sheet.facts.get("tier", 0))
    limits = Limits(
        by_tier(sheet.get("rpm"), tier),
        by_tier(sheet.get("in_flight"), tier),
        shop.purse.budgets(provider.account, keys),
        by_tier(sheet.get("daily"), tier),
    )
    price, bill_to = order.route.price or Decimal(0), shop.purse.bill_to
    row = submit_once(
        ledger, provider, order.request, order.key,
        price=price, limits=limits, accepts=order.accepts, bill_to=bill_to,
    )  # fmt: skip
    if row.state == "ACCEPTED" and row.seen not in SETTLED and row.next_look <= ledger.clock():
        refresh(ledger, provider)  # where there is a list, one look is for all that are due
    original = collect(ledger, provider, order.key, accepts=order.accepts)
    keep_root(provider, original)
    return original


def by_tier(limit: Mapping[int, int] | int | None, tier: int = 0) -> int | None:
    """What an account of that tier may do; where nobody says which it is, what the lowest may."""
    if not isinstance(limit, Mapping):
        return limit
    return int(limit.get(tier) or min(limit.values()))


FIRST_LOOK = 5.0
"""Seconds after which a model's film is first asked for, where nobody knows how long it takes."""


def provider_of(sheet: presets.Sheet, state: Path) -> Provider:
    """The provider that a model's preset names; the simulator is started if it does not run."""
    make = plugins.find("pipeline.providers", sheet.facts["provider"])
    if sheet.facts.get("simulated"):
        simulator: Provider = make(state)
        return simulator
    said = {"base_url", "key_variable", "idempotent"} & set(sheet.facts) if "base_url" in sheet.facts else set()
    provider: Provider = make(typical=sheet.get("typical") or FIRST_LOOK, **{key: sheet.facts[key] for key in said})
    if isinstance(provider, HandsOver):  # what was handed over is here: there is nothing to wait for
        provider = replace(provider, typical=0.0)  # type: ignore[type-var]  # all that hand over are Accounts
    if hosts := sheet.facts.get("allow_hosts"):
        provider = replace(provider, file_hosts=tuple(hosts))  # type: ignore[type-var]  # all that have own servers are Accounts
    return provider
