"""A server that is told things: it keeps what came, and answers as a test wants."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="


@dataclass(slots=True)
class Receiver:
    """What came, as paths, ids and bodies, each verified; `answers` are the statuses of the next, then 204. 0 says
    nothing at all, until the receiver is closed."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    came: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    closed: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds: float = 60) -> None:
        """Until one more has come."""
        assert self.came.acquire(timeout=seconds), "nobody said anything"


@contextlib.contextmanager
def receiving(secret: str = SECRET) -> Iterator[Receiver]:
    """A receiver that lives as long as the block."""
    receiver = Receiver()

    class Desk(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.bodies.append(Webhook(secret).verify(body, dict(self.headers)))
            receiver.ids.append(self.headers["webhook-id"])
            receiver.came.release()
            status = receiver.answers.pop(0) if receiver.answers else 204
            if not status:
                receiver.closed.wait(60)
                return
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"{receiver.url}?again")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Desk) as server:
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook?token=t0ps3cret"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield receiver
        finally:
            receiver.closed.set()
            server.shutdown()
