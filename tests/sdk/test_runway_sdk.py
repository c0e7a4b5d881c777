"""Runway's own SDK, unchanged, against our simulator; and the simulator's and our client's tables against its types."""

from __future__ import annotations

import typing
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import runwayml
from forks import serving
from runwayml.lib import polling
from runwayml.types import (
    ImageToVideoCreateParams,
    TextToVideoCreateParams,
    VideoToVideoCreateParams,
    VideoUpscaleCreateParams,
)

from stages.clip import Size
from stages.ffmpeg import run_ffmpeg
from stages.media import open_clip
from stages.providers import Footage, VideoRequest
from stages.providers.runway import MODELS, STATES, TREATMENTS, Runway, ordered, treated
from stages.simulators.runway import ENDPOINTS, FRAME, IMAGE_TO_VIDEO, TEXT_TO_VIDEO, Schema

ROOT = Path(__file__).resolve().parents[2]
PNG = (ROOT / "fixtures" / "photo.jpg").read_bytes()
PARAMS = {
    "image_to_video": ImageToVideoCreateParams,
    "text_to_video": TextToVideoCreateParams,
    "video_to_video": VideoToVideoCreateParams,
    "video_upscale": VideoUpscaleCreateParams,
}
PLAYED = [
    (endpoint, model)
    for endpoint, played in (("image_to_video", IMAGE_TO_VIDEO), ("text_to_video", TEXT_TO_VIDEO))
    for model in played
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    state = tmp_path_factory.mktemp("runway")
    with serving("stages.simulators.runway", "--state", state, "--no-film", "--latency", "0") as url:
        yield url


@pytest.fixture
def client(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[runwayml.RunwayML]:
    """As its users make it: everything comes from the environment."""
    monkeypatch.setenv("RUNWAYML_BASE_URL", url)
    monkeypatch.setenv("RUNWAYML_API_SECRET", "key_test")
    with runwayml.RunwayML(max_retries=0) as client:
        yield client


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that are 6 s apart in the SDK, closer. With its own pace it was tried by hand: the same."""
    monkeypatch.setattr(polling, "POLL_TIME", 0.1)
    monkeypatch.setattr(polling, "POLL_JITTER", 0.0)


# ---------------------------------------------------------------- create, poll, download


@pytest.mark.usefixtures("quick")
def test_words_become_a_film(client: runwayml.RunwayML) -> None:
    created = client.text_to_video.create(model="veo3.1_fast", prompt_text="a rose", ratio="1280:720", duration=4)
    task = created.wait_for_task_output(timeout=120)
    assert task.status == "SUCCEEDED"
    assert task.cost.credits == 60
    film = httpx.get(task.output[0])
    assert (film.status_code, film.content[4:8]) == (200, b"ftyp")


@pytest.mark.usefixtures("quick")
def test_a_picture_becomes_a_film(client: runwayml.RunwayML) -> None:
    """Uploaded by the SDK, which then knows it by another address."""
    uploaded = client.uploads.create_ephemeral(file=("photo.jpg", PNG, "image/jpeg"))
    assert uploaded.uri.startswith("runway://")
    created = client.image_to_video.create(
        model="gen4.5",
        prompt_image=[{"uri": uploaded.uri, "position": "first"}],
        prompt_text="a rose",
        ratio="960:960",
        duration=2,
        seed=7,
        content_moderation={"public_figure_threshold": "low"},
    )
    assert created.wait_for_task_output(timeout=120).status == "SUCCEEDED"


@pytest.mark.usefixtures("quick")
@pytest.mark.usefixtures("quick")
def test_a_film_is_filmed_anew_and_made_larger(client: runwayml.RunwayML, tmp_path: Path) -> None:
    """As it comes, and uploaded."""
    created = client.text_to_video.create(model="veo3.1", prompt_text="a rose", ratio="1280:720", duration=4)
    film = fetched(created)
    inline = f"data:video/mp4;base64,{b64encode(film).decode()}"
    remixed: Any = client.video_to_video.create(model="aleph2", video_uri=inline, prompt_text="at night", seed=7)
    assert remixed.estimated_cost.credits == 4 * 28
    (tmp_path / "film.mp4").write_bytes(film)
    uploaded = client.uploads.create_ephemeral(file=tmp_path / "film.mp4").uri
    larger: Any = client.video_upscale.create(
        model="magnific_video_upscaler_creative", video_uri=uploaded, resolution="1k", creativity=20, flavor="natural"
    )
    assert larger.estimated_cost.credits == 68  # of 96 frames at 0.7
    for task, size in ((remixed, Size(1280, 720)), (larger, Size(1920, 1080))):
        (tmp_path / "found.mp4").write_bytes(fetched(task))
        clip = open_clip(tmp_path / "found.mp4")
        assert clip.picture
        assert (clip.picture.size, clip.picture.frames) == (size, 96)
        assert (clip.sound is None) == (task is remixed)
    with pytest.raises(runwayml.BadRequestError, match="videoUri"):
        client.video_to_video.create(model="aleph2", video_uri="https://example.com/film.mp4", prompt_text="at night")


def fetched(created: Any) -> bytes:
    """The film of a task, once it is done."""
    return httpx.get(created.wait_for_task_output(timeout=120).output[0]).content


def long_film(target: Path, seconds: int, rate: int = 24, size: str = "160x90") -> str:
    source = f"color=s={size}:r={rate}:d={seconds}"
    run_ffmpeg(["-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "ultrafast", str(target)])
    return f"data:video/mp4;base64,{b64encode(target.read_bytes()).decode()}"


@pytest.mark.parametrize(
    ("seconds", "rate", "size", "words"),
    [
        (31, 5, "160x90", "Asset duration must be at most 30 seconds"),
        (1, 24, "160x90", "Asset duration must be at least 2 seconds"),
        (3, 60, "160x90", "30 fps or less"),
        (3, 5, "2560x1440", "1080p or less"),
    ],
)
def test_films_have_limits(
    client: runwayml.RunwayML, tmp_path: Path, seconds: int, rate: int, size: str, words: str
) -> None:
    """The first was captured from the real one on 2026-08-26; the words of the others are ours."""
    film = long_film(tmp_path / "film.mp4", seconds, rate, size)
    with pytest.raises(runwayml.BadRequestError, match="Validation of body failed") as raised:
        client.video_to_video.create(model="aleph2", video_uri=film, prompt_text="at night")
    issues: Any = raised.value.body
    assert words in issues["issues"][0]["message"]
    assert issues["issues"][0]["path"] == ["videoUri"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("[moderated]", "SAFETY.INPUT.TEXT"),
        ("[moderated later]", "SAFETY.OUTPUT.VIDEO"),
        ("[fails]", "INTERNAL.BAD_OUTPUT.CODE01"),
        ("[fails ASSET.INVALID]", "ASSET.INVALID"),
    ],
)
def test_failures_are_the_sdk_s_own(client: runwayml.RunwayML, words: str, code: str) -> None:
    created = client.text_to_video.create(model="veo3.1", prompt_text=f"a rose {words}", ratio="1280:720", duration=4)
    with pytest.raises(runwayml.TaskFailedError) as raised:
        created.wait_for_task_output(timeout=120)
    details = raised.value.task_details
    assert details.status == "FAILED"
    assert (details.failure_code, bool(details.failure)) == (code, True)


@pytest.mark.usefixtures("quick")
def test_states_are_read_as_their_own_types(client: runwayml.RunwayML) -> None:
    """CANCELLED too, of which the synchronous SDK never takes notice."""
    created = client.text_to_video.create(model="veo3.1", prompt_text="a [slow] rose", ratio="1280:720", duration=4)
    with pytest.raises(runwayml.TaskTimeoutError):
        created.wait_for_task_output(timeout=0.5)
    task = client.tasks.retrieve(created.id)
    assert task.status == "RUNNING"
    assert (task.progress, task.estimated_cost.credits) == (0.99, 160)
    client.tasks.delete(created.id)
    with pytest.raises(runwayml.NotFoundError, match="Could not find Task"):
        client.tasks.retrieve(created.id)
    gone = client.text_to_video.create(model="veo3.1", prompt_text="[cancelled]", ratio="1280:720", duration=4)
    with pytest.raises(runwayml.TaskTimeoutError) as raised:
        gone.wait_for_task_output(timeout=0.5)
    assert raised.value.task_details.status == "CANCELLED"


def test_refusals_are_the_sdk_s_own(client: runwayml.RunwayML, url: str) -> None:
    wrong: Any = {"model": "veo3.1", "prompt_text": "a rose", "ratio": "16:9", "duration": 4}
    with pytest.raises(runwayml.BadRequestError, match="Validation of body failed"):
        client.text_to_video.create(**wrong)
    right: Any = wrong | {"ratio": "1280:720"}
    with pytest.raises(runwayml.BadRequestError, match="loop"):
        client.text_to_video.create(**right, extra_body={"loop": True})
    with pytest.raises(runwayml.BadRequestError, match="X-Runway-Version"):
        client.with_options(runway_version="2023-09-06").text_to_video.create(**right)
    with pytest.raises(runwayml.BadRequestError, match="enough credits"):
        client.text_to_video.create(**right | {"prompt_text": "[broke]"})
    assert client.organization.retrieve().credit_balance > 0


def test_an_expired_link_is_renewed_by_another_look(client: runwayml.RunwayML) -> None:
    created = client.text_to_video.create(model="veo3.1", prompt_text="[expires]", ratio="1280:720", duration=4)
    statuses: list[int] = []
    while len(statuses) < 2:
        task = client.tasks.retrieve(created.id)
        if task.status == "SUCCEEDED":
            statuses.append(httpx.get(task.output[0]).status_code)
    assert statuses == [403, 200]


def test_a_task_of_ours_is_the_sdk_s_too(client: runwayml.RunwayML, url: str) -> None:
    job = Runway(url).submit(VideoRequest("a rose", "veo3.1", Size(1280, 720), 4), "key")
    assert client.tasks.retrieve(job.id).id == job.id


# ---------------------------------------------------------------- the types


def typed(endpoint: str, model: str) -> dict[str, Any]:
    """The SDK's type of one model's body: each field's name on the wire, and its type as it stands."""
    for variant in typing.get_args(PARAMS[endpoint]):
        hints = typing.get_type_hints(variant, include_extras=True)
        if values(hints["model"]) == {model}:
            return {alias(name, hint): hint for name, hint in hints.items()}
    raise AssertionError(f"{model} is not sold at {endpoint}")


def alias(name: str, hint: Any) -> str:
    for each in parts(hint):
        for extra in getattr(each, "__metadata__", ()):
            return str(extra.alias)
    return name


def parts(hint: Any) -> Iterator[Any]:
    """A type, and all that it is made of."""
    yield hint
    for inner in typing.get_args(hint):
        if not isinstance(inner, str | int):
            yield from parts(inner)


def values(hint: Any) -> set[Any]:
    """The literal values of a type."""
    return {each for inner in parts(hint) if typing.get_origin(inner) is typing.Literal for each in inner.__args__}


@pytest.mark.parametrize("model", TREATMENTS)
def test_our_tables_of_work_on_films_are_the_types(model: str) -> None:
    treatment = TREATMENTS[model]
    fields = typed(treatment.endpoint, model)
    ours = ENDPOINTS[treatment.endpoint][model]
    assert ours.fields == set(fields)
    required = {name for name, hint in fields.items() if "Required" in str(typing.get_origin(hint))}
    assert set(ours.required.split()) == required == {"model", "videoUri"}
    if treatment.resolutions:
        assert set(treatment.resolutions.values()) == values(fields["resolution"]) == set(FRAME)
    assert ("promptText" in fields) == bool(treatment.prompt)
    options = {"publicFigureThreshold": "contentModeration"}
    assert {options.get(option, option) for option in treatment.options} | set(treatment.wishes) <= set(fields)
    request = VideoRequest(
        "at night" if treatment.prompt else "",
        model,
        Size(1920, 1080),
        5,
        seed=7 if "seed" in treatment.wishes else None,
        options=tuple((option, "1") for option in treatment.options),
        work=treatment.work,
        footage=Footage(Path("film.mp4")),
    )
    where, body = treated(request)
    assert where == treatment.endpoint
    assert set(body) < set(fields)


def schema(endpoint: str, model: str) -> Schema:
    return (IMAGE_TO_VIDEO if endpoint == "image_to_video" else TEXT_TO_VIDEO)[model]


@pytest.mark.parametrize(("endpoint", "model"), PLAYED)
def test_the_simulator_takes_what_the_types_describe(endpoint: str, model: str) -> None:
    fields, ours = typed(endpoint, model), schema(endpoint, model)
    assert ours.fields == set(fields)
    required = {name for name, hint in fields.items() if "Required" in str(typing.get_origin(hint))}
    assert set(ours.required.split()) == required
    assert set(ours.ratios.split()) == values(fields["ratio"])
    if lengths := values(fields["duration"]) - {"auto"}:
        assert set(ours.seconds) == lengths


@pytest.mark.parametrize(("endpoint", "model"), PLAYED)
def test_our_client_says_only_what_the_types_describe(endpoint: str, model: str, tmp_path: Path) -> None:
    ours, fields = MODELS[model], typed(endpoint, model)
    image = tmp_path / "a.png" if endpoint == "image_to_video" else None
    sizes = ours.sizes if image else ours.sizes_of_text or ours.sizes
    assert {size.replace("x", ":") for size in sizes.split()} == values(fields["ratio"])
    options = (("publicFigureThreshold", "low"),) if ours.figures else ()
    negative = "rain" if ours.negative else ""
    size = Size.parse(sizes.split()[0])
    request = VideoRequest(
        "a rose", model, size, ours.seconds[0], image, seed=7, negative=negative, options=options, audio=False
    )
    where, body = ordered(request)
    assert where == endpoint
    assert set(body) <= set(fields)
    assert ("audio" in fields) == (ours.sound == "asked")
    assert ("negativePrompt" in fields, "seed" in fields) == (ours.negative, True)
    assert ("contentModeration" in fields) == ours.figures
    assert ours.text == (model in TEXT_TO_VIDEO)
    positions = values(fields["promptImage"]) if image else set()
    for part in parts(fields.get("promptImage")):
        if hasattr(part, "__annotations__") and isinstance(part, type):
            positions |= values(typing.get_type_hints(part, include_extras=True)["position"])
    if image:
        assert positions == ({"first", "last"} if ours.last else {"first"})


def test_every_status_has_a_meaning() -> None:
    task: Any = runwayml.types.TaskRetrieveResponse
    statuses = {
        value
        for variant in typing.get_args(typing.get_args(task)[0])
        for value in values(variant.model_fields["status"].annotation)
    }
    assert set(STATES) == statuses
