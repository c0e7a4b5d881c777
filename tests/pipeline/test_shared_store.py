"""Two machines that share a database and a store, and nothing else: two folders, two homes, one batch."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import buckets
import postgres
import psycopg
import pytest
from shoot import Server, server
from workshop import Workshop, environment, frames_of, watched_ffmpeg

from pipeline.batch import Engine, Worker
from pipeline.report import write_report
from pipeline.roster import draw_up, submitted
from pipeline.rows import read_rows
from pipeline.run import Result
from pipeline.sharing import Seen
from pipeline.slots import Slots
from pipeline.turns import Sofar, Turn
from pipeline.yard import Yard
from stages.depot import depot_at
from stages.errors import WriteError
from stages.files import sha256
from stages.ledger import Purchase, open_ledger, original_of
from stages.stores import TURNS, close_idle, turn

pytest_plugins = ["desks"]

RECIPE = """\
inputs: {prompt: ~, name: ~, clip: ~}
budget: {total: $10}
steps:
  - generate: {prompt: $prompt, frame: 16:9, length: 2s, model: sim}
  - concat: [$generate, $clip]
  - trim: 3s
  - caption: {file: words.srt, burn: no, sidecar: srt}
deliver: [{preset: web, file: out/$name.mp4}]
"""

ROWS = "prompt,name,clip\na fox,fox,clip.mp4\na hen,hen,clip.mp4\na cow,cow,silent.mp4\na fox,fox2,clip.mp4\n"


@dataclass(frozen=True, slots=True)
class Machine:
    """A project of its own, with its own home; what it shares is in `shared`."""

    workshop: Workshop
    shared: dict[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        home, ffmpeg = self.workshop.folder.parent / "home", watched_ffmpeg(self.workshop)
        return {**self.shared, "AFTERFRAME_HOME": str(home), "IMAGEIO_FFMPEG_EXE": str(ffmpeg)}

    def cli(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = self.workshop.cli(*arguments, env=self.env)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
        return done

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self.workshop.command(*arguments), cwd=self.workshop.folder, env=environment(self.env),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.started.append(process)
        return process

    def encodes(self) -> int:
        log = self.workshop.log
        return log.read_text(encoding="utf-8").count("libx264") if log.exists() else 0


@pytest.fixture
def sells(tmp_path: Path) -> Iterator[Server]:
    """A server that films."""
    with server(tmp_path / "server") as one:
        yield one


@pytest.fixture
def machines(
    tmp_path: Path, small_media: Path, postgres_server: str, s3_server: str, sells: Server
) -> Iterator[tuple[Machine, Machine]]:
    """The one that submits, with the media; and one that has nothing but an empty folder."""
    postgres.empty(postgres_server)
    shared = {
        **buckets.environment(s3_server),
        "AFTERFRAME_STORE": f"{buckets.bucket(s3_server)}/project",
        "AFTERFRAME_DATABASE": postgres_server,
        "AFTERFRAME_SIM_URL": sells.url,
    }
    first, second = (Machine(Workshop(tmp_path / name / "project"), shared) for name in ("one", "two"))
    shutil.copytree(small_media, first.workshop.folder, dirs_exist_ok=True)
    first.workshop.write(RECIPE)
    (first.workshop.folder / "rows.csv").write_text(ROWS, encoding="utf-8")
    yield first, second
    for process in (*first.started, *second.started):  # what a test that failed left
        process.kill()
        process.wait()
    close_idle()


def ends(database: str) -> list[dict[str, Any]]:
    """What came of the renders that have ended, as the engine has it: `pipeline status` again and again is dear."""
    with psycopg.connect(database, autocommit=True) as connection:
        (name,) = (
            connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'afterframe_%'").fetchone() or ()
        )
        sql = f"SELECT o.output FROM {name}.workflow_output o WHERE o.output IS NOT NULL"
        told = [json.loads(output) for (output,) in connection.execute(sql.encode()).fetchall()]
    return [each for each in told if each["state"] != "handed over"]


def wait_for(done: int, database: str, *workers: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    """What came of so many renders."""
    end = time.monotonic() + 900
    while len(told := ends(database)) < done:
        assert time.monotonic() < end, told
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.2)
    assert [each["state"] for each in told] == ["done"] * done, told
    return told


def test_two_machines_finish_one_batch_with_nothing_bought_or_made_twice(
    machines: tuple[Machine, Machine], sells: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machines
    one.cli("batch", "film.yaml", "--rows", "rows.csv", "--detach")
    workers = [machine.start("worker", "--encode", "1") for machine in machines]
    told = wait_for(4, one.shared["AFTERFRAME_DATABASE"], *workers)
    for worker in workers:
        worker.terminate()
        worker.wait(300)
    assert sells.sales() == 3  # two of the four rows want the same film
    assert sum(each["made"].get("encode", 0) for each in told) == 3
    assert one.encodes() + two.encodes() == 3
    assert {each["files"][0]["provenance"] for each in told} == {"proved"}
    assert not (one.workshop.folder / "out").exists()
    assert "8 files fetched from s3://" in one.cli("fetch").stderr
    delivered = {file.name: frames_of(file) for file in (one.workshop.folder / "out").glob("*.mp4")}
    assert delivered == {"fox.mp4": 72, "hen.mp4": 72, "cow.mp4": 72, "fox2.mp4": 72}
    assert len(list((one.workshop.folder / "out").glob("*.srt"))) == 4
    assert [*one.workshop.leftovers(), *two.workshop.leftovers()] == []

    # On a third machine, which shares the store and the ledger, nothing is left to make, and its place does not matter.
    for name, value in one.shared.items():
        monkeypatch.setenv(name, value)
    third = Workshop(tmp_path / "three" / "project")
    (third.folder / "clips").mkdir()
    for name in ("clip.mp4", "words.srt"):
        shutil.copy(one.workshop.folder / name, third.folder / "clips" / f"other-{name}")
    text = RECIPE.replace("words.srt", "clips/other-words.srt")
    given = {"prompt": "a fox", "name": "fox", "clip": str(third.folder / "clips" / "other-clip.mp4")}
    result = third.run(text, given)
    assert (result.made, [file.name for file in result.placed]) == ([], ["fox.mp4", "fox.srt"])
    assert write_report(third.read(text, given), third.store, result).exists()


SMALL = """\
steps: [{trim: {clip: clip.mp4, length: 1s}}]
deliver: [{preset: web, file: out/film.mp4}]
"""


def run_and_damage_the_film(workshop: Workshop, shared: Path) -> Result:
    """A run whose film is not whole any more in the store."""
    first = workshop.run(SMALL)
    (film,) = (note for task in first.final.tasks if (note := first.world.notes[task.name]).name.startswith("film-"))
    (kept,) = shared.rglob(film.sha256)
    kept.write_bytes(b"damaged")
    return first


def test_what_is_damaged_in_the_store_is_told_and_made_again(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERFRAME_STORE", str(tmp_path / "shared"))
    first = run_and_damage_the_film(workshop, tmp_path / "shared")
    for name in ("tasks", "signer"):  # as on another machine, which signs as the first did
        shutil.rmtree(workshop.folder / ".pipeline" / name)
    seen_by(workshop).forget_all()
    (workshop.folder / "out" / "film.mp4").unlink()
    assert workshop.run(SMALL).made == []  # what was delivered is whole
    (kept,) = (tmp_path / "shared").rglob(first.world.notes[first.final.deliveries[0].task].sha256)
    kept.write_bytes(b"damaged, too")
    shutil.rmtree(workshop.folder / ".pipeline" / "tasks")
    (workshop.folder / "out" / "film.mp4").unlink()
    again = workshop.run(SMALL)
    assert sorted(task.name.partition("-")[0] for task in again.made) == ["delivery", "film"]
    assert sum("is damaged" in warning and "it is made again" in warning for warning in again.warnings) == 2
    depot = depot_at(str(tmp_path / "shared"))
    for name in ("film", "delivery"):
        (task,) = (task.name for task in again.made if task.name.startswith(name))
        depot.fetch(again.world.notes[task].sha256, tmp_path / name)
    assert frames_of(workshop.folder / "out" / "film.mp4") == 24


def test_a_report_of_what_the_store_has_lost_is_asked_for_again(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERFRAME_STORE", str(tmp_path / "shared"))
    run_and_damage_the_film(workshop, tmp_path / "shared")
    shutil.rmtree(workshop.folder / ".pipeline" / "tasks")  # as on another machine
    seen_by(workshop).forget_all()
    result = workshop.run(SMALL)
    assert result.made == []
    with pytest.raises(WriteError, match=r"is damaged: .*: what was delivered is whole; run it again for the report"):
        write_report(workshop.read(SMALL), workshop.store, result)
    assert write_report(workshop.read(SMALL), workshop.store, workshop.run(SMALL)).exists()


def test_what_was_not_there_is_looked_for_anew_once_a_render_is_handed_over(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else two machines hand it to each other, until the one has forgotten that it did not see what the other made."""
    monkeypatch.setenv("AFTERFRAME_STORE", str(tmp_path / "shared"))
    recipe, missed = workshop.read(SMALL), seen_by(workshop).missed
    batch = SimpleNamespace(recipe="film.yaml", keys=frozenset())
    yard = SimpleNamespace(open=lambda *_: (batch, recipe, workshop.store))
    worker = Worker(Engine(tmp_path), cast("Yard", yard))
    worker.free = Slots(1)
    missed["film-of-another"] = time.monotonic()
    spec = {"batch": "batch", "render": "one", "run": "one", "role": "make"}
    worker._turn({**spec, "turn": 0})
    assert missed
    worker._turn({**spec, "turn": 1})
    assert not missed


@pytest.mark.parametrize("content", [b"damaged", None], ids=["damaged", "gone"])
def test_what_was_damaged_before_it_could_be_sent_is_made_again(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    first = workshop.run(SMALL)
    note = first.world.notes[first.final.deliveries[0].task]
    (film,) = (note.folder / name for name in note.files if name.endswith(".mp4"))
    film.write_bytes(content) if content else film.unlink()
    (workshop.folder / "out" / "film.mp4").unlink()
    (workshop.store.folder / "unsent").mkdir()
    (workshop.store.folder / "unsent" / note.name).touch()
    monkeypatch.setenv("AFTERFRAME_STORE", str(tmp_path / "shared"))
    assert note.name in {task.name for task in workshop.run(SMALL).made}
    assert frames_of(workshop.folder / "out" / "film.mp4") == 24
    depot_at(str(tmp_path / "shared")).fetch(sha256(workshop.folder / "out" / "film.mp4"), tmp_path / "film.mp4")
    assert not list((workshop.store.folder / "unsent").iterdir())


def seen_by(workshop: Workshop) -> Seen:
    """What this process knows of the workshop's store."""
    assert workshop.store.shared
    return workshop.store.shared.seen


def test_a_paid_original_is_fetched_from_the_store_and_a_damaged_one_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERFRAME_STORE", str(tmp_path / "shared"))
    film, depot = tmp_path / "film.mp4", depot_at(str(tmp_path / "shared"))
    film.write_bytes(b"paid")
    digest = sha256(film)
    depot.keep(film, digest)
    row = Purchase(
        "k",
        1,
        1,
        "DONE",
        "sim",
        "sim",
        "sim",
        "a fox",
        4,
        "1x1",
        Decimal(1),
        original="originals/film.mp4",
        sha256=digest,
    )
    original = original_of(open_ledger(tmp_path / "home"), row)
    assert original
    assert original.read_bytes() == b"paid"
    (kept,) = (tmp_path / "shared").rglob(digest)
    kept.write_bytes(b"another")
    assert original_of(open_ledger(tmp_path / "second"), row) is None
    assert not depot.holds(digest)  # so that the good one can be put there


def test_of_all_machines_one_is_at_a_task(postgres_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERFRAME_DATABASE", postgres_server)
    with psycopg.connect(postgres_server, autocommit=True) as another:
        with turn("film-1") as mine, turn("film-2") as too:
            assert (mine, too) == (True, True)
            sql = "SELECT pg_try_advisory_lock(%s, hashtext('film-1'))"
            assert another.execute(sql, [TURNS]).fetchone() == (False,)
        assert another.execute(sql, [TURNS]).fetchone() == (True,)
        with turn("film-1") as mine:
            assert not mine
    close_idle()


def test_another_machine_makes_what_a_schedule_was_given(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERFRAME_STORE", str(tmp_path / "shared"))
    recipe = workshop.write("inputs: {clip: ~}\n" + SMALL.replace("clip.mp4", "$clip"))
    (workshop.folder / "rows.csv").write_text("clip\nclip.mp4\n", encoding="utf-8")
    (workshop.folder / "models.yaml").write_text("sora-2: sim\n", encoding="utf-8")
    rows = read_rows(str(workshop.folder / "rows.csv"), recipe, recipe.read_text(encoding="utf-8"))
    drawn = draw_up(recipe, rows, workshop.store)
    Yard(workshop.store.folder).keep_for("nightly", drawn)
    content = (workshop.folder / "clip.mp4").read_bytes()
    shutil.rmtree(workshop.folder)

    there = Yard(tmp_path / "elsewhere" / ".pipeline")
    there.folder.mkdir(parents=True)
    batch = there.kept_for("nightly", "nightly-1")
    assert batch
    there.submit(submitted(batch, {})[0])
    found, read, store = there.open("nightly-1", batch.good[0].id)
    assert found.good[0].run == f"{drawn.good[0].id}/nightly-1"
    (clip,) = read.files
    assert (clip.name, clip.read_bytes() == content) == ("clip.mp4", True)
    assert store.models
    assert store.models.read_text(encoding="utf-8") == "sora-2: sim\n"
    assert [file.is_relative_to(there.folder.parent / "out") for file in (d.file for d in read.deliveries)] == [True]
    assert there.kept_for("weekly", "weekly-1") is None


def test_while_the_store_is_away_a_render_waits_and_what_was_made_is_sent_later(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise WriteError("the store cannot be used now")

    monkeypatch.setenv("AFTERFRAME_STORE", str(tmp_path / "shared"))
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.sharing.keep_all", away)
        step = Turn(workshop.read(SMALL), workshop.store, "make").step(Sofar())
        assert (step.next, step.seconds, step.sofar.errors) == ("wait", 5.0, [])
        (made,) = (workshop.store.folder / "unsent").iterdir()
        step = Turn(workshop.read(SMALL), workshop.store, "make").step(step.sofar)
        assert (step.next, step.seconds) == ("wait", 20.0)
    step = Turn(workshop.read(SMALL), workshop.store, "make").step(step.sofar)
    assert step.next == "again"
    assert step.made[0]["task"] != made.name
    assert step.made[0]["uri"].endswith(f"/{step.made[0]['sha256']}")
    assert not list((workshop.store.folder / "unsent").iterdir())
    assert {entry.name for entry in depot_at(str(tmp_path / "shared")).list("tasks")} >= {f"tasks/{made.name}"}

    monkeypatch.setenv("AFTERFRAME_STORE", "s3://out-of-reach-of-tests")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr("stages.depot.PATIENCE", 0.1)
    assert Turn(workshop.read(SMALL), workshop.store, "make").step(Sofar()).next == "wait"
    assert Yard(workshop.store.folder).told("any") == "go"
