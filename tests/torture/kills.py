"""Kill buyers at random instants and count what they paid.

    python tests/torture/kills.py --kills 200                   # the simulator honours keys
    python tests/torture/kills.py --kills 200 --ignore-keys     # it does not: list and match
    python tests/torture/kills.py --kills 200 --whole-group     # the simulator dies as well
    python tests/torture/kills.py --kills 200 --postgres        # the ledger's rows are in a Postgres
    python tests/torture/kills.py --kills 50 --naive            # no ledger: this must pay twice

Two buyers share one ledger and buy a row of clips from a simulator, over real
HTTP. Each is killed with SIGKILL within a second or so of its first deed, again
and again, and started again at once. In the end they may finish, and the sales in
the simulator's log are compared with the clips that were wanted.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.http import Service
    from stages.providers import Provider, VideoRequest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
import postgres  # noqa: E402 -- found by the line above

AT_ONCE = 12
"""How many clips a buyer works on at a time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run went: every wish should be sold once, and be here.

    `cut` sends got no answer: a kill came between the request and its note.
    """

    kills: int
    cut: int
    wishes: int
    sales: int
    fetched: int
    seconds: float

    @property
    def exact(self) -> bool:
        """Nothing paid twice, nothing lost."""
        return self.wishes == self.sales == self.fetched


@dataclass(slots=True)
class Town:
    """A simulator and buyers, as child processes. Leaving it ends them all."""

    folder: Path
    keys: bool = True
    naive: bool = False
    database: str = ""
    simulator: subprocess.Popen[str] | None = None
    url: str = ""
    buyers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Town:
        for name in ("wishes", "posting", "awake"):
            (self.folder / name).mkdir(parents=True)
        self.open_simulator()
        return self

    def __exit__(self, *_: object) -> None:
        for buyer in self.buyers:
            end(buyer)
        self.close_simulator()

    def open_simulator(self) -> None:
        """Start the simulator, or start it again on the same port and state."""
        port = self.url.rpartition(":")[2].removesuffix("/v1") or "0"
        options = ["--port", port, "--latency", "0.2", "--no-film", *([] if self.keys else ["--ignore-keys"])]
        self.simulator, self.url = start_simulator(self.folder / "sim", *options)

    def close_simulator(self) -> None:
        """Kill it."""
        if self.simulator:
            end(self.simulator)

    def send_buyer(self) -> subprocess.Popen[bytes]:
        """Start a buyer."""
        options = [*(["--naive"] if self.naive else []), *([] if self.keys else ["--ignore-keys"])]
        command = [sys.executable, __file__, "--buy", self.url, "--folder", str(self.folder), *options]
        self.buyers.append(subprocess.Popen(command, env=environment() | {"AFTERFRAME_DATABASE": self.database}))
        return self.buyers[-1]

    def wait_for(self, buyer: subprocess.Popen[bytes]) -> None:
        """Until a buyer is at work, or has ended."""
        while not (self.folder / "awake" / str(buyer.pid)).exists() and buyer.poll() is None:
            time.sleep(0.005)

    def finish(self, patience: float) -> None:
        """No further wishes: let the buyers end. Raises TimeoutExpired after `patience` seconds."""
        wished = len(list((self.folder / "wishes").iterdir()))
        (self.folder / "limit.part").write_text(str(wished))
        (self.folder / "limit.part").replace(self.folder / "limit")
        for buyer in self.buyers:
            if buyer.wait(patience) != 0:
                raise RuntimeError(f"a buyer ended with {buyer.returncode}")


def start_simulator(state: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """A simulator as a child process, and its base URL."""
    command = [sys.executable, "-m", "stages.simulators.openai", "--state", str(state), *options]
    process = subprocess.Popen(command, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    url = process.stdout.readline().strip()
    if not url:
        end(process)
        raise RuntimeError("the simulator did not start")
    return process, url


def end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Kill, and clear away what is left of it."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def environment() -> dict[str, str]:
    """Ours, in which the sources are found."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def run(
    folder: Path,
    *,
    kills: int,
    keys: bool = True,
    naive: bool = False,
    whole_group: bool = False,
    database: str = "",
    seed: int = 0,
) -> Outcome:
    """Kill `kills` times, let it finish, count."""
    dice, start = random.Random(seed), time.monotonic()
    with Town(folder, keys, naive, database) as town:
        for _ in range(2):
            town.send_buyer()
        for kill in range(kills):
            victim = town.buyers.pop(0)
            town.wait_for(victim)  # on a busy machine to start takes longer than many a life
            time.sleep(dice.uniform(0.125, 0.625))  # two take turns: each lives twice as long
            if victim.poll() not in (None, -signal.SIGKILL):
                raise RuntimeError(f"a buyer ended by itself, with {victim.returncode}")
            end(victim)
            if whole_group and kill % 5 == 4:
                town.close_simulator()
                town.open_simulator()
            town.send_buyer()
        if not naive:
            town.finish(patience=60)
    wishes = len(list((folder / "wishes").iterdir()))
    sold = [json.loads(line)["id"] for line in (folder / "sim" / "sales.jsonl").read_text().splitlines()]
    fetched = len(list((folder / ("films" if naive else "originals")).glob("*.mp4")))
    cut = len(list((folder / "posting").iterdir()))
    return Outcome(kills, cut, wishes, len(sold), fetched, time.monotonic() - start)


# ---------------------------------------------------------------- a buyer


def buy(folder: Path, url: str, *, keys: bool, naive: bool) -> None:
    """Buy one clip after the other, until `folder/limit` says how many are enough."""
    from stages.errors import Later, ProviderUnavailable  # noqa: PLC0415 -- in the child, whose path has it
    from stages.providers.openai import sim  # noqa: PLC0415 -- likewise

    shop = Naive(folder) if naive else Careful(folder)
    mark_posts(folder / "posting")
    provider = sim(url, idempotent=keys)
    (folder / "awake" / str(os.getpid())).touch()
    following, pending = 0, set[int]()
    while True:
        limit = int((folder / "limit").read_text()) if (folder / "limit").exists() else sys.maxsize
        while len(pending) < AT_ONCE and following < limit:
            if not shop.has(following):
                pending.add(following)
            following += 1
        pending = {wish for wish in pending if wish < limit or (folder / "wishes" / str(wish)).exists()}
        if not pending:
            return
        waits = [0.5]
        for wish in sorted(pending):
            (folder / "wishes" / str(wish)).touch()
            try:
                shop.buy(provider, wish)
                pending.remove(wish)
                waits.append(0.0)
            except Later as later:
                waits.append(later.seconds)
            except ProviderUnavailable:  # the simulator was killed as well
                waits.append(0.1)
        time.sleep(min(waits))


def mark_posts(folder: Path) -> None:
    """While a request is on its way, there is a file; a kill leaves it there, to be counted."""
    from stages.providers import openai  # noqa: PLC0415 -- see buy

    plain, numbers = vars(openai)["ask"], itertools.count()

    def marked(service: Service, method: str, path: str, **options: Any) -> Any:
        mark = folder / f"{os.getpid()}-{next(numbers)}"
        if method == "POST":
            mark.touch()
        try:
            return plain(service, method, path, **options)
        finally:
            mark.unlink(missing_ok=True)

    vars(openai)["ask"] = marked


class Careful:
    """Buys through the ledger."""

    def __init__(self, folder: Path) -> None:
        from stages.ledger import open_ledger, purchases  # noqa: PLC0415 -- see buy

        self.ledger = open_ledger(folder)
        self.done = {row.prompt for row in purchases(self.ledger) if row.state == "DONE"}

    def has(self, wish: int) -> bool:
        """Whether this clip is here."""
        return wished(wish).prompt in self.done

    def buy(self, provider: Provider, wish: int) -> None:
        """Go as far as it goes."""
        from stages.ledger import collect, request_key, submit_once  # noqa: PLC0415 -- see buy

        request = wished(wish)
        key = request_key(request)
        submit_once(self.ledger, provider, request, key, price=Decimal("0.40"))
        collect(self.ledger, provider, key)


class Naive:
    """Buys as most programs do: send, write down the job's number, wait for it."""

    def __init__(self, folder: Path) -> None:
        self.jobs, self.films = folder / "jobs", folder / "films"
        for each in (self.jobs, self.films):
            each.mkdir(exist_ok=True)

    def has(self, wish: int) -> bool:
        """Whether this clip is here."""
        return (self.films / f"{wish}.mp4").exists()

    def buy(self, provider: Provider, wish: int) -> None:
        """Send if no job is known, then look."""
        from stages.errors import Later  # noqa: PLC0415 -- see buy

        note = self.jobs / str(wish)
        if not note.exists():
            job_id = provider.submit(wished(wish), "").id
            part = note.with_name(f".{wish}-{os.getpid()}")
            part.write_text(job_id)
            part.replace(note)
        job_id = note.read_text()
        if provider.check(job_id).state != "done":
            raise Later(0.2)
        provider.download(job_id, self.films / f"{wish}.mp4")


def wished(wish: int) -> VideoRequest:
    """The request of that number."""
    from stages.clip import Size  # noqa: PLC0415 -- see buy
    from stages.providers import VideoRequest  # noqa: PLC0415 -- see buy

    return VideoRequest(f"wish {wish}", "sim", Size(1280, 720), 4)


def main() -> int:
    """Buy, in a child; otherwise run, print, and say whether it was exact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--ignore-keys", action="store_true")
    parser.add_argument("--whole-group", action="store_true")
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--naive", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--buy", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.buy:
        buy(given.folder, given.buy, keys=not given.ignore_keys, naive=given.naive)
        return 0
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        outcome = run(
            Path(folder) / "town",
            kills=given.kills,
            keys=not given.ignore_keys,
            naive=given.naive,
            whole_group=given.whole_group,
            database=stack.enter_context(postgres.server()) if given.postgres else "",
            seed=given.seed,
        )
    print(f"{outcome}: {'exact' if outcome.exact else 'NOT exact'}")
    return 0 if outcome.exact else 1


if __name__ == "__main__":
    sys.exit(main())
