"""What every provider promises, against the simulator that stands for it, over real HTTP.

To have another one tested, add a line to `STANDS`. A package of its own can do
the same: `from test_providers import *`, and `STANDS` with what it brings.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from forks import serving

from stages.clip import Size
from stages.errors import InputError, Later, ProviderError, ProviderRefused, ProviderUnavailable
from stages.ffmpeg import run_ffmpeg
from stages.media import open_clip
from stages.providers import Footage, Provider, TakesBack, VideoJob, VideoRequest, Work, works_of
from stages.providers.dialects import (
    ANY,
    ANY_JSON,
    AZURE,
    FASTVIDEO,
    LITELLM,
    OPENAI,
    SGLANG,
    TENSORRT_LLM,
    VLLM_OMNI,
    Dialect,
)
from stages.providers.fal import Fal
from stages.providers.luma import DreamMachine, Luma
from stages.providers.openai import account_at
from stages.providers.openrouter import OpenRouter
from stages.providers.runway import Runway
from stages.providers.veo import Veo
from stages.simulators.faults import HEADER

ROOT = Path(__file__).resolve().parents[2]
WIDE = Size(1280, 720)
QUICK = ("--no-film", "--latency", "0.1", "--settle", "0")
FAILURES = ("moderation_input", "moderation_output", "invalid_request", "quota", "transient")


@dataclass(frozen=True)
class Stand:
    """One protocol: its simulator, the client, something that the one sells and the other can ask for.

    `simulator` is a module and its options; it prints its base URL, takes
    `--state`, and logs what it sold in `sales.jsonl` there. `client` makes the
    provider for that URL, `absent` is the id of a job that nobody made. The
    words in a prompt make the simulator refuse it at once, refuse it later, or fail.
    `refuses` says whether it refuses before it sells, `pictures` whether it takes any.
    Of work on a film, `works` says what else than `model`, `size` and `seconds` is asked. `cancels` says whether a
    job that was just sold can be taken back.
    """

    name: str
    simulator: tuple[str, ...]
    client: Callable[[str], Provider]
    model: str = "sim"
    size: Size = WIDE
    seconds: int = 4
    absent: str = "video_00000000000000000000000000000000"
    refused: str = "[moderated]"
    refused_later: str = "[moderated later]"
    fails: str = "[fails]"
    refuses: bool = True
    pictures: bool = True
    works: Mapping[Work, Mapping[str, Any]] = field(default_factory=dict)
    cancels: bool = False


def speaks(dialect: Dialect, *simulated: str, name: str = "") -> Stand:
    """A stand for a dialect of the Videos protocol, against the simulator with these options."""
    server = ("stages.simulators.openai", *QUICK, "--dialect", *(simulated or (dialect.name,)))

    def client(url: str) -> Provider:
        return replace(account_at(dialect, base_url=url), patience=10.0)

    return Stand(name or dialect.name, server, client, cancels=dialect.deletes == "stops")


NOBODY = "00000000-0000-4000-8000-000000000000"
FULL = Size(1920, 1080)
VEO = "veo-3.1-fast-generate-preview"

STANDS = (
    speaks(OPENAI),
    speaks(AZURE),
    speaks(VLLM_OMNI),
    speaks(SGLANG),
    speaks(SGLANG, "sglang", "--link", "detail", name="sglang in the cloud"),
    speaks(TENSORRT_LLM),
    speaks(FASTVIDEO),
    speaks(LITELLM),
    speaks(ANY, "openai", name="any at openai"),
    speaks(ANY, "vllm-omni", name="any at vllm-omni"),
    speaks(ANY, "gateway", name="any at a gateway"),
    speaks(ANY, "sglang", "--link", "body", name="any with notes"),
    speaks(ANY_JSON, "openai", name="any-json at openai"),
    speaks(ANY_JSON, "gateway", name="any-json at a gateway"),
    Stand(
        "runway",
        ("stages.simulators.runway", *QUICK, "--concurrency", "100"),
        Runway,
        "veo3.1",
        absent=NOBODY,
        refuses=False,
        works={
            "remix": {"model": "aleph2"},
            "upscale": {"model": "magnific_video_upscaler_creative", "size": FULL},
        },
        cancels=True,
    ),
    Stand(
        "luma",
        ("stages.simulators.luma", *QUICK),
        Luma,
        "ray-3.2",
        seconds=5,
        absent=NOBODY,
        refuses=False,
    ),
    Stand(
        "luma dream machine",
        ("stages.simulators.luma", *QUICK),
        lambda url: DreamMachine(url.removesuffix("/v1") + "/dream-machine/v1"),
        "ray-2",
        seconds=5,
        absent=NOBODY,
        refuses=False,
        pictures=False,
        works={"upscale": {"size": FULL}},
    ),
    Stand(
        "veo",
        ("stages.simulators.veo", *QUICK),
        Veo,
        VEO,
        seconds=8,
        absent=f"models/{VEO}/operations/0",
        works={"extend": {"seconds": 7}},
    ),
    Stand(
        "fal",
        ("stages.simulators.fal", *QUICK),
        Fal,
        "fal-ai/veo3.1/fast",
        seconds=8,
        absent="fal-ai/veo3.1/requests/0/status",
        works={"extend": {"seconds": 7}, "upscale": {"model": "fal-ai/seedvr/upscale/video", "size": FULL}},
        cancels=True,
    ),
    Stand(
        "openrouter",
        ("stages.simulators.openrouter", *QUICK),
        OpenRouter,
        "google/veo-3.1",
        seconds=8,
        absent="gen-vid-0-0",
    ),
)
"""Name, simulator, client; add yours here."""


@dataclass(frozen=True)
class Opened:
    """A stand whose simulator runs."""

    stand: Stand
    provider: Provider
    state: Path

    def request(self, prompt: str = "a rose opens") -> VideoRequest:
        return VideoRequest(prompt, self.stand.model, self.stand.size, self.stand.seconds)

    def sales(self) -> int:
        log = self.state / "sales.jsonl"
        return len([json.loads(line) for line in log.read_text().splitlines()]) if log.exists() else 0

    def settled(self, job_id: str, seconds: float = 30) -> VideoJob:
        """The job once it is neither queued nor running."""
        end = time.monotonic() + seconds
        while (job := self.provider.check(job_id)).state in ("queued", "running"):
            assert time.monotonic() < end, f"still {job.state}"
            assert job.progress is None or 0 <= job.progress <= 1
            time.sleep(0.05)
        return job


@contextlib.contextmanager
def opened(stand: Stand, state: Path) -> Iterator[Opened]:
    """Start the stand's simulator; it is killed in the end."""
    with serving(*stand.simulator, "--state", state) as url:
        yield Opened(stand, stand.client(url), state)


KEYS = (
    *("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "RUNWAYML_API_SECRET", "LUMA_AGENTS_API_KEY", "LUMAAI_API_KEY"),
    *("GEMINI_API_KEY", "FAL_KEY", "OPENROUTER_API_KEY"),
)


@pytest.fixture(params=STANDS, ids=lambda stand: str(stand.name), scope="module")
def at(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        for name in KEYS:
            patch.setenv(name, "key-for-tests")
        yield stack.enter_context(opened(request.param, tmp_path_factory.mktemp("stand")))


@pytest.fixture(scope="module")
def bought(at: Opened) -> VideoJob:
    """A film that was bought and is done."""
    job = at.provider.submit(at.request(), "bought")
    assert job.id
    assert job.state in ("queued", "running", "done")
    return at.settled(job.id)


@pytest.fixture(scope="module")
def footage(at: Opened, bought: VideoJob, tmp_path_factory: pytest.TempPathFactory) -> Footage:
    """That film, with the job that made it."""
    film = tmp_path_factory.mktemp("footage") / "film.mp4"
    at.provider.download(bought.id, film)
    return Footage(film, bought.id)


@pytest.fixture(scope="session")
def draw(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Size], Path]:
    """Makes a picture of a size."""
    folder = tmp_path_factory.mktemp("pictures")

    def draw(size: Size) -> Path:
        target = folder / f"{size}.png"
        if not target.exists():
            run_ffmpeg(["-f", "lavfi", "-i", f"testsrc2=s={size}", "-frames:v", "1", str(target)])
        return target

    return draw


# ---------------------------------------------------------------- the contract


def test_it_says_who_it_is_and_how_patient_one_must_be(at: Opened) -> None:
    provider = at.provider
    assert provider.name
    assert provider.account
    assert provider.poll > 0
    assert provider.typical > 0
    assert provider.settle > 0
    assert isinstance(provider.idempotent, bool)
    assert isinstance(provider.can_list, bool)


def test_what_is_bought_is_filmed_and_fetched(at: Opened, bought: VideoJob, tmp_path: Path) -> None:
    assert (bought.state, bought.failure) == ("done", "")
    at.provider.download(bought.id, tmp_path / "film.part")
    found = open_clip(tmp_path / "film.part").picture
    assert found
    assert found.size == at.stand.size
    assert abs(found.frames / found.rate - at.stand.seconds) < 0.2


def test_what_a_job_says_of_itself_is_what_was_asked(at: Opened, bought: VideoJob) -> None:
    """Or is left out: a lost job is known by it, and what differs would hide it."""
    request = at.request()
    assert bought.prompt in (request.prompt, "")
    assert bought.model in (request.model, "")
    assert bought.seconds in (request.seconds, 0)
    assert bought.size in (request.size, None)
    assert bought.created_at is None or abs(bought.created_at - time.time()) < 120


def test_a_picture_to_begin_with_is_taken(at: Opened, draw: Callable[[Size], Path]) -> None:
    if not at.stand.pictures:
        pytest.skip("it takes none")
    request = replace(at.request("from a picture"), reference=draw(at.stand.size))
    job = at.provider.submit(request, "picture")
    assert at.settled(job.id).state == "done"


def test_a_sale_is_found_in_the_list(at: Opened, bought: VideoJob) -> None:
    if not at.provider.can_list:
        pytest.skip("its list is not believed, or there is none")
    second = at.provider.submit(at.request("another"), "another")
    jobs = at.provider.find(time.time() - 600)
    ids = [job.id for job in jobs]
    assert {bought.id, second.id} <= set(ids)
    assert len(ids) == len(set(ids))
    times = [job.created_at for job in jobs if job.created_at is not None]
    assert times == sorted(times, reverse=True)
    assert at.provider.find(time.time() + 600) == []


WORKS: tuple[Work, ...] = ("remix", "extend", "upscale", "draw")


def worked(at: Opened, work: Work, footage: Footage | None) -> VideoRequest:
    """A request for work on that film, as the stand's own words have it."""
    prompt = "" if work == "upscale" else f"{work} at night"
    request = VideoRequest(
        prompt, at.stand.model, at.stand.size, at.stand.seconds, work=work, footage=footage if work != "draw" else None
    )
    return replace(request, **at.stand.works.get(work, {}))


@pytest.mark.parametrize("work", WORKS)
def test_what_it_says_it_does_to_a_film_it_does(at: Opened, footage: Footage, work: Work, tmp_path: Path) -> None:
    """And what it does not say, it refuses before it is sent: it would film instead, for money."""
    request, before = worked(at, work, footage), at.sales()
    if work not in works_of(at.provider):
        with pytest.raises(InputError) as refused:
            at.provider.submit(request, work)
        assert (refused.value.parameter, at.sales()) == ("work", before)
        return
    job = at.settled(at.provider.submit(request, work).id)
    assert (job.state, job.failure, at.sales()) == ("done", "", before + 1)
    at.provider.download(job.id, tmp_path / "film.part")
    found, was = open_clip(tmp_path / "film.part").picture, open_clip(footage.file).picture
    assert found
    assert was
    assert found.size == request.size
    length = was.frames / was.rate + (request.seconds if work == "extend" else 0)
    assert abs(found.frames / found.rate - length) < 0.2
    if at.provider.can_list:
        assert job.id in {each.id for each in at.provider.find(time.time() - 600)}


@pytest.fixture
def works(at: Opened) -> list[Work]:
    """What it does besides filming."""
    found = [work for work in WORKS if work in works_of(at.provider)]
    if not found:
        pytest.skip("it films, and no more")
    return found


def test_a_film_from_elsewhere_is_worked_on_or_refused(at: Opened, works: list[Work], footage: Footage) -> None:
    for work in works:
        before, parameter, state = at.sales(), "", "done"
        try:
            state = at.settled(
                at.provider.submit(worked(at, work, Footage(footage.file)), f"{work} elsewhere").id
            ).state
        except InputError as refused:
            parameter = refused.parameter
        assert state == "done"
        assert (parameter, at.sales()) in (("", before + 1), ("footage", before))
        with pytest.raises(InputError) as without:
            at.provider.submit(worked(at, work, None), work)
        assert without.value.parameter == "footage"


@pytest.mark.parametrize("wish", ["reference", "last_frame", "audio", "negative", "loop", "seed"])
def test_what_it_has_no_words_for_at_such_work_is_refused(
    at: Opened, works: list[Work], footage: Footage, wish: str, draw: Callable[[Size], Path]
) -> None:
    image = draw(at.stand.size)
    wishes = {"reference": image, "last_frame": image, "audio": False, "negative": "rain", "loop": True, "seed": 7}
    for work in works:
        before, parameter, sold = at.sales(), "", 0
        request = replace(worked(at, work, footage), **{wish: wishes[wish]})  # type: ignore[arg-type]
        try:
            sold = bool(at.provider.submit(request, f"{work} {wish}").id)
        except InputError as refused:
            parameter = refused.parameter
        assert at.sales() == before + sold
        assert sold or parameter == wish


def test_a_film_that_nothing_is_done_with_is_not_filmed_anew(at: Opened, footage: Footage) -> None:
    before = at.sales()
    with pytest.raises(InputError, match="nothing is to be done with it"):
        at.provider.submit(replace(at.request(), footage=footage), "nothing")
    assert at.sales() == before


@pytest.mark.parametrize("wish", ["last_frame", "audio", "negative", "loop", "seed"])
def test_what_it_has_no_words_for_is_refused_before_it_is_sent(
    at: Opened, wish: str, draw: Callable[[Size], Path]
) -> None:
    image = draw(at.stand.size)
    wishes = {"last_frame": image, "audio": False, "negative": "people", "loop": True, "seed": 7}
    framed = {"reference": image} if wish == "last_frame" and at.stand.pictures else {}
    request = replace(at.request(f"with {wish}"), **{wish: wishes[wish]}, **framed)  # type: ignore[arg-type]
    before = at.sales()
    parameter, sold = "", 0
    try:
        sold = bool(at.provider.submit(request, f"wish {wish}").id)
    except InputError as refused:
        parameter = refused.parameter
    assert at.sales() == before + sold
    assert sold or parameter == wish


def test_a_refusal_is_no_sale(at: Opened) -> None:
    if not at.stand.refuses:
        pytest.skip("it sells, and fails at once")
    before = at.sales()
    with pytest.raises(ProviderRefused) as refused:
        at.provider.submit(at.request(f"crowd {at.stand.refused}"), "refused")
    assert (refused.value.failure, at.sales()) == ("moderation_input", before)
    assert refused.value.text


@pytest.mark.parametrize("trouble", ["refused_later", "fails"])
def test_a_job_that_fails_says_why(at: Opened, trouble: str, tmp_path: Path) -> None:
    word: str = getattr(at.stand, trouble)
    job = at.provider.submit(at.request(f"a rose {word}"), trouble)
    failed = at.settled(job.id)
    assert failed.state == "failed"
    assert failed.failure in FAILURES
    assert failed.failure.startswith("moderation") == (trouble == "refused_later")
    assert failed.code or failed.text
    with pytest.raises(ProviderError):
        at.provider.download(job.id, tmp_path / "film.part")


def test_a_job_that_nobody_knows_is_gone(at: Opened) -> None:
    assert at.provider.check(at.stand.absent).state == "gone"
    if at.provider.can_list:
        assert at.stand.absent not in {job.id for job in at.provider.find(0)}


# ---------------------------------------------------------------- what the simulators do wrong on demand


def struck(at: Opened, fault: str) -> Provider:
    """The same account, each of whose requests asks for trouble."""
    provider: Any = at.provider
    return replace(provider, headers=(*provider.headers, (HEADER, fault)))  # type: ignore[no-any-return]


def test_a_request_goes_wrong_as_it_is_asked_to(at: Opened) -> None:
    before = at.sales()
    with pytest.raises(Later) as later:
        struck(at, "429=3").submit(at.request(), "limited")
    assert later.value.seconds == 3
    for fault in ("500", "500=503", "reset-before"):
        with pytest.raises(ProviderUnavailable):
            struck(at, fault).submit(at.request(), fault)
    assert at.sales() == before


@pytest.mark.parametrize(
    ("fault", "state", "failure"),
    [
        ("moderated-later", "failed", "moderation"),
        ("fails", "failed", "transient"),
        ("lost", "gone", "lost"),
        ("", "done", ""),
    ],
)
def test_a_job_goes_wrong_as_it_is_asked_to(at: Opened, fault: str, state: str, failure: str) -> None:
    job = at.settled(struck(at, fault).submit(at.request(f"a rose {fault}"), f"struck-{fault}").id)
    assert (job.state, job.failure.partition("_")[0]) == (state, failure)


def test_a_film_goes_wrong_as_it_is_asked_to(at: Opened, tmp_path: Path) -> None:
    gone = at.settled(struck(at, "expired").submit(at.request("gone"), "gone").id)
    with pytest.raises(ProviderRefused) as expired:
        at.provider.download(gone.id, tmp_path / "none.part")
    assert expired.value.failure == "expired"
    job = at.settled(struck(at, "wrong-length=2").submit(at.request("short"), "short").id)
    at.provider.download(job.id, tmp_path / "film.part")
    assert open_clip(tmp_path / "film.part").duration == pytest.approx(2, abs=0.2)


def test_what_policy_refuses_is_said_to_be_that(at: Opened) -> None:
    """At once, or as a job that fails at once."""
    try:
        failure = at.settled(struck(at, "moderated").submit(at.request("a crowd"), "moderated").id).failure
    except ProviderRefused as refused:
        failure = refused.failure
    assert failure == "moderation_input"


def test_work_on_a_film_goes_wrong_as_it_is_asked_to(at: Opened, works: list[Work], footage: Footage) -> None:
    for work in works:
        with pytest.raises(ProviderUnavailable):
            struck(at, "500@create").submit(worked(at, work, footage), f"{work} 500")
        for fault, failure in (("fails", "transient"), ("moderated-later", "moderation")):
            job = at.settled(struck(at, fault).submit(worked(at, work, footage), f"{work} {fault}").id)
            assert (job.state, job.failure.partition("_")[0]) == ("failed", failure)


# ---------------------------------------------------------------- taken back


def test_what_is_filmed_is_paid_and_not_taken_back(at: Opened, bought: VideoJob, tmp_path: Path) -> None:
    if not isinstance(at.provider, TakesBack):
        pytest.skip("it cancels nothing")
    assert at.provider.take_back(bought.id).state == "done"
    at.provider.download(bought.id, tmp_path / "film.part")
    lost = at.provider.take_back(at.stand.absent)
    assert (lost.state, lost.billed) == ("gone", None), "it was paid, for all that we know"


TAKING_BACK = [stand for stand in STANDS if isinstance(stand.client("http://127.0.0.1:9/v1"), TakesBack)]


@pytest.mark.parametrize("stand", TAKING_BACK, ids=lambda stand: str(stand.name))
def test_what_has_not_begun_is_taken_back_or_goes_on(
    stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KEYS:
        monkeypatch.setenv(name, "key-for-tests")
    slow = replace(stand, simulator=(*stand.simulator, "--latency", "600"))
    with opened(slow, tmp_path / "state") as at:
        assert isinstance(at.provider, TakesBack)
        job = at.provider.submit(at.request(), "a key")
        back = at.provider.take_back(job.id)
        now = at.provider.check(job.id).state
    assert (back.state, back.billed, now) == (
        ("gone", False, "gone") if stand.cancels else (back.state, None, "queued")
    )
    assert stand.cancels or back.state == "queued"
