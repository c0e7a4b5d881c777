"""A batch of clips against the same stages called by hand, one worker's slots against the best hand-made schedule, and
two workers against one.

    python -m tests.benchmarks.clips overhead --clips 50     goal: under 5 % more
    python -m tests.benchmarks.clips slots --clips 50        goal: at least 0.95 of the best
    python -m tests.benchmarks.clips workers --clips 40      goal: at least 1.8 times as many; needs Postgres

By hand is the same stages in a loop, as a user of the library writes it, in one
process that has done one clip before: `ingest`, then
`deliver(trim(open_clip(file), length="2s"), "web", target)`. The batch is
submitted to a worker that waits for work; its time is from there until its last
file lies in place. Each is done in every round, by turns, so that the difference
between the same thing done twice (A/A) says how much of the rest is noise. The
CPU is of all processes, the start of the worker and of the command that submits
among them. What two cores make more than one is asked of the machine too: two
loops by hand, a core each, against one. Sources are 720p, two seconds and a bit, with sound, each with bytes
of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import postgres  # noqa: E402 -- found by the line above
from lab import TAGS, film  # noqa: E402 -- likewise

from stages import deliver, open_clip, trim  # noqa: E402 -- likewise
from stages.files import fresh_folder  # noqa: E402 -- likewise
from stages.ingestion import ingest  # noqa: E402 -- likewise

RECIPE = """\
inputs: {clip: ~, name: ~}
steps: [{trim: {clip: $clip, length: 2s}}]
deliver: [{preset: web, file: out/$name.mp4}]
"""
PICTURE = f"testsrc2=s=1280x720:r=24:d=2.25,noise=alls=3:allf=t,{TAGS}"
SOUND = "sine=440:r=48000:d=2.25"

Core = int | None


def make_sources(folder: Path, count: int) -> list[Path]:
    """Clips that differ in their bytes alone."""
    folder.mkdir()
    inputs = ("-f", "lavfi", "-i", PICTURE, "-f", "lavfi", "-i", SOUND)
    first = film(folder / "source.mp4", *inputs, "-c:v", "libx264", "-preset", "superfast", "-c:a", "aac")
    made = [
        film(folder / f"clip{number:03}.mp4", "-i", str(first), "-c", "copy", "-metadata", f"comment={number}")
        for number in range(count)
    ]
    first.unlink()
    return made


# ---------------------------------------------------------------- by hand


def by_hand(sources: list[Path], folder: Path, at_once: int, *, ingests: bool = True) -> float:
    """The seconds that a loop takes; of `at_once` threads, where they are several."""
    folder.mkdir(parents=True)

    def one(source: Path) -> None:
        clip = open_clip(source)
        if ingests:
            with fresh_folder(folder) as work:
                ingest(source, clip, folder=work)
        deliver(trim(clip, length="2s"), "web", folder / source.name)

    began = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, sources))
    return time.monotonic() - began


def by_hand_on(cores: tuple[int, ...], sources: list[Path], folder: Path) -> float:
    """The seconds that loops take, one on each of `cores`, which share the sources."""
    command = [sys.executable, "-m", "tests.benchmarks.clips", "hand", "--folder", str(folder), "--sources"]
    loops = [
        subprocess.Popen(
            ["taskset", "-c", str(core), *command, *map(str, sources[number :: len(cores)])],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for number, core in enumerate(cores)
    ]  # fmt: skip
    return max(float(loop.communicate()[0]) for loop in loops)


# ---------------------------------------------------------------- as a batch


def project_of(sources: list[Path], folder: Path) -> Path:
    """A project whose batch is these clips."""
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    (folder / "film.yaml").write_text(RECIPE, encoding="utf-8")
    rows = [f"{source},{source.stem}" for source in sources]
    (folder / "rows.csv").write_text("\n".join(["clip,name", *rows]), encoding="utf-8")
    return folder


@contextlib.contextmanager
def worker(project: Path, slots: int, env: Mapping[str, str], core: Core = None) -> Iterator[None]:
    """One that waits for work, held to one core if that is said."""
    held = ["taskset", "-c", str(core)] if core is not None else []
    command = [*held, sys.executable, "-m", "pipeline", "worker", "--encode", str(slots)]
    with subprocess.Popen(
        command, cwd=project, env=dict(env), stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr
        try:
            assert "slots" in (said := process.stderr.readline()), said
            yield
        finally:
            process.terminate()
            process.communicate()


def as_batch(
    sources: list[Path], folder: Path, slots: int, database: str = "", cores: tuple[Core, ...] = (None,)
) -> float:
    """The seconds from submitting until the last file lies in place, with a worker for each of `cores`."""
    from pipeline.batch import Engine  # noqa: PLC0415 -- heavy, and not needed by hand

    project = project_of(sources, folder / "project")
    env = {
        **os.environ,
        "AFTERFRAME_HOME": str(folder / "home"),
        "AFTERFRAME_DATABASE": database,
        "PYTHONPATH": str(ROOT),
    }
    Engine(project / ".pipeline", database).prepare()
    with contextlib.ExitStack() as stack:
        for core in cores:
            stack.enter_context(worker(project, slots, env, core))
        submit = [sys.executable, "-m", "pipeline", "batch", "film.yaml", "--rows", "rows.csv", "--detach"]
        said = subprocess.run(submit, cwd=project, env=env, capture_output=True, text=True)
        assert said.returncode == 0, said.stderr
        submitted = (project / ".pipeline" / "batches").stat().st_mtime  # when the roster was written, before any began
        wanted = {project / "out" / source.name for source in sources}
        while not all(file.exists() for file in wanted):
            assert time.time() - submitted < 600 + 30 * len(sources), "it does not end"
            time.sleep(0.05)
        return max(file.stat().st_mtime for file in wanted) - submitted


# ---------------------------------------------------------------- the three questions


def told(name: str, seconds: list[float], cpu: list[float], clips: int) -> None:
    """A line of the table."""
    each, pace = ", ".join(f"{one:.2f}" for one in seconds), 60 * clips / mean(seconds)
    print(
        f"{name:<30} {mean(seconds):8.2f} s  {pace:6.1f} clips a minute  {mean(cpu):6.1f} s of CPU  ({each})",
        flush=True,
    )


def measured(
    ways: Mapping[str, Callable[[Path], float]], folder: Path, clips: int, rounds: int
) -> dict[str, list[float]]:
    """Each way as often, by turns, and in the other order every second time."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            before = sum(os.times()[:4])
            found[name].append(ways[name](folder / f"{name.replace(' ', '-')}-{number}"))
            cpu[name].append(sum(os.times()[:4]) - before)
    for name, seconds in found.items():
        told(name, seconds, cpu[name], clips)
    return found


def overhead(sources: list[Path], folder: Path, rounds: int) -> None:
    """One after the other, by hand twice and as a batch."""
    ways = {
        "by hand (A)": lambda at: by_hand(sources, at, 1),
        "as a batch, one slot": lambda at: as_batch(sources, at, 1),
        "by hand again (A)": lambda at: by_hand(sources, at, 1),
        "by hand, and nothing ingested": lambda at: by_hand(sources, at, 1, ingests=False),
    }
    found = measured(ways, folder, len(sources), rounds)
    first, batch, again, _ = (mean(found[name]) for name in ways)
    print(f"A/A {again / first:.3f}; batch to hand {batch / mean((first, again)):.3f}, goal at most 1.05")


def slots(sources: list[Path], folder: Path, rounds: int) -> None:
    """As many slots as there are cores, and one more, against so many threads by hand."""
    cores = os.cpu_count() or 1

    def hand(at_once: int) -> Callable[[Path], float]:
        return lambda at: by_hand(sources, at, at_once)

    ways = {f"by hand, {count} at once": hand(count) for count in (cores, cores + 1)}
    ways |= {
        f"as a batch, {cores} slots": lambda at: as_batch(sources, at, cores),
        f"as a batch, {cores + 1} slots": lambda at: as_batch(sources, at, cores + 1),
        f"by hand, {cores} at once again": hand(cores),
    }
    found = {name: mean(seconds) for name, seconds in measured(ways, folder, len(sources), rounds).items()}
    best = min(seconds for name, seconds in found.items() if name.startswith("by hand"))
    noise = found[f"by hand, {cores} at once again"] / found[f"by hand, {cores} at once"]
    for count in (cores, cores + 1):
        share = best / found[f"as a batch, {count} slots"]
        print(f"A/A {noise:.3f}; {count} slots make {share:.3f} of the best schedule, goal at least 0.95")


def workers(sources: list[Path], folder: Path, rounds: int) -> None:
    """One worker on the first core, and two on one each; and the same by hand, for what the machine has to give."""
    with postgres.server() as database:
        ways = {
            "one worker on one core": lambda at: as_batch(sources, at, 1, database, (0,)),
            "two workers on a core each": lambda at: as_batch(sources, at, 1, database, (0, 1)),
            "one worker on one core again": lambda at: as_batch(sources, at, 1, database, (0,)),
            "by hand on one core": lambda at: by_hand_on((0,), sources, at),
            "by hand on a core each": lambda at: by_hand_on((0, 1), sources, at),
        }
        found = measured(ways, folder, len(sources), rounds)
    one, two, again, hand, hands = (mean(found[name]) for name in ways)
    print(f"A/A {again / one:.3f}; two workers make {mean((one, again)) / two:.2f} times as many, goal at least 1.8;")
    print(f"two loops by hand {hand / hands:.2f} times as many as one")


def main() -> None:
    """Measure what was asked for."""
    asked: Mapping[str, Callable[[list[Path], Path, int], None]] = {
        "overhead": overhead,
        "slots": slots,
        "workers": workers,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*asked, "hand"])
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--sources", nargs="+", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.what == "hand":
        by_hand(given.sources[:1], given.folder / f"warm{os.getpid()}", 1)
        print(by_hand(given.sources, given.folder / str(os.getpid()), 1))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["AFTERFRAME_HOME"], os.environ["AFTERFRAME_DATABASE"] = f"{name}/home", ""
        (folder / "pyproject.toml").touch()
        os.chdir(folder)  # the test signer of the clips that are made by hand
        sources = make_sources(folder / "sources", given.clips)
        by_hand(sources[:1], folder / "warm", 1)
        print(f"{given.clips} clips, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
        asked[given.what](sources, folder, given.rounds)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"load {os.getloadavg()[0]:.1f} at the end; {used.ru_utime + used.ru_stime:.0f} s of CPU in all")


if __name__ == "__main__":
    main()
