"""Real runs on small media: what is made, what is used again, and what happens when something is in the way."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lab import counted, numbers
from workshop import (
    FILM,
    FIXTURES,
    ROOT,
    Workshop,
    environment,
    flip_a_byte,
    frames_of,
    golden,
    make_media,
    watched_ffmpeg,
)

from pipeline.read import read_recipe
from pipeline.run import Event, Result, Work, make, run
from pipeline.show import plan_text, summary
from pipeline.store import Damaged
from stages.conformance import conform
from stages.errors import InputError, ProvenanceError, RecipeError
from stages.files import machine, sha256
from stages.media import mp4_layout, open_clip
from stages.provenance import verify

pytest_plugins = ["desks"]

QUICK = "steps:\n- trim: {clip: clip.mp4, length: 0.5s, lossless: never}\ndeliver: [{preset: web, file: out/web.mp4}]\n"
"""One encode of twelve frames."""


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, small_media: Path) -> tuple[Workshop, Result]:
    """FILM, run; not to be changed."""
    workshop = Workshop(tmp_path_factory.mktemp("once") / "project")
    shutil.copytree(small_media, workshop.folder, dirs_exist_ok=True)
    return workshop, workshop.run()


@pytest.fixture
def finished(once: tuple[Workshop, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A copy of the project in which FILM was run; its ffmpeg notes each call."""
    workshop = Workshop(tmp_path / "project")
    shutil.copytree(once[0].folder, workshop.folder, dirs_exist_ok=True, copy_function=shutil.copy2)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(watched_ffmpeg(workshop)))
    return workshop


def hashes(workshop: Workshop) -> dict[str, str]:
    """Of what is delivered."""
    return {file.name: sha256(file) for file in sorted((workshop.folder / "out").glob("*.mp4"))}


def actions(result: Result) -> dict[str, str]:
    """What was done for each task."""
    return {task.title: task.action for task in result.first.tasks}


# ---------------------------------------------------------------- the first run


def test_everything_is_delivered_as_described_and_proved(once: tuple[Workshop, Result]) -> None:
    workshop, result = once
    assert result.count("encode") == 2
    assert result.count("make") == 6  # two ingests, two sounds, two deliveries
    assert result.warnings == []
    for name, own in zip(("web", "youtube"), result.final.deliveries, strict=True):
        file = workshop.folder / "out" / f"{name}.mp4"
        delivered = result.delivered(own)
        assert own.file == file
        assert frames_of(file) == delivered.frames == 24
        clip = open_clip(file)
        assert clip.picture
        assert clip.sound
        assert str(clip.picture.size) == str(delivered.size) == "320x180"
        assert clip.picture.rate == delivered.rate == 24
        assert clip.sound.samples == 48_000
        assert delivered.loudness
        assert abs(delivered.loudness.loudness + 16) <= 0.2
        found = verify(file, anchors=workshop.store.anchors, original=workshop.folder / "clip.mp4")
        assert (found.verdict, found.signer) == ("proved", "test")
        assert mp4_layout(file).moov_first
        assert mp4_layout(file).edit_lists == (name == "web")
    assert workshop.leftovers() == []


def test_deliveries_of_the_same_sources_share_one_process(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(watched_ffmpeg(workshop)))
    workshop.run()
    assert sum("libx264" in line for line in workshop.calls()) == 1


OTHERS = """\
steps:
- trim: {clip: clip.mp4, length: 0.5s, lossless: never}
deliver:
- {preset: web, file: out/film.mp4}
- {preset: mezzanine, file: out/film.mov}
- {preset: poster, file: out/film.jpg}
- {preset: preview-gif, file: out/film.gif}
"""


def test_films_and_pictures_of_one_clip_share_a_process_and_are_restored_alike(workshop: Workshop) -> None:
    result = workshop.run(OTHERS)
    assert result.count("encode") == 4
    for placement in result.final.deliveries:
        assert [str(row) for row in conform(placement.file, placement.cut.preset) if not row.fine] == []
        assert verify(placement.file, anchors=workshop.store.anchors).verdict == "proved"
    found = {file.suffix: file.read_bytes() for file in (workshop.folder / "out").glob("film.*")}
    assert set(found) == {".mp4", ".mov", ".jpg", ".gif"}
    (workshop.folder / "out" / "film.gif").unlink()
    (workshop.folder / "out" / "film.mov").write_bytes(b"rotten")
    assert not workshop.run(OTHERS).made
    assert {file.suffix: file.read_bytes() for file in (workshop.folder / "out").glob("film.*")} == found


def test_an_end_is_cut_off_without_encoding_where_that_is_exact_and_the_plan_says_so(workshop: Workshop) -> None:
    counted(workshop.folder / "clip.mp4", "-c:v", "libx264", "-bf", "0", "-g", "24")
    tasks = workshop.run(QUICK.replace("never", "auto")).first.tasks
    (film,) = (task for task in tasks if task.name.startswith("film"))
    assert (film.action, film.reason) == ("copy", "new; its end is cut off, and the rest is copied")
    assert numbers(workshop.folder / "out" / "web.mp4") == list(range(12))
    with pytest.raises(RecipeError, match=r"film.yaml:2: trim.lossless: a cut at the start is encoded"):
        workshop.run(QUICK.replace("never", "require, start: 4f"))


def test_hardware_that_is_not_there_is_not_used_and_the_reason_is_said(workshop: Workshop) -> None:
    asked = QUICK.replace("file: out", "encoder: nvenc, file: out")
    result = workshop.run(asked)
    (remark,) = result.final.remarks
    assert remark.startswith("web: nvenc is not used: ffmpeg failed")
    assert "ibcuda" in remark
    assert result.final.deliveries[0].cut.encoding.codec == "libx264"
    assert frames_of(workshop.folder / "out" / "web.mp4") == 12


def test_the_summary_is_short(once: tuple[Workshop, Result]) -> None:
    workshop, result = once
    result.seconds = 1.5
    text = summary(workshop.read(FILM), result, workshop.folder / "out" / "film.report.html")
    text = re.sub(r"-1[56]\.\d LUFS", "-16 LUFS", text)  # within the tolerance
    golden("summary.txt", text + "\n")


# ---------------------------------------------------------------- the second run


def test_a_second_run_encodes_nothing(finished: Workshop) -> None:
    before = hashes(finished)
    result = finished.run()
    assert set(actions(result).values()) == {"cached"}
    assert (result.made, result.placed, finished.calls()) == ([], [], [])
    assert hashes(finished) == before
    assert "everything cached" in summary(finished.read(FILM), result, finished.folder / "report.html")


def test_a_delivery_that_was_deleted_is_restored_without_encoding(finished: Workshop) -> None:
    before = hashes(finished)
    (finished.folder / "out" / "web.mp4").unlink()
    assert "is missing: restored from the cache" in plan_text(finished.plan())
    result = finished.run()
    assert result.placed == [finished.folder / "out" / "web.mp4"]
    assert (hashes(finished), finished.calls()) == (before, [])


def test_a_delivery_that_was_altered_by_a_byte_is_restored(finished: Workshop) -> None:
    before = hashes(finished)
    web = finished.folder / "out" / "web.mp4"
    flip_a_byte(web)
    assert hashes(finished) != before
    assert "differs: restored from the cache" in plan_text(finished.plan())
    assert finished.run().placed == [web]
    assert (hashes(finished), finished.calls()) == (before, [])


def test_the_whole_output_folder_may_go(finished: Workshop) -> None:
    before = hashes(finished)
    shutil.rmtree(finished.folder / "out")
    finished.run()
    assert (hashes(finished), finished.calls()) == (before, [])


def test_a_delivery_is_a_copy_of_its_own(finished: Workshop) -> None:
    """Not a hard link: writing into a delivered file must not reach the cache."""
    before = hashes(finished)
    web = finished.folder / "out" / "web.mp4"
    with web.open("r+b") as file:
        file.write(b"scribble")
    finished.run()
    assert hashes(finished) == before


def test_a_project_that_was_moved_encodes_nothing_again(
    finished: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hashes(finished)
    finished.folder.rename(tmp_path / "moved")
    moved = Workshop(tmp_path / "moved")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(watched_ffmpeg(moved)))
    result = moved.run()
    assert (set(actions(result).values()), result.placed, moved.calls()) == ({"cached"}, [], [])
    (moved.folder / "out" / "web.mp4").unlink()
    moved.run()
    assert (hashes(moved), moved.calls()) == (before, [])


def test_the_working_folder_makes_no_difference(finished: Workshop, tmp_path: Path) -> None:
    before = hashes(finished)
    (finished.folder / "out" / "web.mp4").unlink()
    done = finished.cli("run", finished.folder / "film.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (hashes(finished), finished.calls()) == (before, [])
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".pipeline").exists()


@pytest.mark.parametrize(
    ("old", "new", "encoded", "kept"),
    [
        ("duck: 10 dB", "duck: 6 dB", 2, {"clip.mp4", "voice.wav"}),
        ("size: 320x180", "size: 240x136", 2, {"clip.mp4", "voice.wav", "sound for web", "sound for youtube"}),
        ("web, file", "web, captions: no, file", 1, {"youtube", "film for youtube", "sound for web", "clip.mp4"}),
        ("out/web.mp4", "out/other.mp4", 0, {"web", "youtube", "sound for web", "clip.mp4", "voice.wav"}),
    ],
)
def test_a_changed_line_remakes_only_what_depends_on_it(
    finished: Workshop, old: str, new: str, encoded: int, kept: set[str]
) -> None:
    result = finished.run(FILM.replace(old, new))
    assert result.count("encode") == encoded
    assert kept <= {title for title, action in actions(result).items() if action == "cached"}
    assert all(verify(file, anchors=finished.store.anchors).verdict == "proved" for file in
               (placement.file for placement in result.final.deliveries))  # fmt: skip


def test_going_back_to_what_was_is_cached(finished: Workshop) -> None:
    finished.run(FILM.replace("size: 320x180", "size: 240x136"))
    finished.calls()
    result = finished.run()
    assert set(actions(result).values()) == {"cached"}
    assert [file.name for file in result.placed] == ["web.mp4", "youtube.mp4"]
    assert finished.calls() == []


def test_state_may_be_deleted(finished: Workshop) -> None:
    shutil.rmtree(finished.folder / ".pipeline")
    result = finished.run()
    assert result.count("encode") == 2
    assert len(finished.calls()) > 4
    for name in ("web", "youtube"):
        file = finished.folder / "out" / f"{name}.mp4"
        assert frames_of(file) == 24
        assert verify(file, anchors=finished.store.anchors).verdict == "proved"


@pytest.mark.parametrize("gone", ["film.mp4", "note.json", "sheet.jpg", "sound.m4a", "ingredient.c2pa", "waves.png"])
def test_what_a_partly_removed_task_lacks_is_made_again_when_it_is_needed(finished: Workshop, gone: str) -> None:
    tasks = finished.folder / ".pipeline" / "tasks"
    for file in (found := list(tasks.glob(f"*/{gone}"))):
        file.unlink()
    assert found
    shutil.rmtree(finished.folder / "out")
    done = finished.cli("run", "film.yaml")
    assert done.returncode == 0, done.stderr
    for name in ("web", "youtube"):
        file = finished.folder / "out" / f"{name}.mp4"
        assert frames_of(file) == 24
        assert verify(file, anchors=finished.store.anchors).verdict == "proved"
    assert finished.run().made == []
    assert not finished.leftovers()


@pytest.mark.parametrize("kind", ["ingest", "sound", "film", "delivery", "ingest sound", "sound delivery"])
def test_whole_tasks_may_be_removed(finished: Workshop, kind: str) -> None:
    for each in kind.split():
        for task in (finished.folder / ".pipeline" / "tasks").glob(f"{each}-*"):
            shutil.rmtree(task)
    done = finished.cli("run", "film.yaml")
    assert done.returncode == 0, done.stderr
    assert finished.run().made == []


def test_a_kept_film_that_rotted_is_not_delivered(finished: Workshop) -> None:
    before = hashes(finished)
    (kept,) = [
        film
        for film in (finished.folder / ".pipeline" / "tasks").glob("*/film.mp4")
        if sha256(film) == before["web.mp4"]
    ]
    flip_a_byte(kept)
    (finished.folder / "out" / "web.mp4").unlink()
    finished.run()
    assert verify(finished.folder / "out" / "web.mp4", anchors=finished.store.anchors).verdict == "proved"


def test_what_a_power_cut_left_empty_is_made_again(finished: Workshop) -> None:
    for file in (finished.folder / ".pipeline" / "tasks").glob("*/*"):
        if file.name != "note.json":
            file.write_bytes(b"")
    shutil.rmtree(finished.folder / "out")
    done = finished.cli("run", "film.yaml")
    assert done.returncode == 0, done.stderr
    for name in ("web", "youtube"):
        file = finished.folder / "out" / f"{name}.mp4"
        assert frames_of(file) == 24
        assert verify(file, anchors=finished.store.anchors).verdict == "proved"
    assert finished.run().made == []


def test_a_task_whose_need_another_found_damaged_waits_until_it_is_made_again(finished: Workshop) -> None:
    for kind in ("film", "delivery"):
        for task in (finished.folder / ".pipeline" / "tasks").glob(f"{kind}-*"):
            shutil.rmtree(task)
    shutil.rmtree(finished.folder / "out")
    work = Work.begin(read_recipe(finished.folder / "film.yaml"), finished.store)
    group = next(each for each in work.ready() if each[0].name.startswith("film-"))
    work.discard(Damaged(work.result.world.notes[group[0].needs[0]]))
    work.end(lambda: make(group, work.store, work.result.world, work.watch, frozenset()), group)
    assert (work.errors, work.failed) == ([], set())
    with ThreadPoolExecutor(2) as pool:
        work.off(pool)
    assert work.errors == []
    assert frames_of(finished.folder / "out" / "web.mp4") == 24


@pytest.mark.parametrize("name", ["files/*.json", "tools.json"])
def test_a_broken_cache_file_is_read_anew(finished: Workshop, name: str) -> None:
    kept = list((finished.folder / ".pipeline").glob(name))
    assert kept
    for file in kept:
        file.write_text('{"half": ', encoding="utf-8")
    assert finished.run().made == []
    assert finished.calls() == []


# ---------------------------------------------------------------- more than one


def test_two_deliveries_of_one_film_are_encoded_once(workshop: Workshop) -> None:
    text = QUICK.replace("deliver: [", "deliver: [{preset: web, file: out/a.mp4}, ")
    result = workshop.run(text)
    assert result.count("encode") == 1
    assert len(set(hashes(workshop).values())) == 1
    assert sorted(hashes(workshop)) == ["a.mp4", "web.mp4"]


def test_two_recipes_in_two_folders_of_one_project_share_their_tasks(workshop: Workshop) -> None:
    workshop.run(QUICK)
    other = workshop.folder / "recipes" / "other.yaml"
    other.parent.mkdir()
    done = workshop.cli("run", workshop.write(QUICK.replace("clip.mp4", "../clip.mp4"), "recipes/other.yaml"), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["encoded"], told["cached"]) == (0, 4)


def test_two_runs_at_once_wait_for_each_other(workshop: Workshop) -> None:
    workshop.write(FILM)
    runs = [
        subprocess.Popen(
            workshop.command("run", "film.yaml", "--json"),
            cwd=workshop.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300) for process in runs]
    assert [process.returncode for process in runs] == [0, 0], said
    assert sorted(json.loads(out)["encoded"] for out, _ in said) == [0, 2]
    assert workshop.leftovers() == []


def test_half_made_work_of_a_killed_run_is_cleared_away(finished: Workshop) -> None:
    """As a kill leaves it: a task half made, and a delivery half copied by a process that is no more."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    half = finished.folder / ".pipeline" / "tmp" / f".af-{machine()}-{gone.pid}-0badcafe"
    half.mkdir(parents=True)
    for part in (half / "film.mp4", finished.folder / "out" / f".af-{machine()}-{gone.pid}-0badcafe.mp4"):
        part.write_bytes(b"half")
    (finished.folder / ".pipeline" / f".af-{machine()}-{gone.pid}-0badcafe.json").write_bytes(b"half")
    (finished.folder / "out" / ".af-mine.mp4").write_bytes(b"somebody's own")
    theirs = f".af-0badcafe-{gone.pid}-0badcafe"
    (finished.folder / ".pipeline" / f"{theirs}.json").write_bytes(b"another machine writes it now")
    forgotten = finished.folder / ".pipeline" / f"{theirs}-old.json"
    forgotten.touch()
    os.utime(forgotten, (0, 0))
    finished.run()
    assert finished.leftovers() == [f".pipeline/{theirs}.json", "out/.af-mine.mp4"]


# ---------------------------------------------------------------- what stops a run


def test_a_film_that_was_changed_after_it_was_signed_stops_the_run(desk: Workshop) -> None:
    make_media(desk.folder)
    shutil.copy2(FIXTURES / "bunny.mp4", desk.folder / "clip.mp4")
    shutil.copy2(FIXTURES / "fixture-root.pem", desk.folder)
    flip_a_byte(desk.folder / "clip.mp4")
    text = f"provenance: {{anchors: [fixture-root.pem]}}\n{QUICK}"
    with pytest.raises(ProvenanceError, match=r"clip\.mp4: was changed after it was signed") as caught:
        desk.run(text)
    assert caught.value.verdict == "tampered"
    assert not (desk.folder / "out").exists()
    assert desk.leftovers() == []
    done = desk.cli("run", "film.yaml")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("clip.mp4: was changed after it was signed (assertion.bmffHash.mism")
    assert "Traceback" not in done.stderr


def test_what_was_finished_before_an_error_stays(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    flaky = workshop.folder / "flaky-ffmpeg"
    real = watched_ffmpeg(workshop)
    flaky.write_text(f'#!/bin/sh\ncase "$*" in *libx264*) exit 9;; esac\nexec {real} "$@"\n', encoding="utf-8")
    flaky.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(flaky))
    with pytest.raises(ExceptionGroup) as raised:  # the shared encode, and then each film alone
        workshop.run()
    assert [str(error) for error in raised.value.exceptions] == ["ffmpeg failed (exit code 9): it said nothing"] * 2
    assert not (workshop.folder / "out").exists()
    assert workshop.leftovers() == []
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(real))
    workshop.calls()
    result = workshop.run()
    cached = {title for title, action in actions(result).items() if action == "cached"}
    assert {"sound for web", "sound for youtube"} <= cached
    assert sum("libx264" in line for line in workshop.calls()) == 1


def test_an_anchor_that_is_none_is_told_by_its_own_name_and_not_kept(workshop: Workshop) -> None:
    text = f"provenance: {{anchors: [words.srt]}}\n{QUICK}"
    with pytest.raises(InputError, match=r"project/words\.srt: holds no certificate"):
        workshop.run(text)
    assert workshop.cli("run", workshop.write(QUICK)).returncode == 0
    assert workshop.cli("verify", "out/web.mp4").returncode == 0


def test_nothing_is_made_of_a_recipe_that_cannot_work(workshop: Workshop) -> None:
    with pytest.raises(RecipeError):
        workshop.run(QUICK.replace("0.5s", "9s"))
    assert not (workshop.folder / "out").exists()
    assert not (workshop.folder / ".pipeline" / "tasks").exists()


# ---------------------------------------------------------------- what can be watched


def test_progress_is_told(workshop: Workshop) -> None:
    events: list[Event] = []
    run(workshop.read(FILM), workshop.store, events.append)
    assert events[0].kind == "planned"
    encodes = [event for event in events if event.kind == "started" and event.tasks[0].action == "encode"]
    assert [len(event.tasks) for event in encodes] == [2]
    fractions = [event.fraction for event in events if event.kind == "progress"]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    placed = {event.file.name for event in events if event.kind == "placed" and event.file}  # as they are signed
    assert placed == {"web.mp4", "youtube.mp4"}
    assert sum(len(event.tasks) for event in events if event.kind == "done") == 8


# ---------------------------------------------------------------- the packaged recipe


@pytest.mark.slow
def test_the_packaged_recipe_finishes_the_bunny(tmp_path: Path) -> None:
    """From another project, as a user would: outputs go there, inputs come from beside the recipe."""
    shutil.copytree(ROOT / "presets" / "recipes", tmp_path / "shop" / "presets" / "recipes")
    shutil.copytree(FIXTURES, tmp_path / "shop" / "fixtures")
    shop = Workshop(tmp_path / "shop")
    done = shop.cli("run", "presets/recipes/finish.yaml", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [(one["path"], one["size"], one["frames"], one["provenance"]) for one in told["files"]] == [
        ("out/web.mp4", "1920x1080", 144, "proved"),
        ("out/youtube.mp4", "1920x1080", 144, "proved"),
    ]
    assert (told["encoded"], told["copied"], told["cached"]) == (2, 0, 0)
    for name in ("web", "youtube"):
        file = shop.folder / "out" / f"{name}.mp4"
        assert frames_of(file) == 144
        found = verify(file, anchors=shop.store.anchors, original=FIXTURES / "bunny.mp4")
        assert found.verdict == "proved"
        assert found.credentials.ai
    again = json.loads(shop.cli("run", "presets/recipes/finish.yaml", "--json").stdout)
    assert (again["encoded"], again["cached"]) == (0, 8)
