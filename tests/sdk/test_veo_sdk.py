"""google-genai, unchanged, against our Veo: a program of its own, as a user's would be.

2.34.0 is the last that speaks Veo to the Gemini API; from 3.0.0 on
`generate_videos` is for Vertex alone.
"""

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
MODEL = "veo-3.1-fast-generate-preview"
HEAD = f"""
import time
from google import genai
from google.genai import types

client = genai.Client()

def filmed(prompt, image=None, video=None, **config):
    source = types.GenerateVideosSource(prompt=prompt, image=image, video=video)
    operation = client.models.generate_videos(
        model="{MODEL}", source=source, config=types.GenerateVideosConfig(**config)
    )
    for _ in range(200):
        if operation.done:
            return operation
        time.sleep(0.05)
        operation = client.operations.get(operation)
    raise SystemExit("never done")
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a user sets so that the SDK talks to the simulator, which runs."""
    state = tmp_path_factory.mktemp("veo")
    options = ["--state", str(state), "--latency", "0.2", "--settle", "0", "--no-film", "--tls"]
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    with serving("stages.simulators.veo", *options) as url:
        yield {
            **here,
            "GOOGLE_GEMINI_BASE_URL": url.removesuffix("/v1beta"),
            "GEMINI_API_KEY": "any",
            "SSL_CERT_FILE": str(state / "tls.pem"),
        }


def run(script: str, environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", HEAD + script], env=environment, cwd=folder, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_creates_polls_and_downloads(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"\x89PNG not much of a photo")
    said = run(
        """
photo = types.Image.from_file(location="photo.png")
operation = filmed(
    "a rose opens", photo, last_frame=photo, duration_seconds=8, aspect_ratio="9:16", resolution="1080p",
    negative_prompt="rain", number_of_videos=1, person_generation="allow_adult",
)
video = operation.response.generated_videos[0]
client.files.download(file=video.video)
video.video.save("film.mp4")
print(operation.name)
""",
        environment,
        tmp_path,
    )
    assert said.startswith(f"models/{MODEL}/operations/")
    assert (tmp_path / "film.mp4").read_bytes()[4:8] == b"ftyp"


def test_it_makes_a_film_longer_twice(environment: dict[str, str], tmp_path: Path) -> None:
    """Once with what the operation says of the film, once after it was downloaded."""
    run(
        """
first = filmed("a rose opens", duration_seconds=4, resolution="720p").response.generated_videos[0]
longer = filmed("and on", video=first.video, number_of_videos=1, resolution="720p").response.generated_videos[0]
client.files.download(file=longer.video)
longest = filmed("and on", video=longer.video, duration_seconds=8).response.generated_videos[0]
client.files.download(file=longest.video)
longest.video.save("film.mp4")
for video in (types.Video.from_file(location="film.mp4"), types.Video(uri="https://elsewhere/film.mp4")):
    try:
        filmed("and on", video=video)
        raise SystemExit("it took that")
    except genai.errors.ClientError as error:
        assert error.status == "INVALID_ARGUMENT", error
""",
        environment,
        tmp_path,
    )
    picture = open_clip(tmp_path / "film.mp4").picture
    assert picture
    assert (picture.size, picture.frames) == (Size(1280, 720), (4 + 7 + 7) * 24)


def test_it_reads_what_went_wrong(environment: dict[str, str], tmp_path: Path) -> None:
    said = run(
        """
response = filmed("a rose [moderated later]", duration_seconds=4).response
print(response.generated_videos, response.rai_media_filtered_count, len(response.rai_media_filtered_reasons))
print(filmed("a rose [fails]", duration_seconds=4).error["code"])
for prompt, seconds in (("a rose [moderated]", 4), ("a rose", 5)):
    try:
        filmed(prompt, duration_seconds=seconds)
    except genai.errors.ClientError as error:
        print(error.code, error.status)
""",
        environment,
        tmp_path,
    )
    assert said.splitlines() == ["None 1 1", "13", "400 INVALID_ARGUMENT", "400 INVALID_ARGUMENT"]
