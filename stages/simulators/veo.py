"""A server that stands for Veo on the Gemini API: `python -m stages.simulators.veo --port N --state DIR`.

It speaks `predictLongRunning` as google-genai 2.34.0 does, takes any key, sells
and films in the studio of all simulators, and logs to DIR/sales.jsonl. Trouble
comes by flag, by header (`faults`), or by the studio's words in a prompt, and
`[expires]`: the file is deleted when it is fetched.

google-genai reads a file's name from `https://` addresses alone. With `--tls`
the server speaks that, by a certificate that it makes itself: point SSL_CERT_FILE
at DIR/tls.pem.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stages.simulators.counter import Counter, Image, image_in, pixels, serve
from stages.simulators.desk import object_in
from stages.simulators.studio import Order, Refusal

MODELS = ("veo-3.1-generate-preview", "veo-3.1-fast-generate-preview", "veo-3.1-lite-generate-preview")
WORDS = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
POLICY = "violates Google's Responsible AI practices."


class VeoCounter(Counter):
    """One connection to the Gemini API."""

    def answer(self, method: str, parts: Sequence[str], query: Mapping[str, str]) -> Mapping[str, Any] | None:
        """Create, look, fetch."""
        if parts[:1] == ["storage"]:  # signed: without a key
            self._store(parts[1:], query)
            return None
        if not self.headers.get("x-goog-api-key"):
            raise Refusal(403, "Method doesn't allow unregistered callers.")
        match method, parts:
            case "GET", ["models"]:
                return {"models": [{"name": f"models/{name}"} for name in MODELS]}
            case "POST", ["models", action] if action.endswith(":predictLongRunning"):
                return self._sell(action.removesuffix(":predictLongRunning"))
            case "GET", ["models", model, "operations", operation]:
                return self._operation(model, operation)
            case "GET", ["files", action] if action.endswith(":download"):
                self._send_on(action.removesuffix(":download"))
                return None
        raise Refusal(404, f"{method} {self.path} is not found.")

    def error(self, refusal: Refusal) -> Mapping[str, Any]:
        """As Google's front door spells it."""
        word = WORDS.get(refusal.status, "UNKNOWN")
        return {"error": {"code": refusal.status, "message": str(refusal), "status": word}}

    def _sell(self, model: str) -> Mapping[str, Any]:
        data = object_in(self.body())
        if model not in MODELS:
            text = f"models/{model} is not found for API version v1beta, or is not supported for predictLongRunning."
            raise Refusal(404, text)
        try:
            order = ordered(model, data)
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        sold = self.sell(order)
        return {"name": f"models/{model}/operations/{sold['id'].removeprefix('video_')}"}

    def _operation(self, model: str, operation: str) -> Mapping[str, Any]:
        job = self.sold(f"video_{operation}")
        name = f"models/{model}/operations/{operation}"
        if job["model"] != model:
            raise Refusal(404, f"{name} is not found.")
        described = self.server.studio.described(job)
        kind = "type.googleapis.com/google.ai.generativelanguage.v1beta.PredictLongRunningResponse"
        match described["status"]:
            case "completed":
                uri = self.url(f"v1beta/files/{operation}:download?alt=media")
                film: dict[str, Any] = {"generatedSamples": [{"video": {"uri": uri}}]}
                return {"name": name, "done": True, "response": {"@type": kind, "generateVideoResponse": film}}
            case "failed" if described["error"]["code"] == "moderation_blocked":
                reasons = ["Sorry, we can't create videos with this content. The film " + POLICY]
                filtered = {"raiMediaFilteredCount": 1, "raiMediaFilteredReasons": reasons}
                return {"name": name, "done": True, "response": {"@type": kind, "generateVideoResponse": filtered}}
            case "failed":
                return {"name": name, "done": True, "error": {"code": 13, "message": described["error"]["message"]}}
        return {"name": name}

    def _send_on(self, file: str) -> None:
        """A file is given out by a storage, signed, behind a redirect."""
        job = self.sold(f"video_{file}")
        if "[expires]" in job["prompt"]:
            text = f"You do not have permission to access the File {file} or it may not exist."
            raise Refusal(403, text)
        self.say(302, {}, Location=self.url(f"v1beta/storage/{file}?signature={file[::-1]}"))

    def _store(self, parts: Sequence[str], query: Mapping[str, str]) -> None:
        file = parts[0] if parts else ""
        if query.get("signature") != file[::-1]:
            raise Refusal(403, "The signature does not fit.")
        self.film(f"video_{file}")


def ordered(model: str, data: Mapping[str, Any]) -> Order:
    """The body as an Order. Raises ValueError with what Google would say."""
    instance = _one_instance(data)
    parameters = data.get("parameters") or {}
    known = "aspectRatio resolution durationSeconds sampleCount negativePrompt personGeneration enhancePrompt"
    _only(parameters, known, "parameters")
    for name in ("negativePrompt", "personGeneration", "aspectRatio", "resolution"):
        if not isinstance(parameters.get(name, ""), str):
            raise ValueError(f"`{name}` should be a string.")
    if parameters.get("sampleCount", 1) != 1:
        raise ValueError("`sampleCount` isn't supported by this model: it makes one video.")
    seconds, resolution = parameters.get("durationSeconds", 8), parameters.get("resolution", "720p")
    if not isinstance(seconds, int) or isinstance(seconds, bool) or seconds not in (4, 6, 8):
        raise ValueError("`durationSeconds` should be 4, 6 or 8.")
    if parameters.get("aspectRatio", "16:9") not in ("16:9", "9:16"):
        raise ValueError(f"`aspectRatio` with value `{parameters['aspectRatio']}` isn't supported by this model.")
    if resolution not in (("720p", "1080p") if "lite" in model else ("720p", "1080p", "4k")):
        raise ValueError(f"`resolution` with value `{resolution}` isn't supported by this model.")
    if seconds != 8 and (resolution != "720p" or "lastFrame" in instance):
        raise ValueError("`durationSeconds` should be 8 for this use case.")
    prompt = instance.get("prompt", "")
    if not isinstance(prompt, str) or not prompt:
        raise ValueError("`prompt` should be text.")
    if "[moderated]" in prompt:
        raise ValueError(f"The prompt could not be submitted. This prompt contains sensitive words that {POLICY}")
    first = _picture(instance, "image")
    _picture(instance, "lastFrame")
    if "lastFrame" in instance and "image" not in instance:
        raise ValueError("`lastFrame` needs an `image`.")
    size = pixels(parameters.get("aspectRatio", "16:9"), resolution)
    return Order(prompt, model, str(seconds), str(size), "", first.content, first.suffix)


def _one_instance(data: Mapping[str, Any]) -> Mapping[str, Any]:
    _only(data, "instances parameters", "the request")
    instances = data.get("instances")
    if not isinstance(instances, list) or len(instances) != 1 or not isinstance(instances[0], dict):
        raise ValueError("`instances` should be a list of one.")
    if not isinstance(data.get("parameters", {}), dict):
        raise ValueError("`parameters` should be an object.")
    _only(instances[0], "prompt image lastFrame", "instances[0]")
    instance: Mapping[str, Any] = instances[0]
    return instance


def _only(found: Mapping[str, Any], known: str, where: str) -> None:
    for name in found:
        if name not in known.split():
            raise ValueError(f"`{name}` isn't supported by this model. Please remove it from {where}.")


def _picture(instance: Mapping[str, Any], name: str) -> Image:
    if name not in instance:
        return Image()
    given = instance[name]
    if not isinstance(given, dict) or set(given) != {"bytesBase64Encoded", "mimeType"}:
        raise ValueError(f"`{name}` should be `bytesBase64Encoded` and `mimeType`.")
    found = image_in(str(given["mimeType"]), str(given["bytesBase64Encoded"]))
    if found is None:
        raise ValueError(f"`{name}` is no JPEG, PNG or WebP.")
    return found


def main(arguments: list[str] | None = None) -> None:
    """Stand for Veo."""
    serve("Veo on the Gemini API", VeoCounter, "/v1beta", arguments)


if __name__ == "__main__":
    main()
