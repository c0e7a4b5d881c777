"""The money's memory: what was asked for, sent, bought and fetched, on SQLite.

No network and no engine can promise that a request is carried out exactly
once. This file does, as far as it is possible at all:

    INTENT ──> SENDING ──> ACCEPTED ──> DONE
      ^           │  └──> REJECTED └──> FAILED
      └───────────┘
      proved not to have arrived

SENDING is committed before a byte leaves, so whoever finds it knows that the
request may have been paid. It sends again only where the provider is proven
to honour the key; else it waits until a sent request must have shown up in
the provider's list, and takes it over from there.

Every change is a compare-and-set on a row's `version`, in SQL that Postgres
understands as well. Functions here never wait: they raise `Later`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import random
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Literal, NoReturn

from stages.clip import Size
from stages.errors import (
    BudgetExceeded,
    InputError,
    Later,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    SubmissionUnknown,
)
from stages.files import attempt, home, sha256
from stages.http import NOT_SENT
from stages.providers import Provider, VideoJob, VideoRequest

log = logging.getLogger(__name__)

SKEW = 300.0
"""Seconds by which the provider's clock may be behind ours."""

LATE = 5.0
"""Seconds after its SENDING was committed in which a request may still start. A process
that was frozen in between would otherwise send what others have long concluded was lost."""

STUCK = 3600.0
"""Seconds after which a job that still runs is reported instead of awaited."""

SENDS = 5
"""How often in a row a request may get no clear answer before that is an error."""

State = Literal["INTENT", "SENDING", "ACCEPTED", "REJECTED", "DONE", "FAILED"]


@dataclass(frozen=True, slots=True)
class Purchase:
    """One row: one attempt at buying the request of `key`. Times are seconds since 1970.

    `price` is US dollars. `failure`, `code` and `text` are those of the
    ProviderError that ended the attempt, or that troubles it.
    `original` is the paid file, relative to the ledger's home.
    """

    key: str
    attempt: int
    version: int
    state: State
    provider: str
    account: str
    model: str
    prompt: str
    seconds: int
    size: str
    price: Decimal
    sends: int = 0
    sent_at: float = 0.0
    job_id: str = ""
    created_at: float = 0.0
    looks: int = 0
    next_look: float = 0.0
    original: str = ""
    sha256: str = ""
    failure: str = ""
    code: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `limit` US dollars for everything sent since `since`, or for `keys` alone where given."""

    name: str
    limit: Decimal
    since: float = 0.0
    keys: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the account may send and spend. None and () are no limit.

    `per_minute` sends in any 60 seconds and `in_flight` unfinished jobs, both
    for one model of one account.
    """

    per_minute: int | None = None
    in_flight: int | None = None
    budgets: tuple[Budget, ...] = ()


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where the ledger and the paid originals live. Nothing stays open between calls."""

    home: Path
    clock: Callable[[], float] = time.time


Accepts = Callable[[Purchase], bool]


def any_purchase(_: Purchase) -> bool:
    """Whatever was bought for the request will do."""
    return True


# ---------------------------------------------------------------- the protocol


def request_key(request: VideoRequest, take: int = 1) -> str:
    """What is bought, as a hash: the request and the take.

    Not the model, the length, the price or any version: none of these may
    make us buy again what we have.
    """
    reference = sha256(request.reference) if request.reference else None
    asked = [request.prompt, str(request.size), reference, request.seed, sorted(request.options), take]
    return hashlib.sha256(json.dumps(["request 1", *asked]).encode()).hexdigest()


def submit_once(
    ledger: Ledger,
    provider: Provider,
    request: VideoRequest,
    key: str,
    *,
    price: Decimal,
    limits: Limits = Limits(),
    accepts: Accepts = any_purchase,
) -> Purchase:
    """Buy `request` from `provider`, unless that was done: the purchase, ACCEPTED or DONE.

    `accepts` says which earlier purchases of the key will do; those it turns
    down (too short, filmed by a test model) do not count. A purchase in
    flight keeps the provider, model and length that it was sent with.

    Raises Later if it must be called again, ProviderRefused if the provider
    says no or once refused this by policy, ProviderUnavailable if it cannot
    be reached, BudgetExceeded, and SubmissionUnknown if a human must look.
    """
    for _ in range(10):  # a lost race reads again
        rows = purchases(ledger, key)
        row = _standing(rows, accepts)
        if row is None:
            _refuse_again(rows, provider, request)
            _intend(ledger, provider, request, key, 1 + max((old.attempt for old in rows), default=0))
        elif row.state in ("ACCEPTED", "DONE"):
            return row
        elif row.state == "SENDING" and not provider.idempotent:
            _reconcile(ledger, provider, row, until_settled=provider.settle)
        elif twin := _twin(ledger, provider, request, key):
            _reconcile(ledger, provider, twin, until_settled=provider.poll)
        else:
            if row.state == "SENDING":  # the same key must mean the same request
                _same_account(provider, row)
                request, price = replace(request, model=row.model, seconds=row.seconds), row.price
            if sending := _claim(ledger, provider, request, row, price, limits):
                return _send(ledger, provider, request, sending)
    raise Later(1.0)


def collect(ledger: Ledger, provider: Provider, key: str, *, accepts: Accepts = any_purchase) -> Path:
    """The paid file of `key`, fetched now if the job is done.

    Raises Later while it is being filmed, ProviderRefused or
    ProviderUnavailable if filming failed, and SubmissionUnknown if the
    provider has lost what was paid.
    """
    row = _standing(purchases(ledger, key), accepts)
    if row is None or row.state not in ("ACCEPTED", "DONE"):
        raise InputError("nothing was bought under this key yet")
    if row.state == "DONE" and (ledger.home / row.original).is_file():
        return ledger.home / row.original
    _same_account(provider, row)
    row, job = _look(ledger, provider, row)
    if job.state == "done":
        return _fetch(ledger, provider, row)
    if job.state == "failed" and job.failure != "expired":
        _fail(ledger, provider, row, job)
    if job.state in ("gone", "failed"):
        _mourn(ledger, provider, row, "lost" if job.state == "gone" else "expired", job.code)
    if ledger.clock() - row.created_at > STUCK:
        hours = (ledger.clock() - row.created_at) / 3600
        raise ProviderUnavailable(
            f"{provider.name} has been filming job {row.job_id} for {hours:.1f} hours; run again to look again"
        )
    raise Later(max(row.next_look - ledger.clock(), 0.05), job.progress)


def _standing(rows: Sequence[Purchase], accepts: Accepts) -> Purchase | None:
    """The row that answers for a key: something bought, else something on its way, else an intent."""
    order = ("INTENT", "SENDING", "ACCEPTED", "DONE")
    live = [row for row in rows if row.state == "INTENT" or (row.state in order and accepts(row))]
    return max(live, key=lambda row: order.index(row.state), default=None)


def _refuse_again(rows: Sequence[Purchase], provider: Provider, request: VideoRequest) -> None:
    """What a model refused by policy is not sent to it again: it would be refused, and may be billed."""
    for row in rows:
        same = (row.provider, row.model) == (provider.name, request.model)
        if same and row.state in ("REJECTED", "FAILED") and row.failure.startswith("moderation"):
            sentence = f"{row.model} refused this request before, by its content policy: it was not sent again"
            raise ProviderRefused(f"{sentence} ({row.text or row.code})", row.failure, row.code, row.text)


def _same_account(provider: Provider, row: Purchase) -> None:
    if (provider.name, provider.account) != (row.provider, row.account):
        asked = f"{provider.name} at {provider.account}"
        raise SubmissionUnknown(
            f"this may have been bought from {row.provider} at {row.account}, not from {asked}: "
            f"run with {row.model} again, or ask for a new take"
        )


# ---------------------------------------------------------------- sending


def _send(ledger: Ledger, provider: Provider, request: VideoRequest, row: Purchase) -> Purchase:
    """POST, once; `row` is SENDING by our own hand."""
    if ledger.clock() - row.sent_at > LATE:
        raise Later(provider.settle)
    try:
        job = provider.submit(request, f"{row.key[:40]}-{row.attempt}")
    except (Later, InputError):
        _move(ledger, row, state="INTENT")
        raise
    except ProviderRefused as error:
        _move(ledger, row, state="REJECTED", **_words(error))
        raise
    except ProviderUnavailable as error:
        if error.code == NOT_SENT:
            _move(ledger, row, state="INTENT")
            raise
        _move(ledger, row, **_words(error))
        log.warning("%s; whether it took the request will be seen later", error)
        if row.sends % SENDS == 0:
            raise
        raise Later(min(2.0**row.sends, 60.0) if provider.idempotent else provider.settle) from None
    return _accept(ledger, provider, row, job)


def _accept(ledger: Ledger, provider: Provider, row: Purchase, job: VideoJob) -> Purchase:
    """Note the job. Its id is worth keeping whatever others have made of the row meanwhile."""
    created = min(job.created_at or row.sent_at, ledger.clock())
    news = {"job_id": job.id, "created_at": created, "next_look": created + provider.typical}
    for _ in range(10):
        if _move(ledger, row, state="ACCEPTED", **news, **_words(None)):
            break
        row = _reread(ledger, row)
        if row.state not in ("SENDING", "INTENT"):
            break
    row = _reread(ledger, row)
    if row.job_id == job.id:
        return row
    if any(other.job_id == job.id for other in purchases(ledger)):  # another row has taken it for its own
        raise Later(provider.settle)
    log.error("job %s at %s was paid besides %s for one request", job.id, provider.name, row.job_id)
    return row


def _reconcile(ledger: Ledger, provider: Provider, row: Purchase, *, until_settled: float) -> None:
    """Find out what became of a request whose answer was lost: ACCEPTED, or INTENT if it never arrived.

    Raises Later, of at most `until_settled` seconds, while that cannot be seen yet.
    """
    _same_account(provider, row)
    if not provider.can_list:
        raise SubmissionUnknown(
            f"{provider.name} may have taken a request of {row.model} ({row.seconds} s, ${row.price}) whose answer "
            f"was lost, and has no list to look it up: look there, or ask for a new take"
        )
    wait = row.sent_at + provider.settle - ledger.clock()
    if wait > 0:
        raise Later(min(wait, until_settled))
    job = _landed(row, provider.find(row.sent_at - SKEW), _owned(ledger, row))
    if job is None:
        _move(ledger, row, state="INTENT")
    else:
        _accept(ledger, provider, row, job)


def _landed(row: Purchase, jobs: Sequence[VideoJob], owned: frozenset[str]) -> VideoJob | None:
    """The oldest of `jobs` that is what `row` sent and that no row owns."""
    earliest = row.sent_at - SKEW
    alike = [
        job
        for job in jobs
        if job.id not in owned
        and (job.created_at is None or job.created_at >= earliest)
        and (not job.model or re.fullmatch(re.escape(row.model) + r"(-\d{4}-\d\d-\d\d)?", job.model))
        and (not job.seconds or job.seconds == row.seconds)
        and (not job.size or str(job.size) == row.size)
        and (not job.prompt or job.prompt.split() == row.prompt.split())
    ]
    unsure = [job.id for job in alike if not job.prompt]
    if unsure:
        raise SubmissionUnknown(
            f"{row.provider} lists jobs without their prompts; {', '.join(unsure)} may be the one "
            f"that was sent for {row.prompt!r}: look there, or ask for a new take"
        )
    return min(alike, key=lambda job: job.created_at or 0.0, default=None)


# ---------------------------------------------------------------- fetching


def _look(ledger: Ledger, provider: Provider, row: Purchase) -> tuple[Purchase, VideoJob]:
    """Ask how the job stands, if it is time: never closer than `provider.poll`, ever further apart."""
    now = ledger.clock()
    if now < row.next_look:
        raise Later(row.next_look - now)
    distance = provider.poll * min(1.25**row.looks, 6.0) * random.uniform(1.0, 1.2)
    if not _move(ledger, row, looks=row.looks + 1, next_look=now + distance):
        raise Later(distance)  # another process looks
    return _reread(ledger, row), provider.check(row.job_id)


def _fetch(ledger: Ledger, provider: Provider, row: Purchase) -> Path:
    folder = ledger.home / "originals"
    with attempt(folder / f"{row.key[:16]}-{row.attempt}.mp4") as part:
        try:
            provider.download(row.job_id, part)
        except ProviderRefused as error:
            if error.failure != "expired":
                raise
            _mourn(ledger, provider, row, "expired", error.code)
        with part.open("rb") as file:
            if file.read(12)[4:8] != b"ftyp":
                raise ProviderUnavailable(f"{provider.name} sent something that is no MP4 for job {row.job_id}")
        digest = sha256(part)
        original = folder / f"{digest}.mp4"
    part_name = folder / f"{row.key[:16]}-{row.attempt}.mp4"
    part_name.replace(original)
    _move(ledger, row, state="DONE", original=f"originals/{original.name}", sha256=digest, **_words(None))
    return original


def _fail(ledger: Ledger, provider: Provider, row: Purchase, job: VideoJob) -> NoReturn:
    said = f" ({job.text or job.code})"
    error: ProviderError
    if job.failure.startswith("moderation"):
        sentence = f"{provider.name} stopped the film by its content policy{said}: change the prompt"
        error = ProviderRefused(sentence, job.failure, job.code, job.text)
    elif job.failure == "transient":
        sentence = f"{provider.name} could not film it{said}: not your prompt's fault, try again"
        error = ProviderUnavailable(sentence, job.failure, job.code, job.text)
    else:
        error = ProviderRefused(f"{provider.name} refused it{said}", job.failure, job.code, job.text)
    _move(ledger, row, state="FAILED", **_words(error))
    raise error


def _mourn(ledger: Ledger, provider: Provider, row: Purchase, failure: str, code: str) -> NoReturn:
    """Tell a human that something paid is not there. The row stays: another key to the account may find it."""
    if ledger.clock() - row.sent_at < provider.settle:  # too young to be listed everywhere
        raise Later(provider.poll)
    _move(ledger, row, failure=failure, code=code)
    what = "does not know" if failure == "lost" else "no longer has the film of"
    raise SubmissionUnknown(
        f"{provider.name} {what} job {row.job_id}, bought for ${row.price} and never fetched: "
        f"look there (is it the right key?), or ask for a new take, which is paid again"
    )
