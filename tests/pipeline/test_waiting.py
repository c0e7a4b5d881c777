"""Thousands that wait in one worker: who is woken, and that threads do not crowd the ledger."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.batch import HANDED_OVER, TURNS, Desk, Engine, Worker
from pipeline.roster import Batch, Render, Shelf
from pipeline.turns import Sofar, Step
from pipeline.waiting import Waiter
from pipeline.yard import Yard
from stages.ledger import Ledger, open_ledger, purchases
from stages.stores import IDLE, Postgres


@dataclass
class Bell:
    """A loop that only counts who was woken."""

    rung: list[str]
    name: str

    def call_soon_threadsafe(self, _: object) -> None:
        self.rung.append(self.name)


def sold(ledger: Ledger, count: int, account: str, next_look: float) -> list[str]:
    """The keys of films that are being made."""
    keys = [f"{account}-{number}" for number in range(count)]
    with ledger.store.transaction() as database:
        database.change_all(
            "INSERT INTO purchase (key, attempt, version, state, provider, account, model, prompt, seconds, size,"
            " job_id, next_look) VALUES (:key, 1, 1, 'ACCEPTED', 'sim', :account, 'sim', 'fox', 4, '', :key, :at)",
            [{"key": key, "account": account, "at": next_look} for key in keys],
        )
    return keys


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(Engine(tmp_path), Yard(tmp_path / ".pipeline"))


def test_one_of_an_account_is_woken_to_look_for_all_and_whoever_is_ready(worker: Worker) -> None:
    ledger, rung = open_ledger(), list[str]()
    due, later = sold(ledger, 40, "one", 0.0), sold(ledger, 40, "another", ledger.clock() + 1000)
    for key in (*due, *later):
        loop = cast("asyncio.AbstractEventLoop", Bell(rung, key))
        worker.lobby.waiting[key] = Waiter(loop, asyncio.Event(), frozenset([key]), "batch")
    worker._news()
    assert len(rung) == 1
    assert rung[0] in due
    assert worker.lobby.awaited == {*due, *later}
    with ledger.store.transaction() as database:
        database.change("UPDATE purchase SET seen = 'done', next_look = 0 WHERE key IN ('one-3', 'another-5')")
        database.change("UPDATE purchase SET next_look = :then WHERE key = 'one-4'", {"then": ledger.clock() + 1000})
    rung.clear()
    worker._news()
    assert {"one-3", "another-5"} < set(rung)
    assert len(rung) == 3
    Shelf(worker.yard.folder / "batches").tell("batch", "cancel")
    rung.clear()
    worker._news()
    assert len(rung) == 80, "what is told of a batch is told to all of it"


def test_another_is_sent_as_soon_as_who_was_sent_is_back(worker: Worker) -> None:
    """Who looks may find his own film ready, and goes on with that: the others wait for no film in vain."""
    rung = list[str]()
    for key in sold(open_ledger(), 5, "one", 0.0):
        loop = cast("asyncio.AbstractEventLoop", Bell(rung, key))
        worker.lobby.waiting[key] = Waiter(loop, asyncio.Event(), frozenset([key]), "batch")
    worker._news()
    (first,) = rung
    worker.lobby.waiting.pop(first)
    worker._news()
    assert rung == [first], "he is looking"
    worker.lobby.is_back(first)
    worker._news()
    assert len(rung) == 2
    assert rung[1] != first


def test_who_leaves_the_looking_to_others_is_woken_when_one_of_them_has_fetched_the_film(worker: Worker) -> None:
    """Two renders that want the same film: it is no news any more once the first has it."""
    ledger, lobby = open_ledger(), worker.lobby
    (key,) = sold(ledger, 1, "one", ledger.clock() + 1000)

    async def second() -> None:
        waiting = asyncio.create_task(lobby.wait("second", "batch", 0.1, [key]))
        for _ in range(30):
            worker._news()
            await asyncio.sleep(0.01)
        assert not waiting.done()
        with ledger.store.transaction() as database:
            database.change("UPDATE purchase SET state = 'DONE', seen = 'done'")
        worker._news()
        await asyncio.wait_for(waiting, 5)

    asyncio.run(second())
    assert not lobby.waiting


def test_the_first_in_line_asks_and_the_next_once_he_has_bought(worker: Worker) -> None:
    lobby, rung = worker.lobby, list[str]()

    def stand(run: str) -> None:
        loop = cast("asyncio.AbstractEventLoop", Bell(rung, run))
        lobby.waiting[run] = Waiter(loop, asyncio.Event(), frozenset([run]), "batch", "sim")

    def asked(*, and_was_turned_away_for: float = 0.0) -> str:
        lobby.waiting.pop(run := rung[-1])
        lobby.is_back(run, and_was_turned_away_for, "sim" if and_was_turned_away_for else "")
        return run

    for number in range(40):
        lobby.is_back(f"{number}", 1000.0, "sim")
        stand(f"{number}")
    worker._news()
    assert rung == [], "while one of them was turned away, all are"
    lobby.opens.clear()
    worker._news()
    assert rung == ["0"]
    asked()
    assert rung == ["0", "1"], "there may be more room"
    stand(asked(and_was_turned_away_for=1000.0))
    worker._news()
    assert rung == ["0", "1"]
    (film,) = sold(open_ledger(), 1, "one", open_ledger().clock() + 1000)
    stand(film)
    with open_ledger().store.transaction() as database:
        database.change("UPDATE purchase SET seen = 'done'")
    worker._news()
    assert rung[2:] == ["2", film], "a film that is finished makes room"


def test_who_is_sent_to_ask_and_has_lost_his_render_to_another_machine_keeps_nobody(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that stood still has many of them, and each kept the others for a minute."""
    rung = list[str]()

    async def taken(*_: object) -> None:
        raise RuntimeError("another machine has it now")

    monkeypatch.setattr("dbos.DBOS.run_step_async", taken)
    for run in ("lost", "second"):
        loop = cast("asyncio.AbstractEventLoop", Bell(rung, run))
        worker.lobby.waiting[run] = Waiter(loop, asyncio.Event(), frozenset([run]), "batch", "sim")
    worker._news()
    worker.lobby.waiting.pop("lost")
    with pytest.raises(RuntimeError, match="another machine"):
        asyncio.run(worker._render({"run": "lost"}))
    assert rung == ["lost", "second"]


def test_a_render_that_is_handed_back_at_once_waits_longer_each_time(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the one has made, the other cannot see while the store is away."""
    further = list[tuple[float, int]]()

    async def handed_over(*_: object) -> dict[str, Any]:
        return {**Step("hand over", Sofar(made={"make": 1})).to_json(), "at": 0.0}

    async def enqueue(options: dict[str, Any], spec: dict[str, Any]) -> None:
        further.append((options.get("delay_seconds", 0.0), spec["turn"]))
        if spec["turn"] < 4:
            await worker._render(spec)

    monkeypatch.setattr("dbos.DBOS.run_step_async", handed_over)
    monkeypatch.setattr("dbos.DBOS.enqueue_workflow_with_options_async", enqueue)
    asyncio.run(worker._render({"run": "one", "batch": "batch", "render": "one", "role": "buy", "turn": 0}))
    assert sorted(further) == [(0.0, 1), (2.0, 2), (4.0, 3), (8.0, 4)]


def test_who_was_taken_for_dead_lets_those_go_on_that_went_on_elsewhere(worker: Worker) -> None:
    worker.engine.prepare()
    worker.executor, rung = "me", list[str]()
    with worker.engine.client() as desk:
        for run in ("kept", "taken", "queued"):
            spec = {"batch": "batch", "render": run, "run": run, "role": "buy", "turn": 0}
            desk.client.enqueue({"queue_name": "buy", "workflow_name": "render", "workflow_id": f"{run}:0"}, spec)
            loop = cast("asyncio.AbstractEventLoop", Bell(rung, run))
            worker.lobby.waiting[run] = Waiter(loop, asyncio.Event(), frozenset([run]), "batch", "sim")
    with worker.engine.connect().begin() as tables:
        for run, executor in (("kept", "me"), ("taken", "another")):
            tables.exec_driver_sql(
                f"UPDATE workflow_status SET status = 'PENDING', executor_id = '{executor}'"
                f" WHERE workflow_uuid = '{run}:0'"
            )
    worker._returned()
    assert rung == ["taken", "queued"]


def test_who_is_sent_to_ask_and_never_returns_keeps_the_others_for_a_minute(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung = list[str]()
    for run in ("first", "second"):
        loop = cast("asyncio.AbstractEventLoop", Bell(rung, run))
        worker.lobby.waiting[run] = Waiter(loop, asyncio.Event(), frozenset([run]), "batch", "sim")
    worker._news()
    worker.lobby.waiting.pop("first")  # cancelled as he was woken
    worker._news()
    assert rung == ["first"]
    monkeypatch.setattr("pipeline.waiting.LOOKING", 0.0)
    worker._news()
    assert rung == ["first", "second"]


def test_threads_queue_for_the_ledger_and_share_few_connections(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, connected = open_ledger(tmp_path / "home", database=database), list[int]()
    sold(ledger, 1, "one", 0.0)
    real = Postgres._connected

    def counted(store: Postgres) -> object:
        connected.append(1)
        return real(store)

    def look_and_write() -> None:
        assert len(purchases(ledger)) == 1
        with ledger.store.transaction() as tables:
            tables.change("UPDATE purchase SET looks = looks + 1")

    monkeypatch.setattr(Postgres, "_connected", counted)
    threads = [threading.Thread(target=look_and_write) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert purchases(ledger)[0].looks == 40
    assert len(connected) <= IDLE + 1


def test_how_many_stand_how_is_counted_where_they_are(tmp_path: Path, database: str) -> None:
    """What comes over the line is as long for a hundred renders as for six."""
    engine = Engine(tmp_path / ".pipeline", database)
    engine.prepare()
    ended = {0: "done", 1: "failed", 2: HANDED_OVER}
    sql = "UPDATE {} SET status = 'SUCCESS', output = '{{\"state\": \"{}\"}}' WHERE workflow_uuid LIKE '{}/%'"
    lines = list[int]()
    with engine.client() as desk:
        for batch, count in (("small", 6), ("large", 60)):
            renders = [Render(f"{batch}{n}", n, {}, run=f"{n % 6}-{n}/{batch}", buys=n % 2 == 0) for n in range(count)]
            desk.submit(Batch(batch, "", "", "", "", False, 0.0, tuple(renders)), renders)
            connections = engine.connect()
            with connections.begin() as transaction:
                for number, word in ended.items():
                    told = sql.format(desk._table("workflow_status"), word, f"{number}-%")
                    transaction.exec_driver_sql(told.replace("%", "%%") if database else told)
            connections.dispose()
            asked = desk._asked

            def counted(sql: str, asked: Callable[[str], list[Any]] = asked) -> list[Any]:
                lines.append(len(found := asked(sql)))
                return found

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Desk, "_asked", lambda _, sql: counted(sql))
                each = {"small": 1, "large": 11}[batch]
                assert desk.counts() == {"done": each, "failed": each, "queued": 2 * each, "waiting": each}
        assert lines[0] == lines[1] == 5
        assert desk.owners() == set()
        states = desk.states(large := Batch("large", "", "", "", "", False, 0.0, tuple(renders)))
        assert Counter(state.word for state in states.values()) == {
            "done": 10,
            "failed": 10,
            "queued": 30,
            "waiting": 10,
        }
        with pytest.MonkeyPatch.context() as patch:
            asked_for = list[str]()
            real = desk.client.list_workflows

            def listed(workflow_ids: list[str], **given: Any) -> Any:
                asked_for.extend(workflow_ids)
                return real(workflow_ids=workflow_ids, **given)

            patch.setattr(desk.client, "list_workflows", listed)
            assert desk.states(large, states) == states
        assert len(asked_for) == 40 * TURNS, "what has ended is not asked for again"
