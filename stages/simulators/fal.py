"""A server that stands for fal's queue: `python -m stages.simulators.fal --port N --state DIR`.

It knows the models that our client knows, takes any key, sells and films in
the studio of all simulators, and logs to DIR/sales.jsonl. Trouble comes by flag,
by header (`faults`), or by the studio's words in a prompt, and `[expires]`: the
first address of the film is out of date, the next is not. Films are worked on as
they come within the request; a longer one is the whole of it. fal looks at a request
when its turn has come; here a wrong one is answered 422 at once, and not sold.

fal-client speaks https alone: start with `--tls`, and set FAL_QUEUE_RUN_HOST to
the host and port, SSL_CERT_FILE to DIR/tls.pem.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from stages.errors import InputError
from stages.providers.fal import FAMILIES, UPSCALERS, Family
from stages.providers.spelling import shape
from stages.simulators.counter import Counter, Image, image_at, pixels, serve, video_at
from stages.simulators.desk import Problem, object_in
from stages.simulators.studio import Order, Refusal, Shot

BROKEN = "runner_disconnected"
LONGEST = {"fal-ai": (4, 6, 8), "bytedance": tuple(range(4, 16)), "kling": tuple(range(3, 31))}
"""The seconds that an owner's models film."""


class FalCounter(Counter):
    """One connection to the queue."""

    def answer(self, method: str, parts: Sequence[str], query: Mapping[str, str]) -> Mapping[str, Any] | None:
        """Submit, status, result, cancel; and the files."""
        match method, parts:
            case "GET", ["files", request_id, "film.mp4"]:  # public
                if query.get("expired"):
                    raise Refusal(404, "Not Found")
                self.film(_job_id(request_id))
                return None
        if not self.headers.get("Authorization", "").startswith("Key "):
            raise Refusal(401, "Authentication is required to access this application.")
        match method, parts:
            case "GET", [owner, app, "requests", request_id, "status"]:
                self._status(f"{owner}/{app}", request_id, query)
                return None
            case "GET", [owner, app, "requests", request_id]:
                return self._result(f"{owner}/{app}", request_id)
            case "PUT", [owner, app, "requests", request_id, "cancel"]:
                self._cancel(f"{owner}/{app}", request_id)
                return None
            case "POST", [_, _, *_]:
                return self._submit("/".join(parts))
        raise Refusal(404, "Not Found")

    def error(self, refusal: Refusal) -> Mapping[str, Any]:
        """As fal's own errors are."""
        return {"detail": str(refusal)}

    def _submit(self, endpoint: str) -> Mapping[str, Any]:
        data = object_in(self.body())
        model, order = self._ordered(endpoint, data)
        sold = self.sell(order)
        request_id = str(uuid.UUID(sold["id"].removeprefix("video_")))
        return {
            "status": "IN_QUEUE",
            "request_id": request_id,
            "gateway_request_id": request_id,
            **self._addresses("/".join(model.split("/")[:2]), request_id),
            "queue_position": 0,
        }

    def _ordered(self, endpoint: str, data: Mapping[str, Any]) -> tuple[str, Order]:
        """The model behind an endpoint, and the input as an Order."""
        if endpoint in UPSCALERS:
            return endpoint, upscaled(endpoint, self._shot(data), data)
        for model, family in FAMILIES.items():
            if family.extension and endpoint == f"{model}{family.extension}":
                return model, extended(endpoint, family, self._shot(data), data)
        found = endpoint_of(endpoint)
        if found is None:
            raise Refusal(404, f"Application '{endpoint}' not found")
        model, family, frames = found
        return model, ordered(endpoint, model, family, frames, data)

    def _shot(self, data: Mapping[str, Any]) -> Shot:
        """The film that came along."""
        if "video_url" not in data:
            raise Problem(422, _detail(["body", "video_url"], "Field required", "missing"))
        try:
            return self.server.studio.taken_in(video_at(data["video_url"]))
        except InputError:
            text = "Failed to load the video."
            raise Problem(422, _detail(["body", "video_url"], text, "video_load_error")) from None

    def _addresses(self, app: str, request_id: str) -> dict[str, str]:
        here = self.url(f"{app}/requests/{request_id}")
        return {"response_url": here, "status_url": f"{here}/status", "cancel_url": f"{here}/cancel"}

    def _described(self, app: str, request_id: str) -> tuple[Mapping[str, Any], str]:
        job = self.sold(_job_id(request_id))
        if not job["model"].startswith(f"{app}/") and job["model"] != app:
            raise Refusal(404, "Not Found")
        return self.server.studio.described(job), job["prompt"]

    def _status(self, app: str, request_id: str, query: Mapping[str, str]) -> None:
        job, _ = self._described(app, request_id)
        logs: list[Any] | None = [] if query.get("logs") in ("1", "true") else None
        said: dict[str, Any] = {"request_id": request_id, **self._addresses(app, request_id)}
        match job["status"]:
            case "queued":
                self.say(202, {"status": "IN_QUEUE", "queue_position": 0, **said})
            case "in_progress":
                self.say(202, {"status": "IN_PROGRESS", "logs": logs, **said})
            case _:
                done = {"status": "COMPLETED", "logs": logs, "metrics": {"inference_time": 1.0}, **said}
                if job["status"] == "failed" and job["error"]["code"] != "moderation_blocked":
                    done |= {"error": job["error"]["message"], "error_type": BROKEN}
                elif job["status"] == "failed":
                    done |= {"error": "Unprocessable Entity"}
                self.say(200, done)

    def _cancel(self, app: str, request_id: str) -> None:
        """Who waits leaves the queue; who is being filmed is told to stop, and does not."""
        job, _ = self._described(app, request_id)
        if job["status"] in ("completed", "failed"):
            raise Problem(400, {"status": "ALREADY_COMPLETED"})
        if job["status"] == "queued":
            self.server.studio.delete(self.sold(_job_id(request_id)), unfinished=True)
        self.say(202, {"status": "CANCELLATION_REQUESTED"})

    def _result(self, app: str, request_id: str) -> Mapping[str, Any]:
        job, prompt = self._described(app, request_id)
        if job["status"] == "failed":
            if job["error"]["code"] == "moderation_blocked":
                raise Problem(422, _detail(["body"], job["error"]["message"], "content_policy_violation"))
            body = {"detail": job["error"]["message"], "error_type": BROKEN}
            raise Problem(503, body, **{"X-Fal-Error-Type": BROKEN})
        if job["status"] != "completed":
            raise Refusal(400, "Request is still in progress")
        url = self.url(f"files/{request_id}/film.mp4")
        if "[expires]" in prompt and request_id not in self.server.shown:
            self.server.shown.add(request_id)
            url += "?expired=1"
        size = self.server.studio.film_of(self.sold(_job_id(request_id))).stat().st_size
        video = {"url": url, "content_type": "video/mp4", "file_name": "film.mp4", "file_size": size}
        return {"video": video}


def endpoint_of(endpoint: str) -> tuple[str, Family, tuple[str, ...]] | None:
    """The model, its family, and the frames' fields of an endpoint; None if there is no such."""
    for model, family in sorted(FAMILIES.items(), key=lambda known: -len(known[0])):
        for path, frames in (
            (family.text, ()),
            (family.ends, (family.ends_first, family.last)),
            (family.image, (family.first,) if family.image != family.ends else (family.first, family.last)),
        ):
            if endpoint == f"{model}{path}":
                return model, family, frames
    return None


def ordered(endpoint: str, model: str, family: Family, frames: tuple[str, ...], data: Mapping[str, Any]) -> Order:
    """The input as an Order. Raises Problem with 422, as pydantic would put it."""
    known = {"prompt", "duration", "resolution", *frames, *family.always, *family.options}
    known |= {field for field in (family.audio, family.seed, family.negative) if field}
    if family.ratio_of_image or not frames:
        known.add("aspect_ratio")
    _only(data, known)
    prompt = _prompt(data)
    lengths = {family.spelled(seconds): seconds for seconds in LONGEST[model.split("/")[0]]}
    resolution = _one_of(data, "resolution", family.resolutions, "720p")
    ratio = _one_of(data, "aspect_ratio", family.ratios, "16:9")
    duration = _one_of(data, "duration", tuple(lengths), family.spelled(8))
    _typed(data, family)
    pictures = [_picture(data, field, needed=field != family.last or family.ends != family.image) for field in frames]
    first = pictures[0] if pictures else Image()
    return Order(
        prompt, endpoint, str(lengths[duration]), str(pixels(ratio, resolution)), "", first.content, first.suffix
    )


def extended(endpoint: str, family: Family, shot: Shot, data: Mapping[str, Any]) -> Order:
    """The input of what makes a film longer, as an Order: the film and what comes after it, as one."""
    known = {"prompt", "duration", "resolution", "aspect_ratio", "video_url", *family.always, *family.options}
    _only(data, known | {field for field in (family.audio, family.seed, family.negative) if field})
    prompt = _prompt(data)
    ratio, resolution = shape(shot.size)
    _one_of(data, "duration", (family.spelled(family.added),), family.spelled(family.added))
    _one_of(data, "resolution", (resolution,), resolution)
    _one_of(data, "aspect_ratio", ("auto", ratio), "auto")
    _typed(data, family)
    if ratio not in family.ratios or resolution not in ("720p", "1080p"):
        text = "The video should be 720p or 1080p in 16:9 or 9:16."
        raise Problem(422, _detail(["body", "video_url"], text, "video_resolution_error"))
    seconds = str(shot.seconds + family.added)
    return Order(prompt, endpoint, seconds, str(shot.size), "", work="extend", shot=shot, added=family.added)


def upscaled(endpoint: str, shot: Shot, data: Mapping[str, Any]) -> Order:
    """The input of what makes a film larger, as an Order. It has no prompt."""
    options = {"noise_scale", "output_format", "output_quality", "output_write_mode", "sync_mode", "upscale_factor"}
    _only(data, {"video_url", "upscale_mode", "target_resolution", "seed"} | options)
    if unplayed := sorted(set(data) & options):
        raise Problem(422, _detail(["body", unplayed[0]], "The simulator does not play this", "value_error"))
    _one_of(data, "upscale_mode", ("target",), "factor")
    lines = {name: side for side, name in UPSCALERS[endpoint].items()}
    side = lines[_one_of(data, "target_resolution", tuple(lines), "1080p")]
    size = shot.with_lines(side)
    return Order("", endpoint, str(shot.seconds), str(size), "", work="upscale", shot=shot)


def _only(data: Mapping[str, Any], known: set[str]) -> None:
    for field in data:
        if field not in known:
            raise Problem(422, _detail(["body", field], "Extra inputs are not permitted", "extra_forbidden"))


def _prompt(data: Mapping[str, Any]) -> str:
    prompt = data.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise Problem(422, _detail(["body", "prompt"], "Field required", "missing"))
    if "[moderated]" in prompt:
        text = "The content could not be processed because it contained material flagged by a content checker."
        raise Problem(422, _detail(["body", "prompt"], text, "content_policy_violation"))
    return prompt


def _typed(data: Mapping[str, Any], family: Family) -> None:
    for field, kind in ((family.audio, bool), (family.seed, int), (family.negative, str), ("auto_fix", bool)):
        if field in data and type(data[field]) is not kind:
            raise Problem(422, _detail(["body", field], f"Input should be a valid {kind.__name__}", "type_error"))


def _one_of(data: Mapping[str, Any], field: str, known: Sequence[str | int], default: str | int) -> Any:
    value = data.get(field, default)
    if value not in known or type(value) is not type(known[0]):
        text = f"Input should be {', '.join(repr(each) for each in known)}"
        raise Problem(422, _detail(["body", field], text, "literal_error"))
    return value


def _picture(data: Mapping[str, Any], field: str, *, needed: bool) -> Image:
    if field not in data and not needed:
        return Image()
    if field not in data:
        raise Problem(422, _detail(["body", field], "Field required", "missing"))
    found = image_at(data[field])
    if found is None:
        raise Problem(422, _detail(["body", field], "Failed to load the image.", "image_load_error"))
    return found


def _detail(where: list[str], text: str, kind: str) -> Mapping[str, Any]:
    return {"detail": [{"loc": where, "msg": text, "type": kind, "url": f"https://docs.fal.ai/errors#{kind}"}]}


def _job_id(request_id: str) -> str:
    try:
        return f"video_{uuid.UUID(request_id).hex}"
    except ValueError:
        return request_id


def main(arguments: list[str] | None = None) -> None:
    """Stand for fal."""
    serve("fal's queue", FalCounter, arguments=arguments)


if __name__ == "__main__":
    main()
