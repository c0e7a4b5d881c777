"""`foley` and `score`: from a sentence to a bought sound, an effect or music, for films that are silent.

What it costs is known before, and the same sound is never bought twice, as
with films and pictures (`stages/drawing.py`, `stages/ledger.py`). `mix_audio`,
`replace_audio` and `music` take what comes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, Literal

import presets
from stages.attesting import as_sent, roots, vouched
from stages.choosing import NO_SIZE, Choice, Named, bought, check_wish, choose
from stages.clip import SAMPLE_RATE, Action, Clip, Frames, Sound, SoundFacts, Time, parse_time, printed_seconds, seconds
from stages.cutting import trim
from stages.errors import InputError, ProviderRefused
from stages.files import state_folder
from stages.ledger import open_ledger
from stages.market import Market, open_market
from stages.media import clip_from, probe
from stages.providers import VideoRequest
from stages.providers.effects import LENGTH
from stages.routing import check_market
from stages.stage import Offer, job, nearest

Kind = Literal["foley", "score"]

# ---------------------------------------------------------------- what is asked, and who makes it


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for, whoever makes it."""

    kind: Kind
    prompt: str
    length: Fraction
    take: int = 1


def sound_key(asked: Wish) -> str:
    """What is bought, as a hash of what was asked for: not of the model or the price."""
    said = [asked.kind, asked.prompt, str(asked.length), *([asked.take] if asked.take != 1 else [])]
    return hashlib.sha256(json.dumps(["sound", *said]).encode()).hexdigest()


def choose_for(asked: Wish, models: Sequence[str], shop: Market) -> Choice:
    """The first of `models` that can make this, or the one that already did; if none is named, the cheapest of all.

    Raises InputError with what is wrong with each of them.
    """
    check_wish(asked.prompt, asked.take)

    def offer(name: str, model: presets.Sheet) -> Choice:
        return _offer(name, model, asked, shop)

    return choose(named(models, asked.kind, shop), sound_key(asked), offer, shop, by_name=bool(models))


def named(models: Sequence[str], kind: Kind, shop: Market) -> Named:
    """The presets of the models that were asked for, of all that make such sounds if none was."""
    if shop.simulate:
        return [("sim", presets.read("sounds", "sim"))]
    known = {name: presets.read("sounds", name) for name in presets.names("sounds")}
    if not models:
        return [(name, sheet) for name, sheet in known.items() if sheet.facts["makes"] == kind]
    for name in models:
        if name not in known:
            there = f"there are {', '.join(known)}"
            raise InputError(f"there is no model '{name}' that makes sounds{nearest(name, known)}; {there}", "model")
    if len(models) > 1 and any(known[name].facts.get("simulated") for name in models):
        raise InputError("a simulator plays only when it is named alone, or with --sim", "model")
    return [(name, known[name]) for name in models]


def _offer(name: str, model: presets.Sheet, asked: Wish, shop: Market) -> Choice:
    if model.facts["makes"] not in (asked.kind, "both"):
        raise InputError(f"{model.name} makes {model.facts['makes']}, not {asked.kind}", "model")
    for key, word in (("length_min", "at least"), ("length_max", "at most")):
        limit = seconds(model[key], Fraction(1))
        if asked.length < limit if key == "length_min" else asked.length > limit:
            said = f"{model.name} makes {word} {model[key]} ({model.place(key)}), not {printed_seconds(asked.length)} s"
            raise InputError(said, "length")
    check_market(model, name, shop)
    return Choice(model, Decimal(model["price_each"]) + Decimal(model["price_minute"]) * ceil(asked.length / 60))


# ---------------------------------------------------------------- promised, offered


def _wish(kind: Kind, prompt: str, length: Time, take: int = 1) -> Wish:
    parsed = parse_time(length) if isinstance(length, str) else length
    if isinstance(parsed, Frames):
        raise InputError(f"a sound has no frames: give its length in seconds, not {parsed.count}f", "length")
    return Wish(kind, prompt, Fraction(parsed), take)


def promise_sound(
    kind: Kind, prompt: str, *, length: Time, model: Sequence[str] = (), take: int = 1, shop: Market, **_: Any
) -> Clip:
    """The sound that `foley` or `score` will buy, as its model's preset describes it."""
    asked = _wish(kind, prompt, length, take)
    choice = choose_for(asked, model, shop)
    facts = SoundFacts("mp3", "", SAMPLE_RATE, 2, "stereo", round(asked.length * SAMPLE_RATE))
    opened = clip_from(Path(f"{kind}.mp3"), None, facts, promised=True)
    return replace(opened, history=(_action(choice, asked, None),))


def offer_sound(
    kind: Kind, prompt: str, *, length: Time, model: Sequence[str] = (), take: int = 1, shop: Market, **_: Any
) -> Offer:
    """Who would make it, for how much, under which key. Nothing is sent."""
    asked = _wish(kind, prompt, length, take)
    choice = choose_for(asked, model, shop)
    host = "" if choice.bought else shop.host(choice.model)
    return Offer(
        () if choice.bought else (choice.price,),
        {"shop": shop},
        {},
        choice.said("a sound", f"makes {printed_seconds(asked.length)} s"),
        simulated=choice.simulated,
        keys=(sound_key(asked),),
        hosts=((host, "the prompt"),) if host else (),
    )


def cut_to_length(clip: Clip, *, length: Time, **_: Any) -> Clip:
    """The sound cut to what was asked for: MP3 comes in whole packets, so that it is a little longer."""
    wanted = round(seconds(length, Fraction(SAMPLE_RATE)) * SAMPLE_RATE)
    return trim(clip, length=length) if clip.sound and clip.sound.samples > wanted else clip


# ---------------------------------------------------------------- the jobs


@job(partial(promise_sound, "foley"), offer=partial(offer_sound, "foley"), after=cut_to_length)
def foley(
    prompt: str,
    *,
    length: Time,
    model: tuple[str, ...] = (),
    take: int = 1,
    folder: Path,
    shop: Market | None = None,
    keys: frozenset[str] = frozenset(),
) -> Clip:
    """Buy the sound of `prompt`, an effect or the noise of a place, `length` long.

    It is made by the first of `model` that can; if none is named, by the
    cheapest. `take` 2 buys another sound of the same request. Interrupted and
    called again, it takes up where it stood and pays once. The paid original
    stays in AFTERFRAME_HOME.

    Raises InputError if no model can make it, ProviderRefused if the provider
    will not, ProviderUnavailable if it cannot now, and SubmissionUnknown if a
    human must look before money is spent.
    """
    return _bought(_wish("foley", prompt, length, take), model, folder, shop, keys)


@job(partial(promise_sound, "score"), offer=partial(offer_sound, "score"), after=cut_to_length)
def score(
    prompt: str,
    *,
    length: Time,
    model: tuple[str, ...] = (),
    take: int = 1,
    folder: Path,
    shop: Market | None = None,
    keys: frozenset[str] = frozenset(),
) -> Clip:
    """Buy instrumental music as `prompt` describes it, `length` long; `music` lays it under a film.

    All else is as with `foley`.
    """
    return _bought(_wish("score", prompt, length, take), model, folder, shop, keys)


def _bought(asked: Wish, models: Sequence[str], folder: Path, shop: Market | None, keys: frozenset[str]) -> Clip:
    state = state_folder(folder)
    shop = shop or open_market(open_ledger(), state.parent)
    choice = choose_for(asked, models, shop)
    request = VideoRequest(
        asked.prompt, choice.model["model"], NO_SIZE, 0, work=asked.kind, options=((LENGTH, str(asked.length)),)
    )
    original = bought(choice, request, sound_key(asked), named(models, asked.kind, shop), shop, state, keys)
    return _taken_in(original, choice, asked, folder)


def _action(choice: Choice, asked: Wish, file: Path | None) -> Action:
    told = (("prompt", asked.prompt), ("length", f"{printed_seconds(asked.length)}s"))
    return Action(asked.kind, told, choice.agent, file, ai=True, bought=(sound_key(asked),))


SHORT = Fraction(1, 10)
"""Seconds by which a sound may be shorter than asked without a word."""


def _taken_in(original: Path, choice: Choice, asked: Wish, folder: Path) -> Clip:
    """Check what came, read its credentials before anything touches it, and archive them."""
    name = choice.model.name
    with as_sent(name, original):
        _, facts = probe(original)
    if facts is None:
        raise ProviderRefused(f"{name} sent a file without sound; it is kept in {original}", "lost")
    made = _action(choice, asked, original)
    file = vouched(original, made, folder, clip=clip_from(original, None, facts), anchors=roots(original, folder))
    clip = clip_from(file, None, facts)
    assert isinstance(clip.sound, Sound)
    lacks = asked.length - clip.sound.duration
    remark = f"{name} sent {printed_seconds(clip.sound.duration)} s of sound, not {printed_seconds(asked.length)} s"
    return replace(clip, history=(replace(made, file=file),), remarks=(remark,) if lacks > SHORT else ())
