"""Who makes a picture or a sound: things of one price, known before they are made. Films have `stages/routing.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import presets
from stages.buying import Order, buy, strike
from stages.clip import Size
from stages.errors import InputError, ProviderError
from stages.ledger import Purchase, open_ledger
from stages.market import Market
from stages.money import dollars
from stages.providers import VideoRequest
from stages.routing import Route, closed

NO_SIZE = Size(0, 0)
"""What a sound measures in pixels."""

Named = Sequence[tuple[str, presets.Sheet]]
"""Models' presets by the names that were asked for."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Who makes it, of what size, and for how many US dollars; `bought` is what answers for it already."""

    model: presets.Sheet
    price: Decimal
    size: Size = NO_SIZE
    bought: Purchase | None = None
    passed_over: tuple[str, ...] = field(default=(), compare=False)

    @property
    def simulated(self) -> bool:
        """Whether nobody is paid."""
        return bool(self.model.facts.get("simulated"))

    @property
    def agent(self) -> str:
        """As credentials name who made it."""
        return f"SIMULATED {self.model.name}" if self.simulated else self.model.name

    def said(self, what: str, work: str) -> str:
        """What a person wants to know of it before paying: `a sound`, and `makes 2 s` or `draws 1024x1024, high`."""
        over = "".join(f"; not {reason}" for reason in self.passed_over)
        if self.bought:
            return f"{what} by {self.model.name} is bought already{over}"
        return f"{self.model.name} {work}, {dollars(self.price)}{over}"


def check_wish(prompt: str, take: int) -> None:
    """Raise InputError for an empty prompt, and for a take below 1."""
    if not prompt.strip():
        raise InputError("is empty", "prompt")
    if take < 1:
        raise InputError(f"should be 1 or more, not {take}", "take")


def choose(
    candidates: Named, key: str, offer: Callable[[str, presets.Sheet], Choice], shop: Market, *, by_name: bool
) -> Choice:
    """The candidate that already made what has this key; else, if they were asked for `by_name`, the first that can,
    and otherwise the cheapest.

    `offer` raises InputError for one that cannot. Raises InputError with what is wrong with each of them, or the
    error of one that was tried and failed.
    """
    for purchase in shop.bought.get(key, ()):
        for _, model in candidates:
            if purchase.state in ("SENDING", "ACCEPTED", "DONE") and made_by(purchase, [model]):
                width, height = map(int, purchase.size.split("x"))
                return Choice(model, purchase.price, Size(width, height), purchase)
    offers: list[Choice] = []
    reasons: list[InputError] = []
    for name, model in candidates:
        if not by_name and closed(model, shop):
            continue  # nobody asked for it
        try:
            offers.append(offer(name, model))
        except InputError as error:
            reasons.append(error)
            continue
        if by_name:
            return replace(offers[0], passed_over=tuple(map(str, reasons)))
    if offers:
        return min(offers, key=lambda offer: offer.price)
    for _, model in candidates:
        if model.name in shop.struck:
            raise shop.struck[model.name]
    parameters = {error.parameter for error in reasons}
    raise InputError("; ".join(map(str, reasons)), parameters.pop() if len(parameters) == 1 else "model")


def made_by(purchase: Purchase, models: Sequence[presets.Sheet]) -> bool:
    """Whether one of these made it."""
    return any((purchase.provider, purchase.model) == (m.facts["provider"], m["model"]) for m in models)


def bought(
    choice: Choice, request: VideoRequest, key: str, candidates: Named, shop: Market, state: Path, keys: frozenset[str]
) -> Path:
    """The paid original, kept under AFTERFRAME_HOME; what any of the candidates made of this wish before will do.

    Raises Later while it is made, Struck if it is another's turn, and what `stages.buying.buy` raises.
    """
    models = [model for _, model in candidates]
    route = Route(choice.model, choice.size, 0, choice.price, bought=choice.bought)
    order = Order(route, request, key, lambda purchase: made_by(purchase, models))
    ledger = open_ledger()
    try:
        (got,) = buy(ledger, [order], shop, state, keys)
    except ProviderError as error:
        raise strike(ledger, order, error, shop, "stop") from None
    assert got.original
    return got.original
