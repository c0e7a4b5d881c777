"""fal's queue: on the wire against a scripted host, and through its simulator."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_openai_provider import Answer, Asked, Host, opened, said
from test_veo import PNG, bought, open_shop, sales, settled

import presets
from stages.clip import Size
from stages.errors import InputError, Later, ProviderError, ProviderRefused, ProviderUnavailable
from stages.ledger import open_ledger, purchases
from stages.providers import Footage, VideoRequest
from stages.providers.fal import FAMILIES, UPSCALERS, Fal, asked
from stages.simulators.counter import Shop
from stages.simulators.fal import FalCounter

KEY = "key-id:very-secret"
JOB = "fal-ai/veo3.1/requests/764cabcf/status"
WISH = VideoRequest("a rose opens", "fal-ai/veo3.1/fast", Size(720, 1280), 4)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("FAL_KEY", KEY)
    with opened() as host:
        yield host


@pytest.fixture
def provider(host: Host) -> Fal:
    return Fal(host.url)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("FAL_KEY", KEY)
    with open_shop(tmp_path / "fal", FalCounter) as shop:
        yield shop


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(PNG)
    return path


def accepted(host: Host, **urls: str) -> dict[str, Any]:
    here = f"{host.url}/fal-ai/veo3.1/requests/764cabcf"
    return {
        "request_id": "764cabcf",
        "status": "IN_QUEUE",
        "status_url": f"{here}/status",
        "response_url": here,
        **urls,
    }


# ---------------------------------------------------------------- on the wire


def test_a_request_goes_out_as_the_model_spells_it(provider: Fal, host: Host) -> None:
    host.script = lambda asked: said(accepted(host))
    wish = replace(WISH, seed=7, audio=False, negative="rain", options=(("fal_webhook", "https://me/hook"),))
    job = provider.submit(wish, "key-1")
    assert (job.id, job.state) == (JOB, "queued")
    (sent,) = host.asked
    assert (sent.method, sent.path) == ("POST", "/v1/fal-ai/veo3.1/fast?fal_webhook=https%3A%2F%2Fme%2Fhook")
    assert sent.headers["Authorization"] == f"Key {KEY}"
    assert sent.headers["x-fal-no-retry"] == "1"
    assert json.loads(sent.body) == {
        "prompt": "a rose opens",
        "duration": "4s",
        "resolution": "720p",
        "aspect_ratio": "9:16",
        "generate_audio": False,
        "seed": 7,
        "negative_prompt": "rain",
        "auto_fix": False,
    }


URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


@pytest.mark.parametrize(
    ("model", "ends", "path", "frames", "duration"),
    [
        ("fal-ai/veo3.1", False, "/image-to-video", {"image_url"}, "8s"),
        ("fal-ai/veo3.1", True, "/first-last-frame-to-video", {"first_frame_url", "last_frame_url"}, "8s"),
        ("bytedance/seedance-2.0", True, "/image-to-video", {"image_url", "end_image_url"}, "8"),
        ("kling/v4", False, "/image-to-video", {"start_image_url"}, 8),
        ("kling/v4", True, "/image-to-video", {"start_image_url", "end_image_url"}, 8),
    ],
)
def test_frames_have_other_names_and_places(
    photo: Path, model: str, ends: bool, path: str, frames: set[str], duration: object
) -> None:
    wish = replace(WISH, model=model, seconds=8, reference=photo, last_frame=photo if ends else None)
    found, body = asked(wish)
    assert found == f"{model}{path}"
    assert {name for name, value in body.items() if value == URL} == frames
    assert body["duration"] == duration


@pytest.mark.parametrize(
    ("changed", "parameter"),
    [
        ({"model": "fal-ai/unheard-of"}, "model"),
        ({"loop": True}, "loop"),
        ({"last_frame": Path("photo.png")}, "last_frame"),
        ({"options": (("fps", "24"),)}, "options"),
        ({"size": Size(720, 720)}, "frame"),
        ({"size": Size(1080, 1920), "model": "fal-ai/veo3.1/lite"}, "length"),
        ({"model": "bytedance/seedance-2.0", "negative": "rain"}, "negative"),
        ({"model": "bytedance/seedance-2.0", "size": Size(1920, 1080)}, "frame"),
        ({"model": "kling/v4", "seed": 7}, "seed"),
        ({"model": "kling/v4", "audio": False}, "audio"),
    ],
)
def test_what_cannot_be_said_is_refused_before_anything_is_sent(
    provider: Fal, host: Host, changed: Mapping[str, Any], parameter: str
) -> None:
    with pytest.raises(InputError) as raised:
        provider.submit(replace(WISH, **changed), "key")
    assert raised.value.parameter == parameter
    assert not host.asked


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.example/requests/1/status", "http://127.0.0.1:1/v1/x/status", "not a url", ""],
)
def test_addresses_that_lead_elsewhere_are_not_followed(provider: Fal, host: Host, elsewhere: str) -> None:
    host.script = lambda asked: said(accepted(host, status_url=elsewhere))
    assert provider.submit(WISH, "key").id == JOB
    host.script = lambda asked: said({"status": "COMPLETED", "response_url": elsewhere, "video": {"url": "u"}})
    assert provider.check(JOB).state == "done"
    assert host.asked[-1].path == "/v1/fal-ai/veo3.1/requests/764cabcf"


def test_nothing_but_a_path_below_the_queue_is_a_job(provider: Fal, host: Host) -> None:
    for job in ("https://evil.example/status", "/etc/passwd", "a/../../b", "a b"):
        with pytest.raises(InputError, match="no job"):
            provider.check(job)
    assert not host.asked
    host.script = lambda asked: said({"request_id": "../../x"})
    with pytest.raises(ProviderUnavailable) as raised:
        provider.submit(WISH, "key")
    assert raised.value.code == "no_id"


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAL_BASE_URL", raising=False)
    monkeypatch.delenv("FAL_KEY", raising=False)
    assert (Fal().account, Fal(typical=90).typical, Fal().can_list) == ("queue.fal.run", 90, False)
    with pytest.raises(ProviderRefused, match="set FAL_KEY"):
        Fal().check(JOB)
    monkeypatch.setenv("FAL_BASE_URL", "http://proxy:8000")
    assert Fal().account == "proxy:8000"
    with pytest.raises(InputError, match="no list"):
        Fal().find(0.0)


def test_every_model_for_sale_can_be_asked(tmp_path: Path) -> None:
    """Each size and length of each preset makes a request."""
    sheets = [presets.read("models", name) for name in presets.names("models")]
    mine = [sheet for sheet in sheets if sheet.facts["provider"] == "fal"]
    assert {sheet["model"] for sheet in mine} == {*FAMILIES, *UPSCALERS}
    film = Footage(tmp_path / "film.mp4")
    film.file.write_bytes(b"a film")
    for sheet in mine:
        assert bool(sheet.get("extend")) == bool(sheet["model"] in FAMILIES and FAMILIES[sheet["model"]].extension)
        for size in sheet.get("extend_sizes", ()):
            (seconds,) = sheet["extend"]
            asked(VideoRequest("on", sheet["model"], Size.parse(size), seconds, work="extend", footage=film))
        for size in sheet["sizes"]:
            assert float(sheet[f"price.{size}"]) > 0
            if sheet.get("works") == ["upscale"]:
                asked(VideoRequest("", sheet["model"], Size.parse(size), 5, work="upscale", footage=film))
                continue
            for seconds in sheet.get(f"seconds_by_size.{size}", sheet["seconds"]):
                asked(VideoRequest("a rose", sheet["model"], Size.parse(size), seconds))


# ---------------------------------------------------------------- what is answered


@pytest.mark.parametrize(
    ("data", "status", "state"),
    [
        ({"status": "IN_QUEUE", "queue_position": 3}, 202, "queued"),
        ({"status": "IN_PROGRESS", "logs": None}, 202, "running"),
        ({"status": "A_WORD_FROM_THE_FUTURE"}, 200, "running"),
        ({}, 200, "running"),
        ({"detail": "Not Found"}, 404, "gone"),
    ],
)
def test_status_words(provider: Fal, host: Host, data: object, status: int, state: str) -> None:
    host.script = lambda asked: said(data, status)
    assert provider.check(JOB).state == state
    assert len(host.asked) == 1


def detail(kind: str, *where: str, text: str = "no") -> dict[str, Any]:
    return {"detail": [{"loc": list(where), "msg": text, "type": kind}]}


POLICY = "content_policy_violation"
TIMEOUT = {"detail": "Request timed out", "error_type": "request_timeout"}


@pytest.mark.parametrize(
    ("said_status", "status", "result", "failure", "code", "billed"),
    [
        ({}, 422, detail(POLICY, "body", "prompt"), "moderation_input", POLICY, True),
        ({}, 422, detail(POLICY, "body"), "moderation_output", POLICY, True),
        ({}, 422, detail("image_too_small", "body", "image_url"), "invalid_request", "image_too_small", True),
        ({"error": "timed out"}, 504, TIMEOUT, "transient", "request_timeout", False),
        ({"error": "gone", "error_type": "runner_disconnected"}, 500, {}, "transient", "runner_disconnected", False),
        ({"error": "something"}, 500, {}, "transient", "500", False),
        ({}, 200, {"seed": 1}, "transient", "200", None),
    ],
)
def test_failures_are_completed_too(
    provider: Fal,
    host: Host,
    said_status: dict[str, Any],
    status: int,
    result: object,
    failure: str,
    code: str,
    billed: bool | None,
) -> None:
    completed = said({"status": "COMPLETED", "logs": None, **said_status})
    host.script = lambda asked: completed if asked.path.endswith("/status") else said(result, status)
    job = provider.check(JOB)
    assert (job.state, job.failure, job.code, job.billed) == ("failed", failure, code, billed)
    assert job.text


def test_a_result_that_cannot_be_had_is_no_failure_of_the_job(provider: Fal, host: Host) -> None:
    completed = said({"status": "COMPLETED", "logs": None})
    host.script = lambda asked: completed if asked.path.endswith("/status") else said({"detail": "nginx"}, 502)
    with pytest.raises(ProviderUnavailable):
        provider.check(JOB)
    host.script = lambda asked: completed if asked.path.endswith("/status") else said({}, 429)
    with pytest.raises(Later):
        provider.check(JOB)


@pytest.mark.parametrize(
    ("status", "body", "kind", "failure"),
    [
        (401, {"detail": f"no such key {KEY}"}, ProviderRefused, "unauthorized"),
        (403, {"detail": "User is locked. Reason: Exhausted balance."}, ProviderRefused, "quota"),
        (404, {"detail": "Application not found"}, ProviderRefused, "invalid_request"),
        (422, detail("missing", "body", "prompt"), ProviderRefused, "invalid_request"),
        (422, detail("content_policy_violation", "body", "prompt"), ProviderRefused, "moderation_input"),
        (500, {"detail": "oops"}, ProviderUnavailable, "transient"),
    ],
)
def test_refusals(
    provider: Fal, host: Host, status: int, body: object, kind: type[ProviderError], failure: str
) -> None:
    host.script = lambda asked: said(body, status)
    with pytest.raises(ProviderError) as raised:
        provider.submit(WISH, "key")
    assert (type(raised.value), raised.value.failure) == (kind, failure)
    assert KEY not in f"{raised.value} {raised.value.text}"


def test_a_film_is_fetched_without_the_key(provider: Fal, host: Host, tmp_path: Path) -> None:
    with opened() as files:
        files.script = lambda asked: Answer(body=b"\0\0\0\x18ftyp film")
        video = {"video": {"url": f"{files.url}/film.mp4"}}
        host.script = lambda asked: said({"status": "COMPLETED", **video})
        provider.download(JOB, tmp_path / "film.mp4")
        (fetched,) = files.asked
        assert KEY not in str(fetched.headers)
    host.script = lambda asked: said({"status": "COMPLETED", "video": {"url": "http://10.0.0.1/film.mp4"}})
    with pytest.raises(ProviderRefused, match="not https and public"):
        provider.download(JOB, tmp_path / "film.mp4")


def test_a_film_that_is_gone_is_asked_for_twice(provider: Fal, host: Host, tmp_path: Path) -> None:
    def script(sent: Asked) -> Answer:
        gone = sent.path.endswith(".mp4")
        return said({}, 404) if gone else said({"status": "COMPLETED", "video": {"url": f"{host.url}/film.mp4"}})

    host.script = script
    with pytest.raises(ProviderRefused) as refused:
        provider.download(JOB, tmp_path / "film.mp4")
    assert refused.value.failure == "expired"
    assert len([sent for sent in host.asked if sent.path.endswith(".mp4")]) == 2


# ---------------------------------------------------------------- through the simulator


def test_every_model_and_mode_is_accepted(shop: Shop, photo: Path) -> None:
    provider = Fal(shop.url)
    for model in FAMILIES:
        for first, last in ((None, None), (photo, None), (photo, photo)):
            wish = replace(WISH, model=model, seconds=8, reference=first, last_frame=last)
            assert provider.submit(wish, "key").id.startswith("/".join(model.split("/")[:2]) + "/requests/")
            assert sales(shop)[-1]["model"].startswith(model)


def test_it_films_through_the_ledger_and_logs_what_it_sold(shop: Shop, tmp_path: Path, photo: Path) -> None:
    """An address that is out of date is asked for again."""
    ledger = open_ledger(tmp_path / "home")
    wish = replace(WISH, prompt="a rose [expires]", reference=photo)
    film = bought(ledger, Fal(shop.url, poll=0.05, typical=0.0), wish)
    assert film.read_bytes()[4:8] == b"ftyp"
    (sale,) = sales(shop)
    (row,) = purchases(ledger)
    assert (row.state, row.model) == ("DONE", "fal-ai/veo3.1/fast")
    assert row.job_id.split("/")[3].replace("-", "") == sale["id"].removeprefix("video_")
    assert (sale["seconds"], sale["size"]) == ("4", "720x1280")


@pytest.mark.parametrize(
    ("words", "failure", "billed"),
    [("[moderated later]", "moderation_output", True), ("[fails]", "transient", False)],
)
def test_trouble_on_demand(shop: Shop, words: str, failure: str, billed: bool) -> None:
    provider = Fal(shop.url)
    job = settled(provider, provider.submit(replace(WISH, prompt=f"a rose {words}"), "key").id)
    assert (job.state, job.failure, job.billed) == ("failed", failure, billed)


def test_refused_and_stuck(shop: Shop) -> None:
    provider = Fal(shop.url)
    with pytest.raises(ProviderRefused) as refused:
        provider.submit(replace(WISH, prompt="a rose [moderated]"), "key")
    assert refused.value.failure == "moderation_input"
    assert not (shop.studio.folder / "sales.jsonl").read_text()
    slow = provider.submit(replace(WISH, prompt="a rose [slow]"), "key").id
    done = provider.submit(WISH, "key").id
    assert settled(provider, done).state == "done"
    assert provider.check(slow).state == "running"
    assert provider.check("fal-ai/veo3.1/requests/unknown/status").state == "gone"


@pytest.mark.parametrize(
    "changed",
    [
        {"duration": 4},
        {"duration": "5s"},
        {"resolution": "480p"},
        {"aspect_ratio": "1:1"},
        {"generate_audio": "no"},
        {"image_url": URL},
        {"seed": 1.5},
        {"prompt": ""},
    ],
)
def test_the_simulator_is_strict(shop: Shop, changed: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    spelled = {"prompt": "a rose", "duration": "4s", **changed}
    monkeypatch.setattr("stages.providers.fal.asked", lambda _: ("fal-ai/veo3.1", spelled))
    with pytest.raises(ProviderRefused) as refused:
        Fal(shop.url).submit(WISH, "key")
    assert refused.value.failure == "invalid_request"
