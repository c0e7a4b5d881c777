"""What a human does with the ledger, in Python and at the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from shop import BROKEN, PRICE, WISH, Shop, buy
from typer.testing import CliRunner

from pipeline.cli_ledger import app
from stages.bookkeeping import adopt, audit, call_off, find_key, write_off
from stages.errors import InputError, Later, ProviderRefused, SubmissionUnknown
from stages.ledger import Budget, Ledger, Purchase, collect, open_ledger, purchases, request_key, spent
from stages.providers import VideoJob

KEY = request_key(WISH)
ALL = Budget("all", Decimal(99))


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def ledger(shop: Shop, tmp_path: Path, database: str) -> Ledger:
    return open_ledger(tmp_path / "home", lambda: shop.now, database)


@pytest.fixture
def unknown(ledger: Ledger, shop: Shop) -> Ledger:
    """A ledger with one purchase, of which only a human can tell whether it was made."""
    shop.can_list, shop.trouble = False, [BROKEN]
    with pytest.raises(Later):
        buy(ledger, shop)
    shop.now += 1000
    with pytest.raises(SubmissionUnknown, match=f"ledger adopt {KEY[:12]} JOB"):
        buy(ledger, shop)
    return ledger


def only_row(ledger: Ledger) -> Purchase:
    (row,) = purchases(ledger)
    return row


# ---------------------------------------------------------------- which job it was


def test_a_human_says_which_job_it_was(unknown: Ledger, shop: Shop) -> None:
    assert adopt(unknown, KEY, "video_1").state == "ACCEPTED"
    shop.state = "done"
    assert buy(unknown, shop).job_id == "video_1"
    assert collect(unknown, shop, KEY).exists()
    assert (shop.sends, spent(unknown, ALL)) == (1, PRICE)


def test_a_wrong_word_can_be_corrected(unknown: Ledger, shop: Shop) -> None:
    adopt(unknown, KEY, "video_9")
    with pytest.raises(InputError, match="being filmed, as video_9"):
        adopt(unknown, KEY, "video_1")
    shop.now += 1000
    with pytest.raises(SubmissionUnknown, match="does not know job video_9"):
        collect(unknown, shop, KEY)
    adopt(unknown, KEY, "video_1")
    shop.state, shop.now = "done", shop.now + 1
    assert collect(unknown, shop, KEY).exists()


def test_a_job_belongs_to_one_purchase(unknown: Ledger, shop: Shop) -> None:
    other = buy(unknown, shop, replace(WISH, prompt="another"))
    with pytest.raises(InputError, match="another purchase has job video_2"):
        adopt(unknown, KEY, other.job_id)
    with pytest.raises(InputError, match="no question which job"):
        adopt(unknown, other.key, "video_1")


# ---------------------------------------------------------------- given up


def test_what_is_written_off_is_bought_again(unknown: Ledger, shop: Shop) -> None:
    row = write_off(unknown, KEY, "the dashboard shows no job")
    assert (row.state, row.text, spent(unknown, ALL)) == ("WRITTEN_OFF", "the dashboard shows no job", PRICE)
    assert buy(unknown, shop).attempt == 2
    assert (shop.sends, spent(unknown, ALL)) == (2, 2 * PRICE)


def test_what_was_not_paid_does_not_count(unknown: Ledger) -> None:
    write_off(unknown, KEY, "not on the bill", unpaid=True)
    assert spent(unknown, ALL) == 0


def test_what_may_still_arrive_is_not_written_off(ledger: Ledger, shop: Shop) -> None:
    shop.trouble = [BROKEN]
    with pytest.raises(Later):
        buy(ledger, shop)
    shop.now += 60
    with pytest.raises(InputError, match="sent 60 s ago and may still arrive: wait 65 s"):
        write_off(ledger, KEY, "impatience")
    shop.now += 66
    assert write_off(ledger, KEY, "patience").state == "WRITTEN_OFF"


def test_an_answer_that_comes_after_all_counts(unknown: Ledger, shop: Shop) -> None:
    write_off(unknown, KEY, "a mistake")
    assert adopt(unknown, KEY, "video_1").state == "ACCEPTED"
    assert (buy(unknown, shop).job_id, shop.sends) == ("video_1", 1)


def test_a_lost_film_and_a_refusal_can_be_given_up(ledger: Ledger, shop: Shop) -> None:
    buy(ledger, shop)
    shop.jobs["elsewhere"] = shop.jobs.pop("video_1")
    shop.now += 500
    with pytest.raises(SubmissionUnknown):
        collect(ledger, shop, KEY)
    write_off(ledger, KEY, "the film is lost")
    shop.trouble, shop.sells = [ProviderRefused("no", "moderation_input", "blocked")], False
    with pytest.raises(ProviderRefused):
        buy(ledger, shop)
    with pytest.raises(ProviderRefused, match="not sent again"):
        buy(ledger, shop)
    assert write_off(ledger, KEY, "they changed their policy").billed == "no"
    assert (buy(ledger, shop).attempt, spent(ledger, ALL)) == (3, 2 * PRICE)


# ---------------------------------------------------------------- taken back


@dataclass
class Kind(Shop):
    """A provider that cancels what has not begun; `killed` is raised once it has."""

    state: str = "queued"
    killed: BaseException | None = None
    cancelled: set[str] = field(default_factory=set)

    def check(self, job_id: str) -> VideoJob:
        return super().check("none" if job_id in self.cancelled else job_id)

    def take_back(self, job_id: str) -> VideoJob:
        job = self.check(job_id)
        if job.state != "queued":
            return job
        self.cancelled.add(job_id)
        if self.killed:
            raise self.killed
        return VideoJob(job_id, "gone", billed=False)


@pytest.fixture
def kind() -> Kind:
    return Kind()


def test_what_is_called_off_is_not_paid_and_bought_again(ledger: Ledger, kind: Kind) -> None:
    row = call_off(ledger, kind, buy(ledger, kind), "the batch was cancelled")
    assert row
    assert (row.state, row.text, row.billed) == ("WRITTEN_OFF", "the batch was cancelled", "no")
    assert spent(ledger, ALL) == 0
    assert (buy(ledger, kind).attempt, spent(ledger, ALL)) == (2, PRICE)


def test_what_has_begun_or_is_lost_stays_paid(ledger: Ledger, kind: Kind, shop: Shop) -> None:
    shop.name = "another"
    assert call_off(ledger, shop, buy(ledger, shop, replace(WISH, prompt="at one that cancels none")), "") is None
    row, kind.state = buy(ledger, kind), "running"
    assert call_off(ledger, kind, row, "") is None
    shop.now, kind.state = shop.now + 100, "done"
    assert collect(ledger, kind, KEY).exists()
    lost = buy(ledger, kind, replace(WISH, prompt="lost"))
    kind.jobs["elsewhere"] = kind.jobs.pop(lost.job_id)
    assert call_off(ledger, kind, lost, "") is None
    shop.now += 1000
    with pytest.raises(SubmissionUnknown, match="does not know job"):
        collect(ledger, kind, lost.key)


def test_what_a_kill_kept_from_being_noted_is_noted_by_who_looks_next(ledger: Ledger, kind: Kind, shop: Shop) -> None:
    kind.killed = KeyboardInterrupt()
    row = buy(ledger, kind)
    with pytest.raises(KeyboardInterrupt):
        call_off(ledger, kind, row, "")
    assert only_row(ledger).state == "ACCEPTED"
    shop.now += 100
    with pytest.raises(Later):
        collect(ledger, kind, KEY)
    assert only_row(ledger).state == "WRITTEN_OFF"
    assert spent(ledger, ALL) == 0
    assert buy(ledger, kind).attempt == 2


def test_what_is_here_is_not_written_off(ledger: Ledger, shop: Shop) -> None:
    buy(ledger, shop)
    shop.now, shop.state = shop.now + 61, "done"
    collect(ledger, shop, KEY)
    with pytest.raises(InputError, match=r"here, in originals/\w+\.mp4"):
        write_off(ledger, KEY, "ugly")


def test_a_key_is_found_by_its_beginning(ledger: Ledger, shop: Shop) -> None:
    for key in ("abc1", "abc2", "abc"):
        buy(ledger, shop, replace(WISH, prompt=key), key=key)
    assert [find_key(ledger, start) for start in ("abc1", "abc")] == ["abc1", "abc"]
    with pytest.raises(InputError, match="abc, abc1, abc2: write more"):
        find_key(ledger, "ab")
    for start in ("", "x", "%", "ABC"):
        with pytest.raises(InputError, match="has no purchase"):
            find_key(ledger, start)


# ---------------------------------------------------------------- the books and the list


def test_an_audit_finds_what_one_side_does_not_know(ledger: Ledger, shop: Shop) -> None:
    buy(ledger, shop, replace(WISH, prompt="known"), key="known")
    buy(ledger, shop, replace(WISH, prompt="lost"), key="lost")
    del shop.jobs["video_2"]
    shop.jobs["stranger"] = VideoJob("stranger", "done", created_at=shop.now)
    shop.trouble, shop.sells = [BROKEN], False
    with pytest.raises(Later):
        buy(ledger, shop, replace(WISH, prompt="unclear"), key="unclear")
    shop.now += 1000
    shop.jobs["fresh"] = VideoJob("fresh", "queued", created_at=shop.now)
    found = audit(ledger, shop, shop.now - 5000)
    assert [job.id for job in found.strangers or ()] == ["stranger"]
    assert [row.key for row in found.missing] == ["lost"]
    assert [row.key for row in found.unclear] == ["unclear"]
    assert (found.young, found.agrees) == (1, False)
    assert audit(ledger, Shop(account="another", now=shop.now), 0).agrees


def test_an_audit_without_a_list_asks_for_each(ledger: Ledger, shop: Shop) -> None:
    buy(ledger, shop)
    shop.can_list = False
    assert audit(ledger, shop, 0).agrees
    shop.jobs.clear()
    found = audit(ledger, shop, 0)
    assert (found.strangers, [row.key for row in found.missing]) == (None, [KEY])


# ---------------------------------------------------------------- the command line


@pytest.fixture
def at_home(ledger: Ledger, shop: Shop, database: str, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The ledger that the commands open; its provider is the shop."""
    monkeypatch.setenv("AFTERFRAME_HOME", str(ledger.home))
    monkeypatch.setenv("AFTERFRAME_DATABASE", database)
    monkeypatch.setattr("stages.plugins.find", lambda group, name: lambda: shop)
    monkeypatch.setattr("stages.stores.SQLite.clock", lambda store: shop.now)
    monkeypatch.setattr("stages.stores.Postgres.clock", lambda store: shop.now)
    return ledger


def said(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def test_an_empty_ledger_says_so(at_home: Ledger) -> None:
    assert said("list").stdout == "nothing was bought yet\n"
    assert said("audit").exit_code == 0


def test_purchases_are_listed_and_shown(at_home: Ledger, shop: Shop) -> None:
    buy(at_home, shop)
    shop.now, shop.state = shop.now + 200, "done"
    collect(at_home, shop, KEY)
    shop.trouble, shop.sells = [BROKEN], False
    with pytest.raises(Later):
        buy(at_home, shop, replace(WISH, prompt="lost"), key="lost")
    shop.now += 30
    assert said("list").stdout.splitlines() == [
        "key           state                model   seconds  size      price  sent       job",
        "lost          sending (transient)  sora-2  8        1280x720  $0.80  30 s ago",
        f"{KEY[:12]}  done                 sora-2  8        1280x720  $0.80  4 min ago  video_1",
    ]
    assert "video_1" not in said("list", "--open").stdout
    assert said("list", "--limit", "1").stdout.endswith("… and 1 older; --limit shows more\n")
    rows = json.loads(said("list", "--json").stdout)
    assert [(row["key"], row["state"], row["price"]) for row in rows] == [
        ("lost", "SENDING", "0.80"),
        (KEY, "DONE", "0.80"),
    ]
    shown = said("show", KEY[:8]).stdout
    assert "prompt      a rose opens" in shown
    assert "job_id      video_1" in shown
    assert json.loads(said("show", KEY[:8], "--json").stdout)[0]["prompt"] == "a rose opens"
    assert isinstance(said("show", "unknown").exception, InputError)


def test_a_human_decides_at_the_command_line(unknown: Ledger, at_home: Ledger, shop: Shop) -> None:
    assert said("write-off", KEY[:8]).exit_code == 2  # why?
    assert said("write-off", KEY[:8], "--why", "no job there").stdout == (
        f"{KEY[:12]} is written off: the next run buys it again; its $0.80 count as spent\n"
    )
    assert "is job video_1 of openai at api.openai.com" in said("adopt", KEY[:8], "video_1").stdout
    assert only_row(at_home).state == "ACCEPTED"


def test_an_audit_at_the_command_line(at_home: Ledger, shop: Shop) -> None:
    buy(at_home, shop)
    agreed = said("audit")
    assert (agreed.exit_code, agreed.stdout) == (
        0,
        "openai at api.openai.com, the last 7 days:\n  the ledger and its list agree\n",
    )
    shop.sell(replace(WISH, prompt="bought by hand"))
    shop.now += 500
    found = said("audit", "--provider", "openai")
    assert found.exit_code == 1
    assert "job video_2 is in no row: sora-2 8 s" in found.stdout
    assert "'bought by hand'" in found.stdout
    told: dict[str, Any] = json.loads(said("audit", "--json").stdout)[0]
    assert (told["strangers"], told["agrees"]) == (["video_2"], False)
    shop.account = "elsewhere"
    elsewhere = said("audit")
    assert elsewhere.exit_code == 1
    assert "openai: not compared: the ledger knows openai at api.openai.com" in elsewhere.stderr
    assert "the environment names elsewhere" in str(said("audit", "--provider", "openai").exception)
    buy(at_home, shop, replace(WISH, prompt="there"), key="there")
    assert "not compared: openai at api.openai.com" in said("audit").stdout


def test_webhooks_are_served_until_one_stops_it(at_home: Ledger, shop: Shop, database: str) -> None:
    buy(at_home, replace(shop, now=time.time(), typical=5000.0))
    command = [sys.executable, "-c", "import typer, pipeline.cli_ledger as cli; typer.run(cli.webhooks)", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            urls = [server.stdout.readline().strip() for _ in range(4)]
            assert [url.rpartition("/")[2] for url in urls] == ["openai", "openrouter", "luma", "fal"]
            body = b'{"id": "video_1", "state": "completed"}'
            with urllib.request.urlopen(urls[2], body, timeout=20) as answer:
                assert answer.status == 204
        finally:
            server.kill()
    assert only_row(at_home).next_look <= time.time()
