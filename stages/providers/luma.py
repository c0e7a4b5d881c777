"""Luma's two APIs: Agents, where ray-3.2 films, and the older Dream Machine with ray-2.

Written from luma-agents 0.5.0 and lumaai 1.21.0 (the SDKs' types are generated
from the APIs' own schemas), docs.agents.lumalabs.ai as far as it was read, and
facts/providers.md section 5. Both say sizes as a shape and a number of lines,
lengths as `5s`, and make silent films; neither knows a seed or a negative
prompt. Agents takes images within the request and has no list; Dream Machine
has a list, and takes images as addresses only, which is why a reference cannot
go there. Both film a film anew; Dream Machine makes its own ones larger. That
Agents goes on where a film ends, with a film of 5 s for itself, is not done here.
"""

from __future__ import annotations

import mimetypes
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.clip import Size
from stages.errors import InputError, ProviderRefused, ProviderUnavailable
from stages.http import Answer, Service, ask, data_url, error_words, is_moderation, refusal
from stages.providers import FILMS, State, VideoJob, VideoRequest, Work
from stages.providers.account import Account, known
from stages.providers.spelling import instant
from stages.providers.works import check_wishes, check_work, footage_of, job_of, nothing_sent

STATES: Mapping[str, State] = {
    "queued": "queued",
    "processing": "running",
    "dreaming": "running",
    "completed": "done",
    "failed": "failed",
}
FAILURES: Mapping[str, str] = {
    "content_moderated": "moderation_input",  # "prompt or input image violated content guidelines"
    "generation_failed": "transient",
    "budget_exhausted": "quota",
    "output_not_found": "transient",
    "image_too_large": "invalid_request",
    "unsupported_format": "invalid_request",
    "corrupt_input": "invalid_request",
    "invalid_request": "invalid_request",
    "rate_limited": "transient",
}

CONCEPTS = (
    "static handheld pov selfie overhead low_angle high_angle over_the_shoulder tiny_planet bolt_cam dolly_zoom zoom_in"
    " zoom_out pan_left pan_right truck_left pedestal_up pedestal_down orbit_left orbit_right roll_left roll_right"
)
"""What Dream Machine has a parameter for of what a camera does (docs.lumalabs.ai/changelog/concepts, as far as
it is quoted there)."""

PROMPT = 6000
IMAGES = ("image/jpeg", "image/png", "image/webp")
IMAGE = 50 * 1024 * 1024
"""Bytes of an image that Agents takes."""
GRID = 24
"""Frames a second of the grid that keyframes are placed on."""

FOOTAGE = 200 * 1000 * 1000
"""Bytes of a film that Agents takes within the request."""
MODE = "flex_2"
"""How far Dream Machine may go from a film, if `mode` does not say: the middle of nine steps from `adhere_1` to
`reimagine_3`."""

WORKS: Mapping[str, Work] = {"video": "film", "modify_video": "remix", "upscale_video": "upscale"}
"""What Dream Machine calls them."""

PAGE = 100
PAGES = 200
"""The longest list that is read to its end: 20,000 generations."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """The frames that an API can say: any of `shapes` with any of `lines` on the shorter side."""

    shapes: str
    lines: Mapping[str, int]

    def named(self, size: Size) -> tuple[str, str]:
        """The shape and the resolution of `size`, `16:9` and `720p`. Raises InputError if there are none."""
        for shape in self.shapes.split():
            for resolution in self.lines:
                if self.size(shape, resolution) == size:
                    return shape, resolution
        sold = f"{self.shapes.replace(' ', ', ')} with {', '.join(self.lines)}"
        raise InputError(f"luma films {sold} (720p of 16:9 is 1280x720), not {size}", "size")

    def size(self, shape: str, resolution: str) -> Size | None:
        """The frame in pixels; None for words that we do not know."""
        if shape not in self.shapes.split() or resolution not in self.lines:
            return None
        across, down = map(int, shape.split(":"))
        lines = self.lines[resolution]
        return Size(lines * max(across, down) // down, lines * max(across, down) // across)


AGENTS = Shapes("16:9 9:16 1:1 4:3 3:4 21:9", {"360p": 360, "540p": 540, "720p": 720, "1080p": 1080})
DREAMS = Shapes("16:9 9:16 1:1 4:3 3:4 21:9 9:21", {"540p": 540, "720p": 720, "1080p": 1080, "4k": 2160})


@dataclass(frozen=True, slots=True)
class Luma(Account):
    """One account at Luma's Agents API. Besides our LUMA_AGENTS_BASE_URL the SDK's own LUMA_BASE_URL is heeded."""

    url_variables = ("LUMA_AGENTS_BASE_URL", "LUMA_BASE_URL")
    usual_url = "https://agents.lumalabs.ai/v1"

    key_variable: str = "LUMA_AGENTS_API_KEY"
    name: str = "luma"

    @property
    def works(self) -> frozenset[Work]:
        """Filming, and filming a film anew."""
        return FILMS | {"remix"}

    def submit(self, request: VideoRequest, key: str) -> VideoJob:
        """Create the generation. `key` goes along as X-Request-Id: it makes nothing once, but support can find it."""
        check_work(self.name, request, self.works)
        if request.work == "remix":
            body = edited(request)
        else:
            body = ordered(request)
            body["video"] |= anchors(request)
        answer = ask(self.service, "POST", "generations", data=body, headers={"X-Request-Id": key})
        return _sold(self.service, answer, request, AGENTS)

    def check(self, job_id: str) -> VideoJob:
        """How the generation stands."""
        return _looked(self.service, job_id, AGENTS)

    def download(self, job_id: str, target: Path) -> None:
        """Write the film to `target`, from an address that is asked for now: they last an hour."""
        self.take(lambda: _address(self.service, job_id), target)

    def find(self, since: float) -> list[VideoJob]:
        """Agents lists nothing: raises ProviderUnavailable, since an empty list would mean «nothing was bought»."""
        raise ProviderUnavailable(f"{self.name} has no list of its generations", "transient", "no_list")


@dataclass(frozen=True, slots=True)
class DreamMachine(Account):
    """One account at Luma's Dream Machine API: as `Luma`, but it can list, and LUMAAI_BASE_URL names its server."""

    url_variables = ("LUMAAI_BASE_URL",)
    usual_url = "https://api.lumalabs.ai/dream-machine/v1"

    key_variable: str = "LUMAAI_API_KEY"
    name: str = "luma_dream_machine"
    can_list: bool = True

    @property
    def works(self) -> frozenset[Work]:
        """All that there is a path for."""
        return frozenset(WORKS.values())

    def submit(self, request: VideoRequest, key: str) -> VideoJob:
        """Create the generation. The `key` goes nowhere: Dream Machine knows none."""
        check_work(self.name, request, self.works)
        if request.work == "upscale":
            path, body = enlarged(request)
        elif request.work == "remix":
            path, body = "generations/video/modify", modified(request)
            if "media" not in body:
                with nothing_sent():
                    body["media"] = {"url": _address(self.service, job_of(self.name, request))}
        else:
            path, body = "generations/video", dreamt(request)
        answer = ask(self.service, "POST", path, data=body)
        return _sold(self.service, answer, request, DREAMS)

    def check(self, job_id: str) -> VideoJob:
        """How the generation stands."""
        return _looked(self.service, job_id, DREAMS)

    def download(self, job_id: str, target: Path) -> None:
        """Write the film to `target`, from an address that is asked for now."""
        self.take(lambda: _address(self.service, job_id), target)

    def find(self, since: float) -> list[VideoJob]:
        """List back to `since`, through all pages; in which order they come is not promised."""
        found: list[VideoJob] = []
        for page in range(PAGES):
            query = {"limit": PAGE, "offset": page * PAGE}
            answer = _accepted(self.service, ask(self.service, "GET", "generations", query=query)).data()
            items = answer.get("generations")
            if not isinstance(items, list):  # an empty list here would be read as «nothing was bought»
                raise ProviderUnavailable(f"{self.name} gave no list of its generations", "transient", "no_list")
            jobs = [decoded(item, DREAMS) for item in items if isinstance(item, Mapping)]
            found += [job for job in jobs if job.created_at is None or job.created_at >= since]
            times = [job.created_at or since for job in jobs]
            past = bool(times) and times == sorted(times, reverse=True) and times[-1] < since
            if past or not items or not answer.get("has_more", len(items) >= PAGE):
                return sorted(found, key=lambda job: -(job.created_at or 0.0))
        raise ProviderUnavailable(f"the list of {self.name} does not end", "transient", "endless_list")

    def delete(self, job_id: str) -> None:
        """Delete a generation with its film."""
        _accepted(self.service, ask(self.service, "DELETE", _path(job_id)))


# ---------------------------------------------------------------- asking


def ordered(request: VideoRequest) -> dict[str, Any]:
    """The body for Agents, but for the images. Raises InputError for what it cannot say."""
    _check_words(request, {"user_id"})
    shape, resolution = AGENTS.named(request.size)
    if request.seconds not in (5, 10):
        raise InputError(f"{request.model} films 5 or 10 s, not {request.seconds} s", "seconds")
    _check_prompt(request)
    if request.loop and (request.seconds != 5 or request.last_frame):
        raise InputError(f"{request.model} loops films of 5 s, and none with a last frame of its own", "loop")
    video: dict[str, Any] = {"resolution": resolution, "duration": f"{request.seconds}s"}
    if request.loop:
        video["loop"] = True
    body = {"model": request.model, "type": "video", "prompt": request.prompt, "aspect_ratio": shape, "video": video}
    return body | dict(request.options)


def anchors(request: VideoRequest) -> dict[str, Any]:
    """First and last frame as Agents takes them: a pair of them for 5 s, keyframes on a grid for 10 s."""
    frames = ((request.reference, "start_frame", 0), (request.last_frame, "end_frame", request.seconds * GRID))
    given = [(_image(image), name, index) for image, name, index in frames if image]
    if request.seconds == 5:
        return {name: image for image, name, _ in given}
    if request.last_frame and not request.reference:  # a single keyframe is taken for the first frame
        raise InputError(f"{request.model} films 10 s towards a last frame only from a first one", "last_frame")
    if not given:
        return {}
    return {
        "keyframes": [image for image, _, _ in given],
        "keyframe_indexes": [index for _, _, index in given],
    }


def dreamt(request: VideoRequest) -> dict[str, Any]:
    """The body for Dream Machine. Raises InputError for what it cannot say."""
    _check_words(request, {"frame0", "frame1", "concepts"})
    shape, resolution = DREAMS.named(request.size)
    for name, image in (("reference", request.reference), ("last_frame", request.last_frame)):
        if image:
            sentence = f"{request.model} takes images as public https addresses only: put {image.name} somewhere"
            raise InputError(f"{sentence} and name it in the option frame{int(name == 'last_frame')}", name)
    if request.seconds not in (5, 9):
        raise InputError(f"{request.model} films 5 or 9 s, not {request.seconds} s", "seconds")
    body: dict[str, Any] = {
        "model": request.model,
        "generation_type": "video",
        "prompt": request.prompt,
        "aspect_ratio": shape,
        "resolution": resolution,
        "duration": f"{request.seconds}s",
        "loop": request.loop,
    }
    options = dict(request.options)
    moves = options.pop("concepts", "").split(",") if "concepts" in options else concepts(request.camera)
    if moves:
        body["concepts"] = [{"key": key.strip()} for key in moves]
    if options:
        body["keyframes"] = {name: {"type": "image", "url": url} for name, url in sorted(options.items())}
    return body


def concepts(camera: str) -> list[str]:
    """Dream Machine's own names of what the camera does, where words say one: `slow orbit left` has `orbit_left`."""
    words = " ".join(camera.lower().replace("-", " ").split())
    return [key for key in CONCEPTS.split() if re.search(rf"\b{key.replace('_', ' ')}\b", words)]


def edited(request: VideoRequest) -> dict[str, Any]:
    """The body for Agents to film a film anew: its own by its generation, another within. The shape and the length
    are the film's. Raises InputError for what it cannot say."""
    check_wishes("luma", request, options=("strength", "user_id"))
    _check_prompt(request)
    _, resolution = AGENTS.named(request.size)
    options, footage = dict(request.options), footage_of(request)
    strength = options.pop("strength", "")
    source = {"generation_id": footage.job_id} if footage.job_id else _film(footage.file)
    return {
        "model": request.model,
        "type": "video_edit",
        "prompt": request.prompt,
        "source": source,
        "video": {"resolution": resolution, "edit": {"strength": strength} if strength else {"auto_controls": True}},
        **options,
    }


def modified(request: VideoRequest) -> dict[str, Any]:
    """The body for Dream Machine to film a film anew, but for the address of one of its own. Raises InputError."""
    check_wishes("luma", request, options=("media", "mode"))
    options, footage = dict(request.options), footage_of(request)
    if not footage.job_id and "media" not in options:
        sentence = f"{request.model} takes films as public https addresses only: put {footage.file.name} somewhere"
        raise InputError(f"{sentence} and name it in the option media", "footage")
    body: dict[str, Any] = {
        "generation_type": "modify_video",
        "model": request.model,
        "prompt": request.prompt,
        "mode": options.get("mode", MODE),
    }
    return body | ({"media": {"url": options["media"]}} if "media" in options else {})


def enlarged(request: VideoRequest) -> tuple[str, dict[str, Any]]:
    """Where Dream Machine makes one of its films larger, and the body. Raises InputError for what it cannot say."""
    check_wishes("luma", request)
    _, resolution = DREAMS.named(request.size)
    path = f"{_path(job_of('luma', request))}/upscale"
    return path, {"generation_type": "upscale_video", "resolution": resolution}


def _film(film: Path) -> dict[str, str]:
    media_type = mimetypes.guess_type(film.name)[0] or ""
    if not media_type.startswith("video/"):
        raise InputError(f"{film}: luma takes films, such as MP4", "footage")
    if film.exists() and film.stat().st_size > FOOTAGE:
        raise InputError(f"{film}: luma takes {FOOTAGE / 1e6:.0f} MB, not more", "footage")
    return {"data": data_url(film).partition(",")[2], "media_type": media_type}


def _check_prompt(request: VideoRequest) -> None:
    if not 1 <= len(request.prompt) <= PROMPT:
        sentence = f"the prompt has {len(request.prompt)} characters; {request.model} takes 1 to {PROMPT}"
        raise InputError(sentence, "prompt")


def _check_words(request: VideoRequest, options: set[str]) -> None:
    if request.negative:
        raise InputError(f"{request.model} cannot be told what not to film", "negative")
    if request.seed is not None:
        raise InputError(f"{request.model} takes no seed", "seed")
    if unknown := sorted(set(dict(request.options)) - options):
        raise InputError(f"luma has no option {unknown[0]}; it has {', '.join(sorted(options))}", "options")


def _image(image: Path) -> dict[str, str]:
    media_type = mimetypes.guess_type(image.name)[0] or ""
    if media_type not in IMAGES:
        raise InputError(f"{image}: luma takes JPEG, PNG and WebP", "reference")
    if image.exists() and image.stat().st_size > IMAGE:
        raise InputError(f"{image}: luma takes {IMAGE / 1e6:.0f} MB, not more", "reference")
    return {"data": data_url(image).partition(",")[2], "media_type": media_type}


# ---------------------------------------------------------------- reading


def decoded(data: Mapping[str, Any], shapes: Shapes, job_id: str = "") -> VideoJob:
    """A generation as a VideoJob. A state that we do not know means «running».

    Agents says of itself that what fails or is moderated is paid back
    (docs.agents.lumalabs.ai/guides/videos/generation, 2026-06-11).
    """
    state = STATES.get(str(data.get("state")), "running")
    asked = data.get("request")
    asked = asked if isinstance(asked, Mapping) else {}
    code = text = ""
    if state == "failed":
        code, text = str(data.get("failure_code") or ""), str(data.get("failure_reason") or "")
    length = re.fullmatch(r"(\d+)s", str(asked.get("duration")))
    return VideoJob(
        id=str(data.get("id") or job_id),
        state=state,
        failure=_failure(code, text) if state == "failed" else "",
        code=code,
        text=text,
        created_at=instant(data.get("created_at")),
        seconds=int(length[1]) if length else 0,
        size=shapes.size(str(asked.get("aspect_ratio")), str(asked.get("resolution"))),
        model=str(data.get("model") or ""),
        prompt=str(asked.get("prompt") or ""),
        billed=False if state == "failed" and shapes is AGENTS else None,
        work=WORKS.get(str(asked.get("generation_type")), ""),
    )


def _failure(code: str, text: str) -> str:
    if code in FAILURES:
        return FAILURES[code]
    if is_moderation(code, text):  # Dream Machine has no codes
        return "moderation_input" if re.search("prompt|input|image", text.lower()) else "moderation_output"
    return "transient"


def _sold(service: Service, answer: Answer, request: VideoRequest, shapes: Shapes) -> VideoJob:
    job = decoded(_accepted(service, answer).data(), shapes)
    if not job.id:
        raise ProviderUnavailable(f"{service.name} answered without a generation", "transient", "no_id")
    return replace(job, seconds=request.seconds, size=request.size, model=request.model, prompt=request.prompt)


def _looked(service: Service, job_id: str, shapes: Shapes) -> VideoJob:
    answer = ask(service, "GET", _path(job_id))
    if answer.status in (404, 410):
        return VideoJob(job_id, "gone", failure="lost", code=str(answer.status))
    return decoded(_accepted(service, answer).data(), shapes, job_id)


def _address(service: Service, job_id: str) -> str:
    """Where the film is: `output` at Agents, `assets` at Dream Machine."""
    answer = known(service, job_id, ask(service, "GET", _path(job_id)))
    data = _accepted(service, answer).data()
    output, assets = data.get("output"), data.get("assets")
    urls = [item.get("url") for item in output or () if isinstance(item, Mapping) and item.get("type") == "video"]
    urls += [assets.get("video")] if isinstance(assets, Mapping) else []
    if STATES.get(str(data.get("state"))) != "done" or not urls or not urls[0]:
        raise ProviderUnavailable(f"{service.name} has no film of generation {job_id} yet", "transient", "no_output")
    return str(urls[0])


def _accepted(service: Service, answer: Answer) -> Answer:
    """`answer` if it is a success. Complaints are `{"detail"}`; 402 means an empty account."""
    if 200 <= answer.status < 300:
        return answer
    _, text = error_words(answer.data())
    if answer.status == 402 or (answer.status < 500 and re.search(r"insufficient|enough credits", text.lower())):
        sentence = f"{service.name}: the account's money is used up ({text})"
        raise ProviderRefused(sentence, "quota", str(answer.status), text)
    raise refusal(service, answer)


def _path(job_id: str) -> str:
    return f"generations/{urllib.parse.quote(job_id, safe='')}"
