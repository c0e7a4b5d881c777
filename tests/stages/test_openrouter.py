"""OpenRouter's Videos API: on the wire against a scripted host, and through its simulator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_openai_provider import Answer, Asked, Host, opened, said
from test_veo import PNG, bought, open_shop, sales, settled

from stages.clip import Size
from stages.errors import InputError, ProviderError, ProviderRefused, ProviderUnavailable
from stages.http import NOT_SENT
from stages.ledger import open_ledger, purchases
from stages.providers import VideoRequest
from stages.providers.openrouter import OpenRouter, asked, decoded
from stages.simulators.counter import Shop
from stages.simulators.openrouter import MODELS, OpenRouterCounter

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-or-very-secret"
JOB = "gen-vid-1760000000-abcdefghij0123456789"
WISH = VideoRequest("a rose opens", "google/veo-3.1-fast", Size(720, 1280), 4)
RECORD = MODELS["google/veo-3.1-fast"]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    with opened() as host:
        host.script = replies()
        yield host


def replies(status: int = 202, body: object = None) -> Any:
    """A host that lists the models, and answers a purchase as told."""
    job = {"id": JOB, "polling_url": f"/api/v1/videos/{JOB}", "status": "pending"}
    models = {"data": list(MODELS.values())}
    return lambda sent: said(models) if sent.path.endswith("/models") else said(body or job, status)


@pytest.fixture
def provider(host: Host) -> OpenRouter:
    return OpenRouter(host.url)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    with open_shop(tmp_path / "openrouter", OpenRouterCounter, "/api/v1") as shop:
        yield shop


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(PNG)
    return path


# ---------------------------------------------------------------- on the wire


def test_a_request_goes_out_as_the_api_has_it(provider: OpenRouter, host: Host, photo: Path) -> None:
    options = (("callback_url", "https://me/hook"),)
    job = provider.submit(
        replace(WISH, reference=photo, last_frame=photo, seed=7, audio=False, options=options), "key-1"
    )
    assert (job.id, job.state) == (JOB, "queued")
    listed, sent = host.asked
    assert (listed.method, listed.path) == ("GET", "/v1/videos/models")
    assert (sent.method, sent.path) == ("POST", "/v1/videos")
    assert sent.headers["Authorization"] == f"Bearer {KEY}"
    body = json.loads(sent.body)
    frames = body.pop("frame_images")
    assert [frame["frame_type"] for frame in frames] == ["first_frame", "last_frame"]
    assert frames[0]["type"] == "image_url"
    assert frames[0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert body == {
        "model": "google/veo-3.1-fast",
        "prompt": "a rose opens",
        "duration": 4,
        "size": "720x1280",
        "generate_audio": False,
        "seed": 7,
        "callback_url": "https://me/hook",
    }


def test_a_model_that_lists_no_sizes_is_asked_by_shape(photo: Path) -> None:
    record = {"supported_sizes": None, "supported_aspect_ratios": ["9:16"], "supported_resolutions": ["720p", "4K"]}
    body = asked(replace(WISH, reference=photo, seed=7), record)
    assert (body["aspect_ratio"], body["resolution"]) == ("9:16", "720p")
    assert body["generate_audio"] is True
    assert asked(replace(WISH, size=Size(2160, 3840)), record)["resolution"] == "4K"
    with pytest.raises(InputError, match=r"1920x1080, but 9:16"):
        asked(replace(WISH, size=Size(1920, 1080)), record)


def test_a_silent_model_is_not_asked_about_sound() -> None:
    assert "generate_audio" not in asked(WISH, {"generate_audio": False})


@pytest.mark.parametrize(
    ("changed", "parameter"),
    [
        ({"model": "google/unheard-of"}, "model"),
        ({"negative": "rain"}, "negative"),
        ({"loop": True}, "loop"),
        ({"seconds": 5}, "length"),
        ({"size": Size(720, 720)}, "frame"),
        ({"options": (("fps", "24"),)}, "options"),
        ({"model": "alibaba/wan-2.6", "seconds": 5, "seed": 7}, "seed"),
        ({"model": "alibaba/wan-2.6", "seconds": 5, "last_frame": Path("photo.png")}, "last_frame"),
    ],
)
def test_what_cannot_be_said_is_refused_before_it_is_bought(
    provider: OpenRouter, host: Host, changed: Mapping[str, Any], parameter: str
) -> None:
    with pytest.raises(InputError) as raised:
        provider.submit(replace(WISH, **changed), "key")
    assert raised.value.parameter == parameter
    assert not [sent for sent in host.asked if sent.method == "POST"]


@pytest.mark.parametrize("answer", [said({"error": {"code": 500, "message": "oops"}}, 500), said({"data": None})])
def test_without_the_models_nothing_is_sent(provider: OpenRouter, host: Host, answer: Answer) -> None:
    host.script = lambda sent: answer
    with pytest.raises(ProviderUnavailable) as raised:
        provider.submit(WISH, "key")
    assert raised.value.code == NOT_SENT


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENROUTER_BASE_URL", raising=False)
    monkeypatch.delenv("OPENROUTER_API_KEY", raising=False)
    assert (OpenRouter().account, OpenRouter(typical=90).typical, OpenRouter().can_list) == ("openrouter.ai", 90, False)
    with pytest.raises(ProviderRefused, match="set OPENROUTER_API_KEY"):
        OpenRouter().check(JOB)
    monkeypatch.setenv("OPENROUTER_BASE_URL", "http://proxy:8000/api/v1")
    assert OpenRouter().account == "proxy:8000"
    with pytest.raises(InputError, match="no list"):
        OpenRouter().find(0.0)


# ---------------------------------------------------------------- what is answered


@pytest.mark.parametrize(
    ("data", "state", "failure", "billed"),
    [
        ({"status": "pending"}, "queued", "", None),
        ({"status": "in_progress"}, "running", "", None),
        ({"status": "a_word_from_the_future"}, "running", "", None),
        ({}, "running", "", None),
        ({"status": "completed", "expires_at": 1760000000}, "done", "", None),
        ({"status": "failed", "error": "The vendor had an error"}, "failed", "transient", None),
        ({"status": "failed", "error": "x", "usage": {"cost": 0}}, "failed", "transient", False),
        ({"status": "failed", "error": "moderation", "usage": {"cost": 0.4}}, "failed", "moderation_output", True),
        ({"status": "cancelled"}, "failed", "transient", None),
        ({"status": "expired"}, "failed", "expired", None),
    ],
)
def test_jobs(data: Mapping[str, Any], state: str, failure: str, billed: bool | None) -> None:
    job = decoded(data, JOB)
    assert (job.id, job.state, job.failure, job.billed) == (JOB, state, failure, billed)
    assert bool(job.code) == (state == "failed")


@pytest.mark.parametrize(
    ("status", "text", "kind", "failure"),
    [
        (400, "duration 5 is not supported", ProviderRefused, "invalid_request"),
        (401, f"no such key {KEY}", ProviderRefused, "unauthorized"),
        (402, "Insufficient credits", ProviderRefused, "quota"),
        (403, "Your input was flagged by moderation", ProviderRefused, "moderation_input"),
        (500, "oops", ProviderUnavailable, "transient"),
    ],
)
def test_refusals(
    provider: OpenRouter, host: Host, status: int, text: str, kind: type[ProviderError], failure: str
) -> None:
    host.script = replies(status, {"error": {"code": status, "message": text}})
    with pytest.raises(ProviderError) as raised:
        provider.submit(WISH, "key")
    assert (type(raised.value), raised.value.failure) == (kind, failure)
    assert KEY not in f"{raised.value} {raised.value.text}"


def test_a_job_without_an_id_leaves_the_outcome_open(provider: OpenRouter, host: Host) -> None:
    host.script = replies(202, {"status": "pending"})
    with pytest.raises(ProviderUnavailable) as raised:
        provider.submit(WISH, "key")
    assert raised.value.code == "no_id"
    host.script = replies(404, {"error": {"code": 404, "message": "Job not found"}})
    assert provider.check(JOB).state == "gone"


def test_a_signed_film_is_fetched_without_the_key(provider: OpenRouter, host: Host, tmp_path: Path) -> None:
    with opened() as storage:
        storage.script = lambda sent: Answer(body=b"\0\0\0\x18ftyp film")
        host.script = lambda sent: said({"id": JOB, "status": "completed", "urls": [f"{storage.url}/film.mp4"]})
        provider.download(JOB, tmp_path / "film.mp4")
        (fetched,) = storage.asked
        assert KEY not in str(fetched.headers)


@pytest.mark.parametrize("urls", [[], ["http://HOST/signed"]])
def test_else_openrouter_itself_has_it(provider: OpenRouter, host: Host, tmp_path: Path, urls: list[str]) -> None:
    """Signed addresses may be missing, or out of date however often one asks."""
    fresh = [url.replace("http://HOST", host.url) for url in urls]

    def script(sent: Asked) -> Answer:
        if sent.path.endswith("/content?index=0"):
            return Answer(body=b"\0\0\0\x18ftyp film")
        return said({}, 403) if sent.path.endswith("/signed") else said({"id": JOB, "urls": fresh})

    host.script = script
    provider.download(JOB, tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").exists()
    assert host.asked[-1].headers["Authorization"] == f"Bearer {KEY}"
    signed = [sent for sent in host.asked if sent.path.endswith("/signed")]
    assert len(signed) == 2 * len(urls)
    assert not [sent for sent in signed if KEY in str(sent.headers)]


# ---------------------------------------------------------------- through the simulator


def test_it_films_through_the_ledger_and_logs_what_it_sold(shop: Shop, tmp_path: Path, photo: Path) -> None:
    """An address that is out of date is asked for again."""
    ledger = open_ledger(tmp_path / "home")
    wish = replace(WISH, prompt="a rose [expires]", reference=photo, seed=7, audio=False)
    film = bought(ledger, OpenRouter(shop.url, poll=0.05, typical=0.0), wish)
    assert film.read_bytes()[4:8] == b"ftyp"
    (sale,) = sales(shop)
    (row,) = purchases(ledger)
    assert (row.state, row.job_id.rpartition("-")[2]) == ("DONE", sale["id"].removeprefix("video_"))
    assert (sale["model"], sale["seconds"], sale["size"]) == ("google/veo-3.1-fast", "4", "720x1280")


@pytest.mark.parametrize(("words", "failure"), [("[moderated later]", "moderation_output"), ("[fails]", "transient")])
def test_trouble_on_demand(shop: Shop, words: str, failure: str) -> None:
    provider = OpenRouter(shop.url)
    job = settled(provider, provider.submit(replace(WISH, prompt=f"a rose {words}"), "key").id)
    assert (job.state, job.failure) == ("failed", failure)
    assert job.text


def test_refused_and_stuck(shop: Shop) -> None:
    provider = OpenRouter(shop.url)
    with pytest.raises(ProviderRefused) as refused:
        provider.submit(replace(WISH, prompt="a rose [moderated]"), "key")
    assert refused.value.failure == "moderation_input"
    assert not (shop.studio.folder / "sales.jsonl").read_text()
    slow = provider.submit(replace(WISH, prompt="a rose [slow]"), "key").id
    done = provider.submit(WISH, "key").id
    assert settled(provider, done).state == "done"
    assert provider.check(slow).state == "running"
    assert provider.check("gen-vid-1-unknown").state == "gone"


@pytest.mark.parametrize(
    "changed",
    [
        {"negative_prompt": "rain"},
        {"duration": "4"},
        {"duration": 5},
        {"size": "640x360"},
        {"resolution": "720p", "aspect_ratio": "1:1"},
        {"seed": "7"},
        {"generate_audio": 1},
        {
            "frame_images": [
                {"type": "image_url", "image_url": {"url": "https://me/x.png"}, "frame_type": "first_frame"}
            ]
        },
        {"frame_images": [{"frame_type": "first_frame"}]},
        {"prompt": ""},
    ],
)
def test_the_simulator_is_strict(shop: Shop, changed: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    spelled = {"model": WISH.model, "prompt": "a rose", "duration": 4, **changed}
    monkeypatch.setattr("stages.providers.openrouter.asked", lambda *_: spelled)
    with pytest.raises(ProviderRefused) as refused:
        OpenRouter(shop.url).submit(WISH, "key")
    assert refused.value.failure == "invalid_request"


def test_it_is_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints where it is, and stops when asked to."""
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    options = ["--state", str(tmp_path / "state"), "--latency", "0", "--settle", "0", "--no-film"]
    command = [sys.executable, "-m", "stages.simulators.openrouter", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        assert url == (tmp_path / "state" / "url").read_text()
        assert OpenRouter(url).model("google/veo-3.1") == json.loads(json.dumps(MODELS["google/veo-3.1"]))
        process.terminate()
        assert process.wait(300) == 0
