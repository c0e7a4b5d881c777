"""What all simulators do on the line: take a request, have trouble, answer in JSON, hand out a film."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import sqlite3
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from stages.files import attempt
from stages.simulators import faults
from stages.simulators.faults import Fault, Faults
from stages.simulators.studio import KEPT, Refusal, Studio


class Problem(Exception):
    """An HTTP answer that is no success, whole. Most are a Refusal, which the desk spells."""

    def __init__(self, status: int, body: Mapping[str, Any], **headers: str) -> None:
        super().__init__(str(body))
        self.status, self.body, self.headers = status, body, headers


class Desk(BaseHTTPRequestHandler, ABC):
    """One connection. A simulator says `act` and `error`."""

    protocol_version = "HTTP/1.1"
    server: Server
    most = 32 * 1024 * 1024
    """Bytes of a request that are taken."""
    struck: Mapping[str, Fault] = {}
    """What goes wrong with the job that is asked for, or sold, now."""

    @abstractmethod
    def act(self) -> None:
        """Answer the request. Raises Refusal and Problem."""

    @abstractmethod
    def error(self, refusal: Refusal) -> Mapping[str, Any]:
        """The body of a refusal, as this provider spells it."""

    def do_GET(self) -> None:
        """Answer, with whatever trouble is due: any method goes one way."""

        def complain(status: int, message: str, code: str, headers: Mapping[str, str]) -> None:
            self.say(status, self.error(Refusal(status, message, code)), **headers)

        try:
            faults.serve(self, self.server.faults, self._answer, complain)
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the buyer hung up

    do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: what counts is in sales.jsonl."""

    def _answer(self) -> None:
        where, header = faults.places(self.command, self.path), self.headers.get(faults.HEADER, "")
        self.struck = self.server.faults.strike(faults.SALE, header, where, located="create" not in where)
        try:
            self.act()
        except Problem as problem:
            self.say(problem.status, problem.body, **problem.headers)
        except Refusal as refusal:
            self.say(refusal.status, self.error(refusal))

    def faults_of(self, job: sqlite3.Row) -> Mapping[str, Fault]:
        """What goes wrong with `job`, by what it was sold with and by this request."""
        return {**self.server.studio.faults_of(job), **self.struck}

    def expired(self, job: sqlite3.Row) -> bool:
        """Whether its film can no longer be fetched."""
        return time.time() > job["created_at"] + KEPT or "expired" in self.faults_of(job)

    # -- what was sent

    def body(self) -> bytes:
        """What was sent, whole. Raises Refusal if it is too much."""
        length = int(self.headers.get("Content-Length") or 0)
        if length > self.most:
            self.close_connection = True
            raise Refusal(413, "The request is too large.")
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError
        return body

    # -- what is answered

    def say(self, status: int, body: Mapping[str, Any] | None, **headers: str) -> None:
        """Send JSON, or nothing, with a status and headers (`retry_after` for `retry-after`)."""
        self.send(status, b"" if body is None else json.dumps(body).encode(), "application/json", **headers)

    def send(self, status: int, content: bytes, kind: str, **headers: str) -> None:
        """Send `content`, of a media type, with a status and headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def send_root(self) -> None:
        """Send the root of who signs the films. Ours alone: so that films can be proved where they are made."""
        self.server.studio.signer()
        root = self.server.studio.folder / "sim-root.pem"
        self.send(200, root.read_bytes(), "application/x-pem-file")

    def send_film(self, path: Path, job: sqlite3.Row) -> None:
        """Send the film of `job`, or the rest of it if a Range asks for that."""
        if not path.exists():
            raise Refusal(404, "There is no such film.", "not_found")
        size, version = path.stat().st_size, f'"{job["id"]}"'
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and self.headers.get("If-Range", version) == version else 0
        if start >= size:
            raise Refusal(416, "Nothing is there.")
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Length", str(size - start))
        self.send_header("ETag", version)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()
        with path.open("rb") as file:
            file.seek(start)
            shutil.copyfileobj(file, self.wfile)


def object_in(body: bytes) -> dict[str, Any]:
    """The JSON object that was sent. Raises Refusal if it is none."""
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refusal(400, "The body should be a JSON object.")
    return found


class Server(ThreadingHTTPServer):
    """The desk is open to many at once; nobody who hangs up is waited for. The protocol is spoken below `path`."""

    daemon_threads = True
    request_queue_size = 128
    secure = False

    def __init__(
        self, port: int, studio: Studio, desk: type[Desk], path: str = "", trouble: Faults | None = None
    ) -> None:
        super().__init__(("127.0.0.1", port), desk)
        self.studio, self.path, self.faults = studio, path, trouble or Faults()

    @property
    def origin(self) -> str:
        """`http://127.0.0.1:port`"""
        return f"http{'s' if self.secure else ''}://127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{self.origin}{self.path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A line that broke is the buyer's affair; anything else is a fault of ours."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


# ---------------------------------------------------------------- the command


def options(description: str, settle: float = 3.0) -> argparse.ArgumentParser:
    """The options that all simulators have."""
    parser = argparse.ArgumentParser(prog="simulate", description=f"{description} Nothing is paid.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--state", type=Path, required=True, help="the folder that holds everything")
    parser.add_argument("--latency", type=float, default=2.0, help="seconds that filming takes at least")
    parser.add_argument("--settle", type=float, default=settle, help="seconds until a sale is surely made and listed")
    parser.add_argument("--no-film", action="store_true", help="hand out a plain unsigned film (for tests)")
    faults.add_flag(parser)
    return parser


def opened(given: argparse.Namespace, trouble: Faults, *, keys: bool = True, forgets: bool = False) -> Studio:
    """The studio that the options ask for; it forgets what was sold before if the `trouble` is that."""
    forgets = forgets or bool(trouble.strike(faults.START))
    return Studio(
        given.state.resolve(),
        latency=given.latency,
        settle=given.settle,
        keys=keys,
        films=not given.no_film,
        forgets=forgets,
    )


def run(server: Server) -> None:
    """Serve until told to stop. Prints the base URL when ready, and writes it to DIR/url."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    with attempt(server.studio.folder / "url") as part:
        part.write_text(server.url)
    print(server.url, flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    server.studio.close()
