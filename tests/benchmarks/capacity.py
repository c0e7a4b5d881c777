"""What one render asks of each part: commits of the database, requests to store and provider, CPU of the worker.

    python -m tests.benchmarks.capacity --renders 20

A real Postgres, moto's S3, the simulator, one worker as a process. Each render
buys 2 s, cuts and enlarges them, and is delivered signed. What an idle worker
commits is measured before, and taken off.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "pipeline")]

import buckets  # noqa: E402 -- the tests' own
import postgres  # noqa: E402 -- likewise
import psycopg  # noqa: E402 -- after them
from shoot import Shoot, server  # noqa: E402 -- likewise
from workshop import environment  # noqa: E402 -- likewise

RECIPE = """\
inputs: {prompt: ~, name: ~}
budget: {total: $1000}
steps: [{generate: {prompt: $prompt, frame: 16:9, length: 2s, model: sim}}, {trim: 1s}, {upscale: {size: 320x180}}]
deliver: [{preset: web, file: out/$name.mp4}]
"""

IDLE = 20.0
"""Seconds for which an idle worker is watched."""


def main() -> None:
    """Print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renders", type=int, default=20)
    renders = parser.parse_args().renders
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "store.log"
        with (
            postgres.server() as database,
            buckets.server(log) as store,
            server(folder / "server", "--latency", "2", "--settle", "0.3") as sells,
        ):
            shoot = Shoot(folder, sells)
            shared = {"AFTERFRAME_DATABASE": database, "AFTERFRAME_STORE": f"{buckets.bucket(store)}/project"}
            measure(shoot, {**shoot.env, **shared, **buckets.environment(store)}, renders, log)


def measure(shoot: Shoot, env: dict[str, str], renders: int, log: Path) -> None:
    """Submit, watch a worker idle, let it work."""
    database, project = env["AFTERFRAME_DATABASE"], shoot.workshop
    project.write(RECIPE)

    def submit(first: int, many: int) -> None:
        lines = ["prompt,name", *(f"a fox number {number},fox{number}" for number in range(first, first + many))]
        (project.folder / "rows.csv").write_text("\n".join(lines), encoding="utf-8")
        done = project.cli("batch", "film.yaml", "--rows", "rows.csv", "--detach", env=env)
        assert done.returncode == 0, done.stderr

    submit(0, 1)
    project.cli("worker", "--until-idle", env=env)  # makes all that is made once: tables, a signer
    before = commits(database)
    submit(1, renders)
    print(f"submitting {renders} renders: {commits(database) - before} commits")
    assert project.cli("pause", env=env).returncode == 0
    worker = subprocess.Popen(
        project.command("worker"), cwd=project.folder, env=environment(env), stderr=subprocess.PIPE
    )
    time.sleep(45)  # a start costs more
    before, began = commits(database), time.monotonic()
    time.sleep(IDLE)
    idle = (commits(database) - before) / (time.monotonic() - began)
    worker.terminate()
    worker.communicate()
    print(f"an idle worker: {idle:.1f} commits a second")
    project.cli("resume", "--detach", env=env)
    before, began, asked = commits(database), time.monotonic(), requests(log)
    worker = subprocess.Popen(
        project.command("worker", "--until-idle"), cwd=project.folder, env=environment(env), stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(worker.pid, 0)
    took = time.monotonic() - began
    made = json.loads(project.cli("status", "--json", env=env).stdout)["counts"]
    assert (status, made) == (0, {"done": renders}), made
    counted = commits(database) - before - idle * took
    print(f"{renders} renders in {took:.0f} s, load {os.getloadavg()[0]:.1f}")
    print(f"a render: {counted / renders:.0f} commits (and {idle * took / renders:.0f} of idling)")
    more = requests(log) - asked
    told = ", ".join(f"{count / renders:.1f} {method}" for method, count in sorted(more.items()))
    print(f"a render: requests to the store: {told}")
    print(f"a render: {(used.ru_utime + used.ru_stime) / renders:.2f} s of the worker's CPU, 1 s of 320x180 encoded")
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT avg(sends), avg(looks) FROM purchase").fetchone()
        tables = connection.execute("SELECT relname, n_tup_ins, n_tup_upd FROM pg_stat_user_tables").fetchall()
    assert row
    print(f"a purchase: {row[0]:.1f} sends, {row[1]:.1f} looks, and a download")
    for name in ("workflow_status", "operation_outputs", "purchase"):
        ((inserted, updated),) = (each[1:] for each in tables if each[0] == name)
        print(f"{name}: {inserted / (renders + 1):.1f} rows a render, written {updated / (renders + 1):.1f} times more")


def commits(database: str) -> int:
    """How many transactions the server has committed, as of a second ago."""
    time.sleep(2.0)
    with psycopg.connect(database, autocommit=True) as connection:
        row = connection.execute("SELECT sum(xact_commit) FROM pg_stat_database").fetchone()
    assert row
    return int(row[0])


def requests(log: Path) -> Counter[str]:
    """What the store was asked, by method."""
    return Counter(re.findall(r'"(GET|PUT|HEAD|POST|DELETE) ', log.read_text(encoding="utf-8", errors="replace")))


if __name__ == "__main__":
    main()
