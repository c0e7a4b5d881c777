"""The ledger against a shop that loses answers, lags, limits and forgets. No network: time is a number."""

from __future__ import annotations

import contextlib
import pickle
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from math import ceil
from pathlib import Path
from typing import Any

import psycopg
import pytest
from shop import BROKEN, FILM, PRICE, WISH, Shop, buy

import stages.ledger
import stages.rows
from stages.clip import Size
from stages.errors import (
    AfterframeError,
    BudgetExceeded,
    InputError,
    Later,
    ProviderRefused,
    ProviderUnavailable,
    SubmissionUnknown,
    WriteError,
)
from stages.http import NOT_SENT
from stages.ledger import (
    Budget,
    Ledger,
    Limits,
    Purchase,
    Spread,
    collect,
    open_ledger,
    purchases,
    request_key,
    spent,
    waits,
)
from stages.providers import VideoJob
from stages.rows import move
from stages.stores import ALONE, SETTINGS, WAIT, Database, Postgres, SQLite


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def ledger(shop: Shop, tmp_path: Path, database: str) -> Ledger:
    return open_ledger(tmp_path / "home", lambda: shop.now, database)


def only_row(ledger: Ledger) -> Purchase:
    (row,) = purchases(ledger)
    return row


# ---------------------------------------------------------------- what is bought


def test_the_key_is_the_request_alone(tmp_path: Path) -> None:
    rose, citrus = tmp_path / "rose.png", tmp_path / "citrus.png"
    rose.write_bytes(b"rose")
    citrus.write_bytes(b"citrus")
    key = request_key(WISH)
    assert request_key(replace(WISH, model="veo-3.1", seconds=12)) == key
    others = (
        replace(WISH, prompt="a rose closes"),
        replace(WISH, size=Size(720, 1280)),
        replace(WISH, seed=1),
        replace(WISH, options=(("loop", "true"),)),
        replace(WISH, reference=rose),
        replace(WISH, reference=citrus),
    )
    assert len({key, request_key(WISH, take=2), *map(request_key, others)}) == 8
    moved = tmp_path / "elsewhere.png"
    rose.rename(moved)
    assert request_key(replace(WISH, reference=moved)) == request_key(replace(WISH, reference=moved))


def test_asked_again_it_is_not_bought_again(ledger: Ledger, shop: Shop) -> None:
    first = buy(ledger, shop)
    again = buy(ledger, shop, replace(WISH, model="sora-2-pro", seconds=12), key=first.key)
    assert first.state == "ACCEPTED"
    assert again == first
    assert (shop.sends, again.model, again.seconds, again.price) == (1, "sora-2", 8, PRICE)


def test_what_will_not_do_does_not_count(ledger: Ledger, shop: Shop) -> None:
    short = buy(ledger, shop, replace(WISH, seconds=4))
    long = buy(ledger, shop, WISH, accepts=lambda row: row.seconds >= 8)
    assert (short.attempt, long.attempt, shop.sends) == (1, 2, 2)
    assert buy(ledger, shop, WISH, accepts=lambda row: row.seconds >= 8) == long


# ---------------------------------------------------------------- answers that were lost


def test_a_sale_whose_answer_was_lost_is_adopted(ledger: Ledger, shop: Shop) -> None:
    shop.trouble = [BROKEN]
    with pytest.raises(Later) as later:
        buy(ledger, shop)
    assert later.value.seconds == shop.settle
    shop.now += 100
    with pytest.raises(Later) as later:
        buy(ledger, shop)
    assert later.value.seconds == pytest.approx(20)
    until = datetime.fromtimestamp(60 * ceil((shop.now + 20) / 60)).astimezone()
    said = f"waiting until {until:%H:%M}, then its list will say whether it was sold; nothing is sent before"
    assert later.value.why == f"an earlier answer of openai was lost: {said}"
    assert pickle.loads(pickle.dumps(later.value)).why == later.value.why
    shop.now += 21
    assert buy(ledger, shop).job_id == "video_1"
    assert (shop.sends, len(shop.jobs)) == (1, 1)


def test_a_request_that_never_arrived_is_sent_again(ledger: Ledger, shop: Shop) -> None:
    shop.trouble, shop.sells = [BROKEN], False
    with pytest.raises(Later):
        buy(ledger, shop)
    shop.now += shop.settle + 1
    assert buy(ledger, shop).state == "ACCEPTED"
    assert (shop.sends, len(shop.jobs)) == (2, 1)


def test_where_keys_are_honoured_the_same_key_is_sent_at_once(ledger: Ledger, shop: Shop) -> None:
    shop.idempotent, shop.trouble = True, [BROKEN]
    with pytest.raises(Later) as later:
        buy(ledger, shop)
    assert later.value.seconds < shop.settle
    row = buy(ledger, shop, replace(WISH, model="sora-2-pro"), key=request_key(WISH))
    assert (shop.sends, len(shop.jobs), row.model) == (2, 1, "sora-2")


@pytest.mark.parametrize(
    "no",
    [
        ProviderRefused("key", "unauthorized"),
        Later(7),
        ProviderUnavailable("cannot reach it", "transient", NOT_SENT),
        InputError("no such file"),
    ],
)
def test_a_clear_no_says_nothing_about_what_was_sent_before(ledger: Ledger, shop: Shop, no: Exception) -> None:
    """The first send was sold; the second, with the same key, met a wrong API key or a limit."""
    shop.idempotent, shop.trouble = True, [BROKEN]
    with pytest.raises(Later):
        buy(ledger, shop)
    shop.trouble, shop.sells = [no], False
    with pytest.raises(type(no)):
        buy(ledger, shop)
    assert only_row(ledger).state == "SENDING"
    shop.now += 7
    row = buy(ledger, shop)
    assert (row.attempt, row.job_id, len(shop.jobs)) == (1, "video_1", 1)


def test_keys_are_not_trusted_for_ever(ledger: Ledger, shop: Shop) -> None:
    shop.idempotent, shop.trouble = True, [BROKEN, BROKEN]
    for _ in range(2):
        with pytest.raises(Later):
            buy(ledger, shop)
        shop.now += 4 * 3600
    assert buy(ledger, shop).job_id == "video_1"  # found by listing back to the first send
    assert (shop.sends, len(shop.jobs)) == (2, 1)


def test_where_nothing_can_be_listed_a_human_is_asked(ledger: Ledger, shop: Shop) -> None:
    shop.can_list, shop.trouble = False, [BROKEN]
    with pytest.raises(Later):
        buy(ledger, shop)
    shop.now += 10_000
    with pytest.raises(SubmissionUnknown, match="no list to look it up"):
        buy(ledger, shop)
    assert shop.sends == 1


def test_a_server_that_never_answers_clearly_is_an_error_in_the_end(ledger: Ledger, shop: Shop) -> None:
    shop.trouble, shop.sells = [BROKEN] * 5, False
    for _ in range(4):
        with pytest.raises(Later):
            buy(ledger, shop)
        shop.now += shop.settle + 1
    with pytest.raises(ProviderUnavailable, match="line broke"):
        buy(ledger, shop)
    shop.now += shop.settle + 1
    assert buy(ledger, shop).state == "ACCEPTED"


def test_adopted_is_the_oldest_that_is_alike_and_nobodys(ledger: Ledger, shop: Shop) -> None:
    shop.trouble, shop.sells = [BROKEN], False
    owned = buy(ledger, replace(shop, trouble=[], sells=True, jobs=shop.jobs), key="another request").job_id
    with pytest.raises(Later):
        buy(ledger, shop)
    for unlike in (
        {"prompt": "another"},
        {"model": "sora-2-pro"},
        {"seconds": 4},
        {"size": Size(720, 1280)},
        {"created_at": shop.now - 301},
    ):
        shop.sell(WISH, **unlike)
    mine = shop.sell(WISH, created_at=shop.now + 1, model="sora-2-2025-12-08", prompt="a  rose opens\n")
    shop.sell(WISH, created_at=shop.now + 2)
    shop.now += shop.settle + 1
    assert buy(ledger, shop).job_id == mine != owned


@pytest.mark.parametrize("prompt", ["", "a rose"])
def test_a_list_without_whole_prompts_proves_nothing(ledger: Ledger, shop: Shop, prompt: str) -> None:
    shop.trouble, shop.sells = [BROKEN], False
    with pytest.raises(Later):
        buy(ledger, shop)
    shop.sell(WISH, prompt=prompt)
    shop.now += shop.settle + 1
    with pytest.raises(SubmissionUnknown, match="video_1"):
        buy(ledger, shop)
    assert shop.sends == 1


def test_requests_that_look_alike_are_sent_one_at_a_time(ledger: Ledger, shop: Shop) -> None:
    """Two products under one prompt: after a crash, the list could not say whose clip it is."""
    shop.trouble = [BROKEN]
    with pytest.raises(Later):
        buy(ledger, shop, key="rose")
    with pytest.raises(Later) as later:
        buy(ledger, shop, key="citrus")
    assert (later.value.seconds, shop.sends) == (1.0, 1)
    shop.now += shop.settle + 1
    assert buy(ledger, shop, key="citrus").job_id == "video_2"  # having found out about the other first
    assert buy(ledger, shop, key="rose").job_id == "video_1"
    assert len(shop.jobs) == 2


def test_a_process_that_was_frozen_does_not_send_what_others_gave_up(ledger: Ledger, shop: Shop) -> None:
    times = iter([shop.now, shop.now + 600])
    frozen = replace(ledger, clock=lambda: next(times))
    with pytest.raises(Later):
        buy(frozen, shop)
    assert (shop.sends, only_row(ledger).state) == (0, "SENDING")


def test_a_process_frozen_before_it_sends_does_not_take_anothers_turn_for_its_own(
    ledger: Ledger, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = stages.ledger._send
    row: list[Purchase] = []

    def freeze(*args: Any, **options: Any) -> Purchase:
        monkeypatch.setattr(stages.ledger, "_send", plain)
        shop.now += 600
        row.append(buy(ledger, shop))  # another process finds out, and buys
        return plain(*args, **options)

    monkeypatch.setattr(stages.ledger, "_send", freeze)
    with pytest.raises(Later):
        buy(ledger, shop)
    assert (shop.sends, buy(ledger, shop)) == (1, row[0])


def test_many_may_open_a_new_ledger_at_once(tmp_path: Path, database: str) -> None:
    with ThreadPoolExecutor(16) as crowd:
        for _ in crowd.map(lambda _: purchases(open_ledger(tmp_path, database=database)), range(64)):
            pass


def test_what_is_on_its_way_to_one_account_is_not_bought_from_another(ledger: Ledger, shop: Shop) -> None:
    shop.trouble = [BROKEN]
    with pytest.raises(Later):
        buy(ledger, shop)
    for idempotent in (True, False):
        with pytest.raises(SubmissionUnknown, match=r"api\.openai\.com"):
            buy(ledger, Shop(account="elsewhere", idempotent=idempotent))


def test_many_at_once_buy_once(ledger: Ledger, shop: Shop) -> None:
    def try_it() -> None:
        with contextlib.suppress(Later):
            buy(ledger, shop)

    threads = [threading.Thread(target=try_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (shop.sends, only_row(ledger).state) == (1, "ACCEPTED")


# ---------------------------------------------------------------- clear answers


def test_a_limit_is_waited_for(ledger: Ledger, shop: Shop) -> None:
    shop.trouble, shop.sells = [Later(7)], False
    with pytest.raises(Later, match="7 s"):
        buy(ledger, shop)
    assert only_row(ledger).state == "INTENT"
    shop.now += 7
    assert buy(ledger, shop).attempt == 1


def test_whom_the_provider_tells_to_wait_makes_all_others_wait(ledger: Ledger, shop: Shop) -> None:
    shop.trouble, shop.sells = [Later(3), Later(20)], False
    for key, now in (("1", 0), ("2", 3)):
        shop.now += now
        with pytest.raises(Later):
            buy(ledger, shop, key=key)
    shop.now += 5
    with pytest.raises(Later, match="15 s"):
        buy(ledger, shop, key="3")
    assert shop.sends == 2
    assert buy(ledger, shop, replace(WISH, model="sora-2-pro"), key="4").state == "ACCEPTED"
    shop.now += 15
    assert buy(ledger, shop, key="3").state == "ACCEPTED"


def test_a_host_that_was_not_reached_sold_nothing(ledger: Ledger, shop: Shop) -> None:
    shop.trouble, shop.sells = [ProviderUnavailable("cannot reach it", "transient", NOT_SENT)], False
    with pytest.raises(ProviderUnavailable, match="cannot reach"):
        buy(ledger, shop)
    assert buy(ledger, shop).state == "ACCEPTED"


def test_what_policy_refused_is_not_sent_to_that_model_again(ledger: Ledger, shop: Shop) -> None:
    no = ProviderRefused("no", "moderation_input", "moderation_blocked", "blocked by our system")
    shop.trouble, shop.sells = [no], False
    with pytest.raises(ProviderRefused):
        buy(ledger, shop)
    with pytest.raises(ProviderRefused, match=r"not sent again.*blocked by our system") as refused:
        buy(ledger, shop)
    assert (shop.sends, refused.value.failure) == (1, "moderation_input")
    shop.trouble = [Later(7)]
    with pytest.raises(Later):
        buy(ledger, shop, replace(WISH, model="sora-2-pro"))
    with pytest.raises(ProviderRefused, match="not sent again"):
        buy(ledger, shop)
    shop.now += 7
    assert buy(ledger, shop, replace(WISH, model="sora-2-pro")).attempt == 2


def test_a_wrong_key_can_be_corrected(ledger: Ledger, shop: Shop) -> None:
    shop.trouble, shop.sells = [ProviderRefused("OPENAI_API_KEY", "unauthorized")], False
    with pytest.raises(ProviderRefused):
        buy(ledger, shop)
    assert only_row(ledger).state == "REJECTED"
    assert buy(ledger, shop).state == "ACCEPTED"


def test_a_budget_stops_before_sending(ledger: Ledger, shop: Shop) -> None:
    budget = Budget("this run", Decimal("1.50"))
    buy(ledger, shop, limits=Limits(budgets=(budget,)))
    with pytest.raises(BudgetExceeded, match=r"\$0\.80.*this run.*\$1\.50"):
        buy(ledger, shop, key="second", limits=Limits(budgets=(budget,)))
    assert (shop.sends, spent(ledger, budget)) == (1, PRICE)
    mine = Budget("mine", Decimal("1"), keys=frozenset({"second"}))
    later = Budget("later", Decimal("1"), since=shop.now + 1)
    assert spent(ledger, mine) == spent(ledger, later) == 0
    shop.now += 2
    assert buy(ledger, shop, key="second", limits=Limits(budgets=(mine, later))).state == "ACCEPTED"


def test_no_window_of_a_minute_holds_more_sends_than_allowed(ledger: Ledger, shop: Shop) -> None:
    limits, sent = Limits(per_minute=3), []
    for number in range(10):
        while True:
            try:
                buy(ledger, shop, key=f"wish {number}", limits=limits)
                sent.append(shop.now)
                break
            except Later as later:
                shop.now += later.seconds
        shop.now += 1
    assert all(after - before >= 60 for before, after in zip(sent, sent[3:], strict=False))
    assert sent[-1] - sent[0] < 200


def test_no_more_jobs_in_flight_than_allowed(ledger: Ledger, shop: Shop) -> None:
    limits = Limits(in_flight=2)
    first = buy(ledger, shop, key="1", limits=limits)
    buy(ledger, shop, key="2", limits=limits)
    with pytest.raises(Later):
        buy(ledger, shop, key="3", limits=limits)
    shop.now, shop.state = shop.now + 61, "done"
    collect(ledger, shop, first.key)
    assert buy(ledger, shop, key="3", limits=limits).state == "ACCEPTED"


def test_a_day_holds_no_more_films_than_allowed(ledger: Ledger, shop: Shop) -> None:
    limits = Limits(per_day=2)
    buy(ledger, shop, key="1", limits=limits)
    shop.now += 50_000
    shop.trouble, shop.sells = [ProviderRefused("no", "invalid_request")], False
    with pytest.raises(ProviderRefused):  # no film was made: it does not count
        buy(ledger, shop, key="refused", limits=limits)
    shop.sells = True
    buy(ledger, shop, key="2", limits=limits)
    with pytest.raises(Later) as later:
        buy(ledger, shop, key="3", limits=limits)
    assert later.value.seconds == 600
    shop.now += 36_500
    with pytest.raises(Later) as later:
        buy(ledger, shop, key="3", limits=limits)
    assert later.value.seconds == pytest.approx(200)
    shop.now += 201
    assert buy(ledger, shop, key="3", limits=limits).state == "ACCEPTED"


def test_what_is_lost_or_ready_is_not_in_flight(ledger: Ledger, shop: Shop) -> None:
    limits = Limits(in_flight=1)
    key = buy(ledger, shop, key="1", limits=limits).key
    shop.jobs["forgotten"] = shop.jobs.pop("video_1")
    shop.now += 200
    with pytest.raises(SubmissionUnknown):
        collect(ledger, shop, key)
    assert buy(ledger, shop, key="2", limits=limits).state == "ACCEPTED"


def test_one_that_is_on_its_way_counts_until_it_must_have_arrived(ledger: Ledger, shop: Shop) -> None:
    """Killed after the request left: it may arrive any time until `settle`."""
    limits = Limits(per_minute=1)

    def die(request: object, key: str) -> VideoJob:
        raise KeyboardInterrupt

    dying = replace(shop)
    dying.submit = die  # type: ignore[method-assign]  # killed in the middle
    with pytest.raises(KeyboardInterrupt):
        buy(ledger, dying, key="1", limits=limits)
    began = shop.now
    for _ in range(4):
        with pytest.raises(Later) as later:
            buy(ledger, shop, replace(WISH, prompt="another"), key="2", limits=limits)
        shop.now += later.value.seconds
    assert began + shop.settle + 60 < shop.now < began + shop.settle + 60 + 10
    assert buy(ledger, shop, replace(WISH, prompt="another"), key="2", limits=limits).state == "ACCEPTED"


def test_a_budget_for_thousands_is_held_to_the_dollar_though_it_is_seldom_counted(
    ledger: Ledger, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = list[str]()
    real = stages.rows._sum

    def sum_(database: Database, where: str, values: Mapping[str, object]) -> Decimal:
        counted.extend(["keys"] if "key IN" in where else [])
        return real(database, where, values)

    monkeypatch.setattr("stages.rows._sum", sum_)
    ours = frozenset(f"{number}" for number in range(2000))
    budget = Budget("this recipe", 12 * PRICE, keys=ours)
    for number in range(12):
        shop.now += 0.1
        buy(ledger, shop, key=f"{number}", limits=Limits(budgets=(budget,)))
        buy(ledger, shop, key=f"another's {number}")  # makes it look dear, so that it is counted again now and then
    assert 4 < len(counted) <= 5 * 4, "500 keys at a time"
    with pytest.raises(BudgetExceeded):
        buy(ledger, shop, key="12", limits=Limits(budgets=(budget,)))
    assert spent(ledger, budget) == 12 * PRICE


def test_budgets_of_an_account_a_label_and_a_day(ledger: Ledger, shop: Shop) -> None:
    other = Shop(account="elsewhere", now=shop.now)
    buy(ledger, shop, key="1", bill_to="acme")
    buy(ledger, other, key="2", bill_to="acme")
    buy(ledger, shop, key="3")
    acme = Budget("acme", Decimal("1.60"), bill_to="acme")
    here = Budget("the account", Decimal("2.40"), account=shop.account)
    day = Budget("a day", Decimal("2.40"), within=86_400)
    few = Budget("these", Decimal("9"), keys=frozenset({"1", "3", *map(str, range(10, 2000))}))
    assert [spent(ledger, each) for each in (acme, here, day, few)] == [2 * PRICE, 2 * PRICE, 3 * PRICE, 2 * PRICE]
    for budget in (acme, day):
        with pytest.raises(BudgetExceeded, match=budget.name):
            buy(ledger, shop, key="4", bill_to="acme", limits=Limits(budgets=(here, budget)))
    shop.now += 86_401
    assert spent(ledger, day) == 0
    row = buy(ledger, shop, key="4", limits=Limits(budgets=(here, day)))
    assert (row.bill_to, spent(ledger, here)) == ("", 3 * PRICE)


def test_what_is_known_not_to_be_billed_does_not_count(ledger: Ledger, shop: Shop) -> None:
    budget = Budget("all", Decimal(9))
    for key, failure, billed in (
        ("1", "moderation_output", None),
        ("2", "moderation_output", False),
        ("3", "transient", None),
        ("4", "transient", True),
    ):
        row = buy(ledger, shop, replace(WISH, prompt=key), key=key)
        shop.now += 61
        shop.failure = VideoJob(row.job_id, "failed", failure=failure, code="x", billed=billed)
        with pytest.raises((ProviderRefused, ProviderUnavailable)):
            collect(ledger, shop, key)
    assert spent(ledger, budget) == 2 * PRICE


# ---------------------------------------------------------------- fetching


def test_a_film_is_fetched_once_and_kept_by_its_hash(ledger: Ledger, shop: Shop) -> None:
    key = buy(ledger, shop).key
    with pytest.raises(Later) as later:
        collect(ledger, shop, key)
    assert (later.value.seconds, shop.looks) == (shop.typical, 0)
    shop.now += shop.typical
    with pytest.raises(Later) as later:
        collect(ledger, shop, key)
    assert (later.value.progress, shop.looks) == (0.5, 1)
    assert 5 <= later.value.seconds <= 6
    with pytest.raises(Later):
        collect(ledger, shop, key)  # too early: nobody looks
    shop.now, shop.state = shop.now + 7, "done"
    original = collect(ledger, shop, key)
    assert original.read_bytes() == FILM
    assert original.parent == ledger.home / "originals"
    assert original.stem == only_row(ledger).sha256
    assert collect(ledger, shop, key) == original
    assert (buy(ledger, shop).state, shop.looks, shop.downloads, shop.sends) == ("DONE", 2, 1, 1)
    original.unlink()
    shop.now += 60
    assert collect(ledger, shop, key).read_bytes() == FILM
    assert [file.name for file in original.parent.iterdir()] == [original.name]


def test_looks_get_rarer(ledger: Ledger, shop: Shop) -> None:
    key = buy(ledger, shop).key
    waits = []
    for _ in range(20):
        with pytest.raises(Later) as later:
            collect(ledger, shop, key)
        waits.append(later.value.seconds)
        shop.now += later.value.seconds
    assert min(waits) >= shop.poll
    assert 25 < waits[-1] <= 36
    assert sum(waits) < 600


def test_a_stuck_job_is_reported_and_kept(ledger: Ledger, shop: Shop) -> None:
    key = buy(ledger, shop).key
    shop.now += 3700
    with pytest.raises(ProviderUnavailable, match=r"video_1 for 1\.0 hours"):
        collect(ledger, shop, key)
    shop.now, shop.state = shop.now + 60, "done"
    assert collect(ledger, shop, key).exists()


def test_breakage_may_be_bought_again_and_policy_not(ledger: Ledger, shop: Shop) -> None:
    key = buy(ledger, shop).key
    shop.now += 61
    shop.failure = VideoJob("video_1", "failed", failure="transient", code="server_error", text="GPU")
    with pytest.raises(ProviderUnavailable, match=r"GPU.*not your prompt"):
        collect(ledger, shop, key)
    assert spent(ledger, Budget("all", PRICE)) == 0
    second = buy(ledger, shop)
    assert (second.attempt, second.job_id) == (2, "video_2")
    shop.now += 61
    shop.failure = VideoJob("video_2", "failed", failure="moderation_output", code="moderation_blocked")
    with pytest.raises(ProviderRefused, match=r"content policy.*change the prompt"):
        collect(ledger, shop, key)
    with pytest.raises(ProviderRefused, match="not sent again"):
        buy(ledger, shop)
    assert (shop.sends, spent(ledger, Budget("all", PRICE))) == (2, PRICE)


def test_a_lost_job_is_told_and_not_bought_again(ledger: Ledger, shop: Shop) -> None:
    key = buy(ledger, shop).key
    lost = shop.jobs.copy()
    shop.jobs.clear()
    shop.now += 61
    with pytest.raises(Later):  # too young to be sure
        collect(ledger, shop, key)
    shop.now += 120
    with pytest.raises(SubmissionUnknown, match="video_1"):
        collect(ledger, shop, key)
    assert (only_row(ledger).failure, buy(ledger, shop).job_id, shop.sends) == ("lost", "video_1", 1)
    shop.jobs, shop.state, shop.now = lost, "done", shop.now + 60
    assert collect(ledger, shop, key).exists()  # it was the wrong key to the account
    assert only_row(ledger).failure == ""


def test_what_is_no_film_is_not_kept(ledger: Ledger, shop: Shop) -> None:
    key = buy(ledger, shop).key
    shop.now, shop.state, shop.film = shop.now + 61, "done", b'{"error": "not ready"}'
    with pytest.raises(ProviderUnavailable, match="no MP4"):
        collect(ledger, shop, key)
    assert (list((ledger.home / "originals").iterdir()), only_row(ledger).state) == ([], "ACCEPTED")


def test_nothing_to_collect_is_said(ledger: Ledger, shop: Shop) -> None:
    with pytest.raises(InputError, match="nothing was bought"):
        collect(ledger, shop, "never asked")


def test_a_ledger_of_an_earlier_version_is_read(ledger: Ledger, shop: Shop, database: str) -> None:
    limits = Limits(per_minute=1)
    row = buy(ledger, shop, limits=limits)
    with ledger.store.transaction() as tables:
        for column in ("first_sent", "bill_to", "progress", "work", "footage"):
            tables.change(f"ALTER TABLE purchase DROP COLUMN {column}")
        tables.change("ALTER TABLE send DROP COLUMN ended")
        tables.change("DROP TABLE hint")
    again = open_ledger(ledger.home, ledger.clock, database)
    assert buy(again, shop) == row
    with pytest.raises(Later):
        buy(again, shop, key="another", limits=limits)


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").write_bytes(b"not a database, certainly" * 100)
    with pytest.raises(InputError, match=r"ledger\.sqlite3 cannot be used"):
        open_ledger(tmp_path)
    with pytest.raises(AfterframeError, match="a file, not a folder"):
        open_ledger(tmp_path / "ledger.sqlite3" / "home")


def test_nonsense_in_a_providers_words_does_no_harm(ledger: Ledger, shop: Shop) -> None:
    shop.trouble, shop.sells = [ProviderRefused("no", "invalid_request", "x\0", "half \ud800 and \0 nothing")], False
    with pytest.raises(ProviderRefused):
        buy(ledger, shop)
    assert only_row(ledger).text == "half ? and  nothing"
    with pytest.raises(InputError, match="NUL"):
        buy(ledger, shop, replace(WISH, prompt="a \0"))


def test_a_paid_job_is_noted_though_the_ledger_fails_for_a_while(
    ledger: Ledger, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = stages.ledger._accepted
    failures = [WriteError("the disk is full"), WriteError("the server restarts")]

    def fail(*arguments: Any) -> Purchase:
        if failures:
            raise failures.pop()
        return plain(*arguments)

    monkeypatch.setattr(stages.ledger, "_accepted", fail)
    monkeypatch.setattr(stages.ledger, "NOTED_WITHIN", (0.0, 0.0))
    assert buy(ledger, shop).job_id == "video_1"


def test_a_paid_job_that_cannot_be_noted_is_logged(
    ledger: Ledger, shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Purchase:
        raise WriteError("the disk is full")

    monkeypatch.setattr(stages.ledger, "_accepted", fail)
    monkeypatch.setattr(stages.ledger, "NOTED_WITHIN", (0.0,))
    with pytest.raises(WriteError):
        buy(ledger, shop)
    assert "pipeline ledger adopt" in caplog.text
    assert "video_1" in caplog.text


# ---------------------------------------------------------------- how long it takes


def film(ledger: Ledger, shop: Shop, key: str, queue: float, filming: float) -> None:
    """Buy, and look every 5 s until it is here."""
    shop.state = "queued"
    row = buy(ledger, shop, replace(WISH, prompt=key), key=key)
    while True:
        age = shop.now - row.created_at
        shop.state = "queued" if age < queue else "running" if age < queue + filming else "done"
        try:
            collect(ledger, shop, key)
            return
        except Later as later:
            shop.now += later.seconds


def test_the_ledger_knows_how_long_a_model_takes(ledger: Ledger, shop: Shop) -> None:
    shop.typical, shop.poll = 1.0, 1.0
    assert waits(ledger, "sora-2").total == Spread()
    for number in range(6):
        film(ledger, shop, f"wish {number}", queue=10, filming=100 if number == 4 else 20)
    found = waits(ledger, "sora-2")
    assert found.total.count == found.queue.count == found.filming.count == 6
    assert 10 <= found.queue.p50 < 18
    assert 20 - 8 <= found.filming.p50 < 30
    assert 30 <= found.total.p50 < 40
    assert 110 <= found.total.p99 < 120
    assert waits(ledger, "veo").total.count == waits(ledger, "sora-2", provider="azure").total.count == 0


def test_a_film_that_nobody_looked_at_in_time_says_nothing_about_its_model(ledger: Ledger, shop: Shop) -> None:
    key = buy(ledger, shop).key
    shop.now, shop.state = shop.now + 3000, "done"
    collect(ledger, shop, key)
    assert waits(ledger, "sora-2").total.count == 0


def test_a_model_known_to_be_slow_is_given_its_time(ledger: Ledger, shop: Shop) -> None:
    shop.poll = 300.0
    film(ledger, shop, "slow", queue=0, filming=3000)
    shop.state = "running"
    key = buy(ledger, shop).key
    shop.now += 7000
    with pytest.raises(Later):
        collect(ledger, shop, key)
    shop.now += 5000
    with pytest.raises(ProviderUnavailable, match="has been filming"):
        collect(ledger, shop, key)


# ---------------------------------------------------------------- on Postgres


@pytest.mark.parametrize(
    "address",
    ["mysql://root:geheim@host/name", "postgresql://a:ge@heim@host/name", "postgresql://a:ge/heim@host/name", "ledger"],
)
def test_an_address_that_is_none_is_said(tmp_path: Path, address: str) -> None:
    with pytest.raises(InputError, match="should be postgresql") as error:
        open_ledger(tmp_path, database=address)
    assert "heim" not in str(error.value)


@pytest.mark.parametrize(
    "address",
    ["postgresql://someone:geheim@127.0.0.1:1/ledger", "postgresql://someone:geheim@127.0.0.1:port/ledger"],
)
def test_a_server_that_cannot_be_reached_is_said_without_its_password(tmp_path: Path, address: str) -> None:
    with pytest.raises(AfterframeError, match=r"127\.0\.0\.1.*cannot be used") as error:
        open_ledger(tmp_path, database=address)
    assert "geheim" not in f"{error.value!r} {error.value}"


def test_a_ledger_shows_no_password(ledger: Ledger) -> None:
    assert "afterframe@" not in repr(replace(ledger, clock=lambda: 0.0))


def test_the_environment_names_the_database(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch, shop: Shop
) -> None:
    monkeypatch.setenv("AFTERFRAME_DATABASE", database)
    row = buy(open_ledger(tmp_path), shop)
    assert purchases(open_ledger(tmp_path, database=database)) == (row,)
    assert abs(open_ledger(tmp_path).clock() - time.time()) < 1


def test_who_vanishes_while_writing_holds_others_up_only_for_a_while(ledger: Ledger, shop: Shop) -> None:
    if not isinstance(ledger.store, Postgres):
        return  # the kernel unlocks its file
    with contextlib.closing(psycopg.connect(ledger.store.url, autocommit=True)) as gone:  # as another process's
        gone.execute("BEGIN")
        gone.execute(SETTINGS.replace(f"{WAIT / 2:.0f}s", "300ms").encode())
        gone.execute("SELECT pg_advisory_xact_lock(%s)", [ALONE])
        assert buy(ledger, shop).state == "ACCEPTED"
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            gone.execute("SELECT 1")


def test_a_server_that_was_started_again_is_found(ledger: Ledger, shop: Shop, postgres_server: str) -> None:
    row = buy(ledger, shop)
    if not isinstance(ledger.store, SQLite):
        with psycopg.connect(postgres_server, autocommit=True) as connection:
            mine = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'afterframe'"
            assert connection.execute(mine.encode()).fetchall()
    assert buy(ledger, shop) == row


def test_a_shared_ledgers_time_does_not_heed_a_clock_that_is_set(
    postgres_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = open_ledger(tmp_path, database=postgres_server).clock
    before, really = clock(), time.time
    monkeypatch.setattr(time, "time", lambda: really() + 86_400)
    assert 0 <= clock() - before < 60


def test_a_film_that_is_here_is_noted_though_others_looked_at_its_job_meanwhile(
    ledger: Ledger, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, download = buy(ledger, shop), shop.download

    def slowly(job_id: str, target: Path) -> None:
        download(job_id, target)
        (now,) = purchases(ledger, row.key)
        assert move(ledger, now, looks=now.looks + 1)

    monkeypatch.setattr(shop, "download", slowly)
    shop.state, shop.now = "done", shop.now + 3600
    assert collect(ledger, shop, row.key).is_file()
    assert only_row(ledger).state == "DONE"
