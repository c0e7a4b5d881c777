"""OpenRouter's Videos API: one key, many vendors, and a list that says what each model can be asked.

Written from openrouter 1.3.84 and https://openrouter.ai/docs/api_reference/videos.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.errors import InputError, ProviderRefused, ProviderUnavailable
from stages.http import NOT_SENT, Answer, ask, checked, data_url, download, error_words, fetch, is_moderation
from stages.providers import State, VideoJob, VideoRequest
from stages.providers.account import Account, known
from stages.providers.spelling import shape
from stages.providers.works import check_work, nothing_sent

STATES: Mapping[str, State] = {
    "pending": "queued",
    "in_progress": "running",
    "completed": "done",
    "failed": "failed",
    "cancelled": "failed",
    "expired": "failed",
}
TRIES = 2
"""How often a film's signed address is asked for; then the content is, with the key."""


@dataclass(frozen=True, slots=True)
class OpenRouter(Account):
    """One account at OpenRouter, which has no list of jobs."""

    url_variables = ("OPENROUTER_BASE_URL",)
    usual_url = "https://openrouter.ai/api/v1"

    key_variable: str = "OPENROUTER_API_KEY"
    name: str = "openrouter"
    poll: float = 10.0

    def submit(self, request: VideoRequest, key: str) -> VideoJob:
        """Create the job, once the model's record says that it can be asked for all of it.

        OpenRouter would hand on what the vendor understands and ignore the rest.
        """
        check_work(self.name, request, self.works)
        body = asked(request, self.model(request.model))
        answer = ask(self.service, "POST", "videos", data=body, headers={"Idempotency-Key": key})
        data = self._checked(answer).data()
        if not data.get("id"):
            raise ProviderUnavailable(f"{self.name} answered without a job", "transient", "no_id")
        return decoded(data)

    def model(self, name: str) -> Mapping[str, Any]:
        """The record of a model. Raises InputError if OpenRouter does not film with it."""
        with nothing_sent():
            listed = self._checked(ask(self.service, "GET", "videos/models")).data().get("data")
        if not isinstance(listed, list):
            raise ProviderUnavailable(f"{self.name} gave no list of its models", "transient", NOT_SENT)
        records = [record for record in listed if isinstance(record, Mapping)]
        for record in records:
            if name in (record.get("id"), record.get("canonical_slug")):
                return record
        raise InputError(f"{self.name} does not film with '{name}'", "model")

    def check(self, job_id: str) -> VideoJob:
        """Retrieve the job."""
        answer = ask(self.service, "GET", _path(job_id))
        if answer.status in (404, 410):
            return VideoJob(job_id, "gone", failure="lost", code=str(answer.status))
        return decoded(self._checked(answer).data(), job_id)

    def download(self, job_id: str, target: Path) -> None:
        """Write the film to `target`: from the signed address, without the key, else from OpenRouter itself."""
        for _ in range(TRIES):
            answer = known(self.service, job_id, ask(self.service, "GET", _path(job_id)))
            urls = self._checked(answer).data().get("urls")
            if not isinstance(urls, list) or not urls:
                break
            try:
                fetch(self.service, str(urls[0]), target)
                return
            except ProviderRefused as error:
                if error.failure not in ("expired", "unauthorized"):  # storage says 403 when a signature is old
                    raise
        download(self.service, f"{_path(job_id)}/content?index=0", target)

    def find(self, since: float) -> list[VideoJob]:
        """There is no list to find anything in."""
        raise InputError(f"{self.name} has no list of its jobs")

    def _checked(self, answer: Answer) -> Answer:
        if answer.status == 402:
            _, text = error_words(answer.data())
            raise ProviderRefused(f"{self.name}: the account's credits are used up ({text})", "quota", "402", text)
        return checked(self.service, answer)


# ---------------------------------------------------------------- what is asked


def asked(request: VideoRequest, model: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a create request. Raises InputError for what `model`, its record, cannot do.

    What a record leaves open (null) is asked for.
    """
    name = request.model
    if request.negative:
        raise InputError("OpenRouter has no word for a negative prompt", "negative")
    if request.loop:
        raise InputError("OpenRouter has no word for a loop; the `loop` edit makes one", "loop")
    _check_in(model, "supported_durations", request.seconds, f"{name} does not film {request.seconds} s", "length")
    if request.seed is not None and model.get("seed") is False:
        raise InputError(f"{name} takes no seed", "seed")
    body: dict[str, Any] = {
        "model": name,
        "prompt": request.prompt,
        "duration": request.seconds,
        **_size(request, model),
    }
    if model.get("generate_audio") is not False:
        body["generate_audio"] = request.audio  # left out, it is what each vendor likes
    if request.seed is not None:
        body["seed"] = request.seed
    if frames := _frames(request, model):
        body["frame_images"] = frames
    for option, value in request.options:
        if option != "callback_url":
            raise InputError(f"OpenRouter has no option '{option}' here; there is callback_url", "options")
        body[option] = value
    return body


def _size(request: VideoRequest, model: Mapping[str, Any]) -> dict[str, str]:
    """In exact pixels where the model lists them, else by shape and resolution."""
    if str(request.size) in (model.get("supported_sizes") or ()):
        return {"size": str(request.size)}
    ratio, resolution = shape(request.size)
    resolution = resolution.upper() if resolution == "4k" else resolution
    sentence = f"{request.model} does not film {request.size}"
    if not resolution or model.get("supported_sizes"):
        raise InputError(f"{sentence}, but {', '.join(model.get('supported_sizes') or ())}", "frame")
    _check_in(model, "supported_aspect_ratios", ratio, sentence, "frame")
    _check_in(model, "supported_resolutions", resolution, sentence, "frame")
    return {"aspect_ratio": ratio, "resolution": resolution}


def _frames(request: VideoRequest, model: Mapping[str, Any]) -> list[dict[str, Any]]:
    frames = []
    for kind, image in (("first_frame", request.reference), ("last_frame", request.last_frame)):
        if image:
            sentence = f"{request.model} takes no {kind.replace('_', ' ')}"
            parameter = "reference" if kind == "first_frame" else "last_frame"
            _check_in(model, "supported_frame_images", kind, sentence, parameter)
            frames.append({"type": "image_url", "image_url": {"url": data_url(image)}, "frame_type": kind})
    return frames


def _check_in(model: Mapping[str, Any], field: str, value: object, sentence: str, parameter: str) -> None:
    sold = model.get(field)
    if isinstance(sold, list) and value not in sold:
        but = f", but {', '.join(map(str, sold))}" if sold else ""
        raise InputError(f"{sentence}{but}", parameter)


# ---------------------------------------------------------------- what is answered


def decoded(data: Mapping[str, Any], job_id: str = "") -> VideoJob:
    """A job as OpenRouter describes it. It says neither what was asked nor how far it is."""
    word = str(data.get("status") or "")
    state = STATES.get(word, "running")
    expires = data.get("expires_at")
    failure = code = text = ""
    if state == "failed":
        code, text = error_words(data)
        code = code or word
        failure = _failure(word, code, text)
    return VideoJob(
        id=str(data.get("id") or job_id),
        state=state,
        progress=1.0 if state == "done" else None,
        failure=failure,
        code=code,
        text=text,
        expires_at=float(expires) if isinstance(expires, int | float) else None,
        billed=_billed(data) if state == "failed" else None,
    )


def _failure(word: str, code: str, text: str) -> str:
    if word == "expired":
        return "expired"
    return "moderation_output" if is_moderation(code, text) else "transient"


def _billed(data: Mapping[str, Any]) -> bool | None:
    """Whether a failed job cost something, where it says."""
    usage = data.get("usage")
    cost = usage.get("cost") if isinstance(usage, Mapping) else None
    return cost > 0 if isinstance(cost, int | float) else None


def _path(job_id: str) -> str:
    return f"videos/{urllib.parse.quote(job_id, safe='')}"
