"""The OpenAI Images protocol: `/v1/images/generations`, and `/v1/images/edits` where there are pictures to take after.

Spoken by OpenAI and by many servers of one's own. The fields are those of
openai-python 3.57, types/image_generate_params.py and image_edit_params.py.
`response_format` is never sent: the models of today refuse it, and either
answer, `b64_json` or `url`, is taken.
"""

from __future__ import annotations

import base64
import binascii
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.errors import InputError, ProviderUnavailable
from stages.filetypes import HEAD, filetype_of
from stages.http import ask, checked
from stages.providers import VideoRequest
from stages.providers.handover import Handover, Link

IMAGE = "image[]"
"""The field of each picture that is shown: what OpenAI's SDK calls it when there are several."""


@dataclass(frozen=True, slots=True)
class Images(Handover):
    """One account at a server that speaks the protocol; OpenAI's, unless OPENAI_BASE_URL or `base_url` say otherwise.

    The model gpt-image-2 at quality high took 195 s at the median and 280 s at
    p95 (ofox.ai, "Why GPT-Image-2 generations fail"); the SDK waits for 600.
    """

    url_variables = ("OPENAI_BASE_URL",)
    usual_url = "https://api.openai.com/v1"

    key_variable: str = "OPENAI_API_KEY"
    name: str = "openai-images"
    patience: float = 600.0
    settle: float = 660.0

    def order(self, request: VideoRequest, key: str) -> bytes | Link:
        """Have one picture drawn. Raises InputError before anything is sent for what the protocol has no words for."""
        fields = said(request)
        shown = (*([request.reference] if request.reference else []), *request.references)
        headers = {"Idempotency-Key": key}  # OpenAI does not promise to honour it
        if shown:
            files = [(IMAGE, picture, _media_type(picture)) for picture in shown]
            form = {name: str(value) for name, value in fields.items()}
            answer = ask(self.service, "POST", "images/edits", form=form, files=files, headers=headers)
        else:
            answer = ask(self.service, "POST", "images/generations", data=fields, headers=headers)
        return handed(checked(self.service, answer).data(), self.name, self.base_url)


def said(request: VideoRequest) -> dict[str, Any]:
    """The fields of a request for one picture. Raises InputError for what the protocol has no words for."""
    wishes = {
        "last_frame": request.last_frame,
        "negative": request.negative,
        "loop": request.loop,
        "seed": request.seed is not None,
        "footage": request.footage,
    }
    for name, wish in wishes.items():
        if wish:
            raise InputError("the Images protocol has no words for it", name)
    fields = {"model": request.model, "prompt": request.prompt, "size": str(request.size), "n": 1}
    return {**fields, **dict(request.options)}


def handed(answer: Mapping[str, Any], name: str, base_url: str) -> bytes | Link:
    """The picture in an answer, or where it is; an address that begins with a slash is on the server itself.

    Raises ProviderUnavailable if there is none: it may have been paid all the same.
    """
    listed = answer.get("data")
    first = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], Mapping) else {}
    url = str(first.get("url") or "")
    encoded = str(first.get("b64_json") or "") or (url.partition(";base64,")[2] if url.startswith("data:") else "")
    if encoded:
        try:
            return base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            raise ProviderUnavailable(f"{name} sent a picture that is no base64", "transient", "no_picture") from None
    if url:
        return Link(urllib.parse.urljoin(base_url, url))
    raise ProviderUnavailable(f"{name} answered without a picture", "transient", "no_picture")


def _media_type(picture: Path) -> str:
    """What kind of picture it is. Raises InputError for one that none of these servers takes."""
    try:
        with picture.open("rb") as file:
            kind = filetype_of(file.read(HEAD))
    except OSError as error:
        raise InputError(f"{picture}: cannot be read ({error.strerror})") from None
    if kind is None or not kind.media_type.startswith("image/"):
        raise InputError(f"{picture}: should be a PNG, JPEG or WebP", "reference")
    return kind.media_type


@dataclass(frozen=True, slots=True)
class SimulatedImages(Images):
    """The simulator's pictures: no key, no money, and its ledger account is `sim` whatever port it has."""

    key_variable: str = ""
    name: str = "sim-images"
    account: str = "sim"
    send_within: float = 2.5
    patience: float = 30.0
    settle: float = 33.0
    poll: float = 0.25

    def root(self) -> bytes:
        """The root certificate that its pictures are signed with, as PEM."""
        return checked(self.service, ask(self.service, "GET", "sim-root.pem")).body
