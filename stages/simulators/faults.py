"""Trouble on demand: by flag for all that come, by header for one request.

    --fault 429=2*5             the first five requests are told to come back in 2 s
    --fault reset-after@create  each sale is made and its answer lost
    --fault stuck --fault lag=9 no film is ever done, and sales are listed 9 s late
    X-Sim-Fault: truncated      this answer breaks off in the middle

A fault is `NAME[=VALUE][*TIMES][@WHERE]`; several are separated by commas.
`WHERE` is `create` (any sale: a film, or work on one), `upload`, `check`, `list`,
`content`, `film` (where a link leads), `delete`, or an HTTP method. All
simulators have the flag, and heed the header.
"""

from __future__ import annotations

import argparse
import io
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

HEADER = "X-Sim-Fault"

REQUEST = {
    "latency": "the answer comes VALUE seconds later (3)",
    "429": "too many requests: come back in VALUE seconds (1)",
    "500": "the server is in trouble; VALUE is another status",
    "reset-before": "it hangs up before it does anything",
    "reset-after": "it does what was asked, and hangs up instead of answering",
    "truncated": "half of the answer's body comes",
}
"""What can go wrong with a request."""

SALE = {
    "moderated": "the request is refused by policy",
    "moderated-later": "the film is refused by policy when it is made",
    "fails": "filming fails",
    "stuck": "it stays at 99 %",
    "lost": "the job that was sold is not known afterwards",
    "lag": "it is listed VALUE seconds later than it should be (5)",
    "expired": "the film can no longer be fetched",
    "wrong-size": "the film has VALUE as its size (upright instead of wide)",
    "wrong-length": "the film is VALUE seconds long (one less than was asked)",
    "ignored-reference": "the film has nothing to do with the reference",
}
"""What can go wrong with a job: decided when it is sold; by a header on another request, or with another place, it
holds for that request alone."""

START = {"forgets": "what was sold before this start is forgotten (but stays in sales.jsonl)"}
"""What can go wrong with the server; by flag only."""

ABOUT = {**REQUEST, **SALE, **START}


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of trouble; `times` 0 is always, `where` empty everywhere."""

    name: str
    value: str = ""
    times: int = 0
    where: str = ""

    def number(self, usual: float) -> float:
        """The value as a number."""
        return float(self.value or usual)


Complain = Callable[[int, str, str, Mapping[str, str]], None]
"""Sends an error: its status, message, code, and headers."""


def parse(text: str) -> tuple[Fault, ...]:
    """Faults as they are written. Raises ValueError with what there is."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"([\w-]+)(?:=([\w.]+))?(?:\*(\d+))?(?:@(\w+))?", part)
        if not match or match[1] not in ABOUT:
            raise ValueError(f"no such fault: '{part}'; there are {', '.join(ABOUT)}")
        found.append(Fault(match[1], match[2] or "", int(match[3] or 0), (match[4] or "").lower()))
    return tuple(found)


class Faults:
    """The faults that a server was started with, and how often each has happened."""

    def __init__(self, always: Iterable[Fault] = ()) -> None:
        self.always = tuple(always)
        self._happened: dict[Fault, int] = {}
        self._lock = threading.Lock()

    def strike(
        self, kinds: Mapping[str, str], header: str = "", places: Iterable[str] = (), *, located: bool = False
    ) -> dict[str, Fault]:
        """Those of `kinds` that strike now, by name; each counts as having happened.

        `located` leaves out those without a place. Raises ValueError as `parse`.
        """
        here = set(places)
        struck = {fault.name: fault for fault in parse(header) if fault.name in kinds}
        with self._lock:
            for fault in self.always:
                fits = fault.name in kinds and (fault.where in here or (not fault.where and not located))
                if fits and (not fault.times or self._happened.get(fault, 0) < fault.times):
                    self._happened[fault] = self._happened.get(fault, 0) + 1
                    struck.setdefault(fault.name, fault)
        return struck


def serve(desk: BaseHTTPRequestHandler, faults: Faults, act: Callable[[], None], complain: Complain) -> None:
    """Let `desk` answer by `act`, with whatever goes wrong with this request."""
    try:
        struck = faults.strike(REQUEST, desk.headers.get(HEADER, ""), places(desk.command, desk.path))
        parse(desk.headers.get(HEADER, ""))
    except ValueError as error:
        _read_body(desk)
        return complain(400, str(error), "invalid_fault", {})
    if "latency" in struck:
        time.sleep(struck["latency"].number(3))
    if "429" in struck:
        _read_body(desk)
        wait = struck["429"].number(1)
        return complain(429, "Rate limit reached.", "rate_limit_exceeded", {"Retry-After": f"{wait:g}"})
    if "500" in struck:
        _read_body(desk)
        return complain(int(struck["500"].number(500)), "The server had an error.", "server_error", {})
    if "reset-before" in struck:
        _read_body(desk)
        return _hang_up(desk)
    if "reset-after" in struck or "truncated" in struck:
        return _half(desk, act, whole_body_lost="reset-after" in struck)
    return act()


def places(command: str, path: str) -> set[str]:
    """What kind of request it is: its method, and what it does."""
    path = path.partition("?")[0].rstrip("/")
    if command == "POST":
        return {"post", "upload" if path.endswith(("/uploads", "/storage")) else "create"}
    if command != "GET":
        return {command.lower(), "delete"}
    if path.endswith(("/content", ":download")):
        return {"get", "content"}
    if re.search(r"/films/[^/]+$|/film\.mp4$|/storage/[^/]+$", path):
        return {"get", "film"}
    return {"get", "list" if path.endswith(("/videos", "/generations")) else "check"}


def add_flag(parser: argparse.ArgumentParser) -> None:
    """The option that every simulator has."""
    help_ = f"trouble: NAME[=VALUE][*TIMES][@WHERE], NAME one of {', '.join(ABOUT)}; may be repeated"
    parser.add_argument("--fault", action="append", default=[], type=_flag, metavar="FAULT", help=help_)


def given(flags: Iterable[Iterable[Fault]]) -> Faults:
    """The faults that `--fault` named."""
    return Faults(fault for each in flags for fault in each)


def _flag(text: str) -> tuple[Fault, ...]:
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _half(desk: BaseHTTPRequestHandler, act: Callable[[], None], *, whole_body_lost: bool) -> None:
    """Let `act` answer into the void, or let half of the body through."""
    line, desk.wfile = desk.wfile, io.BytesIO()
    try:
        act()
        head, _, body = desk.wfile.getvalue().partition(b"\r\n\r\n")
    finally:
        desk.wfile = line
    if not whole_body_lost:
        line.write(head + b"\r\n\r\n" + body[: len(body) // 2])
        line.flush()
        desk.close_connection = True
    else:
        _hang_up(desk)


def _hang_up(desk: BaseHTTPRequestHandler) -> None:
    """End the connection with a reset."""
    desk.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    desk.close_connection = True


def _read_body(desk: BaseHTTPRequestHandler) -> None:
    """Take what is on its way, or the line breaks before the answer is read."""
    desk.rfile.read(int(desk.headers.get("Content-Length") or 0))
