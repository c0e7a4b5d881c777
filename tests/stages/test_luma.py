"""Luma's two APIs as our clients meet them: over real HTTP, at the simulator, in a process of its own."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from forks import serving

import presets
from stages.clip import Size
from stages.errors import InputError, Later, ProviderRefused, ProviderUnavailable
from stages.ffmpeg import run_ffmpeg
from stages.http import ask
from stages.media import open_clip
from stages.providers import Footage, Provider, VideoJob, VideoRequest
from stages.providers.luma import (
    AGENTS,
    DREAMS,
    FOOTAGE,
    PAGE,
    PROMPT,
    DreamMachine,
    Luma,
    anchors,
    decoded,
    dreamt,
    edited,
    ordered,
)

ROOT = Path(__file__).resolve().parents[2]
WISH = VideoRequest("a rose opens", "ray-3.2", Size(1280, 720), 5)
DREAM = VideoRequest("a rose opens", "ray-2", Size(1280, 720), 5)
NOWHERE = "http://127.0.0.1:9/v1"


@contextlib.contextmanager
def simulator(state: Path, *options: str) -> Iterator[str]:
    """The simulator's address without a path. It is killed in the end, not asked to stop."""
    with serving("stages.simulators.luma", "--state", state, *options) as url:
        yield url.removesuffix("/v1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("luma")


@pytest.fixture(scope="module")
def quick(folder: Path) -> Iterator[str]:
    """A simulator that films at once, with plain films."""
    with simulator(folder, "--no-film", "--latency", "0") as url:
        yield url


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUMA_AGENTS_API_KEY", "luma-api-secret")
    monkeypatch.setenv("LUMAAI_API_KEY", "luma-secret")


@pytest.fixture
def agents(quick: str) -> Luma:
    return Luma(f"{quick}/v1")


@pytest.fixture
def machine(quick: str) -> DreamMachine:
    return DreamMachine(f"{quick}/dream-machine/v1")


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    run_ffmpeg(["-i", str(ROOT / "fixtures" / "photo.jpg"), "-vf", "scale=720:1280", "-frames:v", "1", str(path)])
    return path


def over(provider: Provider, job_id: str, seconds: float = 20) -> VideoJob:
    """The job, once it is neither queued nor running."""
    end = time.monotonic() + seconds
    while (job := provider.check(job_id)).state in ("queued", "running"):
        assert time.monotonic() < end, job
        time.sleep(0.02)
    return job


def filmed(provider: Provider, request: VideoRequest, target: Path) -> Path:
    job = over(provider, provider.submit(request, "key").id)
    assert (job.state, job.failure) == ("done", "")
    provider.download(job.id, target)
    return target


# ---------------------------------------------------------------- buying


def test_they_are_providers(agents: Luma, machine: DreamMachine) -> None:
    both: list[Provider] = [agents, machine]
    assert [(each.name, each.idempotent, each.can_list) for each in both] == [
        ("luma", False, False),
        ("luma_dream_machine", False, True),
    ]
    with pytest.raises(ProviderUnavailable, match="no list"):
        agents.find(0)


def test_a_film_is_bought_at_agents(agents: Luma, folder: Path, tmp_path: Path, photo: Path) -> None:
    request = VideoRequest("a rose", "ray-3.2", Size(720, 1280), 10, photo, last_frame=photo)
    job = agents.submit(request, "key")
    assert (job.seconds, job.size, job.model, job.prompt) == (10, request.size, "ray-3.2", "a rose")
    assert abs((job.created_at or 0) - time.time()) < 30
    assert over(agents, job.id).state == "done"
    agents.download(job.id, tmp_path / "film.mp4")
    clip = open_clip(tmp_path / "film.mp4")
    assert clip.picture
    assert clip.sound is None  # Ray makes no sound
    assert (clip.picture.size, clip.picture.frames) == (request.size, 240)
    sales = [json.loads(line)["id"] for line in (folder / "sales.jsonl").read_text().splitlines()]
    assert f"video_{job.id.replace('-', '')}" in sales


def test_a_loop_is_bought_at_dream_machine_and_listed(machine: DreamMachine, tmp_path: Path) -> None:
    """The answer may be lost: what was asked is in the list."""
    began = time.time() - 5
    request = replace(DREAM, prompt=f"a rose {tmp_path.name}", loop=True, size=Size(540, 960), seconds=9)
    job = machine.submit(request, "key")
    film = filmed(machine, request, tmp_path / "film.mp4")
    clip = open_clip(film)
    assert clip.picture
    assert (clip.picture.size, clip.picture.frames) == (Size(540, 960), 216)
    alike = [each for each in machine.find(began) if each.prompt == request.prompt]
    assert len(alike) == 2
    assert alike[-1].id == job.id
    assert {(each.seconds, each.size, each.model) for each in alike} == {(9, Size(540, 960), "ray-2")}
    assert machine.find(time.time() + 60) == []
    asked = ask(machine.service, "GET", f"generations/{job.id}").data()["request"]
    assert (asked["loop"], asked["duration"], asked["resolution"]) == (True, "9s", "540p")
    machine.delete(job.id)
    assert machine.check(job.id).state == "gone"
    assert job.id not in [each.id for each in machine.find(0)]


def test_a_long_list_is_read_to_its_end(machine: DreamMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [machine.submit(DREAM, "key").id for _ in range(5)]
    monkeypatch.setattr("stages.providers.luma.PAGE", 2)
    assert PAGE > 2
    found = [job.id for job in machine.find(0)]
    assert [job_id for job_id in found if job_id in ids] == ids[::-1]
    monkeypatch.setattr("stages.providers.luma.PAGES", 1)
    with pytest.raises(ProviderUnavailable, match="does not end"):
        machine.find(0)


@pytest.mark.parametrize(("shapes", "of"), [(AGENTS, "agents"), (DREAMS, "machine")])
def test_every_frame_has_a_name_and_back(shapes: Any, of: str, request: pytest.FixtureRequest) -> None:
    """The simulator reckons pixels from names by itself: it says no to none, and films each as it was asked."""
    provider: Provider = request.getfixturevalue(of)
    model = "ray-3.2" if of == "agents" else "ray-2"
    for shape in shapes.shapes.split():
        for resolution in shapes.lines:
            size = shapes.size(shape, resolution)
            assert size.deliverable
            assert shapes.named(size) == (shape, resolution)
        provider.submit(VideoRequest("a rose [slow]", model, shapes.size(shape, "540p"), 5), "key")
    assert shapes.size("16:9", "720p") == Size(1280, 720)
    assert shapes.size("2:1", "720p") is None
    assert shapes.size("16:9", "8k") is None


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LUMA_AGENTS_BASE_URL", "LUMA_BASE_URL", "LUMAAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    assert Luma().base_url == "https://agents.lumalabs.ai/v1"
    assert DreamMachine().account == "api.lumalabs.ai"
    monkeypatch.setenv("LUMA_BASE_URL", "http://one/v1")  # the SDK's own name for it
    assert Luma(typical=9).account == "one"
    monkeypatch.setenv("LUMA_AGENTS_BASE_URL", "http://two/v1")
    monkeypatch.setenv("LUMAAI_BASE_URL", "http://three/dream-machine/v1")
    assert (Luma().account, DreamMachine(typical=9).account, DreamMachine(typical=9).typical) == ("two", "three", 9)
    monkeypatch.delenv("LUMA_AGENTS_API_KEY")
    with pytest.raises(ProviderRefused, match="set LUMA_AGENTS_API_KEY"):
        Luma().check("1")


# ---------------------------------------------------------------- what is said, and what cannot be


def test_first_and_last_frames_are_anchors(photo: Path) -> None:
    both = replace(WISH, reference=photo, last_frame=photo)
    assert set(anchors(both)) == {"start_frame", "end_frame"}
    assert anchors(both)["start_frame"]["media_type"] == "image/png"
    assert set(anchors(replace(WISH, last_frame=photo))) == {"end_frame"}
    assert anchors(replace(both, seconds=10))["keyframe_indexes"] == [0, 240]
    assert anchors(replace(WISH, seconds=10, reference=photo))["keyframe_indexes"] == [0]
    assert anchors(replace(WISH, seconds=10)) == anchors(WISH) == {}


def test_options_are_in_the_api_s_own_words() -> None:
    assert ordered(replace(WISH, options=(("user_id", "7"),)))["user_id"] == "7"
    options = (("concepts", "dolly_zoom, handheld"), ("frame0", "https://a/b.png"))
    body = dreamt(replace(DREAM, options=options))
    assert body["concepts"] == [{"key": "dolly_zoom"}, {"key": "handheld"}]
    assert body["keyframes"] == {"frame0": {"type": "image", "url": "https://a/b.png"}}


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"seed": 7}, "seed"),
        ({"negative": "rain"}, "negative"),
        ({"size": Size(1024, 576)}, "size"),
        ({"seconds": 8}, "seconds"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 6001}, "prompt"),
        ({"loop": True, "seconds": 10}, "loop"),
        ({"loop": True, "last_frame": Path("b.png")}, "loop"),
        ({"options": (("hdr", "true"),)}, "options"),
        ({"reference": Path("moving.gif")}, "reference"),
        ({"reference": Path("gone.png")}, ""),
    ],
)
def test_what_agents_cannot_say_is_refused_before_anything_is_sent(change: dict[str, Any], parameter: str) -> None:
    with pytest.raises(InputError) as raised:
        Luma(NOWHERE).submit(replace(WISH, **change), "key")
    assert raised.value.parameter == parameter


def test_a_long_film_has_no_last_frame_alone(photo: Path) -> None:
    with pytest.raises(InputError, match="only from a first one"):
        Luma(NOWHERE).submit(replace(WISH, seconds=10, last_frame=photo), "key")


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"seed": 7}, "seed"),
        ({"negative": "rain"}, "negative"),
        ({"size": Size(640, 360)}, "size"),
        ({"seconds": 10}, "seconds"),
        ({"reference": Path("a.png")}, "reference"),
        ({"last_frame": Path("a.png")}, "last_frame"),
        ({"options": (("user_id", "7"),)}, "options"),
    ],
)
def test_what_dream_machine_cannot_say_is_refused_too(change: dict[str, Any], parameter: str) -> None:
    with pytest.raises(InputError) as raised:
        DreamMachine(NOWHERE).submit(replace(DREAM, **change), "key")
    assert raised.value.parameter == parameter


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("words", "state", "failure", "code"),
    [
        ("[moderated]", "failed", "moderation_input", "content_moderated"),
        ("[moderated later]", "failed", "moderation_input", "content_moderated"),
        ("[fails]", "failed", "transient", "generation_failed"),
        ("[fails budget_exhausted]", "failed", "quota", "budget_exhausted"),
        ("[fails corrupt_input]", "failed", "invalid_request", "corrupt_input"),
        ("[fails rate_limited]", "failed", "transient", "rate_limited"),
        ("[fails something_new]", "failed", "transient", "something_new"),
        ("[lost]", "gone", "lost", "404"),
    ],
)
def test_trouble_is_told_by_its_kind(agents: Luma, words: str, state: str, failure: str, code: str) -> None:
    job = over(agents, agents.submit(replace(WISH, prompt=f"a rose {words}"), "key").id)
    billed = False if state == "failed" else None
    assert (job.state, job.failure, job.code, job.billed) == (state, failure, code, billed)
    assert bool(job.text) == (state == "failed")


@pytest.mark.parametrize(("words", "failure"), [("[moderated]", "moderation_input"), ("[fails]", "transient")])
def test_dream_machine_has_only_words_for_it(machine: DreamMachine, words: str, failure: str) -> None:
    job = over(machine, machine.submit(replace(DREAM, prompt=words), "key").id)
    assert (job.state, job.failure, job.code) == ("failed", failure, "")
    assert job.text


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"state": "dreaming"}, ("running", None, None, 0)),
        ({"state": "processing", "created_at": "2026-11-22T10:00:00Z"}, ("running", 1795341600.0, None, 0)),
        ({"state": "pondering", "created_at": "today", "request": "none"}, ("running", None, None, 0)),
        ({}, ("running", None, None, 0)),
        (
            {"request": {"duration": "9s", "aspect_ratio": "21:9", "resolution": "4k"}},
            ("running", None, Size(5040, 2160), 9),
        ),
        ({"request": {"duration": "long", "aspect_ratio": "2:1"}}, ("running", None, None, 0)),
    ],
)
def test_decoding_is_loose(data: dict[str, Any], expected: tuple[Any, ...]) -> None:
    job = decoded(data, DREAMS, "1")
    assert (job.id, job.state, job.created_at, job.size, job.seconds) == ("1", *expected)


@pytest.mark.parametrize("of", ["agents", "machine"])
def test_an_empty_account_and_a_busy_one(of: str, request: pytest.FixtureRequest) -> None:
    provider: Provider = request.getfixturevalue(of)
    wish = WISH if of == "agents" else DREAM
    with pytest.raises(ProviderRefused, match="money is used up") as raised:
        provider.submit(replace(wish, prompt="[broke]"), "key")
    assert (raised.value.failure, raised.value.code) == ("quota", "402")
    with pytest.raises(Later) as later:
        provider.submit(replace(wish, prompt="[busy]"), "key")
    assert later.value.seconds == 7
    with pytest.raises(ProviderRefused) as raised:
        provider.submit(replace(wish, model="ray-9"), "key")
    assert raised.value.failure == "invalid_request"


# ---------------------------------------------------------------- fetching


@pytest.mark.parametrize("of", ["agents", "machine"])
def test_links_expire(of: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    provider: Provider = request.getfixturevalue(of)
    wish = WISH if of == "agents" else DREAM
    film = filmed(provider, replace(wish, prompt="a rose [expires]"), tmp_path / "film.mp4")
    assert film.read_bytes()[4:8] == b"ftyp"
    job = over(provider, provider.submit(replace(wish, prompt="a rose [expired]"), "key").id)
    with pytest.raises(ProviderRefused, match="no longer") as raised:
        provider.download(job.id, tmp_path / "film.mp4")
    assert raised.value.failure == "expired"
    with pytest.raises(ProviderRefused, match="does not know"):
        provider.download("00000000-0000-4000-8000-000000000000", tmp_path / "film.mp4")
    slow = provider.submit(replace(wish, prompt="a rose [slow]"), "key")
    with pytest.raises(ProviderUnavailable, match="no film"):
        provider.download(slow.id, tmp_path / "film.mp4")


# ---------------------------------------------------------------- how the simulator speaks


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 201),
        ({"seed": 7}, 400),
        ({"prompt": ""}, 400),
        ({"type": "image"}, 400),
        ({"aspect_ratio": "2:1"}, 400),
        ({"image_ref": []}, 400),
        ({"video": {"duration": "9s"}}, 400),
        ({"video": {"audio": True}}, 400),
        ({"video": {"duration": "10s", "loop": True}}, 422),
        ({"video": {"keyframes": [], "keyframe_indexes": [1]}}, 422),
        ({"video": {"start_frame": {"url": "https://a/b.png"}}}, 422),
        ({"video": {"start_frame": {"data": "no base64", "media_type": "image/png"}}}, 422),
        ({"video": {"start_frame": "https://a/b.png"}}, 400),
    ],
)
def test_what_the_real_one_refuses_is_refused(quick: str, change: dict[str, Any], status: int) -> None:
    body = {"model": "ray-3.2", "type": "video", "prompt": "a rose [slow]", **change}
    headers = {"Authorization": "Bearer luma-api-1", "X-Request-Id": "mine"}
    answer = httpx.post(f"{quick}/v1/generations", headers=headers, json=body)
    assert answer.status_code == status
    assert (answer.headers["x-request-id"], answer.headers["x-api-version"]) == ("mine", "2026-04-01")
    assert ("detail" in answer.json()) == (status >= 400)
    assert httpx.post(f"{quick}/v1/generations", json=body).status_code == 401


@pytest.mark.parametrize(
    "change",
    [
        {"model": "ray-1-6"},
        {"seed": 7},
        {"duration": "10s"},
        {"resolution": "360p"},
        {"loop": "yes"},
        {"prompt": ""},
        {"keyframes": {"frame2": {}}},
        {"keyframes": {"frame0": {"type": "image", "url": "data:image/png;base64,AA=="}}},
    ],
)
def test_dream_machine_refuses_too(quick: str, change: dict[str, Any]) -> None:
    body = {"model": "ray-2", "prompt": "a rose", **change}
    headers = {"Authorization": "Bearer luma-1"}
    answer = httpx.post(f"{quick}/dream-machine/v1/generations/video", headers=headers, json=body)
    assert (answer.status_code, "detail" in answer.json()) == (400, True)


# ---------------------------------------------------------------- presets


SHEETS = [presets.read("models", name) for name in presets.names("models") if name.startswith("luma-")]


@pytest.mark.parametrize("name", [sheet.name for sheet in SHEETS if not sheet.get("works")])
def test_what_the_presets_sell_can_be_said(name: str, photo: Path) -> None:
    """All sizes and lengths, and what they promise besides."""
    sheet = presets.read("models", name)
    say = ordered if sheet.facts["provider"] == "luma" else dreamt
    reference = photo if sheet["reference"] else None
    assert sheet["audio"] == "never"
    for size in sheet["sizes"]:
        assert float(sheet[f"price.{size}"]) > 0
        for seconds in sheet["seconds"]:
            request = VideoRequest("a rose", sheet["model"], Size.parse(size), seconds, reference, loop=sheet["loop"])
            assert say(request)
            assert anchors(request) if reference else True


def test_what_a_preset_films_anew_can_be_said() -> None:
    (sheet,) = (sheet for sheet in SHEETS if sheet.get("works"))
    assert (sheet["works"], sheet["prompt_limit"], sheet["source_limit"]) == (["remix"], PROMPT, FOOTAGE)
    for size in sheet["sizes"]:
        assert float(sheet[f"price.{size}"]) > 0
        film = Footage(Path("film.mp4"), "a job")
        edited(VideoRequest("at night", sheet["model"], Size.parse(size), 5, work="remix", footage=film))


@pytest.mark.parametrize(
    ("camera", "keys"),
    [
        ("slow orbit left around the vase", ["orbit_left"]),
        ("handheld, over-the-shoulder", ["handheld", "over_the_shoulder"]),
        ("dolly zoom", ["dolly_zoom"]),
        ("a statically charged panorama", []),
        ("", []),
    ],
)
def test_what_the_camera_does_is_said_in_dream_machines_own_parameters(camera: str, keys: list[str]) -> None:
    body = dreamt(replace(DREAM, camera=camera))
    assert [each["key"] for each in body.get("concepts", [])] == keys
    assert body["prompt"] == DREAM.prompt
