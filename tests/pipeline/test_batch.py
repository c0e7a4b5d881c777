"""Batches as a user runs them: `pipeline batch`, and what one does to it meanwhile."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import postgres
import pytest
from shoot import Shoot, server
from workshop import FFMPEG, Workshop, environment, frames_of, program

from pipeline.metrics import Lines

pytest_plugins = ["desks"]

RECIPE = """\
inputs: {clip: ~, name: ~, length: 1s}
steps:
  - trim: {clip: $clip, length: $length}
  - upscale: {size: 320x180}
deliver: [{preset: web, file: out/$name.mp4}]
"""


BUYS = """\
inputs: {{prompt: ~, name: ~}}
budget: {{total: {total}}}
steps: [{{generate: {{prompt: $prompt, frame: 16:9, length: 2s, model: sim}}}}, {{trim: 1s}}]
deliver: [{{preset: web, file: out/$name.mp4}}]
"""


def told(done: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    """What a command told scripts."""
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    return json.loads(done.stdout)


def alive(program: str) -> list[str]:
    """Processes of this project's ffmpeg, by what they were called with."""
    lines = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True).stdout.splitlines()
    return [line for line in lines if program in line and "ps axww" not in line]


def test_a_batch_delivers_every_good_row_and_tells_every_bad_one(workshop: Workshop) -> None:
    workshop.write(RECIPE)
    rows = ("clip.mp4,a,1s,", "clip.mp4,b,9s,too long", "none.mp4,c,1s,", "silent.mp4,d,0.5s,", "clip.mp4,a,2s,")
    (workshop.folder / "rows.csv").write_text("\n".join(("clip,name,length,size", *rows)), encoding="utf-8")
    done = workshop.cli("batch", "film.yaml", "--rows", "rows.csv", "--json")
    found = told(done, 1)
    assert found["counts"] == {"done": 2, "failed": 1}
    states = {row["row"]: (row["state"], " ".join(row["errors"])) for row in found["rows"]}
    assert [states[line][0] for line in (2, 3, 4, 5, 6)] == ["done", "failed", "bad row", "done", "bad row"]
    assert "rows.csv:4" in done.stderr
    assert "none.mp4: there is no such file" in states[4][1]
    assert "is delivered by row 2 already" in states[6][1]
    assert (frames_of(workshop.folder / "out/a.mp4"), frames_of(workshop.folder / "out/d.mp4")) == (24, 12)
    assert workshop.leftovers() == []
    page = next((workshop.folder / "reports").glob("*/index.html"))
    assert page.read_text(encoding="utf-8").count("<img") == 2
    assert len(list((page.parent / "sheets").iterdir())) == 2
    exported = list(csv.DictReader(workshop.cli("export").stdout.splitlines()))
    assert [(line["row"], line["state"], line["file"], line["provenance"]) for line in exported[:2]] == [
        ("2", "done", "out/a.mp4", "proved"),
        ("3", "failed", "", ""),
    ]
    assert [line["duration"] for line in exported[:3]] == ["1", "", ""]
    assert [(line["name"], line["length"], line["row.size"]) for line in exported[:2]] == [
        ("a", "1s", ""),
        ("b", "9s", "too long"),
    ]
    assert exported[0]["size"] == "320x180"

    # The engine knows nothing that folders do not: without its tables nothing is encoded again.
    for file in (workshop.folder / ".pipeline").glob("engine.sqlite3*"):
        file.unlink()
    (workshop.folder / "out" / "a.mp4").unlink()
    again = told(workshop.cli("batch", "film.yaml", "--rows", "rows.csv", "--json"), 1)
    assert again["counts"] == {"done": 2, "failed": 1}
    assert [row["made"] for row in again["rows"] if row["state"] == "done"] == [{}, {}]
    assert frames_of(workshop.folder / "out/a.mp4") == 24


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_batch_is_cancelled_upgraded_killed_and_ends_well(workshop: Workshop) -> None:
    workshop.write(RECIPE)
    (workshop.folder / "rows.csv").write_text("clip,name,length\nclip.mp4,a,1s\nclip.mp4,b,0.5s\n", encoding="utf-8")
    held = workshop.folder / "held"
    wait = f'case "$*" in *libx264*) while [ -e "{held}" ]; do sleep 0.1; done;; esac\nexec "{FFMPEG}" "$@"'
    env = environment({"IMAGEIO_FFMPEG_EXE": str(program(workshop.folder / "slow-ffmpeg", wait))})

    def start(*command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=workshop.folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def wait_for(encoding: bool) -> None:
        end = time.monotonic() + 300
        while bool(alive(str(workshop.folder / "slow-ffmpeg"))) != encoding:
            assert time.monotonic() < end
            time.sleep(0.02)

    held.touch()
    old = "import pipeline.batch; pipeline.batch.VERSION = '0'; from pipeline.cli import main; main()"
    first = start(sys.executable, "-c", old, "batch", "film.yaml", "--rows", "rows.csv", "--json")
    wait_for(encoding=True)
    assert workshop.cli("cancel").returncode == 0
    wait_for(encoding=False)
    out, _ = first.communicate(timeout=300)
    assert (first.returncode, json.loads(out)["state"]) == (1, "cancelled")

    assert workshop.cli("resume", "--detach").returncode == 0
    port = free_port()
    second = start(*workshop.command("worker", "--metrics", f":{port}"))
    wait_for(encoding=True)  # though it was submitted by an earlier version
    assert httpx.get(f"http://127.0.0.1:{port}/health").text == "ok\n"
    told_by = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert re.search(r'^afterframe_renders\{state="making"\} 2$', told_by, re.MULTILINE), told_by
    os.killpg(second.pid, signal.SIGKILL)
    second.communicate()
    wait_for(encoding=False)

    held.unlink()
    third = told(workshop.cli("batch", "film.yaml", "--rows", "rows.csv", "--json", env=env))
    assert third["counts"] == {"done": 2}
    assert sum(row["made"].get("encode", 0) for row in third["rows"]) == 2
    assert [frames_of(workshop.folder / f"out/{name}.mp4") for name in "ab"] == [24, 12]


def test_without_the_engines_tables_nothing_is_bought_again_and_a_budget_is_for_all(tmp_path: Path) -> None:
    with server(tmp_path / "server") as sells:
        shoot = Shoot(tmp_path, sells)
        folder = shoot.workshop.folder
        shoot.workshop.write(BUYS.format(total="$0.80"))
        (folder / "rows.csv").write_text("prompt,name\na fox,fox\na hen,hen\n", encoding="utf-8")
        command = ("batch", "film.yaml", "--rows", "rows.csv", "--json")
        with shoot.sells(2):
            first = told(shoot.workshop.cli(*command, env=shoot.env))
        assert (first["counts"], first["paid"]) == ({"done": 2}, "0.80")
        shutil.rmtree(folder / ".pipeline")  # the engine's tables, and all that was made
        with shoot.sells(0):
            again = told(shoot.workshop.cli(*command, env=shoot.env))
        assert (again["counts"], again["paid"]) == ({"done": 2}, "0.80")
        (folder / "rows.csv").write_text("prompt,name\na fox,fox\na cow,cow\na dog,dog\na cat,cat\n", encoding="utf-8")
        with shoot.sells(0):
            dear = shoot.workshop.cli(*command, env=shoot.env)
        assert "all would pay $1.20, and the recipe's budget is $0.80" in dear.stderr


def test_a_second_batch_in_a_project_leaves_the_work_to_the_first(workshop: Workshop) -> None:
    workshop.write(RECIPE)
    rows = Path(workshop.folder / "rows.csv")
    rows.write_text("clip,name\nclip.mp4,a\nclip.mp4,b\nclip.mp4,c\n", encoding="utf-8")
    command = workshop.command("batch", "film.yaml", "--rows", "rows.csv", "--json")
    both = [
        subprocess.Popen(
            command, cwd=workshop.folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    ends = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    made = [row["made"].get("encode", 0) for out, _ in ends for row in json.loads(out)["rows"]]
    assert {json.loads(out)["counts"]["done"] for out, _ in ends} == {3}
    assert 1 <= sum(made) <= 2  # one film for all three, told by both where the second shares the first's runs


def test_a_log_line_says_which_render_it_is_about() -> None:
    record = logging.LogRecord("pipeline.batch", logging.INFO, "", 0, "made %s", ("film-1",), None)
    record.__dict__.update(batch="film", render="abc")
    told_by = json.loads(Lines().format(record))
    assert {key: told_by[key] for key in ("level", "says", "batch", "render")} == {
        "level": "info", "says": "made film-1", "batch": "film", "render": "abc",
    }  # fmt: skip


@pytest.mark.thorough
def test_a_batch_is_paused_goes_on_and_what_failed_of_it_is_tried_again(workshop: Workshop) -> None:
    workshop.write(RECIPE)
    (workshop.folder / "rows.csv").write_text("clip,name,length\nclip.mp4,a,1s\nclip.mp4,b,0.5s\n", encoding="utf-8")
    broken = workshop.folder / "broken"
    broken.touch()
    fail = f'case "$*" in *libx264*) [ -e "{broken}" ] && exit 1;; esac\nexec "{FFMPEG}" "$@"'
    env = {"IMAGEIO_FFMPEG_EXE": str(program(workshop.folder / "broken-ffmpeg", fail))}
    assert workshop.cli("batch", "film.yaml", "--rows", "rows.csv", "--detach").returncode == 0
    assert "2 renders held" in workshop.cli("pause").stdout
    assert workshop.cli("worker", "--until-idle", env=env).returncode == 0
    paused = told(workshop.cli("status", "--json"))
    assert (paused["state"], paused["counts"]) == ("paused", {"held": 2})
    resumed = told(workshop.cli("resume", "--json", env=env), 1)
    assert resumed["counts"] == {"failed": 2}
    broken.unlink()
    again = told(workshop.cli("resume", "--failed", "--json", env=env))
    assert (again["state"], again["counts"]) == ("done", {"done": 2})
    assert [frames_of(workshop.folder / f"out/{name}.mp4") for name in "ab"] == [24, 12]


@pytest.mark.thorough
def test_films_that_a_killed_worker_of_an_earlier_version_bought_are_made_by_a_new_one(
    tmp_path: Path, postgres_server: str
) -> None:
    postgres.empty(postgres_server)
    with server(tmp_path / "server", "--latency", "10") as sells:
        own = Workshop(tmp_path / "project")
        own.write(BUYS.format(total="$2.00"))
        (own.folder / "rows.csv").write_text("prompt,name\na fox,fox\na hen,hen\na cow,cow\n", encoding="utf-8")
        its = {"AFTERFRAME_DATABASE": postgres_server, "AFTERFRAME_SIM_URL": sells.url}
        env = environment({**its, "AFTERFRAME_HOME": str(tmp_path / "home")})
        old = "import pipeline.batch; pipeline.batch.VERSION = '0'; from pipeline.cli import main; main()"
        command = [sys.executable, "-c", old]
        submitted = [*command, "batch", "film.yaml", "--rows", "rows.csv", "--detach"]
        subprocess.run(submitted, cwd=own.folder, env=env, check=True, capture_output=True)
        with subprocess.Popen([*command, "worker"], cwd=own.folder, env=env, stderr=subprocess.DEVNULL) as first:
            for number in range(3):
                sells.wait_for_a_sale(number)
            first.kill()
        assert not list(own.folder.glob("out/*"))
        second = own.cli("worker", "--until-idle", env=env)
        assert second.returncode == 0, second.stderr
        found = told(own.cli("status", "--json", env=env))
    assert (found["counts"], found["paid"]) == ({"done": 3}, "1.20")
    assert sells.sales() == 3
    assert [row["made"].get("copy") for row in found["rows"]] == [1, 1, 1]


LIMITED = """\
inputs: {prompt: ~, name: ~}
budget: {day: $2.00}
steps: [{generate: {prompt: $prompt, frame: 16:9, length: 2s, model: sim}}, {trim: 0.5s}]
deliver: [{preset: web, file: out/$name.mp4}]
"""


@pytest.mark.thorough
def test_two_people_with_one_account_share_its_limits_and_the_days_budget(tmp_path: Path, postgres_server: str) -> None:
    with server(tmp_path / "server") as sells:
        env = {"AFTERFRAME_DATABASE": postgres_server, "AFTERFRAME_SIM_URL": sells.url}
        workers, env_of = [], {}
        for name in ("ann", "ben"):
            own = Workshop(tmp_path / name / "project")
            own.write(LIMITED)
            own.write("sim: {rpm: 3, in_flight: 2}\n", "models.yaml")
            rows = "".join(f"{name} films {number},{name}{number}\n" for number in range(4))
            (own.folder / "rows.csv").write_text(f"prompt,name\n{rows}", encoding="utf-8")
            env_of[own] = {**env, "AFTERFRAME_HOME": str(tmp_path / name / "home")}
            submitted = own.cli("batch", "film.yaml", "--rows", "rows.csv", "--detach", env=env_of[own])
            assert submitted.returncode == 0, submitted.stderr
        for own, its in env_of.items():
            command = own.command("worker", "--until-idle", "--encode", "1")
            workers.append(subprocess.Popen(command, cwd=own.folder, env=environment(its), stderr=subprocess.PIPE))
        ends = [worker.communicate(timeout=400) for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0], ends
        found = [told(own.cli("status", "--json", env=its)) for own, its in env_of.items()]
        log = (sells.folder / "sales.jsonl").read_text().splitlines()
    assert len(log) == 5  # of eight wishes of $0.40
    assert sum(each["counts"].get("done", 0) for each in found) == 5
    assert all("$2.00" in each["why"] for each in found if each["counts"].get("done", 0) < 4)
    sent = sorted(json.loads(line)["at"] for line in log)
    assert all(later - sent[number] >= 60 for number, later in enumerate(sent[3:])), sent
