"""Voices over the network: who may be asked, for how much, and what is never paid again."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

import presets
from stages.errors import InputError
from stages.hiring import Hired, line_key, offer_lines, sellers, voice_named
from stages.ledger import Purchase
from stages.market import Market, Place, read_models
from stages.voices import SpeechRequest

TODAY = date(2026, 11, 26)
SHOP = Market(TODAY, frozenset({"OPENAI_API_KEY"}), hosts={"openai-speech": "api.openai.com"})
LINE = SpeechRequest("Now in three colours: rose, citrus and mint.")


def hired(name: str, shop: Market = SHOP) -> Hired:
    voice = voice_named(name, shop)
    assert isinstance(voice, Hired)
    return voice


def why_not(name: str, request: SpeechRequest = LINE, shop: Market = SHOP) -> str:
    with pytest.raises(InputError) as refused:
        hired(name, shop).check(request)
    assert refused.value.parameter
    return str(refused.value)


def own(tmp_path: Path, text: str, shop: Market = SHOP) -> Market:
    """The shop as `models.yaml` makes it."""
    (tmp_path / "models.yaml").write_text(text, encoding="utf-8")
    said = read_models(tmp_path / "models.yaml")
    return replace(shop, voices=said.voices, places=said.places)


# ---------------------------------------------------------------- who speaks


@pytest.mark.parametrize("seller", [*presets.names("voices")])
def test_every_preset_says_what_a_line_costs_and_what_it_may_be(seller: str) -> None:
    sheet = presets.read("voices", seller)
    voice = Hired(sheet, "en-US-Neural2-F" if seller.startswith("google") else "x", SHOP, Path())
    assert voice.price(LINE) > 0
    assert voice.price(replace(LINE, text=2 * LINE.text)) > voice.price(LINE)
    assert sheet["characters"] > 0
    assert sheet["speed"][0] < 1 < sheet["speed"][1]
    assert sheet["word_times"] in ("none", "exact")
    assert voice.languages == tuple(language.lower() for language in voice.languages)


def test_a_seller_alone_means_the_first_of_its_voices() -> None:
    assert hired("openai").name == "openai:marin"
    assert hired("openai:cedar").name == "openai:cedar"


def test_what_a_line_costs_is_what_its_seller_asks() -> None:
    assert hired("openai-tts-1:nova").price(LINE) == Decimal("0.00066")  # 44 characters at $15 a million
    words = Decimal(44) / 17 / 60 * Decimal("0.015") + Decimal(44) * Decimal("0.00015") / 1000
    assert abs(hired("openai").price(LINE) - words) < Decimal("0.000002")  # by the minute, and its text
    assert hired("openai").price(replace(LINE, speed=2.0)) < hired("openai").price(LINE)


def test_what_it_cannot_do_is_told_before() -> None:
    assert why_not("openai:marim").startswith("openai has no voice 'marim' (did you mean marin?); there are marin")
    assert why_not("openai-tts-1:marin").startswith("openai-tts-1 has no voice 'marin'")
    assert "5000 characters are too many: openai takes 4096 at once (openai.yaml:" in why_not(
        "openai", replace(LINE, text="word " * 1000)
    )
    assert "openai speaks at 0.25 to 4 times its pace (openai.yaml:" in why_not("openai", replace(LINE, speed=5.0))
    assert "not 'tlh'" in why_not("openai", replace(LINE, language="tlh"))
    hired("openai").check(replace(LINE, language="pt-BR"))
    with pytest.raises(InputError, match=r"there is no voice 'opanai:marin' \(did you mean openai\?\); there are"):
        voice_named("opanai:marin", SHOP)


def test_a_key_that_is_missing_is_told_by_its_name() -> None:
    shop = replace(SHOP, keys=frozenset())
    assert why_not("openai", shop=shop) == "openai needs a key in OPENAI_API_KEY, which is not set"
    hired("openai", replace(shop, simulate=True)).check(LINE)


def test_a_voice_of_another_region_is_refused(tmp_path: Path) -> None:
    shop = replace(SHOP, region="eu")
    said = why_not("openai", shop=shop)
    assert said == (
        "openai does not say where it speaks, not in eu;"
        " `voices: {openai: {region: eu}}` in models.yaml says that it does"
    )
    hired("openai", own(tmp_path, "voices: {openai: {region: eu}}", shop)).check(LINE)
    hired("openai", replace(shop, places={"api.openai.com": Place("eu")})).check(LINE)
    assert "speaks in us, not in eu" in why_not("openai", shop=own(tmp_path, "voices: {openai: {region: us}}", shop))


# ---------------------------------------------------------------- servers of one's own


def test_a_server_of_ones_own_speaks_for_nothing_unless_it_says_a_price(tmp_path: Path) -> None:
    shop = own(tmp_path, "voices: {kokoro: {base_url: 'http://gpu:8880/v1', voices: [af_heart, am_adam]}}")
    voice = hired("kokoro", shop)
    assert (voice.name, voice.price(LINE)) == ("kokoro:af_heart", Decimal(0))
    assert voice.seller.facts["idempotent"] is True
    voice.check(replace(LINE, language="de"))
    assert offer_lines(voice, [LINE], shop).prices == ()
    assert offer_lines(voice, [LINE], shop).hosts == (("gpu", "the words"),)
    assert "has no voice 'af_bella'" in why_not("kokoro:af_bella", shop=shop)
    paid = own(tmp_path, "voices: {kokoro: {base_url: 'http://gpu:8880/v1', price: $0.002, voices: [a]}}")
    assert hired("kokoro", paid).price(replace(LINE, text="a" * 1000)) == Decimal("0.002")
    assert not hired("kokoro", paid).seller.facts.get("idempotent")


def test_a_server_that_nobody_knows_gets_no_words_unless_it_is_trusted(tmp_path: Path) -> None:
    line = "voices: {cheap: {base_url: 'https://cheap.example.com/v1', voices: [a]%s}}"
    assert "cheap would send words" in why_not("cheap", shop=own(tmp_path, line % ""))
    hired("cheap", own(tmp_path, line % ", trust_host: true")).check(LINE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("voices: [kokoro]", "voices: should be lines such as"),
        ("voices: {kokoro: af_heart}", "voices.kokoro: should say base_url:"),
        ("voices: {openia: {region: eu}}", "voices.openia: is no voice (did you mean openai?)"),
        ("voices: {openai: {regoin: eu}}", "voices.openai.regoin: is not known (did you mean region?)"),
        (
            "voices: {kokoro: {base_url: 'http://gpu/v1', voices: af}}",
            "voices.kokoro.voices: should be a list, not 'af'",
        ),
        ("voices: {kokoro: {base_url: 'http://gpu/v1', price: cheap}}", "voices.kokoro.price: should be an amount"),
    ],
)
def test_a_mistake_in_models_yaml_is_told_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError) as refused:
        own(tmp_path, text)
    assert words in str(refused.value)


# ---------------------------------------------------------------- what is bought


def test_a_line_is_known_by_what_was_asked_for_alone() -> None:
    """Written out: another value would pay everybody's lines anew."""
    assert line_key("openai:marin", LINE) == "314a086409b7c893ae42a978b472ee2e7e691476b132cd1a3b427a1731af5401"
    assert line_key("openai:marin", replace(LINE, seed=7)) == line_key("openai:marin", LINE)
    others = [{"text": "x"}, {"speed": 1.1}, {"take": 2}, {"language": "de"}]
    keys = [line_key("openai:marin", replace(LINE, **each)) for each in others]  # type: ignore[arg-type]
    assert len({line_key("openai:marin", LINE), line_key("openai:cedar", LINE), *keys}) == 6


def purchase(provider: str = "openai-speech", model: str = "gpt-4o-mini-tts", state: str = "DONE") -> Purchase:
    key, price = line_key("openai:marin", LINE), Decimal("0.01")
    return Purchase(key, 1, 1, state, provider, "api.openai.com", model, LINE.text, 0, "0x0", price)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "pays"),
    [
        (purchase(), False),
        (purchase(model="gpt-9-tts"), False),  # its model was another then
        (purchase(state="SENDING"), False),  # it may be paid already
        (purchase(state="REJECTED"), True),
        (purchase(provider="sim-speech"), True),  # nobody publishes a hum
    ],
)
def test_what_was_bought_is_not_paid_again(row: Purchase, pays: bool) -> None:
    shop = replace(SHOP, bought={row.key: (row,)})
    voice = hired("openai:marin", shop)
    offer = offer_lines(voice, [LINE, replace(LINE, text="Order today.")], shop)
    assert len(offer.prices) == 1 + pays
    assert offer.keys == (row.key, line_key("openai:marin", replace(LINE, text="Order today.")))
    keyless = replace(shop, keys=frozenset())
    if not pays:
        hired("openai:marin", keyless).check(LINE)
        assert offer_lines(voice, [LINE], shop).said == "what openai:marin said is bought already"


def test_an_installed_voice_is_offered_for_nothing() -> None:
    offer = offer_lines(voice_named("heart", SHOP), [LINE], SHOP)
    assert (offer.prices, offer.keys, offer.hosts, dict(offer.fills)) == ((), (), (), {})


def test_voices_of_the_project_come_last(tmp_path: Path) -> None:
    shop = own(tmp_path, "voices: {kokoro: {base_url: 'http://gpu/v1'}}")
    assert [*sellers(shop)][-1] == "kokoro"
    with pytest.raises(InputError, match="should say which voice of kokoro, as kokoro:NAME"):
        voice_named("kokoro", shop)
