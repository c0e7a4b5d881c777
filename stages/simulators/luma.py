"""A server that stands for both of Luma's: `python -m stages.simulators.luma --port N --state DIR`.

Agents is at the base URL that it prints (for LUMA_BASE_URL and ours,
LUMA_AGENTS_BASE_URL), Dream Machine at `/dream-machine/v1` on the same port
(for LUMAAI_BASE_URL). It sells generations for nothing, films them and appends
every sale to DIR/sales.jsonl, in which an id stands as `video_` and its
hexadecimal digits. What it accepts is what the types of luma-agents 0.5.0 and
lumaai 1.21.0 describe for making videos; its answers have the shapes that
these, docs.agents.lumalabs.ai and facts/providers.md section 5 show. The words of
its complaints are made up. It has no Files API, reframes nothing, calls nobody
back, fetches nothing (so Dream Machine's images are ignored, and of films it
knows its own), and last frames are checked and not filmed; all films are silent
and none loops. An upscale is a generation of its own, and what it may cost or
enlarge is not limited, which is made up too.

Words in a prompt ask for trouble: `[moderated]` (fails at once), `[moderated later]`,
`[fails]`, `[fails corrupt_input]` or any other code, `[slow]` (never done), `[short]` (a
second too short), `[lost]` (forgotten when it is done), `[broke]` (402: no money),
`[busy]` (429, as if too much were in flight), `[expires]` (the first link that is
followed has expired), `[expired]` (all have). More comes by flag or by header (`faults`).
"""

from __future__ import annotations

import re
import sqlite3
import urllib.parse
import uuid
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from stages.clip import Size
from stages.simulators import faults
from stages.simulators.desk import Problem, object_in, opened, options, run
from stages.simulators.studio import Order, Refusal, Shot
from stages.simulators.tasks import Reply, TaskDesk, TaskServer, footage, picture, public, stamp

API_VERSION = "2026-04-01"
LINKS_LAST = 3600
IMAGE = 50 * 1024 * 1024


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


AGENTS_FIELDS = words(
    "prompt aspect_ratio image_ref layering model output_format source style type user_id video web_search"
)
VIDEO_FIELDS = words(
    "duration edit end_frame exr_export hdr keyframe_indexes keyframes loop resolution source_position start_frame"
)
IMAGE_FIELDS = words("data file_id generation_id media_type url")
UNPLAYED = words("image_ref layering output_format style web_search exr_export hdr source_position")
"""Fields of Agents that the real one has and the simulator does not play."""
EDIT_FIELDS = words("auto_controls controls keyframe_indexes keyframes strength")
STRENGTHS = words("adhere_1 adhere_2 adhere_3 flex_1 flex_2 flex_3 reimagine_1 reimagine_2 reimagine_3")
LONGEST = 18
"""Seconds of a film that Agents films anew. luma-agents 0.5.0."""
AGENTS_SHAPES = words("9:16 3:4 1:1 4:3 16:9 21:9")
AGENTS_LINES = {"360p": 360, "540p": 540, "720p": 720, "1080p": 1080}

DREAM_FIELDS = words(
    "model aspect_ratio callback_url concepts duration generation_type keyframes loop prompt resolution"
)
MODIFY_FIELDS = words("callback_url first_frame generation_type media mode model prompt")
UPSCALE_FIELDS = words("callback_url generation_type resolution")
DREAM_MODELS = ("ray-2", "ray-flash-2")
DREAM_SHAPES = words("1:1 16:9 9:16 4:3 3:4 21:9 9:21")
DREAM_LINES = {"540p": 540, "720p": 720, "1080p": 1080, "4k": 2160}


def no(message: str, status: int = 400) -> Refusal:
    """A complaint."""
    return Refusal(status, message)


def frame(shape: str, lines: int) -> Size:
    """The picture of that shape with that many lines on its shorter side."""
    across, down = map(int, shape.split(":"))
    return Size(lines * max(across, down) // down, lines * max(across, down) // across)


# ---------------------------------------------------------------- what is accepted


def agents_order(body: Mapping[str, Any]) -> tuple[Size, int, tuple[bytes, str]]:
    """Frame, seconds and first frame of a create request that fits. Raises Refusal: 400, or 422 for what clashes."""
    video = _agents_fields(body)
    if body["type"] != "video" or "source" in body or "edit" in video:
        raise no("The simulator films type=video without source and edit")
    shape, resolution = body.get("aspect_ratio") or "16:9", video.get("resolution") or "720p"
    seconds = {"5s": 5, "10s": 10}.get(video.get("duration") or "5s")
    if shape not in AGENTS_SHAPES or resolution not in AGENTS_LINES or seconds is None:
        raise no(f"ray-3.2 has no {shape}, {resolution}, {video.get('duration')}")
    return frame(shape, AGENTS_LINES[resolution]), seconds, _anchored(video, seconds)


def agents_edit(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
    """Source and lines of a request to film a film anew that fits. Raises Refusal as `agents_order` does."""
    video, source = _agents_fields(body), body.get("source")
    edit = video.get("edit") or {}
    if not isinstance(source, dict) or set(source) not in ({"generation_id"}, {"data", "media_type"}):
        raise no("source should be an object with generation_id, or data and media_type", 422)
    if unknown := sorted(set(video) - {"resolution", "edit"}) or sorted(set(edit) - EDIT_FIELDS):
        raise no(f"video_edit does not go with {unknown[0]}", 422)
    if unplayed := sorted(set(edit) - {"auto_controls", "strength"}):
        raise no(f"The simulator does not play {unplayed[0]}")
    if edit.get("strength", "flex_1") not in STRENGTHS or not isinstance(edit.get("auto_controls", True), bool):
        raise no("edit should have auto_controls, or a strength from adhere_1 to reimagine_3")
    if {"auto_controls", "strength"} <= set(edit):
        raise no("auto_controls does not go with strength", 422)
    resolution = video.get("resolution") or "720p"
    if resolution not in AGENTS_LINES:
        raise no(f"ray-3.2 has no {resolution}")
    return source, AGENTS_LINES[resolution]


def _agents_fields(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The video's fields, of a request whose others fit."""
    video: Mapping[str, Any] = body.get("video") or {}
    if unknown := sorted(set(body) - AGENTS_FIELDS) or sorted(set(video) - VIDEO_FIELDS):
        raise no(f"Unknown field: {unknown[0]}")
    if unplayed := sorted((set(body) | set(video)) & UNPLAYED):
        raise no(f"The simulator does not play {unplayed[0]}")
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not 1 <= len(prompt) <= 6000:
        raise no("prompt should have 1 to 6000 characters")
    if body.get("model") != "ray-3.2" or body.get("type") not in ("video", "video_edit"):
        raise no("The simulator films type=video and type=video_edit with model=ray-3.2")
    return video


def _anchored(video: Mapping[str, Any], seconds: int) -> tuple[bytes, str]:
    """The first frame, if one is given, after all images and how they go together were looked at."""
    pair = {name: _image(video[name]) for name in ("start_frame", "end_frame") if video.get(name)}
    keyframes, indexes = video.get("keyframes") or [], video.get("keyframe_indexes") or []
    if seconds == 10 and (pair or video.get("loop")):
        raise no("duration=10s goes with none of start_frame, end_frame and loop", 422)
    if video.get("loop") and ("end_frame" in pair or keyframes):
        raise no("loop goes with neither end_frame nor keyframes", 422)
    if keyframes and pair:
        raise no("keyframes go with neither start_frame nor end_frame", 422)
    in_grid = all(type(index) is int and 0 <= index <= seconds * 24 for index in indexes)
    if len(keyframes) != len(indexes) or len(set(indexes)) < len(indexes) or not in_grid or len(keyframes) > 64:
        raise no("keyframe_indexes should be as many as keyframes, at most 64, each its own place in the grid", 422)
    placed = dict(zip(indexes, [_image(image) for image in keyframes], strict=True))
    return pair.get("start_frame") or placed.get(0) or (b"", "")


def _image(given: Any) -> tuple[bytes, str]:
    if not isinstance(given, dict) or set(given) - IMAGE_FIELDS:
        raise no("An image should be an object with url, data, generation_id or file_id")
    if "data" not in given or set(given) != {"data", "media_type"}:
        raise no("The simulator takes images as data with media_type", 422)
    content = picture(f"data:{given['media_type']};base64,{given['data']}", no("Bad image data", 422))
    if len(content[0]) > IMAGE:
        raise no("The image exceeds 50 MB", 413)
    return content


def dream_order(body: Mapping[str, Any]) -> tuple[Size, int]:
    """Frame and seconds of a create request that fits. Raises Refusal with 400."""
    if unknown := sorted(set(body) - DREAM_FIELDS):
        raise no(f"Unknown field: {unknown[0]}")
    if body.get("model") not in DREAM_MODELS:
        raise no(f"model should be one of {', '.join(DREAM_MODELS)}")
    shape, resolution = body.get("aspect_ratio", "16:9"), body.get("resolution", "720p")
    seconds = {"5s": 5, "9s": 9}.get(body.get("duration", "5s"))
    if shape not in DREAM_SHAPES or resolution not in DREAM_LINES or seconds is None:
        raise no(f"{body['model']} has no {shape}, {resolution}, {body.get('duration')}")
    keyframes = body.get("keyframes", {})
    if not isinstance(keyframes, dict) or set(keyframes) - {"frame0", "frame1"}:
        raise no("keyframes should have frame0 and frame1")
    for name, image in keyframes.items():
        url = image.get("url") if isinstance(image, dict) and image.get("type") == "image" else None
        if not isinstance(url, str) or not url.startswith("https://"):
            raise no(f"{name} should be an image with an https address")
    if not isinstance(body.get("loop", False), bool) or not isinstance(body.get("prompt", ""), str):
        raise no("loop should be a boolean, prompt a string")
    if not body.get("prompt") and not keyframes:
        raise no("a prompt or keyframes should be given")
    return frame(shape, DREAM_LINES[resolution]), seconds


def modify_url(body: Mapping[str, Any]) -> str:
    """The address of the film in a request to film it anew that fits. Raises Refusal with 400."""
    if unknown := sorted(set(body) - MODIFY_FIELDS):
        raise no(f"Unknown field: {unknown[0]}")
    if body.get("generation_type") != "modify_video" or body.get("model") not in DREAM_MODELS:
        raise no(f"generation_type should be modify_video, model one of {', '.join(DREAM_MODELS)}")
    if body.get("mode") not in STRENGTHS or not isinstance(body.get("prompt", ""), str):
        raise no("mode should be adhere_1 to reimagine_3, prompt a string")
    media = body.get("media")
    url = media.get("url") if isinstance(media, dict) else None
    if not isinstance(url, str) or not url.startswith(("https://", "http://127.0.0.1")):
        raise no("media should have an https address")
    return url


# ---------------------------------------------------------------- how it speaks


class LumaDesk(TaskDesk):
    """One connection."""

    def error(self, refusal: Refusal) -> Mapping[str, Any]:
        """As both APIs have it."""
        return {"detail": str(refusal)}

    def say(self, status: int, body: Mapping[str, Any] | None, **headers: str) -> None:
        """Agents names its version, and the request as the buyer named it."""
        if not self.path.startswith("/dream-machine"):
            headers["X-API-Version"] = API_VERSION
            headers["X-Request-Id"] = self.headers.get("X-Request-Id") or str(uuid.uuid4())
        super().say(status, body, **headers)

    def serve(self, method: str, parts: list[str], query: Mapping[str, str], body: bytes) -> Reply:
        """Agents and Dream Machine."""
        self.key()
        match method, parts:
            case "POST", ["v1", "generations"]:
                return 201, self._agents(self._create(object_in(body)))
            case "GET", ["v1", "generations", job_id]:
                return 200, self._agents(self._job(job_id, "agents"))
            case "POST", ["dream-machine", "v1", "generations", "video", "modify"]:
                return 201, self._dream(self._modify(object_in(body)))
            case "POST", ["dream-machine", "v1", "generations", job_id, "upscale"]:
                return 201, self._dream(self._upscale(self._job(job_id, "dream"), object_in(body)))
            case "POST", ["dream-machine", "v1", "generations", *rest] if rest in ([], ["video"]):
                return 201, self._dream(self._dream_up(object_in(body)))
            case "GET", ["dream-machine", "v1", "generations"]:
                return 200, self._dreams(query)
            case "GET", ["dream-machine", "v1", "generations", job_id]:
                return 200, self._dream(self._job(job_id, "dream"))
            case "DELETE", ["dream-machine", "v1", "generations", job_id]:
                self.server.forget(self._job(job_id, "dream"))
                return 204, None
            case "GET", ["dream-machine", "v1", "credits"]:
                return 200, {"credit_balance": 1_000_000}
            case "GET", ["dream-machine", "v1", "ping"]:
                return 200, {"message": "pong"}
        raise no(f"Not Found: {method} {self.path}", 404)

    def _job(self, job_id: str, api: str) -> sqlite3.Row:
        job = self.job(job_id, "Generation not found")
        if self.server.ordered(job)["api"] != api:
            raise no("Generation not found", 404)
        return job

    def _create(self, body: dict[str, Any]) -> sqlite3.Row:
        if body.get("type") == "video_edit":
            source, lines = agents_edit(body)
            shot = self._source(source)
            if shot.length > LONGEST + Fraction(1, 10):
                raise no(f"source should be {LONGEST} seconds or shorter", 422)
            size = shot.with_lines(lines)
            order = Order(body["prompt"], "ray-3.2", str(shot.seconds), str(size), "", work="remix", shot=shot)
            return self._sell(order, "agents", type="video_edit")
        size, seconds, (image, suffix) = agents_order(body)
        order = Order(body["prompt"], "ray-3.2", str(seconds), str(size), "", image, suffix)
        return self._sell(order, "agents", type="video")

    def _source(self, source: Mapping[str, Any]) -> Shot:
        """The film of a generation, or one that came along."""
        if job_id := source.get("generation_id"):
            return self.server.studio.shot_of(self._job(str(job_id), "agents"))
        uri = f"data:{source['media_type']};base64,{source['data']}"
        return footage(self.server.studio, uri, no("Bad video data", 422))

    def _dream_up(self, body: dict[str, Any]) -> sqlite3.Row:
        size, seconds = dream_order(body)
        order = Order(str(body.get("prompt", "")), str(body["model"]), str(seconds), str(size), "")
        return self._sell(order, "dream", request=body)

    def _modify(self, body: dict[str, Any]) -> sqlite3.Row:
        """Film one of its own films anew, or one that it cannot fetch as it imagines it."""
        path = urllib.parse.urlsplit(modify_url(body)).path.split("/")
        shot = None
        if len(path) == 4 and path[1] == "files":
            shot = self.server.studio.shot_of(self._job(path[2], "dream"))
        size, seconds = (shot.size, shot.seconds) if shot else (Size(1280, 720), 5)
        prompt, model = str(body.get("prompt", "")), str(body["model"])
        order = Order(prompt, model, str(seconds), str(size), "", work="remix", shot=shot)
        return self._sell(order, "dream", request=body)

    def _upscale(self, job: sqlite3.Row, body: dict[str, Any]) -> sqlite3.Row:
        if unknown := sorted(set(body) - UPSCALE_FIELDS):
            raise no(f"Unknown field: {unknown[0]}")
        if body.get("resolution") not in DREAM_LINES:
            raise no(f"resolution should be one of {', '.join(DREAM_LINES)}")
        shot = self.server.studio.shot_of(job)
        size = shot.with_lines(DREAM_LINES[body["resolution"]])
        order = Order("", job["model"], str(shot.seconds), str(size), "", work="upscale", shot=shot)
        return self._sell(order, "dream", request=body | {"generation_type": "upscale_video"})

    def _sell(self, order: Order, api: str, **more: Any) -> sqlite3.Row:
        if "[broke]" in order.prompt:
            raise no("Insufficient credits", 402)
        if "[busy]" in order.prompt:
            raise Problem(429, {"detail": "Too many concurrent generations"}, Retry_After="7")
        job_id = self.server.sell(replace(order, faults=self.struck), sound=False, api=api, **more)
        return self.server.studio.job(job_id)

    def _state(self, job: sqlite3.Row) -> tuple[str, str, str]:
        """The studio's word for how it stands, and where it failed a code and a text."""
        prompt = job["prompt"]
        video = self.server.studio.described(job)
        over = video["status"] in ("completed", "failed")
        moderated = ("content_moderated", "Your prompt or input was moderated by our content guidelines.")
        if over and "[lost]" in prompt:
            raise no("Generation not found", 404)
        later = over and video["status"] == "failed" and video["error"]["code"] == "moderation_blocked"
        if "[moderated]" in prompt or "moderated" in self.faults_of(job) or later:
            return "failed", *moderated
        if over and (code := re.search(r"\[fails (\w+)\]", prompt)):
            return "failed", code[1], "The generation failed as its prompt asked."
        if video["status"] == "failed":
            return "failed", "generation_failed", "An internal error occurred."
        return video["status"], "", ""

    def _agents(self, job: sqlite3.Row) -> dict[str, Any]:
        word, code, text = self._state(job)
        return {
            "id": public(job["id"]),
            "type": self.server.ordered(job).get("type", "video"),
            "state": {"in_progress": "processing"}.get(word, word),
            "model": job["model"],
            "created_at": stamp(job["created_at"]),
            "output": [{"type": "video", "url": self.link(job)}] if word == "completed" else [],
            "failure_reason": text or None,
            "failure_code": code or None,
        }

    def _dream(self, job: sqlite3.Row) -> dict[str, Any]:
        word, _, text = self._state(job)
        return {
            "id": public(job["id"]),
            "generation_type": "video",
            "state": {"in_progress": "dreaming"}.get(word, word),
            "failure_reason": text or None,
            "created_at": stamp(job["created_at"]),
            "assets": {"video": self.link(job)} if word == "completed" else None,
            "model": job["model"],
            "request": self.server.ordered(job)["request"],
        }

    def _dreams(self, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of the list, newest first."""
        limit, offset = query.get("limit", "10"), query.get("offset", "0")
        if not limit.isdigit() or not offset.isdigit() or not 1 <= int(limit) <= 100:
            raise no("limit should be 1 to 100, offset 0 or more")
        start = int(offset)
        described, _ = self.server.studio.listed("", 100_000, descending=True)
        jobs = [self.server.studio.job(each["id"]) for each in described if not self.server.gone(each["id"])]
        dreams = [job for job in jobs if self.server.ordered(job)["api"] == "dream" and "[lost]" not in job["prompt"]]
        page = dreams[start : start + int(limit)]
        return {
            "generations": [self._dream(job) for job in page],
            "count": len(page),
            "limit": int(limit),
            "offset": start,
            "has_more": start + len(page) < len(dreams),
        }


def main(arguments: list[str] | None = None) -> None:
    """Stand for Luma, with both APIs on one port."""
    given = options("Stand for Luma's APIs.", settle=0.0).parse_args(arguments)
    trouble = faults.given(given.fault)
    run(TaskServer(given.port, opened(given, trouble), LumaDesk, LINKS_LAST, "/v1", trouble))


if __name__ == "__main__":
    main()
