"""What is for sale: what a project says of models and hosts, who may have its words, and where everything is."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

import presets
from stages.buying import by_tier
from stages.errors import InputError, ProviderRefused, ProviderUnavailable
from stages.ledger import Purchase, open_ledger
from stages.market import Market, Place, for_recipe, is_here, is_near, open_market, owner, read_models
from stages.purse import Allowance, Purse
from stages.routing import Route, Wish, route

TODAY = date(2026, 11, 26)
KEYS = frozenset({"RUNWAYML_API_SECRET", "LUMA_AGENTS_API_KEY", "FAL_KEY"})
HOSTS = {"runway": "api.dev.runwayml.com", "luma": "agents.lumalabs.ai", "fal": "queue.fal.run"}
SHOP = Market(TODAY, KEYS, hosts=HOSTS)


def who(*models: str, shop: Market = SHOP, wish: Wish = Wish("a rose", "16:9"), length: str = "5", **how: str) -> Route:
    """Who films it."""
    return route(models, wish, Fraction(length), shop, **how)  # type: ignore[arg-type]  # prefer and on_refusal, as text


def why_not(*models: str, shop: Market = SHOP) -> str:
    """Why nobody does."""
    with pytest.raises(InputError) as raised:
        who(*models, shop=shop)
    return str(raised.value)


def models(tmp_path: Path, text: str, shop: Market = SHOP) -> Market:
    """The shop as `models.yaml` makes it."""
    file = tmp_path / "models.yaml"
    file.write_text(text, encoding="utf-8")
    own = read_models(file)
    return replace(shop, mapping=own.mapping, own=own.sheets, places=own.places)


# ---------------------------------------------------------------- choosing


def test_auto_takes_the_cheapest_that_can_and_says_so() -> None:
    chosen = who("auto")
    offers = [who(sheet.name) for sheet in SHOP.sheets() if _can(sheet.name)]
    assert len(offers) > 3
    assert chosen.price == min(offer.price for offer in offers if offer.price is not None)
    assert chosen.why == f"the cheapest of the {len(offers)} that can"
    assert not chosen.sheet.facts.get("simulated")
    assert any("needs a key" in reason for reason in chosen.passed_over)
    assert not any("closed" in reason for reason in chosen.passed_over), "what closed is no candidate"


def test_models_that_lack_the_same_key_are_told_as_one() -> None:
    with pytest.raises(InputError) as raised:
        who("auto", shop=replace(SHOP, keys=frozenset()))
    said = str(raised.value)
    assert said.count("RUNWAYML_API_SECRET") == 1
    assert "runway-gen4.5, runway-seedance-2" in said
    assert "need a key in RUNWAYML_API_SECRET, which is not set" in said


def _can(name: str) -> bool:
    sheet = SHOP.sheet(name)
    if sheet.facts.get("simulated"):
        return False
    try:
        who(name)
    except InputError:
        return False
    return True


def test_auto_prefers_quality_or_speed() -> None:
    best, fastest = who("auto", prefer="quality"), who("auto", prefer="speed")
    known = {sheet.name: sheet.get("quality") or 0 for sheet in SHOP.sheets() if _can(sheet.name)}
    assert known[best.sheet.name] == max(known.values())
    assert best.why.startswith("the best of the ")
    times = {sheet.name: sheet["typical"] for sheet in SHOP.sheets() if _can(sheet.name)}
    assert times[fastest.sheet.name] == min(times.values())
    slowest = max(times, key=lambda name: times[name])
    seen = replace(SHOP, usual={slowest: 1.0})  # what the ledger saw counts more than what is published
    assert who("auto", prefer="speed", shop=seen).sheet.name == slowest


def test_a_list_may_be_preferred_among_too() -> None:
    pair = ("runway-veo-3.1", "luma-ray-3.2")
    assert who(*pair).sheet.name == "runway-veo-3.1", "without a preference the first"
    assert who(*pair, prefer="cost").sheet.name == "luma-ray-3.2"


def test_auto_films_with_the_simulator_only_under_sim() -> None:
    assert who("auto", shop=replace(SHOP, simulate=True)).sheet.facts["simulated"]


def test_what_natively_larger_pixels_would_cost_is_known() -> None:
    chosen = who("luma-ray-3.2")
    assert [str(size) for size, _ in chosen.dearer] == ["1280x720", "1920x1080"]
    assert chosen.dearer[-1][1] == Decimal("0.24") * 5


def test_a_model_that_is_too_dear_gives_way_and_alone_is_shown() -> None:
    purse = Purse(each=Decimal("1.50"))
    poor = replace(SHOP, purse=purse)
    assert who("runway-veo-3.1", "luma-ray-3.2", shop=poor).sheet.name == "luma-ray-3.2"
    assert "the budget for each purchase is $1.50" in " ".join(
        who("runway-veo-3.1", "luma-ray-3.2", shop=poor).passed_over
    )
    assert who("runway-veo-3.1", shop=poor).price == Decimal("2.40"), "the plan says by how much it is over"


def test_what_has_no_price_is_bought_only_if_the_recipe_says_so(tmp_path: Path) -> None:
    text = "mine: {base_url: http://gpu:8091/v1, seconds: [5], sizes: [1280x720]}"
    shop = models(tmp_path, text)
    assert "unknown_price: pay" in why_not("mine", shop=shop)
    bold = replace(shop, purse=Purse(unknown_price=True))
    assert who("mine", shop=bold).price is None
    assert "for a price that nobody knows" in who("mine", shop=bold).said(Fraction(5))


# ---------------------------------------------------------------- what failed


REFUSED = Purchase(
    "key", 1, 3, "REJECTED", "runway", "api.dev.runwayml.com", "veo3.1", "a rose", 6, "1280x720", Decimal(0),
    failure="moderation_input", text="no roses",
)  # fmt: skip


def test_what_a_policy_refused_goes_to_another_model_only_if_asked() -> None:
    pair = ("runway-veo-3.1", "luma-ray-3.2")
    wish = Wish("a rose", "16:9")
    stops = route(pair, wish, Fraction(5), SHOP, [REFUSED])
    goes_on = route(pair, wish, Fraction(5), SHOP, [REFUSED], on_refusal="next")
    assert (stops.sheet.name, goes_on.sheet.name) == pair
    assert "refused it by its content policy (no roses)" in goes_on.passed_over[0]


def test_a_model_that_failed_is_passed_over_and_alone_its_failure_is_told() -> None:
    broken = ProviderUnavailable("runway is down", "transient", "not_sent")
    shop = SHOP.without("runway-veo-3.1", broken)
    assert who("runway-veo-3.1", "luma-ray-3.2", shop=shop).sheet.name == "luma-ray-3.2"
    with pytest.raises(ProviderUnavailable, match="runway is down"):
        who("runway-veo-3.1", shop=shop)
    refused = shop.without("luma-ray-3.2", ProviderRefused("no money", "quota"))
    with pytest.raises(ProviderRefused, match="no money"):
        who("runway-veo-3.1", "luma-ray-3.2", shop=refused)


# ---------------------------------------------------------------- loops


def test_a_loop_is_the_models_own_only_where_it_is_whole() -> None:
    looped = Wish("a rose", "16:9", loop=True)
    assert who("luma-ray-3.2", wish=looped, length="5").loops
    shorter = who("luma-ray-3.2", wish=looped, length="4")
    assert not shorter.loops, "cut short, the model's own loop would be none"
    assert who("runway-veo-3.1", wish=looped, length="6").seconds == 8, "half a second is cross-faded away"
    with pytest.raises(InputError, match="the half second that a loop is cross-faded in"):
        who("luma-ray-3.2", wish=Wish("a rose", "16:9", loop=True, last_frame="x"), length="5")


# ---------------------------------------------------------------- models.yaml


def test_a_model_is_mapped_to_one_on_a_server_of_ones_own(tmp_path: Path) -> None:
    shop = models(tmp_path, "sora-2: vllm/Wan-AI/Wan2.2-T2V-A14B-Diffusers\n")
    shop = replace(shop, hosts={**HOSTS, "vllm-omni": "127.0.0.1"})
    chosen = who("sora-2", shop=shop)
    assert chosen.sheet.name == "vllm/Wan-AI/Wan2.2-T2V-A14B-Diffusers"
    assert (chosen.sheet["model"], chosen.price) == ("Wan-AI/Wan2.2-T2V-A14B-Diffusers", Decimal(0))
    assert (chosen.seconds, str(chosen.size)) == (5, "1280x720")


def test_a_server_whose_address_is_missing_says_which_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_OMNI_BASE_URL", raising=False)
    (tmp_path / "models.yaml").write_text("sora-2: vllm/wan2.2\n")
    shop = open_market(open_ledger(tmp_path / "home"), tmp_path)
    assert "VLLM_OMNI_BASE_URL should be a URL" in why_not("sora-2", shop=shop)
    monkeypatch.setenv("VLLM_OMNI_BASE_URL", "http://gpu:8091")
    shop = open_market(open_ledger(tmp_path / "home"), tmp_path)
    assert shop.host(who("sora-2", shop=shop).sheet) == "gpu"


def test_a_preset_is_read_with_what_the_project_says_otherwise(tmp_path: Path) -> None:
    text = "runway-veo-3.1: {tier: 3, price: {1280x720: 0.01}, seconds: [4, 5]}\nluma-ray-3.2: {price: 2}\n"
    shop = models(tmp_path, text)
    assert who("runway-veo-3.1", shop=shop).price == Decimal("0.05")
    sheet = shop.sheet("runway-veo-3.1")
    assert by_tier(sheet["daily"], sheet.facts["tier"]) == 1000
    assert by_tier(sheet["daily"]) == 50, "where nobody says, what the lowest tier may"
    assert who("luma-ray-3.2", shop=shop).price == 10, "one price is that of every size"
    assert presets.read("models", "runway-veo-3.1")["seconds"] == [4, 6, 8], "the preset itself stays as it is"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("runway-veo-3.1: {teir: 3}", "runway-veo-3.1.teir: is not known (did you mean tier?)"),
        ("runway-veo-4.9: {tier: 3}", "is no model (did you mean runway-veo-3.1"),
        ("wan: {base_url: http://gpu/v1}", "wan: should say seconds:"),
        ("wan: 5", "wan: should name a model, or say base_url:"),
        ("hosts: {a.example: eu}", "hosts: should be lines such as"),
        ("hosts: {a.example: {reigon: eu}}", "hosts.a.example.reigon: is not known"),
    ],
    ids=str,
)
def test_mistakes_are_told(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError) as raised:
        models(tmp_path, text)
    assert words in str(raised.value)


def test_models_yaml_is_looked_for_beside_the_recipe_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models.yaml").write_text("sora-2: sim\n")
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    ledger = open_ledger(tmp_path / "home")
    assert open_market(ledger, tmp_path, beside=recipes).mapping == {"sora-2": "sim"}
    (recipes / "models.yaml").write_text("sora-2: sim-pro\n")
    assert open_market(ledger, tmp_path, beside=recipes).mapping == {"sora-2": "sim-pro"}
    (tmp_path / "own.yaml").write_text("sora-2: kling-4\n")
    monkeypatch.setenv("AFTERFRAME_MODELS", str(tmp_path / "own.yaml"))
    assert open_market(ledger, tmp_path, beside=recipes).mapping == {"sora-2": "kling-4"}


# ---------------------------------------------------------------- hosts and regions


def test_words_go_to_no_host_that_nobody_knows(tmp_path: Path) -> None:
    cheap = {**HOSTS, "runway": "cheap-runway.example.com"}
    said = why_not("runway-veo-3.1", shop=replace(SHOP, hosts=cheap))
    assert "would send words and pictures to cheap-runway.example.com" in said
    assert "trust_host: true" in said
    shop = models(tmp_path, "runway-veo-3.1: {trust_host: true}")
    assert who("runway-veo-3.1", shop=replace(shop, hosts=cheap)).price
    places = {"cheap-runway.example.com": Place(trusted=True)}
    assert who("runway-veo-3.1", shop=replace(SHOP, hosts=cheap, places=places)).price


@pytest.mark.parametrize(
    ("host", "here", "near"),
    [
        ("localhost", True, True), ("127.0.0.1", True, True), ("[::1]", True, True), ("10.1.2.3", False, True),
        ("gpu", False, True), ("render.local", False, True), ("8.8.8.8", False, False), ("example.com", False, False),
        ("", False, False),
    ],
)  # fmt: skip
def test_whose_machine_it_is(host: str, here: bool, near: bool) -> None:
    assert (is_here(host), is_near(host)) == (here, near)


def test_hosts_have_owners() -> None:
    assert owner("api.openai.com") == "OpenAI"
    assert owner("my-films.openai.azure.com") == "Microsoft Azure"
    assert owner("openai.com.example.org") == ""
    assert owner("api.openai.com.example.org") == ""


def test_a_region_binds_models_the_ledger_and_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    european = replace(SHOP, region="eu")
    assert "does not say where it films, not in eu" in why_not("runway-veo-3.1", shop=european)
    shop = models(tmp_path, "runway-veo-3.1: {region: eu}\nluma-ray-3.2: {region: us}\n", european)
    assert who("luma-ray-3.2", "runway-veo-3.1", shop=shop).sheet.name == "runway-veo-3.1"
    assert "luma-ray-3.2 films in us, not in eu" in why_not("luma-ray-3.2", shop=shop)
    assert who("sim", shop=european).sheet.name == "sim", "this machine is where the user is"
    ledger = open_ledger(tmp_path / "home")
    monkeypatch.setenv("AFTERFRAME_DATABASE", "postgresql://me:secret@db.example.com/af")
    with pytest.raises(InputError, match=r"the ledger is on db\.example\.com") as raised:
        for_recipe(open_market(ledger, tmp_path / "none"), Purse(), "eu")
    assert "secret" not in str(raised.value)
    (tmp_path / "models.yaml").write_text("hosts: {db.example.com: {region: eu}}\n")
    assert for_recipe(open_market(ledger, tmp_path), Purse(), "eu").region == "eu"
    monkeypatch.setenv("AFTERFRAME_STORE", "s3://films/project")
    with pytest.raises(InputError, match="is put into the bucket films, of which nobody says where it is"):
        for_recipe(open_market(ledger, tmp_path), Purse(), "eu")
    (tmp_path / "models.yaml").write_text("hosts: {db.example.com: {region: eu}, films: {region: eu}}\n")
    assert for_recipe(open_market(ledger, tmp_path), Purse(), "eu").region == "eu"


# ---------------------------------------------------------------- purses


def test_allowances_are_read_as_people_write_them() -> None:
    assert Allowance.parse("$6") == Allowance(Decimal(6))
    assert Allowance.parse("500 USD / month").within == 30 * 86_400
    assert str(Allowance.parse("$50/day")) == "$50 in 24 hours"
    for wrong in ("six", "$6/year", "-1", "$1.234", ""):
        with pytest.raises(InputError, match="should be an amount"):
            Allowance.parse(wrong)


def test_a_purse_says_what_the_ledger_is_to_hold() -> None:
    purse = Purse(
        each=Decimal(2), total=Decimal(6), day=Decimal(50), account=Allowance.parse("$500/month"),
        label=Allowance.parse("$100"), bill_to="spring",
    )  # fmt: skip
    budgets = purse.budgets("api.example.com", frozenset({"a"}))
    assert [(each.name, each.limit, each.account, each.bill_to) for each in budgets] == [
        ("this recipe", Decimal(6), "", ""), ("the last 24 hours", Decimal(50), "", ""),
        ("api.example.com", Decimal(500), "api.example.com", ""), ("spring", Decimal(100), "", "spring"),
    ]  # fmt: skip
    assert budgets[0].keys == frozenset({"a"})
    assert purse.limited
    assert not Purse(bill_to="spring").limited


@pytest.mark.parametrize(
    "file", sorted(presets.FOLDER.rglob("*.yaml")), ids=lambda file: f"{file.parent.name}/{file.stem}"
)
def test_no_preset_says_a_thing_twice(file: Path) -> None:
    """YAML would take the last without a word, and a correction of the first would change nothing."""
    said = [line.partition(":")[0] for line in file.read_text(encoding="utf-8").splitlines() if line[:1].isalpha()]
    assert sorted(said) == sorted(set(said))
