"""Runway's API: a task for each film, filmed by Runway's models and by others' that it sells.

Written from runwayml 5.24.0 (the SDK's types are generated from the API's
own schema) and facts/providers.md section 4. A body is checked there against
one schema for each model and endpoint, and a field too many is refused: so
what a model cannot say is refused here, before anything is sent. Of a model
that is in neither table nothing is known: it is sent what was asked to be filmed.

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stages.errors import InputError, ProviderRefused, ProviderUnavailable
from stages.http import Answer, Service, ask, checked, data_url, is_moderation, refusal
from stages.providers import FILMS, State, VideoJob, VideoRequest, Work
from stages.providers.account import Account, known
from stages.providers.spelling import instant
from stages.providers.works import DEEDS, check_wishes, check_work, footage_of, nothing_sent

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
FOOTAGE = ("video/mp4", "video/quicktime")
INLINE = 5 * 1024 * 1024
"""Characters of a data URI that are taken; a larger file is uploaded."""
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
class Treatment:
    """What one model does to a film, and what it can be told: a prompt of at most `prompt` UTF-16 units (0 for
    none), `wishes`, `options`, and of a larger size the name, by its shorter side. The rest the film says."""

    work: Work
    endpoint: str
    prompt: int = 0
    wishes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    resolutions: Mapping[int, str] = field(default_factory=dict)


TREATMENTS: Mapping[str, Treatment] = {
    "aleph2": Treatment("remix", "video_to_video", prompt=1000, wishes=("seed",), options=("publicFigureThreshold",)),
    "magnific_video_upscaler_creative": Treatment(
        "upscale",
        "video_upscale",
        options=("creativity", "sharpen", "smartGrain", "flavor"),  # not fpsBoost: it multiplies what is paid
        resolutions={720: "720p", 1080: "1k", 1440: "2k", 2160: "4k"},
    ),
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

    @property
    def works(self) -> frozenset[Work]:
        """Filming, and what there is a model for."""
        return FILMS | {treatment.work for treatment in TREATMENTS.values()}

    def submit(self, request: VideoRequest, key: str) -> VideoJob:
        """Create the task. The `key` goes nowhere: Runway knows none."""
        check_work(self.name, request, self.works)
        endpoint, body = ordered(request) if request.work == "film" else treated(request)
        if request.footage:
            body["videoUri"] = self._uri(request.footage.file)
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

    def take_back(self, job_id: str) -> VideoJob:
        """Cancel a task that waits for its turn, such as one above the account's concurrency; one that runs is charged
        all the same. (The SDK's words on DELETE: «running, pending, or throttled can be canceled», and then are not
        to be fetched again.)"""
        job = self.check(job_id)
        if job.state == "queued":
            self.delete(job_id)
            job = VideoJob(job_id, "gone", billed=False)
        return job

    def delete(self, job_id: str) -> None:
        """Cancel a task, or delete a finished one with its film. What runs already is charged all the same."""
        self._accepted(ask(self.service, "DELETE", _path(job_id)))

    def _address(self, job_id: str) -> str:
        answer = known(self.service, job_id, ask(self.service, "GET", _path(job_id)))
        task = self._accepted(answer).data()
        output = task.get("output")
        if STATES.get(str(task.get("status"))) != "done" or not isinstance(output, list) or not output:
            raise ProviderUnavailable(f"{self.name} has no film of task {job_id} yet", "transient", "no_output")
        return str(output[0])

    def _uri(self, file: Path) -> str:
        """The file as it is, in the request; or, where it is too large for that, uploaded."""
        if file.exists() and file.stat().st_size > INLINE:
            return self._uploaded(file)
        address = data_url(file)
        return address if len(address) <= INLINE else self._uploaded(file)

    def _uploaded(self, file: Path) -> str:
        """Upload `file`: its `runway://` address, good for a day. Whatever goes wrong here, no task was created."""
        with nothing_sent():
            asked = {"filename": file.name, "type": "ephemeral"}
            place = self._accepted(ask(self.service, "POST", "uploads", data=asked)).data()
            url, fields = str(place.get("uploadUrl")), place.get("fields")
            self._check_host(url)
            form = {str(name): str(value) for name, value in fields.items()} if isinstance(fields, Mapping) else {}
            bare = Service(self.name, url, "", self.send_within, self.patience)
            checked(bare, ask(bare, "POST", url, form=form, file=("file", file, _media_type(file))))
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


# ---------------------------------------------------------------- asking


def ordered(request: VideoRequest) -> tuple[str, dict[str, Any]]:
    """The endpoint and the body, but for the images. Raises InputError for what Runway or the model cannot say."""
    model = MODELS.get(request.model)
    if treatment := TREATMENTS.get(request.model):
        raise InputError(f"{request.model} films nothing of its own; it can {DEEDS[treatment.work]}", "model")
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
    return ("image_to_video" if request.reference else "text_to_video"), body | _spelled(request)


def treated(request: VideoRequest) -> tuple[str, dict[str, Any]]:
    """The endpoint and the body for work on a film, but for the film. Raises InputError as `ordered` does."""
    treatment = TREATMENTS.get(request.model)
    if treatment is None or treatment.work != request.work:
        able = ", ".join(name for name, each in TREATMENTS.items() if each.work == request.work)
        raise InputError(f"runway can {DEEDS[request.work]} with {able}, not with {request.model}", "model")
    check_wishes(request.model, request, treatment.wishes, treatment.options)
    _check_footage(footage_of(request).file)
    body: dict[str, Any] = {"model": request.model}
    if treatment.prompt:
        _check_prompt(request, treatment.prompt)
        body["promptText"] = request.prompt
    if treatment.resolutions:
        side = min(request.size.width, request.size.height)
        if side not in treatment.resolutions:
            sold = ", ".join(map(str, treatment.resolutions))
            raise InputError(f"{request.model} makes films with {sold} lines, not {request.size}", "size")
        body["resolution"] = treatment.resolutions[side]
    if request.seed is not None:
        body["seed"] = request.seed
    return treatment.endpoint, body | _spelled(request)


def _spelled(request: VideoRequest) -> dict[str, Any]:
    """The options as fields."""
    options: dict[str, Any] = {
        name: int(text) if re.fullmatch(r"\d+", text) else text for name, text in request.options
    }
    if threshold := options.pop("publicFigureThreshold", ""):
        options["contentModeration"] = {"publicFigureThreshold": threshold}
    return options


def _check_footage(file: Path) -> None:
    if _media_type(file) not in FOOTAGE:
        raise InputError(f"{file}: runway takes MP4 and MOV", "footage")
    if file.exists() and file.stat().st_size > UPLOAD:
        raise InputError(f"{file}: runway takes {UPLOAD / 1e6:.0f} MB, not more", "footage")


def _check_prompt(request: VideoRequest, limit: int) -> None:
    units = len(request.prompt.encode("utf-16-le")) // 2
    if not 1 <= units <= limit:
        raise InputError(f"the prompt has {units} characters; {request.model} takes 1 to {limit}", "prompt")


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
    if not request.reference and not model.text:
        raise InputError(f"{name} films pictures, not words alone: give it a reference", "reference")
    if request.last_frame and not model.last:
        raise InputError(f"{name} takes a first frame, but no last one", "last_frame")
    if str(request.size) not in sizes.split():
        raise InputError(f"{name} films {sizes.replace(' ', ', ')}, not {request.size}", "size")
    if request.seconds not in model.seconds:
        sold = ", ".join(map(str, model.seconds))
        raise InputError(f"{name} films {sold} s, not {request.seconds} s", "seconds")
    _check_prompt(request, model.prompt)
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
