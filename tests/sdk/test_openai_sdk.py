"""OpenAI's own SDK, unchanged, against our simulator; and LiteLLM's proxy between the simulator and our client."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from forks import serving

from stages.clip import Size
from stages.errors import ProviderRefused, ProviderUnavailable
from stages.ffmpeg import run_ffmpeg
from stages.media import open_clip
from stages.providers import VideoRequest
from stages.providers.dialects import LITELLM
from stages.providers.openai import account_at

openai = pytest.importorskip("openai")
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("--no-film", "--latency", "0.2", "--settle", "0")


@contextlib.contextmanager
def simulator(state: Path, *options: str) -> Iterator[str]:
    with serving("stages.simulators.openai", "--state", state, *QUICK, *options) as url:
        yield url


def sales(state: Path) -> int:
    return len([json.loads(line) for line in (state / "sales.jsonl").read_text().splitlines()])


def works(state: Path) -> list[str]:
    return [json.loads(line)["work"] for line in (state / "sales.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sim")


@pytest.fixture(scope="module")
def url(state: Path) -> Iterator[str]:
    with simulator(state) as url:
        yield url


def picture(target: Path, size: str = "1280x720") -> Path:
    run_ffmpeg(["-f", "lavfi", "-i", f"testsrc2=s={size}", "-frames:v", "1", str(target)])
    return target


def until(is_so: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


# ---------------------------------------------------------------- the SDK


def test_the_sdk_creates_polls_downloads_lists_and_deletes(url: str, tmp_path: Path) -> None:
    with openai.OpenAI(base_url=url, api_key="none") as client:
        video = client.videos.create_and_poll(
            prompt="a rose",
            model="sora-2",
            seconds="4",
            size="1280x720",
            input_reference=picture(tmp_path / "first.png"),
            poll_interval_ms=50,
        )
        assert (video.object, video.status, video.progress, video.model) == ("video", "completed", 100, "sora-2")
        assert (video.seconds, video.size, video.prompt, video.error) == ("4", "1280x720", "a rose", None)
        assert video.created_at <= (video.completed_at or 0) < (video.expires_at or 0)
        client.videos.download_content(video.id).write_to_file(tmp_path / "film.mp4")
        found = open_clip(tmp_path / "film.mp4").picture
        assert found
        assert (found.size, found.frames) == (Size(1280, 720), 96)
        second = client.videos.create(prompt="another", model="sora-2")
        assert (second.status, second.seconds, second.size) == ("queued", "4", "720x1280")
        assert [each.id for each in client.videos.list(limit=1)] == [second.id, video.id]  # over two pages
        assert client.videos.poll(second.id, poll_interval_ms=50).status == "completed"
        deleted = client.videos.delete(video.id)
        assert (deleted.id, deleted.deleted, deleted.object) == (video.id, True, "video.deleted")
        with pytest.raises(openai.NotFoundError):
            client.videos.retrieve(video.id)


def test_the_sdk_remixes_edits_and_extends(url: str, state: Path, tmp_path: Path) -> None:
    """By its general `post` where it must: 3.57.0's own `edit` and `extend` choke on the `{id}` that they document."""
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:

        def done(video: Any) -> Any:
            return client.videos.poll(video.id, poll_interval_ms=50)

        def post(path: str, **body: Any) -> Any:
            return client.post(path, cast_to=openai.types.Video, body=body)

        first = done(client.videos.create(prompt="a rose", model="sora-2-pro", seconds="4", size="1920x1080"))
        remixed = done(client.videos.remix(first.id, prompt="at night"))
        edited = done(post("/videos/edits", prompt="in the snow", video={"id": first.id}))
        longer = done(post("/videos/extensions", prompt="and on", seconds="8", video={"id": first.id}))
        seen = [(each.status, each.model, each.size, each.seconds, each.prompt) for each in (remixed, edited, longer)]
        assert seen == [
            ("completed", "sora-2-pro", "1920x1080", seconds, prompt)
            for seconds, prompt in (("4", "at night"), ("4", "in the snow"), ("12", "and on"))
        ]
        assert (remixed.remixed_from_video_id, longer.remixed_from_video_id) == (first.id, None)
        client.videos.download_content(longer.id).write_to_file(tmp_path / "film.mp4")
        found = open_clip(tmp_path / "film.mp4").picture
        assert found
        assert (found.size, found.frames) == (Size(1920, 1080), 288)
        assert works(state)[-4:] == ["film", "remix", "remix", "extend"]
        with pytest.raises(openai.BadRequestError, match="Invalid seconds value"):
            post("/videos/extensions", prompt="and on", seconds="5", video={"id": first.id})
        with pytest.raises(openai.NotFoundError):
            client.videos.remix("video_0", prompt="at night")
        with pytest.raises(openai.BadRequestError, match="own videos only"):
            client.videos.edit(prompt="in the snow", video=tmp_path / "film.mp4")


def test_the_sdk_understands_what_is_wrong(url: str, tmp_path: Path) -> None:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError, match="Invalid seconds value") as refused:
            client.videos.create(prompt="a rose", seconds="5")
        assert (refused.value.code, refused.value.param) == ("invalid_value", "seconds")
        with pytest.raises(openai.BadRequestError, match="Inpaint image must match"):
            client.videos.create(
                prompt="x", size="720x1280", input_reference=("a.png", picture(tmp_path / "a.png").read_bytes())
            )
        with pytest.raises(openai.BadRequestError) as refused:
            client.videos.create(prompt="[moderated]")
        assert refused.value.code == "moderation_blocked"
        failed = client.videos.create_and_poll(prompt="[moderated later]", poll_interval_ms=50)
        assert failed.status == "failed"
        assert failed.error
        assert failed.error.code == "moderation_blocked"
        with pytest.raises(openai.RateLimitError):
            client.videos.list(extra_headers={"X-Sim-Fault": "429=3"})
        with pytest.raises(openai.InternalServerError):
            client.videos.list(extra_headers={"X-Sim-Fault": "500"})


def test_the_sdk_by_itself_pays_twice_for_a_lost_answer(tmp_path: Path) -> None:
    """Why our client never sends again by itself."""
    with simulator(tmp_path, "--ignore-keys", "--fault", "reset-after*1@create") as url:
        with openai.OpenAI(base_url=url, api_key="none") as client:
            client.videos.create(prompt="a rose")
        assert sales(tmp_path) == 2


def test_the_sdk_waits_out_a_storm(tmp_path: Path) -> None:
    with (
        simulator(tmp_path, "--fault", "429=0.05*2") as url,
        openai.OpenAI(base_url=url, api_key="none") as client,
    ):
        client.videos.create(prompt="a rose")
    assert sales(tmp_path) == 1


def test_the_sdk_for_azure_films_there_too(tmp_path: Path) -> None:
    with (
        simulator(tmp_path, "--dialect", "azure") as url,
        openai.OpenAI(base_url=url, api_key="none", default_headers={"api-key": "none"}) as client,
    ):
        video = client.videos.create_and_poll(prompt="a rose", model="sora-2", poll_interval_ms=50)
        assert video.status == "completed"
        assert url.endswith("/openai/v1")


def test_the_sdk_films_with_vllm_omni(tmp_path: Path) -> None:
    """Its forms are the SDK's own; a failed job there is an HTTP error to the SDK."""
    with (
        simulator(tmp_path, "--dialect", "vllm-omni") as url,
        openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        video = client.videos.create_and_poll(
            prompt="a rose", model="wan2.2", seconds="3", size="832x480", poll_interval_ms=50
        )
        assert (video.status, video.id[:10]) == ("completed", "video_gen_")
        with pytest.raises(openai.InternalServerError):
            client.videos.create_and_poll(prompt="[fails]", model="wan2.2", poll_interval_ms=50)


# ---------------------------------------------------------------- LiteLLM's proxy

PROXY = shutil.which("litellm")

CONFIG = """
model_list:
  - model_name: rose-films
    litellm_params: {{model: openai/sora-2, api_base: "{url}", api_key: none}}
router_settings: {{num_retries: 0}}
litellm_settings: {{telemetry: false, num_retries: 0}}
general_settings: {{master_key: sk-proxy}}
"""


@contextlib.contextmanager
def proxy(folder: Path, url: str) -> Iterator[str]:
    """LiteLLM's proxy in front of `url`."""
    assert PROXY
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(url=url))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "DO_NOT_TRACK": "1"}
    command = [PROXY, "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder) as process,
    ):
        try:
            until(lambda: process.poll() is None and _answers(f"http://127.0.0.1:{port}/health/liveliness"), 120)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.skipif(not PROXY, reason="opt-in: wants the command `litellm` on PATH (740 MB, litellm[proxy])")
def test_our_client_films_through_litellm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_API_KEY", "sk-proxy")
    wish = VideoRequest("a rose", "rose-films", Size(1280, 720), 4, picture(tmp_path / "first.png"))
    with simulator(tmp_path / "sim") as url, proxy(tmp_path, url) as through:
        provider = account_at(LITELLM, base_url=through)
        job = provider.submit(wish, "key")
        assert job.id.startswith("video_")
        until(lambda: provider.check(job.id).state == "done")
        provider.download(job.id, tmp_path / "film.mp4")
        found = open_clip(tmp_path / "film.mp4").picture
        assert found
        assert (found.size, found.frames) == (Size(1280, 720), 96)
        done = provider.check(job.id)
        assert (done.seconds, done.size) == (4, Size(1280, 720))
        with pytest.raises(ProviderRefused) as refused:
            provider.submit(replace(wish, prompt="[moderated]"), "refused")
        assert refused.value.failure == "moderation_input"
        failed = provider.submit(replace(wish, prompt="[moderated later]"), "later")
        until(lambda: provider.check(failed.id).state == "failed")
        assert provider.check(failed.id).failure == "moderation_output"
        assert sales(tmp_path / "sim") == 2
    with simulator(tmp_path / "lost", "--fault", "reset-after@create") as url, proxy(tmp_path, url) as through:
        with pytest.raises(ProviderUnavailable):
            account_at(LITELLM, base_url=through).submit(wish, "key")
        assert sales(tmp_path / "lost") == 1, "it sent again by itself"
