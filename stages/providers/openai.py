"""The OpenAI Videos protocol: `/v1/videos`, spoken by many servers since OpenAI itself stopped.

Written from openai-openapi 2.3.0 and what servers were seen to do
(facts/providers.md, sections 1 and 3.1). Decoding is loose on purpose: fields
come and go, and a status word that we do not know means «running».
"""

from __future__ import annotations

import math
import mimetypes
import os
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from stages.clip import Size
from stages.errors import InputError, ProviderUnavailable
from stages.http import Answer, Service, ask, checked, download, error_words, is_moderation
from stages.providers import State, VideoJob, VideoRequest

WORDS: Mapping[State, str] = {
    "queued": "queued pending created submitted",
    "done": "completed succeeded success",
    "failed": "failed error refused rejected blocked moderated nsfw cancelled canceled expired",
    "gone": "deleted",
}
STATES = {word: state for state, words in WORDS.items() for word in words.split()}
PAGE = 100
PAGES = 200
"""The longest list that is read to its end: 20,000 jobs."""


@dataclass(frozen=True, slots=True)
class OpenAI:
    """One account at a server that speaks the protocol.

    `base_url` includes the version; `key_variable` names the environment
    variable of the key. `account` tells accounts apart in the ledger and
    defaults to the server's host. Times are as in `Provider`.
    """

    base_url: str = ""
    key_variable: str = "OPENAI_API_KEY"
    name: str = "openai"
    account: str = ""
    idempotent: bool = False
    can_list: bool = True
    settle: float = 180.0
    poll: float = 5.0
    typical: float = 60.0
    send_within: float = 45.0
    patience: float = 60.0

    def __post_init__(self) -> None:
        base_url = self.base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        object.__setattr__(self, "base_url", base_url)
        object.__setattr__(self, "account", self.account or urllib.parse.urlsplit(base_url).netloc)

    @property
    def service(self) -> Service:
        """The server, for stages/http.py."""
        return Service(self.name, self.base_url, self.key_variable, self.send_within, self.patience)

    def submit(self, request: VideoRequest, key: str) -> VideoJob:
        """Create the job, as multipart, since some servers take nothing else, with `seconds` as text."""
        form = {
            **dict(request.options),
            "model": request.model,
            "prompt": request.prompt,
            "seconds": str(request.seconds),
            "size": str(request.size),
        }
        if request.seed is not None:
            form["seed"] = str(request.seed)
        file = None
        if request.reference:
            media_type = mimetypes.guess_type(request.reference.name)[0] or "image/png"
            file = ("input_reference", request.reference, media_type)
        answer = ask(self.service, "POST", "videos", form=form, file=file, headers={"Idempotency-Key": key})
        job = decoded(checked(self.service, answer).data())
        if not job.id:
            raise ProviderUnavailable(f"{self.name} answered without a job", "transient", "no_id")
        return job

    def check(self, job_id: str) -> VideoJob:
        """Retrieve the job. Some servers answer a failed job with a 4xx that has the job as its body."""
        answer = ask(self.service, "GET", _path(job_id))
        data = answer.data()
        if answer.status >= 400 and not (data.get("id") == job_id and "status" in data):
            if answer.status in (404, 410):
                return VideoJob(job_id, "gone", failure="lost", code=str(answer.status))
            checked(self.service, answer)
        return decoded(data, job_id)

    def download(self, job_id: str, target: Path) -> None:
        """Write the film to `target`."""
        download(self.service, f"{_path(job_id)}/content", target)

    def find(self, since: float) -> list[VideoJob]:
        """List back to `since`, through all pages."""
        found: list[VideoJob] = []
        query: dict[str, str | int] = {"limit": PAGE, "order": "desc"}
        for _ in range(PAGES):
            page = checked(self.service, ask(self.service, "GET", "videos", query=query))
            jobs = _listed(self.name, page)
            found += [job for job in jobs if job.created_at is None or job.created_at >= since]
            past = bool(jobs) and jobs[-1].created_at is not None and jobs[-1].created_at < since
            if not jobs or past or not page.data().get("has_more"):
                return found
            if query.get("after") == jobs[-1].id:  # it ignores the cursor
                break
            query["after"] = jobs[-1].id
        raise ProviderUnavailable(f"the list of {self.name} does not end", "transient", "endless_list")

    def delete(self, job_id: str) -> None:
        """Delete a finished job at the provider."""
        checked(self.service, ask(self.service, "DELETE", _path(job_id)))


def openai(typical: float = 60.0) -> OpenAI:
    """The account that OPENAI_API_KEY and OPENAI_BASE_URL name; `typical` is the model's filming time."""
    return OpenAI(typical=typical)


def sim(base_url: str = "", *, idempotent: bool = False) -> OpenAI:
    """The simulator at `base_url`, or at AFTERFRAME_SIM_URL. Nothing is paid there, and it is fast.

    `idempotent` only if it was started without `--ignore-keys`.
    Its ledger account is `sim`, since its port changes from start to start.
    """
    base_url = base_url or os.environ.get("AFTERFRAME_SIM_URL", "")
    if not base_url:
        raise InputError("no simulator: AFTERFRAME_SIM_URL should be what `pipeline simulate` prints")
    return OpenAI(base_url=base_url, idempotent=idempotent, **sim_account())


class Account(TypedDict):
    """What is the same for every simulator."""

    key_variable: str
    name: str
    account: str
    settle: float
    poll: float
    typical: float
    send_within: float
    patience: float


def sim_account() -> Account:
    """A simulator takes no key, is fast, and settles within 4.5 s; its port changes, so its account is `sim`."""
    return Account(
        key_variable="",
        name="sim",
        account="sim",
        settle=4.5,
        poll=0.25,
        typical=0.5,
        send_within=1.0,
        patience=10.0,
    )


def decoded(data: Mapping[str, Any], job_id: str = "") -> VideoJob:
    """A Video object as a VideoJob. Any field may be missing, or of another type than it should be."""
    word = str(data.get("status") or "").lower()
    state = STATES.get(word, "running")
    failure = code = text = ""
    if state == "failed":
        code, text = error_words(data)
        code = code or word
        failure = _failure(word, code, text)
    return VideoJob(
        id=str(data.get("id") or job_id),
        state=state,
        progress=_progress(data.get("progress")),
        failure=failure,
        code=code,
        text=text,
        created_at=_number(data.get("created_at", data.get("created"))),
        expires_at=_number(data.get("expires_at")),
        seconds=math.floor(_number(data.get("seconds")) or 0),
        size=_size(data.get("size")),
        model=str(data.get("model") or ""),
        prompt=str(data.get("prompt") or ""),
    )


def _failure(word: str, code: str, text: str) -> str:
    if is_moderation(code, text) or word in ("refused", "rejected", "blocked", "moderated", "nsfw"):
        return "moderation_output"
    if word == "expired":
        return "expired"
    return "invalid_request" if "invalid" in code else "transient"


def _progress(value: object) -> float | None:
    """0 to 1; servers say 0 to 100, or 0 to 1 as a fraction."""
    number = _number(value)
    if number is None:
        return None
    fraction = isinstance(value, float) and number <= 1
    return min(max(number if fraction else number / 100, 0.0), 1.0)


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]  # that is what the try is for
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _size(value: object) -> Size | None:
    try:
        return Size.parse(str(value))
    except InputError:
        return None


def _listed(name: str, page: Answer) -> list[VideoJob]:
    items = page.data().get("data")
    if not isinstance(items, list):  # an empty list here would be read as «nothing was bought»
        raise ProviderUnavailable(f"{name} gave no list of its jobs", "transient", "no_list")
    return [decoded(item) for item in items if isinstance(item, Mapping)]


def _path(job_id: str) -> str:
    return f"videos/{urllib.parse.quote(job_id, safe='')}"
