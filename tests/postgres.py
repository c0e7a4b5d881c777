"""A real Postgres for tests: Debian's, in a temporary folder, on a free port, as a user without rights.

with server() as address: ...            # postgresql://afterframe@127.0.0.1:PORT/postgres
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
from pathlib import Path

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: int(each.parent.name))
LACKING = "no Postgres here: apt-get install postgresql"

# Tests kill clients, never the server: it need not sync.
SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "60", "log_min_messages": "fatal"}


def is_here() -> bool:
    """Whether Debian's package is installed."""
    return bool(BINARIES) and (BINARIES[-1] / "initdb").exists()


@contextlib.contextmanager
def server() -> Iterator[str]:
    """A server that ends with the block, or with its parent; its address."""
    folder = Path(tempfile.mkdtemp(prefix="afterframe-pg-"))
    prefix: list[str] = []
    if os.geteuid() == 0:  # Postgres refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    try:
        data = folder / "data"
        initdb = [str(BINARIES[-1] / "initdb"), "-D", str(data), "-U", "afterframe", "-A", "trust", "--no-sync"]
        subprocess.run([*prefix, *initdb, "-E", "UTF8", "--locale=C"], check=True, capture_output=True, cwd=folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        command = [str(BINARIES[-1] / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder), *options]
        dies_with_us = [*(prefix or ["setpriv"]), "--pdeathsig", "INT"]
        process = subprocess.Popen([*dies_with_us, *command], cwd=folder, stderr=subprocess.DEVNULL)
        try:
            _wait_for(port, process)
            yield f"postgresql://afterframe@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: nothing here is worth keeping
            process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        ready = [str(BINARIES[-1] / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        if subprocess.run(ready).returncode == 0:
            return
        time.sleep(0.05)
    raise RuntimeError(f"Postgres did not start ({getpass.getuser()})")
