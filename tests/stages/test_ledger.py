"""The ledger against a shop that loses answers, lags, limits and forgets. No network: time is a number."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import stages.ledger
from stages.clip import Size
from stages.errors import (
    AfterframeError,
    BudgetExceeded,
    InputError,
    Later,
    ProviderRefused,
    ProviderUnavailable,
    SubmissionUnknown,
)
from stages.http import NOT_SENT
from stages.ledger import (
    Budget,
    Ledger,
    Limits,
    Purchase,
    collect,
    open_ledger,
    purchases,
    request_key,
    spent,
    submit_once,
)
from stages.providers import VideoJob, VideoRequest

WISH = VideoRequest("a rose opens", "sora-2", Size(1280, 720), 8)
PRICE = Decimal("0.80")
FILM = b"\x00\x00\x00\x18ftypisom and a film"
BROKEN = ProviderUnavailable("the line broke", "transient", "ReadError")


@dataclass
class Shop:
    """A provider in memory. `trouble` is raised by the next submits, after the sale where `sells` says so."""

    name: str = "openai"
    account: str = "api.openai.com"
    idempotent: bool = False
    can_list: bool = True
    settle: float = 120.0
    poll: float = 5.0
    typical: float = 60.0
    now: float = 1_000_000.0
    trouble: list[Exception] = field(default_factory=list)
    sells: bool = True
    state: str = "running"
    failure: VideoJob | None = None
    film: bytes = FILM
    jobs: dict[str, VideoJob] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    sends: int = 0
    looks: int = 0
    downloads: int = 0

    def submit(self, request: VideoRequest, key: str) -> VideoJob:
        self.sends += 1
        trouble = self.trouble.pop(0) if self.trouble else None
        if trouble and not self.sells:
            raise trouble
        if not (self.idempotent and key in self.keys):
            self.keys[key] = self.sell(request)
        if trouble:
            raise trouble
        return self.jobs[self.keys[key]]

    def sell(self, request: VideoRequest, **other: object) -> str:
        job_id = f"video_{len(self.jobs) + 1}"
        job = VideoJob(
            job_id,
            "queued",
            created_at=self.now,
            model=request.model,
            prompt=request.prompt,
            seconds=request.seconds,
            size=request.size,
        )
        self.jobs[job_id] = replace(job, **other)  # type: ignore[arg-type]  # a test's own words
        return job_id

    def check(self, job_id: str) -> VideoJob:
        self.looks += 1
        if job_id not in self.jobs:
            return VideoJob(job_id, "gone", failure="lost", code="404")
        return self.failure or replace(self.jobs[job_id], state=self.state, progress=0.5)  # type: ignore[arg-type]  # likewise

    def download(self, job_id: str, target: Path) -> None:
        self.downloads += 1
        target.write_bytes(self.film)

    def find(self, since: float) -> list[VideoJob]:
        return [job for job in reversed(self.jobs.values()) if (job.created_at or 0) >= since]


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def ledger(shop: Shop, tmp_path: Path) -> Ledger:
    return open_ledger(tmp_path / "home", clock=lambda: shop.now)


def buy(ledger: Ledger, shop: Shop, request: VideoRequest = WISH, **how: object) -> Purchase:
    key = how.pop("key", None) or request_key(request)
    return submit_once(ledger, shop, request, str(key), price=PRICE, **how)  # type: ignore[arg-type]  # passed through


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


def test_many_may_open_a_new_ledger_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as crowd:
        for _ in crowd.map(lambda _: purchases(open_ledger(tmp_path)), range(64)):
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
    assert buy(ledger, shop).attempt == 1


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


def test_a_ledger_of_an_earlier_version_is_read(ledger: Ledger, shop: Shop) -> None:
    row = buy(ledger, shop)
    with contextlib.closing(sqlite3.connect(ledger.home / "ledger.sqlite3")) as database:
        database.execute("ALTER TABLE purchase DROP COLUMN first_sent")
    assert buy(open_ledger(ledger.home, ledger.clock), shop) == row


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").write_bytes(b"not a database, certainly" * 100)
    with pytest.raises(InputError, match=r"ledger\.sqlite3 cannot be used"):
        open_ledger(tmp_path)
    with pytest.raises(AfterframeError, match="a file, not a folder"):
        open_ledger(tmp_path / "ledger.sqlite3" / "home")
