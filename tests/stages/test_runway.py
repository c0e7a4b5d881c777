"""Runway as our client meets it: over real HTTP, at the simulator, in a process of its own."""

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
from stages.http import NOT_SENT
from stages.media import open_clip
from stages.provenance import read_credentials
from stages.providers import Footage, Provider, VideoJob, VideoRequest
from stages.providers.runway import IMAGES, MODELS, TREATMENTS, UPLOAD, Runway, decoded, ordered, treated
from stages.simulators import RATE

ROOT = Path(__file__).resolve().parents[2]
KEY = "key_very_secret"
WISH = VideoRequest("a rose opens", "veo3.1", Size(1280, 720), 4)


@contextlib.contextmanager
def simulator(state: Path, *options: str) -> Iterator[str]:
    """A simulator's base URL. It is killed in the end, not asked to stop."""
    with serving("stages.simulators.runway", "--state", state, *options) as url:
        yield url


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runway")


@pytest.fixture(scope="module")
def quick(folder: Path) -> Iterator[str]:
    """A simulator that films at once, with plain films."""
    with simulator(folder, "--no-film", "--latency", "0", "--concurrency", "100") as url:
        yield url


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNWAYML_API_SECRET", KEY)


@pytest.fixture
def provider(quick: str) -> Runway:
    return Runway(quick)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    cover = "scale=1280:720:force_original_aspect_ratio=increase,crop=1280:720"
    run_ffmpeg(["-i", str(ROOT / "fixtures" / "photo.jpg"), "-vf", cover, "-frames:v", "1", str(path)])
    return path


@pytest.fixture(scope="module")
def heavy(photo: Path) -> Path:
    """A picture too large for the request: what follows its end makes it so."""
    path = photo.with_name("heavy.png")
    path.write_bytes(photo.read_bytes() + bytes(4_000_000))
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


def test_it_is_a_provider(provider: Runway) -> None:
    as_one: Provider = provider
    assert (as_one.name, as_one.idempotent, as_one.can_list) == ("runway", False, False)
    with pytest.raises(ProviderUnavailable, match="no list"):
        as_one.find(0)


def test_a_film_is_bought_and_logged(provider: Runway, folder: Path, tmp_path: Path) -> None:
    job = provider.submit(WISH, "key")
    assert (job.state, job.seconds, job.size, job.model) == ("queued", 4, WISH.size, "veo3.1")
    seen = over(provider, job.id)
    assert (seen.state, seen.id) == ("done", job.id)
    assert abs((seen.created_at or 0) - time.time()) < 30
    provider.download(job.id, tmp_path / "film.mp4")
    clip = open_clip(tmp_path / "film.mp4")
    assert clip.picture
    assert clip.sound
    assert (clip.picture.size, clip.picture.frames) == (WISH.size, int(4 * RATE))
    sales = [json.loads(line) for line in (folder / "sales.jsonl").read_text().splitlines()]
    assert f"video_{job.id.replace('-', '')}" in [sale["id"] for sale in sales]


def test_a_photo_is_filmed_for_real_and_silently(photo: Path, tmp_path: Path) -> None:
    """gen4.5 makes no sound: nor does what stands for it; what it signs stays proved."""
    with simulator(tmp_path / "sim", "--latency", "0") as url:
        request = VideoRequest("pan left", "gen4.5", Size(1280, 720), 2, photo, seed=7)
        film = filmed(Runway(url), request, tmp_path / "film.mp4")
    clip = open_clip(film)
    assert clip.picture
    assert clip.sound is None
    assert (clip.picture.size, clip.picture.frames) == (Size(1280, 720), 48)
    credentials = read_credentials(film, anchors=[tmp_path / "sim" / "sim-root.pem"])
    assert (credentials.state, credentials.ai) == ("proved", True)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_asked_as_it_wants_to_be(provider: Runway, model: str, photo: Path) -> None:
    """The simulator refuses a field too many or too few, and any value the schema does not have."""
    wanted = MODELS[model]
    full = VideoRequest(
        "a rose",
        model,
        Size.parse(wanted.sizes.split()[:6][-1]),
        wanted.seconds[-1],
        photo,
        seed=7,
        last_frame=photo if wanted.last else None,
        audio=False,
        negative="rain" if wanted.negative else "",
        options=(("publicFigureThreshold", "low"),) if wanted.figures else (),
    )
    assert provider.submit(full, "key").id
    if wanted.text:
        bare = replace(full, reference=None, last_frame=None, seed=None, audio=True, negative="", options=())
        assert provider.submit(replace(bare, size=Size(720, 1280), seconds=wanted.seconds[0]), "key").id


def test_a_large_picture_is_uploaded(provider: Runway, heavy: Path, folder: Path) -> None:
    before = len(list((folder / "uploads").iterdir()))
    job = provider.submit(replace(WISH, reference=heavy, last_frame=heavy), "key")
    kept = list((folder / "uploads").iterdir())
    assert len(kept) == before + 2
    assert kept[-1].read_bytes() == heavy.read_bytes()
    assert over(provider, job.id).state == "done"


def test_an_upload_that_fails_has_bought_nothing(heavy: Path) -> None:
    with pytest.raises(ProviderUnavailable) as raised:
        Runway("http://127.0.0.1:9").submit(replace(WISH, reference=heavy), "key")
    assert raised.value.code == NOT_SENT


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNWAYML_BASE_URL", raising=False)
    assert (Runway().base_url, Runway().account) == ("https://api.dev.runwayml.com/v1", "api.dev.runwayml.com")
    monkeypatch.setenv("RUNWAYML_BASE_URL", "http://127.0.0.1:8700")
    assert (Runway(typical=9).base_url, Runway(typical=9).typical) == ("http://127.0.0.1:8700/v1", 9)
    monkeypatch.delenv("RUNWAYML_API_SECRET")
    with pytest.raises(ProviderRefused, match="set RUNWAYML_API_SECRET"):
        Runway().check("1")


# ---------------------------------------------------------------- what cannot be said


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"loop": True}, "loop"),
        ({"last_frame": Path("last.png")}, "last_frame"),
        ({"model": "gen4.5", "reference": Path("a.png"), "last_frame": Path("b.png")}, "last_frame"),
        ({"model": "gen4_turbo"}, "reference"),
        ({"model": "gen4.5", "negative": "rain"}, "negative"),
        ({"model": "seedance2", "negative": "rain"}, "negative"),
        ({"size": Size(1104, 832)}, "size"),
        ({"model": "gen4.5", "size": Size(1104, 832)}, "size"),
        ({"seconds": 5}, "seconds"),
        ({"prompt": "🌹" * 501}, "prompt"),
        ({"reference": Path("moving.gif")}, "reference"),
        ({"reference": Path("gone.png")}, ""),
        ({"options": (("camera", "left"),)}, "options"),
        ({"options": (("publicFigureThreshold", "low"),)}, "options"),
    ],
)
def test_what_it_cannot_say_is_refused_before_anything_is_sent(change: dict[str, Any], parameter: str) -> None:
    with pytest.raises(InputError) as raised:
        Runway("http://127.0.0.1:9").submit(replace(WISH, **change), "key")
    assert raised.value.parameter == parameter


def test_sound_is_asked_for_where_there_is_a_choice() -> None:
    def body(model: str, audio: bool) -> dict[str, Any]:
        return ordered(replace(WISH, model=model, audio=audio))[1]

    assert (body("veo3.1", True)["audio"], body("veo3.1_fast", False)["audio"]) == (True, False)
    assert "audio" not in body("gen4.5", False) | body("gen4.5", True)
    assert "audio" not in body("a model from the future", True)
    assert body("a model from the future", False)["audio"] is False


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("words", "state", "failure", "code", "billed"),
    [
        ("[moderated]", "failed", "moderation_input", "SAFETY.INPUT.TEXT", True),
        ("[moderated later]", "failed", "moderation_output", "SAFETY.OUTPUT.VIDEO", True),
        ("[fails]", "failed", "transient", "INTERNAL.BAD_OUTPUT.CODE01", False),
        ("[fails ASSET.INVALID]", "failed", "invalid_request", "ASSET.INVALID", False),
        ("[fails INPUT_PREPROCESSING.SAFETY.TEXT]", "failed", "moderation_input", None, False),
        ("[fails INPUT_PREPROCESSING.INTERNAL]", "failed", "transient", None, False),
        ("[fails THIRD_PARTY.INPUT_VALIDATION]", "failed", "invalid_request", None, False),
        ("[fails SOMETHING.NEW]", "failed", "transient", "SOMETHING.NEW", False),
        ("[cancelled]", "gone", "lost", "CANCELLED", False),
        ("[lost]", "gone", "lost", "404", None),
    ],
)
def test_trouble_is_told_by_its_kind(
    provider: Runway, words: str, state: str, failure: str, code: str | None, billed: bool | None
) -> None:
    job = over(provider, provider.submit(replace(WISH, prompt=f"a rose {words}"), "key").id)
    assert (job.state, job.failure, job.billed) == (state, failure, billed)
    assert job.code == (code or words[7:-1])
    assert bool(job.text) == (state == "failed")


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ({"status": "THROTTLED"}, ("queued", None, "", None)),
        ({"status": "RUNNING", "progress": 0.02}, ("running", 0.02, "", None)),
        ({"status": "RUNNING", "progress": 1}, ("running", 1.0, "", None)),
        ({"status": "DREAMING", "progress": "much"}, ("running", None, "", None)),
        ({}, ("running", None, "", None)),
        ({"status": "FAILED", "failureCode": "SAFETY.INPUT.IMAGE"}, ("failed", None, "moderation_input", True)),
        (
            {"status": "FAILED", "failure": "unsafe: violates our safety rules"},
            ("failed", None, "moderation_output", None),
        ),
        ({"status": "FAILED"}, ("failed", None, "transient", None)),
    ],
)
def test_decoding_is_loose(task: dict[str, Any], expected: tuple[Any, ...]) -> None:
    job = decoded(task, "1")
    assert (job.id, job.state, job.progress, job.failure, job.billed) == ("1", *expected)


def test_a_refused_body_says_which_field(provider: Runway) -> None:
    """A model that we know nothing about is judged by the server, and nothing was made."""
    with pytest.raises(ProviderRefused, match=r"Validation of body failed; model: .*expected one of") as raised:
        provider.submit(replace(WISH, model="gen5"), "key")
    assert raised.value.failure == "invalid_request"


def test_an_empty_account_is_no_bad_request(provider: Runway) -> None:
    with pytest.raises(ProviderRefused, match="enough credits") as raised:
        provider.submit(replace(WISH, prompt="a rose [broke]"), "key")
    assert (raised.value.failure, raised.value.code) == ("quota", "400")


def test_a_day_is_full_and_a_desk_is_busy(tmp_path: Path) -> None:
    """More than run at once wait at Runway; more than a day has are turned away."""
    with simulator(tmp_path, "--no-film", "--latency", "60", "--concurrency", "1", "--daily", "2") as url:
        provider = Runway(url)
        first, second = (provider.submit(WISH, "key") for _ in range(2))
        with pytest.raises(Later):
            provider.submit(WISH, "key")
        headers = {"Authorization": "Bearer x", "X-Runway-Version": "2024-11-06"}
        task = httpx.get(f"{url}/v1/tasks/{second.id}", headers=headers).json()
        assert (task["status"], task["estimatedCost"]) == ("THROTTLED", {"credits": 160})
        assert provider.check(second.id).state == "queued"
        provider.delete(first.id)
        assert provider.check(first.id).state == "gone"
        task = httpx.get(f"{url}/v1/tasks/{second.id}", headers=headers).json()
        assert task["status"] in ("PENDING", "RUNNING")
        usage = httpx.get(f"{url}/v1/organization", headers=headers).json()["usage"]
        assert usage == {"models": {"veo3.1": {"dailyGenerations": 2}}}


# ---------------------------------------------------------------- fetching


def test_an_expired_link_is_asked_for_again(provider: Runway, tmp_path: Path) -> None:
    film = filmed(provider, replace(WISH, prompt="a rose [expires]"), tmp_path / "film.mp4")
    assert film.read_bytes()[4:8] == b"ftyp"


def test_a_film_that_is_gone_is_said_to_be(provider: Runway, tmp_path: Path) -> None:
    job = provider.submit(replace(WISH, prompt="a rose [expired]"), "key")
    over(provider, job.id)
    with pytest.raises(ProviderRefused, match="no longer") as raised:
        provider.download(job.id, tmp_path / "film.mp4")
    assert raised.value.failure == "expired"
    provider.delete(job.id)
    with pytest.raises(ProviderRefused, match="does not know") as raised:
        provider.download(job.id, tmp_path / "film.mp4")
    assert raised.value.failure == "expired"
    slow = provider.submit(replace(WISH, prompt="a rose [slow]"), "key")
    with pytest.raises(ProviderUnavailable, match="no film"):
        provider.download(slow.id, tmp_path / "film.mp4")


def test_a_file_may_come_from_nowhere_private(quick: str, tmp_path: Path) -> None:
    """Whoever can answer for Runway could else make us read what only we can reach."""
    elsewhere = Runway(quick.replace("127.0.0.1", "localhost"))
    job = elsewhere.submit(WISH, "key")
    over(elsewhere, job.id)
    with pytest.raises(ProviderRefused, match="not https and public"):
        elsewhere.download(job.id, tmp_path / "film.mp4")
    replace(elsewhere, file_hosts=("127.0.0.1",)).download(job.id, tmp_path / "film.mp4")


# ---------------------------------------------------------------- how the simulator speaks


def test_the_version_and_the_key_are_wanted(quick: str) -> None:
    key, version = {"Authorization": f"Bearer {KEY}"}, {"X-Runway-Version": "2024-11-06"}
    body = {"model": "veo3.1", "promptText": "a rose", "ratio": "1280:720"}

    def status(headers: dict[str, str]) -> int:
        return httpx.post(f"{quick}/v1/text_to_video", headers=headers, json=body).status_code

    assert (status(key | version), status(key), status(version)) == (200, 400, 401)
    assert status(key | {"X-Runway-Version": "2023-01-01"}) == 400
    assert httpx.get(f"{quick}/v1/videos", headers=key | version).status_code == 404


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"loop": True}, []),
        ({"ratio": "16:9"}, ["ratio"]),
        ({"duration": "4"}, ["duration"]),
        ({"duration": 5}, ["duration"]),
        ({"audio": "yes"}, ["audio"]),
        ({"seed": 1.5}, ["seed"]),
        ({"promptText": ""}, ["promptText"]),
        ({"promptText": "x" * 1001}, ["promptText"]),
        ({"promptImage": "https://a/b.png"}, ["promptImage"]),
        ({"promptImage": [{"uri": "data:image/png;base64,AA==", "position": "last"}]}, ["promptImage"]),
        ({"promptImage": [{"uri": "data:image/gif;base64,AA==", "position": "first"}]}, ["promptImage"]),
        ({"promptImage": "data:image/png;base64," + "A" * 5_300_000}, ["promptImage"]),
        ({"promptImage": "runway://gone"}, ["promptImage"]),
        ({"ratio": None}, ["ratio"]),
    ],
)
def test_what_the_real_one_refuses_is_refused(quick: str, change: dict[str, Any], path: list[str]) -> None:
    headers = {"Authorization": "Bearer x", "X-Runway-Version": "2024-11-06"}
    image = {"promptImage": "data:image/png;base64,AA=="}
    body = {"model": "veo3.1", "promptText": "a rose", "ratio": "1280:720", **image, **change}
    body = {name: value for name, value in body.items() if value is not None}
    answer = httpx.post(f"{quick}/v1/image_to_video", headers=headers, json=body)
    assert answer.status_code == 400
    said = answer.json()
    assert (said["error"], said["docUrl"]) == ("Validation of body failed", "https://docs.dev.runwayml.com/api")
    assert said["issues"][0]["path"] == path


def test_a_link_wants_no_key_and_gives_parts(provider: Runway, quick: str) -> None:
    job = over(provider, provider.submit(WISH, "key").id)
    headers = {"Authorization": "Bearer x", "X-Runway-Version": "2024-11-06"}
    (url,) = httpx.get(f"{quick}/v1/tasks/{job.id}", headers=headers).json()["output"]
    whole = httpx.get(url)
    assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
    assert httpx.get(url, headers={"Range": "bytes=100-"}).content == whole.content[100:]
    assert httpx.get(url, headers={"Range": "bytes=99999999-"}).status_code == 416
    assert httpx.get(url, headers=headers).status_code == 400
    assert httpx.get(url.partition("?")[0]).status_code == 403


# ---------------------------------------------------------------- presets


SHEETS = [presets.read("models", name) for name in presets.names("models") if name.startswith("runway-")]


@pytest.mark.parametrize("name", [sheet.name for sheet in SHEETS if not sheet.get("works")])
def test_what_the_presets_sell_can_be_said(provider: Runway, name: str, photo: Path) -> None:
    """All sizes and lengths, and what they promise besides."""
    sheet = presets.read("models", name)
    assert (sheet.facts["provider"], sheet.facts["key_variable"]) == ("runway", "RUNWAYML_API_SECRET")
    model = MODELS[sheet["model"]]
    assert set(sheet["reference"]) == set(IMAGES)
    assert (sheet["prompt_limit"], sheet["last_frame"], sheet["negative"]) == (model.prompt, model.last, model.negative)
    assert sheet["audio"] == {"never": "never", "asked": "optional"}[model.sound]
    for size in sheet["sizes"]:
        assert float(sheet[f"price.{size}"]) > 0
        for seconds in sheet["seconds"]:
            ordered(VideoRequest("a rose", sheet["model"], Size.parse(size), seconds, photo))
    for size in sheet.get("sizes_without_reference", sheet["sizes"]):
        ordered(VideoRequest("a rose", sheet["model"], Size.parse(size), sheet["seconds"][0]))


@pytest.mark.parametrize("sheet", [sheet for sheet in SHEETS if sheet.get("works")], ids=lambda sheet: str(sheet.name))
def test_what_the_presets_do_to_films_can_be_said(sheet: presets.Sheet) -> None:
    (work,) = sheet["works"]
    treatment = TREATMENTS[sheet["model"]]
    assert (treatment.work, treatment.prompt) == (work, sheet["prompt_limit"])
    assert ("seed" in treatment.wishes, sheet["footage"], sheet["source_limit"]) == (sheet["seed"], "any", UPLOAD)
    prompt = "at night" if treatment.prompt else ""
    for size in sheet["sizes"]:
        assert float(sheet[f"price.{size}"]) > 0
        assert treated(
            VideoRequest(prompt, sheet["model"], Size.parse(size), 5, work=work, footage=Footage(Path("film.mp4")))
        )
