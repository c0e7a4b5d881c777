"""fal's queue: one protocol for many models, each with its own spelling of a request.

Written from fal-client 1.0.3, @fal-ai/client 1.10.1 (the models' schemas) and
fal's pages. What a request looks like is data, in FAMILIES and UPSCALERS. A job that failed
is COMPLETED as well; its result then answers 4xx or 5xx.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stages.errors import InputError, ProviderRefused, ProviderUnavailable
from stages.http import Answer, ask, checked, data_url, error_words, fetch, is_moderation
from stages.providers import State, VideoJob, VideoRequest, Work
from stages.providers.account import Account, known
from stages.providers.spelling import shape
from stages.providers.works import check_wishes, check_work, footage_of

STATES: Mapping[str, State] = {"IN_QUEUE": "queued", "IN_PROGRESS": "running"}
NAME = r"\w[\w.-]*"
PATH = re.compile(rf"{NAME}(/{NAME})*")
"""A job's path. It is put behind our base URL, so it may not lead elsewhere."""

TRIES = 2
"""How often a film's address is asked for: the second one is fresh."""


@dataclass(frozen=True, slots=True)
class Family:
    """How one family of models spells a request.

    `text`, `image` and `ends` are what follows the model's id in the path: for
    words alone, for a first frame, for a first and a last frame; `first`,
    `ends_first` and `last` are the frames' fields. `spelled` writes seconds.
    `audio`, `seed` and `negative` are fields, empty where there are none.
    `ratio_of_image` says whether a request with a picture still names its
    shape. `lengths` are the seconds of a resolution, where not all of them.
    `extension` is the path behind the id that makes a film longer, `added` by
    how many seconds; empty and 0 where there is none.
    """

    ratios: tuple[str, ...]
    resolutions: tuple[str, ...]
    spelled: Callable[[int], str | int]
    text: str = "/text-to-video"
    image: str = "/image-to-video"
    first: str = "image_url"
    ends: str = "/image-to-video"
    ends_first: str = "image_url"
    last: str = "end_image_url"
    audio: str = ""
    seed: str = ""
    negative: str = ""
    ratio_of_image: bool = False
    lengths: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    always: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    extension: str = ""
    added: int = 0


VEO = Family(
    ratios=("16:9", "9:16"),
    resolutions=("720p", "1080p", "4k"),
    spelled="{}s".format,
    text="",
    ends="/first-last-frame-to-video",
    ends_first="first_frame_url",
    last="last_frame_url",
    audio="generate_audio",
    seed="seed",
    negative="negative_prompt",
    ratio_of_image=True,
    # By default fal rewrites a prompt that breaks a policy, and says nothing.
    always={"auto_fix": False},
    options=("safety_tolerance",),
    extension="/extend-video",
    added=7,
)
SEEDANCE = Family(
    ratios=("16:9", "9:16"),  # of the other four it is not known how many pixels come
    resolutions=("720p",),
    spelled=str,
    audio="generate_audio",
    seed="seed",
)
KLING = Family(
    ratios=("16:9", "9:16"),
    resolutions=("720p", "1080p"),
    spelled=int,
    first="start_image_url",
    ends_first="start_image_url",
)
FAMILIES: Mapping[str, Family] = {
    "fal-ai/veo3.1": VEO,
    "fal-ai/veo3.1/fast": VEO,
    "fal-ai/veo3.1/lite": replace(VEO, resolutions=("720p", "1080p"), lengths={"1080p": (8,)}, extension="", added=0),
    "bytedance/seedance-2.0": SEEDANCE,
    "bytedance/seedance-2.0/fast": SEEDANCE,
    "kling/v4": KLING,
}
"""By the model's id, which is the part of the path that its endpoints share."""

UPSCALERS: Mapping[str, Mapping[int, str]] = {
    "fal-ai/seedvr/upscale/video": {720: "720p", 1080: "1080p", 1440: "1440p", 2160: "2160p"},
}
"""The endpoints that make a film larger, and how they call a size, by its shorter side."""


@dataclass(frozen=True, slots=True)
class Fal(Account):
    """One account at fal, or at a queue like it.

    fal lists requests once they have ended, not while they are filmed: too late
    to look up a lost answer.
    """

    url_variables = ("FAL_BASE_URL",)
    usual_url = "https://queue.fal.run"
    key_prefix = "Key "

    key_variable: str = "FAL_KEY"
    name: str = "fal"

    @property
    def works(self) -> frozenset[Work]:
        """All that there is an endpoint for."""
        return frozenset(SPELLED)

    def submit(self, request: VideoRequest, key: str) -> VideoJob:
        """Queue the request. Without `x-fal-no-retry` fal films up to ten times."""
        check_work(self.name, request, self.works)
        path, body = asked(request)
        webhook = dict(request.options).get("fal_webhook")
        answer = ask(
            self.service,
            "POST",
            path,
            query={"fal_webhook": webhook} if webhook else None,
            data=body,
            headers={"x-fal-no-retry": "1", "Idempotency-Key": key},
        )
        data = self._checked(answer).data()
        if not re.fullmatch(NAME, str(data.get("request_id") or "")):
            raise ProviderUnavailable(f"{self.name} answered without a request id", "transient", "no_id")
        app = "/".join(request.model.split("/")[:2])  # status and result know only the owner and the app
        status = self._own(data.get("status_url")) or f"{app}/requests/{data['request_id']}/status"
        return VideoJob(status, "queued", seconds=request.seconds, model=request.model)

    def check(self, job_id: str) -> VideoJob:
        """Look at the status, and at the result once there is one: only that tells films from failures."""
        status = ask(self.service, "GET", _path(job_id))
        if status.status in (404, 410):
            return VideoJob(job_id, "gone", failure="lost", code=str(status.status))
        data = self._checked(status).data()
        word = data.get("status")
        if word != "COMPLETED":
            return VideoJob(job_id, STATES.get(str(word), "running"))
        result = self._result(job_id, data)
        if _url(result):
            return VideoJob(job_id, "done", 1.0)
        if not (data.get("error") or _ended(result)):
            self._checked(result)  # the queue's own trouble, not the job's
        return failed(job_id, data, result)

    def download(self, job_id: str, target: Path) -> None:
        """Write the film to `target`. Files are public: the key stays here."""
        for left in reversed(range(TRIES)):
            data = self._checked(known(self.service, job_id, ask(self.service, "GET", _path(job_id)))).data()
            url = _url(self._checked(self._result(job_id, data)))
            if not url:
                raise ProviderRefused(f"{self.name} has no film for {job_id}", "expired", "no_video")
            try:
                fetch(self.service, url, target)
                return
            except ProviderRefused as error:
                if error.failure != "expired" or not left:
                    raise

    def take_back(self, job_id: str) -> VideoJob:
        """Cancel a request that is still in the queue: it «is removed and never processed»
        (docs.fal.ai/documentation/development/handle-cancellations). One that runs is only told to stop, so it is
        left alone."""
        job = self.check(job_id)
        if job.state != "queued":
            return job
        answer = ask(self.service, "PUT", f"{_path(job_id).removesuffix('/status')}/cancel")
        if answer.status not in (400, 404):  # it has ended, or is gone
            self._checked(answer)
        job = self.check(job_id)
        return VideoJob(job_id, "gone", billed=False) if job.state in ("gone", "failed") else job

    def find(self, since: float) -> list[VideoJob]:
        """There is no list in which a job would stand before it has ended."""
        raise InputError(f"{self.name} has no list of its unfinished jobs")

    def _result(self, job_id: str, status: Mapping[str, Any]) -> Answer:
        path = self._own(status.get("response_url")) or job_id.removesuffix("/status")
        return ask(self.service, "GET", path)

    def _own(self, url: object) -> str:
        """The path below our base URL of an address from an answer; empty if it leads anywhere else."""
        base = self.base_url.rstrip("/") + "/"
        path = str(url or "").partition("?")[0]
        below = path.removeprefix(base)
        return below if path.startswith(base) and PATH.fullmatch(below) else ""

    def _checked(self, answer: Answer) -> Answer:
        _, text = error_words(answer.data())
        if answer.status == 403 and re.search(r"exhausted balance|locked|top up", text.lower()):
            raise ProviderRefused(f"{self.name}: the account's money is used up ({text})", "quota", "403", text)
        if answer.status in (400, 422) and is_policy(*error_words(answer.data())):
            code, text = error_words(answer.data())
            sentence = f"{self.name} refused the request by its content policy ({text})"
            raise ProviderRefused(sentence, "moderation_input", code, text)
        return checked(self.service, answer)


# ---------------------------------------------------------------- what is asked


def asked(request: VideoRequest) -> tuple[str, dict[str, Any]]:
    """The path and the body of a request. Raises InputError for what its model has no field for."""
    return SPELLED[request.work](request)


def filmed(request: VideoRequest) -> tuple[str, dict[str, Any]]:
    """Of a film."""
    family = _family(request)
    ratio, resolution = shape(request.size)
    _check_size(request, family, ratio, resolution)
    body: dict[str, Any] = {
        **family.always,
        "prompt": request.prompt,
        "duration": family.spelled(request.seconds),
        "resolution": resolution,
    }
    if family.ratio_of_image or not request.reference:
        body["aspect_ratio"] = ratio
    for name, value in _wishes(request, family):
        body[name] = value
    path = family.text
    if request.last_frame and request.reference:
        path = family.ends
        body |= {family.ends_first: data_url(request.reference), family.last: data_url(request.last_frame)}
    elif request.reference:
        path = family.image
        body[family.first] = data_url(request.reference)
    return f"{request.model}{path}", body


def extended(request: VideoRequest) -> tuple[str, dict[str, Any]]:
    """Of going on where a film ends; `auto` is the film's own shape."""
    family = _family(request)
    heard = [name for name in ("audio", "seed", "negative") if getattr(family, name)]
    check_wishes(request.model, request, heard, (*family.options, "fal_webhook"))
    ratio, resolution = shape(request.size)
    if not family.extension:
        raise InputError(f"{request.model} cannot go on where a film ends", "model")
    if request.seconds != family.added:
        raise InputError(f"{request.model} goes on for {family.added} s, not for {request.seconds} s", "length")
    if ratio not in family.ratios or resolution not in ("720p", "1080p"):
        raise InputError(f"{request.model} goes on with 720p and 1080p, not with {request.size}", "frame")
    body = {
        **family.always,
        "prompt": request.prompt,
        "duration": family.spelled(request.seconds),
        "resolution": resolution,
        "aspect_ratio": ratio,
        "video_url": data_url(footage_of(request).file, "video/mp4"),
        **dict(_wishes(request, family)),
    }
    return f"{request.model}{family.extension}", body


def upscaled(request: VideoRequest) -> tuple[str, dict[str, Any]]:
    """Of making a film larger."""
    check_wishes(request.model, request, ("seed",), ("fal_webhook",))
    resolutions = UPSCALERS.get(request.model)
    if resolutions is None:
        raise InputError(f"fal can make a film larger with {', '.join(UPSCALERS)}, not with {request.model}", "model")
    side = min(request.size.width, request.size.height)
    if side not in resolutions:
        sold = ", ".join(resolutions.values())
        raise InputError(f"{request.model} makes films of {sold}, not of {request.size}", "frame")
    body = {
        "video_url": data_url(footage_of(request).file, "video/mp4"),
        "upscale_mode": "target",
        "target_resolution": resolutions[side],
    }
    return request.model, body | ({} if request.seed is None else {"seed": request.seed})


SPELLED: Mapping[Work, Callable[[VideoRequest], tuple[str, dict[str, Any]]]] = {
    "film": filmed,
    "extend": extended,
    "upscale": upscaled,
}


def _family(request: VideoRequest) -> Family:
    family = FAMILIES.get(request.model)
    if family is None:
        raise InputError(f"fal: it is not known how to ask '{request.model}'; known are {', '.join(FAMILIES)}", "model")
    return family


def _check_size(request: VideoRequest, family: Family, ratio: str, resolution: str) -> None:
    if ratio not in family.ratios or resolution not in family.resolutions:
        sold = f"{', '.join(family.ratios)} in {', '.join(family.resolutions)}"
        raise InputError(f"{request.model} does not film {request.size}, but {sold}", "frame")
    lengths = family.lengths.get(resolution, (request.seconds,))
    if request.seconds not in lengths:
        sold = " or ".join(map(str, lengths))
        raise InputError(f"{request.model} films {resolution} for {sold} s only, not {request.seconds} s", "length")
    if request.last_frame and not request.reference:
        raise InputError(f"{request.model} takes a last frame only together with a first one", "last_frame")


def _wishes(request: VideoRequest, family: Family) -> list[tuple[str, Any]]:
    """Whatever else was asked, by the model's own names."""
    name = request.model
    wishes: list[tuple[str, Any]] = []
    if family.audio:
        wishes.append((family.audio, request.audio))
    elif not request.audio:
        raise InputError(f"{name} always films with sound; `strip_audio` takes it off", "audio")
    if request.seed is not None:
        wishes.append((_named(family.seed, f"{name} takes no seed", "seed"), request.seed))
    if request.negative:
        wishes.append((_named(family.negative, f"{name} takes no negative prompt", "negative"), request.negative))
    if request.loop:
        raise InputError(f"{name} has no loop of its own; the `loop` edit makes one", "loop")
    for option, value in request.options:
        if option not in (*family.options, "fal_webhook"):
            raise InputError(f"{name} has no option '{option}' here", "options")
        if option != "fal_webhook":
            wishes.append((option, value))
    return wishes


def _named(name: str, sentence: str, parameter: str) -> str:
    if not name:
        raise InputError(sentence, parameter)
    return name


# ---------------------------------------------------------------- what is answered


def failed(job_id: str, status: Mapping[str, Any], result: Answer) -> VideoJob:
    """A job that ended without a film, from its status and its result.

    A model says why in `detail`, with the field at fault where there is one;
    fal itself in `error_type`, or the header of that name. fal does not bill
    5xx; a request that a model turned down it may.
    """
    detail = result.data().get("detail")
    first = detail[0] if isinstance(detail, list) and detail and isinstance(detail[0], Mapping) else {}
    code, text = error_words(result.data())
    trouble = result.data().get("error_type") or status.get("error_type") or result.headers.get("x-fal-error-type")
    code, text = code or str(trouble or ""), text or str(status.get("error") or "")
    where = first.get("loc")
    failure: str
    billed: bool | None
    if is_policy(code, text):
        blamed = isinstance(where, list) and len(where) > 1
        failure, billed = "moderation_input" if blamed else "moderation_output", True
    elif 400 <= result.status < 500 and not trouble:
        failure, billed = "invalid_request", True
    else:
        failure, billed = "transient", False if trouble or result.status >= 500 else None
    return VideoJob(
        job_id, "failed", failure=failure, code=code or str(result.status), text=text or "no film came", billed=billed
    )


def is_policy(code: str, text: str) -> bool:
    """Whether a refusal speaks of policy."""
    return code == "content_policy_violation" or is_moderation(code, text)


def _ended(result: Answer) -> bool:
    """Whether a result without a film is the job's own failure, and not that of asking for it."""
    data = result.data()
    if result.status in (401, 408, 429):
        return False
    said = isinstance(data.get("detail"), list) or "error_type" in data or "x-fal-error-type" in result.headers
    return said or result.status in (200, 400, 422)


def _url(result: Answer) -> str:
    video = result.data().get("video") if 200 <= result.status < 300 else None
    return str(video.get("url") or "") if isinstance(video, Mapping) else ""


def _path(job_id: str) -> str:
    if not PATH.fullmatch(job_id):
        raise InputError(f"'{job_id}' is no job of fal")
    return job_id
