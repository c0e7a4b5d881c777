"""How each dialect is spoken and read: against a host that answers what the test says, and on paper."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_openai_provider import FILM, Answer, Asked, Host, host, opened, said

from stages.clip import Size
from stages.errors import InputError, Later, ProviderRefused, ProviderUnavailable
from stages.ledger import STUCK, collect, open_ledger, submit_once
from stages.providers import VideoRequest
from stages.providers.dialects import (
    ANY,
    ANY_JSON,
    AZURE,
    DIALECTS,
    FASTVIDEO,
    LITELLM,
    OPENAI,
    SGLANG,
    TENSORRT_LLM,
    VLLM_OMNI,
    Dialect,
)
from stages.providers.openai import OpenAI, account_at, azure, decoded, found_job, found_url, vllm_omni
from stages.simulators.manners import MANNERS

__all__ = ["host"]  # the fixture

WISH = VideoRequest("a rose", "wan2.2", Size(1280, 720), 8)
VIDEO = {"id": "video_1", "object": "video", "status": "completed", "created_at": 1000, "model": "wan2.2"}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "first.png"
    path.write_bytes(b"PNG")
    return path


def at(host: Host, dialect: Dialect) -> OpenAI:
    return account_at(dialect, base_url=host.url)


def body_of(asked: Asked) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asked.body)
    return found


# ---------------------------------------------------------------- speaking


def test_every_dialect_has_a_name_and_somebody_who_answers_in_it() -> None:
    assert all(name == dialect.name for name, dialect in DIALECTS.items())
    assert set(DIALECTS) - set(MANNERS) == {"any", "any-json"}
    for dialect in DIALECTS.values():
        assert dialect.url_variable
        assert not dialect.idempotent, "say in a comment who has seen it"


@pytest.mark.parametrize(
    ("dialect", "seconds"),
    [(OPENAI, "8"), (SGLANG, "8"), (FASTVIDEO, "8"), (TENSORRT_LLM, 8.0), (VLLM_OMNI, "8"), (ANY_JSON, "8")],
    ids=lambda value: getattr(value, "name", ""),
)
def test_seconds_have_the_type_that_is_read(dialect: Dialect, seconds: object) -> None:
    fields, upload = dialect.said(WISH)
    assert (fields["seconds"], type(fields["seconds"])) == (seconds, type(seconds))
    assert (fields["model"], fields["prompt"], fields["size"]) == ("wan2.2", "a rose", "1280x720")
    assert upload is None


def test_a_first_frame_is_shown_as_each_wants_to_see_it(image: Path) -> None:
    wish = replace(WISH, reference=image)
    url = "data:image/png;base64,UE5H"
    for dialect in (OPENAI, AZURE, VLLM_OMNI, SGLANG, FASTVIDEO, LITELLM, ANY):
        assert dialect.said(wish)[1] == ("input_reference", image, "image/png")
    assert ANY_JSON.said(wish)[0]["input_reference"] == {"image_url": url}
    assert TENSORRT_LLM.said(wish)[0]["image_reference"] == url
    assert TENSORRT_LLM.said(replace(wish, last_frame=image))[0]["image_reference"] == [
        {"content": url, "role": "first_frame"},
        {"content": url, "role": "last_frame"},
    ]


def test_what_open_models_understand_is_said_to_them() -> None:
    wish = replace(WISH, negative="people", seed=0)
    for dialect in (VLLM_OMNI, SGLANG, FASTVIDEO):
        fields, _ = dialect.said(wish)
        assert (fields["negative_prompt"], fields["seed"]) == ("people", "0")
    assert TENSORRT_LLM.said(wish)[0]["seed"] == 0
    assert VLLM_OMNI.said(WISH)[0]["generate_sound"] == "true"  # off unless asked for
    assert VLLM_OMNI.said(replace(WISH, audio=False))[0]["generate_sound"] == "false"


def test_options_are_text_in_forms_and_values_in_json() -> None:
    options = (("num_inference_steps", "040"), ("extra_params", '{"shift": 5}'), ("prompt", "never mind"))
    form, _ = VLLM_OMNI.said(replace(WISH, options=options))
    assert (form["num_inference_steps"], form["extra_params"]) == ("040", '{"shift": 5}')
    data, _ = TENSORRT_LLM.said(replace(WISH, options=(("num_inference_steps", "40"), *options[1:])))
    assert (data["num_inference_steps"], data["extra_params"]) == (40, {"shift": 5})
    assert form["prompt"] == data["prompt"] == "a rose"


def test_what_there_are_no_words_for_is_refused_with_all_of_it(host: Host, image: Path) -> None:
    wish = replace(WISH, reference=image, last_frame=image, audio=False, negative="people", loop=True, seed=1)
    with pytest.raises(InputError, match=r"last frame or .*strip_audio.* or .* loop .* or a seed: nothing was sent"):
        at(host, LITELLM).submit(wish, "key")
    assert not host.asked
    assert VLLM_OMNI.lacks(wish) == ("last_frame", "loop")
    assert TENSORRT_LLM.lacks(wish) == ("audio", "loop")


def test_json_arrives_as_json(host: Host, image: Path) -> None:
    host.script = lambda asked: said({**VIDEO, "status": "queued"}, 202)
    assert at(host, TENSORRT_LLM).submit(replace(WISH, reference=image), "key").id == "video_1"
    (asked,) = host.asked
    assert asked.headers["Content-Type"] == "application/json"
    assert body_of(asked)["seconds"] == 8.0


def test_azure_takes_either_key_and_keeps_its_version(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.script = lambda asked: said(VIDEO)
    origin = host.url.removesuffix("/v1")
    monkeypatch.delenv("AZURE_OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("AZURE_OPENAI_AD_TOKEN", raising=False)
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", origin)
    with pytest.raises(ProviderRefused, match="set AZURE_OPENAI_API_KEY"):
        azure().check("video_1")
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", "entra")
    azure().check("video_1")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "secret")
    azure(base_url=f"{origin}?api-version=preview").check("video_1")
    entra, secret = host.asked
    assert (entra.path, secret.path) == ("/openai/v1/videos/video_1", "/openai/v1/videos/video_1?api-version=preview")
    assert (entra.headers["Authorization"], entra.headers.get("api-key")) == ("Bearer entra", None)
    assert (secret.headers["api-key"], secret.headers.get("Authorization")) == ("secret", None)


def test_a_server_of_ones_own_needs_an_address_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VLLM_OMNI_BASE_URL", "VLLM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="where is vllm-omni"):
        vllm_omni()
    monkeypatch.setenv("VLLM_OMNI_BASE_URL", "http://gpu:8091")
    found = vllm_omni(typical=300)
    assert (found.name, found.base_url, found.account) == ("vllm-omni", "http://gpu:8091/v1", "gpu:8091")
    assert (found.key_variable, found.typical, found.can_list) == ("", 300, True)
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    assert vllm_omni().key_variable == "VLLM_API_KEY"
    assert not account_at(ANY, base_url="https://host/video/api").can_list


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize(
    "answer",
    [
        {"id": "j", "status": "processing"},
        {"code": "success", "message": "", "data": {"task_id": "j", "status": "PROCESSING"}},
        {"status": "ok", "video": {"id": "j", "status": "generating"}},
        {"detail": {"job_id": "j", "status": "postprocessing"}},
    ],
)
def test_a_job_may_be_wrapped_and_called_by_other_names(answer: dict[str, Any]) -> None:
    job = decoded(found_job(answer))
    assert (job.id, job.state, job.code) == ("j", "running", "")
    assert found_job({"error": {"message": "no", "code": "x"}}) == {}


def test_times_come_in_seconds_milliseconds_and_words() -> None:
    for text in (1760627796, "1760627796", 1760627796000, "2025-10-16T15:16:36Z"):
        assert decoded({"created_at": text}).created_at == 1760627796
    assert decoded({"created_at": "yesterday"}).created_at is None


@pytest.mark.parametrize(
    ("job", "failure", "text"),
    [
        ({"error": "CUDA out of memory"}, "transient", "CUDA out of memory"),
        ({"error": [{"msg": "bad lora", "type": "invalid_lora"}]}, "invalid_request", "bad lora"),
        ({"error": {"code": 400, "message": "bad lora"}}, "invalid_request", "bad lora"),
        ({"error": {"code": 500, "message": "oom"}}, "transient", "oom"),
        ({"error": {"code": 429, "message": "busy"}}, "transient", "busy"),
        ({"error": None, "fail_reason": "NSFW content"}, "moderation_output", "NSFW content"),
        ({"status": "blocked", "error": None}, "moderation_output", ""),
        ({"status": "expired"}, "expired", ""),
    ],
)
def test_errors_have_every_shape(job: dict[str, Any], failure: str, text: str) -> None:
    found = decoded({"id": "1", "status": "failed", **job}, dialect=VLLM_OMNI)
    assert (found.state, found.failure, found.text, found.billed) == ("failed", failure, text, False)
    assert decoded({"id": "1", "status": "failed", **job}).billed is None


def test_what_is_not_echoed_as_it_was_sent_is_left_out() -> None:
    """SGLang rounds sizes to what a model can do: compared with what was asked, they would hide a sale."""
    job = decoded({**VIDEO, "size": "1280x736", "seconds": "5"}, dialect=SGLANG)
    assert (job.size, job.seconds, job.model) == (None, 0, "wan2.2")
    assert decoded({**VIDEO, "model": "sora-2"}, dialect=AZURE).model == ""  # a deployment was asked for


@pytest.mark.parametrize("status", [400, 404, 422, 500, 503])
def test_a_failed_job_comes_with_any_status(host: Host, status: int) -> None:
    host.script = lambda asked: said({**VIDEO, "status": "failed", "error": {"code": status, "message": "no"}}, status)
    assert at(host, VLLM_OMNI).check("video_1").state == "failed"


def test_a_failed_job_may_be_quoted_by_a_gateway(host: Host) -> None:
    """LiteLLM's proxy in front of vLLM-Omni, seen with 1.106.2."""
    job = {**VIDEO, "id": "video_gen_1", "status": "failed", "error": {"code": 500, "message": "oom"}}
    message = f"litellm.InternalServerError: OpenAIException - {json.dumps(job)}\n\nLiteLLM: no fallback {{}}"
    host.script = lambda asked: said({"error": {"message": message, "code": "500"}}, 500)
    found = at(host, LITELLM).check("video_1")
    assert (found.id, found.state, found.text) == ("video_1", "failed", "oom")
    host.script = lambda asked: said({"error": {"message": 'OpenAIException - {"error": "oops"}'}}, 500)
    with pytest.raises(ProviderUnavailable):
        at(host, LITELLM).check("video_1")


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"[]", b"{}"])
def test_an_answer_without_a_job_is_an_outage_and_no_job(host: Host, body: bytes) -> None:
    host.script = lambda asked: Answer(200, body)
    with pytest.raises(ProviderUnavailable, match="without a job"):
        at(host, ANY).check("video_1")


def test_a_word_that_we_do_not_know_is_running_until_a_deadline(
    host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1_000_000.0]
    host.script = lambda asked: said({**VIDEO, "status": "Pondering", "created_at": now[0]})
    ledger, provider = open_ledger(tmp_path, clock=lambda: now[0]), replace(at(host, ANY), typical=0.0)
    submit_once(ledger, provider, WISH, "key", price=Decimal(0))
    created, host.script = now[0], lambda asked: said({**VIDEO, "status": "Pondering", "created_at": created})
    with pytest.raises(Later):
        collect(ledger, provider, "key")
    now[0] += STUCK + 600
    with pytest.raises(ProviderUnavailable, match="has been filming"):
        collect(ledger, provider, "key")
    assert provider.check("video_1").code == "pondering"
    assert sum("pondering" in record.message for record in caplog.records) <= 1


# ---------------------------------------------------------------- fetching


def contents(host: Host, content: Answer, job: dict[str, Any] | None = None) -> None:
    """Let the host answer `/content` with `content`, its films with a film, all else with the job."""

    def script(asked: Asked) -> Answer:
        if asked.path.endswith("/content"):
            return content
        return Answer(200, FILM) if "/films/" in asked.path else said(job or VIDEO)

    host.script = script


def test_a_film_is_fetched_from_wherever_it_is_said_to_be(host: Host, tmp_path: Path) -> None:
    url, provider = f"{host.url}/films/1.mp4?signature=x%3D", at(host, ANY)
    places = [
        (said({"id": "video_1", "url": url}), None),
        (said({"output": {"videos": [{"url": url}]}}), None),
        (said({"detail": f"Video has been uploaded to cloud storage. Please use the cloud URL: {url}."}, 400), None),
        (said({"error": {"message": "Invalid URL", "code": "x"}}, 404), {**VIDEO, "video_url": url}),
        (said({}, 404), {**VIDEO, "meta_data": {"url": url}}),
        (said({}, 404), {**VIDEO, "unsigned_urls": [url]}),
        (said({}, 404), {**VIDEO, "assets": {"image": "https://no", "video": url}}),
        (said({}, 404), {**VIDEO, "url": "/v1/films/1.mp4?signature=x%3D"}),
    ]
    for number, (content, job) in enumerate(places):
        contents(host, content, job)
        provider.download("video_1", tmp_path / f"{number}.mp4")
        assert (tmp_path / f"{number}.mp4").read_bytes() == FILM, number
        assert host.asked[-1].path == "/v1/films/1.mp4?signature=x%3D"


def test_the_key_stays_with_the_server_that_it_is_for(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERFRAME_VIDEOS_KEY", "secret")
    with opened() as storage:
        storage.script = lambda asked: Answer(200, FILM)
        contents(host, said({"url": storage.url.replace("127.0.0.1", "localhost") + "/films/1.mp4"}))
        with pytest.raises(ProviderRefused, match="not https and public"):
            at(host, ANY).download("video_1", tmp_path / "film.mp4")
        assert not storage.asked
        replace(at(host, ANY), file_hosts=("localhost",)).download("video_1", tmp_path / "film.mp4")
        assert "Authorization" not in storage.asked[0].headers
        assert host.asked[0].headers["Authorization"] == "Bearer secret"


def test_a_film_that_is_not_there_yet_is_not_lost(host: Host, tmp_path: Path) -> None:
    for content in (said({"detail": "Generation is still in-progress"}, 404), said({"message": "not ready"}, 400)):
        contents(host, content, {**VIDEO, "status": "postprocessing"})
        with pytest.raises(ProviderUnavailable, match="yet") as later:
            at(host, TENSORRT_LLM).download("video_1", tmp_path / "film.mp4")
        assert later.value.code == "not_ready"
    contents(host, said({"detail": "Video not found"}, 404))
    with pytest.raises(ProviderRefused) as gone:
        at(host, SGLANG).download("video_1", tmp_path / "film.mp4")
    assert gone.value.failure == "expired"
    contents(host, said({"error": {"message": "wrong key"}}, 401))
    with pytest.raises(ProviderRefused) as unauthorized:
        at(host, SGLANG).download("video_1", tmp_path / "film.mp4")
    assert unauthorized.value.failure == "unauthorized"


def test_a_path_on_another_machine_is_no_film(host: Host, tmp_path: Path) -> None:
    contents(host, said({"id": "video_1", "output_path": "/data/video_1.mp4"}))
    with pytest.raises(ProviderRefused, match=r"its own disk \(/data/video_1\.mp4\)"):
        at(host, TENSORRT_LLM).download("video_1", tmp_path / "film.mp4")
    assert not (tmp_path / "film.mp4").exists()


def test_addresses_of_other_things_are_not_taken_for_films() -> None:
    others = {
        "polling_url": "https://host/poll",
        "thumbnail_url": "https://host/thumb.jpg",
        "input_reference": {"image_url": "https://host/a.png"},
        "error": {"message": "see https://host/help"},
        "prompt": "like https://host/film.mp4",
        "file_path": "/outputs/1.mp4",
    }
    assert found_url(others, "https://host/v1") == ""
    assert found_url({**others, "url": "/1.mp4"}, "https://host/v1") == "https://host/1.mp4"


# ---------------------------------------------------------------- listing


def numbered(*numbers: int) -> list[dict[str, Any]]:
    return [{**VIDEO, "id": f"video_{number}", "created_at": number} for number in numbers]


def test_a_list_without_has_more_is_read_until_it_has_no_more(host: Host) -> None:
    """SGLang's and FastVideo's pages: a purchase on the second one was paid too."""
    jobs = numbered(*range(950, 700, -1))

    def page(asked: Asked) -> Answer:
        query = httpx.URL(asked.path).params
        start = 1 + next((n for n, job in enumerate(jobs) if job["id"] == query.get("after")), -1)
        return said({"object": "list", "data": jobs[start : start + int(query["limit"])]})

    host.script = page
    assert len(at(host, SGLANG).find(0)) == 250
    assert [job.created_at for job in at(host, SGLANG).find(948)] == [950, 949, 948]


def test_a_list_in_the_wrong_order_is_read_to_its_end(host: Host) -> None:
    host.script = lambda asked: said({"data": numbered(1, 2, 900)})  # TensorRT-LLM: whole, oldest first
    assert [job.id for job in at(host, TENSORRT_LLM).find(500)] == ["video_900"]
    pages = {None: numbered(1, 2), "video_2": numbered(3, 900)}
    host.script = lambda asked: said({"data": pages.get(httpx.URL(asked.path).params.get("after"), [])})
    assert [job.id for job in at(host, TENSORRT_LLM).find(500)] == ["video_900"]


# ---------------------------------------------------------------- deleting


def test_deleting(host: Host) -> None:
    answers: list[object] = [{"deleted": True}, {**VIDEO, "status": "deleted"}, {"id": "video_1", "deleted": True}]
    for dialect, answer in zip((TENSORRT_LLM, SGLANG, VLLM_OMNI), answers, strict=True):
        host.script = lambda asked, answer=answer: said(answer)  # type: ignore[misc]
        at(host, dialect).delete("video_1")
    assert {asked.method for asked in host.asked} == {"DELETE"}
    host.script = lambda asked: said({"detail": "it is being cancelled"}, 409)
    with pytest.raises(ProviderUnavailable):
        at(host, VLLM_OMNI).delete("video_1")
    with pytest.raises(InputError, match="no way to delete"):
        at(host, LITELLM).delete("video_1")
