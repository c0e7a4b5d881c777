"""Kill workers of a batch at random instants, start others, until it is done; look at what was bought and delivered.

    python tests/torture/batch_kills.py --renders 12 --workers 3 --kills 6

A real Postgres, workers as real processes, and a simulator that ignores keys,
so that only the ledger keeps it from being paid twice. With --apart each worker
has a folder and a home of its own, and shares a bucket with the others. In the end every render
must be delivered whole, each bought once, and nothing half-made be left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "pipeline")]

import buckets  # noqa: E402 -- the tests' own
import postgres  # noqa: E402 -- likewise
from shoot import Shoot, server  # noqa: E402 -- likewise
from workshop import Workshop, environment, frames_of  # noqa: E402 -- likewise

RECIPE = """\
inputs: {prompt: ~, name: ~}
budget: {total: $100}
steps: [{generate: {prompt: $prompt, frame: 16:9, length: 2s, model: sim}}, {trim: 1s}, {upscale: {size: 320x180}}]
deliver: [{preset: web, file: out/$name.mp4}]
"""


def torture(folder: Path, renders: int, workers: int, kills: int, seed: int, apart: bool = False) -> list[str]:
    """What was wrong in the end."""
    dice = random.Random(seed)
    with contextlib.ExitStack() as stack:
        database, sells = stack.enter_context(postgres.server()), stack.enter_context(server(folder / "server"))
        shoot = Shoot(folder, sells)
        env = {**shoot.env, "AFTERFRAME_DATABASE": database}
        if apart:
            s3 = stack.enter_context(buckets.server())
            env |= {**buckets.environment(s3), "AFTERFRAME_STORE": f"{buckets.bucket(s3)}/project"}
        project = shoot.workshop
        places = [Workshop(folder / f"worker{number}" / "project") if apart else project for number in range(workers)]
        project.write(RECIPE)
        rows = "\n".join(["prompt,name", *(f"a fox number {number},fox{number}" for number in range(renders))])
        (project.folder / "rows.csv").write_text(rows, encoding="utf-8")
        submitted = project.cli("batch", "film.yaml", "--rows", "rows.csv", "--detach", env=env)
        assert submitted.returncode == 0, submitted.stderr

        def start(number: int) -> subprocess.Popen[bytes]:
            place, home = places[number], {"AFTERFRAME_HOME": str(folder / f"home{number}")} if apart else {}
            return subprocess.Popen(
                place.command("worker", "--encode", "1"), cwd=place.folder, env=environment({**env, **home}),
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

        alive = [start(number) for number in range(workers)]
        began, last = time.monotonic(), 0.0
        while True:
            told = json.loads(project.cli("status", "--json", env=env).stdout)
            if told["counts"].get("done", 0) == renders or time.monotonic() - began > 900:
                break
            if kills and time.monotonic() - last > 4:
                victim = dice.randrange(workers)
                os.killpg(alive[victim].pid, signal.SIGKILL)
                alive[victim].wait()
                alive[victim] = start(victim)
                kills, last = kills - 1, time.monotonic() + dice.uniform(0, 4)
                print(
                    f"{time.monotonic() - began:.0f} s: one of {workers} workers killed; {told['counts']}", flush=True
                )
            time.sleep(0.5)
        print(f"{time.monotonic() - began:.0f} s: {told['counts']}; {sells.sales()} films were sold", flush=True)
        for worker in alive:
            worker.terminate()
        for worker in alive:
            worker.wait(300)
        if apart:
            print(project.cli("fetch", env=env).stderr.strip())
        faults = [] if told["state"] == "done" else [f"it is {told['state']}"]
        faults += [] if sells.sales() == renders else [f"{sells.sales()} films were sold for {renders} renders"]
        files = sorted((project.folder / "out").glob("*.mp4"))
        faults += [] if len(files) == renders else [f"{len(files)} files"]
        faults += [f"{file.name} is broken" for file in files if frames_of(file) != 24]
        for place in {place.folder: place for place in places}.values():
            place.cli("worker", "--until-idle", env=env)  # sweeps
            faults += [f"left over: {name}" for name in place.leftovers()]
        return faults


def main() -> int:
    """Run, print, and say whether everything was whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renders", type=int, default=12)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--apart", action="store_true", help="a folder for each worker, and a bucket for all")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        faults = torture(Path(folder), given.renders, given.workers, given.kills, given.seed, given.apart)
    print("\n".join(faults) or "every render delivered once, every film bought once, nothing left over")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
