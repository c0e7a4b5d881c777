"""The money's memory: what was asked for, sent, bought and fetched.

No network and no engine can promise that a request is carried out exactly
once. This file does, as far as it is possible at all:

    INTENT ──> SENDING ──> ACCEPTED ──> DONE
      ^           │  └──> REJECTED └──> FAILED
      └───────────┘
      proved not to have arrived

SENDING is committed before a byte leaves, so whoever finds it knows that the
request may have been paid. It sends again only where the provider is proven
to honour the key; else it waits until a sent request must have shown up in
the provider's list, and takes it over from there. What neither can tell, a
human can (`stages/bookkeeping.py`), who may also give a row up: WRITTEN_OFF.

How rows are kept, counted and claimed within limits is in `stages/rows.py`.
Functions here never wait: they raise `Later`. Only a job that was paid and
cannot be noted, since the database is down, is noted again and again for 30 s.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import random
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from math import ceil
from pathlib import Path
from typing import Any, NoReturn

from stages.depot import Corrupt, Missing, object_name, shared_depot
from stages.errors import (
    InputError,
    Later,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    SubmissionUnknown,
    WriteError,
)
from stages.files import FORGOTTEN, is_running, now_in, sha256, sync, told
from stages.filetypes import HEAD, MP4, filetype_of
from stages.http import NOT_SENT
from stages.money import dollars
from stages.providers import HandsOver, Provider, VideoJob, VideoRequest
from stages.rows import (
    LATE,
    Budget,
    Ledger,
    Limits,
    Purchase,
    State,
    claim,
    intend,
    move,
    open_ledger,
    owned,
    pause,
    plain,
    purchases,
    reread,
    spent,
    what,
)
from stages.timing import Spread, Waits, waits

__all__ = [
    "CALLED_OFF",
    "LATE",
    "SKEW",
    "STUCK",
    "Budget",
    "Ledger",
    "Limits",
    "Purchase",
    "Spread",
    "State",
    "Waits",
    "any_purchase",
    "collect",
    "open_ledger",
    "original_of",
    "purchases",
    "request_key",
    "spent",
    "standing",
    "submit_once",
    "waits",
]

log = logging.getLogger(__name__)

SKEW = 300.0
"""Seconds by which the provider's clock may be behind ours."""

KEYS_LAST = 6 * 3600.0
"""Seconds for which a provider that honours keys is trusted to remember one; a day is usual."""

STUCK = 3600.0
"""Seconds after which a job that still runs is reported instead of awaited, if its model is not known to be slower."""

CALLED_OFF = "called off"
"""The code of a row whose job we asked the provider to cancel: if it is gone now, that is why."""

SENDS = 5
"""How often in a row a request may get no clear answer before that is an error."""

IN_TIME = 60.0
"""Seconds after its time in which a look still tells when something happened."""

NOTED_WITHIN = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between tries to note a job that was paid; a database needs up to 30 to be replaced."""

Accepts = Callable[[Purchase], bool]


def any_purchase(_: Purchase) -> bool:
    """Whatever was bought for the request will do."""
    return True


# ---------------------------------------------------------------- the protocol


def request_key(request: VideoRequest, take: int = 1) -> str:
    """What is bought, as a hash: the request and the take.

    Not the model, the length, the price or any version: none of these may
    make us buy again what we have. Of work on a film, what is done to which.
    """
    reference = sha256(request.reference) if request.reference else None
    asked = [request.prompt, str(request.size), reference, request.seed, sorted(request.options), take]
    if request.work != "film":
        asked += [request.work, sha256(request.footage.file) if request.footage else None]
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
    bill_to: str = "",
) -> Purchase:
    """Buy `request` from `provider`, unless that was done: the purchase, ACCEPTED or DONE.

    `accepts` says which earlier purchases of the key will do; those it turns
    down (too short, filmed by a test model) do not count. A purchase in
    flight keeps the provider, model and length that it was sent with.
    `bill_to` is a label to budget by.

    Raises Later if it must be called again, ProviderRefused if the provider
    says no or once refused this by policy, ProviderUnavailable if it cannot
    be reached, BudgetExceeded, and SubmissionUnknown if a human must look.
    """
    for _ in range(10):  # a lost race reads again
        rows = purchases(ledger, key)
        row = standing(rows, accepts)
        if row is None:
            _refuse_again(rows, provider, request)
            intend(ledger, provider, request, key, 1 + max((old.attempt for old in rows), default=0))
        elif row.state in ("ACCEPTED", "DONE"):
            return row
        elif row.state == "SENDING" and not _honours_keys(ledger, provider, row):
            _reconcile(ledger, provider, row, patience=provider.settle)
        else:
            _refuse_again(rows, provider, request)
            if row.state == "SENDING":  # the same key must mean the same request
                _same_account(provider, row)
                request, price = replace(request, model=row.model, seconds=row.seconds), row.price
            claimed = claim(ledger, provider, request, row, price=price, limits=limits, bill_to=bill_to)
            if claimed and (claimed.key, claimed.attempt) == (row.key, row.attempt):
                return _send(ledger, provider, request, claimed, before=row)
            if claimed:
                _reconcile(ledger, provider, claimed, patience=1.0)
    raise Later(1.0)


def collect(ledger: Ledger, provider: Provider, key: str, *, accepts: Accepts = any_purchase) -> Path:
    """The paid file of `key`, fetched now if the job is done.

    Raises Later while it is being filmed, ProviderRefused or
    ProviderUnavailable if filming failed, and SubmissionUnknown if the
    provider has lost what was paid.
    """
    row = standing(purchases(ledger, key), accepts)
    if row is None or row.state not in ("ACCEPTED", "DONE"):
        raise InputError("nothing was bought under this key yet")
    if original := original_of(ledger, row):
        _clear(provider, row)  # a kill may have come between
        return original
    _same_account(provider, row)
    row, job = _look(ledger, provider, row)
    if job.state == "done":
        return _fetch(ledger, provider, row)
    if job.state in ("gone", "failed") and row.code == CALLED_OFF:  # a kill came before it was noted
        move(ledger, row, state="WRITTEN_OFF", billed="no")
        raise Later(0.05)
    if job.state == "failed" and job.failure != "expired":
        _fail(ledger, provider, row, job)
    if job.state in ("gone", "failed"):
        _mourn(ledger, provider, row, "lost" if job.state == "gone" else "expired", job.code)
    if ledger.clock() - row.created_at > deadline(ledger, row):
        hours = (ledger.clock() - row.created_at) / 3600
        sentence = f"{provider.name} has been filming job {row.job_id} for {hours:.1f} hours"
        raise ProviderUnavailable(f"{sentence}; run again to look again")
    raise Later(max(row.next_look - ledger.clock(), 0.05), job.progress)


def original_of(ledger: Ledger, row: Purchase) -> Path | None:
    """The paid file of a row, if it is here, or another machine put it into the store that is shared."""
    if row.state != "DONE":
        return None
    file = ledger.home / row.original
    if not file.is_file() and (depot := shared_depot()):
        try:
            depot.fetch(row.sha256, file)
        except Missing:
            return None
        except Corrupt as error:
            log.warning("%s: it is asked for again where it was bought", error)
            depot.remove([object_name(row.sha256)])
            return None
    return file if file.is_file() else None


def deadline(ledger: Ledger, row: Purchase) -> float:
    """Seconds after its creation at which a job counts as stuck: STUCK, or three times what its model
    takes at most, if that is longer."""
    if ledger.clock() - row.created_at <= STUCK:
        return STUCK
    return max(STUCK, 3 * waits(ledger, row.model, provider=row.provider).total.p99)


def standing(rows: Sequence[Purchase], accepts: Accepts = any_purchase) -> Purchase | None:
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
            raise ProviderRefused(
                f"{sentence} ({row.text or row.code}); change the prompt", row.failure, row.code, row.text
            )


def _honours_keys(ledger: Ledger, provider: Provider, row: Purchase) -> bool:
    return provider.idempotent and ledger.clock() - row.first_sent < KEYS_LAST


def _same_account(provider: Provider, row: Purchase) -> None:
    if (provider.name, provider.account) != (row.provider, row.account):
        asked = f"{provider.name} at {provider.account}"
        raise SubmissionUnknown(
            f"this may have been bought from {row.provider} at {row.account}, not from {asked}: "
            f"run with {row.model} again, or {_by_hand(row)}"
        )


# ---------------------------------------------------------------- sending


def _send(ledger: Ledger, provider: Provider, request: VideoRequest, row: Purchase, *, before: Purchase) -> Purchase:
    """POST, once; `row` is SENDING by our own hand.

    A clear no means that nothing was sold, unless the same was sent `before`
    with an outcome that is still open: then it stays open.
    """
    if ledger.clock() - row.sent_at > LATE:
        raise Later(provider.settle)
    still_open = before.state == "SENDING"
    try:
        job = provider.submit(request, _sent_as(row))
    except Later as later:
        move(ledger, row, state=before.state, ended=ledger.clock())
        pause(ledger, row, later.seconds)
        raise
    except InputError:
        move(ledger, row, state=before.state, ended=ledger.clock())
        raise
    except ProviderRefused as error:
        state = "SENDING" if still_open else "REJECTED"
        move(ledger, row, state=state, ended=ledger.clock(), **_words(error))
        raise
    except ProviderUnavailable as error:
        nothing_sent = error.code == NOT_SENT
        if nothing_sent:
            move(ledger, row, state=before.state, ended=ledger.clock(), **_words(error))
        else:  # it may still arrive
            move(ledger, row, state="SENDING", **_words(error))
        if nothing_sent or row.sends % SENDS == 0:
            raise
        log.warning("%s; whether it took the request will be seen later", error)
        if provider.idempotent:
            raise Later(min(2.0**row.sends, 60.0)) from None
        raise Later(provider.settle if provider.can_list else 0.1, why=_open_until(row, provider)) from None
    return _accept(ledger, provider, row, job, ended=ledger.clock())


def _sent_as(row: Purchase) -> str:
    """The key that goes along with the request."""
    return f"{row.key[:40]}-{row.attempt}"


def _accept(ledger: Ledger, provider: Provider, row: Purchase, job: VideoJob, *, ended: float = 0.0) -> Purchase:
    """Note the job, however long the ledger cannot be written: its id is money."""
    for wait in (*NOTED_WITHIN, None):
        try:
            return _accepted(ledger, provider, row, job, ended)
        except WriteError:
            if wait is None:
                key = row.key[:12]
                log.error(
                    "%s sold job %s; note it with: pipeline ledger adopt %s %s", row.provider, job.id, key, job.id
                )
                raise
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def _accepted(ledger: Ledger, provider: Provider, row: Purchase, job: VideoJob, ended: float) -> Purchase:
    """The job's id is worth keeping whatever others have made of the row meanwhile."""
    created = min(job.created_at or row.sent_at, ledger.clock())
    news: dict[str, Any] = {"job_id": job.id, "created_at": created, "next_look": created + provider.typical}
    for _ in range(10):
        if move(ledger, row, state="ACCEPTED", ended=ended, **news, **_words(None)):
            break
        row = reread(ledger, row)
        if row.state not in ("SENDING", "INTENT", "WRITTEN_OFF"):
            break
    row = reread(ledger, row)
    if row.job_id == job.id:
        return row
    if any(other.job_id == job.id for other in purchases(ledger)):  # another row has taken it for its own
        raise Later(provider.settle)
    log.error("job %s at %s was paid besides %s for one request", job.id, provider.name, row.job_id)
    return row


def _reconcile(ledger: Ledger, provider: Provider, row: Purchase, *, patience: float) -> None:
    """Find out what became of a request whose answer was lost: ACCEPTED, or INTENT if it never arrived.

    Goods that came in an answer are here, whether or not anybody lived to note it.
    Raises Later, of at most `patience` seconds, while that cannot be seen yet.
    """
    _same_account(provider, row)
    if isinstance(provider, HandsOver) and (came := provider.received(_sent_as(row))):
        _accept(ledger, provider, row, came)
        return
    wait = row.sent_at + provider.settle - ledger.clock()
    if not provider.can_list:
        if wait > 0 and not row.failure:  # whoever sent it may still be waiting for the answer
            raise Later(min(wait, patience, provider.poll), why=_open_until(row, provider))
        raise SubmissionUnknown(
            f"{provider.name} may have been paid {dollars(row.price)} for {what(row)}: its answer was lost, "
            f"and it has no list to look it up. Look there, then {_by_hand(row, provider)}"
        )
    if wait > 0:
        raise Later(min(wait, patience), why=_open_until(row, provider))
    job = _landed(row, provider.find(row.first_sent - SKEW), owned(ledger, provider))
    if job is None:
        move(ledger, row, state="INTENT")
    else:
        _accept(ledger, provider, row, job)


def _open_until(row: Purchase, provider: Provider) -> str:
    """What to tell who waits: until when it is open whether `row` was sold, in whole minutes, the next one."""
    until = datetime.fromtimestamp(60 * ceil((row.sent_at + provider.settle) / 60)).astimezone()
    then = "then its list will say whether it was sold" if provider.can_list else "it may still come"
    return f"an earlier answer of {provider.name} was lost: waiting until {until:%H:%M}, {then}; nothing is sent before"


def _landed(row: Purchase, jobs: Sequence[VideoJob], owned: frozenset[str]) -> VideoJob | None:
    """The oldest of `jobs` that is what `row` sent and that no row owns.

    Where a list leaves prompts out, or cuts them, a job that may be it stops us.
    """
    alike = [
        job
        for job in jobs
        if job.id not in owned
        and (job.created_at is None or job.created_at >= row.first_sent - SKEW)
        and (_may_be_work(row, job) if row.work != "film" else _may_be_film(row, job))
    ]
    asked = row.prompt.split()
    same = [job for job in alike if job.prompt.split() == asked]
    if same:
        return min(same, key=lambda job: job.created_at or 0.0)
    unsure = [job.id for job in alike if job.prompt.split() == asked[: len(job.prompt.split())]]
    if unsure:
        raise SubmissionUnknown(
            f"{row.provider} lists jobs without their whole prompts; {', '.join(unsure)} may be the one "
            f"that was sent for {row.prompt!r}: look there, then {_by_hand(row)}"
        )
    return None


def _may_be_film(row: Purchase, job: VideoJob) -> bool:
    return bool(
        job.work in ("", "film")
        and not job.footage
        and (not job.model or re.fullmatch(re.escape(row.model) + r"(-\d{4}-\d\d-\d\d)?", job.model))
        and (not job.seconds or job.seconds == row.seconds)
        and (not job.size or str(job.size) == row.size)
    )


def _may_be_work(row: Purchase, job: VideoJob) -> bool:
    """Model and size of such a job are those of the film that was worked on, if it says any; its length is the
    whole, which is more than the seconds that a longer film gets."""
    longer = row.work != "extend" or not job.seconds or job.seconds > row.seconds
    return job.work in ("", row.work) and longer and (not job.footage or job.footage == row.footage)


# ---------------------------------------------------------------- fetching


def _look(ledger: Ledger, provider: Provider, row: Purchase) -> tuple[Purchase, VideoJob]:
    """Ask how the job stands, if it is time: never closer than `provider.poll`, ever further apart."""
    now = ledger.clock()
    if now < row.next_look:
        raise Later(row.next_look - now, row.progress)
    if not may_look(ledger, provider, row):
        raise Later(provider.poll, row.progress)
    return looked(ledger, provider, row)


def may_look(ledger: Ledger, provider: Provider, row: Purchase) -> bool:
    """Take the turn to look at the row's job, and set the next one; False if another process was faster."""
    distance = provider.poll * min(1.25**row.looks, 6.0) * random.uniform(1.0, 1.2)
    return move(ledger, row, looks=row.looks + 1, next_look=ledger.clock() + distance)


def looked(ledger: Ledger, provider: Provider, row: Purchase) -> tuple[Purchase, VideoJob]:
    """Look, and note what is new; `row` is as it was before `may_look`. What was seen done is not asked for again."""
    job = VideoJob(row.job_id, "done") if row.seen == "done" else provider.check(row.job_id)
    seen = news_of(row, job, ledger.clock())
    row = reread(ledger, row)
    if seen and move(ledger, row, **seen):
        row = reread(ledger, row)
    return row, job


def news_of(row: Purchase, job: VideoJob, now: float) -> dict[str, Any]:
    """What the row does not know of its job yet. When things happened is only noted by who looks in time."""
    news: dict[str, Any] = {}
    if job.state != row.seen:
        news["seen"] = job.state
        if now - row.next_look < IN_TIME and job.state == "running" and not row.running_at:
            news["running_at"] = now
        if now - row.next_look < IN_TIME and job.state == "done" and not row.done_at:
            news["done_at"] = now
    if job.progress is not None and abs(job.progress - (row.progress or 0.0)) >= 0.01:
        news["progress"] = job.progress
    return news


def _fetch(ledger: Ledger, provider: Provider, row: Purchase) -> Path:
    """Download at once: providers keep a film for an hour to a few days."""
    folder = ledger.home / "originals"
    part = folder / f".{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}.part"
    with told(part), contextlib.ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(".*.part"):  # a kill left it
            if _abandoned(old):
                old.unlink(missing_ok=True)
        stack.callback(part.unlink, missing_ok=True)
        try:
            provider.download(row.job_id, part)
        except ProviderRefused as error:
            if error.failure != "expired":
                raise
            _mourn(ledger, provider, row, "expired", error.code)
        with part.open("rb") as file:
            kind = filetype_of(file.read(HEAD))
        if kind is None or (row.seconds and kind != MP4):
            wanted = "MP4" if row.seconds else "film, picture or sound"
            raise ProviderUnavailable(f"{provider.name} sent something that is no {wanted} for job {row.job_id}")
        sync(part)
        digest = sha256(part)
        original = part.replace(folder / f"{digest}{kind.suffix}")
        sync(folder)
    if depot := shared_depot():
        try:
            depot.keep(original, digest)
        except (WriteError, InputError) as error:  # it is paid and it is here: that is noted whatever else fails
            log.warning("a paid original is on this machine alone until its task is finished: %s", error)
    here: dict[str, Any] = {"original": f"originals/{original.name}", "sha256": digest}
    while row.state == "ACCEPTED" and not move(ledger, row, state="DONE", **here, **_words(None)):
        row = reread(ledger, row)  # others have looked at its job meanwhile
    _clear(provider, row)
    return original


def _clear(provider: Provider, row: Purchase) -> None:
    """What was handed over is here now, for good."""
    if isinstance(provider, HandsOver):
        provider.clear(row.job_id)


def _abandoned(part: Path) -> bool:
    """Whether its writer is a process of this machine that has ended, or has not touched it for a day."""
    maker = re.fullmatch(r"\.(.+)-(\d+)-\w+\.part", part.name)
    if maker and maker[1] == platform.node() and Path("/proc/self").exists():
        return not is_running(maker[2])
    with contextlib.suppress(FileNotFoundError):  # somebody else cleared it away
        return part.stat().st_mtime < now_in(part.parent) - FORGOTTEN
    return False


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
    billed = {True: "yes", False: "no", None: ""}[job.billed]
    move(ledger, row, state="FAILED", billed=billed, **_words(error))
    raise error


def _mourn(ledger: Ledger, provider: Provider, row: Purchase, failure: str, code: str) -> NoReturn:
    """Tell a human that something paid is not there. The row stays: the right key may find it yet."""
    if ledger.clock() - row.sent_at < provider.settle:  # too young to be listed everywhere
        raise Later(provider.poll)
    move(ledger, row, failure=failure, code=code)
    if isinstance(provider, HandsOver):
        raise SubmissionUnknown(
            f"what {provider.name} handed over for {dollars(row.price)} ({row.job_id}) is not on this machine: "
            f"run it on the one that received it, or {_by_hand(row, provider)}"
        )
    known = "does not know" if failure == "lost" else "no longer has the film of"
    raise SubmissionUnknown(
        f"{provider.name} {known} job {row.job_id}, bought for {dollars(row.price)} and never fetched: "
        f"look there (is it the right key?), then {_by_hand(row)}"
    )


def _by_hand(row: Purchase, provider: Provider | None = None) -> str:
    key = row.key[:12]
    adopt = f"`pipeline ledger adopt {key} JOB` says which job it was, "
    again = f"`pipeline ledger write-off {key} --why TEXT` lets the next run pay again"
    return again if isinstance(provider, HandsOver) else adopt + again  # where there are jobs


def _words(error: ProviderError | None) -> dict[str, Any]:
    if error is None:
        return dict.fromkeys(("failure", "code", "text"), "")
    return {"failure": error.failure, "code": plain(error.code), "text": plain(error.text or error.message)}
