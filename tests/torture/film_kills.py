"""Kill whole runs of a recipe that buys, at random instants; start them again until they end; count what was paid.

    python -m tests.torture.film_kills --kills 200      # shared out over the combinations below
    python -m tests.torture.film_kills --naive          # with a ledger that forgets: this must pay twice

Each round runs a small recipe in a fresh project with a purse of its own: a
photo is prepared, filmed, cut, mixed, made small and delivered. `pipeline run`
is killed with SIGKILL, alone or with its whole process group (half of those
times the simulator dies as well, and comes back), and started again at once.
Half of the instants are drawn from the whole run, half from the moment after a
sale, when nobody but the seller may know of it. In the end there must be one
sale, a film that decodes whole and is proved, no part file, no process, and
nothing left to do.

The simulators honour idempotency keys, or do not. The fifth combination is what
a newcomer has: no server but the one that the runner itself starts, which
films for real and dies with the runner.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import imageio_ffmpeg

ROOT = Path(__file__).resolve().parents[2]
MARK = "AFTERFRAME_FILM_KILLS"
"""An environment variable by which the processes of a project are known."""

FRAMES = 24
PATIENCE = 120.0
"""Seconds after which a run that nobody kills should have ended."""

AFTER = 0.7
"""Seconds after a sale in which half of the kills come."""

MOST = 5
"""Kills in one round, so that the end is reached, and killed in, as often as the beginning."""

RECIPE = """\
inputs: {prompt: ~}
steps:
  - prepare: {image: photo.png}
  - generate: {prompt: $prompt, reference: $prepare, frame: 16:9, length: 3s, model: sim}
  - trim: {length: 1s}
  - mix_audio: {sound: voice.wav, at: 0.2s, duck: 10 dB}
  - upscale: {size: 320x180}
deliver: [{preset: web, file: out/web.mp4}]
"""


@dataclass(frozen=True, slots=True)
class Combination:
    """Whether the simulator honours keys, whether the whole group is killed, and whose child the simulator is.

    `forgets`: the ledger is wiped at each kill, as if there were none.
    """

    keys: bool
    group: bool
    embedded: bool = False
    forgets: bool = False

    def __str__(self) -> str:
        who = "whole group" if self.group else "runner alone"
        server = "its own simulator" if self.embedded else "keys honoured" if self.keys else "keys ignored"
        return f"{who}, {server}{', forgetful' if self.forgets else ''}"


SEPARATE = tuple(Combination(keys, group) for keys in (True, False) for group in (False, True))
EMBEDDED = Combination(keys=True, group=True, embedded=True)
NAIVE = Combination(keys=False, group=False, forgets=True)


@dataclass(slots=True)
class Outcome:
    """How it went: `faults` should be empty. `phases` say how far the purchase was when the kill came."""

    combination: Combination
    kills: int = 0
    rounds: int = 0
    sales: int = 0
    longest_orphan: float = 0.0
    seconds: float = 0.0
    phases: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def sold_again(self) -> int:
        """What was paid more than once."""
        return self.sales - self.rounds

    def __str__(self) -> str:
        phases = ", ".join(f"{count} {phase}" for phase, count in sorted(self.phases.items()))
        return (
            f"{self.combination!s:<36} {self.kills:>4} kills {self.rounds:>3} renders {self.sales:>3} sales"
            f" {self.sold_again:>2} again {len(self.faults):>2} faults {self.seconds:>4.0f} s  ({phases})"
        )


# ---------------------------------------------------------------- the shop


@dataclass(slots=True)
class Shop:
    """A simulator in a process of its own, whose sales are counted."""

    folder: Path
    keys: bool
    url: str = ""
    process: subprocess.Popen[str] | None = None

    def open(self) -> None:
        """Start it; again on the same port and state, if it ran before."""
        port = self.url.rpartition(":")[2].removesuffix("/v1") or "0"
        options = ["--state", str(self.folder), "--port", port, "--latency", "0.3", "--no-film"]
        command = [
            sys.executable,
            "-m",
            "stages.simulators.openai",
            *options,
            *([] if self.keys else ["--ignore-keys"]),
        ]
        self.process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError("the simulator did not start")

    def kill(self) -> None:
        """End it, rudely."""
        if self.process:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout
            self.process.stdout.close()
            self.process = None


def sales(state: Path) -> int:
    """How often a simulator was paid."""
    log = state / "sales.jsonl"
    return len([line for line in log.read_text().splitlines() if line]) if log.exists() else 0


def environment() -> dict[str, str]:
    """Ours, without a signer or a simulator of its own, and with the sources that are tested."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("AFTERFRAME_")}
    return {**ours, "PYTHONPATH": str(ROOT)}


# ---------------------------------------------------------------- a project


@dataclass(slots=True)
class Project:
    """A folder with a recipe and a purse, and the runs in it."""

    folder: Path
    prompt: str
    shop: Shop | None
    mark: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def own_sim(self) -> Path:
        """Where the state of the simulator is that a run starts if none answers."""
        return self.folder / ".pipeline" / "sim"

    def prepare(self, media: Path) -> None:
        """Put the recipe and what it reads into the folder."""
        shutil.copytree(media, self.folder)
        (self.folder / "pyproject.toml").touch()
        (self.folder / "temporary").mkdir()
        (self.folder / "film.yaml").write_text(RECIPE, encoding="utf-8")
        if self.shop and self.shop.keys:  # found as if an earlier run had started it: so keys are trusted
            self.own_sim.mkdir(parents=True)
            (self.own_sim / "url").write_text(self.shop.url)

    def environment(self) -> dict[str, str]:
        own = {MARK: self.mark, "TMPDIR": str(self.folder / "temporary"), "AFTERFRAME_HOME": str(self.home)}
        if self.shop and not self.shop.keys:
            own["AFTERFRAME_SIM_URL"] = self.shop.url
        return {**environment(), **own, "AFTERFRAME_SIM_LATENCY": "0.3"}

    def start(self) -> subprocess.Popen[bytes]:
        """A run, in a process group of its own."""
        with (self.folder / "stdout").open("wb") as out, (self.folder / "stderr").open("wb") as errors:
            return subprocess.Popen(
                self.command(), cwd=self.folder, env=self.environment(), stdout=out, stderr=errors,
                start_new_session=True,
            )  # fmt: skip

    def command(self) -> list[str]:
        return [sys.executable, "-m", "pipeline", "run", "film.yaml", "--json", "--set", f"prompt={self.prompt}"]

    def alive(self) -> Iterator[str]:
        """What still runs of it, by its name."""
        sought = f"{MARK}={self.mark}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # ended meanwhile, or not ours
                if sought in (process / "environ").read_bytes().split(b"\0"):
                    yield (process / "comm").read_text(encoding="utf-8").strip()

    def gone_after(self, patience: float = 5.0) -> float:
        """Seconds until nothing of a killed run is left; `patience` if something stays."""
        started = time.monotonic()
        while any(True for _ in self.alive()):
            if time.monotonic() - started > patience:
                return patience
            time.sleep(0.01)
        return time.monotonic() - started

    def phase(self) -> str:
        """How far the purchase was, by what lies there."""
        if (self.folder / "out" / "web.mp4").exists():
            return "delivered"
        ledger = self.home / "ledger.sqlite3"
        if not ledger.exists():
            return "before the ledger"
        try:
            with contextlib.closing(sqlite3.connect(ledger, timeout=10)) as database:
                states = [state for (state,) in database.execute("SELECT state FROM purchase ORDER BY attempt")]
        except sqlite3.Error:
            return "ledger begun"
        return states[-1] if states else "nothing asked"

    def sold(self) -> int:
        """How often its simulator was paid so far, by this project and others."""
        return sales(self.shop.folder if self.shop else self.own_sim)

    def forget(self) -> None:
        """Lose the purse, as one would who keeps none."""
        shutil.rmtree(self.home, ignore_errors=True)

    # ------------------------------------------------------------ what must hold in the end

    def faults(self) -> Iterator[str]:
        """What is wrong with a project whose run ended by itself."""
        told = json.loads((self.folder / "stdout").read_bytes())
        (file,) = told["files"]
        if (file["frames"], file["provenance"]) != (FRAMES, "proved"):
            yield f"{file['frames']} frames, {file['provenance']}"
        yield from broken(self.folder / "out" / "web.mp4")
        remains = self.gone_after()
        yield from (f"still alive after {remains:.1f} s: {name}" for name in self.alive())
        yield from (f"left over: {file}" for file in self.leftovers())
        again = subprocess.run(
            self.command(), cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=PATIENCE
        )
        if again.returncode != 0:
            yield f"a second run ended with {again.returncode}: {again.stderr}"
        else:
            told = json.loads(again.stdout)
            done = {key: told[key] for key in ("bought", "encoded", "copied") if told[key]}
            yield from (f"not finished: {count} {key} by another run" for key, count in done.items())

    def leftovers(self) -> Iterator[str]:
        """Part files, and whatever a killed run kept for a moment."""
        half = [*self.folder.rglob(".af-*"), *self.folder.rglob("*.part"), *(self.folder / ".pipeline/tmp").glob("*")]
        half += (self.folder / "temporary").iterdir()
        half += [file for file in (self.folder / "out").iterdir() if file.name not in ("web.mp4", "film.report.html")]
        yield from sorted({str(file.relative_to(self.folder)) for file in half})


def broken(file: Path) -> Iterator[str]:
    """Decode it all."""
    argv = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-xerror", "-i", str(file), "-f", "null", "-"]
    done = subprocess.run(argv, capture_output=True, text=True)
    found = int(done.stderr.rpartition("frame=")[2].split()[0]) if "frame=" in done.stderr else 0
    if done.returncode != 0 or found != FRAMES or "error" in done.stderr.lower():
        yield f"{file.name}: {found} of {FRAMES} frames decode, exit code {done.returncode}"


def make_media(folder: Path) -> None:
    """A photo and a voice."""
    folder.mkdir(parents=True)
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i"]
    subprocess.run([*ffmpeg, "testsrc2=s=1280x720", "-frames:v", "1", str(folder / "photo.png")], check=True)
    subprocess.run([*ffmpeg, "sine=880:r=24000:d=0.6", str(folder / "voice.wav")], check=True)


# ---------------------------------------------------------------- killing


def run(folder: Path, combination: Combination, *, kills: int, seed: int = 0, seconds: float = float("inf")) -> Outcome:
    """Kill `kills` times, or for about `seconds` but at least once; let every run end in the end; look at each."""
    dice, started, outcome = random.Random(seed), time.monotonic(), Outcome(combination)
    make_media(folder / "media")
    shop = None if combination.embedded else Shop(folder / "shop", combination.keys)
    if shop:
        shop.folder.mkdir()
        shop.open()
    try:
        whole = _lasts(Project(folder / "undisturbed", "undisturbed", shop), folder / "media")
        first, started = sales(shop.folder) if shop else 0, time.monotonic()
        while not outcome.kills or (outcome.kills < kills and time.monotonic() - started < seconds):
            project = Project(folder / f"project{outcome.rounds}", f"render {outcome.rounds}", shop)
            project.prepare(folder / "media")
            outcome.rounds += 1
            _round(project, outcome, dice, kills, whole)
            outcome.sales += sales(project.own_sim)  # of its own, if it had none or could not reach it
            if combination.forgets and shop and sales(shop.folder) - first > outcome.rounds:
                break  # that proves it
        if shop:
            time.sleep(3)  # a sale may land, and be told, this late
            outcome.sales += sales(shop.folder) - first
    finally:
        if shop:
            shop.kill()
    outcome.seconds = time.monotonic() - started
    if outcome.sold_again:
        outcome.faults.append(f"{outcome.sales} sales for {outcome.rounds} renders")
    return outcome


def _lasts(project: Project, media: Path) -> float:
    """How long a run takes that nobody kills."""
    project.prepare(media)
    began = time.monotonic()
    if project.start().wait(PATIENCE) != 0:
        raise RuntimeError((project.folder / "stderr").read_text(encoding="utf-8"))
    return time.monotonic() - began


def _round(project: Project, outcome: Outcome, dice: random.Random, kills: int, whole: float) -> None:
    killed, most = 0, 2 if outcome.combination.forgets else MOST
    while True:
        process = project.start()
        mortal = outcome.kills < kills and killed < most
        try:
            if mortal and dice.random() < 0.5:
                _until_a_sale(project, process, whole)
                code = process.wait(dice.uniform(0, AFTER))
            else:
                code = process.wait(dice.uniform(0, whole) if mortal else PATIENCE)
        except subprocess.TimeoutExpired:
            _kill(project, process, outcome, dice)
            if not mortal:
                outcome.faults.append(f"{project.folder.name}: did not end in {PATIENCE:g} s")
                return
            killed += 1
            continue
        if code != 0:
            said = (project.folder / "stderr").read_text(encoding="utf-8")
            outcome.faults.append(f"{project.folder.name}: ended with {code}: {said}")
        else:
            outcome.faults += [f"{project.folder.name}: {fault}" for fault in project.faults()]
        return


def _until_a_sale(project: Project, process: subprocess.Popen[bytes], whole: float) -> None:
    """Wait for one, as long as a whole run; or for the end of the run."""
    before, end = project.sold(), time.monotonic() + whole
    while project.sold() == before and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


def _kill(project: Project, process: subprocess.Popen[bytes], outcome: Outcome, dice: random.Random) -> None:
    combination = outcome.combination
    if combination.group:
        os.killpg(process.pid, signal.SIGKILL)
        if project.shop and dice.random() < 0.5:
            project.shop.kill()
            project.shop.open()
    else:
        process.kill()
    process.wait()
    outcome.kills += 1
    outcome.phases[project.phase()] += 1
    # Half of the time the next run meets the orphans of this one, if there are any.
    if dice.random() < 0.5:
        outcome.longest_orphan = max(outcome.longest_orphan, project.gone_after())
    if combination.forgets:
        project.forget()


def run_all(
    folder: Path, combinations: Sequence[Combination], *, kills: int, seed: int = 0, seconds: float = float("inf")
) -> Iterator[Outcome]:
    """All combinations, two at a time: they wait more than they work. `kills` and `seconds` are for each."""
    with ThreadPoolExecutor(2) as pool:
        numbered = enumerate(combinations)
        running = [
            pool.submit(run, folder / str(number), each, kills=kills, seed=seed + number, seconds=seconds)
            for number, each in numbered
        ]
        for each in running:
            yield each.result()


def main() -> int:
    """Run, print, and say whether everything was paid once and is whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--embedded", action="store_true", help="only with the simulator that the runner starts")
    parser.add_argument("--naive", action="store_true", help="only with a ledger that forgets")
    given = parser.parse_args()
    combinations = (EMBEDDED,) if given.embedded else (NAIVE,) if given.naive else SEPARATE
    with tempfile.TemporaryDirectory() as folder:
        outcomes = []
        for outcome in run_all(Path(folder), combinations, kills=given.kills // len(combinations), seed=given.seed):
            print(outcome, flush=True)
            outcomes.append(outcome)
    print(f"a process outlived its killed runner by {max(each.longest_orphan for each in outcomes):.3f} s at most")
    faults = [f"{each.combination}: {fault}" for each in outcomes for fault in each.faults]
    print("\n".join(faults) or "each paid once, whole and proved; nothing left over")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
