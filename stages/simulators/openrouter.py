"""A server that stands for OpenRouter's Videos API: `python -m stages.simulators.openrouter --port N --state DIR`.

It knows four models and their records, takes any key, sells and films in
the studio of all simulators, and logs to DIR/sales.jsonl. Trouble comes by flag,
by header (`faults`), or by the studio's words in a prompt, and `[expires]`: the
first signed address of the film is out of date, the next is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stages.clip import Size
from stages.errors import InputError
from stages.simulators.counter import HEIGHTS, Counter, Image, image_at, pixels, serve
from stages.simulators.desk import Problem, object_in
from stages.simulators.studio import Order, Refusal

HD = ("1280x720", "720x1280")
FULL = (*HD, "1920x1080", "1080x1920")
PREFIX = "gen-vid-"


def _record(
    name: str, lengths: Sequence[int], sizes: Sequence[str], frames: Sequence[str], *, audio: bool, seed: bool
) -> Mapping[str, Any]:
    return {
        "id": name,
        "canonical_slug": name,
        "name": name,
        "created": 1760486400,
        "description": "SIMULATED by Afterframe",
        "supported_durations": list(lengths),
        "supported_resolutions": ["720p", "1080p"] if len(sizes) > 2 else ["720p"],
        "supported_aspect_ratios": ["16:9", "9:16"],
        "supported_sizes": list(sizes),
        "supported_frame_images": list(frames),
        "generate_audio": audio,
        "seed": seed,
        "allowed_passthrough_parameters": [],
        "creativity": None,
        "upscale_factor": None,
        "pricing_skus": {"duration_seconds": "0.00"},
    }


BOTH = ("first_frame", "last_frame")
MODELS = {
    record["id"]: record
    for record in (
        _record("google/veo-3.1", (4, 6, 8), FULL, BOTH, audio=True, seed=True),
        _record("google/veo-3.1-fast", (4, 6, 8), FULL, BOTH, audio=True, seed=True),
        _record("bytedance/seedance-2.0", range(4, 16), HD, BOTH, audio=True, seed=True),
        _record("alibaba/wan-2.6", (5, 10, 15), FULL, ("first_frame",), audio=False, seed=False),
    )
}
"""Records in the real shape. What they allow is the simulator's; the real ones change from week to week."""

KNOWN = (
    "model prompt duration size resolution aspect_ratio seed generate_audio frame_images input_references "
    "callback_url provider session_id trace user"
)
STATUS = {"queued": "pending", "in_progress": "in_progress", "completed": "completed", "failed": "failed"}


class OpenRouterCounter(Counter):
    """One connection to OpenRouter."""

    def answer(self, method: str, parts: Sequence[str], query: Mapping[str, str]) -> Mapping[str, Any] | None:
        """Create, retrieve, content, models; and the storage."""
        match method, parts:
            case "GET", ["storage", job_id]:  # signed: without a key
                if query.get("expired") or query.get("signature") != job_id[::-1]:
                    raise Refusal(403, "The signature is out of date.")
                self.film(_studio_id(job_id))
                return None
        if not self.headers.get("Authorization", "").startswith("Bearer "):
            raise Refusal(401, "No auth credentials found")
        match method, parts:
            case "GET", ["videos", "models"]:
                return {"data": list(MODELS.values())}
            case "POST", ["videos"]:
                self.say(202, self._described(self.sell(self._ordered())))
                return None
            case "GET", ["videos", job_id]:
                return self._described(self._job(job_id))
            case "GET", ["videos", job_id, "content"]:
                if self._job(job_id)["status"] != "completed":
                    raise Refusal(400, "Video generation is not completed yet")
                self.film(_studio_id(job_id))
                return None
        raise Refusal(404, "Not Found")

    def error(self, refusal: Refusal) -> Mapping[str, Any]:
        """As OpenRouter's errors are."""
        return {"error": {"code": refusal.status, "message": str(refusal)}}

    def _job(self, job_id: str) -> Mapping[str, Any]:
        return self.described(_studio_id(job_id))

    def _described(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        job_id = f"{PREFIX}{job['created_at']}-{job['id'].removeprefix('video_')}"
        said: dict[str, Any] = {
            "id": job_id,
            "polling_url": f"/api/v1/videos/{job_id}",
            "status": STATUS[job["status"]],
        }
        if job["status"] == "failed":
            said["error"] = job["error"]["message"]
        if job["status"] == "completed":
            signed = self.url(f"api/v1/storage/{job_id}?signature={job_id[::-1]}")
            if "[expires]" in job["prompt"] and job_id not in self.server.shown:
                self.server.shown.add(job_id)
                signed += "&expired=1"
            said["generation_id"] = job_id
            said["urls"] = [signed]
            said["unsigned_urls"] = [self.url(f"api/v1/videos/{job_id}/content?index=0")]
            said["expires_at"] = job["expires_at"]
            said["usage"] = {"cost": 0, "is_byok": False}
        return said

    def _ordered(self) -> Order:
        data = object_in(self.body())
        try:
            return ordered(data)
        except PermissionError as error:
            metadata = {"reasons": ["policy"], "flagged_input": "…", "provider_name": "SIMULATED"}
            body = {"error": {"code": 403, "message": str(error), "metadata": metadata}}
            raise Problem(403, body) from None
        except ValueError as error:
            raise Refusal(400, str(error)) from None


def ordered(data: Mapping[str, Any]) -> Order:
    """The body as an Order. Raises ValueError for a wrong one, PermissionError for policy."""
    for name in data:
        if name not in KNOWN.split():
            raise ValueError(f"Unrecognized key: '{name}'")
    model = MODELS.get(data.get("model", ""))
    if model is None:
        raise ValueError(f"Model {data.get('model')} does not exist")
    prompt = data.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise ValueError("prompt: Required")
    if "[moderated]" in prompt:
        raise PermissionError("Your input was flagged by moderation")
    seconds = data.get("duration", model["supported_durations"][0])
    if type(seconds) is not int or seconds not in model["supported_durations"]:
        raise ValueError(f"duration {seconds!r} is not supported by {model['id']}")
    for name, kind in (("seed", int), ("generate_audio", bool)):
        if name in data and (type(data[name]) is not kind or not model[name]):
            raise ValueError(f"{name} {data[name]!r} is not supported by {model['id']}")
    size = _size(data)
    if str(size) not in model["supported_sizes"]:
        raise ValueError(f"size {size} is not supported by {model['id']}")
    first = _frames(data, model)
    return Order(prompt, model["id"], str(seconds), str(size), "", first.content, first.suffix)


def _size(data: Mapping[str, Any]) -> Size:
    if "size" in data:
        try:
            return Size.parse(str(data["size"]))
        except InputError as error:
            raise ValueError(f"size: {error}") from None
    ratio, resolution = data.get("aspect_ratio", "16:9"), data.get("resolution", "720p")
    if ratio not in ("16:9", "9:16") or resolution not in HEIGHTS:
        raise ValueError(f"{resolution} in {ratio} is not supported")
    return pixels(ratio, resolution)


def _frames(data: Mapping[str, Any], model: Mapping[str, Any]) -> Image:
    """The first frame, once all frames were looked at."""
    first = Image()
    given = data.get("frame_images", [])
    if not isinstance(given, list):
        raise ValueError("frame_images: should be a list")
    for frame in given:
        if not isinstance(frame, dict) or set(frame) != {"type", "image_url", "frame_type"}:
            raise ValueError("frame_images: each should have type, image_url and frame_type")
        if frame["type"] != "image_url" or frame["frame_type"] not in model["supported_frame_images"]:
            raise ValueError(f"frame_images: {frame['frame_type']} is not supported by {model['id']}")
        address = frame["image_url"].get("url") if isinstance(frame["image_url"], dict) else None
        found = image_at(address)
        if found is None:
            raise ValueError("frame_images: the image cannot be read; the simulator takes data URLs only")
        if frame["frame_type"] == "first_frame":
            first = found
    return first


def _studio_id(job_id: str) -> str:
    return f"video_{job_id.rpartition('-')[2]}" if job_id.startswith(PREFIX) else job_id


def main(arguments: list[str] | None = None) -> None:
    """Stand for OpenRouter."""
    serve("OpenRouter's Videos API", OpenRouterCounter, "/api/v1", arguments)


if __name__ == "__main__":
    main()
