"""Providers' calls over real HTTP: the right ones make the next look sooner, all others do nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from shop import WISH, Shop, buy
from standardwebhooks.webhooks import Webhook

from stages.errors import InputError
from stages.ledger import Ledger, open_ledger, purchases
from stages.webhooks import BODY_LIMIT, Listener, speakers

SECRET = "whsec_" + base64.b64encode(b"a secret of some length").decode()


@dataclass
class Publisher:
    """Stands for fal's key server; one may add keys."""

    url: str
    keys: list[Any] = field(default_factory=list)
    asked: int = 0


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    class Desk(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.asked += 1
            content = json.dumps({"keys": keys.keys}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Desk) as server:
        keys = Publisher(f"http://127.0.0.1:{server.server_address[1]}/jwks.json")
        with serving(server):
            yield keys


@contextmanager
def serving(server: HTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setattr("stages.stores.SYNCHRONOUS", "OFF")  # quicker
    ledger = open_ledger(tmp_path / "home")
    buy(ledger, Shop(now=time.time(), typical=5000.0), key="mine")
    return ledger


@pytest.fixture
def listener(ledger: Ledger, publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setenv("OPENAI_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("OPENROUTER_WEBHOOK_SECRET", "openrouter's")
    with Listener(ledger, calls=speakers(publisher.url)) as server, serving(server):
        yield server


def call(listener: Listener, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> int:
    """POST, and the status."""
    line = http.client.HTTPConnection("127.0.0.1", listener.server_address[1], timeout=20)
    try:
        line.request("POST", path, body, dict(headers or {}))
        return line.getresponse().status
    finally:
        line.close()


def is_hinted(ledger: Ledger) -> bool:
    (row,) = purchases(ledger, "mine")
    return row.next_look <= time.time() + 1


def forget(ledger: Ledger) -> None:
    """As if nobody had called."""
    with ledger.store.transaction() as database:
        database.change("UPDATE purchase SET next_look = :then", {"then": time.time() + 5000})


# ---------------------------------------------------------------- Standard Webhooks


DONE = b'{"id":"evt_1","object":"event","created_at":1,"type":"video.completed","data":{"id":"video_1"}}'


def standard(
    body: bytes = DONE, *, at: float | None = None, id_: str = "evt_1", secret: str = SECRET
) -> dict[str, str]:
    """What OpenAI sends along, by the specification."""
    stamp = str(int(time.time() if at is None else at))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.digest(key, f"{id_}.{stamp}.".encode() + body, "sha256")).decode()
    return {"webhook-id": id_, "webhook-timestamp": stamp, "webhook-signature": f"v1a,AAAA v1,{signature}"}


def test_a_signed_call_makes_the_next_look_sooner(listener: Listener, ledger: Ledger) -> None:
    assert not is_hinted(ledger)
    assert call(listener, "/openai", DONE, standard()) == 204
    assert is_hinted(ledger)
    assert purchases(ledger, "mine")[0].state == "ACCEPTED"  # the provider has the last word


def test_the_same_call_counts_once(listener: Listener, ledger: Ledger) -> None:
    headers = standard()
    call(listener, "/openai", DONE, headers)
    forget(ledger)
    assert call(listener, "/openai", DONE, headers) == 204
    assert call(listener, "/openai", DONE, standard(at=time.time() - 5)) == 204
    assert not is_hinted(ledger)
    assert call(listener, "/openai", DONE, standard(id_="evt_2")) == 204
    assert is_hinted(ledger)


def test_a_signature_by_openais_own_library_fits(listener: Listener, ledger: Ledger) -> None:
    from datetime import datetime, timezone  # noqa: PLC0415 -- the library wants one

    now = datetime.now(tz=timezone.utc)  # noqa: UP017 -- likewise
    signature = Webhook(SECRET).sign("evt_9", now, DONE.decode())
    headers = {"webhook-id": "evt_9", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
    assert call(listener, "/openai", DONE, headers) == 204
    assert is_hinted(ledger)


@pytest.mark.parametrize(
    "how",
    [
        {"secret": "whsec_" + base64.b64encode(b"another").decode()},
        {"body": DONE.replace(b"1", b"2")},
        {"late": 400},
        {"late": -400},
    ],
)
def test_what_is_signed_otherwise_does_nothing(listener: Listener, ledger: Ledger, how: dict[str, Any]) -> None:
    headers = standard(at=time.time() - how.pop("late", 0), **how)
    assert call(listener, "/openai", DONE, headers) == 401
    assert not is_hinted(ledger)


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "evt_2"},
        {"webhook-timestamp": "1e309"},
        {"webhook-timestamp": "nan"},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,!"},
        {"webhook-signature": "v1,"},
        {"webhook-signature": ""},
    ],
)
def test_what_is_not_signed_rightly_does_nothing(listener: Listener, ledger: Ledger, change: dict[str, str]) -> None:
    assert call(listener, "/openai", DONE) == 401
    assert call(listener, "/openai", DONE, standard() | change) == 401
    assert not is_hinted(ledger)


def test_without_a_secret_nothing_is_believed(
    listener: Listener, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_WEBHOOK_SECRET")
    assert call(listener, "/openai", DONE, standard()) == 503
    assert not is_hinted(ledger)


@pytest.mark.parametrize("body", [b"[]", b"nonsense", b"\xff", b"[" * 100_000, b'{"data": []}', b'{"data": {"id": 1}}'])
def test_signed_nonsense_does_nothing(listener: Listener, ledger: Ledger, body: bytes) -> None:
    assert call(listener, "/openai", body, standard(body)) in (204, 400, 401)
    assert not is_hinted(ledger)


# ---------------------------------------------------------------- fal


def fal(
    key: Ed25519PrivateKey, body: bytes, *, at: float | None = None, request: str = "video_1", user: str = "user"
) -> dict[str, str]:
    """What fal sends along."""
    stamp = str(int(time.time() if at is None else at))
    message = "\n".join([request, user, stamp, hashlib.sha256(body).hexdigest()]).encode()
    values = {"request-id": request, "user-id": user, "timestamp": stamp, "signature": key.sign(message).hex()}
    return {f"X-Fal-Webhook-{name}": value for name, value in values.items()}


def published(key: Ed25519PrivateKey) -> dict[str, str]:
    """Its public half, as a JWK."""
    public = base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).decode().rstrip("=")
    return {"kty": "OKP", "crv": "Ed25519", "x": public}


OK = b'{"request_id": "video_1", "gateway_request_id": "g", "status": "OK", "payload": {"video": {"url": "https://x"}}}'


def test_fal_is_believed_by_its_published_keys(listener: Listener, ledger: Ledger, publisher: Publisher) -> None:
    key, old = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    publisher.keys = [{"kty": "RSA", "n": "x"}, {"crv": "Ed25519", "x": "!"}, "no", published(old), published(key)]
    assert call(listener, "/fal", OK, fal(key, OK)) == 204
    assert is_hinted(ledger)
    forget(ledger)
    assert call(listener, "/fal", OK, fal(key, OK)) == 204
    assert not is_hinted(ledger)
    assert publisher.asked == 1


def test_fal_is_not_believed_otherwise(listener: Listener, ledger: Ledger, publisher: Publisher) -> None:
    key = Ed25519PrivateKey.generate()
    publisher.keys = [published(key)]
    right = fal(key, OK)
    for headers in (
        {},
        fal(Ed25519PrivateKey.generate(), OK),
        fal(key, OK + b" "),
        fal(key, OK, at=time.time() - 400),
        fal(key, OK, at=time.time() + 400),
        right | {"X-Fal-Webhook-User-Id": "another"},
        right | {"X-Fal-Webhook-Signature": "xyz"},
        right | {"X-Fal-Webhook-Signature": "00"},
        right | {"X-Fal-Webhook-Timestamp": "now"},
    ):
        assert call(listener, "/fal", OK, headers) == 401, headers
    other = OK.replace(b"video_1", b"video_2")
    assert call(listener, "/fal", other, fal(key, other)) == 400
    assert not is_hinted(ledger)
    assert publisher.asked <= 2


def test_new_keys_of_fal_are_fetched(
    listener: Listener, ledger: Ledger, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.webhooks.KEYS_AGAIN", 0.0)
    key = Ed25519PrivateKey.generate()
    assert call(listener, "/fal", OK, fal(key, OK)) == 401
    publisher.keys = [published(key)]
    assert call(listener, "/fal", OK, fal(key, OK)) == 204
    assert is_hinted(ledger)


def test_where_keys_cannot_be_fetched_fal_calls_again(ledger: Ledger) -> None:
    with Listener(ledger, calls=speakers("http://127.0.0.1:1/jwks.json")) as server, serving(server):
        assert call(server, "/fal", OK, fal(Ed25519PrivateKey.generate(), OK)) == 503


# ---------------------------------------------------------------- OpenRouter and Luma


ROUTED = b'{"type": "video.generation.completed", "data": {"id": "video_1", "status": "completed"}}'


def openrouter(body: bytes, at: float | None = None, secret: str = "openrouter's") -> dict[str, str]:
    """What OpenRouter sends along."""
    stamp = str(int(time.time() if at is None else at))
    signature = hmac.new(secret.encode(), f"{stamp},".encode() + body, "sha256").hexdigest()
    return {"X-OpenRouter-Signature": f"t={stamp},v1={signature}", "X-OpenRouter-Idempotency-Key": "once"}


def test_openrouter_is_believed_by_its_signature(listener: Listener, ledger: Ledger) -> None:
    assert call(listener, "/openrouter", ROUTED, openrouter(ROUTED)) == 204
    assert is_hinted(ledger)
    forget(ledger)
    assert call(listener, "/openrouter", ROUTED, openrouter(ROUTED)) == 204
    assert not is_hinted(ledger)


def test_openrouter_is_not_believed_otherwise(listener: Listener, ledger: Ledger) -> None:
    for headers in (
        {},
        openrouter(ROUTED, secret="another"),
        openrouter(ROUTED + b" "),
        openrouter(ROUTED, at=time.time() - 400),
        openrouter(ROUTED, at=time.time() + 400),
        {"X-OpenRouter-Signature": "t=,v1="},
        {"X-OpenRouter-Signature": "nonsense"},
    ):
        assert call(listener, "/openrouter", ROUTED, headers) == 401, headers
    assert not is_hinted(ledger)


def test_without_a_secret_openrouters_calls_are_like_anyones(
    listener: Listener, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENROUTER_WEBHOOK_SECRET")
    assert call(listener, "/openrouter", ROUTED) == 204
    assert is_hinted(ledger)


def test_what_is_not_signed_counts_once_for_each_state(listener: Listener, ledger: Ledger) -> None:
    hinted = 0
    for state in ("dreaming", "completed", "completed", "a", "b", "c", "dreaming"):
        body = json.dumps({"id": "video_1", "state": state, "assets": {"video": "https://evil"}}).encode()
        assert call(listener, "/luma", body) == 204
        hinted += is_hinted(ledger)
        forget(ledger)
    assert hinted == 3


# ---------------------------------------------------------------- the server


def test_a_huge_body_is_not_read(listener: Listener, ledger: Ledger) -> None:
    line = http.client.HTTPConnection("127.0.0.1", listener.server_address[1], timeout=20)
    line.putrequest("POST", "/luma")
    line.putheader("Content-Length", str(BODY_LIMIT + 1))
    line.endheaders()
    assert line.getresponse().status == 413
    line.close()


@pytest.mark.parametrize("length", ["-1", "1e3", "", "9" * 30])
def test_a_length_that_is_none_is_refused(listener: Listener, length: str) -> None:
    line = http.client.HTTPConnection("127.0.0.1", listener.server_address[1], timeout=20)
    line.putrequest("POST", "/luma")
    line.putheader("Content-Length", length)
    line.endheaders()
    assert line.getresponse().status in (411, 413)
    line.close()


def test_other_paths_and_methods_are_refused(listener: Listener) -> None:
    assert call(listener, "/", b"{}") == 404
    assert call(listener, "/openai/../luma", b"{}") == 404
    line = http.client.HTTPConnection("127.0.0.1", listener.server_address[1], timeout=20)
    line.request("GET", "/luma")
    assert line.getresponse().status == 405
    line.close()


def test_a_caller_that_hangs_up_harms_nobody(listener: Listener, ledger: Ledger) -> None:
    line = http.client.HTTPConnection("127.0.0.1", listener.server_address[1], timeout=20)
    line.putrequest("POST", "/luma")
    line.putheader("Content-Length", "100")
    line.endheaders(b'{"id":')
    line.close()
    assert call(listener, "/openai", DONE, standard()) == 204


def test_a_port_that_is_taken_is_said(listener: Listener, ledger: Ledger) -> None:
    with pytest.raises(InputError, match="cannot listen"):
        Listener(ledger, int(listener.server_address[1]))


def test_a_ledger_that_cannot_be_written_makes_them_call_again(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bool:
        raise InputError("the disk is full")

    monkeypatch.setattr("stages.webhooks.hint", full)
    assert call(listener, "/openai", DONE, standard()) == 503


def test_a_film_of_another_account_is_not_told_from_ours(ledger: Ledger) -> None:
    """Two jobs of one name in two accounts: both are looked at, which costs a request."""
    other = Shop(account="elsewhere", now=time.time(), typical=5000.0)
    buy(ledger, other, replace(WISH, prompt="another"), key="other")
    with Listener(ledger) as server, serving(server):
        assert call(server, "/luma", b'{"id": "video_1", "state": "completed"}') == 204
    assert all(row.next_look <= time.time() for row in purchases(ledger))
