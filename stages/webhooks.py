"""Where providers call when a film is ready: `pipeline webhooks`. What they say is a hint, and never believed.

A hint makes the next look at the job come at once; the look is what counts.
So a forged one costs a request, and a lost one a few seconds.

    /openai       Standard Webhooks, with the secret in OPENAI_WEBHOOK_SECRET
    /openrouter   signed, if OPENROUTER_WEBHOOK_SECRET is set
    /fal          ED25519, by the keys that fal publishes
    /luma         not signed

Each signed call is taken once, within five minutes of its signing. Of calls
that are not signed each job gets one for each thing that can happen to it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from stages.errors import AfterframeError, InputError, Later
from stages.http import Service, ask, checked
from stages.rows import Ledger
from stages.watching import hint

log = logging.getLogger(__name__)

BODY_LIMIT = 1024 * 1024
"""Bytes; fal sends the whole result along."""

TOLERANCE = 300.0
"""Seconds by which a signature's time may differ from ours."""

SILENCE = 10.0
"""Seconds for which a caller may say nothing."""

CALLERS = 64
"""How many are served at once; who comes when there are so many is sent away, and calls again."""

FAL_KEYS = "https://rest.fal.ai/.well-known/jwks.json"
KEYS_LAST, KEYS_AGAIN = 86_400.0, 60.0
"""Seconds for which published keys are kept, and after which a call that fits none has them fetched again."""

EVENTS = ("queued", "processing", "dreaming", "in_progress", "completed", "failed", "cancelled", "expired")


class NotBelieved(Exception):
    """A call that is not what it should be; `status` is the HTTP answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Call:
    """What somebody said: a name under which this call is known again, and the job that it is about."""

    id: str
    job_id: str


Headers = Mapping[str, str]
"""With names in lower case."""


# ---------------------------------------------------------------- who speaks


def openai(headers: Headers, body: bytes, now: float) -> Call:
    """Standard Webhooks: `{"type": "video.completed", "data": {"id"}}`."""
    secret = _secret("OPENAI_WEBHOOK_SECRET")
    try:
        Webhook(_decoded(secret)).verify(body, dict(headers), json_parse=False)
    except (WebhookVerificationError, ValueError, OverflowError):  # or what its library makes of nonsense
        raise NotBelieved(401, "the signature does not fit, or its time") from None
    said = _object(body)
    return Call(f"openai {headers['webhook-id']}", _word(said.get("data"), "id"))


def openrouter(headers: Headers, body: bytes, now: float) -> Call:
    """`{"type": "video.generation.completed", "data": {"id", "status"}}`; `t=SECONDS,v1=HEX` signs `SECONDS,BODY`."""
    said = _object(body)
    job_id, state = _word(said.get("data"), "id"), _word(said.get("data"), "status")
    if not os.environ.get("OPENROUTER_WEBHOOK_SECRET"):
        return _unsigned("openrouter", job_id, state)
    parts = dict(part.partition("=")[::2] for part in headers.get("x-openrouter-signature", "").split(","))
    signed = parts.get("t", "").encode() + b"," + body
    wanted = hmac.new(_secret("OPENROUTER_WEBHOOK_SECRET").encode(), signed, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(wanted.encode(), parts.get("v1", "").encode()):
        raise NotBelieved(401, "the signature does not fit")
    _in_time(parts["t"], now)
    return Call(f"openrouter {headers.get('x-openrouter-idempotency-key') or f'{job_id} {state}'}", job_id)


def luma(headers: Headers, body: bytes, now: float) -> Call:
    """The whole generation: `{"id", "state"}`. Luma documents no signature."""
    said = _object(body)
    return _unsigned("luma", _word(said, "id"), _word(said, "state"))


@dataclass(slots=True)
class Fal:
    """`{"request_id", "status"}`; one of the keys at `address` signs request, user, time and the body's hash."""

    address: str = FAL_KEYS
    keys: list[bytes] = field(default_factory=list)
    fetched: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, headers: Headers, body: bytes, now: float) -> Call:
        """Verify, and read."""
        names = ("request-id", "user-id", "timestamp")
        values = [headers.get(f"x-fal-webhook-{name}", "") for name in names]
        try:
            signature = bytes.fromhex(headers.get("x-fal-webhook-signature", ""))
        except ValueError:
            raise NotBelieved(401, "the signature is not hexadecimal") from None
        if len(signature) != 64 or not all(values):
            raise NotBelieved(401, "there is no signature")
        _in_time(values[2], now)
        message = "\n".join([*values, hashlib.sha256(body).hexdigest()]).encode()
        if not any(_fits(key, signature, message) for key in self._known(KEYS_LAST)) and not any(
            _fits(key, signature, message) for key in self._known(KEYS_AGAIN)
        ):
            raise NotBelieved(401, "the signature does not fit")
        said = _object(body)
        job_id = _word(said, "request_id")
        if job_id != values[0]:
            raise NotBelieved(400, "the body is about another request")
        return Call(f"fal {job_id} {_word(said, 'status')}", job_id)

    def _known(self, at_most: float) -> list[bytes]:
        """The published keys, fetched again if they are older than `at_most` seconds."""
        with self.lock:
            if time.monotonic() - self.fetched > at_most:
                try:
                    found = checked(service := Service("fal", self.address), ask(service, "GET", self.address)).data()
                except (AfterframeError, Later) as error:
                    raise NotBelieved(503, f"fal's keys cannot be fetched: {error}") from None
                self.keys = [key for each in found.get("keys") or [] if (key := _public_key(each))]
                self.fetched = time.monotonic()
            return self.keys


Speaker = Callable[[Headers, bytes, float], Call]


def speakers(fal_keys: str = FAL_KEYS) -> dict[str, Speaker]:
    """Who calls under which path."""
    return {"/openai": openai, "/openrouter": openrouter, "/luma": luma, "/fal": Fal(fal_keys)}


# ---------------------------------------------------------------- what is said


def _secret(variable: str) -> str:
    secret = os.environ.get(variable, "").strip()
    if not secret:
        raise NotBelieved(503, f"{variable} is not set")
    return secret


def _decoded(secret: str) -> bytes:
    """A secret that is no base64 is taken as it is, as OpenAI's own client does."""
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        return secret.encode()


def _in_time(said: str, now: float) -> None:
    if not re.fullmatch(r"\d{1,12}", said) or abs(now - int(said)) > TOLERANCE:
        raise NotBelieved(401, "the time does not fit")


def _fits(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _public_key(jwk: object) -> bytes:
    """The 32 bytes of an ED25519 key in a key set; empty if it is another one."""
    text = jwk.get("x") if isinstance(jwk, dict) and jwk.get("crv") == "Ed25519" else None
    try:
        key = base64.urlsafe_b64decode(f"{text}==") if isinstance(text, str) else b""
    except ValueError:
        return b""
    return key if len(key) == 32 else b""


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise NotBelieved(400, "the body should be a JSON object")
    return said


def _word(said: object, name: str) -> str:
    """A short text in an object; empty if there is none."""
    word = said.get(name) if isinstance(said, dict) else None
    return word if isinstance(word, str) and re.fullmatch(r"[\x21-\x7e]{1,200}", word) else ""


def _unsigned(who: str, job_id: str, state: str) -> Call:
    """Anyone may say it, so it counts once for each state that there is."""
    return Call(f"{who} {job_id} {state if state in EVENTS else 'other'}", job_id)


def signatures(keys: Sequence[bytes], id: str, body: str) -> dict[str, str]:
    """The headers with which we sign what we tell others, now, with each of `keys`."""
    now = datetime.now(UTC)
    signed = " ".join(Webhook(key).sign(id, now, body) for key in keys)
    return {"webhook-id": id, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signed}


# ---------------------------------------------------------------- the server


class Desk(BaseHTTPRequestHandler):
    """One call."""

    protocol_version = "HTTP/1.1"
    timeout = SILENCE
    server: Listener

    def do_POST(self) -> None:
        """Believe it or not; the answer does not tell whether we know the job."""
        self.close_connection = True  # nobody calls twice in a row
        try:
            call = self._call()
            taken = bool(call.job_id) and hint(self.server.ledger, call.job_id, call.id)
            log.info("%s: %s", "taken" if taken else "known already, or about nothing", call)
            self._send(204)
        except NotBelieved as error:
            log.warning("a call to %s was not believed: %s", self.path[:40], error)
            self._send(error.status)
        except AfterframeError as error:  # the ledger cannot be written now: let them call again
            log.error("%s", error)
            self._send(503)
        except (ConnectionError, TimeoutError):
            pass

    def do_GET(self) -> None:
        """Say to whoever watches over servers that this one is there."""
        self._send(200 if self.path == "/" else 405)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing twice."""

    def _call(self) -> Call:
        speaker = self.server.speakers.get(self.path.partition("?")[0].rstrip("/"))
        if speaker is None:
            raise NotBelieved(404, "nobody is expected there")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,18}", length):
            raise NotBelieved(411, "its length is not said")
        if int(length) > BODY_LIMIT:
            raise NotBelieved(413, f"it has {length} bytes")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ConnectionError
        headers = {name.lower(): value for name, value in self.headers.items()}
        return speaker(headers, body, self.server.ledger.clock())

    def _send(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()


class Listener(ThreadingHTTPServer):
    """The server: `Listener(ledger, port).serve_forever()`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, ledger: Ledger, port: int = 0, host: str = "127.0.0.1", calls: Mapping[str, Speaker] | None = None
    ) -> None:
        try:
            super().__init__((host, port), Desk)
        except OSError as error:
            raise InputError(f"cannot listen at {host}:{port}: {error.strerror}") from None
        self.ledger = ledger
        self.speakers = calls or speakers()
        self._free = threading.BoundedSemaphore(CALLERS)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve in a thread, if one is free."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve, and make room."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A line that broke is the caller's affair."""
        log.debug("a call ended badly", exc_info=True)
