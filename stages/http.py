"""The network: the only file that knows httpx.

One client for each call, explicit time limits, no retries of its own: a POST
sent twice may be paid twice, so sending again is the ledger's decision. What
went wrong comes out as one of ours:

- `InputError`: an address or a key that cannot work as written
- `ProviderRefused`: the server said no, and made nothing
- `ProviderUnavailable`: an outage or a broken line; with the code `NOT_SENT`
  it is certain that the server never saw the request
- `Later`: 429, the server asks to be left alone for a while
"""

from __future__ import annotations

import base64
import email.utils
import io
import ipaddress
import json
import math
import mimetypes
import os
import re
import socket
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.errors import InputError, Later, ProviderRefused, ProviderUnavailable

if TYPE_CHECKING:
    import ssl

    import httpx

NOT_SENT = "not_sent"
"""The code of a ProviderUnavailable after which nothing can have been bought."""

DOWNLOAD_LIMIT = 2 * 1024**3
"""Bytes; the longest clip sold is 120 s, some 200 MB."""

SECRET = 8
"""Characters from which a key is one."""

LINES = 6
"""How many connections one download may use up before it is given up."""


@dataclass(frozen=True, slots=True)
class Service:
    """Somebody's server.

    `name` is for people; `base_url` includes the version
    (`https://api.openai.com/v1`); `key_variable` names the environment
    variable with its key, empty where it takes none, which goes into
    `key_header` behind `key_prefix`; `headers` go with every request. A request
    has left within `send_within` seconds or never does; then an answer is
    awaited for `patience`. Files may also come from `file_hosts`, plain or
    private ones among them; anywhere else they must be https and public. Of a
    `guarded` one that holds for every request, wherever it is sent on to.
    """

    name: str
    base_url: str
    key_variable: str = ""
    send_within: float = 45.0
    patience: float = 60.0
    key_header: str = "Authorization"
    key_prefix: str = "Bearer "
    headers: tuple[tuple[str, str], ...] = ()
    file_hosts: tuple[str, ...] = ()
    guarded: bool = False

    def key(self) -> str:
        """The key. Raises ProviderRefused if the variable is not set, InputError if it cannot be one."""
        key = os.environ.get(self.key_variable, "").strip() if self.key_variable else ""
        if self.key_variable and not key:
            sentence = f"{self.name} needs a key: set {self.key_variable}"
            raise ProviderRefused(sentence, "unauthorized", "no_key")
        if not re.fullmatch(r"[\x21-\x7e]*", key):  # httpx would print it in its complaint
            raise InputError(f"{self.key_variable} holds spaces or characters that no key has")
        return key


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered, whole. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def data(self) -> dict[str, Any]:
        """The JSON object of the body; empty if it holds anything else."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


@cache
def _trusted(file: str, folder: str) -> ssl.SSLContext:
    """The roots that httpx believes, in `file` or `folder` if the environment names one: read once, since that took
    longer than all else about a request."""
    import httpx  # noqa: PLC0415 -- see open_client

    return httpx.create_ssl_context()


@contextmanager
def open_client(service: Service) -> Iterator[httpx.Client]:
    """A client for one call to `service`, with its key and without a memory."""
    import httpx  # noqa: PLC0415 -- 0.15 s, needed by nobody who only plans

    key = service.key()

    def keep_to_ourselves(request: httpx.Request) -> None:
        # On the way to another host httpx drops Authorization, and no other header that may hold a key.
        if request.url.host != urllib.parse.urlsplit(service.base_url).hostname:
            request.headers.pop(service.key_header, None)

    def keep_out_of_the_house(request: httpx.Request) -> None:
        if service.guarded:
            _check_open(service, str(request.url))

    with translated(service.name):
        sending = service.send_within
        client = httpx.Client(
            base_url=service.base_url.rstrip("/") + "/",
            headers=dict(service.headers) | ({service.key_header: f"{service.key_prefix}{key}"} if key else {}),
            timeout=httpx.Timeout(service.patience, connect=min(10.0, sending), write=sending),
            verify=_trusted(*(os.environ.get(name, "") for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))),
            event_hooks={"request": [keep_to_ourselves, keep_out_of_the_house]},
        )
        with client:
            yield client


def ask(
    service: Service,
    method: str,
    path: str,
    *,
    query: Mapping[str, str | int] | None = None,
    form: Mapping[str, str] | None = None,
    file: tuple[str, Path, str] | None = None,
    files: Sequence[tuple[str, Path, str]] = (),
    data: Mapping[str, Any] | None = None,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request, once, and return the answer whatever its status.

    `form` goes out as multipart, `data` as JSON, `content` as it is; `file`, and each of `files`, is a
    field's name, a path and a media type. Only reading follows redirects, and httpx drops the key on the way
    to another host.
    """
    last_start = time.monotonic() + service.send_within
    parts: list[tuple[str, Any]] = [(name, (None, value)) for name, value in (form or {}).items()]
    for name, source, media_type in (*([file] if file else []), *files):
        parts.append((name, (source.name, _Upload(_bytes_of(source), last_start), media_type)))
    with open_client(service) as client:
        response = client.request(
            method,
            path,
            params=query,
            files=parts or None,
            json=data,
            content=content,
            headers=headers,
            follow_redirects=method == "GET",
            extensions={"trace": _in_time(last_start)},
        )
        return Answer(response.status_code, response.headers, without_key(service, response.content))


def download(service: Service, path: str, target: Path, *, limit: int = DOWNLOAD_LIMIT) -> None:
    """Write what is at `path` to `target`; a line that breaks is taken up where it broke.

    Raises ProviderRefused with `expired` if it is not there (any more), and
    InputError if it is longer than `limit` bytes.
    """
    version = ""
    for line in range(1, LINES + 1):
        have = target.stat().st_size if target.exists() else 0
        headers = {"Accept-Encoding": "identity"}
        if have and version:  # without a version there is no telling whether it is still the same file
            headers |= {"Range": f"bytes={have}-", "If-Range": version}
        try:
            with (
                open_client(service) as client,
                client.stream("GET", path, headers=headers, follow_redirects=True) as response,
            ):
                version = response.headers.get("etag", "")
                _receive(service, response, target, limit)
                return
        except ProviderUnavailable:
            if line == LINES:
                raise


def fetch(service: Service, url: str, target: Path, *, limit: int = DOWNLOAD_LIMIT) -> None:
    """Write the file at `url`, which stood in an answer of `service`, to `target`. The key is not sent along.

    Raises ProviderRefused for an address that is not https and public, and if it is
    sent on to one, unless its host is the service's own or one of its `file_hosts`; else as `download`.
    """
    own = urllib.parse.urlsplit(service.base_url).hostname or ""
    hosts = (*service.file_hosts, own)
    bare = Service(service.name, url, "", service.send_within, service.patience, file_hosts=hosts, guarded=True)
    _check_open(bare, url)
    download(bare, url, target, limit=limit)


def _check_open(service: Service, url: str) -> None:
    if not is_open(url, service.file_hosts):
        raise ProviderRefused(f"{service.name} points to {url[:80]}, which is not https and public", "invalid_request")


def is_open(url: str, hosts: Sequence[str] = (), *, plain: bool = False) -> bool:
    """Whether `url`, which a stranger wrote, may be asked: it is https and public, or its host is one of `hosts`.

    `plain`: http will do, since what comes is signed.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return False
    if host in hosts:
        return True
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
        return (plain or parts.scheme == "https") and all(ipaddress.ip_address(each).is_global for each in found)
    except (OSError, UnicodeError):
        return plain or parts.scheme == "https"  # it cannot be reached either, and httpx says so better


def data_url(file: Path, usual: str = "image/png") -> str:
    """The file as a `data:` URL, of the `usual` media type if its name does not say. Raises InputError if it cannot
    be read."""
    media_type = mimetypes.guess_type(file.name)[0] or usual
    return f"data:{media_type};base64,{base64.b64encode(_bytes_of(file)).decode()}"


def _receive(service: Service, response: httpx.Response, target: Path, limit: int) -> None:
    status = response.status_code
    if status in (404, 410):
        raise ProviderRefused(f"{service.name} does not have the file, or no longer", "expired", str(status))
    if status >= 300:
        if status == 416:  # what is here is not the beginning of what is there
            target.unlink(missing_ok=True)
        response.read()
        raise refusal(service, Answer(status, response.headers, without_key(service, response.content)))
    with target.open("ab" if status == 206 else "wb") as file:
        for block in response.iter_bytes():
            if file.tell() + len(block) > limit:
                raise InputError(f"{service.name} sent more than {limit / 1e6:g} MB for one file: stopped")
            file.write(block)


# ---------------------------------------------------------------- what went wrong


@contextmanager
def translated(provider: str) -> Iterator[None]:
    """Turn whatever httpx raises into ours. Its own words may quote headers: they stay out."""
    import httpx  # noqa: PLC0415 -- see open_client

    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise InputError(f"the address of {provider} should be a URL such as https://host/v1") from None
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        reason = str(error) or "no answer"
        raise ProviderUnavailable(f"cannot reach {provider}: {reason}", "transient", NOT_SENT) from None
    except httpx.TimeoutException as error:
        sentence, code = f"{provider} did not answer in time", type(error).__name__
        raise ProviderUnavailable(sentence, "transient", code) from None
    except (httpx.HTTPError, httpx.StreamError, httpx.CookieConflict) as error:
        sentence, code = f"the line to {provider} broke", type(error).__name__
        raise ProviderUnavailable(sentence, "transient", code) from None


def checked(service: Service, answer: Answer) -> Answer:
    """`answer` if it is a success; otherwise raises what `refusal` makes of it."""
    if 200 <= answer.status < 300:
        return answer
    raise refusal(service, answer)


def refusal(service: Service, answer: Answer) -> Exception:
    """What an answer that is no success means: ProviderRefused, ProviderUnavailable or Later."""
    code, text = error_words(answer.data())
    text = text or answer.body[:300].decode(errors="replace").strip()
    said = f" ({text})" if text else ""
    name = service.name
    if answer.status in (408, 409, 416) or answer.status >= 500:
        return ProviderUnavailable(f"{name}: HTTP {answer.status}{said}", "transient", code, text)
    if re.search(r"insufficient_(quota|balance)|quota_exceeded|billing|spend", code):
        return ProviderRefused(f"{name}: the account's money or quota is used up{said}", "quota", code, text)
    if answer.status == 429:
        return Later(retry_after(answer.headers))
    if is_moderation(code, text):
        sentence = f"{name} refused the request by its content policy{said}: change the prompt"
        return ProviderRefused(sentence, "moderation_input", code, text)
    if answer.status in (401, 403):
        sentence = f"{name} does not accept the key ({service.key_variable or 'none was sent'}){said}"
        return ProviderRefused(sentence, "unauthorized", code, text)
    code = code or str(answer.status)
    return ProviderRefused(f"{name} refused the request{said}", "invalid_request", code, text)


def error_words(data: Mapping[str, Any]) -> tuple[str, str]:
    """The code and the text of an error body, in whatever shape it came.

    Seen: `{"error": {"code", "type", "message"}}`, `{"error": "text"}`,
    ElevenLabs' `{"detail": {"status", "message"}}`, and FastAPI's `{"detail": "text"}` or `{"detail": [{"msg"}]}`.
    """
    error = data.get("error") or data.get("detail") or data.get("message") or ""
    if isinstance(error, list):
        error = error[0] if error else ""
    if isinstance(error, Mapping):
        code = error.get("code") or error.get("type") or error.get("status") or ""
        return str(code), str(error.get("message") or error.get("msg") or "")
    return "", str(error)


def is_moderation(code: str, text: str) -> bool:
    """Whether the provider's words speak of policy rather than of breakage."""
    words = (
        r"(?<!content)moderat|content.policy|policy.violation|safety|likeness|nsfw|sentinel_block|sensitive.?(content|information)"
        r"|privacyinformation|real.(person|people)|human.faces?|recogni[sz]able.face|public.figure"
    )
    return bool(re.search(words, f"{code} {text}".lower()))


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a 429 asks to wait, at most an hour; 20 where it does not say.

    `retry-after-ms`, or `retry-after` in seconds or as a date.
    """
    try:
        if "retry-after-ms" in headers:
            wait = float(headers["retry-after-ms"]) / 1000
        else:
            wait = float(headers.get("retry-after", "20"))
    except ValueError:
        try:
            wait = email.utils.parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time()
        except (KeyError, ValueError):
            wait = 20.0
    return min(max(wait, 0.1), 3600.0) if math.isfinite(wait) else 20.0


def without_key(service: Service, content: bytes) -> bytes:
    """`content` without the key, should a server have echoed it: what it says may be shown, logged and kept.

    Shorter ones than SECRET are left: no secret, and perhaps a word of the answer.
    """
    key = os.environ.get(service.key_variable, "").strip() if service.key_variable else ""
    if len(key) >= SECRET:
        for spelled in (key, json.dumps(key)[1:-1], key.replace("/", "\\/")):
            content = content.replace(spelled.encode(), "…".encode())
    return content


# ---------------------------------------------------------------- never late


class _Upload(io.BytesIO):
    """A file on its way up that stops being read at `last_start`.

    httpx limits only the silence between two blocks. A slow line could so
    deliver a purchase minutes after another process has concluded that it
    never happened, and bought again.
    """

    def __init__(self, content: bytes, last_start: float) -> None:
        super().__init__(content)
        self._last_start = last_start

    def read(self, size: int | None = -1, /) -> bytes:
        if time.monotonic() > self._last_start:
            raise ProviderUnavailable("the upload took too long and was stopped", "transient", "slow_upload")
        return super().read(size)


def _in_time(last_start: float) -> Callable[[str, Mapping[str, Any]], None]:
    """A trace for httpcore that lets no request begin late: looking up a host's name has no time limit."""

    def trace(event: str, _: Mapping[str, Any]) -> None:
        if event.endswith("send_request_headers.started") and time.monotonic() > last_start:
            raise ProviderUnavailable("connecting took too long: nothing was sent", "transient", NOT_SENT)

    return trace


def _bytes_of(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from None
