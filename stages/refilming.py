"""Jobs on films that there are: `remix` films one anew, `extend` goes on from its end, `enlarge` has it enlarged
by a provider. Each is bought like a film: priced before, sent once, kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any, Literal

import presets
from stages.arrivals import take_in
from stages.buying import Order, buy, strike
from stages.clip import BT709, SAMPLE_RATE, Action, Clip, PictureFacts, Size, SoundFacts, Time, printed_seconds
from stages.errors import InputError, ProviderError
from stages.files import sha256, state_folder
from stages.framing import Target, target_frame
from stages.ledger import Purchase, open_ledger
from stages.market import Bought, Market, open_market
from stages.media import clip_from
from stages.money import dollars
from stages.providers import Footage, VideoRequest, Work
from stages.routing import Route, check_market, price_of, seconds_of
from stages.stage import Offer, job

Kind = Literal["remix", "extend", "upscale"]
VERBS: Mapping[Kind, str] = {"remix": "remixes films", "extend": "makes films longer", "upscale": "enlarges films"}

SPARE = Fraction(1, 5)
"""Seconds that a film may be longer than the length that it is billed as."""

SLACK = Fraction(1, 2)
"""Seconds by which a film that was worked on may be shorter than what was sent: providers count whole seconds."""


# ---------------------------------------------------------------- what is worked on


@dataclass(frozen=True, slots=True)
class Original:
    """The film that is worked on: its file, what it is, and where it was bought, if it was.

    `key` is the ledger's, `model` who filmed it; both are empty for a film of the user's own. `longer` is
    how often it was made longer already.
    """

    file: Path
    size: Size
    length: Fraction
    rate: Fraction
    key: str = ""
    model: str = ""
    longer: int = 0

    @classmethod
    def of(cls, clip: Clip) -> Original:
        """The film in `clip`. Raises InputError if it has no picture, or was edited since it was made."""
        if clip.picture is None:
            raise InputError("should be a film, not a sound", "of")
        last = clip.history[-1] if clip.history else Action("open")
        if clip.picture.scaler or clip.picture.captions or clip.picture.overlays:
            raise InputError("should be a film as it was bought: edit it afterwards", "of")
        try:
            file = clip.file
        except InputError:
            raise InputError("should be a film as it was bought: edit it afterwards", "of") from None
        key, model = next(iter(last.bought), ""), dict(last.parameters).get("model", "")
        longer, action = 0, last
        while action.name == "extend" and action.inputs:
            longer, action = longer + 1, action.inputs[0][-1]
        return cls(file, clip.picture.size, clip.picture.duration, clip.picture.rate, key, model, longer)


@dataclass(frozen=True, slots=True)
class Commission:
    """What is to be done to a film: by what words, for how many seconds more, to which size."""

    work: Kind
    prompt: str = ""
    more: Fraction = Fraction(0)
    size: Size | None = None
    seed: int | None = None
    take: int = 1


def work_key(asked: Commission, original: str) -> str:
    """What is bought, as a hash: what is done, and to which film by its own key or identity. Nothing else."""
    size = str(asked.size) if asked.size else ""
    said = [asked.work, original, asked.prompt, str(asked.more), size, asked.seed, asked.take]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def order_for(asked: Commission, film: Original, models: Sequence[str], shop: Market, identity: str) -> Order:
    """Who does it, and for how much: the first of `models`, or the one that filmed it. Pure.

    Raises InputError with what is wrong with each of them.
    """
    key = work_key(asked, film.key or identity)
    reasons: list[InputError] = []
    names = _asked(models, film, shop)
    for name in names:
        sheet = shop.sheet(shop.mapping.get(name, name))
        try:
            check_market(sheet, name, shop)
            route = _route(asked, film, sheet, shop)
        except InputError as error:
            reasons.append(error)
            continue
        done = _done(key, sheet, shop)
        if done:
            route = replace(route, bought=done, price=done.price, seconds=done.seconds)
        footage = Footage(film.file, _job_id(film, sheet, shop))
        request = VideoRequest(
            asked.prompt, sheet["model"], route.size, route.seconds, seed=asked.seed, work=asked.work, footage=footage
        )
        return Order(route, request, key, _by(sheet))
    if not reasons:
        raise InputError(f"should name a model that {VERBS[asked.work]}: {_who(asked.work, shop)}", "model")
    struck = [shop.struck[name] for name in names if name in shop.struck]
    raise (
        struck[-1]
        if struck
        else InputError("; ".join(map(str, reasons)), reasons[0].parameter if len(reasons) == 1 else "model")
    )


def _asked(models: Sequence[str], film: Original, shop: Market) -> Sequence[str]:
    """The models to ask, by name: with --sim no other than the simulator, whoever is named."""
    if shop.simulate and (models or film.model):
        return [film.model if film.model and shop.sheet(film.model).facts.get("simulated") else "sim"]
    return models or ([film.model] if film.model else [])


def _by(sheet: presets.Sheet) -> Callable[[Purchase], bool]:
    """Whether a purchase was made from that model."""
    return lambda row: (row.provider, row.model) == (sheet.facts["provider"], sheet["model"])


def _who(work: Kind, shop: Market) -> str:
    return ", ".join(sheet.name for sheet in shop.sheets() if does(work, sheet)) or "none is known"


def does(work: Work, sheet: presets.Sheet) -> bool:
    """Whether a model does such work."""
    return bool(sheet.get(work)) or work in sheet.get("works", [])


def _route(asked: Commission, film: Original, sheet: presets.Sheet, shop: Market) -> Route:
    """What the model would do, and for how much. Raises InputError with why it cannot."""
    if not does(asked.work, sheet):
        raise InputError(f"{sheet.name} is none that {VERBS[asked.work]}; such are: {_who(asked.work, shop)}", "model")
    limit = sheet.get("prompt_limit")
    if limit and len(asked.prompt) > limit:
        raise InputError(f"{len(asked.prompt)} characters; {sheet.name} takes {limit}", "prompt")
    if asked.seed is not None and sheet.get("seed") is False:
        raise InputError(f"{sheet.name} takes no seed ({sheet.place('seed')})", "seed")
    _check_source(film, sheet, shop)
    size = asked.size or film.size
    sizes = [Size.parse(text) for text in sheet.get(f"{asked.work}_sizes") or sheet["sizes"]]
    if size not in sizes:
        raise InputError(f"{sheet.name} makes {', '.join(map(str, sizes))}, not {size}", "size" if asked.size else "of")
    seconds = _added(asked, film, sheet) if asked.work == "extend" else _whole(film, sheet)
    price = _price(sheet, size, seconds, film)
    if price is None and not shop.purse.unknown_price:
        raise InputError(f"{sheet.name} at {size}: its price is not known ({sheet.file.name})", "model")
    return Route(sheet, size, seconds, price)


def _price(sheet: presets.Sheet, size: Size, seconds: int, film: Original) -> Decimal | None:
    """US dollars, by the frame where that is how it is sold, else by the second; at least what it costs at least."""
    by_frame = sheet.get(f"price_frame.{size}")
    each = price_of(sheet, size)
    if by_frame is not None:
        price = Decimal(str(by_frame)) * ceil(film.length * film.rate)
    elif each is not None:
        price = each * seconds
    else:
        return None
    return max(price, Decimal(str(sheet.get("price_minimum") or 0)))


def _added(asked: Commission, film: Original, sheet: presets.Sheet) -> int:
    """How many seconds are bought: the fewest that are enough."""
    sold = sorted(sheet["extend"])
    lengths = [each for each in sold if each >= asked.more]
    if not lengths:
        raise InputError(
            f"{sheet.name} goes on for at most {sold[-1]} s, not {printed_seconds(asked.more)} s", "length"
        )
    times, whole = sheet.get("extend_times"), sheet.get("extend_limit")
    if times and film.longer >= times:
        raise InputError(f"{sheet.name} makes a film longer {times} times at most, and this was {film.longer}", "of")
    if whole and film.length + lengths[0] > whole:
        said = f"{printed_seconds(film.length)} s and {lengths[0]} s more"
        raise InputError(f"{sheet.name} makes films of at most {whole} s, and {said} are longer", "length")
    return int(lengths[0])


def _whole(film: Original, sheet: presets.Sheet) -> int:
    """The seconds that are billed for the whole film; a few frames more than it was sold with cost nothing."""
    sold = [each for each in sorted(sheet["seconds"]) if each >= film.length - SPARE]
    if not sold:
        raise InputError(f"{sheet.name} takes films of at most {max(sheet['seconds'])} s", "of")
    return int(sold[0])


def _check_source(film: Original, sheet: presets.Sheet, shop: Market) -> None:
    """Raise InputError for a film that the model does not take."""
    if sheet.get("footage") == "own" and not _is_own(film, sheet, shop):
        whose = f"{film.model} filmed this" if film.model else "this is a file of your own"
        raise InputError(f"{sheet.name} works on its own films only ({sheet.place('footage')}); {whose}", "model")
    shortest, longest = sheet.get("source_seconds") or (0, 10**6)
    if not shortest <= film.length <= longest:
        said = f"films of {shortest} to {longest} s ({sheet.place('source_seconds')})"
        raise InputError(f"{sheet.name} takes {said}, not of {printed_seconds(film.length)} s", "of")
    lines, rate = sheet.get("source_lines"), sheet.get("source_rate")
    if lines and min(film.size.width, film.size.height) > lines:
        raise InputError(f"{sheet.name} takes films of at most {lines} lines, not {film.size}", "of")
    if rate and film.rate > rate:
        raise InputError(f"{sheet.name} takes at most {rate} frames a second, not {float(film.rate):g}", "of")


def _is_own(film: Original, sheet: presets.Sheet, shop: Market) -> bool:
    """Whether the same account filmed it; of a film that is yet to be bought, its model tells."""
    if not film.model or shop.sheet(film.model).facts["provider"] != sheet.facts["provider"]:
        return False
    return bool(_job_id(film, sheet, shop)) or not any(row.state == "DONE" for row in shop.bought.get(film.key, ()))


def _job_id(film: Original, sheet: presets.Sheet, shop: Market) -> str:
    """The provider's id of the job that made the film, where it was its own."""
    if not film.model:
        return ""
    maker = shop.sheet(film.model)
    who = maker.facts["provider"], maker["model"]
    rows = [row for row in shop.bought.get(film.key, ()) if (row.provider, row.model) == who and row.state == "DONE"]
    return rows[-1].job_id if rows and who[0] == sheet.facts["provider"] else ""


def _done(key: str, sheet: presets.Sheet, shop: Market) -> Purchase | None:
    """What was bought already under that key, from that model."""
    rows = filter(_by(sheet), shop.bought.get(key, ()))
    return next((row for row in rows if row.state in ("ACCEPTED", "DONE", "SENDING")), None)


# ---------------------------------------------------------------- what every one of them promises, offers and does


def _promised(
    asked: Commission, of: Clip, model: Sequence[str], shop: Market, identities: Mapping[str, str] | None
) -> Clip:
    film = Original.of(of)
    order = order_for(asked, film, model, shop, (identities or {}).get("of", ""))
    length = film.length + (order.route.seconds if asked.work == "extend" else 0)
    rate = Fraction(str(order.route.sheet.get("rate") or film.rate))
    frames = round(length * rate)
    picture = PictureFacts(order.route.size, order.route.size, rate, frames, "h264", "High", colour=BT709)
    sound = SoundFacts("aac", "LC", SAMPLE_RATE, 2, "stereo", round(length * SAMPLE_RATE))
    silent = order.route.sheet.get("audio", "never") == "never"
    clip = clip_from(Path("film.mp4"), picture, None if silent else sound, promised=True)
    return replace(clip, history=(_made_by(order, asked, of),))


def _offered(asked: Commission, of: Clip, model: Sequence[str], shop: Market, identities: Mapping[str, str]) -> Offer:
    film = Original.of(of)
    order = order_for(asked, film, model, shop, identities.get("of", ""))
    route, owned = order.route, bool(order.route.bought)
    what = "the film" if not order.request.footage or not order.request.footage.job_id else "the name of its film"
    gets = f"{what} and the prompt" if asked.prompt else what
    priced = "for a price that nobody knows" if route.price is None else dollars(route.price)
    does_it = f"{route.sheet.name} {VERBS[asked.work]}: {route.seconds} s, {route.size}, {priced}"
    host = shop.host(route.sheet)
    return Offer(
        () if owned else (route.price,),
        {"shop": shop, "identities": identities},
        {},
        f"{route.seconds} s by {route.sheet.name} are bought already" if owned else does_it,
        simulated=bool(route.sheet.facts.get("simulated")),
        keys=(order.key,),
        hosts=((host, gets),) if host and not owned else (),
        seconds=0 if owned else route.seconds,
    )


def _carried_out(
    asked: Commission,
    of: Clip,
    model: Sequence[str],
    folder: Path,
    shop: Market | None,
    keys: frozenset[str],
    identities: Mapping[str, str] | None,
    on_progress: Callable[[float], None],
) -> Clip:
    ledger, state = open_ledger(), state_folder(folder)
    shop = shop or open_market(ledger, state.parent)
    film = Original.of(of)
    # The snapshot may be older than the film: its job is known to the ledger by now.
    shop = replace(shop, bought=Bought(ledger)) if film.key else shop
    order = order_for(asked, film, model, shop, (identities or {}).get("of") or sha256(film.file))
    try:
        (got,) = buy(ledger, [order], shop, state, keys, on_progress)
    except ProviderError as error:
        raise strike(ledger, order, error, shop, "stop") from None
    assert got.original
    made = replace(_made_by(order, asked, of), file=got.original, inputs=(of.history,))
    return take_in(got.original, order.route, film.length + asked.more - SLACK, made, folder)


def _made_by(order: Order, asked: Commission, of: Clip) -> Action:
    """What goes on record: who did what, in which words."""
    sheet = order.route.sheet
    said = {
        "prompt": asked.prompt,
        "more": printed_seconds(asked.more) if asked.more else "",
        "seconds": str(order.route.seconds),
        "size": str(order.route.size),
        "model": sheet.name,
    }
    simulated = "SIMULATED " if sheet.facts.get("simulated") else ""
    paid = (order.key, *(key for action in of.history for key in action.bought))
    given = tuple((key, text) for key, text in said.items() if text)
    return Action(asked.work, given, f"{simulated}{sheet.name}", ai=True, bought=tuple(dict.fromkeys(paid)))


# ---------------------------------------------------------------- the jobs

Asked = Callable[..., Commission]
"""From a job's arguments, the film first, to what is asked for."""


def _promising(asked: Asked) -> Callable[..., Clip]:
    """What such a job promises: the film that it will buy."""

    def promise(
        of: Clip, *, shop: Market, model: tuple[str, ...] = (), identities: Mapping[str, str] | None = None, **said: Any
    ) -> Clip:
        return _promised(asked(of, **said), of, model, shop, identities)

    return promise


def _offering(asked: Asked) -> Callable[..., Offer]:
    """Who would do such a job, and for how much."""

    def offer(
        of: Clip, *, shop: Market, identities: Mapping[str, str], model: tuple[str, ...] = (), **said: Any
    ) -> Offer:
        return _offered(asked(of, **said), of, model, shop, identities)

    return offer


def _remixing(_: Clip, *, prompt: str, seed: int | None = None, take: int = 1) -> Commission:
    if not prompt.strip():
        raise InputError("is empty", "prompt")
    return Commission("remix", prompt, seed=seed, take=take)


@job(_promising(_remixing), offer=_offering(_remixing))
def remix(
    of: Clip,
    *,
    prompt: str,
    model: tuple[str, ...] = (),
    seed: int | None = None,
    take: int = 1,
    folder: Path,
    shop: Market | None = None,
    keys: frozenset[str] = frozenset(),
    identities: Mapping[str, str] | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Clip:
    """Film a bought film anew as `prompt` says: what moves where stays, what it looks like changes.

    By the model that filmed it, or the first of `model` that can. The film
    that it is made from becomes an ingredient. Raises as `generate` does.
    """
    asked = _remixing(of, prompt=prompt, seed=seed, take=take)
    return _carried_out(asked, of, model, folder, shop, keys, identities, on_progress)


def _extending(of: Clip, *, length: Time, prompt: str = "", take: int = 1) -> Commission:
    said = (dict(action.parameters).get("prompt", "") for action in reversed(of.history))
    words = prompt or next(filter(None, said), "")
    return Commission("extend", words, more=seconds_of(length), take=take)


@job(_promising(_extending), offer=_offering(_extending))
def extend(
    of: Clip,
    *,
    length: Time,
    prompt: str = "",
    model: tuple[str, ...] = (),
    take: int = 1,
    folder: Path,
    shop: Market | None = None,
    keys: frozenset[str] = frozenset(),
    identities: Mapping[str, str] | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Clip:
    """Go on from the end of a bought film for at least `length` more; the result is the whole.

    `prompt` says what happens then; left open, it is what was asked for last. By the
    model that filmed it, or the first of `model` that can. Raises as `generate` does.
    """
    asked = _extending(of, length=length, prompt=prompt, take=take)
    return _carried_out(asked, of, model, folder, shop, keys, identities, on_progress)


def _enlarging(of: Clip, *, size: Size | str, take: int = 1) -> Commission:
    frame = target_frame(of.picture.frame, size) if of.picture else None
    return Commission("upscale", size=frame, take=take)


@job(_promising(_enlarging), offer=_offering(_enlarging))
def enlarge(
    of: Clip,
    *,
    size: Target,
    model: tuple[str, ...],
    take: int = 1,
    folder: Path,
    shop: Market | None = None,
    keys: frozenset[str] = frozenset(),
    identities: Mapping[str, str] | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Clip:
    """Have a film enlarged to `size` by a provider, which costs money; `upscale` does it here for none.

    By the first of `model` that can. In a recipe `upscale: {engine: runway, size: 4k}` means this, by the models
    that the provider sells. Raises as `generate` does.
    """
    asked = _enlarging(of, size=size, take=take)
    return _carried_out(asked, of, model, folder, shop, keys, identities, on_progress)
