"""Veo as the Gemini API sold it: an operation to look at, and a file that is fetched with the key.

Written from google-genai 2.34.0, the last SDK that speaks it: Google closed Veo
on this API on 2026-10-22, and google-genai 3 knows it on Vertex alone. Whoever
still speaks the protocol is reached by GEMINI_BASE_URL; fal and OpenRouter film
with Veo today.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.errors import InputError, Later, ProviderRefused, ProviderUnavailable
from stages.http import (
    Answer,
    Service,
    ask,
    data_url,
    download,
    fetch,
    is_moderation,
    open_client,
    refusal,
    retry_after,
)
from stages.providers import FILMS, VideoJob, VideoRequest, Work
from stages.providers.account import Account, known
from stages.providers.spelling import shape
from stages.providers.works import check_wishes, check_work, job_of, nothing_sent

OPERATION = re.compile(r"models/[\w.-]+/operations/[\w.-]+")
"""An operation's name. It becomes a path, so nothing else may stand in it."""

FILE = re.compile(r"\bfiles/([a-z0-9]+)")
SECONDS = (4, 6, 8)
WHOLE = 8
"""Seconds: what 1080p, 4k, a last frame and a longer film are sold in."""

ADDED = 7
"""Seconds by which a film is made longer; the answer holds all of it. ai.google.dev/gemini-api/docs/video."""

OPTIONS = ("personGeneration",)
POLICY = r"responsible ai|sensitive|usage guidelines|prohibited|violat\w* .*(polic|practice|guideline)|safety"
CODES = dict.fromkeys((1, 2, 4, 10, 13, 14), "transient") | {8: "quota"}
"""What the numbers of google.rpc.Code mean for a buyer; any other is an invalid request."""

HOPS = 3


@dataclass(frozen=True, slots=True)
class Veo(Account):
    """One account at the Gemini API. Operations do not say what was asked: a lost answer cannot be looked up."""

    url_variables = ("GEMINI_BASE_URL",)
    usual_url = "https://generativelanguage.googleapis.com/v1beta"
    key_header = "x-goog-api-key"
    key_prefix = ""

    key_variable: str = "GEMINI_API_KEY"
    name: str = "veo"
    poll: float = 10.0

    @property
    def works(self) -> frozenset[Work]:
        """Filming, and going on where one of its own films ends."""
        return FILMS | {"extend"}

    def submit(self, request: VideoRequest, key: str) -> VideoJob:
        """Start the operation. Raises InputError for what Veo on this API cannot be asked."""
        if not re.fullmatch(r"[\w.-]+", request.model):
            raise InputError(f"should be a model such as veo-3.1-generate-preview, not '{request.model}'", "model")
        check_work(self.name, request, self.works)
        body = asked(request) if request.work == "film" else extended(request)
        if request.work == "extend":
            body["instances"][0]["video"] = {"uri": self._kept(job_of(self.name, request))}
        path = f"models/{request.model}:predictLongRunning"
        answer = ask(self.service, "POST", path, data=body, headers={"Idempotency-Key": key})
        name = str(self._checked(answer).data().get("name") or "")
        if not OPERATION.fullmatch(name):
            raise ProviderUnavailable(f"{self.name} answered without an operation", "transient", "no_id")
        return VideoJob(name, "queued", seconds=request.seconds, model=request.model)

    def check(self, job_id: str) -> VideoJob:
        """Look at the operation. Google forgets it after two days."""
        answer = ask(self.service, "GET", _operation(job_id))
        if answer.status in (404, 410):
            return VideoJob(job_id, "gone", failure="lost", code=str(answer.status))
        return decoded(self._checked(answer).data(), job_id)

    def download(self, job_id: str, target: Path) -> None:
        """Write the film to `target`. The file's name in the answer counts, not the host: the key stays here."""
        answer = known(self.service, job_id, ask(self.service, "GET", _operation(job_id)))
        operation = self._checked(answer).data()
        uri = _uri(operation)
        if not uri:
            raise ProviderRefused(f"{self.name} has no film for {job_id}", "expired", "no_video")
        found = FILE.search(uri)
        if not found:
            fetch(self.service, uri, target)
            return
        try:
            self._fetch(f"files/{found[1]}:download?alt=media", target)
        except ProviderRefused as error:
            if "may not exist" in error.text:  # how Google says 404
                sentence = f"{self.name} does not have the file, or no longer"
                raise ProviderRefused(sentence, "expired", error.code, error.text) from None
            raise

    def find(self, since: float) -> list[VideoJob]:
        """There is no list to find anything in."""
        raise InputError(f"{self.name} has no list of its jobs")

    def _kept(self, job_id: str) -> str:
        """Where Google keeps the film of a job: its own films are named by that, and none is sent."""
        with nothing_sent():
            answer = known(self.service, job_id, ask(self.service, "GET", _operation(job_id)))
            uri = _uri(self._checked(answer).data())
        if not uri:
            raise ProviderRefused(f"{self.name} has no film for {job_id}", "expired", "no_video")
        return uri

    def _fetch(self, path: str, target: Path) -> None:
        """Google sends on to its storage; httpx would take our key's header along to whatever host that is."""
        own = urllib.parse.urlsplit(self.base_url).netloc
        for _ in range(HOPS):
            with open_client(self.service) as client, client.stream("GET", path) as response:
                if not response.has_redirect_location:
                    break
                path = urllib.parse.urljoin(str(response.url), response.headers["location"])
            if urllib.parse.urlsplit(path).netloc != own:
                fetch(self.service, path, target)
                return
        download(self.service, path, target)

    def _checked(self, answer: Answer) -> Answer:
        if 200 <= answer.status < 300:
            return answer
        raise refused(self.service, answer)


# ---------------------------------------------------------------- what is asked


def asked(request: VideoRequest) -> dict[str, Any]:
    """The body of `predictLongRunning`. Raises InputError for what the API has no word for."""
    ratio, resolution = shape(request.size)
    _check_size(request, ratio, resolution)
    _check_silence(request)
    instance: dict[str, Any] = {"prompt": request.prompt}
    if request.reference:
        instance["image"] = _inline(request.reference)
    if request.last_frame:
        instance["lastFrame"] = _inline(request.last_frame)
    parameters: dict[str, Any] = {
        "aspectRatio": ratio,
        "resolution": resolution,
        "durationSeconds": request.seconds,
        **dict(request.options),
    }
    if request.negative:
        parameters["negativePrompt"] = request.negative
    return {"instances": [instance], "parameters": parameters}


def extended(request: VideoRequest) -> dict[str, Any]:
    """The body that makes a film longer, but for the film. Raises InputError for what the API has no word for.

    The seconds are always 8 in the request, of which 7 are new.
    """
    check_wishes(request.model, request, ("negative",), OPTIONS)
    ratio, resolution = shape(request.size)
    if ratio not in ("16:9", "9:16") or resolution != "720p":
        raise InputError(
            f"{request.model} makes films of 720p longer, in 16:9 and 9:16, not of {request.size}", "frame"
        )
    if request.seconds != ADDED:
        raise InputError(f"{request.model} goes on for {ADDED} s, not for {request.seconds} s", "length")
    parameters: dict[str, Any] = {
        "aspectRatio": ratio,
        "resolution": resolution,
        "durationSeconds": WHOLE,
        **dict(request.options),
    }
    if request.negative:
        parameters["negativePrompt"] = request.negative
    return {"instances": [{"prompt": request.prompt}], "parameters": parameters}


def _check_size(request: VideoRequest, ratio: str, resolution: str) -> None:
    if ratio not in ("16:9", "9:16") or not resolution or (resolution == "4k" and "lite" in request.model):
        raise InputError(f"{request.model} does not film {request.size}, but 16:9 and 9:16 from 720p", "frame")
    if request.seconds not in SECONDS:
        raise InputError(f"{request.model} films 4, 6 or 8 s, not {request.seconds} s", "length")
    if request.seconds != WHOLE and (resolution != "720p" or request.last_frame):
        what = "with a last frame" if request.last_frame else f"in {resolution}"
        raise InputError(f"{request.model} films {what} for 8 s only, not {request.seconds} s", "length")


def _check_silence(request: VideoRequest) -> None:
    """What the API would not hear is refused here, not dropped."""
    name = request.model
    if not request.audio:
        raise InputError(f"{name} always films with sound; `strip_audio` takes it off", "audio")
    if request.seed is not None:
        raise InputError(f"{name} takes no seed on the Gemini API", "seed")
    if request.loop:
        raise InputError(f"{name} has no loop of its own; the `loop` edit makes one", "loop")
    if request.last_frame and not request.reference:
        raise InputError(f"{name} takes a last frame only together with a first one", "last_frame")
    for option, _ in request.options:
        if option not in OPTIONS:
            raise InputError(f"{name} has no option '{option}' here; there is {', '.join(OPTIONS)}", "options")


def _inline(image: Path) -> dict[str, str]:
    head, _, content = data_url(image).partition(";base64,")
    return {"bytesBase64Encoded": content, "mimeType": head.removeprefix("data:")}


# ---------------------------------------------------------------- what is answered


def decoded(operation: Mapping[str, Any], job_id: str) -> VideoJob:
    """An operation as a VideoJob. It says neither how far it is nor when it began.

    What is blocked from being filmed is not charged (ai.google.dev/gemini-api/docs/video, limitations).
    """
    model = job_id.split("/")[1]
    if not operation.get("done"):
        return VideoJob(job_id, "running", model=model)
    error = operation.get("error")
    if isinstance(error, Mapping):
        code, text = str(error.get("code", "")), str(error.get("message", ""))
        return VideoJob(job_id, "failed", failure=_failure(code, text), code=code, text=text, model=model)
    if _uri(operation):
        return VideoJob(job_id, "done", 1.0, model=model)
    said = _response(operation)
    reasons = said.get("raiMediaFilteredReasons")
    text = " ".join(map(str, reasons)) if isinstance(reasons, list) else ""
    if text or said.get("raiMediaFilteredCount"):
        code = "rai_media_filtered"
        return VideoJob(job_id, "failed", failure="moderation_output", code=code, text=text, model=model, billed=False)
    text = "the operation ended without a film"
    return VideoJob(job_id, "failed", failure="transient", code="no_video", text=text, model=model)


def refused(service: Service, answer: Answer) -> Exception:
    """What a Google error means, with its word (`RESOURCE_EXHAUSTED`) for a code."""
    error = answer.data().get("error")
    if not isinstance(error, Mapping):
        return refusal(service, answer)
    word, text, details = str(error.get("status") or ""), str(error.get("message") or ""), str(error.get("details"))
    if answer.status == 429:
        if "PerDay" in details:  # a limit by the minute has the same code and text
            return ProviderRefused(f"{service.name}: the day's quota is used up ({text})", "quota", word, text)
        delay = re.search(r"'retryDelay': '([\d.]+)s'", details)
        return Later(min(float(delay[1]), 3600.0) if delay else retry_after(answer.headers))
    if answer.status == 503 and re.search(r"overloaded|high demand", text):
        return Later(retry_after(answer.headers))  # it says that it did not begin
    if "API_KEY_INVALID" in details:  # with HTTP 400
        return refusal(service, Answer(401, answer.headers, b""))
    if answer.status == 400 and _is_policy(text):
        sentence = f"{service.name} refused the request by its content policy ({text})"
        return ProviderRefused(sentence, "moderation_input", word, text)
    if answer.status in (400, 404):
        return ProviderRefused(f"{service.name} refused the request ({text})", "invalid_request", word, text)
    return refusal(service, answer)


def _failure(code: str, text: str) -> str:
    if _is_policy(text):
        return "moderation_input" if re.search(r"prompt|input", text.lower()) else "moderation_output"
    return CODES.get(int(code) if code.isdigit() else 13, "invalid_request")


def _is_policy(text: str) -> bool:
    return bool(re.search(POLICY, text.lower())) or is_moderation("", text)


def _response(operation: Mapping[str, Any]) -> Mapping[str, Any]:
    response = operation.get("response")
    inner = response.get("generateVideoResponse") if isinstance(response, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _uri(operation: Mapping[str, Any]) -> str:
    """Where the film is; empty if there is none."""
    samples = _response(operation).get("generatedSamples")
    sample = samples[0] if isinstance(samples, list) and samples else None
    video = sample.get("video") if isinstance(sample, Mapping) else None
    return str(video.get("uri") or "") if isinstance(video, Mapping) else ""


def _operation(job_id: str) -> str:
    if not OPERATION.fullmatch(job_id):
        raise InputError(f"'{job_id}' is no operation of Veo")
    return job_id
