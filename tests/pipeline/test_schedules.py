"""Batches at set times: when they are due, which missed ones are caught up, and that a worker makes them."""

from __future__ import annotations

import itertools
import subprocess
import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from workshop import Workshop, environment, frames_of

from pipeline.schedules import CatchUp, Schedule, checked, from_json
from stages.errors import InputError

pytest_plugins = ["desks"]

NIGHTLY = Schedule("night", "0 2 * * *", "Europe/Berlin", "film.yaml", "rows.csv", "latest")


def test_times_are_those_of_the_zone_in_summer_and_winter() -> None:
    winter, summer = datetime(2026, 1, 5, 12, tzinfo=UTC), datetime(2026, 7, 6, 12, tzinfo=UTC)
    assert NIGHTLY.next(winter).astimezone(UTC) == datetime(2026, 1, 6, 1, tzinfo=UTC)
    assert NIGHTLY.next(summer).astimezone(UTC) == datetime(2026, 7, 7, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "start", "wanted"),
    [
        ("30 2 * * *", "2026-03-28T12:00Z", ["03-29T01:00", "03-30T00:30"]),  # there is no 02:30: it comes at 03:00
        ("30 2 * * *", "2026-10-24T12:00Z", ["10-25T00:30", "10-26T01:30"]),  # of two 02:30 the first
        ("*/30 2 * * *", "2026-10-24T12:00Z", ["10-25T00:00", "10-25T00:30", "10-26T01:00"]),
        ("0 */1 * * *", "2026-10-24T22:30Z", ["10-24T23:00", "10-25T00:00", "10-25T01:00", "10-25T02:00"]),  # each hour
        ("0 0 2 * * *", "2026-10-24T12:00Z", ["10-25T00:00", "10-26T01:00"]),  # seconds first
        ("@daily", "2026-10-24T12:00Z", ["10-24T22:00", "10-25T23:00"]),
        ("@daily", "2026-10-31T12:00Z America/Havana", ["11-01T04:00", "11-02T05:00"]),  # of two midnights the first
        ("@hourly", "2026-11-01T03:30Z America/Havana", ["11-01T04:00", "11-01T05:00", "11-01T06:00"]),
    ],
)
def test_a_night_that_is_an_hour_shorter_or_longer_has_each_time_once(cron: str, start: str, wanted: list[str]) -> None:
    start, _, zone = start.partition(" ")
    schedule = Schedule("n", cron, zone or "Europe/Berlin", "r", "", "all")
    at, found = datetime.fromisoformat(start), list[datetime]()
    for _ in wanted:
        at = schedule.next(at)
        found.append(at)
    assert [f"{each.astimezone(UTC):%m-%dT%H:%M}" for each in found] == wanted
    assert all(schedule.wants(each, each) for each in found)


def test_the_second_of_two_times_alike_is_not_made() -> None:
    second = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)  # 02:30 again, as the engine would have it
    assert not Schedule("n", "30 2 * * *", "Europe/Berlin", "r", "", "all").wants(second, second)
    assert Schedule("n", "30 * * * *", "Europe/Berlin", "r", "", "all").wants(second, second)


@pytest.mark.parametrize(
    ("catch_up", "nights_ago", "wanted"),
    [("latest", 0, True), ("latest", 1, False), ("all", 9, True), ("none", 0, False), ("none", 1, False)],
)
def test_of_missed_ticks_as_many_are_made_as_was_said(catch_up: CatchUp, nights_ago: int, wanted: bool) -> None:
    now = datetime(2026, 1, 10, 12, tzinfo=UTC)
    tick = datetime(2026, 1, 10, 1, tzinfo=UTC) - timedelta(days=nights_ago)
    assert Schedule("n", "0 2 * * *", "Europe/Berlin", "r", "", catch_up).wants(tick, now) is wanted


@pytest.mark.parametrize("catch_up", ["latest", "all", "none"])
def test_a_tick_that_a_worker_takes_a_little_late_is_made(catch_up: CatchUp) -> None:
    tick = datetime(2026, 1, 10, 1, tzinfo=UTC)
    schedule = Schedule("n", "0 2 * * *", "Europe/Berlin", "r", "", catch_up)
    assert schedule.wants(tick, tick + timedelta(seconds=40))
    assert schedule.batch(tick) == "n-20260110-010000"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"cron": "61 * * * *"}, "is no time"),
        ({"zone": "Mars/Base"}, "no such time zone"),
        ({"catch_up": "lates"}, r"should be one of latest, all, none \(did you mean latest\?\)"),
    ],
)
def test_what_cannot_be_is_told(wrong: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        checked(from_json({**NIGHTLY.to_json(), **wrong}))


def test_a_schedule_is_added_listed_fired_and_removed(workshop: Workshop) -> None:
    text = (
        "inputs: {name: ~}\nsteps: [{trim: {clip: clip.mp4, length: 1s}}]\ndeliver: [{preset: web, file: $name.mp4}]\n"
    )
    workshop.write(text)
    (workshop.folder / "rows.csv").write_text("name\nfirst\n", encoding="utf-8")
    added = workshop.cli("schedule", "add", "0 2 * * MON", "film.yaml", "--rows", "rows.csv")
    assert "film: next at" in added.stdout, added.stderr
    assert "already" in workshop.cli("schedule", "add", "0 2 * * MON", "film.yaml", "--rows", "rows.csv").stderr
    (workshop.folder / "rows.csv").write_text("name\nsecond\n", encoding="utf-8")  # it is read at each tick
    assert workshop.cli("schedule", "run-now", "film").returncode == 0
    command = workshop.command("worker")
    with subprocess.Popen(command, cwd=workshop.folder, env=environment(), stderr=subprocess.PIPE) as worker:
        end = time.monotonic() + 300
        while not (workshop.folder / "second.mp4").exists():
            assert time.monotonic() < end
            time.sleep(0.1)
        worker.kill()
    assert frames_of(workshop.folder / "second.mp4") == 24
    assert not (workshop.folder / "first.mp4").exists()
    assert "film  0 2 * * MON  film.yaml rows.csv  next" in workshop.cli("schedule", "list").stdout
    assert workshop.cli("schedule", "remove", "film").returncode == 0
    assert "there are no schedules" in workshop.cli("schedule", "list").stderr


@pytest.mark.thorough
def test_three_workers_make_each_tick_once_and_catch_up_as_was_said(workshop: Workshop, postgres_server: str) -> None:
    workshop.write(
        "inputs: {name: ~}\nsteps: [{trim: {clip: clip.mp4, length: 1s}}]\ndeliver: [{preset: web, file: $name.mp4}]\n"
    )
    (workshop.folder / "rows.csv").write_text("name\nfox\n", encoding="utf-8")
    env = {"AFTERFRAME_DATABASE": postgres_server}
    for catch_up in ("all", "latest", "none"):
        words = ("--rows", "rows.csv", "--name", catch_up, "--catch-up", catch_up)
        assert workshop.cli("schedule", "add", "*/4 * * * * *", "film.yaml", *words, env=env).returncode == 0
    schema = f"afterframe_{(workshop.folder / '.pipeline' / 'project').read_text()}"

    def ticks(name: str) -> dict[datetime, str]:
        """What came of each tick that has ended."""
        sql = f"""SELECT w.workflow_uuid, o.output FROM {schema}.workflow_status w
            JOIN {schema}.workflow_output o USING (workflow_uuid) WHERE w.name = 'tick' AND w.status = 'SUCCESS'"""
        with psycopg.connect(postgres_server) as connection:
            rows = connection.execute(sql.encode()).fetchall()
        mark = f"sched-{name}-"
        return {datetime.fromisoformat(id.removeprefix(mark)): said for id, said in rows if id.startswith(mark)}

    def start() -> subprocess.Popen[bytes]:
        command = workshop.command("worker", "--encode", "0", "--no-buy")
        return subprocess.Popen(
            command, cwd=workshop.folder, env=environment(env), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def wait_for(many: int, since: datetime) -> None:
        end = time.monotonic() + 300
        while any(sum(tick > since for tick in ticks(name)) < many for name in ("all", "latest", "none")):
            assert time.monotonic() < end
            time.sleep(0.5)

    workers = [start() for _ in range(3)]
    wait_for(3, datetime(2000, 1, 1, tzinfo=UTC))
    for worker in workers:
        worker.kill()
        worker.wait()
    down = datetime.now(UTC)
    time.sleep(10)
    up = datetime.now(UTC)
    last = start()
    wait_for(2, up + timedelta(seconds=4))
    last.kill()
    last.wait()

    every = sorted(ticks("all"))
    assert {later - earlier for earlier, later in itertools.pairwise(every)} == {
        timedelta(seconds=4)
    }  # none is left out
    assert all("missed" not in said for said in ticks("all").values())
    batches = {file.stem for file in (workshop.folder / ".pipeline" / "batches").glob("all-*.json")}
    assert batches >= {f"all-{tick.astimezone(UTC):%Y%m%d-%H%M%S}" for tick in every}
    # Down lasted for three ticks at most; the last of them may be made.
    missed = {
        name: {tick: said for tick, said in ticks(name).items() if down < tick < up} for name in ("latest", "none")
    }
    assert missed["none"] == {}
    assert missed["latest"]
    assert sum("missed" not in said for said in missed["latest"].values()) <= 1
    with psycopg.connect(postgres_server) as connection:
        sql = f"SELECT count(*), count(DISTINCT workflow_uuid) FROM {schema}.workflow_status WHERE name = 'render'"
        many, different = connection.execute(sql.encode()).fetchone() or (0, 0)
    assert many == different
