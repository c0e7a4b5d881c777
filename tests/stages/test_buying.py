"""Several films of one wish: all are sent at once, each once, and one that fails takes no other with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from shop import BROKEN, Shop

from stages import buying
from stages.approvals import answer, ask, asked
from stages.buying import Order, buy, strike
from stages.clip import Size
from stages.errors import (
    BudgetExceeded,
    InputError,
    Later,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    Struck,
    SubmissionUnknown,
)
from stages.http import NOT_SENT
from stages.ledger import Budget, Ledger, open_ledger, purchases, spent
from stages.market import Market
from stages.providers import VideoJob, VideoRequest
from stages.purse import Purse
from stages.routing import OnRefusal, Route
from stages.rows import counts

SHOP = Market(date(2026, 11, 26))


@dataclass
class Town:
    """A shop, a ledger, and a clock that both share."""

    shop: Shop
    ledger: Ledger
    folder: Path

    def order(self, key: str, prompt: str = "") -> Order:
        sheet = SHOP.sheet("runway-veo-3.1")
        route = Route(sheet, Size(1280, 720), 8, Decimal("3.20"))
        request = VideoRequest(prompt or f"a rose {key}", "sora-2", Size(1280, 720), 8)
        return Order(route, request, key, lambda row: row.model == "sora-2")

    def buy(self, *keys: str, market: Market = SHOP) -> tuple[buying.Got, ...]:
        return buy(self.ledger, [self.order(key) for key in keys], market, self.folder)

    def bought(self, *keys: str) -> tuple[buying.Got, ...]:
        """As a run does it: called again when it is time."""
        for _ in range(50):
            try:
                return self.buy(*keys)
            except Later as later:
                self.shop.now += later.seconds
        raise AssertionError("it never ends")


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> Town:
    shop = Shop(name="runway", account="api.dev.runwayml.com")
    monkeypatch.setattr(buying, "provider_of", lambda sheet, state: shop)
    return Town(shop, open_ledger(tmp_path / "home", lambda: shop.now, database), tmp_path)


def test_all_are_sent_before_one_is_awaited(town: Town) -> None:
    with pytest.raises(Later) as raised:
        town.buy("a", "b", "c")
    assert town.shop.sends == 3
    assert raised.value.seconds <= town.shop.typical
    town.shop.state = "done"
    got = town.bought("a", "b", "c")
    assert [bool(each.original) for each in got] == [True, True, True]
    assert town.shop.sends == 3


def test_one_that_is_refused_takes_no_other_with_it_and_is_not_sent_again(town: Town) -> None:
    town.shop.trouble = [ProviderRefused("not this", "moderation_input", "x", "not this")]
    town.shop.sells = False
    with pytest.raises(Later):
        town.buy("a", "b")
    town.shop.state = "done"
    first, second = town.bought("a", "b")
    assert town.shop.sends == 2, "what was refused is not sent while another is on its way"
    assert first.original is None
    assert "not this" in str(first.error)
    assert second.original


def test_where_all_fail_the_first_failure_is_told_and_the_next_run_tries_again(town: Town) -> None:
    failed = VideoJob("x", "failed", failure="transient", code="boom", text="the GPU died")
    with pytest.raises(Later):
        town.buy("a", "b")
    town.shop.failure = failed
    with pytest.raises(ProviderUnavailable, match="the GPU died"):
        town.bought("a", "b")
    town.shop.failure, town.shop.state = None, "done"
    assert all(each.original for each in town.bought("a", "b"))
    assert town.shop.sends == 4


def test_an_unclear_one_is_told_when_the_others_are_here(town: Town) -> None:
    town.shop.can_list = False
    town.shop.trouble = [BROKEN]
    with pytest.raises(Later):
        town.buy("a", "b")
    town.shop.state = "done"
    with pytest.raises(SubmissionUnknown):
        town.bought("a", "b")
    assert {row.key: row.state for row in purchases(town.ledger)} == {"a": "SENDING", "b": "DONE"}


def test_one_list_tells_of_all(town: Town) -> None:
    with pytest.raises(Later):
        town.buy(*(f"wish {number}" for number in range(30)))
    town.shop.now += town.shop.typical + 1
    looks = town.shop.looks
    with pytest.raises(Later):
        town.buy(*(f"wish {number}" for number in range(30)))
    assert town.shop.looks == looks, "30 jobs were due, and the list told of them"


# ---------------------------------------------------------------- another model's chance


@pytest.mark.parametrize(
    ("error", "on_refusal", "another"),
    [
        (ProviderRefused("policy", "moderation_input"), "stop", False),
        (ProviderRefused("policy", "moderation_output"), "next", True),
        (ProviderRefused("no money", "quota"), "stop", True),
        (ProviderRefused("no such size", "invalid_request"), "stop", True),
        (ProviderRefused("wrong shape", "lost"), "stop", False),
        (ProviderUnavailable("down", "transient", NOT_SENT), "stop", True),
    ],
    ids=str,
)
def test_which_failures_are_another_models_chance(
    town: Town, error: ProviderError, on_refusal: OnRefusal, another: bool
) -> None:
    raised = strike(town.ledger, town.order("a"), error, SHOP, on_refusal)
    assert isinstance(raised, Struck) == another
    if isinstance(raised, Struck):
        assert raised.shop.struck == {"runway-veo-3.1": error}


def test_while_it_may_still_be_a_purchase_no_other_model_is_asked(town: Town) -> None:
    town.shop.trouble = [BROKEN]
    with pytest.raises(Later):
        town.buy("a")
    error = ProviderUnavailable("no answer", "transient", "ReadError")
    assert strike(town.ledger, town.order("a"), error, SHOP, "next") is error


# ---------------------------------------------------------------- money


def test_the_purse_is_held_where_it_is_sent(town: Town) -> None:
    poor = replace(SHOP, purse=Purse(day=Decimal("7.00"), bill_to="spring"))
    with pytest.raises(Later):
        town.buy("a", "b", market=poor)
    with pytest.raises(BudgetExceeded, match=r"the \$6\.40 of the last 24 hours"):
        town.buy("c", market=poor)
    assert town.shop.sends == 2
    assert {row.bill_to for row in purchases(town.ledger) if row.sent_at} == {"spring"}
    town.shop.now += 86_401
    with pytest.raises(Later):
        town.buy("c", market=poor)


def test_a_run_of_several_keys_shares_its_total(town: Town) -> None:
    market = replace(SHOP, purse=Purse(total=Decimal("4.00")))
    orders = [town.order("a"), town.order("b")]
    with pytest.raises(Later):
        buy(town.ledger, orders, market, town.folder, frozenset({"a", "b"}))
    assert town.shop.sends == 1, "the second would pass the total"


def test_what_a_simulator_sells_counts_against_nobodys_money(town: Town) -> None:
    with pytest.raises(Later):
        town.buy("a")
    assert spent(town.ledger, Budget("", Decimal(1))) == Decimal("3.20")
    town.shop.account = "sim"
    poor = replace(SHOP, purse=Purse(day=Decimal("4.00")))
    with pytest.raises(Later):
        town.buy("b", market=poor)
    assert spent(town.ledger, Budget("", Decimal(1))) == Decimal("3.20")


def test_which_rows_count_is_the_same_in_both_words(town: Town) -> None:
    """COUNTS in SQL, `counts` in Python."""
    with pytest.raises(Later):
        town.buy("a", "b", "c", "d")
    rows = purchases(town.ledger)
    for row, (state, failure, billed) in zip(
        rows,
        [("FAILED", "transient", ""), ("FAILED", "moderation_output", ""), ("WRITTEN_OFF", "", "no"), ("DONE", "", "")],
        strict=True,
    ):
        from_now = {"state": state, "failure": failure, "billed": billed}
        with town.ledger.store.transaction() as database:
            database.change(
                "UPDATE purchase SET state = :state, failure = :failure, billed = :billed WHERE key = :key",
                {**from_now, "key": row.key},
            )
    counted = sum((row.price for row in purchases(town.ledger) if counts(row)), Decimal(0))
    assert counted == spent(town.ledger, Budget("", Decimal(1))) == Decimal("6.40")


# ---------------------------------------------------------------- approvals


def test_somebody_must_agree_and_the_answer_stands(town: Town) -> None:
    question = ask(town.ledger, ["a", "b"], Decimal("6.40"), "film.yaml")
    assert question.state == "asked"
    assert ask(town.ledger, ["b", "a"], Decimal("6.40"), "film.yaml").id == question.id
    assert ask(town.ledger, ["a"], Decimal("6.40"), "film.yaml").id != question.id
    assert ask(town.ledger, ["a", "b"], Decimal("6.50"), "film.yaml").id != question.id
    assert question.id in {each.id for each in asked(town.ledger)}
    answer(town.ledger, question.id, yes=True)
    assert ask(town.ledger, ["a", "b"], Decimal("6.40"), "film.yaml").state == "approved"
    with pytest.raises(InputError, match="was approved already"):
        answer(town.ledger, question.id, yes=False)
    with pytest.raises(InputError, match="nothing was asked as nope"):
        answer(town.ledger, "nope", yes=True)
