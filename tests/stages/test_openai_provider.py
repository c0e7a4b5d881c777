"""Our client of the Videos protocol, over real HTTP, against a host that answers what the test says."""

from __future__ import annotations

import contextlib
import email.utils
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from stages.clip import Size
from stages.errors import InputError, Later, ProviderError, ProviderRefused, ProviderUnavailable
from stages.http import NOT_SENT, Service, ask, checked, download, refusal, translated
from stages.http import Answer as HttpAnswer
from stages.providers import VideoRequest
from stages.providers.dialects import VLLM_OMNI
from stages.providers.openai import OpenAI, decoded, openai, sim

KEY = "sk-proj-very-secret"
VIDEO = {
    "id": "video_1",
    "object": "video",
    "model": "sora-2",
    "status": "queued",
    "progress": 0,
    "created_at": 1760627796,
    "prompt": "a rose",
    "seconds": "8",
    "size": "1280x720",
    "quality": "standard",
}


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What the host sends; `promised` bytes in Content-Length where it hangs up early."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    promised: int | None = None


Script = Callable[[Asked], Answer]


class Host(ThreadingHTTPServer):
    """A server that does what `script` says and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Desk)
        self.script: Script = lambda asked: said(VIDEO)
        self.asked: list[Asked] = []
        self.dawdles = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Desk(BaseHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        body = b""
        while missing := int(self.headers.get("Content-Length") or 0) - len(body):
            time.sleep(self.server.dawdles)
            block = self.rfile.read(min(missing, 1_000_000))
            if not block:
                return
            body += block
        asked = Asked(self.command, self.path, dict(self.headers), body)
        self.server.asked.append(asked)
        answer = self.server.script(asked)
        if answer.status:
            self.send_response(answer.status)
            promised = len(answer.body) if answer.promised is None else answer.promised
            for name, value in {"Content-Length": str(promised), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

    do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


def said(data: object, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(data).encode(), {name.replace("_", "-"): text for name, text in headers.items()})


@contextlib.contextmanager
def opened() -> Iterator[Host]:
    with Host() as host:
        thread = threading.Thread(target=host.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield host
        host.shutdown()
        thread.join(10)


@pytest.fixture
def host() -> Iterator[Host]:
    with opened() as host:
        yield host


@pytest.fixture
def provider(host: Host, monkeypatch: pytest.MonkeyPatch) -> OpenAI:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return OpenAI(host.url)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8 not much of a photo \r\n--\r\n")
    return path


# ---------------------------------------------------------------- on the wire


def test_a_request_goes_out_as_the_protocol_has_it(provider: OpenAI, host: Host, photo: Path) -> None:
    job = provider.submit(VideoRequest("a rose", "sora-2", Size(1280, 720), 8, photo), "key-1")
    assert (job.id, job.state, job.seconds, job.size) == ("video_1", "queued", 8, Size(1280, 720))
    (asked,) = host.asked
    assert (asked.method, asked.path) == ("POST", "/v1/videos")
    assert asked.headers["Idempotency-Key"] == "key-1"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert b'name="seconds"\r\n\r\n8\r\n' in asked.body
    assert b'name="size"\r\n\r\n1280x720\r\n' in asked.body
    assert b'name="input_reference"; filename="photo.jpg"\r\nContent-Type: image/jpeg' in asked.body
    assert photo.read_bytes() in asked.body
    assert b"seed" not in asked.body


def test_without_a_reference_it_is_multipart_all_the_same(provider: OpenAI, host: Host) -> None:
    options = (("loop", "true"), ("model", "never mind"))
    seeded = replace(provider, dialect=VLLM_OMNI)
    seeded.submit(VideoRequest("a rose", "sora-2", Size(1280, 720), 4, seed=7, options=options), "key-2")
    (asked,) = host.asked
    assert asked.headers["Content-Type"].startswith("multipart/form-data")
    assert b'name="seed"\r\n\r\n7' in asked.body
    assert b'name="loop"\r\n\r\ntrue' in asked.body
    assert b"never mind" not in asked.body


def test_a_list_is_read_back_to_a_time(provider: OpenAI, host: Host) -> None:
    jobs = [{**VIDEO, "id": f"video_{number}", "created_at": 1000 - number} for number in range(10)]

    def pages(asked: Asked) -> Answer:
        query = httpx.URL(asked.path).params
        start = 1 + next((n for n, job in enumerate(jobs) if job["id"] == query.get("after")), -1)
        return said({"object": "list", "data": jobs[start : start + 3], "has_more": start + 3 < len(jobs)})

    host.script = pages
    assert [job.id for job in provider.find(995)] == [f"video_{number}" for number in range(6)]
    assert len(host.asked) == 3
    assert "order=desc" in host.asked[0].path
    assert len(provider.find(0)) == 10
    host.script = lambda asked: said({"data": jobs[:3], "has_more": True})  # a server without a cursor
    with pytest.raises(ProviderUnavailable, match="does not end"):
        provider.find(0)
    host.script = lambda asked: said({"object": "error"})
    with pytest.raises(ProviderUnavailable, match="no list"):  # not «nothing was bought»
        provider.find(0)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert openai().account == "api.openai.com"
    with pytest.raises(ProviderRefused, match="set OPENAI_API_KEY") as refused:
        openai().check("video_1")
    assert refused.value.failure == "unauthorized"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://gpu:8000/v1")
    assert openai().account == "gpu:8000"
    monkeypatch.setenv("AFTERFRAME_SIM_URL", "http://127.0.0.1:1/v1")
    assert (sim().account, sim().poll) == ("sim", 0.25)


# ---------------------------------------------------------------- loose decoding


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("queued", "queued"),
        ("in_progress", "running"),
        ("generating", "running"),
        ("a word from the future", "running"),
        (None, "running"),
        ("completed", "done"),
        ("Succeeded", "done"),
        ("failed", "failed"),
        ("refused", "failed"),
        ("deleted", "gone"),
    ],
)
def test_status_words(word: str | None, state: str) -> None:
    assert decoded({"id": "1", "status": word}).state == state


def test_fields_may_be_missing_or_strange() -> None:
    job = decoded({"status": "in_progress", "new": [1]}, "video_9")
    assert (job.id, job.progress, job.created_at, job.seconds, job.size, job.prompt) == (
        "video_9",
        None,
        None,
        0,
        None,
        "",
    )
    job = decoded({"id": 7, "progress": 0.25, "seconds": 8.0, "size": "auto", "created": "1760627796", "error": None})
    assert (job.id, job.progress, job.seconds, job.size, job.created_at) == ("7", 0.25, 8, None, 1760627796)
    assert decoded({"progress": 50}).progress == 0.5
    assert decoded({"progress": "NaN", "seconds": "soon"}).progress is None


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ({"code": "moderation_blocked", "message": "blocked"}, "moderation_output"),
        ({"message": "This content may violate our content policy"}, "moderation_output"),
        ({"code": "server_error", "message": "GPU"}, "transient"),
        ("plain text", "transient"),
        (None, "transient"),
        ({"code": "invalid_image", "message": "unreadable"}, "invalid_request"),
    ],
)
def test_a_failed_job_says_whose_fault_it_was(error: object, failure: str) -> None:
    assert decoded({**VIDEO, "status": "failed", "error": error}).failure == failure


def test_a_failed_job_may_come_as_an_http_error(provider: OpenAI, host: Host) -> None:
    body = {**VIDEO, "status": "failed", "error": {"code": 422, "message": "out of memory"}}
    host.script = lambda asked: said(body, 422)
    job = provider.check("video_1")
    assert (job.state, job.text) == ("failed", "out of memory")
    host.script = lambda asked: said({"error": {"message": "no such video"}}, 404)
    assert provider.check("video_1").state == "gone"
    host.script = lambda asked: said({"detail": "overloaded"}, 503)
    with pytest.raises(ProviderUnavailable, match=r"503.*overloaded"):
        provider.check("video_1")


# ---------------------------------------------------------------- what went wrong


@pytest.mark.parametrize(
    ("status", "body", "kind", "failure"),
    [
        (400, {"error": {"code": "moderation_blocked", "message": "no"}}, ProviderRefused, "moderation_input"),
        (400, {"error": {"message": "Inpaint image must match"}}, ProviderRefused, "invalid_request"),
        (401, {"error": {"message": f"Incorrect API key: {KEY}"}}, ProviderRefused, "unauthorized"),
        (403, {"error": "organization must be verified"}, ProviderRefused, "unauthorized"),
        (404, {"detail": "Not Found"}, ProviderRefused, "invalid_request"),
        (422, {"detail": [{"msg": "seconds: too long"}]}, ProviderRefused, "invalid_request"),
        (429, {"error": {"code": "insufficient_quota", "message": "pay"}}, ProviderRefused, "quota"),
        (307, {}, ProviderRefused, "invalid_request"),
        (408, {}, ProviderUnavailable, "transient"),
        (409, {}, ProviderUnavailable, "transient"),
        (500, {"error": {"message": "oops"}}, ProviderUnavailable, "transient"),
        (529, {}, ProviderUnavailable, "transient"),
    ],
)
def test_statuses(
    provider: OpenAI, host: Host, status: int, body: object, kind: type[ProviderError], failure: str
) -> None:
    host.script = lambda asked: said(body, status)
    with pytest.raises(ProviderError) as raised:
        provider.submit(VideoRequest("a rose", "sora-2", Size(1280, 720), 8), "key")
    assert (type(raised.value), raised.value.failure, len(host.asked)) == (kind, failure, 1)
    assert KEY not in f"{raised.value} {raised.value.text}"
    if failure == "unauthorized":
        assert "OPENAI_API_KEY" in str(raised.value)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7),
        ({"retry_after_ms": "1500", "retry_after": "7"}, 1.5),
        ({"retry_after": "9999999"}, 3600),
        ({"retry_after": "nan"}, 20),
        ({"retry_after": "soon"}, 20),
        ({}, 20),
    ],
)
def test_a_limit_says_when(provider: OpenAI, host: Host, headers: dict[str, str], seconds: float) -> None:
    host.script = lambda asked: said({"error": {"code": "rate_limit_exceeded"}}, 429, **headers)
    with pytest.raises(Later) as later:
        provider.check("video_1")
    assert later.value.seconds == seconds


def test_a_limit_may_say_a_date(provider: OpenAI, host: Host) -> None:
    date = email.utils.formatdate(time.time() + 90, usegmt=True)
    host.script = lambda asked: said({}, 429, retry_after=date)
    with pytest.raises(Later) as later:
        provider.check("video_1")
    assert 80 < later.value.seconds <= 90


def test_every_exception_of_httpx_becomes_ours() -> None:
    kinds = {kind for kind in vars(httpx).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert len(kinds) > 20
    request = httpx.Request("GET", "http://host")
    for kind in kinds:
        error = kind.__new__(kind)
        Exception.__init__(error, f"quotes {KEY}" if kind is httpx.LocalProtocolError else "why")
        error.__dict__["_request"] = request
        with pytest.raises((ProviderUnavailable, InputError)) as raised, translated("openai"):
            raise error
        assert KEY not in str(raised.value)


@pytest.mark.parametrize("url", ["gpu:8000/v1", "ftp://host/v1", "http://[::1/v1", "not a url"])
def test_an_address_that_cannot_work(url: str) -> None:
    with pytest.raises(InputError, match="should be a URL"):
        ask(Service("openai", url), "GET", "videos")


@pytest.mark.parametrize("key", ["two words", "sch\u00fcssel", "a\nb"])
def test_a_key_that_cannot_be_one_is_not_printed(monkeypatch: pytest.MonkeyPatch, host: Host, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(InputError) as raised:
        OpenAI(host.url).check("video_1")
    assert key not in str(raised.value)
    assert not host.asked


def test_nobody_there_means_nothing_sent(provider: OpenAI) -> None:
    with Host() as closed:
        url = closed.url
    with pytest.raises(ProviderUnavailable, match="cannot reach") as raised:
        OpenAI(url).submit(VideoRequest("a rose", "sora-2", Size(1280, 720), 8), "key")
    assert raised.value.code == NOT_SENT


def test_a_server_that_hangs_up_or_is_silent_leaves_the_outcome_open(host: Host) -> None:
    host.script = lambda asked: Answer(status=0)
    with pytest.raises(ProviderUnavailable, match="broke") as raised:
        ask(Service("sim", host.url), "POST", "videos", form={"prompt": "a rose"})
    assert raised.value.code != NOT_SENT
    done = threading.Event()
    host.script = lambda asked: Answer(status=0 * done.wait(5))
    with pytest.raises(ProviderUnavailable, match="in time"):
        ask(Service("sim", host.url, patience=0.2), "POST", "videos", form={"prompt": "a rose"})
    done.set()


def test_a_request_that_starts_late_does_not_start(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = socket.getaddrinfo

    def slowly(*args: Any, **options: Any) -> Any:
        time.sleep(0.3)
        return look_up(*args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    with pytest.raises(ProviderUnavailable, match="nothing was sent") as raised:
        ask(Service("sim", host.url, send_within=0.2), "POST", "videos", form={"prompt": "a rose"})
    assert raised.value.code == NOT_SENT
    assert not host.asked


def test_an_upload_that_takes_too_long_is_stopped(host: Host, tmp_path: Path) -> None:
    """Though the line is never silent for long: it could land when all others believe it lost."""
    photo = tmp_path / "large.png"
    photo.write_bytes(bytes(24_000_000))
    host.dawdles = 0.1
    with pytest.raises(ProviderUnavailable, match="upload took too long") as raised:
        ask(Service("sim", host.url, send_within=0.5), "POST", "videos", file=("photo", photo, "image/png"))
    assert raised.value.code != NOT_SENT


def test_a_reference_that_is_not_there_is_named(provider: OpenAI, host: Host, tmp_path: Path) -> None:
    request = VideoRequest("a rose", "sora-2", Size(1280, 720), 8, tmp_path / "gone.png")
    with pytest.raises(InputError, match=r"gone\.png"):
        provider.submit(request, "key")
    assert not host.asked


# ---------------------------------------------------------------- downloads

FILM = bytes(range(256)) * 4096


def content(asked: Asked, *, breaks_after: int | None = None, ranges: bool = True) -> Answer:
    """The film, from where the Range begins, broken off after some bytes."""
    start = int(asked.headers.get("Range", "bytes=0-")[6:-1]) if ranges else 0
    rest = FILM[start:]
    headers = {"ETag": '"1"', **({"Content-Range": f"bytes {start}-"} if start else {})}
    return Answer(206 if start else 200, rest[:breaks_after], headers, promised=len(rest))


def test_a_broken_download_goes_on_where_it_broke(provider: OpenAI, host: Host, tmp_path: Path) -> None:
    host.script = lambda asked: content(asked, breaks_after=400_000)
    provider.download("video_1", tmp_path / "film.part")
    assert (tmp_path / "film.part").read_bytes() == FILM
    assert [asked.headers.get("Range") for asked in host.asked] == [None, "bytes=400000-", "bytes=800000-"]
    assert host.asked[1].headers["If-Range"] == '"1"'
    assert host.asked[0].path == "/v1/videos/video_1/content"


def test_a_server_without_ranges_starts_over(provider: OpenAI, host: Host, tmp_path: Path) -> None:
    breaks = iter([100_000, None])
    host.script = lambda asked: content(asked, breaks_after=next(breaks), ranges=False)
    provider.download("video_1", tmp_path / "film.part")
    assert (tmp_path / "film.part").read_bytes() == FILM


def test_a_line_that_always_breaks_is_given_up(provider: OpenAI, host: Host, tmp_path: Path) -> None:
    host.script = lambda asked: content(asked, breaks_after=0)
    with pytest.raises(ProviderUnavailable, match="broke"):
        provider.download("video_1", tmp_path / "film.part")
    assert len(host.asked) == 6


def test_a_file_that_is_gone_or_too_long(provider: OpenAI, host: Host, tmp_path: Path) -> None:
    host.script = content
    with pytest.raises(InputError, match=r"0\.5 MB"):
        download(provider.service, "videos/video_1/content", tmp_path / "film.part", limit=500_000)
    assert (tmp_path / "film.part").stat().st_size <= 500_000
    host.script = lambda asked: said({"error": {"message": "expired"}}, 404)
    with pytest.raises(ProviderRefused) as refused:
        provider.download("video_1", tmp_path / "film.part")
    assert refused.value.failure == "expired"


def test_the_key_does_not_follow_to_another_host(provider: OpenAI, host: Host, tmp_path: Path) -> None:
    with opened() as storage:
        storage.script = content
        host.script = lambda asked: Answer(302, headers={"Location": f"{storage.url}/film?signature=1"})
        provider.download("video_1", tmp_path / "film.part")
        assert (tmp_path / "film.part").read_bytes() == FILM
        assert host.asked[0].headers["Authorization"] == f"Bearer {KEY}"
        assert "Authorization" not in storage.asked[0].headers


def test_a_purchase_does_not_follow_anywhere(provider: OpenAI, host: Host) -> None:
    host.script = lambda asked: Answer(307, headers={"Location": f"{host.url}/elsewhere"})
    with pytest.raises(ProviderRefused):
        provider.submit(VideoRequest("a rose", "sora-2", Size(1280, 720), 8), "key")
    assert len(host.asked) == 1


def test_success_is_passed_on_and_anything_else_is_not() -> None:
    service = Service("sim", "http://127.0.0.1:1/v1")
    answer = HttpAnswer(202, {}, b"[]")
    assert checked(service, answer) is answer
    assert answer.data() == {}
    assert "a page of HTML" in str(refusal(service, HttpAnswer(400, {}, b"a page of HTML")))
