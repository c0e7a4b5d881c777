"""Luma's own SDKs, unchanged, against our simulator; and our tables against their types."""

from __future__ import annotations

import time
import typing
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import luma_agents
import lumaai
import pytest
from forks import serving
from luma_agents.types import (
    GenerationFailureCode,
    VideoDuration,
    VideoEditStrength,
    VideoResolution,
    generation_create_params,
    image_ref_param,
    video_edit_options_param,
    video_options_param,
)
from lumaai.types import GenerationUpscaleParams
from lumaai.types.generations import video_create_params, video_modify_params

from stages.clip import Size
from stages.media import open_clip
from stages.providers import Footage, VideoRequest
from stages.providers.luma import (
    AGENTS,
    DREAMS,
    FAILURES,
    MODE,
    STATES,
    WORKS,
    DreamMachine,
    Luma,
    anchors,
    dreamt,
    edited,
    enlarged,
    modified,
    ordered,
)
from stages.simulators import luma as simulator

ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT / "fixtures" / "photo.jpg"
Found = TypeVar("Found")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    state = tmp_path_factory.mktemp("luma")
    with serving("stages.simulators.luma", "--state", state, "--no-film", "--latency", "0") as url:
        yield url.removesuffix("/v1")


@pytest.fixture
def agents(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[luma_agents.Luma]:
    """As its users make it: everything comes from the environment."""
    monkeypatch.setenv("LUMA_BASE_URL", f"{url}/v1")
    monkeypatch.setenv("LUMA_AGENTS_API_KEY", "luma-api-test")
    with luma_agents.Luma(max_retries=0) as client:
        yield client


@pytest.fixture
def machine(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[lumaai.LumaAI]:
    """As its users make it: everything comes from the environment."""
    monkeypatch.setenv("LUMAAI_BASE_URL", f"{url}/dream-machine/v1")
    monkeypatch.setenv("LUMAAI_API_KEY", "luma-test")
    with lumaai.LumaAI(max_retries=0) as client:
        yield client


def until(look: Callable[[], Found], over: Callable[[Found], bool]) -> Found:
    """Look again until it is over, not for ever: neither SDK waits by itself."""
    end = time.monotonic() + 300
    while not over(found := look()):
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return found


# ---------------------------------------------------------------- Agents


def made(agents: luma_agents.Luma, prompt: str, **video: Any) -> luma_agents.types.Generation:
    options: Any = {"resolution": "540p", **video}
    generation = agents.generations.create(
        model="ray-3.2", type="video", prompt=prompt, aspect_ratio="16:9", video=options
    )
    assert generation.type == "video"
    over = ("completed", "failed")
    return until(lambda: agents.generations.get(generation.id), lambda found: found.state in over)


def test_agents_make_a_film(agents: luma_agents.Luma) -> None:
    frame = {"data": b64encode(PHOTO.read_bytes()).decode(), "media_type": "image/jpeg"}
    generation = made(agents, "a rose", duration="5s", start_frame=frame, loop=True)
    assert generation.state == "completed"
    assert generation.output
    assert generation.output[0].type == "video"
    assert (generation.failure_code, generation.failure_reason) == (None, None)
    film = httpx.get(generation.output[0].url)
    assert (film.status_code, film.content[4:8]) == (200, b"ftyp")


def test_agents_place_keyframes(agents: luma_agents.Luma) -> None:
    frame = {"data": b64encode(PHOTO.read_bytes()).decode(), "media_type": "image/jpeg"}
    generation = made(agents, "a rose", duration="10s", keyframes=[frame, frame], keyframe_indexes=[0, 240])
    assert generation.state == "completed"


def test_agents_film_a_film_anew(agents: luma_agents.Luma, tmp_path: Path) -> None:
    """By its generation, and as it comes."""
    first = made(agents, "a rose", duration="5s")
    assert first.output
    film = httpx.get(str(first.output[0].url)).content
    sources: list[Any] = [
        {"generation_id": first.id},
        {"data": b64encode(film).decode(), "media_type": "video/mp4"},
    ]
    edits: list[Any] = [{"auto_controls": True}, {"strength": "flex_2"}]
    for source, edit in zip(sources, edits, strict=True):
        generation = agents.generations.create(
            model="ray-3.2",
            type="video_edit",
            prompt="at night",
            source=source,
            video={"resolution": "720p", "edit": edit},
        )
        job_id = generation.id
        done = until(lambda job_id=job_id: agents.generations.get(job_id), lambda each: each.state == "completed")  # type: ignore[misc]
        assert (generation.type, done.type) == ("video_edit", "video_edit")
        assert done.output
        (tmp_path / "film.mp4").write_bytes(httpx.get(str(done.output[0].url)).content)
        picture = open_clip(tmp_path / "film.mp4").picture
        assert picture
        assert (picture.size, picture.frames) == (Size(1280, 720), 120)
    with pytest.raises(luma_agents.UnprocessableEntityError, match="auto_controls"):
        agents.generations.create(
            model="ray-3.2",
            type="video_edit",
            prompt="at night",
            source=sources[0],
            video={"edit": {"auto_controls": True, "strength": "flex_2"}},
        )
    with pytest.raises(luma_agents.NotFoundError):
        agents.generations.create(
            model="ray-3.2", type="video_edit", prompt="x", source={"generation_id": str(uuid.uuid4())}
        )


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("[moderated]", "content_moderated"),
        ("[moderated later]", "content_moderated"),
        ("[fails]", "generation_failed"),
        ("[fails unsupported_format]", "unsupported_format"),
    ],
)
def test_agents_fail_as_the_sdk_has_it(agents: luma_agents.Luma, words: str, code: str) -> None:
    generation = made(agents, f"a rose {words}")
    assert (generation.state, generation.failure_code) == ("failed", code)
    assert generation.failure_reason


def test_agents_links_expire(agents: luma_agents.Luma) -> None:
    statuses: list[int] = []
    generation = made(agents, "a rose [expires]")
    for _ in range(2):
        assert generation.output
        statuses.append(httpx.get(generation.output[0].url).status_code)
        generation = agents.generations.get(generation.id)
    assert statuses == [403, 200]


def test_agents_refuse_as_the_sdk_has_it(agents: luma_agents.Luma) -> None:
    def create(prompt: str = "a rose", **more: Any) -> None:
        agents.generations.create(model="ray-3.2", type="video", prompt=prompt, **more)

    with pytest.raises(luma_agents.BadRequestError, match="Unknown field: seed"):
        create(extra_body={"seed": 7})
    with pytest.raises(luma_agents.UnprocessableEntityError, match="10s"):
        create(video={"duration": "10s", "loop": True})
    with pytest.raises(luma_agents.APIStatusError, match="Insufficient") as raised:
        create("[broke]")
    assert raised.value.status_code == 402
    with pytest.raises(luma_agents.RateLimitError):
        create("[busy]")
    with pytest.raises(luma_agents.NotFoundError):
        agents.generations.get("00000000-0000-4000-8000-000000000000")
    raw = agents.generations.with_raw_response.create(
        model="ray-3.2", type="video", prompt="a rose", extra_headers={"X-Request-Id": "mine"}
    )
    assert (raw.headers["X-API-Version"], raw.headers["X-Request-Id"]) == ("2026-04-01", "mine")


# ---------------------------------------------------------------- Dream Machine


def dreamed(machine: lumaai.LumaAI, prompt: str) -> lumaai.types.Generation:
    generation = machine.generations.create(model="ray-2", prompt=prompt, resolution="540p", duration="5s", loop=True)
    assert generation.id
    job_id = generation.id
    over = ("completed", "failed")
    return until(lambda: machine.generations.get(job_id), lambda found: found.state in over)


def test_dream_machine_makes_a_loop(machine: lumaai.LumaAI) -> None:
    assert machine.ping.check().message == "pong"
    assert (machine.credits.get().credit_balance or 0) > 0
    generation = dreamed(machine, "a rose")
    assert generation.assets
    assert generation.assets.video
    assert generation.created_at
    asked: Any = generation.request
    assert (asked.loop, asked.model, generation.generation_type) == (True, "ray-2", "video")
    film = httpx.get(generation.assets.video)
    assert (film.status_code, film.content[4:8]) == (200, b"ftyp")


def test_dream_machine_films_anew_and_makes_larger(machine: lumaai.LumaAI, tmp_path: Path) -> None:
    first = dreamed(machine, "a rose")
    assert first.id
    assert first.assets
    modified = machine.generations.video.modify(
        generation_type="modify_video",
        model="ray-2",
        mode="flex_2",
        prompt="at night",
        media={"url": str(first.assets.video)},
    )
    larger = machine.generations.upscale(first.id, resolution="1080p", generation_type="upscale_video")
    assert len({first.id, modified.id, larger.id}) == 3
    for generation, size in ((modified, Size(960, 540)), (larger, Size(1920, 1080))):
        job_id = str(generation.id)
        done = until(lambda job_id=job_id: machine.generations.get(job_id), lambda each: each.state == "completed")  # type: ignore[misc]
        assert done.assets
        (tmp_path / "film.mp4").write_bytes(httpx.get(str(done.assets.video)).content)
        picture = open_clip(tmp_path / "film.mp4").picture
        assert picture
        assert (picture.size, picture.frames) == (size, 120)
    asked: Any = machine.generations.get(str(larger.id)).request
    assert (asked.generation_type, asked.resolution) == ("upscale_video", "1080p")
    listed = {each.id for each in machine.generations.list(limit=10).generations}
    assert {first.id, modified.id, larger.id} <= listed
    wrong: Any = "brave"
    with pytest.raises(lumaai.BadRequestError, match="mode"):
        machine.generations.video.modify(
            generation_type="modify_video", model="ray-2", mode=wrong, media={"url": "https://a/b.mp4"}
        )
    with pytest.raises(lumaai.NotFoundError):
        machine.generations.upscale(str(uuid.uuid4()), resolution="1080p")


def test_dream_machine_lists_and_deletes(machine: lumaai.LumaAI) -> None:
    ids = [
        machine.generations.video.create(
            model="ray-flash-2",
            prompt="a rose [slow]",
            keyframes={"frame0": {"type": "image", "url": "https://example.com/a.png"}},
            concepts=[{"key": "dolly_zoom"}],
        ).id
        for _ in range(3)
    ]
    page = machine.generations.list(limit=2)
    assert [each.id for each in page.generations] == ids[:0:-1]
    assert (page.has_more, page.count, page.limit, page.offset) == (True, 2, 2, 0)
    assert machine.generations.list(limit=1, offset=2).generations[0].id == ids[0]
    assert ids[0]
    machine.generations.delete(ids[0])
    with pytest.raises(lumaai.NotFoundError):
        machine.generations.get(ids[0])


def test_dream_machine_fails_and_refuses_as_the_sdk_has_it(machine: lumaai.LumaAI) -> None:
    for words in ("[moderated]", "[fails]"):
        generation = dreamed(machine, words)
        assert generation.state == "failed"
        assert generation.failure_reason
        assert generation.assets is None
    wrong: Any = "ray-1-6"
    with pytest.raises(lumaai.BadRequestError, match="ray-flash-2"):
        machine.generations.create(model=wrong, prompt="a rose")


def test_generations_of_ours_are_the_sdks_too(agents: luma_agents.Luma, machine: lumaai.LumaAI, url: str) -> None:
    """And what one API made, the other does not know."""
    first = Luma(f"{url}/v1").submit(VideoRequest("a rose", "ray-3.2", Size(960, 540), 5), "key")
    second = DreamMachine(f"{url}/dream-machine/v1").submit(VideoRequest("a rose", "ray-2", Size(960, 540), 5), "key")
    assert agents.generations.get(first.id).id == first.id
    assert machine.generations.get(second.id).id == second.id
    with pytest.raises(luma_agents.NotFoundError):
        agents.generations.get(second.id)
    with pytest.raises(lumaai.NotFoundError):
        machine.generations.get(first.id)


# ---------------------------------------------------------------- the types


def fields(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def values(hint: Any) -> set[Any]:
    """The literal values of a type."""
    if typing.get_origin(hint) is typing.Literal:
        return set(hint.__args__)
    return {value for inner in typing.get_args(hint) if not isinstance(inner, str | int) for value in values(inner)}


def test_agents_tables_are_the_types(tmp_path: Path) -> None:
    asked, video = (
        fields(generation_create_params.GenerationCreateParams),
        fields(video_options_param.VideoOptionsParam),
    )
    assert set(asked) == simulator.AGENTS_FIELDS
    assert set(video) == simulator.VIDEO_FIELDS
    assert set(fields(image_ref_param.ImageRefParam)) == simulator.IMAGE_FIELDS
    assert set(simulator.AGENTS_LINES) == set(AGENTS.lines) == values(VideoResolution)
    assert simulator.AGENTS_SHAPES == set(AGENTS.shapes.split()) < values(asked["aspect_ratio"])
    assert values(VideoDuration) == {"5s", "10s"}
    assert set(FAILURES) == values(GenerationFailureCode)
    states = values(luma_agents.types.Generation.model_fields["state"].annotation)
    assert {state: STATES[state] for state in states}
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    first, last = tmp_path / "a.png", tmp_path / "b.png"
    for seconds in (5, 10):
        request = VideoRequest("a rose", "ray-3.2", Size(1280, 720), seconds, first, last_frame=last)
        assert set(ordered(request)) <= set(asked)
        assert set(ordered(request)["video"]) | set(anchors(request)) <= set(video)


def test_tables_of_work_on_films_are_the_types() -> None:
    edit = fields(video_edit_options_param.VideoEditOptionsParam)
    assert set(edit) == simulator.EDIT_FIELDS
    assert values(VideoEditStrength) == simulator.STRENGTHS
    modify, upscale = fields(video_modify_params.VideoModifyParams), fields(GenerationUpscaleParams)
    assert set(modify) == simulator.MODIFY_FIELDS
    assert values(modify["mode"]) == simulator.STRENGTHS > {MODE}
    assert set(upscale) == simulator.UPSCALE_FIELDS
    film = Footage(Path("film.mp4"), "g")
    remix = VideoRequest("at night", "ray-3.2", Size(1280, 720), 5, work="remix", footage=film)
    assert set(edited(remix)) <= set(fields(generation_create_params.GenerationCreateParams))
    assert set(edited(remix)["video"]["edit"]) <= set(edit)
    assert set(modified(remix)) | {"media"} <= set(modify)
    path, body = enlarged(VideoRequest("", "ray-2", Size(1920, 1080), 5, work="upscale", footage=film))
    assert (path, set(body) <= set(upscale)) == ("generations/g/upscale", True)
    kinds = {"video", "modify_video", "upscale_video"}
    assert set(WORKS) == kinds
    assert values(modify["generation_type"]) | values(upscale["generation_type"]) == kinds - {"video"}


def test_dream_machine_tables_are_the_types() -> None:
    asked = fields(video_create_params.VideoCreateParams)
    assert set(asked) == simulator.DREAM_FIELDS
    assert set(simulator.DREAM_MODELS) == values(asked["model"])
    assert simulator.DREAM_SHAPES == set(DREAMS.shapes.split()) == values(asked["aspect_ratio"])
    assert set(simulator.DREAM_LINES) == set(DREAMS.lines) == values(asked["resolution"])
    assert values(asked["duration"]) == {"5s", "9s"}
    assert {state: STATES[state] for state in values(lumaai.types.Generation.model_fields["state"].annotation)}
    options = (("frame0", "https://a/b.png"), ("concepts", "handheld"))
    assert set(dreamt(VideoRequest("a rose", "ray-2", Size(1280, 720), 9, loop=True, options=options))) <= set(asked)
