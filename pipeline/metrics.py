"""What a worker tells those who watch over it: `/metrics` in Prometheus's text, `/health` for whoever restarts it.

What all workers share (renders, queues, spend, purchases in flight) is counted
in the database, so any of them may be asked; what one did itself, in it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from stages.errors import AfterframeError, InputError
from stages.ledger import open_ledger
from stages.rows import COUNTS

if TYPE_CHECKING:
    from pipeline.batch import Worker

KIND = "text/plain; version=0.0.4; charset=utf-8"

HELP = {
    "afterframe_renders": "renders by how they stand, in all batches",
    "afterframe_waiting": "renders that wait in this worker, for a film or for better times",
    "afterframe_slots": "tasks that may use this worker's processors at once",
    "afterframe_making": "tasks that this worker makes now",
    "afterframe_tasks_total": "tasks that this worker made, by kind",
    "afterframe_task_seconds_total": "seconds that they took",
    "afterframe_failures_total": "tasks of this worker that failed, by class",
    "afterframe_purchases": "purchases in the ledger, by state",
    "afterframe_spent_dollars": "what they cost, by account; a simulator's is sim, and was not paid",
}


@dataclass(slots=True)
class Tally:
    """What one worker did."""

    made: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, seconds: float) -> None:
        """One task was made."""
        with self.lock:
            self.made[kind] += 1
            self.seconds[kind] += round(seconds, 3)  # type: ignore[assignment]  # a Counter adds up whatever adds up

    def fail(self, kind: str) -> None:
        """One failed."""
        with self.lock:
            self.failures[kind] += 1


Samples = dict[tuple[str, str, str], float]
"""Values by metric, label and its value."""


def gather(worker: Worker) -> str:
    """All metrics, in Prometheus's text."""
    found: Samples = {
        ("afterframe_waiting", "", ""): len(worker.lobby.waiting),
        ("afterframe_slots", "", ""): worker.slots,
        ("afterframe_making", "", ""): len(worker.making),
    }
    tally = worker.tally
    with tally.lock:
        found |= {("afterframe_tasks_total", "kind", kind): count for kind, count in tally.made.items()}
        found |= {("afterframe_task_seconds_total", "kind", kind): total for kind, total in tally.seconds.items()}
        found |= {("afterframe_failures_total", "class", kind): count for kind, count in tally.failures.items()}
    with worker.engine.client() as desk:
        found |= {("afterframe_renders", "state", state): count for state, count in desk.counts().items()}
    states, money = Counter[str](), dict[str, Decimal]()
    with open_ledger().store.transaction(alone=False) as database:
        for row in database.rows("SELECT state, count(*) AS many FROM purchase GROUP BY state"):
            states[row["state"].lower()] = row["many"]
        sql = f"SELECT account, price, count(*) AS many FROM purchase WHERE {COUNTS} GROUP BY account, price"
        for row in database.rows(sql):
            money[row["account"]] = money.get(row["account"], Decimal(0)) + Decimal(row["price"]) * row["many"]
    found |= {("afterframe_purchases", "state", state): count for state, count in states.items()}
    found |= {("afterframe_spent_dollars", "account", account): float(sum_) for account, sum_ in money.items()}
    return _text(found)


def _text(samples: Samples) -> str:
    lines: list[str] = []
    for name, about in HELP.items():
        lines += [f"# HELP {name} {about}", f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}"]
        for (metric, label, value), number in sorted(samples.items()):
            if metric == name:
                lines.append(f"{name}{{{label}={_quoted(value)}}} {number:g}" if label else f"{name} {number:g}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


class Lines(logging.Formatter):
    """A log as JSON, a line an entry, with the batch and the render that it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        told = {"time": round(record.created, 3), "level": record.levelname.lower(), "says": record.getMessage()}
        told |= {name: getattr(record, name) for name in ("batch", "render") if hasattr(record, name)}
        if record.exc_info:
            told["trace"] = self.formatException(record.exc_info)
        return json.dumps(told)


class Plain(logging.Formatter):
    """A log for people: what it is about, and what happened."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or more with a trace."""
        about = " ".join(getattr(record, name) for name in ("batch", "render") if hasattr(record, name))
        return f"{about}: {super().format(record)}" if about else super().format(record)


LOGS: Mapping[str, logging.Formatter] = {"plain": Plain(), "json": Lines()}
"""How a worker's log may be written."""


class Gauge(BaseHTTPRequestHandler):
    """One question."""

    server: Gauges
    timeout = 10.0

    def do_GET(self) -> None:
        """`/health` is 200 while the database answers and the worker looks at it, else 503."""
        try:
            if self.path == "/metrics":
                self._send(200, gather(self.server.worker))
            elif self.path == "/health":
                fault = self.server.worker.fault()
                self._send(503 if fault else 200, f"{fault or 'ok'}\n")
            else:
                self._send(404, "there are /metrics and /health\n")
        except AfterframeError as error:
            self._send(503, f"{error}\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: it is asked every few seconds."""

    def _send(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", KIND)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)


class Gauges(ThreadingHTTPServer):
    """The server of one worker."""

    daemon_threads = True

    def __init__(self, worker: Worker, host: str, port: int) -> None:
        try:
            super().__init__((host, port), Gauge)
        except OSError as error:
            raise InputError(f"cannot listen at {host}:{port}: {error.strerror}") from None
        self.worker = worker


@contextlib.contextmanager
def metering(worker: Worker, host: str, port: int) -> Iterator[int]:
    """Answer at that address while the block lasts; the port, which 0 leaves open."""
    with Gauges(worker, host, port) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
