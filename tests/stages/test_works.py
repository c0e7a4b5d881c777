"""Work on bought films: what goes out on the wire, what is refused, that it is paid once, and how it looks."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from lab import film as made
from lab import luma, picture_of, samples, sound_of
from shop import BROKEN, PRICE, Shop
from test_openai_provider import Answer, Asked, Host, opened, said
from test_veo import running

from stages.clip import Size
from stages.errors import InputError, Later, ProviderRefused, ProviderUnavailable
from stages.http import NOT_SENT
from stages.ledger import Ledger, collect, open_ledger, purchases, request_key, submit_once
from stages.provenance import read_credentials
from stages.providers import Footage, Provider, VideoRequest, works_of
from stages.providers.dialects import DIALECTS
from stages.providers.fal import Fal
from stages.providers.luma import DreamMachine, Luma
from stages.providers.openai import OpenAI, account_at
from stages.providers.runway import INLINE, Runway
from stages.providers.veo import Veo
from stages.simulators import RATE, extend, remix, upscale
from stages.simulators.faults import Faults, parse
from stages.simulators.luma import LumaDesk
from stages.simulators.manners import MANNERS
from stages.simulators.openai import VideosServer
from stages.simulators.studio import Order, Refusal, Studio
from stages.simulators.tasks import TaskServer

HD, FULL = Size(1280, 720), Size(1920, 1080)
FILM = b"\0\0\0\x18ftyp not much of a film"
OPERATION = "models/veo-3.1-generate-preview/operations/abc123"
VIDEO = {"id": "video_2", "object": "video", "status": "queued"}


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "RUNWAYML_API_SECRET", "LUMA_AGENTS_API_KEY"):
        monkeypatch.setenv(name, "key-for-tests")
    for name in ("LUMAAI_API_KEY", "GEMINI_API_KEY", "FAL_KEY"):
        monkeypatch.setenv(name, "key-for-tests")


@pytest.fixture
def host() -> Iterator[Host]:
    with opened() as host:
        yield host


@pytest.fixture
def bought(tmp_path: Path) -> Footage:
    """A film of the same account."""
    path = tmp_path / "film.mp4"
    path.write_bytes(FILM)
    return Footage(path, "video_1")


def sent(asked: Asked) -> tuple[str, str, dict[str, Any]]:
    return asked.method, asked.path.removeprefix("/v1/"), json.loads(asked.body) if asked.body else {}


URI = f"data:video/mp4;base64,{base64.b64encode(FILM).decode()}"


# ---------------------------------------------------------------- on the wire


def test_the_videos_protocol_has_two_paths_for_it(host: Host, bought: Footage) -> None:
    host.script = lambda asked: said(VIDEO)
    again = VideoRequest("at night", "sora-2", HD, 8, work="remix", footage=bought)
    on = replace(again, prompt="and on", seconds=4, work="extend")
    for name in ("openai", "litellm"):
        provider = account_at(DIALECTS[name], base_url=host.url)
        assert provider.submit(again, "key").id == provider.submit(on, "key").id == "video_2"
    assert [sent(asked) for asked in host.asked] == 2 * [
        ("POST", "videos/video_1/remix", {"prompt": "at night"}),
        ("POST", "videos/extensions", {"prompt": "and on", "seconds": "4", "video": {"id": "video_1"}}),
    ]
    assert {asked.headers["Content-Type"] for asked in host.asked} == {"application/json"}
    assert {asked.headers["Idempotency-Key"] for asked in host.asked} == {"key"}


def test_azure_remixes_under_its_version_and_does_no_more(host: Host, bought: Footage) -> None:
    host.script = lambda asked: said(VIDEO)
    provider = account_at(DIALECTS["azure"], base_url=f"{host.url}?api-version=preview")
    request = VideoRequest("at night", "sora-2", HD, 8, work="remix", footage=replace(bought, job_id="a/b"))
    provider.submit(request, "key")
    assert host.asked[0].path == "/v1/videos/a%2Fb/remix?api-version=preview"
    with pytest.raises(InputError, match="azure cannot go on where a film ends"):
        provider.submit(replace(request, work="extend"), "key")
    assert len(host.asked) == 1


def test_servers_of_ones_own_do_not_work_on_films() -> None:
    """Unless somebody shows that they do: their documentation knows neither path."""
    able = {name for name, dialect in DIALECTS.items() if dialect.works != {"film"}}
    assert able == {"openai", "azure", "litellm"}


def test_runway_is_sent_the_film_within_the_request_or_uploads_it(host: Host, bought: Footage) -> None:
    def script(asked: Asked) -> Answer:
        place = {"uploadUrl": f"{host.url}/storage", "fields": {"key": "k", "policy": "p"}, "runwayUri": "runway://k"}
        return said(place if asked.path.endswith("/uploads") else {"id": "17"})

    host.script = script
    provider = Runway(host.url)
    again = VideoRequest("at night", "aleph2", HD, 5, seed=7, work="remix", footage=bought)
    larger = VideoRequest("", "magnific_video_upscaler_creative", Size(2160, 3840), 5, work="upscale", footage=bought)
    job = provider.submit(replace(again, options=(("publicFigureThreshold", "low"),)), "key")
    assert (job.id, job.model, job.seconds) == ("17", "aleph2", 5)
    provider.submit(replace(larger, options=(("creativity", "20"), ("flavor", "natural"))), "key")
    bought.file.write_bytes(FILM + bytes(INLINE))
    provider.submit(again, "key")
    inline, enlarged, asked, stored, uploaded = host.asked
    assert sent(inline) == (
        "POST",
        "video_to_video",
        {
            "model": "aleph2",
            "promptText": "at night",
            "seed": 7,
            "videoUri": URI,
            "contentModeration": {"publicFigureThreshold": "low"},
        },
    )
    assert sent(enlarged) == (
        "POST",
        "video_upscale",
        {"model": larger.model, "resolution": "4k", "videoUri": URI, "creativity": 20, "flavor": "natural"},
    )
    assert sent(asked) == ("POST", "uploads", {"filename": "film.mp4", "type": "ephemeral"})
    assert b"Content-Type: video/mp4" in stored.body
    assert sent(uploaded)[2]["videoUri"] == "runway://k"


def test_luma_knows_its_own_films_by_their_generation(host: Host, bought: Footage) -> None:
    host.script = lambda asked: said({"id": "g", "state": "queued"}, 201)
    request = VideoRequest("at night", "ray-3.2", HD, 5, work="remix", footage=bought)
    Luma(host.url).submit(replace(request, options=(("strength", "adhere_2"), ("user_id", "7"))), "key")
    Luma(host.url).submit(replace(request, footage=Footage(bought.file)), "key")
    own, other = (sent(asked)[2] for asked in host.asked)
    assert own == {
        "model": "ray-3.2",
        "type": "video_edit",
        "prompt": "at night",
        "source": {"generation_id": "video_1"},
        "video": {"resolution": "720p", "edit": {"strength": "adhere_2"}},
        "user_id": "7",
    }
    assert other["source"] == {"data": URI.partition(",")[2], "media_type": "video/mp4"}
    assert other["video"]["edit"] == {"auto_controls": True}


def test_dream_machine_is_given_addresses(host: Host, bought: Footage) -> None:
    """Its own film's is asked for: a request before the sale, whatever becomes of that."""
    own = {"id": "video_1", "state": "completed", "assets": {"video": "https://cdn/film.mp4"}}
    host.script = lambda asked: said(own if asked.method == "GET" else {"id": "g", "state": "queued"}, 200)
    again = VideoRequest("at night", "ray-2", HD, 5, work="remix", footage=bought)
    provider = DreamMachine(host.url)
    provider.submit(again, "key")
    options = (("media", "https://mine/film.mp4"), ("mode", "reimagine_1"))
    provider.submit(replace(again, footage=Footage(bought.file), options=options), "key")
    provider.submit(VideoRequest("", "ray-2", FULL, 5, work="upscale", footage=bought), "key")
    assert [sent(asked) for asked in host.asked] == [
        ("GET", "generations/video_1", {}),
        (
            "POST",
            "generations/video/modify",
            {
                "generation_type": "modify_video",
                "model": "ray-2",
                "prompt": "at night",
                "mode": "flex_2",
                "media": {"url": "https://cdn/film.mp4"},
            },
        ),
        (
            "POST",
            "generations/video/modify",
            {
                "generation_type": "modify_video",
                "model": "ray-2",
                "prompt": "at night",
                "mode": "reimagine_1",
                "media": {"url": "https://mine/film.mp4"},
            },
        ),
        ("POST", "generations/video_1/upscale", {"generation_type": "upscale_video", "resolution": "1080p"}),
    ]


def test_veo_goes_on_from_a_file_that_google_keeps(host: Host, bought: Footage) -> None:
    uri = "https://generativelanguage.googleapis.com/v1beta/files/abc123:download?alt=media"
    kept = {"done": True, "response": {"generateVideoResponse": {"generatedSamples": [{"video": {"uri": uri}}]}}}
    host.script = lambda asked: said(kept if asked.method == "GET" else {"name": OPERATION})
    own = replace(bought, job_id=OPERATION)
    request = VideoRequest("and on", "veo-3.1-generate-preview", HD, 7, negative="rain", work="extend", footage=own)
    assert Veo(host.url).submit(request, "key").seconds == 7
    looked, posted = (sent(asked) for asked in host.asked)
    assert looked == ("GET", OPERATION, {})
    assert posted == (
        "POST",
        "models/veo-3.1-generate-preview:predictLongRunning",
        {
            "instances": [{"prompt": "and on", "video": {"uri": uri}}],
            "parameters": {
                "aspectRatio": "16:9",
                "resolution": "720p",
                "durationSeconds": 8,
                "negativePrompt": "rain",
            },
        },
    )
    host.script = lambda asked: said({"done": True, "response": {}})
    with pytest.raises(ProviderRefused, match="no film") as gone:
        Veo(host.url).submit(request, "key")
    assert gone.value.failure == "expired"


def test_fal_has_an_endpoint_for_each(host: Host, bought: Footage) -> None:
    host.script = lambda asked: said({"request_id": "r"})
    on = VideoRequest("and on", "fal-ai/veo3.1", HD, 7, seed=7, audio=False, work="extend", footage=bought)
    larger = VideoRequest("", "fal-ai/seedvr/upscale/video", Size(1440, 2560), 5, work="upscale", footage=bought)
    assert Fal(host.url).submit(on, "key").id == "fal-ai/veo3.1/requests/r/status"
    assert Fal(host.url).submit(larger, "key").id == "fal-ai/seedvr/requests/r/status"
    assert [sent(asked) for asked in host.asked] == [
        (
            "POST",
            "fal-ai/veo3.1/extend-video",
            {
                "prompt": "and on",
                "duration": "7s",
                "resolution": "720p",
                "aspect_ratio": "16:9",
                "generate_audio": False,
                "seed": 7,
                "auto_fix": False,
                "video_url": URI,
            },
        ),
        (
            "POST",
            "fal-ai/seedvr/upscale/video",
            {"video_url": URI, "upscale_mode": "target", "target_resolution": "1440p"},
        ),
    ]


# ---------------------------------------------------------------- what cannot be said


NOWHERE = "http://127.0.0.1:9"
REMIX = VideoRequest("at night", "sora-2", HD, 8, work="remix")
UPSCALE = replace(REMIX, prompt="", work="upscale")
EXTEND = replace(REMIX, seconds=7, work="extend")


@pytest.mark.parametrize(
    ("provider", "request_", "parameter"),
    [
        (OpenAI, UPSCALE, "work"),
        (OpenAI, replace(REMIX, work="draw"), "work"),
        (Luma, EXTEND, "work"),
        (Runway, replace(REMIX, model="gen4.5"), "model"),
        (Runway, replace(UPSCALE, model="aleph2"), "model"),
        (Runway, replace(REMIX, model="aleph2", prompt="🌹" * 501), "prompt"),
        (Runway, replace(REMIX, model="aleph2", prompt=""), "prompt"),
        (Runway, replace(REMIX, model="aleph2", options=(("keyframes", "[]"),)), "options"),
        (Runway, replace(UPSCALE, model="magnific_video_upscaler_creative", size=Size(1000, 1000)), "size"),
        (
            Runway,
            replace(UPSCALE, model="magnific_video_upscaler_creative", options=(("fpsBoost", "true"),)),
            "options",
        ),
        (Runway, replace(UPSCALE, prompt="sharper"), "prompt"),
        (Luma, replace(REMIX, size=Size(1000, 1000)), "size"),
        (Luma, replace(REMIX, options=(("controls", "{}"),)), "options"),
        (DreamMachine, replace(UPSCALE, size=Size(1280, 800)), "size"),
        (DreamMachine, replace(UPSCALE, options=(("mode", "flex_1"),)), "options"),
        (Veo, replace(EXTEND, size=FULL), "frame"),
        (Veo, replace(EXTEND, seconds=8), "length"),
        (Veo, replace(EXTEND, options=(("fps", "24"),)), "options"),
        (Fal, replace(EXTEND, model="kling/v4"), "model"),
        (Fal, replace(EXTEND, model="fal-ai/veo3.1/lite"), "model"),
        (Fal, replace(EXTEND, model="fal-ai/veo3.1", seconds=8), "length"),
        (Fal, replace(EXTEND, model="fal-ai/veo3.1", size=Size(3840, 2160)), "frame"),
        (Fal, replace(UPSCALE, model="fal-ai/veo3.1"), "model"),
        (Fal, replace(UPSCALE, model="fal-ai/seedvr/upscale/video", size=Size(1000, 1000)), "frame"),
    ],
)
def test_what_cannot_be_said_is_refused_before_anything_is_sent(
    provider: Callable[[str], Provider], request_: VideoRequest, parameter: str, bought: Footage
) -> None:
    footage = replace(bought, job_id=OPERATION)
    with pytest.raises(InputError) as raised:
        provider(NOWHERE).submit(replace(request_, footage=None if request_.work == "draw" else footage), "key")
    assert raised.value.parameter == parameter


@pytest.mark.parametrize("model", ["aleph2", "magnific_video_upscaler_creative"])
def test_who_only_works_on_films_does_not_film(model: str) -> None:
    with pytest.raises(InputError, match="films nothing of its own") as raised:
        Runway(NOWHERE).submit(VideoRequest("a rose", model, HD, 5), "key")
    assert raised.value.parameter == "model"


@pytest.mark.parametrize("provider", [Runway, Luma])
@pytest.mark.parametrize(("name", "size"), [("film.gif", 10), ("film.mp4", 210_000_000)])
def test_files_that_cannot_go_are_told(
    provider: Callable[[str], Provider], name: str, size: int, tmp_path: Path
) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(size)
    model = "aleph2" if provider is Runway else "ray-3.2"
    with pytest.raises(InputError, match=name) as raised:
        provider(NOWHERE).submit(replace(REMIX, model=model, footage=Footage(path)), "key")
    assert raised.value.parameter == "footage"


def test_a_request_before_the_sale_that_fails_has_bought_nothing(host: Host, bought: Footage) -> None:
    host.script = lambda asked: said({}, 502)
    own = replace(bought, job_id=OPERATION)
    bought.file.write_bytes(bytes(INLINE + 1))
    before: list[tuple[Provider, VideoRequest]] = [
        (DreamMachine(host.url), replace(REMIX, model="ray-2", footage=bought)),
        (Veo(host.url), replace(EXTEND, footage=own)),
        (Runway(host.url), replace(REMIX, model="aleph2", footage=bought)),
    ]
    for provider, request in before:
        with pytest.raises(ProviderUnavailable) as raised:
            provider.submit(request, "key")
        assert raised.value.code == NOT_SENT


def test_whoever_says_nothing_of_works_films() -> None:
    assert works_of(Shop()) == {"film"}


# ---------------------------------------------------------------- paid once


def patiently(provider: Provider, ledger: Ledger, request: VideoRequest) -> Path:
    """Buy and fetch as a job's caller does: come back when told to."""
    key = request_key(request)
    for _ in range(400):
        try:
            submit_once(ledger, provider, request, key, price=PRICE)
            return collect(ledger, provider, key)
        except Later as later:
            time.sleep(min(later.seconds, 0.1))
    raise AssertionError("never done")


def lines(studio: Studio) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (studio.folder / "sales.jsonl").read_text().splitlines()]


LOST = "reset-after*1@create"


@pytest.mark.parametrize("work", ["remix", "extend"])
def test_a_job_whose_answer_was_lost_is_found_in_openai_s_list(work: Any, tmp_path: Path) -> None:
    """Its length there is that of the whole film, and its model the film's: neither is what was asked."""
    studio = Studio(tmp_path / "sim", latency=0.0, settle=0.0, keys=False, films=False)
    with running(VideosServer(0, studio, MANNERS["openai"], Faults(parse(LOST)))) as server:
        first = studio.sell(Order("a rose", "sora-2-pro", "8", str(FULL), ""))
        provider = replace(account_at(DIALECTS["openai"], base_url=server.url), settle=0.3, poll=0.05, typical=0.0)
        film = patiently_fetched(provider, first["id"], tmp_path)
        request = VideoRequest("at night", "sora-2", HD, 4, work=work, footage=Footage(film, first["id"]))
        ledger = open_ledger(tmp_path / "home")
        found = patiently(provider, ledger, request)
    assert [sale["work"] for sale in lines(studio)] == ["film", work]
    (row,) = purchases(ledger)
    assert (row.state, row.work, row.footage, row.seconds) == ("DONE", work, first["id"], 4)
    assert picture_of(found).frames == (8 if work == "remix" else 12) * RATE
    assert picture_of(found).size == FULL


@pytest.mark.parametrize("work", ["remix", "upscale"])
def test_a_job_whose_answer_was_lost_is_found_in_dream_machine_s_list(work: Any, tmp_path: Path) -> None:
    """An upscale has no prompt there, nor a shape."""
    studio = Studio(tmp_path / "sim", latency=0.0, settle=0.0, films=False)
    with running(TaskServer(0, studio, LumaDesk, 60, "/v1", Faults(parse("reset-after*1@post")))) as server:
        provider = DreamMachine(f"{server.origin}/dream-machine/v1", settle=0.3, poll=0.05, typical=0.0)
        ledger = open_ledger(tmp_path / "home")
        film = patiently(provider, ledger, VideoRequest("a rose", "ray-2", HD, 5))
        (row,) = purchases(ledger)
        prompt, size = ("", FULL) if work == "upscale" else ("at night", HD)
        request = VideoRequest(prompt, "ray-2", size, 5, work=work, footage=Footage(film, row.job_id))
        server.faults = Faults(parse("reset-after*1@post"))
        found = patiently(provider, ledger, request)
    assert [sale["work"] for sale in lines(studio)] == ["film", work]
    assert [each.state for each in purchases(ledger)] == ["DONE", "DONE"]
    assert picture_of(found).size == size


def patiently_fetched(provider: OpenAI, job_id: str, folder: Path) -> Path:
    for _ in range(400):
        if provider.check(job_id).state == "done":
            break
        time.sleep(0.01)
    provider.download(job_id, folder / "film.mp4")
    return folder / "film.mp4"


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def ledger(shop: Shop, tmp_path: Path, database: str) -> Ledger:
    return open_ledger(tmp_path / "home", lambda: shop.now, database)


def lost(ledger: Ledger, shop: Shop, request: VideoRequest, **found: object) -> str:
    """Send `request`, lose the answer, and let the list show what was sold as `found`: the job that it is taken for."""
    shop.trouble = [BROKEN]
    with pytest.raises(Later):
        submit_once(ledger, shop, request, request_key(request), price=PRICE)
    job_id, job = list(shop.jobs.items())[-1]
    shop.jobs[job_id] = replace(job, **found)  # type: ignore[arg-type]  # a test's own words
    shop.now += shop.settle
    return submit_once(ledger, shop, request, request_key(request), price=PRICE).job_id


@pytest.mark.parametrize(
    ("request_", "found", "same"),
    [
        (REMIX, {"model": "sora-2-pro", "seconds": 12, "size": FULL, "footage": "video_0"}, True),
        (REMIX, {"model": "", "seconds": 0, "size": None}, True),
        (REMIX, {"footage": "video_9"}, False),
        (REMIX, {"work": "film"}, False),
        (EXTEND, {"seconds": 15}, True),
        (EXTEND, {"seconds": 0}, True),
        (EXTEND, {"seconds": 7}, False),
        (UPSCALE, {"work": "upscale", "size": None, "seconds": 0}, True),
        (UPSCALE, {"work": "remix"}, False),
        (replace(REMIX, work="film"), {"footage": "video_0"}, False),
        (replace(REMIX, work="film"), {"work": "remix"}, False),
        (replace(REMIX, work="film"), {}, True),
    ],
)
def test_a_lost_job_is_known_by_what_the_list_says(
    ledger: Ledger, shop: Shop, bought: Footage, request_: VideoRequest, found: dict[str, Any], same: bool
) -> None:
    """What is another's job is not taken for it: it never arrived, then, and is sent again."""
    footage = None if request_.work == "film" else replace(bought, job_id="video_0")
    job_id = lost(ledger, shop, replace(request_, footage=footage), **found)
    assert (job_id, shop.sends) == (("video_1", 1) if same else ("video_2", 2))


def test_a_film_and_a_longer_one_that_look_alike_are_not_on_their_way_together(
    ledger: Ledger, shop: Shop, bought: Footage
) -> None:
    """Both would be listed as 8 s of the same words: with both answers lost, each could be taken for the other."""
    film, longer = replace(REMIX, work="film"), replace(REMIX, work="extend", seconds=4, footage=bought)
    shop.trouble = [BROKEN]
    with pytest.raises(Later):
        submit_once(ledger, shop, film, request_key(film), price=PRICE)
    with pytest.raises(Later):
        submit_once(ledger, shop, longer, request_key(longer), price=PRICE)
    assert shop.sends == 1


def test_what_is_done_to_which_film_is_what_is_bought(bought: Footage, tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(FILM + b"!")
    again = replace(REMIX, footage=bought)
    different = [
        replace(again, work="film", footage=None),
        replace(again, work="extend"),
        replace(again, footage=Footage(other)),
    ]
    keys = {request_key(request) for request in (again, *different)}
    assert len(keys) == 4
    assert request_key(replace(again, footage=replace(bought, job_id="another"))) == request_key(again)


# ---------------------------------------------------------------- how it looks


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 s at 24 fps, 160x90: a bright left half that widens, a tone in the first second."""
    picture = "color=s=160x90:r=24:d=2,format=yuv420p,geq=lum='if(lt(X,60+N),200,60)':cb=110:cr=140"
    return made(
        tmp_path_factory.mktemp("shot") / "shot.mp4",
        *("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "aevalsrc='0.3*sin(2*PI*500*t)*lt(t,1)':s=48000:d=2"),
        *("-c:v", "libx264", "-crf", "10", "-pix_fmt", "yuv420p", "-c:a", "aac"),
    )


SMALL = Size(160, 90)


def test_a_remix_begins_with_the_footage_in_another_light(shot: Path, tmp_path: Path) -> None:
    remix(tmp_path / "night.mp4", shot, prompt="at night", size=SMALL, frames=48)
    before, after = luma(shot)[0].astype(int), luma(tmp_path / "night.mp4")
    assert len(after) == 48
    assert after[0].mean() < before.mean() - 20
    assert after[0][20, 20] > after[0][20, 120] + 20  # bright on the left, as it was
    remix(tmp_path / "snow.mp4", shot, prompt="in the snow", size=SMALL, frames=24)
    assert luma(tmp_path / "snow.mp4")[0].mean() > before.mean() + 5


def test_an_extension_is_the_footage_and_goes_on(shot: Path, tmp_path: Path) -> None:
    extend(tmp_path / "on.mp4", shot, prompt="pan left", size=SMALL, frames=96, new=48, heard=True)
    was, found = luma(shot), luma(tmp_path / "on.mp4")
    assert len(found) == 96
    assert max(abs(a.astype(int) - b).mean() for a, b in zip(was, found, strict=False)) < 3
    upper = [frame[:60].astype(int) for frame in found]  # the stamp is below
    assert abs(upper[48] - upper[47]).mean() < 3  # no jump where it goes on
    assert abs(upper[95] - upper[48]).mean() > 3  # but it does go on
    sound = samples(tmp_path / "on.mp4")[0]
    loud = [float(np.sqrt(np.mean(sound[start * 48000 : (start + 1) * 48000] ** 2))) for start in range(4)]
    assert loud[0] > 0.1 > 0.05 > loud[1]
    assert min(loud[2:]) > loud[1]
    assert sound_of(tmp_path / "on.mp4").samples == 4 * 48000


def test_an_upscale_is_the_footage_at_another_size(shot: Path, tmp_path: Path) -> None:
    upscale(tmp_path / "large.mp4", shot, size=Size(320, 180), frames=48, heard=True)
    found = luma(tmp_path / "large.mp4")
    assert (len(found), found[0].shape) == (48, (180, 320))
    halved = found[30][::2, ::2].astype(int)
    assert abs(halved[:60] - luma(shot)[30][:60].astype(int)).mean() < 6
    assert np.abs(samples(tmp_path / "large.mp4")[0][:48000]).max() > 0.2


# ---------------------------------------------------------------- the studio


@pytest.mark.thorough
def test_a_film_is_extended_six_times_to_two_minutes(tmp_path: Path) -> None:
    studio = Studio(tmp_path, latency=0.0, settle=0.0, keys=False, films=False)
    with running(VideosServer(0, studio, MANNERS["openai"], Faults())) as server:
        provider = account_at(DIALECTS["openai"], base_url=server.url)
        refused = {}
        for first, added in ((4, 4), (112, 12)):
            job_id = studio.sell(Order("a rose", "sora-2", str(first), "160x90", ""))["id"]
            for times in range(8):
                film = patiently_fetched(provider, job_id, tmp_path)
                on = VideoRequest("on", "sora-2", HD, added, work="extend", footage=Footage(film, job_id))
                try:
                    job_id = provider.submit(on, "key").id
                except ProviderRefused as error:
                    refused[first] = (times, studio.job(job_id)["seconds"], error.failure)
                    break
    assert refused == {4: (6, "28", "invalid_request"), 112: (0, "112", "invalid_request")}


def test_the_simulator_takes_forms_as_well(tmp_path: Path) -> None:
    studio = Studio(tmp_path, latency=0.0, settle=0.0, keys=False, films=False)
    with running(VideosServer(0, studio, MANNERS["openai"], Faults())) as server:
        provider = account_at(DIALECTS["openai"], base_url=server.url)
        first = provider.submit(VideoRequest("a rose", "sora-2", HD, 4), "key")
        patiently_fetched(provider, first.id, tmp_path)
        parts = {"prompt": (None, "and on"), "seconds": (None, "4"), "video[id]": (None, first.id)}
        answer = httpx.post(f"{server.url}/videos/extensions", files=parts).json()
        assert (answer["seconds"], answer["model"]) == ("8", "sora-2")
        parts = {"prompt": (None, "at night"), "model": (None, "sora-2")}
        assert httpx.post(f"{server.url}/videos/{first.id}/remix", files=parts).status_code == 400
        assert httpx.post(f"{server.url}/videos/edits", json={"prompt": "x", "video": "film"}).status_code == 400


def test_what_is_not_done_is_not_worked_on(tmp_path: Path) -> None:
    studio = Studio(tmp_path, latency=60.0, settle=0.0, keys=False, films=False)
    sold = studio.sell(Order("a rose", "sora-2", "4", str(HD), ""))
    with pytest.raises(Refusal, match="not completed"):
        studio.shot_of(studio.job(sold["id"]))
    with pytest.raises(InputError):
        studio.taken_in(b"no film")
    assert not list((tmp_path / "references").iterdir())
    studio.close()


def test_a_studio_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """What it sold it still knows, and works on."""
    studio = Studio(tmp_path, latency=0.0, settle=0.0, films=False)
    for column in ("work", "source", "footage", "added"):
        studio._database.execute(f"ALTER TABLE job DROP COLUMN {column}")
    studio._database.execute(
        "INSERT INTO job (id, model, prompt, seconds, size, reference, created_at, listed_at)"
        " VALUES ('video_1', 'sora-2', 'a rose', '4', '160x90', '', 0, 0)"
    )
    studio.close()
    studio = Studio(tmp_path, latency=0.0, settle=0.0, films=False)
    while studio.described(studio.job("video_1"))["status"] != "completed":
        time.sleep(0.01)
    assert studio.shot_of(studio.job("video_1")).seconds == 4
    studio.close()


def test_what_the_studio_makes_of_films_is_signed_and_as_it_was_ordered(tmp_path: Path) -> None:
    """Filmed for once: as large and as long as the order says, trouble included, and its credentials are proved."""
    studio = Studio(tmp_path, latency=0.0, settle=0.0)

    def done(order: Order, fault: str = "") -> Path:
        trouble = {each.name: each for each in parse(fault)}
        job = studio.job(studio.sell(replace(order, faults=trouble))["id"])
        while (state := studio.described(job))["status"] != "completed":
            assert state["status"] != "failed", state
            time.sleep(0.05)
        return studio.film_of(job)

    film = Order("a rose", "sim", "1", "160x90", "")
    shot = studio.shot_of(studio.job(done(film).stem))
    night = replace(film, prompt="at night", work="remix", shot=shot)
    longer = replace(film, seconds="3", work="extend", shot=shot, added=2)
    larger = replace(film, prompt="", size="320x180", work="upscale", shot=shot)
    made_of_it = {
        "night": done(night),
        "longer": done(longer, "wrong-length=2"),
        "larger": done(larger),
        "other": done(night, "ignored-reference"),
    }
    studio.close()
    found = {name: picture_of(path) for name, path in made_of_it.items()}
    assert {name: (str(each.size), each.frames) for name, each in found.items()} == {
        "night": ("160x90", 24),
        "longer": ("160x90", 48),
        "larger": ("320x180", 24),
        "other": ("160x90", 24),
    }
    for path in made_of_it.values():
        assert read_credentials(path, anchors=[tmp_path / "sim-root.pem"]).state == "proved"
    was, night_, other = (
        luma(path)[0][:60].astype(int) for path in (shot.file, made_of_it["night"], made_of_it["other"])
    )
    assert np.corrcoef(was.ravel(), night_.ravel())[0, 1] > 0.95 > np.corrcoef(was.ravel(), other.ravel())[0, 1]
    assert night_.mean() < was.mean() - 20
