"""How the servers that speak the Videos protocol answer: data, for the simulator that stands for them.

The other side of `stages/providers/dialects.py`, from the same sources.
Inside, the simulator has jobs as OpenAI describes them; each manner says how
they look from outside.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Manner:
    """One kind of server.

    - `base`: its path; `credentials`: headers, one of which it wants to see
    - taking orders: `encodings`; `strict` where only OpenAI's models, sizes and
      lengths, text in JSON and references of exactly the size will do; `known`:
      the JSON fields, where others are refused; `seconds`: their type in JSON;
      `created`: the status of the answer
    - jobs: `identity` of one by its `hex` digits and `model`, wrapped in base64
      if `wrapped`; `words` for queued, in_progress, completing (from 80 %),
      completed and failed; `progress` in percent, at its ends only, or not at
      all; `drops`, `renames` and `extras` among its fields
    - trouble: `failure` is how a job's error looks, `errors` how those of HTTP
      do; a failed job is answered with its own status if `failed_by_status`
    - films: `early` and `failed` are what `/content` answers before there is a
      film, or without one; `variants`: those of `?variant=` that it knows, None for
      all; `link`: where the film is if not there: the job's `url`, which a refusal
      quotes too; a `body` with it; the `path` on its disk; or the `job` alone
    - `works`: the paths at which something is done to films, besides `/videos`
    - `deletes` jobs in any state, finished ones, or none, answering `deleted`;
      lists are in `pages` with or without `has_more`, or whole
    - `keys`: it honours Idempotency-Key; `forgets`: a restart loses its jobs
    """

    name: str
    base: str = "/v1"
    credentials: tuple[str, ...] = ()
    encodings: tuple[str, ...] = ("multipart", "json")
    strict: bool = False
    known: frozenset[str] = frozenset()
    seconds: tuple[type, ...] = (str, int)
    created: int = 200
    identity: str = "video_{hex}"
    wrapped: bool = False
    words: Mapping[str, str] = field(default_factory=dict)
    progress: Literal["percent", "ends", "none"] = "percent"
    drops: frozenset[str] = frozenset()
    renames: Mapping[str, str] = field(default_factory=dict)
    extras: Mapping[str, object] = field(default_factory=dict)
    failure: Literal["object", "status", "message", "text", "reason"] = "object"
    errors: Literal["openai", "detail", "flat", "litellm"] = "openai"
    failed_by_status: bool = False
    early: tuple[int, str] = (404, "The video is not ready, or has expired.")
    failed: tuple[int, str] = (404, "The video is not ready, or has expired.")
    variants: tuple[str, ...] | None = ("video",)
    link: Literal["", "detail", "body", "path", "job"] = ""
    works: tuple[str, ...] = ()
    deletes: Literal["finished", "any", ""] = "any"
    deleted: Literal["object", "job", "bare"] = "object"
    pages: Literal["more", "bare", "whole", ""] = "more"
    keys: bool = False
    forgets: bool = False

    # -- ids

    def public(self, job_id: str, model: str) -> str:
        """How the studio's job is called outside."""
        found = self.identity.format(hex=job_id.removeprefix("video_"), model=model)
        return f"video_{base64.b64encode(found.encode()).decode()}" if self.wrapped else found

    def private(self, name: str) -> str:
        """The studio's job of that name; of another's name, something that no job is called."""
        if self.wrapped:
            try:
                name = base64.b64decode(name.removeprefix("video_"), validate=True).decode()
            except (binascii.Error, ValueError):
                return name
        hexadecimal = re.search(r"[0-9a-f]{32}$", name)
        whole = bool(hexadecimal) and re.fullmatch(
            re.escape(self.identity).replace(r"\{hex\}", "[0-9a-f]{32}").replace(r"\{model\}", ".*"), name
        )
        return f"video_{hexadecimal[0]}" if hexadecimal and whole else name

    # -- jobs

    def shown(self, video: Mapping[str, Any], url: str = "") -> dict[str, Any]:
        """The studio's Video as this server shows it; `url` is where its film is."""
        status, progress = video["status"], video["progress"]
        phase = "completing" if status == "in_progress" and progress >= 80 and "completing" in self.words else status
        shown = {**self.extras, **video, "id": self.public(video["id"], video["model"])}
        shown["status"] = self.words.get(phase, status)
        shown["progress"] = {"percent": progress, "ends": 100 * (status == "completed"), "none": None}[self.progress]
        if source := video.get("remixed_from_video_id"):
            shown["remixed_from_video_id"] = self.public(source, video["model"])
        if error := video.get("error"):
            shown |= self._failure(error)
        if url and self.link in ("detail", "job") and status == "completed":
            shown["url" if self.link == "detail" else "video_url"] = url
        return {self.renames.get(name, name): value for name, value in shown.items() if name not in self.drops}

    def status_of(self, video: Mapping[str, Any]) -> int:
        """The HTTP status under which the job is shown."""
        return _blame(video["error"]) if self.failed_by_status and video.get("error") else 200

    def _failure(self, error: Mapping[str, str]) -> dict[str, Any]:
        shapes: Mapping[str, dict[str, Any]] = {
            "object": {"error": dict(error)},
            "status": {"error": {"code": _blame(error), "message": error["message"]}},
            "message": {"error": {"message": error["message"]}},
            "text": {"error": error["message"]},
            "reason": {"error": None, "fail_reason": error["message"]},
        }
        return shapes[self.failure]

    # -- trouble

    def complaint(self, status: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """OpenAI's error body as this server has it."""
        message = body["message"]
        shapes: Mapping[str, dict[str, Any]] = {
            "openai": {"error": dict(body)},
            "detail": {"detail": [{"msg": message, "type": "value_error"}] if status == 422 else message},
            "flat": {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": status},
            "litellm": {"error": {**body, "message": LITELLM_SAYS + json.dumps({"error": body}), "code": str(status)}},
        }
        return shapes[self.errors]


LITELLM_SAYS = "litellm.BadRequestError: OpenAIException - "


def _blame(error: Mapping[str, str]) -> int:
    """Of whom it is the fault: 400 or 500."""
    return 400 if "moderation" in error["code"] or "invalid" in error["code"] else 500


def fields_of(body: bytes, manner: Manner) -> tuple[dict[str, str], bytes, str]:
    """The fields of a JSON body as text, and the first frame with its media type.

    Raises ValueError with what is wrong.
    """
    data = json.loads(body)
    if not isinstance(data, dict):
        raise ValueError("the body should be a JSON object")
    if unknown := sorted(set(data) - manner.known) if manner.known else []:
        raise ValueError(f"{unknown[0]}: Extra inputs are not permitted")
    if not isinstance(data.get("seconds", manner.seconds[0]()), manner.seconds):
        raise ValueError("seconds: Input should be a valid " + manner.seconds[0].__name__)
    image, media_type = b"", ""
    for name in ("input_reference", "image_reference"):
        image, media_type = (image, media_type) if image else _image(data.pop(name, None))
    return {name: _plain(value) for name, value in data.items() if value is not None}, image, media_type


def _image(reference: object) -> tuple[bytes, str]:
    """The first frame, however it was sent."""
    if isinstance(reference, list):
        roles = {str(each.get("role")): each for each in reference if isinstance(each, dict)}
        return _image(roles.get("first_frame"))
    if isinstance(reference, dict):
        return _image(reference.get("image_url") or reference.get("content"))
    if not reference:
        return b"", ""
    match = re.fullmatch(r"data:([\w/+.-]+);base64,(.*)", str(reference), re.DOTALL)
    if not match:
        raise ValueError("the simulator takes data URLs only")
    return base64.b64decode(match[2], validate=True), match[1]


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# ---------------------------------------------------------------- the table

WORKS = ("remix", "extensions", "edits")

OPENAI = Manner("openai", strict=True, works=WORKS, deletes="finished", keys=True)

AZURE = Manner(
    "azure",
    base="/openai/v1",
    credentials=("api-key", "Authorization"),
    strict=True,
    extras={"completed_at": None, "error": None, "remixed_from_video_id": None, "expires_at": None},
    works=("remix",),
    deletes="finished",
)

VLLM_OMNI = Manner(
    "vllm-omni",
    encodings=("multipart",),
    identity="video_gen_{hex}",
    extras={
        "completed_at": None,
        "error": None,
        "media_type": "video/mp4",
        "file_name": None,
        "inference_time_s": None,
        "stage_durations": {},
        "peak_memory_mb": 0.0,
        "action": None,
    },
    failure="status",
    errors="detail",
    failed_by_status=True,
    early=(404, "Generation is still in-progress"),
    failed=(422, "Generation failed"),
    variants=None,
    forgets=True,
)

SGLANG = Manner(
    "sglang",
    identity="{hex}",
    words={"in_progress": "queued"},
    progress="ends",
    drops=frozenset({"prompt"}),
    extras={"url": None, "file_path": None, "error": None, "num_outputs": 1},
    failure="message",
    errors="detail",
    early=(404, "Generation is still in-progress"),
    failed=(404, "Video output not found"),
    variants=(),  # an integer index, says the documentation; the newest source knows `video`
    deleted="job",
    pages="bare",
    forgets=True,
)

TENSORRT_FIELDS = (
    "prompt model size seconds seed negative_prompt image_reference video_reference audio_reference "
    "input_reference width height num_frames fps frame_rate num_inference_steps guidance_scale "
    "max_sequence_length extra_params response_format format"
)

TENSORRT_LLM = Manner(
    "tensorrt-llm",
    known=frozenset(TENSORRT_FIELDS.split()),
    seconds=(float, int),
    created=202,
    words={"in_progress": "generating", "completing": "postprocessing"},
    progress="none",
    drops=frozenset({"quality"}),
    renames={"seconds": "duration"},
    extras={"completed_at": None, "error": None, "expires_at": None, "fps": 24.0, "response_format": None},
    failure="text",
    errors="flat",
    early=(400, "Video is not ready"),
    failed=(400, "Video is not ready"),
    variants=None,
    deleted="bare",
    pages="whole",
    forgets=True,
)

FASTVIDEO = Manner(
    "fastvideo",
    words={"in_progress": "queued"},
    identity="video_gen_{hex}",
    progress="ends",
    drops=frozenset({"prompt"}),
    extras={"url": None, "file_path": None, "completed_at": None, "error": None, "peak_memory_mb": None},
    failure="message",
    errors="detail",
    early=(404, "Video still being generated"),
    failed=(500, "Video generation failed"),
    variants=None,
    deleted="job",
    pages="bare",
    forgets=True,
)

LITELLM = Manner(
    "litellm",
    strict=True,
    identity="litellm:custom_llm_provider:openai;model_id:{model};video_id:video_{hex}",
    wrapped=True,
    drops=frozenset({"prompt", "quality"}),
    extras={"completed_at": None, "error": None, "expires_at": None, "usage": {"duration_seconds": 4.0}},
    errors="litellm",
    variants=None,
    works=WORKS,
    deletes="",
    pages="",
)

GATEWAY = Manner(  # of the resellers in facts/providers.md 3.2
    "gateway",
    words={"queued": "pending", "in_progress": "processing"},
    drops=frozenset({"quality", "seconds"}),
    renames={"created_at": "created"},
    extras={"code": "success"},
    failure="reason",
    early=(404, "Invalid URL"),
    failed=(404, "Invalid URL"),
    link="job",
    deletes="",
    pages="",
)

MANNERS: Mapping[str, Manner] = {
    manner.name: manner for manner in (OPENAI, AZURE, VLLM_OMNI, SGLANG, TENSORRT_LLM, FASTVIDEO, LITELLM, GATEWAY)
}

LINKS = ("", "detail", "body", "path", "job")
"""What `--link` takes: where films are instead of in `/content`."""
