"""`pipeline gc`: by age and size, here and in the store, and never what is needed or was paid."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest
from workshop import Workshop

from pipeline.garbage import Limits, Needed, clean_here, clean_store, parse_age, parse_size
from pipeline.sharing import Sharing
from pipeline.yard import Yard
from stages.depot import depot_at, object_name
from stages.errors import InputError
from stages.ledger import open_ledger

pytest_plugins = ["desks"]

FILM = """\
inputs: {{clip: ~, name: ~}}
steps: [{{trim: {{clip: $clip, length: {length}}}}}]
deliver: [{{preset: web, file: out/$name.mp4}}]
"""


def age(folder: Path, days: float) -> None:
    """Make everything in it that old."""
    for file in (folder, *folder.rglob("*")):
        os.utime(file, times=(time.time() - days * 86_400,) * 2)


def kinds(folder: Path) -> list[str]:
    """Which kinds of tasks are there."""
    return sorted(entry.name.partition("-")[0] for entry in (folder / "tasks").glob("*"))


def test_here_the_oldest_go_until_the_rest_is_young_and_small_enough(tmp_path: Path) -> None:
    yard = Yard(tmp_path / ".pipeline")
    for name, days, size in (
        ("film-a", 40, 10),
        ("film-b", 20, 30_000),
        ("film-c", 10, 30_000),
        ("film-d", 0.5, 50_000),
    ):
        (yard.folder / "tasks" / name).mkdir(parents=True)
        (yard.folder / "tasks" / name / "film.mp4").write_bytes(bytes(size))
        age(yard.folder / "tasks" / name, days)
    month, nothing = 30 * 86_400.0, Needed()

    def names(freed: object) -> list[str]:
        return sorted(entry.name[-1] for entry in (yard.folder / "tasks").glob("*"))

    assert names(clean_here(yard, nothing, Limits(month, 100_000), dry=True)) == ["a", "b", "c", "d"]
    assert names(clean_here(yard, Needed(frozenset({"film-a"})), Limits(month))) == ["a", "b", "c", "d"]
    assert names(clean_here(yard, nothing, Limits(month))) == ["b", "c", "d"]
    assert names(clean_here(yard, nothing, Limits(month, 100_000))) == ["c", "d"]
    assert names(clean_here(yard, nothing, Limits(0, 0))) == ["d"]  # what was used within a day stays


def test_of_the_store_stays_what_somebody_needs_and_what_was_paid(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    monkeypatch.setenv("AFTERFRAME_STORE", str(shared))
    yard, given = Yard(workshop.folder / ".pipeline"), {"clip": "clip.mp4", "name": "old"}
    monkeypatch.chdir(workshop.folder)
    first = workshop.run(FILM.format(length="1s"), given)
    second = workshop.run(FILM.format(length="0.5s"), {**given, "name": "needed"})
    paid, digest = tmp_path / "paid.mp4", hashlib.sha256(b"paid").hexdigest()
    paid.write_bytes(b"paid")
    assert yard.shared
    yard.shared.depot.keep(paid, digest)
    with open_ledger().store.transaction() as rows:
        rows.change(
            "INSERT INTO purchase"
            " (key, attempt, version, state, provider, account, model, prompt, seconds, size, sha256)"
            " VALUES ('k', 1, 1, 'DONE', 'sim', 'sim', 'sim', 'a fox', 4, '1x1', :sha256)",
            {"sha256": digest},
        )
    needed = Needed(frozenset(task.name for task in second.final.tasks))
    (shared / "objects" / "aa").mkdir(exist_ok=True)
    (shared / "objects" / "aa" / "half#1").write_bytes(b"half")
    age(shared, 40)
    fresh = workshop.run(FILM.format(length="0.75s"), {**given, "name": "fresh"})

    month = Limits(30 * 86_400.0)
    told = clean_store(yard.shared, needed, month, dry=True)
    assert (told.counts["tasks"], told.counts["files"] > 2) == (3, True)  # they share their source's ingest
    before = {file for file in shared.rglob("*") if file.is_file()}
    assert clean_store(yard.shared, needed, month).counts == told.counts
    gone = {file.name for file in before if not file.exists()}
    others = {task.name for task in (*second.final.tasks, *fresh.final.tasks)}
    assert {name for name in gone if "-" in name} == {task.name for task in first.final.tasks} - others
    assert "half#1" in gone
    assert yard.shared.depot.holds(digest)
    assert clean_store(yard.shared, needed, month).size == 0

    # Another machine, with nothing but the store, still has what was needed, and makes what was freed.
    shutil.rmtree(workshop.folder / ".pipeline" / "tasks")
    yard.shared.seen.notes.clear()
    assert workshop.run(FILM.format(length="0.5s"), {**given, "name": "needed"}).made == []
    again = workshop.run(FILM.format(length="1s"), given)
    assert {task.name for task in again.made} == {task.name for task in first.final.tasks} - others


def test_what_nobody_reads_goes_before_any_note(tmp_path: Path) -> None:
    depot = depot_at(str(tmp_path / "shared"))
    for digest, size in (("a" * 64, 10), ("b" * 64, 100)):
        depot.write(object_name(digest), "x" * size)
    depot.write("tasks/film-a", json.dumps({"files": {"film.mp4": "a" * 64}}))
    age(tmp_path / "shared", 10)
    told = clean_store(Sharing(tmp_path / ".pipeline", depot), Needed(), Limits(30 * 86_400.0, 50))
    assert (told.counts, told.size, told.left) == ({"tasks": 0, "batches": 0, "files": 1}, 100, 10)


def test_a_users_file_that_is_needed_stays_with_what_lies_beside_it(tmp_path: Path) -> None:
    yard, digest = Yard(tmp_path / ".pipeline"), "a" * 64
    for name in (digest, f"{digest}-{'b' * 16}", "c" * 64):
        (yard.folder / "inputs" / name).mkdir(parents=True)
    age(yard.folder, 40)
    assert clean_here(yard, Needed(files=frozenset({digest})), Limits(30 * 86_400.0)).counts == {"inputs": 1}
    assert not (yard.folder / "inputs" / ("c" * 64)).exists()


def test_an_open_batch_keeps_what_its_renders_need(workshop: Workshop) -> None:
    for length, name in (("1s", "a"), ("0.5s", "b")):
        workshop.run(FILM.format(length=length), {"clip": str(workshop.folder / "clip.mp4"), "name": name})
    (workshop.folder / "rows.csv").write_text("clip,name\nclip.mp4,b\n", encoding="utf-8")
    assert workshop.cli("batch", "film.yaml", "--rows", "rows.csv", "--detach").returncode == 0
    age(workshop.folder / ".pipeline" / "tasks", 40)
    found = kinds(workshop.folder / ".pipeline")
    told = workshop.cli("gc", "--older-than", "30d", "--dry-run")
    assert "1 open renders need" in told.stdout, told.stderr
    assert kinds(workshop.folder / ".pipeline") == found == [*["delivery"] * 2, *["film"] * 2, "ingest", *["sound"] * 2]
    told = workshop.cli("gc", "--older-than", "30d")
    assert "3 tasks" in told.stdout, told.stderr
    assert kinds(workshop.folder / ".pipeline") == ["delivery", "film", "ingest", "sound"]


def test_what_is_no_age_or_size_is_told() -> None:
    assert (parse_age("12h"), parse_age("1.5d"), parse_size("200GB")) == (43_200.0, 129_600.0, 200 * 10**9)
    with pytest.raises(InputError, match="--older-than soon: should be hours, days or weeks"):
        parse_age("soon")
    with pytest.raises(InputError, match="--keep-under 7: should be a size"):
        parse_size("7")
