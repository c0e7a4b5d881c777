"""Three buyers, killed at random, must never send more in any minute, or spend more, than one limit for all allows.

    python tests/torture/limits.py --seconds 60                # SQLite
    python tests/torture/limits.py --seconds 60 --postgres
    python tests/torture/limits.py --seconds 10 --naive        # each counts for itself: this must exceed it

Their clock is 30 times faster than ours: a minute takes 2 s. Each request is
under way for up to 6 of its seconds before it arrives, and its arrival is
what counts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import postgres  # noqa: E402 -- found by the line above

from stages.clip import Size  # noqa: E402
from stages.errors import BudgetExceeded, Later  # noqa: E402
from stages.ledger import Budget, Limits, open_ledger, request_key, submit_once  # noqa: E402
from stages.providers import VideoJob, VideoRequest  # noqa: E402

SPEED = 30.0
PER_MINUTE = 10
BUYERS = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many arrived in all, and at most in any 60 seconds; how many buyers were killed."""

    kills: int
    arrived: int
    most: int
    budget: int

    @property
    def held(self) -> bool:
        """No minute and no budget was exceeded."""
        return self.most <= PER_MINUTE and self.arrived <= self.budget


def clock() -> float:
    """The buyers' time."""
    return time.time() * SPEED


@dataclass(frozen=True, slots=True)
class Shop:
    """Sells what arrives, and writes it into a file that all buyers' shops share."""

    log: Path
    name: str = "shop"
    account: str = "all"
    idempotent: bool = False
    can_list: bool = True
    settle: float = 30.0
    poll: float = 5.0
    typical: float = 5.0

    def submit(self, request: VideoRequest, key: str) -> VideoJob:
        """Take a while, sell, take a while to say so."""
        time.sleep(random.uniform(0, 6) / SPEED)
        job_id, at = f"{key}-{random.getrandbits(32):x}", clock()
        sale = {"id": job_id, "at": at, "prompt": request.prompt}
        handle = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, json.dumps(sale).encode() + b"\n")
        os.close(handle)
        time.sleep(random.uniform(0, 3) / SPEED)
        return VideoJob(job_id, "queued", created_at=at)

    def check(self, job_id: str) -> VideoJob:
        """It is filmed for ever."""
        return VideoJob(job_id, "running")

    def download(self, job_id: str, target: Path) -> None:
        """There is no film: `check` says of none that it is done, so nobody asks for it."""
        raise AssertionError(job_id)

    def find(self, since: float) -> list[VideoJob]:
        """What was sold."""
        sold = [
            VideoJob(sale["id"], "running", created_at=sale["at"], prompt=sale["prompt"]) for sale in sales(self.log)
        ]
        return [job for job in reversed(sold) if (job.created_at or 0) >= since]


def sales(log: Path) -> list[dict[str, Any]]:
    """What the shop wrote down."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def buy(folder: Path, database: str, budget: int, naive: bool) -> None:
    """Buy for ever, one wish after the other."""
    number = 0
    ledger = open_ledger(folder / str(os.getpid()) if naive else folder, clock, database)
    shop = Shop(folder / "sales.jsonl")
    if naive:  # a ledger and an account of its own: nobody knows of the others
        shop = replace(shop, account=str(os.getpid()))
    purse = Budget("all", Decimal(budget))
    limits = Limits(per_minute=PER_MINUTE, budgets=(purse,))
    while True:
        request = VideoRequest(f"wish {os.getpid()} {number}", "model", Size(1280, 720), 4)
        try:
            submit_once(ledger, shop, request, request_key(request), price=Decimal(1), limits=limits)
            number += 1
        except (Later, BudgetExceeded) as later:
            wait = later.seconds if isinstance(later, Later) else 10.0
            time.sleep(min(wait, 10.0) / SPEED)


def run(folder: Path, seconds: float, *, database: str = "", budget: int = 10_000, naive: bool = False) -> Outcome:
    """Let them buy, killing one after the other; where they take long to begin, they live longer."""
    command = [sys.executable, __file__, "--buy", str(folder), "--database", database, "--budget", str(budget)]
    command += ["--naive"] if naive else []
    folder.mkdir(parents=True)
    dice, kills, started = random.Random(0), 0, time.monotonic()
    with contextlib.ExitStack() as stack:
        buyers = [_sent(stack, command) for _ in range(BUYERS)]
        while not sales(folder / "sales.jsonl") and all(buyer.poll() is None for buyer in buyers):
            time.sleep(0.05)
        slow = max(1.0, time.monotonic() - started)
        deadline = time.monotonic() + seconds * slow
        while time.monotonic() < deadline:
            time.sleep(dice.uniform(0.3, 0.8) * slow)
            victim = buyers.pop(0)
            if victim.poll() is not None:
                raise RuntimeError(f"a buyer ended by itself, with {victim.returncode}")
            _end(victim)
            kills += 1
            buyers.append(_sent(stack, command))
    arrived = sorted(float(sale["at"]) for sale in sales(folder / "sales.jsonl"))
    return Outcome(kills, len(arrived), most_in_a_minute(arrived), budget)


def most_in_a_minute(times: Sequence[float]) -> int:
    """How many of `times`, in order, lie in the fullest 60 seconds."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= 60:
            first += 1
        most = max(most, last - first + 1)
    return most


def _sent(stack: contextlib.ExitStack, command: Sequence[str]) -> subprocess.Popen[bytes]:
    buyer = subprocess.Popen(command)
    stack.callback(_end, buyer)
    return buyer


def _end(buyer: subprocess.Popen[bytes]) -> None:
    buyer.kill()
    buyer.wait()


def main() -> int:
    """Buy, in a child; otherwise run, print, and say whether the limits held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--naive", action="store_true")
    parser.add_argument("--budget", type=int, default=10_000)
    parser.add_argument("--buy", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--database", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.buy:
        buy(given.buy, given.database, given.budget, given.naive)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        database = stack.enter_context(postgres.server()) if given.postgres else ""
        outcome = run(Path(folder) / "town", given.seconds, database=database, budget=given.budget, naive=given.naive)
    print(f"{outcome}: the limits {'held' if outcome.held else 'did NOT hold'}")
    return 0 if outcome.held else 1


if __name__ == "__main__":
    sys.exit(main())
