"""Runway's API: a task for each film, filmed by Runway's models and by others' that it sells.

Written from runwayml 5.24.0 (the SDK's types are generated from the API's
own schema) and facts/providers.md section 4. A body is checked there against
one schema for each model and endpoint, and a field too many is refused: so
what a model cannot say is refused here, before anything is sent. Of a model
that is not in `MODELS` nothing is known: it is sent what was asked.

There is no list of tasks and no idempotency key: a create whose answer was
lost cannot be looked up.
"""

from __future__ import annotations

import json
import math
import mimetypes
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stages.errors import InputError, ProviderRefused, ProviderUnavailable
from stages.http import NOT_SENT, Answer, Service, ask, checked, data_url, is_moderation, refusal
from stages.providers import State, VideoJob, VideoRequest
from stages.providers.account import Account
from stages.providers.spelling import instant

VERSION = "2024-11-06"

STATES: Mapping[str, State] = {
    "PENDING": "queued",
    "THROTTLED": "queued",  # over the account's concurrency: it waits at Runway
    "RUNNING": "running",
    "SUCCEEDED": "done",
    "FAILED": "failed",
    "CANCELLED": "gone",
}

FAILURES = (
    (r"SAFETY\.INPUT|INPUT_PREPROCESSING\.SAFETY", "moderation_input"),
    (r".*SAFETY", "moderation_output"),
    (r"ASSET\.INVALID|.*INPUT_VALIDATION", "invalid_request"),
    (r"INTERNAL|INPUT_PREPROCESSING|THIRD_PARTY", "transient"),
)
"""What failure codes mean, by how they begin; the first that fits counts."""

IMAGES = ("image/jpeg", "image/png", "image/webp")
INLINE = 5 * 1024 * 1024
"""Characters of a data URI that are taken; a larger image is uploaded."""
UPLOAD = 200 * 1024 * 1024
"""Bytes of an upload that are taken."""


@dataclass(frozen=True, slots=True)
class Model:
    """What one model's schema can say.

    `sizes` are what it films, `sizes_of_text` where that is less without an
    image; `prompt` is the longest prompt, in UTF-16 units; `sound` is there
    `never`, or as `asked`; `figures` says whether the option publicFigureThreshold exists.
    """

    seconds: tuple[int, ...]
    sizes: str
    sizes_of_text: str = ""
    text: bool = True
    last: bool = False
    sound: Literal["never", "asked"] = "never"
    negative: bool = False
    figures: bool = False
    prompt: int = 1000


GEN4 = "1280x720 720x1280 1104x832 832x1104 960x960 1584x672"
VEO = Model((4, 6, 8), "1280x720 720x1280 1920x1080 1080x1920", last=True, sound="asked", negative=True)
SEEDANCE = (
    "992x432 864x496 752x560 640x640 560x752 496x864 1470x630 1280x720 1112x834 960x960 834x1112 720x1280 "
    "2206x946 1920x1080 1664x1248 1440x1440 1248x1664 1080x1920 3840x1646 3840x2160 3840x2880 3840x3840 "
    "2880x3840 2160x3840"
)
MODELS: Mapping[str, Model] = {
    "gen4.5": Model(tuple(range(2, 11)), GEN4, sizes_of_text="1280x720 720x1280", figures=True),
    "gen4_turbo": Model(tuple(range(2, 11)), GEN4, text=False, figures=True),
    "veo3.1": VEO,
    "veo3.1_fast": VEO,
    "seedance2": Model(tuple(range(4, 16)), SEEDANCE, last=True, sound="asked", prompt=3500),
}


@dataclass(frozen=True, slots=True)
class Runway(Account):
    """One account at Runway: the organization that RUNWAYML_API_SECRET belongs to."""

    url_variables = ("RUNWAYML_BASE_URL",)
    usual_url = "https://api.dev.runwayml.com"

    key_variable: str = "RUNWAYML_API_SECRET"
    name: str = "runway"
    poll: float = 5.0  # "should not expect updates more frequent than once every five seconds"
    headers: tuple[tuple[str, str], ...] = (("X-Runway-Version", VERSION),)

    def address(self) -> str:
        """The base URL; the SDK's has no version."""
        return Account.address(self).rstrip("/").removesuffix("/v1") + "/v1"

    def submit(self, request: VideoRequest, key: str) -> VideoJob:
        """Create the task. The `key` goes nowhere: Runway knows none."""
        endpoint, body = ordered(request)
        frames = (("first", request.reference), ("last", request.last_frame))
        if images := [{"uri": self._uri(image), "position": place} for place, image in frames if image]:
            body["promptImage"] = images
        answer = self._accepted(ask(self.service, "POST", endpoint, data=body))
        job_id = answer.data().get("id")
        if not job_id:
            raise ProviderUnavailable(f"{self.name} answered without a task", "transient", "no_id")
        return VideoJob(str(job_id), "queued", seconds=request.seconds, size=request.size, model=request.model)

    def check(self, job_id: str) -> VideoJob:
        """How the task stands."""
        answer = ask(self.service, "GET", _path(job_id))
        if answer.status in (404, 410):
            return VideoJob(job_id, "gone", failure="lost", code=str(answer.status))
        return decoded(self._accepted(answer).data(), job_id)

    def download(self, job_id: str, target: Path) -> None:
        """Write the film to `target`, from an address that the task is asked for now: they expire."""
        self.take(lambda: self._address(job_id), target)

    def find(self, since: float) -> list[VideoJob]:
        """Runway lists nothing: raises ProviderUnavailable, since an empty list would mean «nothing was bought»."""
        raise ProviderUnavailable(f"{self.name} has no list of its tasks", "transient", "no_list")

    def delete(self, job_id: str) -> None:
        """Cancel a task, or delete a finished one with its film. What runs already is charged all the same."""
        self._accepted(ask(self.service, "DELETE", _path(job_id)))

    def _address(self, job_id: str) -> str:
        answer = ask(self.service, "GET", _path(job_id))
        if answer.status in (404, 410):
            raise ProviderRefused(f"{self.name} does not know task {job_id}", "expired", str(answer.status))
        task = self._accepted(answer).data()
        output = task.get("output")
        if STATES.get(str(task.get("status"))) != "done" or not isinstance(output, list) or not output:
            raise ProviderUnavailable(f"{self.name} has no film of task {job_id} yet", "transient", "no_output")
        return str(output[0])

    def _uri(self, image: Path) -> str:
        """The image as it is, in the request; or, where it is too large for that, uploaded."""
        address = data_url(image)
        return address if len(address) <= INLINE else self._uploaded(image)

    def _uploaded(self, image: Path) -> str:
        """Upload `image`: its `runway://` address, good for a day. Whatever goes wrong here, no task was created."""
        try:
            asked = {"filename": image.name, "type": "ephemeral"}
            place = self._accepted(ask(self.service, "POST", "uploads", data=asked)).data()
            url, fields = str(place.get("uploadUrl")), place.get("fields")
            self._check_host(url)
            form = {str(name): str(value) for name, value in fields.items()} if isinstance(fields, Mapping) else {}
            bare = Service(self.name, url, "", self.send_within, self.patience)
            checked(bare, ask(bare, "POST", url, form=form, file=("file", image, _media_type(image))))
        except ProviderUnavailable as error:
            raise ProviderUnavailable(error.message, error.failure, NOT_SENT, error.text) from None
        return str(place.get("runwayUri"))

    def _check_host(self, url: str) -> None:
        parts, own = urllib.parse.urlsplit(url), urllib.parse.urlsplit(self.base_url)
        if parts.scheme != "https" and parts.hostname not in (own.hostname, *self.file_hosts):
            raise ProviderRefused(f"{self.name} wants the upload at {url[:80]}, which is not https", "invalid_request")

    def _accepted(self, answer: Answer) -> Answer:
        """`answer` if it is a success. Runway's complaints are `{"error", "issues": [{"path", "message"}]}`."""
        if 200 <= answer.status < 300:
            return answer
        text, code = _words(answer.data()), str(answer.status)
        if re.search(r"enough credits|insufficient", text.lower()):
            raise ProviderRefused(f"{self.name}: the account's credits are used up ({text})", "quota", code, text)
        if answer.status == 403 and "model" in text.lower():  # the key is good, but not for this model
            raise ProviderRefused(f"{self.name} refused the request ({text})", "invalid_request", code, text)
        body = json.dumps({"error": text}).encode() if text else answer.body
        raise refusal(self.service, Answer(answer.status, answer.headers, body))


def runway(typical: float = 60.0) -> Runway:
    """The account that RUNWAYML_API_SECRET and RUNWAYML_BASE_URL name; `typical` is the model's filming time."""
    return Runway(typical=typical)


# ---------------------------------------------------------------- asking


def ordered(request: VideoRequest) -> tuple[str, dict[str, Any]]:
    """The endpoint and the body, but for the images. Raises InputError for what Runway or the model cannot say."""
    model = MODELS.get(request.model)
    _check_request(request)
    if model:
        _check_model(request, model)
    body: dict[str, Any] = {
        "model": request.model,
        "promptText": request.prompt,
        "ratio": f"{request.size.width}:{request.size.height}",
        "duration": request.seconds,
    }
    if request.seed is not None:
        body["seed"] = request.seed
    if request.negative:
        body["negativePrompt"] = request.negative
    if (model and model.sound == "asked") or (model is None and not request.audio):
        body["audio"] = request.audio
    if threshold := dict(request.options).get("publicFigureThreshold"):
        body["contentModeration"] = {"publicFigureThreshold": threshold}
    return ("image_to_video" if request.reference else "text_to_video"), body


def _check_request(request: VideoRequest) -> None:
    if request.loop:
        raise InputError("runway cannot film a seamless loop: none of its models can say it", "loop")
    if request.last_frame and not request.reference:
        raise InputError("runway films towards a last frame only from a first one", "last_frame")
    if unknown := sorted(set(dict(request.options)) - {"publicFigureThreshold"}):
        raise InputError(f"runway has no option {unknown[0]}; it has publicFigureThreshold (auto, low)", "options")
    for image in (request.reference, request.last_frame):
        if image and _media_type(image) not in IMAGES:
            raise InputError(f"{image}: runway takes JPEG, PNG and WebP", "reference")
        if image and image.exists() and image.stat().st_size > UPLOAD:
            raise InputError(f"{image}: runway takes {UPLOAD / 1e6:.0f} MB, not more", "reference")


def _check_model(request: VideoRequest, model: Model) -> None:
    name = request.model
    sizes = model.sizes if request.reference else model.sizes_of_text or model.sizes
    units = len(request.prompt.encode("utf-16-le")) // 2
    if not request.reference and not model.text:
        raise InputError(f"{name} films pictures, not words alone: give it a reference", "reference")
    if request.last_frame and not model.last:
        raise InputError(f"{name} takes a first frame, but no last one", "last_frame")
    if str(request.size) not in sizes.split():
        raise InputError(f"{name} films {sizes.replace(' ', ', ')}, not {request.size}", "size")
    if request.seconds not in model.seconds:
        sold = ", ".join(map(str, model.seconds))
        raise InputError(f"{name} films {sold} s, not {request.seconds} s", "seconds")
    if units > model.prompt:
        raise InputError(f"the prompt has {units} characters; {name} takes {model.prompt}", "prompt")
    if request.negative and not model.negative:
        raise InputError(f"{name} cannot be told what not to film", "negative")
    if request.options and not model.figures:
        raise InputError(f"{name} has no option {request.options[0][0]}", "options")


# ---------------------------------------------------------------- reading


def decoded(task: Mapping[str, Any], job_id: str = "") -> VideoJob:
    """A task as a VideoJob. A status that we do not know means «running»."""
    state = STATES.get(str(task.get("status")), "running")
    failure = code = text = ""
    billed = None
    if state == "failed":
        code, text = str(task.get("failureCode") or ""), str(task.get("failure") or "")
        failure, billed = _failure(code, text), _billed(code, task.get("cost"))
    elif state == "gone":
        failure, code, billed = "lost", str(task.get("status")), _billed("", task.get("cost"))
    return VideoJob(
        id=str(task.get("id") or job_id),
        state=state,
        progress=_fraction(task.get("progress")),
        failure=failure,
        code=code,
        text=text,
        created_at=instant(task.get("createdAt")),
        billed=billed,
    )


def _failure(code: str, text: str) -> str:
    for beginning, failure in FAILURES:
        if re.match(beginning, code):
            return failure
    return "moderation_output" if is_moderation(code, text) else "transient"


def _billed(code: str, cost: object) -> bool | None:
    """The final cost says it; without one, only that a refused input is charged is known."""
    credits = cost.get("credits") if isinstance(cost, Mapping) else None
    if isinstance(credits, int | float):
        return credits > 0
    return True if code.startswith("SAFETY.INPUT") else None


def _fraction(value: object) -> float | None:
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return min(max(float(value), 0.0), 1.0)


def _words(data: Mapping[str, Any]) -> str:
    issues = data.get("issues")
    said = [str(data.get("error") or "")]
    for issue in issues if isinstance(issues, list) else []:
        path = issue.get("path") if isinstance(issue, Mapping) else None
        if isinstance(path, list):
            said.append(f"{'.'.join(map(str, path)) or 'body'}: {issue.get('message')}")
    return "; ".join(part for part in said if part)


def _media_type(image: Path) -> str:
    return mimetypes.guess_type(image.name)[0] or ""


def _path(job_id: str) -> str:
    return f"tasks/{urllib.parse.quote(job_id, safe='')}"
