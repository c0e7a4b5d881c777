"""Which model films a wish, how large, how many seconds are bought, for how much. All of it is known before; pure.

`route` takes the first model in the recipe's list that is alive, sells the
frame and the length, whose key is there, and that the purse allows; of `auto`
the best by what is preferred.
"""

from __future__ import annotations

import hashlib
import json
import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal, TypeAlias

import presets
from stages.clip import Frames, Size, Time, Unit, parse_time, printed_seconds
from stages.errors import InputError
from stages.ledger import Purchase
from stages.market import MODELS, Market
from stages.money import dollars

USUAL_RATE = 24
"""Frames a second of a model whose preset does not say; what comes is probed."""

OVERLAP = Fraction(1, 2)
"""Seconds in which the end of a loop is cross-faded into its beginning, where the model itself films none."""

AUTO = "auto"
Prefer = Literal["", "cost", "quality", "speed"]
OnRefusal = Literal["stop", "next"]


# ---------------------------------------------------------------- what is asked


def parse_frame(text: str) -> Size | Fraction:
    """`1280x720` as a Size, `9:16` as a shape."""
    if match := re.fullmatch(r"(\d{1,2}):(\d{1,2})", text.strip()):
        if int(match[1]) and int(match[2]):
            return Fraction(int(match[1]), int(match[2]))
    elif "x" in text:
        return Size.parse(text)
    raise InputError(f"should be a frame such as 9:16 or 1280x720, not '{text}'")


Frame: TypeAlias = Annotated[str, Unit(parse_frame, "9:16 | 1280x720")]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for, whoever films it. `reference` and `last_frame` are identities: how a picture was made
    from what, not its bytes."""

    prompt: str
    frame: str
    reference: str = ""
    last_frame: str = ""
    seed: int | None = None
    audio: bool = True
    negative: str = ""
    loop: bool = False
    take: int = 1

    @classmethod
    def of(cls, **said: Any) -> Wish:
        """The wish in a stage's arguments, whatever else is among them."""
        return cls(**{name: said[name] for name in cls.__slots__ if name in said})


def purchase_key(wish: Wish) -> str:
    """What is bought, as a hash: what was asked for, and the take.

    Not the model, the length, the price or any version: none of these may
    make us buy again what we have. What was left as it is by default is left
    out, so that a new kind of wish changes no older key.
    """
    said = {name: value for name, value in asdict(wish).items() if value != getattr(Wish("", ""), name)}
    return hashlib.sha256(json.dumps(["film", said], sort_keys=True).encode()).hexdigest()


# ---------------------------------------------------------------- who films it


@dataclass(frozen=True, slots=True)
class Route:
    """Who films it, how large, how many seconds are bought, and for how many US dollars (None: nobody knows).

    `why` says why this one, `passed_over` why not the others. `bought` is the
    purchase that already answers for it, if there is one. `loops`: the model
    films a loop, else the `loop` edit makes it one. `dearer` are the larger
    sizes of that shape that it sells, with what they would cost.
    """

    sheet: presets.Sheet
    size: Size
    seconds: int
    price: Decimal | None
    why: str = ""
    bought: Purchase | None = None
    passed_over: tuple[str, ...] = ()
    loops: bool = False
    dearer: tuple[tuple[Size, Decimal], ...] = ()

    def said(self, asked: Fraction) -> str:
        """What a person wants to know of it before paying, in a line."""
        longer = f", {printed_seconds(asked)} s are asked for" if self.seconds != asked else ""
        if self.bought:
            return f"{self.seconds} s by {self.sheet.name} are bought already"
        price = "for a price that nobody knows" if self.price is None else dollars(self.price)
        why = f" ({self.why})" if self.why else ""
        return f"{self.sheet.name} films {self.seconds} s{longer}, {self.size}, {price}{why}"


def route(
    models: Sequence[str],
    wish: Wish,
    length: Fraction,
    shop: Market,
    bought: Sequence[Purchase] = (),
    *,
    prefer: Prefer = "",
    on_refusal: OnRefusal = "stop",
) -> Route:
    """The one of `models` that films this, or the one that already did.

    Raises InputError with what is wrong with each of them, and what a model
    failed with where that is why nobody is left.
    """
    if not wish.prompt.strip():
        raise InputError("is empty", "prompt")
    if wish.take < 1:
        raise InputError(f"should be 1 or more, not {wish.take}", "take")
    sheets = named(models, shop)
    if len(models) > 1 and any(sheet.facts.get("simulated") for _, sheet in sheets) and not shop.simulate:
        # As a fallback it would publish a test film for want of a key.
        raise InputError("a simulator films only when it is named alone, or with --sim", "model")
    for purchase in bought:
        if (known := _owned(purchase, sheets, wish, length)) is not None:
            return known
    fits: list[Route] = []
    dear: list[Route] = []
    reasons: list[InputError] = []
    for asked, sheet in sheets:
        try:
            if on_refusal == "next":
                _check_refusals(sheet, bought)
            offer = _offer(sheet, asked, wish, length, shop)
        except InputError as error:
            reasons.append(error)
            continue
        if said := too_dear(offer, shop):
            dear.append(offer)
            reasons.append(InputError(said, "model"))
            continue
        fits.append(offer)
        if not (prefer or AUTO in models):
            break
    if not fits and not dear:
        raise _nobody(models, reasons, sheets, shop)
    # Where all are too dear, the plan shows one of them, and is not carried out.
    chosen = _best(fits or dear[:1], prefer or ("cost" if AUTO in models else ""), shop)
    return replace(chosen, passed_over=tuple(map(str, reasons)))


def _nobody(
    models: Sequence[str], reasons: Sequence[InputError], sheets: Sequence[tuple[str, presets.Sheet]], shop: Market
) -> Exception:
    """Why nobody films it."""
    for _, sheet in reversed(sheets):
        if sheet.name in shop.struck:
            return shop.struck[sheet.name]
    if AUTO in models and not reasons:
        return InputError("no model is for sale", "model")
    said = grouped(map(str, reasons))
    return InputError("; ".join(said), "model" if len(said) > 1 else reasons[0].parameter)


def grouped(reasons: Iterable[str]) -> list[str]:
    """Reasons why models cannot film, each once, and those that lack the same key as one: `auto` asks two dozen."""
    lacking: dict[str, list[str]] = {}
    others: dict[str, None] = {}
    for reason in reasons:
        if match := re.fullmatch(NEEDS_KEY.format(name="(.+)", variable="(.+)"), reason):
            lacking.setdefault(match[2], []).append(match[1])
        else:
            others[reason] = None
    for variable, names in lacking.items():
        keyless = NEEDS_KEY.format(name=", ".join(names), variable=variable)
        others[keyless if len(names) == 1 else keyless.replace("needs", "need", 1)] = None
    return list(others)


NEEDS_KEY = "{name} needs a key in {variable}, which is not set"


def _best(fits: Sequence[Route], prefer: Prefer, shop: Market) -> Route:
    """The one that is preferred, with why; the first where nothing is."""
    if not prefer:
        return fits[0]

    def cost(each: Route) -> tuple[bool, Decimal]:
        return each.price is None, each.price or Decimal(0)

    def quality(each: Route) -> tuple[float, tuple[bool, Decimal]]:
        return -float(each.sheet.get("quality") or 0), cost(each)

    def speed(each: Route) -> tuple[float, tuple[bool, Decimal]]:
        return shop.usual.get(each.sheet.name) or float(each.sheet.get("typical") or 3600), cost(each)

    orders: Mapping[str, Callable[[Route], Any]] = {"cost": cost, "quality": quality, "speed": speed}
    chosen = min(fits, key=orders[prefer])
    words = {"cost": "the cheapest", "quality": "the best", "speed": "the fastest"}[prefer]
    if prefer == "quality" and not chosen.sheet.get("quality"):
        words = "of none is the quality known: the cheapest"
    return replace(chosen, why=f"{words} of the {len(fits)} that can" if len(fits) > 1 else "the only one that can")


def seconds_of(length: Time) -> Fraction:
    """Seconds. Frames are not counted: at what rate a model films is not known before."""
    parsed = parse_time(length) if isinstance(length, str) else length
    if isinstance(parsed, Frames) or parsed <= 0:
        raise InputError(f"should be in seconds, such as 6s, not '{length}'", "length")
    return Fraction(parsed)


def named(models: Sequence[str], shop: Market) -> list[tuple[str, presets.Sheet]]:
    """The models' presets, mapped to what films for them now; `auto` stands for all that film and are not simulated."""
    if not models:
        raise InputError("is missing (such as [one, another], or auto)", "model")
    if shop.simulate:
        return [(asked, shop.sheet(each)) for asked in models[:1] for each in ("sim", "sim-pro")]
    found: dict[str, tuple[str, presets.Sheet]] = {}
    for asked in models:
        if asked == AUTO:
            alive = [s for s in shop.sheets() if films(s) and not s.facts.get("simulated") and not closed(s, shop)]
            found |= {sheet.name: (sheet.name, sheet) for sheet in alive if sheet.name not in found}
        else:
            sheet = shop.sheet(shop.mapping.get(asked, asked))
            found.setdefault(sheet.name, (asked, sheet))
    return list(found.values())


def films(sheet: presets.Sheet) -> bool:
    """Whether a model films from words and pictures; some only work on films that there are."""
    return "film" in sheet.get("works", ["film"])


def closed(sheet: presets.Sheet, shop: Market) -> str:
    """The day on which it closed, if it did."""
    day = sheet.get("retires_on")
    return str(day) if day and date.fromisoformat(str(day)) <= shop.today else ""


def _check_refusals(sheet: presets.Sheet, bought: Sequence[Purchase]) -> None:
    """Raise InputError if the model refused this before: it would do so again, and may bill it."""
    for row in bought:
        same = (row.provider, row.model) == (sheet.facts["provider"], sheet["model"])
        if same and row.state in ("REJECTED", "FAILED") and row.failure.startswith("moderation"):
            raise InputError(f"{sheet.name} refused it by its content policy ({row.text or row.code})", "prompt")


def _offer(sheet: presets.Sheet, asked: str, wish: Wish, length: Fraction, shop: Market) -> Route:
    """What the model would do for it. Raises InputError with why it cannot."""
    check_market(sheet, asked, shop)
    if not films(sheet):
        works = ", ".join(sheet["works"])
        raise InputError(f"{sheet.name} does not film ({sheet.place('works')}): it is for {works}", "model")
    _check_wish(sheet, wish)
    size, dearer = _sizes(sheet, wish, shop)
    sold = sorted(sheet.get(f"seconds_by_size.{size}") or sheet["seconds"])
    lengths = [each for each in sold if each >= needed(sheet, wish, length, each)]
    if not lengths:
        longer = " and the half second that a loop is cross-faded in" if wish.loop else ""
        raise InputError(
            f"{sheet.name} sells at most {max(sold)} s ({sheet.place('seconds')}), not"
            f" {printed_seconds(length)} s{longer}",
            "length",
        )
    seconds = lengths[0]
    each = price_of(sheet, size, silent=not wish.audio)
    if each is None and not shop.purse.unknown_price:
        hint = "`budget: {unknown_price: pay}` buys it all the same"
        raise InputError(f"{sheet.name} at {size}: its price is not known ({sheet.file.name}); {hint}", "model")
    return Route(
        sheet,
        size,
        seconds,
        None if each is None else each * seconds,
        loops=wish.loop and needed(sheet, wish, length, seconds) == length,
        dearer=tuple((larger, each * seconds) for larger, each in dearer),
    )


def check_market(sheet: presets.Sheet, asked: str, shop: Market) -> None:
    """Raise InputError unless the model is alive, can be reached and paid, and is where the recipe wants it."""
    if sheet.name in shop.struck:
        raise InputError(f"{sheet.name} failed: {shop.struck[sheet.name]}", "model") from shop.struck[sheet.name]
    if day := closed(sheet, shop):
        raise InputError(
            f"{sheet.name} closed on {day} ({sheet.place('retires_on')}); a line in {MODELS} beside the"
            f" project films it with another model: `{asked}: MODEL`, with one of {', '.join(_alive(shop, sheet))}",
            "model",
        )
    variable = sheet.facts.get("key_variable", "")
    if variable and variable not in shop.keys:
        raise InputError(NEEDS_KEY.format(name=sheet.name, variable=variable), "model")
    if sheet.facts.get("simulated"):
        return
    if reason := shop.lost.get(sheet.facts["provider"], "") if "base_url" not in sheet.facts else "":
        raise InputError(f"{sheet.name}: {reason}", "model")
    host = shop.host(sheet)
    if host and sheet.facts.get("trust_host") is not True and not shop.trusts(host):
        raise InputError(
            f"{sheet.name} would send words and pictures to {host}, which is no known provider's;"
            f" `trust_host: true` in {MODELS} says that it may have them",
            "model",
        )
    where = shop.region_of(host, sheet)
    if shop.region and where not in (shop.region, "here"):
        works = "speaks" if "voices" in sheet.values else "films"
        said = f"{works} in {where}" if where else f"does not say where it {works}"
        line = f"{asked}: {{region: {shop.region}}}"
        line = f"voices: {{{line}}}" if works == "speaks" else line
        raise InputError(f"{sheet.name} {said}, not in {shop.region}; `{line}` in {MODELS} says that it does", "model")


def too_dear(offer: Route, shop: Market) -> str:
    """Why one purchase is more than the recipe allows; empty if it is not."""
    for what, limit in (("each purchase", shop.purse.each), ("it all", shop.purse.total)):
        if offer.price is not None and limit is not None and offer.price > limit:
            return f"{offer.sheet.name} asks {dollars(offer.price)}, and the budget for {what} is ${limit}"
    return ""


def needed(sheet: presets.Sheet, wish: Wish, length: Fraction, sold: int) -> Fraction:
    """How long a film of `sold` seconds must be: a loop is cross-faded, unless the model films it whole."""
    native = sheet.get("loop") is True and sold == length and not wish.last_frame
    return length + OVERLAP if wish.loop and not native else length


def price_of(sheet: presets.Sheet, size: Size, *, silent: bool = False) -> Decimal | None:
    """US dollars a second; None where that is not known."""
    price = sheet.get(f"price_silent.{size}") if silent else None
    price = sheet.get(f"price.{size}") if price is None else price
    return None if price is None else Decimal(str(price))


def _check_wish(sheet: presets.Sheet, wish: Wish) -> None:
    """Raise InputError for what the model cannot do: dropped in silence, it would be paid for and missed."""
    limit = sheet.get("prompt_limit")
    if limit and len(wish.prompt) > limit:
        place = sheet.place("prompt_limit")
        raise InputError(f"{len(wish.prompt)} characters; {sheet.name} takes {limit} ({place})", "prompt")
    for name, words in (("last_frame", "a last frame"), ("negative", "what should not be seen")):
        if getattr(wish, name) and sheet.get(name) is False:
            raise InputError(f"{sheet.name} knows no {words} ({sheet.place(name)})", name)
    if wish.seed is not None and sheet.get("seed") is False:
        raise InputError(f"{sheet.name} takes no seed ({sheet.place('seed')})", "seed")
    if not wish.audio and sheet.get("audio") == "always":
        raise InputError(f"{sheet.name} films with sound; strip_audio takes it off ({sheet.place('audio')})", "audio")


def _alive(shop: Market, like: presets.Sheet) -> list[str]:
    """The models that can be had now and make the same: films, or pictures."""
    drawn = like.name in presets.names("images")
    pictures = (presets.read("images", name) for name in presets.names("images"))
    sheets = pictures if drawn else filter(films, shop.sheets())
    return [sheet.name for sheet in sheets if not closed(sheet, shop)]


def _sizes(sheet: presets.Sheet, wish: Wish, shop: Market) -> tuple[Size, tuple[tuple[Size, Decimal], ...]]:
    """The size of that frame which the model sells, of several shapes alike the cheapest; and the larger ones,
    with what they cost a second."""
    wanted = parse_frame(wish.frame)
    key = "sizes_without_reference" if not wish.reference and "sizes_without_reference" in sheet.values else "sizes"
    sizes = [Size.parse(text) for text in sheet[key]]
    if isinstance(wanted, Size):
        fitting = [size for size in sizes if size == wanted]
    else:
        fitting = [size for size in sizes if abs(size.aspect / wanted - 1) < Fraction(2, 100)]
    if not fitting:
        sold = ", ".join(map(str, sizes))
        raise InputError(f"{sheet.name} sells {sold} ({sheet.place(key)}), none of it {wish.frame}", "frame")
    prices = {size: price_of(sheet, size, silent=not wish.audio) for size in fitting}
    chosen = min(fitting, key=lambda size: (prices[size] or Decimal(0), size.width * size.height))
    larger = [(size, price) for size, price in prices.items() if price is not None and size.width > chosen.width]
    return chosen, tuple(sorted(larger, key=lambda each: each[1]))


def _owned(
    purchase: Purchase, sheets: Sequence[tuple[str, presets.Sheet]], wish: Wish, length: Fraction
) -> Route | None:
    """What was bought before, if one of the recipe's models filmed it and it is long enough."""
    # Two servers may have the same model: that which filmed it comes first, and another one will do.
    for _, sheet in sorted(sheets, key=lambda each: _account(each[1]) not in ("", purchase.account)):
        wanted = needed(sheet, wish, length, purchase.seconds)
        if accepted(purchase, [sheet], wanted) and purchase.state in ("ACCEPTED", "DONE", "SENDING"):
            size = Size.parse(purchase.size)
            loops = wish.loop and wanted == length
            return Route(sheet, size, purchase.seconds, purchase.price, bought=purchase, loops=loops)
    return None


def _account(sheet: presets.Sheet) -> str:
    """The account of a server of one's own; empty for a provider's."""
    return urllib.parse.urlsplit(str(sheet.facts.get("base_url", ""))).netloc


def accepted(purchase: Purchase, sheets: Sequence[presets.Sheet], length: Fraction) -> bool:
    """Whether an earlier purchase will do: one of these models filmed it, and it is long enough."""
    by_one = any((purchase.provider, purchase.model) == (s.facts["provider"], s["model"]) for s in sheets)
    return by_one and purchase.seconds >= length
