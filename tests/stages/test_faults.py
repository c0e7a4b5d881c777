"""Trouble on demand, as our client meets it; and that what was paid is paid once all the same."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from forks import serving
from test_simulator import patiently, sales, simulator, until

from stages.clip import Size
from stages.errors import Later, ProviderRefused, ProviderUnavailable
from stages.ffmpeg import run_ffmpeg
from stages.ledger import collect, open_ledger, purchases, submit_once
from stages.media import open_clip
from stages.providers import Provider, VideoRequest
from stages.providers.fal import Fal
from stages.providers.luma import Luma
from stages.providers.openai import OpenAI, sim
from stages.providers.openrouter import OpenRouter
from stages.providers.runway import Runway
from stages.providers.veo import Veo
from stages.simulators.faults import HEADER, Fault, Faults, parse, places

WISH = VideoRequest("a rose opens", "sim", Size(1280, 720), 4)
QUICK = ("--no-film", "--latency", "0", "--settle", "0", "--ignore-keys")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sim")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with simulator(folder, *QUICK) as url:
        yield url


def struck(url: str, fault: str) -> OpenAI:
    """Our client, asking for a fault with each request."""
    return replace(sim(url), headers=((HEADER, fault),), patience=2.0)


def done(url: str, fault: str = "") -> str:
    """A film that was sold with a fault and is finished."""
    job = struck(url, fault).submit(WISH, "key")
    until(lambda: sim(url).check(job.id).state == "done")
    return job.id


# ---------------------------------------------------------------- how they are asked for


def test_how_faults_are_written() -> None:
    assert parse("429=2.5*3@create, lost") == (Fault("429", "2.5", 3, "create"), Fault("lost"))
    assert parse("") == ()
    for wrong in ("storm", "429=", "lost *x"):
        with pytest.raises(ValueError, match="no such fault"):
            parse(wrong)


def test_a_fault_strikes_as_often_as_it_was_told_and_where() -> None:
    faults, kinds = Faults(parse("429*2@create,lag")), {"429": "", "lag": ""}
    assert [set(faults.strike(kinds, places={place})) for place in ("check", "create", "create", "create")] == [
        {"lag"},
        {"429", "lag"},
        {"429", "lag"},
        {"lag"},
    ]
    assert set(faults.strike({"500": ""}, "500,lost")) == {"500"}


def test_a_header_with_an_unknown_fault_is_told_so(url: str) -> None:
    answer = httpx.get(f"{url}/videos", headers={HEADER: "storm"})
    assert (answer.status_code, "there are latency" in answer.text) == (400, True)


EVERY: dict[str, tuple[Callable[[str], Provider], str, int]] = {
    "openai": (sim, "sim", 4),
    "runway": (Runway, "veo3.1", 4),
    "luma": (Luma, "ray-3.2", 5),
    "veo": (Veo, "veo-3.1-fast-generate-preview", 4),
    "fal": (Fal, "fal-ai/veo3.1", 4),
    "openrouter": (OpenRouter, "google/veo-3.1", 4),
}


@pytest.mark.parametrize("name", EVERY)
def test_every_simulator_has_the_flag(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first sale is refused, the second one fails, the third is a film; a restart forgets them all."""
    for variable in ("RUNWAYML_API_SECRET", "LUMA_AGENTS_API_KEY", "GEMINI_API_KEY", "FAL_KEY", "OPENROUTER_API_KEY"):
        monkeypatch.setenv(variable, "key-for-tests")
    client, model, seconds = EVERY[name]
    wish = VideoRequest("a rose", model, Size(1280, 720), seconds)
    options = ("--no-film", "--latency", "0", "--settle", "0", "--fault")
    with served(name, tmp_path, *options, "500=503*1@create", "--fault", "fails*1") as url:
        provider = client(url)
        with pytest.raises(ProviderUnavailable, match="503"):
            provider.submit(wish, "first")
        jobs = [provider.submit(wish, key).id for key in ("second", "third")]
        until(lambda: [provider.check(job).state for job in jobs] == ["failed", "done"])
    with served(name, tmp_path, *options, "forgets") as url:
        assert [client(url).check(job).state for job in jobs] == ["gone", "gone"]
    assert len(sales(tmp_path)) == 2


@contextlib.contextmanager
def served(name: str, state: Path, *options: str) -> Iterator[str]:
    with serving(f"stages.simulators.{name}", "--state", state, *options) as url:
        yield url


@pytest.mark.parametrize(
    ("method", "path", "place"),
    [
        ("POST", "/v1/videos", "create"),
        ("POST", "/v1/videos/video_1/remix", "create"),
        ("POST", "/v1/generations/1/upscale", "create"),
        ("POST", "/v1/uploads", "upload"),
        ("POST", "/storage", "upload"),
        ("GET", "/v1/videos?limit=100", "list"),
        ("GET", "/dream-machine/v1/generations", "list"),
        ("GET", "/v1/videos/video_1", "check"),
        ("GET", "/fal-ai/veo3.1/requests/1/status", "check"),
        ("GET", "/v1/videos/video_1/content?variant=video", "content"),
        ("GET", "/v1beta/files/1:download?alt=media", "content"),
        ("GET", "/v1/films/video_1.mp4?signature=1", "film"),
        ("GET", "/files/1/film.mp4?_jwt=1", "film"),
        ("GET", "/v1beta/storage/1?signature=1", "film"),
        ("DELETE", "/v1/videos/video_1", "delete"),
        ("PUT", "/fal-ai/veo3.1/requests/1/cancel", "delete"),
    ],
)
def test_where_a_fault_can_strike(method: str, path: str, place: str) -> None:
    assert places(method, path) == {method.lower(), place}


# ---------------------------------------------------------------- requests


def test_a_request_goes_wrong(url: str, folder: Path) -> None:
    before = len(sales(folder)) if (folder / "sales.jsonl").exists() else 0
    with pytest.raises(Later) as later:
        struck(url, "429=7").submit(WISH, "key")
    assert later.value.seconds == 7
    for fault in ("500", "500=503", "reset-before"):
        with pytest.raises(ProviderUnavailable):
            struck(url, fault).submit(WISH, "key")
    with pytest.raises(ProviderRefused) as refused:
        struck(url, "moderated").submit(WISH, "key")
    assert refused.value.failure == "moderation_input"
    assert (len(sales(folder)) if (folder / "sales.jsonl").exists() else 0) == before
    with pytest.raises(ProviderUnavailable):
        struck(url, "reset-after").submit(WISH, "key")
    with pytest.raises(ProviderUnavailable):
        struck(url, "truncated").submit(WISH, "key")
    assert len(sales(folder)) == before + 2
    start = time.monotonic()
    struck(url, "latency=0.5").check(sim(url).find(0)[0].id)
    assert time.monotonic() - start > 0.5


# ---------------------------------------------------------------- jobs


@pytest.mark.parametrize(
    ("fault", "state", "failure"),
    [("moderated-later", "failed", "moderation_output"), ("fails", "failed", "transient"), ("lost", "gone", "lost")],
)
def test_a_job_goes_wrong(url: str, fault: str, state: str, failure: str) -> None:
    job = sim(url).check(struck(url, fault).submit(WISH, "key").id)
    assert (job.state, job.failure) == (state, failure)


def test_a_job_stays_at_99_percent(url: str) -> None:
    job = struck(url, "stuck").submit(WISH, "key")
    until(lambda: sim(url).check(job.id).progress == 0.99)
    assert sim(url).check(job.id).state == "running"


def test_a_list_lags(url: str) -> None:
    job = struck(url, "lag=1").submit(WISH, "key")
    assert job.id not in {each.id for each in sim(url).find(0)}
    until(lambda: job.id in {each.id for each in sim(url).find(0)}, 3)


def test_what_is_delivered_is_not_what_was_ordered(url: str, tmp_path: Path) -> None:
    wrong = {"wrong-size": (Size(720, 1280), 96), "wrong-size=640x360": (Size(640, 360), 96), "wrong-length=2": 48}
    for number, (fault, found) in enumerate(wrong.items()):
        sim(url).download(done(url, fault), tmp_path / f"{number}.mp4")
        picture = open_clip(tmp_path / f"{number}.mp4").picture
        assert picture
        assert found in ((picture.size, picture.frames), picture.frames)


def test_a_reference_is_ignored(tmp_path: Path) -> None:
    """Filmed for once: the first frame is white if the reference was looked at."""
    white = tmp_path / "white.png"
    run_ffmpeg(["-f", "lavfi", "-i", "color=white:s=160x90", "-frames:v", "1", str(white)])
    wish = VideoRequest("a rose", "sim", Size(160, 90), 1, white)
    with simulator(tmp_path / "sim", "--dialect", "sglang", "--latency", "0", "--settle", "0") as url:
        seen = {}
        for fault in ("", "ignored-reference"):
            job = struck(url, fault).submit(wish, "key")
            until(lambda job=job: sim(url).check(job.id).state == "done")  # type: ignore[misc]
            sim(url).download(job.id, tmp_path / "film.mp4")
            seeing = ("-vf", "signalstats,metadata=print:key=lavfi.signalstats.YAVG", "-f", "null", "-")
            said = run_ffmpeg(["-i", str(tmp_path / "film.mp4"), "-frames:v", "1", *seeing])
            seen[fault] = float(said.rpartition("YAVG=")[2].split()[0])
    assert seen[""] > 225
    assert seen["ignored-reference"] < 220


def test_a_film_expires_wherever_it_is(url: str, tmp_path: Path) -> None:
    job = done(url)
    with pytest.raises(ProviderRefused) as expired:
        struck(url, "expired").download(job, tmp_path / "film.mp4")
    assert expired.value.failure == "expired"
    sim(url).download(job, tmp_path / "film.mp4")
    with simulator(tmp_path / "sim", *QUICK, "--link", "body", "--fault", "expired*1@film") as linked:
        job = done(linked)
        sim(linked).download(job, tmp_path / "fresh.mp4")  # by the second link
        assert open_clip(tmp_path / "fresh.mp4").picture
        with pytest.raises(ProviderRefused) as expired:
            sim(linked).download(done(linked, "expired"), tmp_path / "film.mp4")
        assert expired.value.failure == "expired"


def test_a_truncated_film_is_taken_up_where_it_broke(tmp_path: Path) -> None:
    with simulator(tmp_path / "sim", *QUICK, "--fault", "truncated*2@content") as url:
        sim(url).download(done(url), tmp_path / "film.mp4")
    assert open_clip(tmp_path / "film.mp4").picture


# ---------------------------------------------------------------- paid once


def test_a_storm_of_429_and_a_lost_answer_are_paid_once(tmp_path: Path) -> None:
    """The answer to the first sale is lost, its list lags, and requests are refused in between."""
    flags = ("--fault", "429=0.1*3", "--fault", "reset-after*1@create", "--fault", "lag=0.5", "--fault", "500*2@list")
    ledger = open_ledger(tmp_path / "home")
    with simulator(tmp_path / "sim", *QUICK, *flags) as url:
        provider = replace(sim(url), settle=1.0)

        def film() -> Path:
            try:
                submit_once(ledger, provider, WISH, "key", price=Decimal(1))
                return collect(ledger, provider, "key")
            except ProviderUnavailable:
                raise Later(0.1) from None

        assert patiently(film).exists()
    assert len(sales(tmp_path / "sim")) == 1
    assert [row.state for row in purchases(ledger, "key")] == ["DONE"]


def test_a_restart_forgets_what_was_sold_but_not_that_it_was(tmp_path: Path) -> None:
    with simulator(tmp_path, *QUICK) as url:
        job = sim(url).submit(WISH, "key")
    with simulator(tmp_path, *QUICK) as url:
        assert sim(url).check(job.id).state != "gone"
    with simulator(tmp_path, *QUICK, "--fault", "forgets") as url:
        assert sim(url).check(job.id).state == "gone"
        assert sim(url).find(0) == []
    with simulator(tmp_path, *QUICK, "--dialect", "vllm-omni") as url:  # which keeps its jobs in memory
        assert httpx.get(f"{url}/videos").json()["data"] == []
    assert [json.loads(line)["id"] for line in (tmp_path / "sales.jsonl").read_text().splitlines()] == [job.id]
