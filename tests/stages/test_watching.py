"""Many jobs watched with few requests; hints."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from shop import WISH, Shop, buy

import stages.watching
from stages.errors import Later, ProviderUnavailable
from stages.ledger import Ledger, Limits, collect, open_ledger, purchases, waits
from stages.providers import VideoJob
from stages.watching import due, hint, refresh


@dataclass
class Listing(Shop):
    """A shop that counts its lists; `states` are those of single jobs."""

    lists: int = 0
    unlisted: set[str] = field(default_factory=set)
    states: dict[str, str] = field(default_factory=dict)

    def find(self, since: float) -> list[VideoJob]:
        self.lists += 1
        found = [self._as_it_is(job) for job in Shop.find(self, since) if job.id not in self.unlisted]
        return [job for job in found if job.state != "gone"]

    def check(self, job_id: str) -> VideoJob:
        self.looks += 1
        return self._as_it_is(self.jobs[job_id])

    def _as_it_is(self, job: VideoJob) -> VideoJob:
        return replace(job, state=self.states.get(job.id, self.state), progress=0.5)  # type: ignore[arg-type]  # a state


@pytest.fixture
def shop() -> Listing:
    return Listing()


@pytest.fixture
def ledger(shop: Listing, tmp_path: Path, database: str) -> Ledger:
    return open_ledger(tmp_path / "home", lambda: shop.now, database)


def buy_many(ledger: Ledger, shop: Shop, count: int) -> list[str]:
    """Jobs in flight; their keys."""
    return [buy(ledger, shop, replace(WISH, prompt=f"wish {n}"), key=f"{n}").key for n in range(count)]


def test_one_list_serves_many_jobs(ledger: Ledger, shop: Listing) -> None:
    keys = buy_many(ledger, shop, 6)
    first = refresh(ledger, shop, keys)
    assert (first.ready, first.wait, shop.lists, shop.looks) == (frozenset(), shop.typical, 0, 0)
    shop.now += 60
    shop.states = {"video_3": "done", "video_4": "failed"}
    watched = refresh(ledger, shop, keys)
    assert (shop.lists, shop.looks) == (1, 0)
    assert watched.ready == {keys[2], keys[3]}
    assert watched.progress[keys[0]] == 0.5
    assert 5 <= watched.wait <= 6
    assert collect(ledger, shop, keys[2]).exists()
    assert shop.looks == 0  # the list said it was done
    with pytest.raises(Later):
        collect(ledger, shop, keys[0])
    assert refresh(ledger, shop, keys[:2]).ready == frozenset()
    assert (shop.lists, shop.looks) == (1, 0)


def test_all_watchers_of_an_account_share_its_lists(ledger: Ledger, shop: Listing) -> None:
    keys = buy_many(ledger, shop, 4)
    shop.now += 60
    refresh(ledger, shop, keys[:2])
    shop.now += 1
    hint(ledger, "video_4", "a hint")
    watched = refresh(ledger, shop, keys[2:])
    assert (shop.lists, watched.wait) == (1, 4.0)
    shop.now += watched.wait
    refresh(ledger, shop, keys[2:])
    assert shop.lists + shop.looks == 2


def test_an_old_job_is_looked_at_alone_instead_of_listing_all_since(
    ledger: Ledger, shop: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages.watching, "PAGE", 5)
    buy_many(ledger, shop, 1)
    shop.now += 600
    for number in range(6):
        buy(ledger, shop, replace(WISH, prompt=f"later {number}"), key=f"later {number}")
    refresh(ledger, shop)  # seven jobs, two pages; and one alone is as good as one page
    assert (shop.lists, shop.looks) == (0, 1)
    shop.now += 60
    refresh(ledger, shop)
    assert (shop.lists, shop.looks) == (1, 1)


def test_what_a_list_leaves_out_is_looked_at(ledger: Ledger, shop: Listing) -> None:
    keys = buy_many(ledger, shop, 5)
    shop.now += 60
    shop.unlisted, shop.states = {"video_2"}, {"video_2": "gone"}
    assert refresh(ledger, shop, keys).ready == {keys[1]}
    assert (shop.lists, shop.looks) == (1, 1)


def test_where_nothing_can_be_listed_each_is_looked_at(
    ledger: Ledger, shop: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages.watching, "AT_ONCE", 4)
    shop.can_list = False
    keys = buy_many(ledger, shop, 6)
    shop.now += 60
    shop.state = "done"
    assert len(refresh(ledger, shop, keys).ready) == shop.looks == 4
    assert len(refresh(ledger, shop, keys).ready) == shop.looks == 6
    assert shop.lists == 0


def test_a_provider_that_is_down_is_told_and_asked_again_later(ledger: Ledger, shop: Listing) -> None:
    keys = buy_many(ledger, shop, 3)
    shop.now += 60

    def down(since: float) -> list[VideoJob]:
        raise ProviderUnavailable("cannot reach it")

    works, shop.find = shop.find, down  # type: ignore[method-assign]  # for a while
    with pytest.raises(ProviderUnavailable):
        refresh(ledger, shop, keys)
    shop.find = works  # type: ignore[method-assign]  # again
    watched = refresh(ledger, shop, keys)
    assert (watched.ready, watched.wait) == (frozenset(), 5.0)
    shop.now += 5
    refresh(ledger, shop, keys)
    assert shop.lists == 1


def test_a_long_list_is_asked_for_less_often(ledger: Ledger, shop: Listing) -> None:
    """2,000 jobs of others in one list of ours: 20 requests, so 20 s apart."""
    buy_many(ledger, shop, 3)
    for number in range(2000):
        shop.sell(replace(WISH, prompt=f"somebody else's {number}"))
    shop.now += 60
    refresh(ledger, shop)
    shop.now += 7
    assert refresh(ledger, shop).wait == pytest.approx(20.03 - 7, abs=1.1)
    assert shop.lists == 1


def test_what_is_listed_as_done_makes_room(ledger: Ledger, shop: Listing) -> None:
    limits = Limits(in_flight=2)
    keys = buy_many(ledger, shop, 2)
    shop.now += 60
    shop.states = {"video_1": "done"}
    refresh(ledger, shop, keys)
    assert buy(ledger, shop, key="more", limits=limits).state == "ACCEPTED"
    with pytest.raises(Later):
        buy(ledger, shop, key="and more", limits=limits)


def test_lists_tell_how_long_a_model_takes(ledger: Ledger, shop: Listing) -> None:
    buy_many(ledger, shop, 4)
    for state, passed in (("queued", 60), ("running", 10), ("done", 30)):
        shop.now, shop.state = shop.now + passed, state
        refresh(ledger, shop)
    found = waits(ledger, "sora-2")
    assert (found.queue.p50, found.filming.p99, found.total.p50) == (70, 30, 100)


def test_nothing_in_flight_needs_no_look(ledger: Ledger, shop: Listing) -> None:
    assert refresh(ledger, shop).wait == 0
    assert shop.lists == 0


# ---------------------------------------------------------------- hints


def test_a_hint_makes_the_next_look_sooner(ledger: Ledger, shop: Listing) -> None:
    (key,) = buy_many(ledger, shop, 1)
    shop.state = "done"
    assert hint(ledger, "video_1", "1")
    assert collect(ledger, shop, key).exists()
    assert shop.looks == 1
    assert not hint(ledger, "video_1", "1")


def test_what_is_due_is_told_cheaply(ledger: Ledger, shop: Listing) -> None:
    keys = buy_many(ledger, shop, 2)
    assert due(ledger, keys) == frozenset()
    hint(ledger, "video_2", "1")
    assert due(ledger, keys) == {keys[1]}
    assert due(ledger, keys[:1]) == frozenset()


def test_a_hint_is_about_one_job(ledger: Ledger, shop: Listing) -> None:
    buy_many(ledger, shop, 2)
    with ledger.store.transaction() as database:
        database.change("UPDATE purchase SET job_id = 'app/requests/video_1/status' WHERE job_id = 'video_1'")
    for number, job_id in enumerate(("video_", "requests/video_1", "%", "", "unknown")):
        assert hint(ledger, job_id, f"{number}")
    assert {row.next_look for row in purchases(ledger)} == {shop.now + shop.typical}
    hint(ledger, "video_1", "right")
    assert [row.next_look - shop.now for row in purchases(ledger, "0")] == [0]
    assert [row.next_look - shop.now for row in purchases(ledger, "1")] == [shop.typical]


def test_hints_are_forgotten_after_days(ledger: Ledger, shop: Listing) -> None:
    assert hint(ledger, "video_1", "1")
    shop.now += 3 * 86_400
    assert not hint(ledger, "video_1", "1")
    shop.now += 2 * 86_400
    assert hint(ledger, "video_1", "1")
