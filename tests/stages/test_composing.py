"""Who makes a sound, for how much, and what is sent for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from lab import sound_of

from stages.choosing import Choice
from stages.clip import Size
from stages.composing import Kind, Wish, choose_for, cut_to_length, offer_sound, promise_sound, sound_key
from stages.errors import InputError
from stages.market import Market
from stages.providers import VideoRequest
from stages.providers.effects import said

OPEN = Market(date(2026, 11, 26))
WITH_KEY = replace(OPEN, keys=frozenset({"ELEVENLABS_API_KEY"}))
RAIN = Wish("foley", "rain on a tin roof", Fraction(5, 2))


def who(*models: str, shop: Market = WITH_KEY, **asked: Any) -> Choice:
    return choose_for(replace(RAIN, **asked), models, shop)


def why_not(*models: str, shop: Market = WITH_KEY, **asked: Any) -> str:
    with pytest.raises(InputError) as raised:
        who(*models, shop=shop, **asked)
    return str(raised.value)


@pytest.mark.parametrize(
    ("kind", "length", "name", "price"),
    [
        ("foley", Fraction(5, 2), "elevenlabs-sfx", "0.12"),
        ("score", Fraction(60), "elevenlabs-music", "0.75"),
        ("score", Fraction(61), "elevenlabs-music", "1.50"),
    ],
)
def test_if_none_is_named_the_one_that_makes_such_sounds_does(
    kind: Kind, length: Fraction, name: str, price: str
) -> None:
    choice = who(kind=kind, length=length)
    assert (choice.model.name, choice.price) == (name, Decimal(price))


def test_what_nobody_makes_is_refused_with_what_is_wrong() -> None:
    assert "elevenlabs-sfx makes at most 30s (elevenlabs-sfx.yaml:9), not 31 s" in why_not(length=Fraction(31))
    assert "makes at least 0.5s" in why_not(length=Fraction(2, 5))
    assert "elevenlabs-music makes score, not foley" in why_not("elevenlabs-music")
    assert "there is no model 'elevenlab-sfx' that makes sounds (did you mean elevenlabs-sfx?)" in why_not(
        "elevenlab-sfx"
    )
    assert "needs a key in ELEVENLABS_API_KEY" in why_not(shop=OPEN)
    assert "makes at most 30s" in why_not(shop=OPEN, length=Fraction(31))  # which no key would mend
    assert why_not(prompt=" ") == "is empty"
    assert "a simulator plays only when it is named alone" in why_not("sim", "elevenlabs-sfx")


def test_a_sound_is_not_counted_in_frames() -> None:
    with pytest.raises(InputError, match="a sound has no frames: give its length in seconds, not 60f"):
        promise_sound("foley", "rain", length="60f", shop=WITH_KEY)


def test_the_simulator_plays_when_it_is_named_or_asked_for() -> None:
    assert who("sim", shop=OPEN).simulated
    assert who(shop=replace(OPEN, simulate=True)).model.name == "sim"


def test_a_sound_is_known_by_what_was_asked_for() -> None:
    keys = [RAIN, replace(RAIN, kind="score"), replace(RAIN, length=Fraction(3)), replace(RAIN, take=2)]
    assert len({sound_key(one) for one in keys}) == 4
    # Frozen: another would buy again what is owned.
    assert sound_key(RAIN) == sound_key(Wish("foley", "rain on a tin roof", Fraction("2.5"), 1))


def test_what_is_promised_is_as_long_as_asked_and_offered_for_its_price() -> None:
    made = promise_sound("score", "strings", length="3s", shop=WITH_KEY)
    assert sound_of(made).samples == 144_000
    assert made.promised
    assert made.history[0].ai
    offer = offer_sound("foley", "rain", length="2.5s", shop=WITH_KEY)
    assert (offer.prices, offer.said) == ((Decimal("0.12"),), "elevenlabs-sfx makes 2.5 s, $0.12")
    assert offer.hosts == ()  # nobody looked where it is


def test_a_sound_that_came_longer_is_cut() -> None:
    made = promise_sound("score", "strings", length="3s", shop=WITH_KEY)
    assert sound_of(cut_to_length(made, length="2.9s")).samples == 139_200
    assert cut_to_length(made, length="3s") is made


def test_what_is_sent_is_what_the_protocol_says() -> None:
    asked = VideoRequest("rain", "eleven_text_to_sound_v2", Size(0, 0), 0, work="foley", options=(("length", "5/2"),))
    assert said(asked) == (
        "sound-generation?output_format=mp3_44100_128",
        {"text": "rain", "duration_seconds": 2.5, "model_id": "eleven_text_to_sound_v2"},
    )
    place, fields = said(replace(asked, work="score", model="music_v2"))
    assert place.startswith("music?")
    assert (fields["music_length_ms"], fields["force_instrumental"]) == (2500, True)
    with pytest.raises(InputError, match="makes sounds, and cannot draw"):
        said(replace(asked, work="draw"))
