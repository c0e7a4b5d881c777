"""Kill a buyer of pictures, or of spoken lines, at every line of what it does, start it again, and count what was paid.

    python -m tests.torture.picture_kills                      # each line once
    python -m tests.torture.picture_kills --every 8            # each eighth
    python -m tests.torture.picture_kills --goods speech

Either comes in the answer to its purchase: there is no job to ask for, and
no list. So a kill between the sale and the answer loses it, and only a human
may let it be bought again. What the test demands: never two sales unless the
first was written off; and what was received, whole, is there in the end.

The buyer is forked off a process that has loaded everything, and counts the
lines of the modules below as it runs through them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any

import presets
from stages import buying, stores
from stages.bookkeeping import write_off
from stages.clip import Size
from stages.errors import Later, ProviderUnavailable, SubmissionUnknown
from stages.hiring import Hired, line_key
from stages.ledger import collect, open_ledger, purchases, submit_once
from stages.market import Market
from stages.providers import VideoRequest
from stages.providers.handover import Handover
from stages.providers.images import SimulatedImages
from stages.providers.speech import SimulatedSpeech
from stages.voices import SpeechRequest

ROOT = Path(__file__).resolve().parents[2]
KEY = "ab" * 32
WISH = VideoRequest("a fox", "sim", Size(1024, 1024), 0, work="draw", options=(("quality", "low"),))
LINE = SpeechRequest("Now in rose.")
SPOKEN = line_key("sim:hum", LINE)

PHASES = ("not sold", "sold, not received", "received, not noted", "noted", "done")
"""How far it was when the kill came."""


@dataclass(slots=True)
class Outcome:
    """How it went: `faults` should be empty. `parked` are those that a human had to look at; `lines` has for
    each phase a line at which the kill came in it."""

    rounds: int = 0
    parked: int = 0
    phases: Counter[str] = field(default_factory=Counter)
    lines: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        phases = ", ".join(f"{self.phases[phase]} {phase}" for phase in PHASES)
        return f"{self.rounds} kills ({phases}); {self.parked} parked for a human, {len(self.faults)} faults"


@dataclass(frozen=True, slots=True)
class Goods:
    """What is bought: under which key, how its file begins, by whom in which modules; `buy` says 0 if it is here."""

    key: str
    head: bytes
    buy: Callable[[str], int]
    modules: tuple[str, ...]

    @property
    def traced(self) -> tuple[str, ...]:
        """The files whose lines are counted."""
        shared = ("ledger", "files", "http", "providers/handover")
        return tuple(f"stages/{name}.py" for name in (*shared, *self.modules))


def run(
    folder: Path, every: int = 1, start: int = 1, *, end: int = 0, forgetful: bool = False, goods: str = "picture"
) -> Outcome:
    """Kill at every `every`th line from `start` on, until `end`, or a buyer comes through. `forgetful`: nobody looks
    for what was received, as if it were not kept before it is told."""
    outcome, options = Outcome(), ["--no-film", "--latency", "0", "--settle", "0", "--ignore-keys"]
    command = [sys.executable, "-m", "stages.simulators.openai", "--state", str(folder / "sim"), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    folder.mkdir(exist_ok=True)
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True) as simulator:
        assert simulator.stdout
        try:
            buyer = [sys.executable, __file__, "--rounds", simulator.stdout.readline().strip(), "--folder", str(folder)]
            where = ["--every", str(every), "--start", str(start), "--end", str(end), "--goods", goods]
            given = [*buyer, *where, *(["--forgetful"] if forgetful else [])]
            said = subprocess.run(given, env=environment, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        finally:
            simulator.kill()
    for line in said.splitlines():
        told = json.loads(line)
        outcome.rounds += 1
        outcome.parked += told["parked"]
        outcome.phases[told["phase"]] += 1
        outcome.lines[told["phase"]] = told["line"]
        outcome.faults += [f"line {told['line']}: {fault}" for fault in told["faults"]]
    return outcome


# ---------------------------------------------------------------- in the forking process


def rounds(url: str, folder: Path, every: int, start: int, end: int, goods: Goods) -> None:
    """One buyer after the other, each killed a little later; a line of JSON for each."""
    stores.SYNCHRONOUS = "OFF"  # a kill is no power cut
    line = start
    while not end or line < end:
        home = folder / f"home {line}"
        os.environ["AFTERFRAME_HOME"] = str(home)
        before = sold(folder)
        if forked(lambda line=line: traced(line, goods.traced, lambda: goods.buy(url))) == 0:  # type: ignore[misc]  # a default argument
            return
        told = examined(url, folder, home, before, goods)
        print(json.dumps({"line": line, **told}), flush=True)
        line += every


def examined(url: str, folder: Path, home: Path, before: int, goods: Goods) -> dict[str, Any]:
    """What a killed buyer left, and what becomes of it."""
    ledger, faults = open_ledger(), []
    received = list((home / "handed").glob(f"{goods.key[:40]}*"))
    rows, sales = purchases(ledger), sold(folder) - before
    state = rows[0].state if rows else ""
    phase = "done" if state == "DONE" else "noted" if state == "ACCEPTED" else "received, not noted" if received else ""
    phase = phase or ("sold, not received" if sales else "not sold")
    parked = forked(lambda: goods.buy(url)) == 3
    if parked and (received or state != "SENDING"):
        faults.append(f"it was {phase}, and a human was asked")
    if parked and forked(lambda: again(url, goods)) != 0:
        faults.append("written off, it was not bought again")
    (*_, row) = purchases(open_ledger())
    if row.state != "DONE" or not (home / row.original).read_bytes().startswith(goods.head):
        faults.append(f"in the end it is {row.state}")
    if sold(folder) - before > 1 + parked:
        faults.append(f"{sold(folder) - before} sales")
    if received and not parked and sold(folder) - before != 1:
        faults.append("what was received was bought again")
    if left := [file.name for file in (home / "handed").iterdir() if not file.name.startswith(".")]:
        faults.append(f"left over: {left}")
    return {"phase": phase, "parked": parked, "faults": faults}


def sold(folder: Path) -> int:
    log = folder / "sim" / "sales.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


def forked(act: Callable[[], int]) -> int:
    """The exit code of `act`, done in a child; -9 if it was killed."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = act()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def traced(line: int, files: tuple[str, ...], act: Callable[[], int]) -> int:
    """Do it, and die at the `line`th line of `files`."""
    left = line

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace if frame.f_code.co_filename.endswith(files) else None

    sys.settrace(trace)
    try:
        return act()
    finally:
        sys.settrace(None)


def buy(url: str) -> int:
    """Buy the picture."""
    ledger, painter = open_ledger(), SimulatedImages(url, settle=0.3, poll=0.05)

    def once() -> None:
        submit_once(ledger, painter, WISH, KEY, price=Decimal("0.01"))
        collect(ledger, painter, KEY)

    return insisted(once)


def speak(url: str) -> int:
    """Have the line spoken, as `speak` does."""
    buying.provider_of = lambda *_: SimulatedSpeech(url, settle=0.3, poll=0.05)
    shop = Market(date.today(), bought={SPOKEN: purchases(open_ledger(), SPOKEN)})
    voice = Hired(presets.read("voices", "sim"), "hum", shop, Path())
    return insisted(lambda: voice.speak(LINE))


def insisted(act: Callable[[], object]) -> int:
    """Come back when told to, as a job's caller does: 0 if it is here, 3 if a human must look."""
    while True:
        try:
            act()
            return 0
        except Later as later:
            time.sleep(min(later.seconds, 0.1))
        except ProviderUnavailable:  # a busy machine
            time.sleep(0.1)
        except SubmissionUnknown:
            return 3


GOODS = {
    "picture": Goods(KEY, b"\x89PNG", buy, ("providers/images",)),
    "speech": Goods(SPOKEN, b"RIFF", speak, ("providers/speech", "hiring", "buying")),
}


def again(url: str, goods: Goods) -> int:
    """A human gives it up, once no answer can come any more, and it is bought again."""
    ledger = open_ledger()
    write_off(replace(ledger, clock=lambda: time.time() + 600), goods.key, "it is on no invoice")
    return goods.buy(url)


def main() -> int:
    """Run, print, and say whether it went well; or be the buyer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--end", type=int, default=0, help="the line before which to end; 0: the last")
    parser.add_argument("--forgetful", action="store_true", help="this must lose what was received")
    parser.add_argument("--goods", choices=GOODS, default="picture")
    parser.add_argument("--rounds", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    start = given.start or random.randint(1, given.every)
    if given.rounds:
        if given.forgetful:
            Handover.received = lambda self, key: None  # type: ignore[method-assign]  # the twin
        rounds(given.rounds, given.folder, given.every, start, given.end, GOODS[given.goods])
        return 0
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(Path(folder), given.every, start, end=given.end, forgetful=given.forgetful, goods=given.goods)
    print("\n".join([str(outcome), *outcome.faults]))
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
