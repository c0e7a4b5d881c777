"""fal-client, unchanged, against our fal: a program of its own, as a user's would be. Tried with 1.0.3."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from forks import serving

from stages.clip import Size
from stages.media import open_clip

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a user sets so that the SDK talks to the simulator, which runs. The SDK speaks https alone."""
    state = tmp_path_factory.mktemp("fal")
    options = ["--state", str(state), "--latency", "0.3", "--settle", "0", "--no-film", "--tls"]
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    with serving("stages.simulators.fal", *options) as url:
        yield {
            **here,
            "FAL_QUEUE_RUN_HOST": url.removeprefix("https://"),
            "FAL_KEY": "any:key",
            "SSL_CERT_FILE": str(state / "tls.pem"),
        }


def run(script: str, environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=folder, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_submits_polls_and_downloads(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"\x89PNG not much of a photo")
    said = run(
        """
import fal_client, urllib.request
photo = fal_client.encode_file("photo.png")
asked = {"prompt": "a rose", "first_frame_url": photo, "last_frame_url": photo, "duration": "4s", "seed": 7}
handle = fal_client.submit("fal-ai/veo3.1/first-last-frame-to-video", asked, priority="low")
seen = [type(status).__name__ for status in handle.iter_events(with_logs=True, interval=0.05)]
print(seen[0] in ("Queued", "InProgress"), seen[-1])
url = fal_client.result("fal-ai/veo3.1/first-last-frame-to-video", handle.request_id)["video"]["url"]
print(url == handle.get()["video"]["url"])
urllib.request.urlretrieve(url, "film.mp4")
seen = []
done = fal_client.subscribe(
    "bytedance/seedance-2.0/text-to-video", {"prompt": "a rose", "duration": "5"}, with_logs=True,
    on_queue_update=lambda update: seen.append(type(update).__name__),
)
print(done["video"]["content_type"], seen[-1])
""",
        environment,
        tmp_path,
    )
    assert said.splitlines() == ["True Completed", "True", "video/mp4 Completed"]
    assert (tmp_path / "film.mp4").read_bytes()[4:8] == b"ftyp"


def test_it_makes_films_longer_and_larger(environment: dict[str, str], tmp_path: Path) -> None:
    run(
        """
import fal_client, urllib.request
first = fal_client.subscribe("fal-ai/veo3.1", {"prompt": "a rose", "duration": "4s"})
urllib.request.urlretrieve(first["video"]["url"], "first.mp4")
film = fal_client.encode_file("first.mp4")
longer = fal_client.subscribe("fal-ai/veo3.1/extend-video", {"prompt": "and on", "video_url": film})
urllib.request.urlretrieve(longer["video"]["url"], "longer.mp4")
asked = {"video_url": film, "upscale_mode": "target", "target_resolution": "1440p"}
larger = fal_client.subscribe("fal-ai/seedvr/upscale/video", asked)
urllib.request.urlretrieve(larger["video"]["url"], "larger.mp4")
for path, wrong in (
    ("fal-ai/veo3.1/extend-video", {"prompt": "and on"}),
    ("fal-ai/veo3.1/extend-video", {"prompt": "and on", "video_url": film, "duration": "4s"}),
    ("fal-ai/seedvr/upscale/video", {**asked, "video_url": "https://example.com/film.mp4"}),
    ("fal-ai/seedvr/upscale/video", {**asked, "prompt": "sharper"}),
):
    try:
        fal_client.submit(path, wrong)
        raise SystemExit("it took that")
    except fal_client.FalClientHTTPError as error:
        assert error.status_code == 422, error
""",
        environment,
        tmp_path,
    )
    for name, size, seconds in (("longer", Size(1280, 720), 11), ("larger", Size(2560, 1440), 4)):
        picture = open_clip(tmp_path / f"{name}.mp4").picture
        assert picture
        assert (picture.size, picture.frames) == (size, seconds * 24)


def test_it_reads_what_went_wrong(environment: dict[str, str], tmp_path: Path) -> None:
    said = run(
        """
import fal_client
for prompt in ("a rose [fails]", "a rose [moderated later]", "a rose [moderated]"):
    try:
        handle = fal_client.submit("fal-ai/veo3.1", {"prompt": prompt, "duration": "4s"})
        for status in handle.iter_events(interval=0.05):
            pass
        print(bool(status.error), status.error_type)
        handle.get()
    except fal_client.FalClientHTTPError as error:
        kind = error.error_type or error.response.json()["detail"][0]["type"]
        print(error.status_code, kind)
""",
        environment,
        tmp_path,
    )
    assert said.splitlines() == [
        "True runner_disconnected",
        "503 runner_disconnected",
        "True None",
        "422 content_policy_violation",
        "422 content_policy_violation",
    ]
