"""The OpenAI Videos protocol: `/v1/videos`, spoken by many servers since OpenAI itself stopped.

How each wants to be spoken to is in `stages/providers/dialects.py`. What they
answer is read loosely here, in one way for all: fields come and go, errors
have every shape, and a status word that we do not know means «running» until
the ledger's deadline.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from stages.clip import Size
from stages.errors import InputError, ProviderRefused, ProviderUnavailable
from stages.http import Answer, Service, ask, checked, download, error_words, fetch, is_moderation, without_key
from stages.providers import State, VideoJob, VideoRequest, Work
from stages.providers.account import Account
from stages.providers.dialects import (
    ANY,
    ANY_JSON,
    AZURE,
    FASTVIDEO,
    LITELLM,
    OPENAI,
    SGLANG,
    TENSORRT_LLM,
    VLLM_OMNI,
    Dialect,
    Key,
)
from stages.providers.works import check_work

log = logging.getLogger(__name__)

WORDS: Mapping[State, str] = {
    "queued": "queued pending created submitted scheduled throttled in_queue starting",
    "running": "in_progress running processing generating postprocessing dreaming started",
    "done": "completed complete succeeded succeed success done finished",
    "failed": "failed failure error refused rejected blocked moderated nsfw cancelled canceled expired",
    "gone": "deleted",
}
STATES = {word: state for state, words in WORDS.items() for word in words.split()}
POLICY = ("refused", "rejected", "blocked", "moderated", "nsfw")
IDS = ("id", "video_id", "task_id", "job_id")
COVERS = ("data", "video", "job", "detail")
"""Fields in which some servers wrap the job."""

REASONS = ("failure_reason", "fail_reason", "failureReason", "error_message", "reason")
PAGE = 100
PAGES = 200
"""The longest list that is read to its end: 20,000 jobs."""

NOTE = 1_000_000
"""Bytes; a `/content` that is shorter and begins with a brace says where the film is."""


@dataclass(frozen=True, slots=True)
class OpenAI(Account):
    """One account at a server that speaks the protocol; `account_at` fills in what a dialect's servers have in common.

    A query in `base_url` (`?api-version=preview`) goes with every request.
    """

    key_variable: str = "OPENAI_API_KEY"
    name: str = "openai"
    can_list: bool = True
    dialect: Dialect = OPENAI

    def address(self) -> str:
        """The base URL, by the dialect's variables."""
        return self.dialect.address(self.base_url)

    @property
    def works(self) -> frozenset[Work]:
        """What the dialect has words for."""
        return self.dialect.works

    @property
    def service(self) -> Service:
        """The server, for stages/http.py."""
        ways = [key for key in self.dialect.keys if key.variable == self.key_variable] or self.dialect.keys
        key = next(iter(ways), Key(""))
        return Service(
            self.name,
            urllib.parse.urlsplit(self.base_url)._replace(query="").geturl(),
            self.key_variable,
            self.send_within,
            self.patience,
            key.header,
            key.prefix,
            self.headers,
            self.file_hosts,
        )

    def submit(self, request: VideoRequest, key: str) -> VideoJob:
        """Create the job. Raises InputError, before anything is sent, for what the dialect has no words for."""
        check_work(self.name, request, self.works)
        answer = self._film(request, key) if request.work == "film" else self._work(request, key)
        job = self._decoded(found_job(checked(self.service, answer).data()))
        if not job.id:
            raise ProviderUnavailable(f"{self.name} answered without a job", "transient", "no_id")
        return job

    def check(self, job_id: str) -> VideoJob:
        """Retrieve the job. Some servers answer a failed job with a 4xx or 5xx that has the job as its body."""
        data = self._retrieved(job_id)
        return self._decoded(data, job_id) if data else VideoJob(job_id, "gone", failure="lost", code="404")

    def download(self, job_id: str, target: Path) -> None:
        """Write the film to `target`, from wherever the server says that it is.

        Seen: the film; JSON with its URL; a refusal with its URL in the text,
        or in the job; and JSON with a path on the server's own disk, which is
        refused. A link that has expired is asked for once more.
        """
        for fresh in (True, False):
            if not (url := self._placed(job_id, target)):
                return
            try:
                fetch(self.service, url, target)
                return
            except ProviderRefused as refused:
                if refused.failure not in ("expired", "unauthorized"):
                    raise
                if not fresh:
                    sentence = f"the link of {self.name} to the film of job {job_id} has expired"
                    raise ProviderRefused(sentence, "expired", refused.code, refused.text) from None

    def find(self, since: float) -> list[VideoJob]:
        """List back to `since`.

        A list that is cut short would hide a purchase, so it ends only where
        the server says so (`has_more`), where an empty or a known page comes,
        or where its jobs, newest first, are older than `since`.
        """
        found: dict[str, VideoJob] = {}
        after = ""
        for _ in range(PAGES):
            query = {"limit": str(PAGE), "order": "desc"} | ({"after": after} if after else {})
            page = checked(self.service, ask(self.service, "GET", self._path(**query)))
            jobs = [self._decoded(item) for item in _listed(self.name, page)]
            news = {job.id: job for job in jobs if job.id not in found}
            more = page.data().get("has_more")
            found |= news
            if not jobs or more is False or (more is None and not news) or _all_older(jobs, since):
                return _newest_first(job for job in found.values() if job.created_at is None or job.created_at >= since)
            if not news:  # it ignores the cursor, and says that there is more
                break
            after = jobs[-1].id
        raise ProviderUnavailable(f"the list of {self.name} does not end", "transient", "endless_list")

    def take_back(self, job_id: str) -> VideoJob:
        """Stop a job where that stops it, on a server of one's own; elsewhere it stays as it is."""
        job = self.check(job_id)
        if self.dialect.deletes == "stops" and job.state in ("queued", "running"):
            self.delete(job_id)
            job = VideoJob(job_id, "gone", billed=False)
        return job

    def delete(self, job_id: str) -> None:
        """Delete a job at the provider, which may refuse while it is not finished. Raises InputError if none can be."""
        if not self.dialect.deletes:
            raise InputError(f"{self.name} has no way to delete a job")
        checked(self.service, ask(self.service, "DELETE", self._path(job_id)))

    def _film(self, request: VideoRequest, key: str) -> Answer:
        fields, upload = self.dialect.said(request)
        as_form = self.dialect.encoding == "multipart"
        return ask(
            self.service,
            "POST",
            self._path(),
            form=fields if as_form else None,
            data=None if as_form else fields,
            file=upload,
            headers={"Idempotency-Key": key},
        )

    def _work(self, request: VideoRequest, key: str) -> Answer:
        parts, fields = self.dialect.told(request)
        return ask(self.service, "POST", self._path(*parts), data=fields, headers={"Idempotency-Key": key})

    def _placed(self, job_id: str, target: Path) -> str:
        """The URL of the film; empty if it came at once, and is in `target`."""
        target.unlink(missing_ok=True)
        try:
            download(self.service, self._path(job_id, "content"), target)
        except ProviderRefused as refused:
            return self._linked(job_id, refused)
        if not (note := _note(self.service, target)):
            return ""
        target.unlink()
        if url := found_url(note, self.base_url):
            return url
        place = note.get("output_path") or note.get("file_path")
        said = f"keeps the film on its own disk ({place})" if place else "sent JSON instead of the film"
        raise ProviderRefused(f"{self.name} {said}: ask it for files", "invalid_request", "no_file", str(note))

    def _decoded(self, data: Mapping[str, Any], job_id: str = "") -> VideoJob:
        return decoded(data, job_id, self.dialect)

    def _retrieved(self, job_id: str) -> Mapping[str, Any]:
        """The job as the server has it; empty if it has none of that id."""
        answer = ask(self.service, "GET", self._path(job_id))
        data = found_job(answer.data()) or _quoted_job(error_words(answer.data())[1])
        if answer.status < 300 and data:
            return data
        if "status" in data and (_id(data) == job_id or str(data.get("object")).startswith("video")):
            return data
        if answer.status in (404, 410):
            return {}
        checked(self.service, answer)
        raise ProviderUnavailable(f"{self.name} answered without a job", "transient", "no_job")

    def _linked(self, job_id: str, refused: ProviderRefused) -> str:
        """The URL in the job, or in the refusal. Raises `refused` if there is none for a finished job."""
        if refused.failure not in ("expired", "invalid_request"):
            raise refused
        data = self._retrieved(job_id)
        if data and self._decoded(data).state in ("queued", "running"):
            sentence = f"{self.name} does not hand out job {job_id} yet"
            raise ProviderUnavailable(sentence, "transient", "not_ready", refused.text)
        if url := found_url(data, self.base_url) or (found_url(refused.text, "") if refused.code == "400" else ""):
            return url
        raise refused

    def _path(self, *parts: str, **query: str) -> str:
        own = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.base_url).query))
        path = "/".join(["videos", *(urllib.parse.quote(part, safe="") for part in parts)])
        return f"{path}?{urllib.parse.urlencode(own | query)}" if own or query else path


# ---------------------------------------------------------------- accounts


def account_at(dialect: Dialect, typical: float = 60.0, base_url: str = "", key_variable: str = "") -> OpenAI:
    """The account that the dialect's environment variables name, or that at `base_url`; `typical` as in `Provider`."""
    return OpenAI(
        base_url=base_url,
        key_variable=key_variable or dialect.key_variable(),
        name=dialect.name,
        idempotent=dialect.idempotent,
        can_list=dialect.lists,
        typical=typical,
        dialect=dialect,
    )


Open = Callable[..., OpenAI]

openai: Open = partial(account_at, OPENAI)
azure: Open = partial(account_at, AZURE)
vllm_omni: Open = partial(account_at, VLLM_OMNI)
sglang: Open = partial(account_at, SGLANG)
tensorrt_llm: Open = partial(account_at, TENSORRT_LLM)
fastvideo: Open = partial(account_at, FASTVIDEO)
litellm: Open = partial(account_at, LITELLM)
any_server: Open = partial(account_at, ANY)
any_json: Open = partial(account_at, ANY_JSON)


@dataclass(frozen=True, slots=True)
class Simulator(OpenAI):
    """An account at a simulator, which takes no key, is fast, and settles within 6.5 s.

    Its ledger account is `sim`, since its port changes from start to start.
    """

    key_variable: str = ""
    name: str = "sim"
    account: str = "sim"
    settle: float = 6.5
    poll: float = 0.25
    typical: float = 0.5
    send_within: float = 3.0
    patience: float = 10.0

    def root(self) -> bytes:
        """The root certificate that its films are signed with, as PEM."""
        return checked(self.service, ask(self.service, "GET", "sim-root.pem")).body


def sim(base_url: str = "", *, idempotent: bool = False) -> Simulator:
    """The simulator at `base_url`, or at AFTERFRAME_SIM_URL. Nothing is paid there, and it is fast.

    `idempotent` only if it was started without `--ignore-keys`.
    """
    base_url = base_url or os.environ.get("AFTERFRAME_SIM_URL", "")
    if not base_url:
        raise InputError("no simulator: AFTERFRAME_SIM_URL should be what `pipeline simulate` prints")
    return Simulator(base_url, idempotent=idempotent)


# ---------------------------------------------------------------- loose reading


def decoded(data: Mapping[str, Any], job_id: str = "", dialect: Dialect = OPENAI) -> VideoJob:
    """A Video object as a VideoJob. Any field may be missing, or of another type than it should be.

    Of what the dialect does not echo as it was sent, nothing is passed on. A
    status word that we do not know is «running», with the word as its `code`.
    """
    word = str(data.get("status") or "").lower()
    state = STATES.get(word, "running")
    failure = code = text = ""
    if state == "failed":
        code, text = error_words(data)
        text = text or next((str(data[name]) for name in REASONS if data.get(name)), "")
        failure, code = _failure(word, code, text), code or word
    elif word and word not in STATES:
        code = word
        _wonder(dialect.name, word)
    echoes = dialect.echoes
    return VideoJob(
        id=job_id or _id(data),  # LiteLLM's proxy calls the same job differently each time
        state=state,
        progress=_progress(data.get("progress")),
        failure=failure,
        code=code,
        text=text,
        created_at=_moment(data.get("created_at", data.get("created"))),
        expires_at=_moment(data.get("expires_at")),
        seconds=math.floor(_number(data.get("seconds")) or 0) if "seconds" in echoes else 0,
        size=_size(data.get("size")) if "size" in echoes else None,
        model=str(data.get("model") or "") if "model" in echoes else "",
        prompt=str(data.get("prompt") or "") if "prompt" in echoes else "",
        billed=dialect.bills if state == "failed" else None,
        footage=str(data.get("remixed_from_video_id") or ""),
    )


def found_job(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The job in an answer, bare or wrapped once; empty if there is none."""
    jobs = [each for each in (data, *(data.get(name) for name in COVERS)) if isinstance(each, Mapping)]
    return next((job for job in jobs if _id(job)), next((job for job in jobs if "status" in job), {}))


def _quoted_job(text: str) -> Mapping[str, Any]:
    """The job in a gateway's complaint about a failed one, which came to it as an error; empty if there is none."""
    with contextlib.suppress(ValueError):
        data, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
        return found_job(data) if isinstance(data, dict) and data.get("object") == "video" else {}
    return {}


def found_url(data: object, base_url: str) -> str:
    """The first URL of a film in `data`, under names that speak of one; empty if there is none.

    One that begins with a slash is on the server at `base_url`.
    """
    if isinstance(data, str):
        if match := re.search(r"https?://[^\s\"'<>\\]+", data):
            return match[0].rstrip(".,;)]}")
        return urllib.parse.urljoin(base_url, data) if base_url and data.startswith("/") else ""
    if isinstance(data, Mapping):
        data = [each for name, each in data.items() if _may_lead_to_a_film(name, each)]
    return next(filter(None, (found_url(each, base_url) for each in data)), "") if isinstance(data, list) else ""


def _may_lead_to_a_film(name: str, value: object) -> bool:
    if re.search(r"image|thumb|poll|status|callback|input|reference|error", name):
        return False
    remote = isinstance(value, str) and value.startswith("http") and re.search(r"video|output|result|download", name)
    return not isinstance(value, str) or bool(remote or re.search(r"ur[li]|link", name))


def _note(service: Service, target: Path) -> Mapping[str, Any]:
    """The JSON object that came instead of a film, if one did."""
    if target.stat().st_size > NOTE:
        return {}
    try:
        found = json.loads(without_key(service, target.read_bytes()))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _failure(word: str, code: str, text: str) -> str:
    if is_moderation(code, text) or word in POLICY:
        return "moderation_output"
    if word == "expired":
        return "expired"
    if re.fullmatch(r"4\d\d", code) and code not in ("408", "409", "429"):  # vLLM-Omni: the status it would have sent
        return "invalid_request"
    return "invalid_request" if "invalid" in code else "transient"


@cache
def _wonder(name: str, word: str) -> None:
    log.warning("%s says '%s', which we do not know: taken as «running»", name, word)


def _id(data: Mapping[str, Any]) -> str:
    return next((str(data[name]) for name in IDS if data.get(name)), "")


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


def _moment(value: object) -> float | None:
    """Seconds since 1970, from seconds, milliseconds or ISO 8601."""
    number = _number(value)
    if number is not None:
        return number / 1000 if number > 1e11 else number
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        return None


def _size(value: object) -> Size | None:
    try:
        return Size.parse(str(value))
    except InputError:
        return None


def _listed(name: str, page: Answer) -> list[Mapping[str, Any]]:
    items = page.data().get("data")
    if not isinstance(items, list):  # an empty list here would be read as «nothing was bought»
        raise ProviderUnavailable(f"{name} gave no list of its jobs", "transient", "no_list")
    return [item for item in items if isinstance(item, Mapping)]


def _all_older(jobs: list[VideoJob], since: float) -> bool:
    """Whether a page, seen to be newest first, ends before `since`."""
    times = [job.created_at for job in jobs if job.created_at is not None]
    falling = times == sorted(times, reverse=True) and times[0] > times[-1] if times else False
    return len(times) == len(jobs) and falling and times[-1] < since


def _newest_first(jobs: Iterator[VideoJob]) -> list[VideoJob]:
    return sorted(jobs, key=lambda job: job.created_at or math.inf, reverse=True)
