"""Which model films a wish, how large, how many seconds are bought, for how much. All of it is known before; pure.

`route` takes the first model in the recipe's list that is alive, sells the
frame and the length, and whose key is there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import presets
from stages.clip import Frames, Size, Time, Unit, parse_time, printed_seconds
from stages.errors import InputError
from stages.ledger import Ledger, Purchase, purchases
from stages.stage import nearest

USUAL_RATE = 24
"""Frames a second of a model whose preset does not say; what comes is probed."""


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


# ---------------------------------------------------------------- what is for sale


@dataclass(frozen=True, slots=True)
class Market:
    """One snapshot of what can be bought and what was.

    `mapping` says which model films for one that is gone, by name; `own` are
    models on servers of the user's; `simulate` says that everything is filmed
    by the simulator. `bought` are the ledger's rows by key, `keys` the environment variables that are set.
    """

    today: date
    keys: frozenset[str] = frozenset()
    mapping: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, presets.Sheet] = field(default_factory=dict)
    simulate: bool = False
    bought: Mapping[str, tuple[Purchase, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """Who films it, how large, how many seconds are bought, and for how many US dollars.

    `bought` is the purchase that already answers for it, if there is one.
    """

    sheet: presets.Sheet
    size: Size
    seconds: int
    price: Decimal
    bought: Purchase | None = None
    passed_over: tuple[str, ...] = ()

    def said(self, asked: Fraction) -> str:
        """What a person wants to know of it before paying."""
        longer = f", {printed_seconds(asked)} s are asked for" if self.seconds != asked else ""
        over = "".join(f"; not {reason}" for reason in self.passed_over)
        if self.bought:
            return f"{self.seconds} s by {self.sheet.name} are bought already{over}"
        return f"{self.sheet.name} films {self.seconds} s{longer}, {self.size}, ${self.price}{over}"


MAPPING = "models.yaml"
"""Beside the project: `sora-2: veo-3.1-fast` films what was written for one model with another."""


def market(ledger: Ledger, project: Path, simulate: bool = False) -> Market:
    """What can be bought now. Raises InputError for a `models.yaml` that cannot be read."""
    rows: dict[str, list[Purchase]] = {}
    for row in purchases(ledger):
        rows.setdefault(row.key, []).append(row)
    keys = frozenset(name for name in os.environ if os.environ[name])
    bought = {key: tuple(each) for key, each in rows.items()}
    mapping, own = read_models(Path(os.environ.get("AFTERFRAME_MODELS") or project / MAPPING))
    return Market(date.today(), keys, mapping, own, simulate, bought)


def read_models(file: Path) -> tuple[dict[str, str], dict[str, presets.Sheet]]:
    """`models.yaml`: names of models with those that film for them, and models on servers of one's own.

    sora-2: wan
    wan: {base_url: http://localhost:8091/v1, dialect: vllm-omni, model: Wan-AI/Wan2.2-T2V-A14B-Diffusers,
          seconds: [4, 5, 8], sizes: [1280x720], rate: 16, price: 0}
    """
    import yaml  # noqa: PLC0415 -- only where there may be such a file

    try:
        loaded = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return {}, {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{file}: cannot be read ({error})") from None
    if not isinstance(loaded, dict):
        raise InputError(f"{file}: should be lines such as 'sora-2: wan'")
    mapping = {str(name): value for name, value in loaded.items() if isinstance(value, str)}
    own = {str(name): _own(file, str(name), value) for name, value in loaded.items() if not isinstance(value, str)}
    return mapping, own


OWN = frozenset({"base_url", "dialect", "model", "seconds", "sizes", "rate", "price", "key_variable", "audio"})


def _own(file: Path, name: str, said: object) -> presets.Sheet:
    """A model on a server of the user's, who says what it sells."""
    if not isinstance(said, dict) or not {"base_url", "seconds", "sizes"} <= set(said):
        raise InputError(f"{file.name}: {name}: should name a model, or say base_url:, seconds: and sizes:")
    for key in set(said) - OWN:
        raise InputError(f"{file.name}: {name}.{key}: is not known{nearest(key, OWN)}")
    plain = ("base_url", "key_variable")
    facts = {key: said[key] for key in plain if key in said} | {"provider": said.get("dialect", "any")}
    listed = {key: value for key, value in said.items() if key not in (*plain, "price", "dialect")}
    values = {"model": name, "rate": USUAL_RATE, "audio": "never", "typical": 30, **listed}
    if "price" in said:
        values |= {f"price.{size}": said["price"] for size in said["sizes"]}
    made = {key: presets.Value(value, 1, str(file), "") for key, value in values.items()}
    return presets.Sheet(name, file, facts, made)


def route(models: Sequence[str], wish: Wish, length: Fraction, shop: Market, bought: Sequence[Purchase] = ()) -> Route:
    """The first of `models` that can film this, or the one that already did.

    Raises InputError with what is wrong with each of them.
    """
    if not wish.prompt.strip():
        raise InputError("is empty", "prompt")
    if wish.take < 1:
        raise InputError(f"should be 1 or more, not {wish.take}", "take")
    reasons: list[str] = []
    parameters: list[str] = []
    sheets = named(models, shop)
    if len(models) > 1 and any(sheet.facts.get("simulated") for _, sheet in sheets) and not shop.simulate:
        # As a fallback it would publish a test film for want of a key.
        raise InputError("a simulator films only when it is named alone, or with --sim", "model")
    for purchase in bought:
        if (known := _owned(purchase, sheets, length)) is not None:
            return known
    for asked, sheet in sheets:
        try:
            return replace(_offer(sheet, asked, wish, length, shop), passed_over=tuple(reasons))
        except InputError as error:
            reasons.append(str(error))
            parameters.append(error.parameter)
    raise InputError("; ".join(reasons), "model" if len(reasons) > 1 else parameters[0])


def seconds_of(length: Time) -> Fraction:
    """Seconds. Frames are not counted: at what rate a model films is not known before."""
    parsed = parse_time(length) if isinstance(length, str) else length
    if isinstance(parsed, Frames) or parsed <= 0:
        raise InputError(f"should be in seconds, such as 6s, not '{length}'", "length")
    return Fraction(parsed)


def named(models: Sequence[str], shop: Market) -> list[tuple[str, presets.Sheet]]:
    """The models' presets, mapped to what films for them now."""
    known = (*presets.names("models"), *shop.own)
    found: list[tuple[str, presets.Sheet]] = []
    for asked in models:
        name = shop.mapping.get(asked, asked)
        for each in ("sim", "sim-pro") if shop.simulate else (name,):
            if each not in known:
                there = f"there are {', '.join(known)}"
                raise InputError(f"there is no model '{each}'{nearest(each, known)}; {there}", "model")
            found.append((asked, shop.own.get(each) or presets.read("models", each)))
    return found


def _offer(sheet: presets.Sheet, asked: str, wish: Wish, length: Fraction, shop: Market) -> Route:
    closed = sheet.get("retires_on")
    if closed and date.fromisoformat(str(closed)) <= shop.today:
        raise InputError(
            f"{sheet.name} closed on {closed} ({sheet.place('retires_on')}); a line in {MAPPING} beside the"
            f" project films it with another model: `{asked}: MODEL`, with one of {', '.join(_alive(shop))}",
            "model",
        )
    variable = sheet.facts.get("key_variable", "")
    if variable and variable not in shop.keys:
        raise InputError(f"{sheet.name} needs a key in {variable}, which is not set", "model")
    _check_wish(sheet, wish)
    size = _size(sheet, wish)
    sold = sheet.get(f"seconds_by_size.{size}") or sheet["seconds"]
    lengths = [each for each in sold if each >= length]
    if not lengths:
        raise InputError(
            f"{sheet.name} sells at most {max(sold)} s ({sheet.place('seconds')}), not {printed_seconds(length)} s",
            "length",
        )
    price = sheet.get(f"price_silent.{size}") if not wish.audio else None
    price = sheet.get(f"price.{size}") if price is None else price
    if price is None:
        raise InputError(f"{sheet.name} at {size}: its price is not known ({sheet.file.name})", "model")
    bought = min(lengths)
    return Route(sheet, size, bought, Decimal(str(price)) * bought)


def _check_wish(sheet: presets.Sheet, wish: Wish) -> None:
    """Raise InputError for what the model cannot do: dropped in silence, it would be paid for and missed."""
    limit = sheet.get("prompt_limit")
    if limit and len(wish.prompt) > limit:
        place = sheet.place("prompt_limit")
        raise InputError(f"{len(wish.prompt)} characters; {sheet.name} takes {limit} ({place})", "prompt")
    for name, words in (("last_frame", "a last frame"), ("negative", "what should not be seen"), ("loop", "a loop")):
        if getattr(wish, name) and sheet.get(name) is False:
            raise InputError(f"{sheet.name} knows no {words} ({sheet.place(name)})", name)
    if wish.seed is not None and sheet.get("seed") is False:
        raise InputError(f"{sheet.name} takes no seed ({sheet.place('seed')})", "seed")
    if not wish.audio and sheet.get("audio") == "always":
        raise InputError(f"{sheet.name} films with sound; strip_audio takes it off ({sheet.place('audio')})", "audio")


def _alive(shop: Market) -> list[str]:
    sheets = [*(presets.read("models", name) for name in presets.names("models")), *shop.own.values()]
    return [s.name for s in sheets if not s.get("retires_on") or date.fromisoformat(str(s["retires_on"])) > shop.today]


def _size(sheet: presets.Sheet, wish: Wish) -> Size:
    """The size of that frame which the model sells; of several shapes alike the cheapest."""
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
    return min(fitting, key=lambda size: (Decimal(str(sheet.get(f"price.{size}", 0))), size.width * size.height))


def _owned(purchase: Purchase, sheets: Sequence[tuple[str, presets.Sheet]], length: Fraction) -> Route | None:
    """What was bought before, if one of the recipe's models filmed it and it is long enough."""
    for _, sheet in sheets:
        if accepted(purchase, [sheet], length) and purchase.state in ("ACCEPTED", "DONE", "SENDING"):
            return Route(sheet, Size.parse(purchase.size), purchase.seconds, purchase.price, purchase)
    return None


def accepted(purchase: Purchase, sheets: Sequence[presets.Sheet], length: Fraction) -> bool:
    """Whether an earlier purchase will do: one of these models filmed it, and it is long enough."""
    by_one = any((purchase.provider, purchase.model) == (s.facts["provider"], s["model"]) for s in sheets)
    return by_one and purchase.seconds >= length
