"""Veo by the Gemini API: on the wire against a scripted host, and through its simulator."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest
from test_openai_provider import Answer, Asked, Host, opened, said

from stages.clip import Size
from stages.errors import (
    InputError,
    Later,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    SubmissionUnknown,
)
from stages.ledger import Ledger, collect, open_ledger, purchases, submit_once
from stages.providers import Provider, VideoJob, VideoRequest
from stages.providers.veo import Veo, decoded
from stages.simulators.counter import Counter, Shop, pixels
from stages.simulators.desk import Server
from stages.simulators.faults import Faults, parse
from stages.simulators.studio import Studio
from stages.simulators.veo import VeoCounter, ordered

KEY = "AIza-very-secret"
MODEL = "veo-3.1-fast-generate-preview"
NAME = f"models/{MODEL}/operations/abc123"
WISH = VideoRequest("a rose opens", MODEL, Size(1280, 720), 4)
FILM = {"done": True, "response": {"generateVideoResponse": {"generatedSamples": [{"video": {"uri": "URI"}}]}}}
FILTERED = {"done": True, "response": {"generateVideoResponse": {"raiMediaFilteredCount": 1}}}
PNG = b"\x89PNG not much of a photo"


@contextlib.contextmanager
def open_shop(folder: Path, counter: type[Counter], path: str = "", latency: float = 0.0) -> Iterator[Shop]:
    """A simulator in this process, which hands out plain films at once."""
    studio = Studio(folder, latency=latency, settle=0.0, keys=False, films=False)
    with running(Shop(0, studio, counter, path)) as shop:
        yield shop


Opened = TypeVar("Opened", bound=Server)


@contextlib.contextmanager
def running(shop: Opened) -> Iterator[Opened]:
    """`shop`, open until the block ends."""
    with shop:
        thread = threading.Thread(target=shop.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield shop
        shop.shutdown()
        thread.join(10)
    shop.studio.close()


def settled(provider: Provider, job_id: str) -> VideoJob:
    """The job once it is no longer under way."""
    for _ in range(400):
        job = provider.check(job_id)
        if job.state not in ("queued", "running"):
            return job
        time.sleep(0.02)
    raise AssertionError("never done")


def bought(ledger: Ledger, provider: Provider, request: VideoRequest) -> Path:
    """Buy and fetch as a job's caller does: come back when told to."""
    submit_once(ledger, provider, request, "key", price=Decimal("0.40"))
    for _ in range(400):
        try:
            return collect(ledger, provider, "key")
        except Later as later:
            time.sleep(min(later.seconds, 0.1))
    raise AssertionError("never done")


def sales(shop: Shop) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (shop.studio.folder / "sales.jsonl").read_text().splitlines()]


@pytest.fixture
def host() -> Iterator[Host]:
    with opened() as host:
        yield host


@pytest.fixture
def provider(host: Host, monkeypatch: pytest.MonkeyPatch) -> Veo:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    return Veo(host.url)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    with open_shop(tmp_path / "veo", VeoCounter, "/v1beta") as shop:
        yield shop


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(PNG)
    return path


# ---------------------------------------------------------------- on the wire


def test_a_request_goes_out_as_the_sdk_sends_it(provider: Veo, host: Host, photo: Path) -> None:
    host.script = lambda asked: said({"name": NAME})
    options = (("personGeneration", "allow_adult"),)
    request = replace(WISH, seconds=8, reference=photo, last_frame=photo, negative="rain", options=options)
    job = provider.submit(request, "key-1")
    assert (job.id, job.state, job.model) == (NAME, "queued", MODEL)
    (asked,) = host.asked
    assert (asked.method, asked.path) == ("POST", f"/v1/models/{MODEL}:predictLongRunning")
    assert asked.headers["x-goog-api-key"] == KEY
    assert "Authorization" not in asked.headers
    picture = {"bytesBase64Encoded": base64.b64encode(PNG).decode(), "mimeType": "image/png"}
    assert json.loads(asked.body) == {
        "instances": [{"prompt": "a rose opens", "image": picture, "lastFrame": picture}],
        "parameters": {
            "aspectRatio": "16:9",
            "resolution": "720p",
            "durationSeconds": 8,
            "negativePrompt": "rain",
            "personGeneration": "allow_adult",
        },
    }


@pytest.mark.parametrize(
    ("size", "ratio", "resolution"),
    [("720x1280", "9:16", "720p"), ("1920x1080", "16:9", "1080p"), ("2160x3840", "9:16", "4k")],
)
def test_sizes_are_shapes_and_resolutions(provider: Veo, host: Host, size: str, ratio: str, resolution: str) -> None:
    host.script = lambda asked: said({"name": NAME})
    provider.submit(replace(WISH, size=Size.parse(size), seconds=8), "key")
    parameters = json.loads(host.asked[0].body)["parameters"]
    assert (parameters["aspectRatio"], parameters["resolution"]) == (ratio, resolution)
    assert pixels(ratio, resolution) == Size.parse(size)


@pytest.mark.parametrize(
    ("changed", "parameter"),
    [
        ({"audio": False}, "audio"),
        ({"seed": 7}, "seed"),
        ({"loop": True}, "loop"),
        ({"last_frame": Path("photo.png"), "seconds": 8}, "last_frame"),
        ({"options": (("fps", "24"),)}, "options"),
        ({"size": Size(720, 720)}, "frame"),
        ({"size": Size(640, 360)}, "frame"),
        ({"size": Size(3840, 2160), "seconds": 8, "model": "veo-3.1-lite-generate-preview"}, "frame"),
        ({"seconds": 5}, "length"),
        ({"size": Size(1920, 1080)}, "length"),
        ({"reference": Path("photo.png"), "last_frame": Path("photo.png")}, "length"),
        ({"model": "../../evil"}, "model"),
    ],
)
def test_what_cannot_be_said_is_refused_before_anything_is_sent(
    provider: Veo, host: Host, changed: Mapping[str, Any], parameter: str
) -> None:
    with pytest.raises(InputError) as raised:
        provider.submit(replace(WISH, **changed), "key")
    assert raised.value.parameter == parameter
    assert not host.asked


@pytest.mark.parametrize("name", ["", "https://evil/models/x/operations/y", "models/x/operations/../../files"])
def test_an_answer_without_an_operation_leaves_the_outcome_open(provider: Veo, host: Host, name: str) -> None:
    host.script = lambda asked: said({"name": name})
    with pytest.raises(ProviderUnavailable) as raised:
        provider.submit(WISH, "key")
    assert raised.value.code == "no_id"
    host.asked.clear()
    with pytest.raises(InputError, match="no operation"):
        provider.check(name)
    assert not host.asked


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEMINI_BASE_URL", raising=False)
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    assert (Veo().account, Veo(typical=90).typical) == ("generativelanguage.googleapis.com", 90)
    with pytest.raises(ProviderRefused, match="set GEMINI_API_KEY"):
        Veo().check(NAME)
    monkeypatch.setenv("GEMINI_BASE_URL", "http://proxy:8000/v1beta")
    assert Veo().account == "proxy:8000"
    assert not Veo().can_list
    with pytest.raises(InputError, match="no list"):
        Veo().find(0.0)


# ---------------------------------------------------------------- what is answered


@pytest.mark.parametrize(
    ("operation", "state", "failure"),
    [
        ({}, "running", ""),
        ({"metadata": {"a word": "from the future"}}, "running", ""),
        (FILM, "done", ""),
        (FILTERED, "failed", "moderation_output"),
        ({"done": True, "response": {}}, "failed", "transient"),
        ({"done": True, "error": {"code": 13, "message": "internal"}}, "failed", "transient"),
        ({"done": True, "error": {"code": 8, "message": "exhausted"}}, "failed", "quota"),
        ({"done": True, "error": {"code": 3, "message": "bad image"}}, "failed", "invalid_request"),
        (
            {"done": True, "error": {"code": 3, "message": "The prompt contains sensitive words"}},
            "failed",
            "moderation_input",
        ),
        (
            {"done": True, "error": {"code": 3, "message": "The video violates our usage guidelines"}},
            "failed",
            "moderation_output",
        ),
        ({"done": True, "error": {"message": None}}, "failed", "transient"),
    ],
)
def test_operations(operation: Mapping[str, Any], state: str, failure: str) -> None:
    job = decoded(operation, NAME)
    assert (job.id, job.state, job.failure, job.model) == (NAME, state, failure, MODEL)


def error(code: int, word: str, text: str, **details: object) -> dict[str, Any]:
    return {"error": {"code": code, "status": word, "message": text, "details": [details]}}


@pytest.mark.parametrize(
    ("status", "body", "kind", "failure", "code"),
    [
        (400, error(400, "INVALID_ARGUMENT", "bad seconds"), ProviderRefused, "invalid_request", "INVALID_ARGUMENT"),
        (
            400,
            error(400, "INVALID_ARGUMENT", "violates Google's Responsible AI practices"),
            ProviderRefused,
            "moderation_input",
            "INVALID_ARGUMENT",
        ),
        (400, error(400, "INVALID_ARGUMENT", "bad key", reason="API_KEY_INVALID"), ProviderRefused, "unauthorized", ""),
        (403, error(403, "PERMISSION_DENIED", f"{KEY} may not"), ProviderRefused, "unauthorized", "403"),
        (404, error(404, "NOT_FOUND", "model is no longer available"), ProviderRefused, "invalid_request", "NOT_FOUND"),
        (
            429,
            error(429, "RESOURCE_EXHAUSTED", "quota", quotaId="RequestsPerDayPerProject"),
            ProviderRefused,
            "quota",
            "RESOURCE_EXHAUSTED",
        ),
        (500, error(500, "INTERNAL", "oops"), ProviderUnavailable, "transient", "500"),
        (503, error(503, "UNAVAILABLE", "down"), ProviderUnavailable, "transient", "503"),
        (502, {}, ProviderUnavailable, "transient", ""),
    ],
)
def test_refusals(
    provider: Veo, host: Host, status: int, body: object, kind: type[ProviderError], failure: str, code: str
) -> None:
    host.script = lambda asked: said(body, status)
    with pytest.raises(ProviderError) as raised:
        provider.submit(WISH, "key")
    assert (type(raised.value), raised.value.failure, raised.value.code) == (kind, failure, code)
    assert KEY not in f"{raised.value} {raised.value.text}"


@pytest.mark.parametrize(
    ("status", "body", "seconds"),
    [
        (429, error(429, "RESOURCE_EXHAUSTED", "slow down", retryDelay="34.5s"), 34.5),
        (429, error(429, "RESOURCE_EXHAUSTED", "slow down"), 20),
        (503, error(503, "UNAVAILABLE", "This model is currently experiencing high demand."), 20),
    ],
)
def test_a_limit_says_when(provider: Veo, host: Host, status: int, body: object, seconds: float) -> None:
    host.script = lambda asked: said(body, status)
    with pytest.raises(Later) as later:
        provider.submit(WISH, "key")
    assert later.value.seconds == seconds


def test_an_operation_that_is_not_known_is_gone(provider: Veo, host: Host) -> None:
    host.script = lambda asked: said(error(404, "NOT_FOUND", "no such operation"), 404)
    job = provider.check(NAME)
    assert (job.state, job.failure) == ("gone", "lost")


# ---------------------------------------------------------------- the film


def films(uri: str) -> Callable[[Asked], Answer]:
    operation = json.loads(json.dumps(FILM).replace("URI", uri))
    return lambda asked: said(operation) if "operations" in asked.path else Answer(body=b"\0\0\0\x18ftyp film")


def test_a_film_is_asked_for_by_its_name_where_the_key_belongs(provider: Veo, host: Host, tmp_path: Path) -> None:
    host.script = films("https://generativelanguage.googleapis.com/v1beta/files/abc123:download?alt=media")
    provider.download(NAME, tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").read_bytes().endswith(b"film")
    assert host.asked[-1].path == "/v1/files/abc123:download?alt=media"
    assert host.asked[-1].headers["x-goog-api-key"] == KEY


def test_the_key_does_not_follow_a_redirect_to_the_storage(provider: Veo, host: Host, tmp_path: Path) -> None:
    """httpx takes off Authorization on the way to another host, and no other header."""
    with opened() as storage:
        storage.script = lambda asked: Answer(body=b"\0\0\0\x18ftyp film")
        operation = films("files/abc123")
        there = {"Location": f"{storage.url}/film?signature=1"}
        host.script = lambda asked: operation(asked) if "operations" in asked.path else Answer(302, headers=there)
        provider.download(NAME, tmp_path / "film.mp4")
        assert (tmp_path / "film.mp4").exists()
        assert storage.asked
        assert not [asked for asked in storage.asked if KEY in str(asked.headers)]


def test_an_address_that_is_no_file_is_fetched_without_the_key(provider: Veo, host: Host, tmp_path: Path) -> None:
    host.script = films("http://10.0.0.1/film.mp4")
    with pytest.raises(ProviderRefused, match="not https and public"):
        provider.download(NAME, tmp_path / "film.mp4")


def test_a_film_that_is_gone(provider: Veo, host: Host, tmp_path: Path) -> None:
    operation = films("files/abc123")
    gone = said(error(403, "PERMISSION_DENIED", "You do not have permission or it may not exist."), 403)
    host.script = lambda asked: operation(asked) if "operations" in asked.path else gone
    with pytest.raises(ProviderRefused) as refused:
        provider.download(NAME, tmp_path / "film.mp4")
    assert refused.value.failure == "expired"
    host.script = lambda asked: said({"done": True})
    with pytest.raises(ProviderRefused) as refused:
        provider.download(NAME, tmp_path / "film.mp4")
    assert refused.value.failure == "expired"


# ---------------------------------------------------------------- through the simulator


def test_it_films_through_the_ledger_and_logs_what_it_sold(shop: Shop, tmp_path: Path, photo: Path) -> None:
    ledger = open_ledger(tmp_path / "home")
    film = bought(ledger, Veo(shop.url, poll=0.05, typical=0.0), replace(WISH, reference=photo))
    assert film.read_bytes()[4:8] == b"ftyp"
    (sale,) = sales(shop)
    (row,) = purchases(ledger)
    assert (row.state, row.job_id) == ("DONE", f"models/{MODEL}/operations/{sale['id'].removeprefix('video_')}")
    assert {name: sale[name] for name in ("model", "seconds", "size")} == {
        "model": MODEL,
        "seconds": "4",
        "size": "1280x720",
    }


@pytest.mark.parametrize(
    ("words", "state", "failure"),
    [("[moderated later]", "failed", "moderation_output"), ("[fails]", "failed", "transient")],
)
def test_trouble_on_demand(shop: Shop, words: str, state: str, failure: str) -> None:
    provider = Veo(shop.url)
    job = settled(provider, provider.submit(replace(WISH, prompt=f"a rose {words}"), "key").id)
    assert (job.state, job.failure) == (state, failure)
    assert job.text


def test_refused_stuck_and_expired(shop: Shop, tmp_path: Path) -> None:
    provider = Veo(shop.url)
    with pytest.raises(ProviderRefused) as refused:
        provider.submit(replace(WISH, prompt="a rose [moderated]"), "key")
    assert refused.value.failure == "moderation_input"
    assert not (shop.studio.folder / "sales.jsonl").read_text()
    slow = provider.submit(replace(WISH, prompt="a rose [slow]"), "key").id
    expires = provider.submit(replace(WISH, prompt="a rose [expires]"), "key").id
    assert settled(provider, expires).state == "done"
    assert provider.check(slow).state == "running"
    with pytest.raises(ProviderRefused) as refused:
        provider.download(expires, tmp_path / "film.mp4")
    assert refused.value.failure == "expired"
    assert provider.check(f"models/{MODEL}/operations/unknown").state == "gone"


def test_a_lost_answer_is_a_humans_affair(provider: Veo, host: Host, tmp_path: Path) -> None:
    """Nothing can be listed, so nothing is sent again."""
    ledger = open_ledger(tmp_path / "home")
    host.script = lambda asked: Answer(status=0)
    with pytest.raises(Later):
        submit_once(ledger, provider, WISH, "key", price=Decimal("0.40"))
    with pytest.raises(SubmissionUnknown):
        submit_once(ledger, provider, WISH, "key", price=Decimal("0.40"))
    assert len(host.asked) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 7},
        {"generateAudio": False},
        {"durationSeconds": "8"},
        {"durationSeconds": 5},
        {"resolution": "1080p", "durationSeconds": 4},
        {"aspectRatio": "1:1"},
        {"sampleCount": 2},
        {"negativePrompt": 1},
    ],
)
def test_the_simulator_is_strict(changed: Mapping[str, Any]) -> None:
    good = {"instances": [{"prompt": "a rose"}], "parameters": {"durationSeconds": 8}}
    assert ordered(MODEL, good).size == "1280x720"
    with pytest.raises(ValueError, match="`"):
        ordered(MODEL, {**good, "parameters": {"durationSeconds": 8, **changed}})


@pytest.mark.parametrize(
    "instance",
    [
        {},
        {"prompt": "a rose", "image": {"bytesBase64Encoded": "AAAA", "mimeType": "image/png"}},
        {"prompt": "a rose", "image": {"gcsUri": "gs://x"}},
        {"prompt": "a rose", "lastFrame": {"bytesBase64Encoded": "iVBORw==", "mimeType": "image/png"}},
        {"prompt": "a rose", "video": {}},
    ],
)
def test_the_simulator_looks_at_the_instance(instance: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match="`"):
        ordered(MODEL, {"instances": [instance]})


def test_trouble_by_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The faults that every simulator has, in Google's words."""
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    trouble = Faults(parse("429=7*1,lost"))
    studio = Studio(tmp_path / "veo", latency=0.0, settle=0.0, keys=False, films=False)
    with running(Shop(0, studio, VeoCounter, "/v1beta", trouble=trouble)) as shop:
        provider = Veo(shop.url)
        with pytest.raises(Later) as later:
            provider.submit(WISH, "key")
        assert later.value.seconds == 7
        job = provider.submit(WISH, "key")
        assert provider.check(job.id).state == "gone"
        assert len(sales(shop)) == 1
