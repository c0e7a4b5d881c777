"""A real S3 for tests: moto's server, as a process on a free port.

with server() as address: ...            # http://127.0.0.1:PORT
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx


@contextlib.contextmanager
def server(log: Path = Path("/dev/null")) -> Iterator[str]:
    """A server that ends with the block, or with its parent; its address. What it is asked, it writes into `log`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        sys.executable,
        "-m",
        "moto.server",
        "-H",
        "127.0.0.1",
        "-p",
        f"{port}",
    ]
    with log.open("ab") as told:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 300
        while True:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{address}/moto-api/data.json")
                break
            assert process.poll() is None, "moto did not start"
            assert time.monotonic() < deadline, "moto did not start"
            time.sleep(0.1)
        yield address
    finally:
        process.kill()
        process.wait()


def environment(address: str) -> dict[str, str]:
    """What a process needs to use it."""
    return {
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": address,
    }


SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=tests/20260101/us-east-1/s3/aws4_request, Signature=none"}


def bucket(address: str) -> str:
    """A new bucket, as `s3://NAME`."""
    name = f"films-{secrets.token_hex(4)}"
    httpx.put(f"{address}/{name}", headers=SIGNED).raise_for_status()
    return f"s3://{name}"
