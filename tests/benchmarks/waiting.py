"""Thousands of renders of a batch that wait in one worker for their films: its memory, its requests, its processor.

    python -m tests.benchmarks.waiting --renders 5000
    python -m tests.benchmarks.waiting --renders 1000 --postgres
    python -m tests.benchmarks.waiting --renders 1000 --in-flight 2    all others stand in line to buy

The films are sold by the simulator, in a process of its own, which does not
deliver them while it is looked at and then all at once. It may be looked at as
often as OpenAI's. Goals for 5,000: under 250 MB, at most one request a second
for every 100 jobs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "benchmarks")]

import postgres  # noqa: E402 -- found by the line above
from batch import project_of  # noqa: E402 -- likewise

RECIPE = """\
inputs: {prompt: ~, name: ~}
budget: $1000000
steps:
  - generate: {prompt: $prompt, frame: 16:9, length: 2s, model: sim}
  - trim: {length: 1s}
deliver: [{preset: web, file: out/$name.mp4}]
"""
ENDLESS = 86_400.0
LOOKED_AT = 60.0
"""Seconds for which they are looked at while all wait."""


# ---------------------------------------------------------------- who sells, who works


def serve(folder: Path) -> None:
    """Sell films that are never done."""
    from stages.simulators.faults import Faults  # noqa: PLC0415 -- in this process alone
    from stages.simulators.manners import MANNERS  # noqa: PLC0415 -- likewise
    from stages.simulators.openai import VideosDesk, VideosServer  # noqa: PLC0415 -- likewise
    from stages.simulators.studio import Studio  # noqa: PLC0415 -- likewise

    asked: list[float] = []

    class Counting(VideosDesk):
        def act(self) -> None:
            if self.path == "/asked":
                self.say(200, {"times": asked})
            else:
                asked.append(time.time())
                super().act()

    studio = Studio(folder, latency=ENDLESS, settle=0.0, films=False)
    server = VideosServer(0, studio, MANNERS["openai"], Faults())
    server.RequestHandlerClass = Counting
    print(server.url, flush=True)
    server.serve_forever()


def work(project: Path) -> None:
    """A worker that waits, and says each second how many do."""
    from pipeline.batch import Engine, Worker  # noqa: PLC0415 -- in this process alone
    from pipeline.yard import Yard  # noqa: PLC0415 -- likewise
    from stages.providers.openai import Simulator  # noqa: PLC0415 -- likewise
    from stages.simulators import child  # noqa: PLC0415 -- likewise

    def as_slow_as_openai(url: str, **given: Any) -> Simulator:
        return replace(Simulator(url, idempotent=True), poll=5.0, typical=20.0)

    child.__dict__["Simulator"] = as_slow_as_openai  # the simulator may be asked far more often
    yard = Yard(project / ".pipeline")
    with Worker(Engine.of(yard.folder), yard, 0) as worker:
        while True:
            print(len(worker.lobby.waiting), flush=True)
            time.sleep(1.0)


# ---------------------------------------------------------------- what it weighs


def weight(pid: int) -> dict[str, float]:
    """A process's memory and its peak in MB, its threads, its seconds of CPU."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    said = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines) if value.split()}
    times = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    cpu = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
    return {
        "now": int(said["VmRSS"]) / 1024,
        "peak": int(said["VmHWM"]) / 1024,
        "threads": int(said["Threads"]),
        "cpu": cpu,
    }


def submit(project: Path, renders: int, in_flight: int) -> None:
    """Put the batch into the queue, with films of so many in flight at most, where that is said."""
    from pipeline.batch import Engine  # noqa: PLC0415 -- after the environment is set
    from pipeline.roster import draw_up, submitted  # noqa: PLC0415 -- likewise
    from pipeline.rows import read_rows  # noqa: PLC0415 -- likewise
    from pipeline.store import Store  # noqa: PLC0415 -- likewise
    from pipeline.yard import Yard  # noqa: PLC0415 -- likewise

    yard, recipe = Yard(project / ".pipeline"), project_of(project, RECIPE, renders)
    if in_flight:
        (project / "models.yaml").write_text(f"sim: {{in_flight: {in_flight}}}\n", encoding="utf-8")
    engine = Engine.of(yard.folder)
    engine.prepare()
    drawn = draw_up(recipe, read_rows(str(project / "rows.csv"), recipe, RECIPE), Store(yard.folder))
    with engine.client() as desk:
        batch, fresh = submitted(drawn, desk.under_way())
        yard.shelf.keep(batch)
        desk.submit(batch, fresh)


@contextlib.contextmanager
def started(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """This file as another process, until the block ends."""
    command = [sys.executable, "-m", "tests.benchmarks.waiting", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def until_all_wait(worker: subprocess.Popen[str], renders: int) -> float:
    """The seconds until they do."""
    began = shown = time.monotonic()
    assert worker.stdout
    for line in worker.stdout:
        if int(line) >= renders:
            break
        if time.monotonic() - shown > 15:
            shown = time.monotonic()
            print(f"  {int(line)} wait, {weight(worker.pid)['now']:.0f} MB", file=sys.stderr, flush=True)
    threading.Thread(target=lambda: list(worker.stdout or ()), daemon=True).start()  # else it would block
    return time.monotonic() - began


def main() -> None:
    """Let them wait, and print each figure beside its goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renders", type=int, default=1000)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--in-flight", type=int, default=0)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve)
    elif given.work:
        work(given.work)
    else:
        measure(given.renders, given.in_flight, with_postgres=given.postgres)


def measure(renders: int, in_flight: int, *, with_postgres: bool) -> None:
    """Print the table."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["AFTERFRAME_HOME"] = str(folder / "home")
        os.environ["AFTERFRAME_DATABASE"] = stack.enter_context(postgres.server()) if with_postgres else ""
        seller = stack.enter_context(started("--serve", folder / "sim"))
        assert seller.stdout
        url = os.environ["AFTERFRAME_SIM_URL"] = seller.stdout.readline().strip()
        submit(folder / "project", renders, in_flight)
        worker = stack.enter_context(started("--work", folder / "project"))
        seconds = until_all_wait(worker, renders)
        before, began = weight(worker.pid), time.time()
        time.sleep(LOOKED_AT)
        after = weight(worker.pid)
        with urllib.request.urlopen(f"{url.removesuffix('/v1')}/asked") as answer:
            asked = [at for at in json.load(answer)["times"] if at >= began]
    busiest = max(Counter(int(at) for at in asked).values(), default=0)
    database = "Postgres" if with_postgres else "SQLite"
    print(f"{renders} renders of a batch wait in one worker on {database}; load {os.getloadavg()[0]:.1f}")
    print(f"all wait after    {seconds:6.0f} s           {before['cpu'] / renders * 1000:.0f} ms of CPU each")
    print(f"memory            {after['now']:6.0f} MB          peak {after['peak']:.0f} MB, goal 250")
    print(f"threads           {after['threads']:6.0f}")
    often, goal = len(asked) / LOOKED_AT, renders / 100
    print(f"requests          {often:6.1f} a second    busiest second {busiest}, goal {goal:.0f}")
    print(f"CPU while waiting {(after['cpu'] - before['cpu']) / LOOKED_AT:6.1%} of a core")


if __name__ == "__main__":
    main()
