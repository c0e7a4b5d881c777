"""A real Postgres for tests: Debian's, in a temporary folder, on a free port, as a user without rights.

with server() as address: ...            # postgresql://afterframe@127.0.0.1:PORT/postgres
with running(net="10.0.0.0/24", host="10.0.0.1") as one: one.crash(); one.start()
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: int(each.parent.name))
LACKING = "no Postgres here: apt-get install postgresql"

# Tests kill clients, never the server: it need not sync.
SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "200", "log_min_messages": "fatal"}


def is_here() -> bool:
    """Whether Debian's package is installed."""
    return bool(BINARIES) and (BINARIES[-1] / "initdb").exists()


@dataclass(slots=True)
class Server:
    """One, whose files are in `folder`, at `host` and 127.0.0.1; those of `net` may come, too."""

    folder: Path
    host: str
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """For whoever can reach `host`."""
        return f"postgresql://afterframe@{self.host}:{self.port}/postgres"

    def make(self, net: str) -> None:
        """Its files."""
        data = self.folder / "data"
        initdb = [str(BINARIES[-1] / "initdb"), "-D", str(data), "-U", "afterframe", "-A", "trust", "--no-sync"]
        subprocess.run(
            [*_without_rights(), *initdb, "-E", "UTF8", "--locale=C"],
            check=True, capture_output=True, cwd=self.folder,
        )  # fmt: skip
        if net:
            with (data / "pg_hba.conf").open("a", encoding="utf-8") as rules:
                rules.write(f"host all all {net} trust\n")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        hosts = ",".join(dict.fromkeys((self.host, "127.0.0.1")))
        options = [f"-c{name}={value}" for name, value in {**SETTINGS, "listen_addresses": hosts}.items()]
        where = ["-D", str(self.folder / "data"), "-p", str(self.port), "-k", str(self.folder)]
        dies_with_us = [*(_without_rights() or ["setpriv"]), "--pdeathsig", "INT"]
        command = [*dies_with_us, str(BINARIES[-1] / "postgres"), *where, *options]
        self.process = subprocess.Popen(command, cwd=self.folder, stderr=subprocess.DEVNULL)
        _wait_for(self.port, self.process)

    def crash(self) -> None:
        """End it at once: all sessions are lost, and what was not committed."""
        if self.process:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(300)


@contextlib.contextmanager
def server() -> Iterator[str]:
    """A server that ends with the block, or with its parent; its address."""
    with running() as one:
        yield one.address


@contextlib.contextmanager
def running(host: str = "127.0.0.1", net: str = "") -> Iterator[Server]:
    """The same, to maltreat; at `host` for those of `net`."""
    folder = Path(tempfile.mkdtemp(prefix="afterframe-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    try:
        with socket.socket() as probe:
            probe.bind((host, 0))
            one = Server(folder, host, probe.getsockname()[1])
        one.make(net)
        try:
            one.start()
            yield one
        finally:
            one.crash()  # nothing here is worth keeping
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def empty(address: str) -> None:
    """Take away what tests before left there: ledgers, and engines of projects."""
    with psycopg.connect(address, autocommit=True) as connection:
        found = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'afterframe_%'").fetchall()
        for name in ("public", *(name for (name,) in found)):
            connection.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE'.encode())
        connection.execute("CREATE SCHEMA public")


def _without_rights() -> list[str]:
    """Postgres refuses to run as root."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        ready = [str(BINARIES[-1] / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        if subprocess.run(ready).returncode == 0:
            return
        time.sleep(0.05)
    raise RuntimeError(f"Postgres did not start ({getpass.getuser()})")
