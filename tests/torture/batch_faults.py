"""Three machines make a batch while one thing after another breaks; look at what was bought and delivered.

    python -m tests.torture.batch_faults --renders 200 --seed 1

The machines are network namespaces with addresses, folders and homes of their
own; what they share is a Postgres, a store (a folder) and the simulator, which
ignores keys. While the batch is made

    killed      a machine loses its power, and another worker starts on it later
    frozen      a worker stands still (SIGSTOP) beyond its lease, and then goes on
    database    a machine's cable to the database is pulled
    provider    a machine's cable to the provider is pulled
    postgres    the database dies (immediate shutdown), and starts again
    disk        a machine's disk is full, and then has room again
    clock       a machine's clock jumps two days ahead, and then an hour back

each as soon as the one before is over. In the end every render must be
delivered once and whole, every purchase made once, nothing half-made be used
and nothing stuck. Printed is a table: what the others did meanwhile, and how
long after a fault, or after its end, the work went on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "pipeline")]

import machines  # noqa: E402 -- the tests' own
import postgres  # noqa: E402 -- likewise
import psycopg  # noqa: E402 -- as below
from shoot import Server, server  # noqa: E402 -- likewise
from workshop import Workshop, environment, frames_of  # noqa: E402 -- likewise

from stages.files import sha256  # noqa: E402 -- found by the line above
from stages.ledger import open_ledger, purchases  # noqa: E402 -- likewise

RECIPE = """\
inputs: {prompt: ~, name: ~}
budget: {total: $1000}
steps: [{generate: {prompt: $prompt, frame: 16:9, length: 2s, model: sim}}, {trim: 0.5s}, {upscale: {size: 320x180}}]
deliver: [{preset: web, file: out/$name.mp4}]
"""
FRAMES = 12
MACHINES = ("alpha", "beta", "gamma")

CUT = 35.0
"""Seconds for which a cable is out, or a worker stands still: longer than any lease."""

DISK = 96 << 20
"""Bytes of a machine's disk."""

CLOCK = Path(__file__).parent / "clock.c"


@dataclass(slots=True)
class Worker:
    """A worker on its machine; `clock` is by how many seconds its clock is wrong."""

    machine: machines.Machine
    process: machines.Process
    says: Path
    clock: Path

    @property
    def executor(self) -> str:
        """What it calls itself; empty until it has started."""
        said = self.says.read_text(errors="replace") if self.says.exists() else ""
        return next(iter(re.findall(r"worker (\S+): \d+ slots", said)), "")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: when, in seconds from the start, what happened, and how soon the work went on."""

    fault: str
    when: float
    happened: str
    seconds: float


@dataclass(slots=True)
class Night:
    """The batch under way, and all that it needs."""

    folder: Path
    site: machines.Site
    database: postgres.Server
    sells: Server
    renders: int
    dice: random.Random
    workers: list[Worker] = field(default_factory=list)
    table: list[Row] = field(default_factory=list)
    began: float = 0.0
    batch: str = ""

    # ------------------------------------------------------------ the project

    @property
    def project(self) -> Workshop:
        """Whoever submits the batch."""
        return Workshop(self.folder / "host" / "project")

    @property
    def store(self) -> Path:
        """What all machines share."""
        return self.folder / "store"

    def env(self, database: str, url: str, folder: Path) -> dict[str, str]:
        """Of a command on a machine whose disk is `folder`, or here."""
        shared = {"AFTERFRAME_DATABASE": database, "AFTERFRAME_STORE": str(self.store), "AFTERFRAME_SIM_URL": url}
        return environment({**shared, "AFTERFRAME_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)})

    @property
    def local(self) -> str:
        """The database's address on the host."""
        return self.database.address.replace(self.database.host, "127.0.0.1")

    @property
    def here(self) -> dict[str, str]:
        """The environment of a command on the host."""
        return self.env(self.local, self.sells.url, self.folder / "host")

    def submit(self) -> None:
        """Write the recipe and its rows, and submit them."""
        self.project.write(RECIPE)
        self.project.write("sim: {in_flight: 5}\n", "models.yaml")  # so that there is buying to disturb until the end
        rows = ["prompt,name", *(f"a fox number {number},fox{number}" for number in range(self.renders))]
        (self.project.folder / "rows.csv").write_text("\n".join(rows), encoding="utf-8")
        told = self.cli("batch", "film.yaml", "--rows", "rows.csv", "--detach", "--json")
        self.batch = json.loads(told)["batch"]
        self.began = time.monotonic()

    def cli(self, *words: str) -> str:
        """What `pipeline` says."""
        done = subprocess.run(
            self.project.command(*words), cwd=self.project.folder, env=self.here, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"pipeline {' '.join(words)}: {done.stderr}")
        return done.stdout

    # ------------------------------------------------------------ the machines

    def hire(self, machine: machines.Machine) -> Worker:
        """Start a worker on a machine."""
        mark = f"{machine.name}-{sum(each.machine is machine for each in self.workers)}"
        url = f"http://{self.site.host(machines.WORLD)}:{self.port}/v1"
        clock = self.folder / f"{mark}.clock"
        clock.write_text("0")
        disk = self.folder / machine.name
        env = self.env(self.database.address, url, disk)
        if self.wrong_clock.exists():
            env |= {"LD_PRELOAD": str(self.wrong_clock), "WRONG_CLOCK": str(clock)}
        says = self.folder / f"{mark}.log"
        command = self.project.command("worker", "--encode", "1", "--logs", "json")
        worker = Worker(machine, machine.start(command, Workshop(disk / "project").folder, env, says), says, clock)
        self.workers.append(worker)
        return worker

    def dismiss(self) -> None:
        """Ask all workers to end."""
        for worker in self.workers:
            if worker.process.alive:
                worker.process.end()

    @property
    def wrong_clock(self) -> Path:
        """What makes a clock wrong."""
        return self.folder / "clock.so"

    @property
    def port(self) -> int:
        """Where the machines find the provider."""
        if not self._port:
            self._port.append(machines.forward(self.site.host(machines.WORLD), int(self.sells.url.split(":")[2][:-3])))
        return self._port[0]

    _port: list[int] = field(default_factory=list)

    # ------------------------------------------------------------ how it stands

    def ask(self, sql: str, *values: Any) -> list[Any]:
        """A question to the engine's tables."""
        schema = f"afterframe_{(self.store / 'project').read_text()}"
        with psycopg.connect(self.local, autocommit=True) as connection:
            connection.execute(f'SET search_path TO "{schema}"'.encode())
            return connection.execute(sql.encode(), values).fetchall()

    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def done(self) -> int:
        """How many renders have ended."""
        sql = """SELECT count(*) FROM workflow_status JOIN workflow_output USING (workflow_uuid)
            WHERE name = 'render' AND status = 'SUCCESS' AND workflow_output.output NOT LIKE '%%handed over%%'"""
        return int(self.ask(sql)[0][0])

    def held(self, executor: str) -> set[str]:
        """What a worker has under way."""
        sql = "SELECT workflow_uuid FROM workflow_status WHERE executor_id = %s AND status = 'PENDING'"
        return {row[0] for row in self.ask(sql, executor)}

    def deeds(self, executor: str) -> int:
        """How many tasks were noted of what a worker has or had."""
        sql = """SELECT count(*) FROM operation_outputs JOIN workflow_status USING (workflow_uuid)
            WHERE executor_id = %s"""
        return int(self.ask(sql, executor)[0][0])

    def wait(self, for_: Callable[[], bool], most: float = 300.0) -> float:
        """Until something is so, or all is done; the seconds that it took, infinitely many if it never was."""
        began = time.monotonic()
        while time.monotonic() - began < most:
            with contextlib.suppress(psycopg.Error):
                if for_() or self.done() >= self.renders:
                    return time.monotonic() - began
            time.sleep(0.25)
        return float("inf")

    def wait_for(self, worker: Worker, least: int = 1) -> None:
        """Until a worker has something under way."""
        self.wait(lambda: bool(worker.executor) and len(self.held(worker.executor)) >= least)

    def goes_on(self, worker: Worker) -> float:
        """Seconds until a worker does something."""
        before = self.deeds(worker.executor)
        return self.wait(lambda: self.deeds(worker.executor) > before)

    def all_go_on(self) -> float:
        """Seconds until each living worker does something, or all is done."""
        before = {worker.executor: self.deeds(worker.executor) for worker in self.workers if worker.process.alive}
        return self.wait(lambda: all(self.deeds(name) > many for name, many in before.items()))

    def taken_up(self, executor: str) -> tuple[int, float]:
        """How many renders a worker had that is gone, and the seconds until others have them."""
        had = self.held(executor)
        return len(had), self.wait(lambda: not self.held(executor) & had)

    # ------------------------------------------------------------ faults

    def note(self, fault: str, when: float, happened: str, seconds: float) -> None:
        """A line of the table."""
        self.table.append(Row(fault, when, happened, seconds))
        print(f"{when:6.0f} s  {fault:<9} {happened}; {seconds:.1f} s  ({self.done()} done)", flush=True)

    def killed(self, worker: Worker) -> None:
        """A machine loses its power."""
        self.wait_for(worker)
        when = self.now()
        worker.process.kill()
        many, seconds = self.taken_up(worker.executor)
        self.note("killed", when, f"{worker.machine.name} killed -9; its {many} renders went on elsewhere", seconds)
        fresh, started = self.hire(worker.machine), time.monotonic()
        self.wait(lambda: bool(fresh.executor) and self.deeds(fresh.executor) > 0)
        self.note("", self.now(), "a new worker started there, and worked", time.monotonic() - started)

    def frozen(self, worker: Worker) -> None:
        """A worker stands still beyond its lease, and goes on."""
        self.wait_for(worker)
        when = self.now()
        worker.process.signal(signal.SIGSTOP)
        many, seconds = self.taken_up(worker.executor)
        self.note("frozen", when, f"{worker.machine.name} stopped; its {many} renders went on elsewhere", seconds)
        time.sleep(max(0.0, CUT - (self.now() - when)))
        worker.process.signal(signal.SIGCONT)
        at = self.now()
        self.note("", at, f"{worker.machine.name} went on after {at - when:.0f} s", self.goes_on(worker))

    def database_cut(self, worker: Worker) -> None:
        """A machine cannot reach the database."""
        self.wait_for(worker)
        when = self.now()
        worker.machine.cut(machines.DATA)
        many, seconds = self.taken_up(worker.executor)
        self.note("database", when, f"{worker.machine.name} cut off; its {many} renders went on elsewhere", seconds)
        time.sleep(max(0.0, CUT - (self.now() - when)))
        worker.machine.mend(machines.DATA)
        at = self.now()
        self.note("", at, f"{worker.machine.name} back after {at - when:.0f} s", self.goes_on(worker))

    def provider_cut(self, _: Worker) -> None:
        """The machine that buys most cannot reach the provider."""
        alive = [worker for worker in self.workers if worker.process.alive]
        worker = max(alive, key=lambda each: sum(name.endswith(":0") for name in self.held(each.executor)))
        when, before = self.now(), self.done()
        worker.machine.cut(machines.WORLD)
        time.sleep(CUT)
        had = {name for name in self.held(worker.executor) if name.endswith(":0")}
        worker.machine.mend(machines.WORLD)
        others = f"{self.done() - before} renders ended meanwhile"
        seconds = self.wait(lambda: had > self.held(worker.executor) & had)
        what = f"{worker.machine.name} cut off for {CUT:.0f} s, {others}; its {len(had)} purchases went on"
        self.note("provider", when, what, seconds)

    def postgres_crashed(self, _: Worker) -> None:
        """The database dies."""
        when = self.now()
        self.database.crash()
        time.sleep(5)
        self.database.start()
        self.note("postgres", when, "down for 5 s; all three workers went on", self.all_go_on())

    def disk_full(self, worker: Worker) -> None:
        """A machine cannot write."""
        self.wait_for(worker)
        when = self.now()
        ballast = self.folder / worker.machine.name / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(b"\1" * (1 << 16))
                file.flush()
        time.sleep(15)
        ballast.unlink()
        self.note("disk", when, f"{worker.machine.name}'s full for 15 s; it went on", self.goes_on(worker))

    def clock_jumped(self, worker: Worker) -> None:
        """A machine's clock is wrong."""
        if not self.wrong_clock.exists():
            print("          clock     left out: needs a C compiler (apt-get install gcc)", flush=True)
            return
        self.wait_for(worker)
        for jump, said in ((2 * 86_400, "two days ahead"), (-3600, "to an hour behind")):
            when = self.now()
            worker.clock.write_text(str(jump))
            time.sleep(2)
            seconds = self.goes_on(worker)
            time.sleep(10)
            self.note("clock", when, f"{worker.machine.name}'s jumped {said}; it went on", seconds)
        worker.clock.write_text("0")

    # ------------------------------------------------------------ the end

    def wrong(self) -> Iterator[str]:
        """What is not as it should be, in the end."""
        told = json.loads(self.cli("status", self.batch, "--json"))
        if told["state"] != "done":
            yield f"the batch is {told['state']}: {told['counts']}"
        for row in told["rows"]:
            yield from (f"row {row['row']}: {said}" for said in row["errors"])
        for name, status in self.ask("SELECT workflow_uuid, status FROM workflow_status WHERE status <> 'SUCCESS'"):
            yield f"{name} is {status}"
        yield from self._of_money()
        self.cli("fetch", self.batch)
        files = sorted((self.project.folder / "out").iterdir())
        if [file.name for file in files] != sorted(f"fox{number}.mp4" for number in range(self.renders)):
            yield f"{len(files)} files were delivered"
        said = {file["path"]: file["sha256"] for row in told["rows"] for file in row["files"]}
        for file in files:
            if frames_of(file) != FRAMES:
                yield f"{file.name} is broken"
            if said.get(f"out/{file.name}") != sha256(file):
                yield f"{file.name} is not what was told"
        for file in (self.store / "objects").glob("*/*"):
            if sha256(file) != file.name:
                yield f"{file} in the store is damaged"

    def _of_money(self) -> Iterator[str]:
        sold = [json.loads(line) for line in (self.sells.folder / "sales.jsonl").read_text().splitlines()]
        if len(sold) != self.renders:
            yield f"{len(sold)} films were sold for {self.renders} renders"
        rows = purchases(open_ledger(self.folder / "host" / "home", database=self.local))
        if unlike := {row.job_id for row in rows} ^ {sale["id"] for sale in sold}:
            yield f"the ledger and the simulator do not agree on {sorted(unlike)}"
        if states := sorted({row.state for row in rows} - {"DONE"}):
            yield f"some purchases are {', '.join(states)}"

    def twice(self) -> str:
        """How much work was done in vain."""
        encodes = sum(
            json.loads(line).get("says", "").startswith("made film-")
            for worker in self.workers
            for line in worker.says.read_text(errors="replace").splitlines()
            if line.startswith("{")
        )
        return f"{encodes} encodes were told of for {self.renders} renders"


FAULTS: dict[str, Callable[[Night, Worker], None]] = {
    "killed": Night.killed,
    "frozen": Night.frozen,
    "database": Night.database_cut,
    "provider": Night.provider_cut,
    "postgres": Night.postgres_crashed,
    "disk": Night.disk_full,
    "clock": Night.clock_jumped,
}


def torture(folder: Path, renders: int, seed: int, faults: list[str], patience: float = 1800.0) -> list[str]:
    """What was wrong in the end. Prints what happens."""
    if compiler := shutil.which("cc"):
        subprocess.run([compiler, "-shared", "-fPIC", "-o", str(folder / "clock.so"), str(CLOCK)], check=True)
    with contextlib.ExitStack() as stack:
        for name in MACHINES:
            (folder / name).mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(folder / name)], check=True)
            stack.callback(subprocess.run, ["umount", "-l", str(folder / name)])
        site = stack.enter_context(machines.Site())
        net = site.host(machines.DATA).rpartition(".")[0]
        database = stack.enter_context(postgres.running(site.host(machines.DATA), f"{net}.0/24"))
        options = ("--latency", "4", "--settle", "0.3", "--ignore-keys")
        sells = stack.enter_context(server(folder / "server", *options))
        night = Night(folder, site, database, sells, renders, random.Random(seed))
        night.submit()
        for name in MACHINES:
            night.hire(site.machine(name))
        stack.callback(night.dismiss)
        for worker in night.workers:
            night.wait_for(worker, 0)
        night.note("", night.now(), "three workers work", night.now())
        for name in faults:
            alive = [worker for worker in night.workers if worker.process.alive]
            FAULTS[name](night, night.dice.choice(alive))
        night.wait(lambda: night.done() == renders, patience)
        night.note("", night.now(), f"{night.done()} of {renders} renders are done", 0.0)
        night.dismiss()
        print(night.twice())
        return list(night.wrong())


def main() -> int:
    """Run, print, and say whether everything was whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renders", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", nargs="*", default=list(FAULTS), choices=FAULTS, help="by default all")
    parser.add_argument("--keep", type=Path, help="a folder for all that is written, instead of a temporary one")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the machines go, too
    if lacking := machines.lacking() or ("" if postgres.is_here() else postgres.LACKING):
        print(lacking)
        return 2
    with contextlib.ExitStack() as stack:
        folder = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(exist_ok=True, parents=True)
        wrong = torture(folder, given.renders, given.seed, given.faults)
    print("\n".join(wrong) or "every render delivered once, every film bought once, nothing damaged, nothing stuck")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
