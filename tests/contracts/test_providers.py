"""What every provider promises, against the simulator that stands for it, over real HTTP.

To have another one tested, add a line to `STANDS`. A package of its own can do
the same: `from test_providers import *`, and `STANDS` with what it brings.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from stages.clip import Size
from stages.errors import InputError, ProviderError, ProviderRefused
from stages.ffmpeg import run_ffmpeg
from stages.media import open_clip
from stages.providers import Provider, VideoJob, VideoRequest
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
from stages.providers.openai import account_at

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


def speaks(dialect: Dialect, *simulated: str, name: str = "") -> Stand:
    """A stand for a dialect of the Videos protocol, against the simulator with these options."""
    server = ("stages.simulators.openai", *QUICK, "--dialect", *(simulated or (dialect.name,)))

    def client(url: str) -> Provider:
        return replace(account_at(dialect, base_url=url), patience=10.0)

    return Stand(name or dialect.name, server, client)


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
    command = [sys.executable, "-m", *stand.simulator, "--state", str(state)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield Opened(stand, stand.client(process.stdout.readline().strip()), state)
        finally:
            process.kill()


KEYS = ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY")


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


@pytest.mark.parametrize("wish", ["last_frame", "audio", "negative", "loop", "seed"])
def test_what_it_has_no_words_for_is_refused_before_it_is_sent(
    at: Opened, wish: str, draw: Callable[[Size], Path]
) -> None:
    image = draw(at.stand.size)
    wishes = {"last_frame": image, "audio": False, "negative": "people", "loop": True, "seed": 7}
    framed = {"reference": image} if wish == "last_frame" else {}
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
