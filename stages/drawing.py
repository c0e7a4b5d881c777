"""`draw`: from a sentence, and pictures to take after, to a bought picture: one scene, or a sheet of one character.

What it costs is known before, and the same picture is never bought twice, as
with films (`stages/filming.py`, `stages/ledger.py`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import presets
from stages.attesting import as_sent, roots, vouched
from stages.choosing import Choice, Named, bought, check_wish, choose
from stages.clip import Action, Clip, History, Size, Unit
from stages.errors import InputError, ProviderRefused
from stages.files import sha256, state_folder
from stages.ledger import open_ledger
from stages.market import Market, open_market
from stages.media import clip_from
from stages.providers import VideoRequest
from stages.references import look_at, still
from stages.routing import Frame, check_market, parse_frame
from stages.stage import Offer, job, nearest

Pictures: TypeAlias = Path | tuple[Path, ...] | None
Quality = Literal["low", "medium", "high", "xhigh", "max"]

ANGLES = (
    "full body from the front", "full body, three-quarter view from the left", "full body in profile from the left",
    "full body from the back", "full body in profile from the right", "full body, three-quarter view from the right",
    "close-up of the face from the front", "close-up of the face in profile", "close-up of the face, smiling",
)  # fmt: skip
"""What the cells of a character sheet show, in order; a smaller sheet has the first of them."""


def parse_sheet(text: str) -> tuple[int, int]:
    """`3x2` as columns and rows. Raises InputError for anything else, and for more cells than there are angles."""
    match = re.fullmatch(r"([1-9])x([1-9])", text.strip())
    if not match or int(match[1]) * int(match[2]) not in range(2, len(ANGLES) + 1):
        raise InputError(f"should be columns x rows such as 3x2, from 2 to {len(ANGLES)} cells, not '{text}'", "sheet")
    return int(match[1]), int(match[2])


Sheet: TypeAlias = Annotated[str, Unit(parse_sheet, "3x2")]


# ---------------------------------------------------------------- what is asked


@dataclass(frozen=True, slots=True)
class Sitting:
    """What is asked for, whoever draws it. `reference` is an identity: how the pictures to take after were made."""

    prompt: str
    size: str = "1536x1024"
    sheet: str = ""
    quality: str = "medium"
    reference: str = ""
    take: int = 1

    @property
    def words(self) -> str:
        """What the model is told."""
        if not self.sheet:
            return self.prompt
        columns, rows = parse_sheet(self.sheet)
        cells = "; ".join(f"{number}. {angle}" for number, angle in enumerate(ANGLES[: columns * rows], 1))
        return (
            f"{self.prompt}\n\nDraw this as a character sheet: one and the same character in a grid of"
            f" {columns} columns and {rows} rows, equal cells without borders, left to right, top to bottom: {cells}."
            " Face, hair, clothes, proportions and colours are the same in every cell. Neutral pose, even studio light,"
            " plain light grey background. No text, no numbers, no other people or things."
        )


def picture_key(asked: Sitting) -> str:
    """What is bought, as a hash of what was asked for: not of the model, the price or our wording of a sheet.

    What was left as it is by default is left out, so that a new kind of wish changes no older key.
    """
    said = {name: value for name, value in asdict(asked).items() if value != getattr(Sitting(""), name)}
    return hashlib.sha256(json.dumps(["picture", said], sort_keys=True).encode()).hexdigest()


# ---------------------------------------------------------------- who draws it


def choose_for(asked: Sitting, models: Sequence[str], shop: Market, shown: int = 0) -> Choice:
    """The first of `models` that can draw this from `shown` pictures, or the one that already did; if none is
    named, the cheapest of all.

    Raises InputError with what is wrong with each of them.
    """
    check_wish(asked.prompt, asked.take)

    def offer(name: str, model: presets.Sheet) -> Choice:
        return _offer(model, name, asked, shop, shown)

    return choose(named(models, shop), picture_key(asked), offer, shop, by_name=bool(models))


def named(models: Sequence[str], shop: Market) -> Named:
    """The models' presets by the names that were asked for, mapped to what draws for them now."""
    known = presets.names("images")
    if shop.simulate:
        return [(asked, presets.read("images", "sim")) for asked in models or ("sim",)]
    found: list[tuple[str, presets.Sheet]] = []
    for asked in models or known:
        name = shop.mapping.get(asked, asked) if models else asked
        if name not in known:
            there = f"there are {', '.join(known)}"
            raise InputError(f"there is no model '{name}' that draws{nearest(name, known)}; {there}", "model")
        found.append((asked, presets.read("images", name)))
    if len(found) > 1:  # as a fallback it would publish a test picture for want of a key
        if models and any(model.facts.get("simulated") for _, model in found):
            raise InputError("a simulator draws only when it is named alone, or with --sim", "model")
        found = [(asked, model) for asked, model in found if not model.facts.get("simulated")]
    return found


def _offer(model: presets.Sheet, name: str, asked: Sitting, shop: Market, shown: int) -> Choice:
    check_market(model, name, shop)
    if len(asked.words) > model["prompt_limit"]:
        place = model.place("prompt_limit")
        raise InputError(
            f"{len(asked.words)} characters; {model.name} takes {model['prompt_limit']} ({place})", "prompt"
        )
    if shown > model["references"]:
        raise InputError(
            f"{shown} pictures; {model.name} takes {model['references']} ({model.place('references')})", "reference"
        )
    prices: Mapping[str, str] = model.get(f"price.{asked.quality}", {})
    if not prices:
        sold = ", ".join(key.removeprefix("price.") for key in model.values if key.startswith("price."))
        raise InputError(f"{model.name} sells {sold} ({model.file.name}), not {asked.quality}", "quality")
    size = _size(model, asked.size, prices)
    each = model["price_reference"]
    if shown and each is None:
        raise InputError(
            f"{model.name}: what a reference costs is not known ({model.place('price_reference')})", "model"
        )
    text = Decimal(model["price_text"]) * len(asked.words) / 1000
    price = Decimal(prices[str(size)]) + text + (Decimal(each) * shown if shown else 0)
    return Choice(model, price.quantize(Decimal("0.0001"), "ROUND_UP"), size)


def _size(model: presets.Sheet, wanted: str, prices: Mapping[str, str]) -> Size:
    """The size of that frame which the model sells; of several shapes alike the cheapest."""
    frame = parse_frame(wanted)
    sizes = [Size.parse(text) for text in model["sizes"] if text in prices]
    if isinstance(frame, Size):
        fitting = [size for size in sizes if size == frame]
    else:
        fitting = [size for size in sizes if abs(size.aspect / frame - 1) < Fraction(2, 100)]
    if not fitting:
        sold = ", ".join(map(str, sizes))
        raise InputError(f"{model.name} sells {sold} ({model.place('sizes')}), none of it {wanted}", "size")
    return min(fitting, key=lambda size: (Decimal(prices[str(size)]), size.width * size.height))


# ---------------------------------------------------------------- promised, offered


def promise_picture(prompt: str, *, model: Sequence[str] = (), shop: Market, **said: Any) -> Clip:
    """The picture that `draw` will buy, as its model's preset describes it."""
    asked, shown = _sitting(prompt, said)
    choice = choose_for(asked, model, shop, shown)
    opened = clip_from(Path("drawn.png"), still(choice.size, "png"), None, promised=True)
    return Clip(opened.picture, None, (_action(choice, asked, None, ()),))


def offer_picture(
    prompt: str, *, model: Sequence[str] = (), shop: Market, identities: Mapping[str, str], **said: Any
) -> Offer:
    """Who would draw it and for how much, under which key; what it wants of its reference. Nothing is sent."""
    asked, shown = _sitting(prompt, {**said, "identities": identities})
    choice, key = choose_for(asked, model, shop, shown), picture_key(asked)
    what = "the prompt" + (f" and {shown} pictures" if shown > 1 else " and a picture" if shown else "")
    return Offer(
        () if choice.bought else (choice.price,),
        {"shop": shop, "identities": identities},
        {"size": str(choice.size), "format": "png"},
        choice.said("a picture", f"draws {choice.size}, {asked.quality}"),
        simulated=choice.simulated,
        keys=(key,),
        hosts=((host, what),) if (host := shop.host(choice.model)) and not choice.bought else (),
    )


def _sitting(prompt: str, said: Mapping[str, Any]) -> tuple[Sitting, int]:
    """What is asked for, and how many pictures are shown."""
    plain = {name: said[name] for name in ("size", "sheet", "quality", "take") if name in said}
    reference = (said.get("identities") or {}).get("reference", "")
    return Sitting(prompt, **plain, reference=reference), len(_pictures(said.get("reference")))


def _pictures(reference: Pictures) -> tuple[Path, ...]:
    if reference is None:
        return ()
    return (reference,) if isinstance(reference, Path) else tuple(reference)


# ---------------------------------------------------------------- the job


@job(promise_picture, offer=offer_picture)
def draw(
    prompt: str,
    *,
    size: Frame = "1536x1024",
    sheet: Sheet = "",
    reference: Pictures = None,
    quality: Quality = "medium",
    model: tuple[str, ...] = (),
    take: int = 1,
    folder: Path,
    shop: Market | None = None,
    keys: frozenset[str] = frozenset(),
    identities: Mapping[str, str] | None = None,
    inputs: Mapping[str, Clip] | None = None,
) -> Clip:
    """Buy a picture of `prompt` from the first of `model` that draws it; if none is named, from the cheapest.

    `size` is in pixels, or a shape such as `16:9`. `sheet` 3x2 asks for one
    character from six sides, in a grid of 3 columns and 2 rows. `reference` is
    a picture of any size to take after; in Python it may be several. `prepare`
    makes a film's first frame of what is drawn. `take` 2 buys another picture
    of the same request. Interrupted and called again, it takes up where it
    stood and pays once. The paid original stays in AFTERFRAME_HOME.

    Raises InputError if no model can draw it, ProviderRefused if the provider
    will not, ProviderUnavailable if it cannot now, SubmissionUnknown if a human
    must look before money is spent, and ProvenanceError if what came was
    changed after it was signed.
    """
    state = state_folder(folder)
    shop = shop or open_market(open_ledger(), state.parent)
    shown = _pictures(reference)
    identity = (identities or {}).get("reference") or ",".join(map(sha256, shown))
    asked = Sitting(prompt, size, sheet, quality, identity, take)
    choice = choose_for(asked, model, shop, len(shown))
    request = VideoRequest(
        asked.words, choice.model["model"], choice.size, 0,
        work="draw", references=shown, options=(("quality", quality),),
    )  # fmt: skip
    original = bought(choice, request, picture_key(asked), named(model, shop), shop, state, keys)
    made = _action(choice, asked, original, tuple(_histories(inputs, shown)))
    return _taken_in(original, choice, made, folder)


def _histories(inputs: Mapping[str, Clip] | None, shown: Sequence[Path]) -> Iterator[History]:
    """How the pictures came about that were shown."""
    if inputs and "reference" in inputs:
        yield inputs["reference"].history
    else:
        yield from ((Action("open", file=file),) for file in shown)


def _action(choice: Choice, asked: Sitting, file: Path | None, shown: tuple[History, ...]) -> Action:
    said = {"prompt": asked.prompt, "size": str(choice.size), "quality": asked.quality, "sheet": asked.sheet}
    told = tuple((name, text) for name, text in said.items() if text)
    return Action("draw", told, choice.agent, file, ai=True, inputs=shown, bought=(picture_key(asked),))


def _taken_in(original: Path, choice: Choice, made: Action, folder: Path) -> Clip:
    """Check what came, read its credentials before anything touches it, and archive them."""
    name = choice.model.name
    with as_sent(name, original):
        facts = look_at(original)
    if abs(facts.size.aspect / choice.size.aspect - 1) > Fraction(2, 100):
        sentence = f"{name} was paid for {choice.size} and sent {facts.size}; it is kept in {original}"
        raise ProviderRefused(sentence, "lost")
    file = vouched(original, made, folder, anchors=roots(original, folder))
    return replace(clip_from(file, facts, None), history=(replace(made, file=file),))
