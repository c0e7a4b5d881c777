"""How servers that speak the OpenAI Videos protocol want to be spoken to: data, so that no code asks which it is.

Here stands what must be known before anything is sent, and how far an answer
may be believed. Answers themselves are read loosely, in one way for all
(`stages/providers/openai.py`). From facts/providers.md, sections 1 to 3, and
the sources named at each dialect.
"""

from __future__ import annotations

import contextlib
import json
import mimetypes
import os
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stages.errors import InputError
from stages.http import data_url
from stages.providers import FILMS, VideoRequest, Work
from stages.providers.works import WISHES, check_wishes, job_of, wishes

Upload = tuple[str, Path, str]
"""A field's name, a file and its media type."""


@dataclass(frozen=True, slots=True)
class Key:
    """One way to show who asks: the environment variable of the key, and the header that it goes into."""

    variable: str
    header: str = "Authorization"
    prefix: str = "Bearer "


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of server.

    - where: `url` is its address, `url_variable` the environment variable that
      names another; `path` is appended to an address that has none
    - who: of `keys` the first whose variable is set is shown; without
      `needs_key` none will do as well
    - how: as multipart or JSON, `seconds` as text, integer or number (in a form
      all is text); `reference` is the first frame's field, `pictures` how it is
      sent: as a file, as an object with a data URL, or as a data URL, beside
      which there may be a last frame, each with its role
    - `negative`, `seed` and `sound` are the fields for these; empty where there
      is none. Nobody has one for a loop
    - `works`: what can be done to its own films, besides filming: `remix` at
      `/videos/{id}/remix`, `extend` at `/videos/extensions`
    - `echoes`: what comes back in a job as it was sent, so that a job whose
      answer was lost can be known by it. All else is left out of a VideoJob:
      compared with what was sent, it would hide the job, and it be paid twice
    - `lists`: its list is believed to be complete; `idempotent`: the same key
      is proven to give the same job; `deletes` jobs in any state, which `stops`
      them on some, finished ones or none; `bills`: whether a failed job may be
      billed, None if unknown
    """

    name: str
    url: str = ""
    url_variable: str = ""
    path: str = "/v1"
    keys: tuple[Key, ...] = ()
    needs_key: bool = False
    encoding: Literal["multipart", "json"] = "multipart"
    seconds: Literal["text", "integer", "number"] = "text"
    reference: str = "input_reference"
    pictures: Literal["file", "object", "roles"] = "file"
    negative: str = ""
    seed: str = ""
    sound: str = ""
    works: frozenset[Work] = FILMS
    echoes: frozenset[str] = frozenset({"model", "prompt", "seconds", "size"})
    lists: bool = True
    idempotent: bool = False
    deletes: Literal["stops", "any", "finished", ""] = "any"
    bills: bool | None = None

    def address(self, base_url: str = "") -> str:
        """The base URL: as given, or of the environment, or the usual one. Raises InputError if there is none."""
        found = base_url or os.environ.get(self.url_variable, "") or self.url
        if not found:
            raise InputError(f"where is {self.name}? {self.url_variable} should be a URL such as https://host/v1")
        parts = urllib.parse.urlsplit(found)
        return found if parts.path.strip("/") else urllib.parse.urlunsplit(parts._replace(path=self.path))

    def key_variable(self) -> str:
        """The environment variable of the key to show, empty for none."""
        known = [key.variable for key in self.keys]
        wanted = known[:1] if self.needs_key else [""]
        return next((variable for variable in known if os.environ.get(variable)), *wanted)

    def lacks(self, request: VideoRequest) -> tuple[str, ...]:
        """The fields of `request` that ask for something this protocol has no words for."""
        words = {
            "reference": True,
            "last_frame": self.pictures == "roles",
            "audio": bool(self.sound),
            "negative": bool(self.negative),
            "loop": False,
            "seed": bool(self.seed),
        }
        return tuple(wish for wish in wishes(request) if not words[wish])

    def said(self, request: VideoRequest) -> tuple[dict[str, Any], Upload | None]:
        """`request` in its words: the fields, and the file where one is uploaded.

        Raises InputError for what it has no words for: dropped, it would be paid for and missed.
        """
        if lacking := self.lacks(request):
            meant = " or ".join(WISHES[name] for name in lacking)
            raise InputError(f"{self.name} has no words for {meant}: nothing was sent", lacking[0])
        form = self.encoding == "multipart"
        fields: dict[str, Any] = {name: text if form else _typed(text) for name, text in request.options}
        fields |= {"model": request.model, "prompt": request.prompt, "size": str(request.size)}
        fields["seconds"] = SECONDS[self.seconds](request.seconds)
        if request.negative:
            fields[self.negative] = request.negative
        if request.seed is not None:
            fields[self.seed] = request.seed
        if self.sound:
            fields[self.sound] = request.audio
        pictures, upload = self._shown(request)
        fields |= pictures
        return {name: _text(value) for name, value in fields.items()} if form else fields, upload

    def told(self, request: VideoRequest) -> tuple[tuple[str, ...], dict[str, Any]]:
        """What is to be done to a film, in its words: the path behind `videos`, and the JSON that goes there.

        How large and how long the film is, and which model films, its job says.
        Raises InputError as `said` does, and for a film of another account.
        """
        job_id, own = job_of(self.name, request), dict(request.options)
        check_wishes(self.name, request, options=own)
        fields = {name: _typed(text) for name, text in own.items()} | {"prompt": request.prompt}
        if request.work == "remix":
            return (job_id, "remix"), fields
        return ("extensions",), fields | {"seconds": str(request.seconds), "video": {"id": job_id}}

    def _shown(self, request: VideoRequest) -> tuple[dict[str, Any], Upload | None]:
        """The frames as fields, or as a file to upload."""
        if self.pictures == "file" and request.reference:
            media_type = mimetypes.guess_type(request.reference.name)[0] or "image/png"
            return {}, (self.reference, request.reference, media_type)
        if self.pictures == "object" and request.reference:
            return {self.reference: {"image_url": data_url(request.reference)}}, None
        if self.pictures == "roles" and request.last_frame:
            frames = (("first_frame", request.reference), ("last_frame", request.last_frame))
            listed = [{"content": data_url(image), "role": role} for role, image in frames if image]
            return {self.reference: listed}, None
        if self.pictures == "roles" and request.reference:  # a model with one role may not know its name
            return {self.reference: data_url(request.reference)}, None
        return {}, None


SECONDS: Mapping[str, Callable[[int], object]] = {"text": str, "integer": int, "number": float}


def _typed(text: str) -> object:
    """An option as its JSON value: `40` a number, `true` a truth, anything else text."""
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return text


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# ---------------------------------------------------------------- the table


OPENAI = Dialect(  # openai-openapi 2.3.0; closed on 2026-09-24
    name="openai",
    url="https://api.openai.com/v1",
    url_variable="OPENAI_BASE_URL",
    keys=(Key("OPENAI_API_KEY"),),
    needs_key=True,
    works=frozenset({"film", "remix", "extend"}),
    deletes="finished",
)

AZURE = Dialect(  # v1 path; `model` is the name of a deployment; Sora retired on 2026-09-15
    name="azure",
    url_variable="AZURE_OPENAI_ENDPOINT",
    path="/openai/v1",
    keys=(Key("AZURE_OPENAI_API_KEY", "api-key", ""), Key("AZURE_OPENAI_AD_TOKEN")),
    needs_key=True,
    works=frozenset({"film", "remix"}),
    echoes=frozenset({"prompt", "seconds", "size"}),  # whether `model` is then the deployment is not established
    deletes="finished",
)

VLLM_OMNI = Dialect(  # vllm_omni/entrypoints/openai/protocol/videos.py @48e60262 and its tests: forms only
    name="vllm-omni",
    url_variable="VLLM_OMNI_BASE_URL",
    keys=(Key("VLLM_API_KEY"),),
    negative="negative_prompt",
    seed="seed",
    sound="generate_sound",  # off unless asked for
    deletes="stops",
    bills=False,
)

SGLANG = Dialect(  # sglang/multimodal_gen/runtime/entrypoints/openai/video_api.py: no prompts in lists, sizes snapped
    name="sglang",
    url_variable="SGLANG_BASE_URL",
    keys=(Key("SGLANG_API_KEY"),),
    seconds="integer",
    negative="negative_prompt",
    seed="seed",
    echoes=frozenset({"model", "prompt"}),
    bills=False,
)

TENSORRT_LLM = Dialect(  # tensorrt_llm/serve/openai_protocol.py: unknown fields are refused, references have roles
    name="tensorrt-llm",
    url_variable="TENSORRT_LLM_BASE_URL",
    keys=(Key("TENSORRT_LLM_API_KEY"),),
    encoding="json",
    seconds="number",
    reference="image_reference",
    pictures="roles",
    negative="negative_prompt",
    seed="seed",
    echoes=frozenset({"model", "prompt"}),
    bills=False,
)

FASTVIDEO = Dialect(  # fastvideo/entrypoints/openai/video_api.py @2f3d4074: without a seed it is always 1024
    name="fastvideo",
    url_variable="FASTVIDEO_BASE_URL",
    keys=(Key("FASTVIDEO_API_KEY"),),
    seconds="integer",
    negative="negative_prompt",
    seed="seed",
    echoes=frozenset({"model", "prompt"}),
    bills=False,
)

# litellm 1.106.2, seen: no list for a proxy's models, no way to delete, other fields are dropped without a word, each
# answer has another id for the same job. It sends again by itself, and so pays twice: `num_retries: 0` in its config.
LITELLM = Dialect(
    name="litellm",
    url_variable="LITELLM_BASE_URL",
    keys=(Key("LITELLM_API_KEY"), Key("LITELLM_MASTER_KEY")),
    works=frozenset({"film", "remix", "extend"}),  # as far as whoever films behind it has them
    echoes=frozenset({"prompt", "seconds", "size"}),
    lists=False,
    deletes="",
)

ANY = Dialect(  # somebody's server: only what all understand is said, and no list is believed; the rest by `options`
    name="any",
    url_variable="AFTERFRAME_VIDEOS_URL",
    keys=(Key("AFTERFRAME_VIDEOS_KEY"),),
    echoes=frozenset({"prompt"}),
    lists=False,
)

ANY_JSON = Dialect(  # likewise, where only JSON is understood
    name="any-json",
    url_variable="AFTERFRAME_VIDEOS_URL",
    keys=(Key("AFTERFRAME_VIDEOS_KEY"),),
    encoding="json",
    pictures="object",
    echoes=frozenset({"prompt"}),
    lists=False,
)

DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect
    for dialect in (OPENAI, AZURE, VLLM_OMNI, SGLANG, TENSORRT_LLM, FASTVIDEO, LITELLM, ANY, ANY_JSON)
}
