"""`generate`: from a sentence, and a picture if there is one, to a bought film. What it costs is known before.

That the same film is never bought twice is the ledger's business; who films it
is decided in routing.py, sent and fetched in buying.py, and looked at when it
comes in arrivals.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from stages import cutting, moderation
from stages.arrivals import take_in
from stages.buying import Order, buy, strike
from stages.clip import BT709, SAMPLE_RATE, Action, Clip, History, PictureFacts, SoundFacts, Time
from stages.contest import Pick, hold
from stages.errors import InputError, ProviderError
from stages.files import sha256, state_folder
from stages.ledger import Ledger, open_ledger
from stages.market import Market, open_market
from stages.media import clip_from
from stages.money import dollars
from stages.providers import VideoRequest
from stages.routing import (
    OVERLAP,
    USUAL_RATE,
    Frame,
    OnRefusal,
    Prefer,
    Wish,
    accepted,
    grouped,
    named,
    needed,
    purchase_key,
    route,
    seconds_of,
)
from stages.shots import Shot
from stages.stage import Offer, job

PICTURES = ("reference", "last_frame")
"""What a model may be shown."""

TAKES = 20
"""The most that one step may film of the same wish."""


# ---------------------------------------------------------------- what would be bought


def orders_for(
    prompt: str,
    *,
    length: Time,
    shop: Market,
    model: Sequence[str] = (),
    compare: Sequence[str] = (),
    takes: int = 1,
    prefer: Prefer = "",
    on_refusal: OnRefusal = "stop",
    shot: Shot | None = None,
    identities: Mapping[str, str] | None = None,
    reference: Path | None = None,
    last_frame: Path | None = None,
    **said: Any,
) -> tuple[Order, ...]:
    """The films that are to be there: one, or one for each take and each model that is compared. Pure.

    Raises InputError for what no model films.
    """
    if compare and model:
        raise InputError("name models in model: or in compare:, not in both", "compare")
    if not 1 <= takes <= TAKES:
        raise InputError(f"should be from 1 to {TAKES}, not {takes}", "takes")
    if compare and shop.simulate:
        compare = ("sim", "sim-pro")[: len(compare)]
    words, wanted = shot.prompt(prompt) if shot else prompt, seconds_of(length)
    shown = {name: (identities or {}).get(name, "") for name in PICTURES}
    asked = Wish.of(prompt=words, **{**said, **shown})
    orders: list[Order] = []
    each_alone: list[tuple[str, ...]] = [(name,) for name in compare]
    for models in each_alone or [tuple(model)]:
        for take in range(takes):
            wish = replace(asked, take=asked.take + take)
            key = purchase_key(wish)
            there = shop if not compare else replace(shop, simulate=False)
            chosen = route(models, wish, wanted, there, shop.bought.get(key, ()), prefer=prefer, on_refusal=on_refusal)
            sheets = [sheet for _, sheet in named(models, there)]
            request = VideoRequest(
                words, chosen.sheet["model"], chosen.size, chosen.seconds, reference, wish.seed, last_frame,
                wish.audio, wish.negative, chosen.loops, camera=shot.camera if shot else "",
            )  # fmt: skip
            orders.append(Order(chosen, request, key, _accepts(sheets, wish, wanted)))
    return tuple(orders)


def _accepts(sheets: Sequence[Any], wish: Wish, wanted: Fraction) -> Callable[[Any], bool]:
    """Which purchases will do: those of these models that are long enough."""
    return lambda row: any(accepted(row, [sheet], needed(sheet, wish, wanted, row.seconds)) for sheet in sheets)


def promise_film(prompt: str = "", *, length: Time, shop: Market, **said: Any) -> Clip:
    """The film that `generate` will buy, as its model's preset describes it."""
    orders = orders_for(prompt, length=length, shop=shop, **said)
    chosen = orders[0].route
    rate = Fraction(str(chosen.sheet["rate"] or USUAL_RATE))
    frames = round(chosen.seconds * rate)
    picture = PictureFacts(chosen.size, chosen.size, rate, frames, "h264", "High", colour=BT709)
    sound = SoundFacts("aac", "LC", SAMPLE_RATE, 2, "stereo", chosen.seconds * SAMPLE_RATE)
    has_sound = chosen.sheet.get("audio", "never") != "never"
    clip = clip_from(Path("film.mp4"), picture, sound if has_sound else None, promised=True)
    return replace(clip, history=(made_by(orders[0], length, orders, loop=bool(said.get("loop"))),))


def offer_film(
    prompt: str = "",
    *,
    length: Time,
    shop: Market,
    identities: Mapping[str, str],
    preflight: str = "",
    **said: Any,
) -> Offer:
    """Who would film it and for how much, under which keys; what it wants of its reference. Nothing is sent."""
    orders = orders_for(prompt, length=length, shop=shop, identities=identities, **said)
    first, wanted = orders[0].route, seconds_of(length)
    formats = first.sheet.get("reference", ["image/png"])
    asks = {"size": str(first.size), "format": "png" if "image/png" in formats else "jpeg"}
    lacking = [order for order in orders if not order.route.bought]
    prices = tuple(order.route.price for order in lacking)
    spoken = Counter(order.route.said(wanted) + _usually(order, shop) for order in orders)
    each_said = (words if times == 1 else f"{times} times {words}" for words, times in spoken.items())
    hosts = [(shop.host(order.route.sheet), _given(identities)) for order in lacking]
    if preflight and lacking:
        hosts.append((moderation.host(), _given(identities)))
    return Offer(
        prices,
        {"shop": shop, "identities": identities},
        asks,
        "; ".join(each_said),
        simulated=all(order.route.sheet.facts.get("simulated") for order in orders),
        keys=tuple(order.key for order in orders),
        hosts=tuple(dict.fromkeys((host, what) for host, what in hosts if host)),
        remarks=tuple(dict.fromkeys(_remarks(orders, said, None in prices))),
        seconds=sum(order.route.seconds for order in lacking),
        no_faces=next((o.name for o in lacking if identities and o.route.sheet.get("people") == "refused"), ""),
    )


def _usually(order: Order, shop: Market) -> str:
    """How long it takes, by what the ledger has seen."""
    seconds = 0.0 if order.route.bought else shop.usual.get(order.name, 0.0)
    return f", usually in {seconds:.0f} s" if seconds else ""


def _given(identities: Mapping[str, str]) -> str:
    """What a host gets."""
    pictures = [name.replace("_", " ") for name in PICTURES if identities.get(name)]
    return " and ".join(["the prompt", *(f"the {name}" for name in pictures)])


def _remarks(orders: Sequence[Order], said: Mapping[str, Any], unknown: bool) -> list[str]:
    """What is worth telling before it is paid."""
    first = orders[0].route
    over = [reason for order in orders for reason in order.route.passed_over if not order.route.bought]
    told = [f"passed over: {reason}" for reason in grouped(over)]
    if unknown:
        told.append(f"what {first.sheet.name} will cost is not known, and the recipe buys it all the same")
    if first.dearer and not first.bought and first.price is not None:
        natively = ", ".join(f"{size} natively would cost {dollars(price)}" for size, price in first.dearer)
        told.append(f"{natively}; {dollars(first.price)} buys {first.size}, and an upscale costs no money")
    if said.get("loop"):
        how = "films the loop itself" if first.loops else "films no loop: its end is cross-faded into its beginning"
        told.append(f"{first.sheet.name} {how}")
    return told


# ---------------------------------------------------------------- the job


def looped(clip: Clip, *, length: Time = 0, loop: bool = False, **_: object) -> Clip:
    """A film that was to be a loop, made one where its model could not."""
    if not loop or dict(clip.history[-1].parameters).get("loop") == "native":
        return clip
    whole = cutting.trim(clip, length=seconds_of(length) + OVERLAP)
    return cutting.loop(whole, overlap=OVERLAP)


@job(promise_film, offer=offer_film, after=looped)
def generate(
    prompt: str = "",
    *,
    shot: Shot | None = None,
    reference: Path | None = None,
    last_frame: Path | None = None,
    frame: Frame,
    length: Time,
    model: tuple[str, ...] = (),
    prefer: Literal["", "cost", "quality", "speed"] = "",
    compare: tuple[str, ...] = (),
    takes: int = 1,
    pick: Pick = "auto",
    on_refusal: Literal["stop", "next"] = "stop",
    preflight: Literal["", "moderation"] = "",
    consent: Path | None = None,
    audio: bool = True,
    negative: str = "",
    loop: bool = False,
    seed: int | None = None,
    take: int = 1,
    folder: Path,
    shop: Market | None = None,
    keys: frozenset[str] = frozenset(),
    identities: Mapping[str, str] | None = None,
    inputs: Mapping[str, Clip] | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Clip:
    """Buy a film of `prompt`, at least `length` long, from the first of `model` that can make it.

    `shot` says the same in parts: subject, camera, lens, motion, light.
    `reference` becomes the first frame, `last_frame` the last: pictures of
    exactly the frame that the model sells (`prepare` makes one). In a recipe
    `frame` may be left open where the deliveries agree on one.

    model: names, or `auto`; then `prefer` says which: the cheapest that can,
    the best or the fastest. With `on_refusal: next` another is asked where
    one's policy refused. `compare` films with each of its models instead.

    `takes` films it several times, and `pick` keeps the best: `auto` is not
    black, not frozen, closest to the reference if there is one, sharpest.
    `take` 2 buys another film of the same request.

    `audio` false asks for a silent film, `negative` says what should not be
    seen; a model that cannot is refused before anything is sent. `loop` makes
    a seamless one, by the model where it can. `preflight: moderation` asks a
    moderation endpoint before anything is bought; `consent` is a file that
    says who agreed to be shown, and goes on record.

    Interrupted and called again, it takes up where it stood and pays once.
    The paid originals stay in AFTERFRAME_HOME.

    Raises InputError if no model can film it, ProviderRefused if the provider
    will not (policy is told from breakage), ProviderUnavailable if it cannot
    now, SubmissionUnknown if a human must look before money is spent, and
    ProvenanceError if what came was changed after it was signed.
    """
    ledger = open_ledger()
    state = state_folder(folder)
    shop = shop or open_market(ledger, state.parent)
    pictures = {name: file for name, file in (("reference", reference), ("last_frame", last_frame)) if file}
    shown = identities or {name: sha256(file) for name, file in pictures.items()}
    orders = orders_for(
        prompt, length=length, shop=shop, model=model, compare=compare, takes=takes, prefer=prefer,
        on_refusal=on_refusal, shot=shot, identities=shown, reference=reference, last_frame=last_frame,
        frame=frame, audio=audio, negative=negative, loop=loop, seed=seed, take=take,
    )  # fmt: skip
    if preflight:
        _ask_first(ledger, orders, tuple(pictures.values()))
    try:
        got = buy(ledger, orders, shop, state, keys, on_progress)
    except ProviderError as error:
        raise (error if len(orders) > 1 else strike(ledger, orders[0], error, shop, on_refusal)) from None
    best, remarks = hold(got, pick, reference, folder)
    assert best.original
    seen = tuple(_history(inputs, name) or (Action("open", file=file),) for name, file in pictures.items())
    made = made_by(best.order, length, orders, loop=loop, consent=consent)
    made = replace(made, file=best.original, inputs=seen)
    wanted = seconds_of(length) + (OVERLAP if loop and not best.order.route.loops else 0)
    clip = take_in(best.original, best.order.route, wanted, made, folder, reference=reference)
    return replace(clip, remarks=(*remarks, *clip.remarks))


def _ask_first(ledger: Ledger, orders: Sequence[Order], pictures: tuple[Path, ...]) -> None:
    """Ask the moderation endpoint, unless all is bought or on its way."""
    if not all(order.route.bought for order in orders):
        moderation.ask_moderation(orders[0].request.prompt, pictures)


def _history(inputs: Mapping[str, Clip] | None, name: str) -> History:
    return inputs[name].history if inputs and name in inputs else ()


def made_by(
    order: Order, length: Time, orders: Sequence[Order], *, loop: bool = False, consent: Path | None = None
) -> Action:
    """What goes on record of a film: who made it of what, and which purchases were made for it."""
    chosen = order.route
    said = {
        "prompt": order.request.prompt,
        "length": str(length),
        "seconds": str(chosen.seconds),
        "size": str(chosen.size),
        "model": chosen.sheet.name,
    }
    if loop:
        said["loop"] = "native" if chosen.loops else "cross-faded"
    if consent:
        said["consent"] = f"{consent.name} sha256:{sha256(consent)}"
    simulated = "SIMULATED " if chosen.sheet.facts.get("simulated") else ""
    bought = tuple(dict.fromkeys((order.key, *(each.key for each in orders))))
    return Action("generate", tuple(said.items()), f"{simulated}{chosen.sheet.name}", ai=True, bought=bought)
