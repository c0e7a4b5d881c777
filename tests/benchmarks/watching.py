"""5,000 jobs in flight, watched by one process: its memory, and how many requests it needs.

    python tests/benchmarks/watching.py
    python tests/benchmarks/watching.py --postgres

The jobs are at a tiny server in a child process, which speaks the list of the
OpenAI protocol and films for 20 to 80 s. Goals: under 250 MB, and at most one
request a second for every 100 jobs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import postgres  # noqa: E402 -- found by the line above

from stages.ledger import Ledger, open_ledger  # noqa: E402
from stages.providers.openai import sim  # noqa: E402
from stages.watching import refresh  # noqa: E402

JOBS = 5000
PROMPT = "a dandelion in the morning light, slow dolly, shallow depth of field, " * 5


# ---------------------------------------------------------------- the server


class Stub(BaseHTTPRequestHandler):
    """Lists its jobs, newest first, and remembers when it was asked."""

    protocol_version = "HTTP/1.1"
    asked: list[float] = []  # noqa: RUF012 -- shared on purpose
    began = time.time()

    def do_GET(self) -> None:
        """A page of the list, or when it was asked."""
        address = urllib.parse.urlsplit(self.path)
        if address.path == "/asked":
            self._send(self.asked)
            return
        self.asked.append(time.time())
        if job := address.path.partition("/videos/")[2]:
            self._send(self._job(int(job.removeprefix("video_"))))
            return
        query = dict(urllib.parse.parse_qsl(address.query))
        first = int(query["after"].removeprefix("video_")) - 1 if "after" in query else JOBS - 1
        limit = int(query.get("limit", "20"))
        page = [self._job(number) for number in range(first, max(first - limit, -1), -1)]
        self._send({"object": "list", "data": page, "has_more": first - limit >= 0})

    def _job(self, number: int) -> dict[str, Any]:
        age, length = time.time() - self.began, 20 + 60 * random.Random(number).random()
        job = {"id": f"video_{number}", "object": "video", "created_at": int(self.began), "model": "sim"}
        job |= {"seconds": "4", "size": "1280x720", "prompt": f"{PROMPT}{number}"}
        return job | {
            "status": "completed" if age > length else "in_progress",
            "progress": int(99 * min(age / length, 1)),
        }

    def _send(self, data: object) -> None:
        content = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def serve() -> None:
    """Until the end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


# ---------------------------------------------------------------- the watcher


def fill(ledger: Ledger) -> None:
    """The rows of jobs that were just taken."""
    now = ledger.clock()
    rows = [{"key": f"{n:064x}", "prompt": f"{PROMPT}{n}", "job": f"video_{n}", "now": now} for n in range(JOBS)]
    with ledger.store.transaction() as database:
        database.change_all(
            "INSERT INTO purchase (key, attempt, version, state, provider, account, model, prompt, seconds, size,"
            " price, sends, first_sent, sent_at, job_id, created_at, next_look) VALUES (:key, 1, 3, 'ACCEPTED', 'sim',"
            " 'sim', 'sim', :prompt, 4, '1280x720', '0.40', 1, :now, :now, :job, :now, :now)",
            rows,
        )


def watch(ledger: Ledger, url: str) -> tuple[int, float, float]:
    """Until all are ready: how many rounds, the seconds they took on average, and at most."""
    provider = replace(sim(f"{url}/v1"), poll=5.0)  # as OpenAI's
    took = []
    while True:
        began = time.perf_counter()
        watched = refresh(ledger, provider)
        took.append(time.perf_counter() - began)
        if len(watched.ready) == JOBS:
            return len(took), sum(took) / len(took), max(took)
        time.sleep(watched.wait)


def most_in(seconds: float, times: Sequence[float]) -> int:
    """How many of `times`, in order, lie in the fullest window of that length."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def main() -> None:
    """Watch, and print each figure beside its goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ledger = open_ledger(folder, database=stack.enter_context(postgres.server()) if given.postgres else "")
        fill(ledger)
        child = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
        stack.callback(child.wait)
        stack.callback(child.kill)
        assert child.stdout
        url = child.stdout.readline().strip()
        began, before = time.monotonic(), time.process_time()
        rounds, mean, longest = watch(ledger, url)
        passed, cpu = time.monotonic() - began, time.process_time() - before
        with urllib.request.urlopen(f"{url}/asked") as answer:
            asked = json.load(answer)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{JOBS} jobs on {'Postgres' if given.postgres else 'SQLite'}, watched for {passed:.0f} s")
    print(f"memory            {memory:6.0f} MB           goal 250")
    print(f"requests          {len(asked) / passed:6.1f} a second     goal {JOBS / 100:.0f}")
    print(f"in any 10 s       {most_in(10, asked) / 10:6.1f} a second     goal {JOBS / 100:.0f}")
    print(f"in any second     {most_in(1, asked):6d}              goal {JOBS / 100:.0f}")
    print(f"CPU               {cpu / passed:6.1%} of a core")
    print(f"rounds            {rounds:6d}              {mean:.2f} s each, the longest {longest:.2f} s")


if __name__ == "__main__":
    main()
