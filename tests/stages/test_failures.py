"""What went wrong, in every provider's own words, as it comes out of our clients: whose fault, billed or not, no key.

The words are those of facts/providers.md, sections 1 to 6, and of the threads
named beside them. `{key}` is the key, as a server may echo it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from test_openai_provider import Answer, Host, opened, said

from stages.clip import Size
from stages.errors import Later, ProviderError, ProviderRefused, ProviderUnavailable
from stages.http import is_moderation
from stages.providers import Provider, VideoRequest
from stages.providers.dialects import DIALECTS
from stages.providers.fal import Fal
from stages.providers.luma import DreamMachine, Luma
from stages.providers.openai import STATES, account_at, decoded
from stages.providers.openrouter import OpenRouter
from stages.providers.runway import Runway
from stages.providers.veo import Veo

KEY = 'sk-proj/very"secret'


@dataclass(frozen=True)
class Way:
    """A client, the id of one of its jobs, and something that it can be asked for."""

    client: Callable[[str], Provider]
    job: str = "video_1"
    model: str = "sora-2"
    seconds: int = 8

    def request(self) -> VideoRequest:
        return VideoRequest("a rose", self.model, Size(1280, 720), self.seconds)


def dialect(name: str) -> Way:
    return Way(lambda url: account_at(DIALECTS[name], base_url=url))


OPENROUTER = {"id": "gen-vid-1", "polling_url": "/api/v1/videos/gen-vid-1"}
OPERATION = "models/veo-3.1-generate-preview/operations/a1"
WAYS = {
    **{name: dialect(name) for name in DIALECTS},
    "openrouter": Way(OpenRouter, "gen-vid-1", "google/veo-3.1"),
    "runway": Way(Runway, "17", "veo3.1"),
    "luma": Way(Luma, "g", "ray-3.2", 5),
    "dream machine": Way(DreamMachine, "g", "ray-2", 5),
    "veo": Way(Veo, OPERATION, "veo-3.1-generate-preview"),
    "fal": Way(Fal, "fal-ai/veo3.1/requests/r/status", "fal-ai/veo3.1"),
}
VARIABLES = (
    *("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "VLLM_API_KEY", "SGLANG_API_KEY", "TENSORRT_LLM_API_KEY"),
    *("FASTVIDEO_API_KEY", "LITELLM_API_KEY", "AFTERFRAME_VIDEOS_KEY", "OPENROUTER_API_KEY", "RUNWAYML_API_SECRET"),
    *("LUMA_AGENTS_API_KEY", "LUMAAI_API_KEY", "GEMINI_API_KEY", "FAL_KEY"),
)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    for name in VARIABLES:
        monkeypatch.setenv(name, KEY)
    with opened() as host:
        yield host


def filled(body: object) -> object:
    """`body` with the key where it says so."""
    return json.loads(json.dumps(body).replace("{key}", json.dumps(KEY)[1:-1]))


def answers(host: Host, *bodies: tuple[int, object]) -> None:
    """Let the host answer these, one after the other, and the last for ever."""
    left = [said(filled(body), status) for status, body in bodies]
    host.script = lambda asked: left.pop(0) if len(left) > 1 else left[0]


# ---------------------------------------------------------------- jobs that fail


def openai_job(**error: object) -> dict[str, Any]:
    return {"id": "video_1", "object": "video", "status": "failed", "error": error}


def runway_task(code: str | None, credits: int | None = None, text: str = "It failed. {key}") -> dict[str, Any]:
    cost = {} if credits is None else {"cost": {"credits": credits}}
    return {"id": "17", "status": "FAILED", "failure": text, **({"failureCode": code} if code else {}), **cost}


def luma_generation(code: str | None, text: str = "It failed. {key}") -> dict[str, Any]:
    return {"id": "g", "state": "failed", "failure_code": code, "failure_reason": text}


def veo_error(code: int, text: str) -> dict[str, Any]:
    return {"name": OPERATION, "done": True, "error": {"code": code, "message": text}}


RAI = {
    "done": True,
    "response": {
        "generateVideoResponse": {
            "raiMediaFilteredCount": 1,
            "raiMediaFilteredReasons": ["Veo could not generate videos because of {key} its usage guidelines."],
        }
    },
}


def fal_ended(status: int, result: object, **more: str) -> tuple[tuple[int, object], tuple[int, object]]:
    return (200, {"status": "COMPLETED", "logs": None, **more}), (status, result)


def fal_detail(kind: str, *where: str) -> dict[str, Any]:
    return {"detail": [{"loc": list(where), "msg": "It was refused. {key}", "type": kind}]}


QUOTED = json.dumps(openai_job(code=500, message="oom"))
BLOCKED = "Your request was blocked by our moderation system. {key}"
Failed = tuple[str, tuple[tuple[int, object], ...], str, str, bool | None]
FAILED: list[Failed] = [
    # 1: OpenAI, and 2: Azure, which also cancels
    (
        "openai",
        ((200, openai_job(code="moderation_blocked", message=BLOCKED)),),
        "moderation_output",
        "moderation_blocked",
        None,
    ),
    ("openai", ((200, openai_job(code="server_error", message="{key}")),), "transient", "server_error", None),
    ("openai", ((200, openai_job(code="x", message="{key}", misalignment={"steer": "?"})),), "transient", "x", None),
    ("openai", ((200, {**openai_job(), "status": "expired"}),), "expired", "expired", None),
    ("azure", ((200, {**openai_job(), "status": "cancelled"}),), "transient", "cancelled", None),
    # 3: servers of one's own; a GET of a failed job that answers with its own status
    ("vllm-omni", ((400, openai_job(code=400, message="bad lora {key}")),), "invalid_request", "400", False),
    ("vllm-omni", ((422, openai_job(code=422, message="{key}")),), "invalid_request", "422", False),
    ("vllm-omni", ((500, openai_job(code=500, message="out of memory {key}")),), "transient", "500", False),
    ("vllm-omni", ((503, openai_job(type="Overloaded", message="{key}")),), "transient", "Overloaded", False),
    ("sglang", ((200, openai_job(message="CUDA out of memory {key}")),), "transient", "failed", False),
    ("tensorrt-llm", ((200, {**openai_job(), "error": "engine died {key}"}),), "transient", "failed", False),
    (
        "fastvideo",
        ((200, openai_job(code="generation_failed", message="{key}")),),
        "transient",
        "generation_failed",
        False,
    ),
    ("litellm", ((500, {"error": {"message": f"OpenAIException - {QUOTED}"}}),), "transient", "500", None),
    (
        "any",
        ((200, {"task_id": "video_1", "status": "FAILURE", "fail_reason": "NSFW content {key}"}),),
        "moderation_output",
        "failure",
        None,
    ),
    ("any", ((200, {"id": "video_1", "status": "nsfw"}),), "moderation_output", "nsfw", None),
    ("any", ((200, {"id": "video_1", "status": "blocked", "error": "{key}"}),), "moderation_output", "blocked", None),
    # 3.2: gateways
    (
        "openrouter",
        ((200, {**OPENROUTER, "status": "failed", "error": "flagged by moderation {key}"}),),
        "moderation_output",
        "failed",
        None,
    ),
    (
        "openrouter",
        ((200, {**OPENROUTER, "status": "failed", "error": "{key}", "usage": {"cost": 0}}),),
        "transient",
        "failed",
        False,
    ),
    ("openrouter", ((200, {**OPENROUTER, "status": "cancelled"}),), "transient", "cancelled", None),
    ("openrouter", ((200, {**OPENROUTER, "status": "expired"}),), "expired", "expired", None),
    # 4: Runway, by how a code begins; a refused input is charged
    ("runway", ((200, runway_task("SAFETY.INPUT.TEXT")),), "moderation_input", "SAFETY.INPUT.TEXT", True),
    ("runway", ((200, runway_task("SAFETY.INPUT.IMAGE", 0)),), "moderation_input", "SAFETY.INPUT.IMAGE", False),
    ("runway", ((200, runway_task("SAFETY.OUTPUT.VIDEO", 160)),), "moderation_output", "SAFETY.OUTPUT.VIDEO", True),
    (
        "runway",
        ((200, runway_task("INPUT_PREPROCESSING.SAFETY.TEXT")),),
        "moderation_input",
        "INPUT_PREPROCESSING.SAFETY.TEXT",
        None,
    ),
    (
        "runway",
        ((200, runway_task("INPUT_PREPROCESSING.SAFETY.THIRD_PARTY")),),
        "moderation_input",
        "INPUT_PREPROCESSING.SAFETY.THIRD_PARTY",
        None,
    ),
    (
        "runway",
        ((200, runway_task("INPUT_PREPROCESSING.INTERNAL")),),
        "transient",
        "INPUT_PREPROCESSING.INTERNAL",
        None,
    ),
    (
        "runway",
        ((200, runway_task("INTERNAL.BAD_OUTPUT.CODE01", 0)),),
        "transient",
        "INTERNAL.BAD_OUTPUT.CODE01",
        False,
    ),
    ("runway", ((200, runway_task("INTERNAL")),), "transient", "INTERNAL", None),
    ("runway", ((200, runway_task("ASSET.INVALID")),), "invalid_request", "ASSET.INVALID", None),
    ("runway", ((200, runway_task("THIRD_PARTY.UNAVAILABLE")),), "transient", "THIRD_PARTY.UNAVAILABLE", None),
    (
        "runway",
        ((200, runway_task("THIRD_PARTY.INPUT_VALIDATION")),),
        "invalid_request",
        "THIRD_PARTY.INPUT_VALIDATION",
        None,
    ),
    (
        "runway",
        ((200, runway_task(None, text="The likeness of a public figure. {key}")),),
        "moderation_output",
        "",
        None,
    ),
    # 5: Luma; Agents pays back what fails, and Dream Machine has no codes
    ("luma", ((200, luma_generation("content_moderated")),), "moderation_input", "content_moderated", False),
    ("luma", ((200, luma_generation("generation_failed")),), "transient", "generation_failed", False),
    ("luma", ((200, luma_generation("budget_exhausted")),), "quota", "budget_exhausted", False),
    ("luma", ((200, luma_generation("output_not_found")),), "transient", "output_not_found", False),
    ("luma", ((200, luma_generation("image_too_large")),), "invalid_request", "image_too_large", False),
    ("luma", ((200, luma_generation("unsupported_format")),), "invalid_request", "unsupported_format", False),
    ("luma", ((200, luma_generation("corrupt_input")),), "invalid_request", "corrupt_input", False),
    ("luma", ((200, luma_generation("invalid_request")),), "invalid_request", "invalid_request", False),
    ("luma", ((200, luma_generation("rate_limited")),), "transient", "rate_limited", False),
    (
        "dream machine",
        ((200, luma_generation(None, "Advanced moderation failed {key}")),),
        "moderation_output",
        "",
        None,
    ),
    ("dream machine", ((200, luma_generation(None, "The prompt was moderated. {key}")),), "moderation_input", "", None),
    ("dream machine", ((200, luma_generation(None, "{key}")),), "transient", "", None),
    # 6: Veo
    ("veo", ((200, RAI),), "moderation_output", "rai_media_filtered", False),
    ("veo", ((200, {"done": True, "response": {}}),), "transient", "no_video", None),
    (
        "veo",
        ((200, veo_error(3, "The prompt contains sensitive words that violate our policy. {key}")),),
        "moderation_input",
        "3",
        None,
    ),
    ("veo", ((200, veo_error(3, "The input image shows a real person. {key}")),), "moderation_input", "3", None),
    ("veo", ((200, veo_error(3, "bad image {key}")),), "invalid_request", "3", None),
    ("veo", ((200, veo_error(8, "exhausted {key}")),), "quota", "8", None),
    ("veo", ((200, veo_error(13, "internal {key}")),), "transient", "13", None),
    ("veo", ((200, veo_error(14, "unavailable {key}")),), "transient", "14", None),
    # 6: fal; a failure is COMPLETED too
    (
        "fal",
        fal_ended(422, fal_detail("content_policy_violation", "body", "prompt")),
        "moderation_input",
        "content_policy_violation",
        True,
    ),
    (
        "fal",
        fal_ended(422, fal_detail("content_policy_violation", "body")),
        "moderation_output",
        "content_policy_violation",
        True,
    ),
    (
        "fal",
        fal_ended(422, fal_detail("image_too_small", "body", "image_url")),
        "invalid_request",
        "image_too_small",
        True,
    ),
    (
        "fal",
        fal_ended(422, fal_detail("video_duration_too_long", "body", "video_url")),
        "invalid_request",
        "video_duration_too_long",
        True,
    ),
    (
        "fal",
        fal_ended(504, {"detail": "timed out {key}", "error_type": "request_timeout"}),
        "transient",
        "request_timeout",
        False,
    ),
    (
        "fal",
        fal_ended(500, {}, error="gone {key}", error_type="runner_disconnected"),
        "transient",
        "runner_disconnected",
        False,
    ),
    ("fal", fal_ended(500, {}, error="{key}"), "transient", "500", False),
]


@pytest.mark.parametrize(("way", "said_", "failure", "code", "billed"), FAILED)
def test_a_job_that_failed_says_whose_fault_it_was(
    host: Host, way: str, said_: tuple[tuple[int, object], ...], failure: str, code: str, billed: bool | None
) -> None:
    answers(host, *said_)
    job = WAYS[way].client(host.url).check(WAYS[way].job)
    assert (job.state, job.failure, job.code, job.billed) == ("failed", failure, code, billed)
    assert (job.id, KEY in repr(job), "secret" in repr(job)) == (WAYS[way].job, False, False)
    if "{key}" in json.dumps(said_):
        assert "…" in job.text


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", [404, 410])
def test_a_job_that_is_not_known_is_lost(host: Host, way: str, status: int) -> None:
    answers(host, (status, {"error": {"message": "no such job {key}"}}))
    job = WAYS[way].client(host.url).check(WAYS[way].job)
    assert (job.state, job.failure) == ("gone", "lost")
    assert "secret" not in repr(job)


@pytest.mark.parametrize("way", WAYS)
def test_trouble_with_looking_is_none_of_the_job(host: Host, way: str) -> None:
    for status in (500, 502, 503, 504):
        answers(host, (status, {"detail": "overloaded {key}"}))
        with pytest.raises(ProviderUnavailable) as raised:
            WAYS[way].client(host.url).check(WAYS[way].job)
        assert "secret" not in f"{raised.value!r} {raised.value.text}"


# ---------------------------------------------------------------- requests that are refused


def wrong(code: str | None, text: str, **more: object) -> dict[str, Any]:
    return {
        "error": {"message": f"{text} {{key}}", "type": "invalid_request_error", "param": None, "code": code, **more}
    }


def google(status: str, text: str, **details: object) -> dict[str, Any]:
    return {"error": {"code": 400, "status": status, "message": f"{text} {{key}}", "details": [details]}}


Refused = tuple[str, int, object, str, str]
REFUSED: list[Refused] = [
    (
        "openai",
        400,
        wrong(None, "Inpaint image must match the requested width and height"),
        "invalid_request",
        "invalid_request_error",
    ),
    ("openai", 400, wrong("invalid_value", "Invalid seconds value"), "invalid_request", "invalid_value"),
    ("openai", 400, wrong("moderation_blocked", "blocked"), "moderation_input", "moderation_blocked"),
    (
        "openai",
        400,
        wrong(None, "The uploaded image contains a human face"),
        "moderation_input",
        "invalid_request_error",
    ),
    ("openai", 403, {"error": "organization must be verified {key}"}, "unauthorized", ""),
    ("openai", 401, wrong("invalid_api_key", "Incorrect API key provided:"), "unauthorized", "invalid_api_key"),
    ("openai", 429, wrong("insufficient_quota", "You exceeded your current quota"), "quota", "insufficient_quota"),
    ("openai", 400, wrong("billing_hard_limit_reached", "limit"), "quota", "billing_hard_limit_reached"),
    ("azure", 401, wrong("401", "Access denied due to invalid subscription key"), "unauthorized", "401"),
    (
        "vllm-omni",
        422,
        {"detail": [{"msg": "seconds: bad {key}", "type": "value_error"}]},
        "invalid_request",
        "value_error",
    ),
    ("sglang", 400, {"detail": "input_reference is required {key}"}, "invalid_request", "400"),
    ("tensorrt-llm", 422, {"object": "error", "message": "extra {key}", "code": 422}, "invalid_request", "422"),
    ("litellm", 400, wrong("400", "litellm.BadRequestError: moderation_blocked"), "moderation_input", "400"),
    ("any", 404, {"error": {"message": "Invalid URL {key}"}}, "invalid_request", "404"),
    (
        "runway",
        400,
        {"error": "Validation of body failed {key}", "issues": [{"path": ["ratio"], "message": "no"}]},
        "invalid_request",
        "400",
    ),
    ("runway", 400, {"error": "You do not have enough credits to run this task. {key}"}, "quota", "400"),
    ("runway", 401, {"error": "bad key {key}"}, "unauthorized", ""),
    ("runway", 403, {"error": "Model variant veo3.1 is not available. {key}"}, "invalid_request", "403"),
    ("luma", 402, {"detail": "Insufficient credits {key}"}, "quota", "402"),
    ("luma", 413, {"detail": "The image exceeds 50 MB {key}"}, "invalid_request", "413"),
    ("luma", 422, {"detail": "10s does not go with loop {key}"}, "invalid_request", "422"),
    ("dream machine", 400, {"detail": "no content with a likeness of real people {key}"}, "moderation_input", ""),
    ("dream machine", 403, {"detail": "Not authenticated {key}"}, "unauthorized", ""),
    ("veo", 400, google("INVALID_ARGUMENT", "bad seconds"), "invalid_request", "INVALID_ARGUMENT"),
    (
        "veo",
        400,
        google("INVALID_ARGUMENT", "violates Google's Responsible AI practices"),
        "moderation_input",
        "INVALID_ARGUMENT",
    ),
    (
        "veo",
        400,
        google("INVALID_ARGUMENT", "the image has a recognizable face"),
        "moderation_input",
        "INVALID_ARGUMENT",
    ),
    ("veo", 400, google("INVALID_ARGUMENT", "API key not valid", reason="API_KEY_INVALID"), "unauthorized", ""),
    (
        "veo",
        429,
        google("RESOURCE_EXHAUSTED", "quota", quotaId="RequestsPerDayPerProject"),
        "quota",
        "RESOURCE_EXHAUSTED",
    ),
    ("fal", 401, {"detail": "no such key {key}"}, "unauthorized", ""),
    ("fal", 403, {"detail": "User is locked. Reason: Exhausted balance. {key}"}, "quota", "403"),
    ("fal", 422, fal_detail("missing", "body", "prompt"), "invalid_request", "missing"),
    (
        "fal",
        422,
        fal_detail("content_policy_violation", "body", "prompt"),
        "moderation_input",
        "content_policy_violation",
    ),
]


@pytest.mark.parametrize(("way", "status", "body", "failure", "code"), REFUSED)
def test_a_request_that_is_refused_says_why(
    host: Host, way: str, status: int, body: object, failure: str, code: str
) -> None:
    answers(host, (status, body))
    with pytest.raises(ProviderRefused) as raised:
        WAYS[way].client(host.url).submit(WAYS[way].request(), "key")
    assert (raised.value.failure, raised.value.code) == (failure, code)
    assert "secret" not in f"{raised.value!r} {raised.value} {raised.value.text}"
    if failure.startswith("moderation"):
        assert "policy" in str(raised.value)


RECORD = {"data": [{"id": "google/veo-3.1", "supported_sizes": ["1280x720"], "seed": True}]}


@pytest.mark.parametrize(
    ("status", "body", "failure"),
    [
        (402, {"error": {"code": 402, "message": "Insufficient credits {key}"}}, "quota"),
        (403, {"error": {"code": 403, "message": "Your input was flagged by moderation {key}"}}, "moderation_input"),
        (400, {"error": {"code": 400, "message": "duration {key}"}}, "invalid_request"),
    ],
)
def test_openrouter_refuses_after_it_has_shown_its_models(host: Host, status: int, body: object, failure: str) -> None:
    answers(host, (200, RECORD), (status, body))
    with pytest.raises(ProviderRefused) as raised:
        WAYS["openrouter"].client(host.url).submit(WAYS["openrouter"].request(), "key")
    assert raised.value.failure == failure
    assert "secret" not in f"{raised.value!r} {raised.value} {raised.value.text}"


@pytest.mark.parametrize("way", [name for name in WAYS if name != "openrouter"])
def test_limits_and_outages_are_waited_for(host: Host, way: str) -> None:
    provider, request = WAYS[way].client(host.url), WAYS[way].request()
    host.script = lambda asked: said({"detail": "slow down"}, 429, retry_after="7")
    with pytest.raises(Later) as later:
        provider.submit(request, "key")
    assert later.value.seconds == 7
    for status in (500, 502, 503, 504):
        answers(host, (status, {"detail": "bad gateway {key}"}))
        with pytest.raises(ProviderUnavailable) as raised:
            provider.submit(request, "key")
        assert (raised.value.failure, "secret" in f"{raised.value!r} {raised.value}") == ("transient", False)


# ---------------------------------------------------------------- films that are gone


@pytest.mark.parametrize("way", WAYS)
def test_a_film_that_is_gone_has_expired(host: Host, way: str, tmp_path: Path) -> None:
    host.script = lambda asked: Answer(404, f'{{"detail": "gone {KEY}"}}'.encode())
    with pytest.raises(ProviderError) as raised:
        WAYS[way].client(host.url).download(WAYS[way].job, tmp_path / "film.mp4")
    assert raised.value.failure == "expired"
    assert "secret" not in f"{raised.value!r} {raised.value} {raised.value.text}"


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("queued pending submitted created THROTTLED IN_QUEUE starting", "queued"),
        ("in_progress processing generating postprocessing dreaming running RUNNING", "running"),
        ("completed succeeded succeed SUCCEEDED success", "done"),
        ("failed error nsfw refused rejected blocked moderated cancelled canceled expired", "failed"),
        ("deleted", "gone"),
    ],
)
def test_every_word_that_was_seen_has_a_meaning(words: str, state: str) -> None:
    """facts/providers.md 10.2. Cancelled and expired are failures: the job is there, and has ended without a film."""
    for word in words.split():
        assert STATES[word.lower()] == state
        assert decoded({"id": "1", "status": word}).state == state


@pytest.mark.parametrize(
    ("code", "text", "policy"),
    [
        ("", "This content may violate our guardrails around likeness", True),
        ("", "The request failed because the input video may contain real person", True),  # Comfy-Org #822
        ("InputImageSensitiveContentDetected.PrivacyInformation", "", True),  # vm0-ai/vm0#31359
        ("", "the output video may contain sensitive information", True),  # vm0-ai/vm0#30959
        ("", "human faces are rejected", True),
        ("", "a public figure was recognized", True),
        ("content_policy_violation", "", True),
        ("sentinel_block", "", True),
        ("", "contentModeration: expected publicFigureThreshold: auto|low", False),
        ("", "names are case-sensitive", False),
        ("", "Inpaint image must match", False),
        ("server_error", "GPU", False),
    ],
)
def test_likeness_is_policy(code: str, text: str, policy: bool) -> None:
    assert is_moderation(code, text) == policy


@pytest.mark.parametrize("spelled", [KEY, json.dumps(KEY)[1:-1], KEY.replace("/", "\\/")])
def test_a_key_is_found_however_it_is_spelled(host: Host, spelled: str) -> None:
    host.script = lambda asked: Answer(400, f"<p>no: {spelled}</p>".encode())
    with pytest.raises(ProviderRefused, match="no: …") as raised:
        WAYS["openai"].client(host.url).submit(WAYS["openai"].request(), "key")
    assert "very" not in str(raised.value)


def test_a_word_of_the_answer_that_is_called_like_a_short_key_stays(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's own server takes `video` for a key."""
    monkeypatch.setenv("VLLM_API_KEY", "video")
    answers(host, (200, {"id": "video_1", "object": "video", "status": "completed"}))
    job = replace(WAYS["vllm-omni"]).client(host.url).check("video_1")
    assert (job.id, job.state) == ("video_1", "done")
