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
import os
import random
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NoReturn

from stages.errors import (
    BudgetExceeded,
    InputError,
    Later,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    SubmissionUnknown,
)
from stages.files import home, sha256, sync, told
from stages.http import NOT_SENT
from stages.providers import Provider, VideoJob, VideoRequest

log = logging.getLogger(__name__)

SKEW = 300.0
"""Seconds by which the provider's clock may be behind ours."""

LATE = 5.0
"""Seconds after its SENDING was committed in which a request may still start. A process
that was frozen in between would otherwise send what others have long concluded was lost."""

KEYS_LAST = 6 * 3600.0
"""Seconds for which a provider that honours keys is trusted to remember one; a day is usual."""

STUCK = 3600.0
"""Seconds after which a job that still runs is reported instead of awaited."""

SENDS = 5
"""How often in a row a request may get no clear answer before that is an error."""

State = Literal["INTENT", "SENDING", "ACCEPTED", "REJECTED", "DONE", "FAILED"]


@dataclass(frozen=True, slots=True)
class Purchase:
    """One row: one attempt at buying the request of `key`. Times are seconds since 1970.

    `price` is US dollars. `failure`, `code` and `text` are those of the
    ProviderError that ended the attempt, or that troubles it. `first_sent` is
    the earliest send whose outcome was unknown, `sent_at` the latest.
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
    first_sent: float = 0.0
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
        elif row.state == "SENDING" and not _honours_keys(ledger, provider, row):
            _reconcile(ledger, provider, row, patience=provider.settle)
        else:
            _refuse_again(rows, provider, request)
            if row.state == "SENDING":  # the same key must mean the same request
                _same_account(provider, row)
                request, price = replace(request, model=row.model, seconds=row.seconds), row.price
            claimed = _claim(ledger, provider, request, row, price, limits)
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
        sentence = f"{provider.name} has been filming job {row.job_id} for {hours:.1f} hours"
        raise ProviderUnavailable(f"{sentence}; run again to look again")
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


def _honours_keys(ledger: Ledger, provider: Provider, row: Purchase) -> bool:
    return provider.idempotent and ledger.clock() - row.first_sent < KEYS_LAST


def _same_account(provider: Provider, row: Purchase) -> None:
    if (provider.name, provider.account) != (row.provider, row.account):
        asked = f"{provider.name} at {provider.account}"
        raise SubmissionUnknown(
            f"this may have been bought from {row.provider} at {row.account}, not from {asked}: "
            f"run with {row.model} again, or ask for a new take"
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
        job = provider.submit(request, f"{row.key[:40]}-{row.attempt}")
    except (Later, InputError):
        _move(ledger, row, state=before.state)
        raise
    except ProviderRefused as error:
        _move(ledger, row, state="SENDING" if still_open else "REJECTED", **_words(error))
        raise
    except ProviderUnavailable as error:
        nothing_sent = error.code == NOT_SENT
        _move(ledger, row, state=before.state if nothing_sent else "SENDING", **_words(error))
        if nothing_sent or row.sends % SENDS == 0:
            raise
        log.warning("%s; whether it took the request will be seen later", error)
        if provider.idempotent:
            raise Later(min(2.0**row.sends, 60.0)) from None
        raise Later(provider.settle if provider.can_list else 0.1) from None
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


def _reconcile(ledger: Ledger, provider: Provider, row: Purchase, *, patience: float) -> None:
    """Find out what became of a request whose answer was lost: ACCEPTED, or INTENT if it never arrived.

    Raises Later, of at most `patience` seconds, while that cannot be seen yet.
    """
    _same_account(provider, row)
    if not provider.can_list:
        raise SubmissionUnknown(
            f"{provider.name} may have taken {row.seconds} s of {row.model} for ${row.price}: its answer was lost, "
            f"and it has no list to look it up. Look there, or ask for a new take"
        )
    wait = row.sent_at + provider.settle - ledger.clock()
    if wait > 0:
        raise Later(min(wait, patience))
    job = _landed(row, provider.find(row.first_sent - SKEW), _owned(ledger, row))
    if job is None:
        _move(ledger, row, state="INTENT")
    else:
        _accept(ledger, provider, row, job)


def _landed(row: Purchase, jobs: Sequence[VideoJob], owned: frozenset[str]) -> VideoJob | None:
    """The oldest of `jobs` that is what `row` sent and that no row owns.

    Where a list leaves prompts out, or cuts them, a job that may be it stops us.
    """
    alike = [
        job
        for job in jobs
        if job.id not in owned
        and (job.created_at is None or job.created_at >= row.first_sent - SKEW)
        and (not job.model or re.fullmatch(re.escape(row.model) + r"(-\d{4}-\d\d-\d\d)?", job.model))
        and (not job.seconds or job.seconds == row.seconds)
        and (not job.size or str(job.size) == row.size)
    ]
    asked = row.prompt.split()
    same = [job for job in alike if job.prompt.split() == asked]
    if same:
        return min(same, key=lambda job: job.created_at or 0.0)
    unsure = [job.id for job in alike if job.prompt.split() == asked[: len(job.prompt.split())]]
    if unsure:
        raise SubmissionUnknown(
            f"{row.provider} lists jobs without their whole prompts; {', '.join(unsure)} may be the one "
            f"that was sent for {row.prompt!r}: look there, or ask for a new take"
        )
    return None


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
    """Download at once: providers keep a film for an hour to a few days."""
    folder = ledger.home / "originals"
    part = folder / f".{row.key[:16]}.{os.getpid()}-{secrets.token_hex(4)}.part"
    with told(part), contextlib.ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(".*.part"):  # a kill left it
            if old.stat().st_mtime < time.time() - 86400:
                old.unlink(missing_ok=True)
        stack.callback(part.unlink, missing_ok=True)
        try:
            provider.download(row.job_id, part)
        except ProviderRefused as error:
            if error.failure != "expired":
                raise
            _mourn(ledger, provider, row, "expired", error.code)
        with part.open("rb") as file:
            if file.read(8)[4:] != b"ftyp":
                raise ProviderUnavailable(f"{provider.name} sent something that is no MP4 for job {row.job_id}")
        sync(part)
        digest = sha256(part)
        original = part.replace(folder / f"{digest}.mp4")
        sync(folder)
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
    """Tell a human that something paid is not there. The row stays: the right key may find it yet."""
    if ledger.clock() - row.sent_at < provider.settle:  # too young to be listed everywhere
        raise Later(provider.poll)
    _move(ledger, row, failure=failure, code=code)
    what = "does not know" if failure == "lost" else "no longer has the film of"
    raise SubmissionUnknown(
        f"{provider.name} {what} job {row.job_id}, bought for ${row.price} and never fetched: "
        f"look there (is it the right key?), or ask for a new take, which is paid again"
    )


# ---------------------------------------------------------------- the rows

TABLES = """
CREATE TABLE IF NOT EXISTS purchase (
    key TEXT NOT NULL, attempt INTEGER NOT NULL, version INTEGER NOT NULL, state TEXT NOT NULL,
    provider TEXT NOT NULL, account TEXT NOT NULL, model TEXT NOT NULL, prompt TEXT NOT NULL,
    seconds INTEGER NOT NULL, size TEXT NOT NULL, price TEXT NOT NULL DEFAULT '0',
    sends INTEGER NOT NULL DEFAULT 0,
    first_sent DOUBLE PRECISION NOT NULL DEFAULT 0, sent_at DOUBLE PRECISION NOT NULL DEFAULT 0,
    job_id TEXT NOT NULL DEFAULT '', created_at DOUBLE PRECISION NOT NULL DEFAULT 0,
    looks INTEGER NOT NULL DEFAULT 0, next_look DOUBLE PRECISION NOT NULL DEFAULT 0,
    original TEXT NOT NULL DEFAULT '', sha256 TEXT NOT NULL DEFAULT '',
    failure TEXT NOT NULL DEFAULT '', code TEXT NOT NULL DEFAULT '', text TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (key, attempt));
CREATE UNIQUE INDEX IF NOT EXISTS purchase_job ON purchase (provider, account, job_id) WHERE job_id <> '';
CREATE INDEX IF NOT EXISTS purchase_state ON purchase (state, account, model);
CREATE TABLE IF NOT EXISTS send (
    provider TEXT NOT NULL, account TEXT NOT NULL, model TEXT NOT NULL, at DOUBLE PRECISION NOT NULL);
CREATE INDEX IF NOT EXISTS send_at ON send (provider, account, model, at);
"""


def open_ledger(folder: Path | None = None, clock: Callable[[], float] = time.time) -> Ledger:
    """The ledger in `folder`, by default in AFTERFRAME_HOME; made if there is none yet."""
    ledger = Ledger(folder or home(), clock)
    with told(ledger.home):
        ledger.home.mkdir(parents=True, exist_ok=True)
    _write_ahead(ledger)
    with _transaction(ledger) as database:
        for statement in TABLES.split(";"):
            database.execute(statement)
        _upgrade(database)
    return ledger


def _upgrade(database: sqlite3.Connection) -> None:
    """Give a ledger of an earlier version what it lacks: what was bought with that stays bought."""
    columns = {row["name"] for row in database.execute("PRAGMA table_info(purchase)")}
    if "first_sent" not in columns:
        database.execute("ALTER TABLE purchase ADD COLUMN first_sent DOUBLE PRECISION NOT NULL DEFAULT 0")
        database.execute("UPDATE purchase SET first_sent = sent_at")


def _write_ahead(ledger: Ledger) -> None:
    """Switch the file to a write-ahead log, for good. Two processes that do so at once are not
    queued by SQLite, as all else is: one is told «locked» and tries again."""
    for tries in range(100):
        with _sqlite(ledger) as database:
            try:
                database.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if tries == 99:
                    raise
        time.sleep(0.05)


def purchases(ledger: Ledger, key: str = "") -> tuple[Purchase, ...]:
    """The rows of `key`, or all rows, oldest first."""
    with _transaction(ledger) as database:
        where = "WHERE key = :key" if key else ""
        rows = database.execute(f"SELECT * FROM purchase {where} ORDER BY sent_at, key, attempt", {"key": key})
        return tuple(_purchase(row) for row in rows)


def spent(ledger: Ledger, budget: Budget) -> Decimal:
    """US dollars that count against `budget`, whatever is still unknown included."""
    with _transaction(ledger) as database:
        return _spent(database, budget)


@contextlib.contextmanager
def _sqlite(ledger: Ledger) -> Iterator[sqlite3.Connection]:
    path = ledger.home / "ledger.sqlite3"
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as database:
            database.row_factory = sqlite3.Row
            yield database
    except sqlite3.IntegrityError:
        raise
    except sqlite3.Error as error:
        raise InputError(f"the ledger {path} cannot be used: {error}") from None


@contextlib.contextmanager
def _transaction(ledger: Ledger) -> Iterator[sqlite3.Connection]:
    """All or nothing, on disk when the block ends, alone while it lasts."""
    with _sqlite(ledger) as database:
        database.execute("PRAGMA synchronous = FULL")
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")


def _intend(ledger: Ledger, provider: Provider, request: VideoRequest, key: str, attempt: int) -> None:
    row = {"key": key, "attempt": attempt, "version": 1, "state": "INTENT", **_asked(provider, request)}
    names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    with _transaction(ledger) as database:
        database.execute(f"INSERT INTO purchase ({names}) VALUES ({values}) ON CONFLICT DO NOTHING", row)


def _claim(
    ledger: Ledger, provider: Provider, request: VideoRequest, row: Purchase, price: Decimal, limits: Limits
) -> Purchase | None:
    """Make `row` SENDING within the limits: the row as it now is, or None if another process was faster.

    Where the provider does not honour keys, a lost answer can only be told by
    what was asked, not by which reference: so of requests that look alike one
    is sent at a time, and the one that is on its way is returned instead.
    """
    now = ledger.clock()
    sent = {"now": now, **_asked(provider, request)}
    news = {
        "state": "SENDING",
        **_asked(provider, request),
        "price": price,
        "sends": row.sends + 1,
        "first_sent": row.first_sent if row.state == "SENDING" else now,
        "sent_at": now,
    }
    with _transaction(ledger) as database:
        alike = database.execute(ALIKE, sent | {"key": row.key, "attempt": row.attempt}).fetchone()
        if alike and provider.can_list and not provider.idempotent:
            return _purchase(alike)
        for budget in limits.budgets:
            _within(budget, price, _spent(database, budget, row), request)
        _in_turn(database, sent, row, limits, now)
        if not _set(database, row, news | {"price": str(price)}):
            return None
        database.execute("INSERT INTO send VALUES (:provider, :account, :model, :now)", sent)
        database.execute("DELETE FROM send WHERE at < :now - 86400", sent)
    return replace(row, version=row.version + 1, **news)  # not read again: that may be another's by now


ALIKE = """SELECT * FROM purchase WHERE state = 'SENDING' AND account = :account AND provider = :provider
    AND model = :model AND prompt = :prompt AND seconds = :seconds AND size = :size
    AND NOT (key = :key AND attempt = :attempt) ORDER BY sent_at LIMIT 1"""


def _within(budget: Budget, price: Decimal, spent: Decimal, request: VideoRequest) -> None:
    if spent + price > budget.limit:
        raise BudgetExceeded(
            f"{request.seconds} s of {request.model} cost ${price}; with the ${spent} of {budget.name} "
            f"that is more than its ${budget.limit}: nothing was sent"
        )


def _in_turn(
    database: sqlite3.Connection, sent: Mapping[str, object], row: Purchase, limits: Limits, now: float
) -> None:
    """Raise Later if the account has sent enough for this minute, or has enough in flight.

    The window is two seconds wider than the provider's: what counts there is the arrival.
    """
    account = "provider = :provider AND account = :account AND model = :model"
    if limits.per_minute is not None:
        times = database.execute(f"SELECT at FROM send WHERE {account} AND at > :now - 62 ORDER BY at", sent)
        recent = [at for (at,) in times]
        if len(recent) >= limits.per_minute:
            raise Later(recent[-limits.per_minute] + 62 - now if limits.per_minute else 62)
    if limits.in_flight is not None:
        flying = f"SELECT count(*) FROM purchase WHERE {account} AND state IN ('SENDING', 'ACCEPTED')"
        (count,) = database.execute(flying, sent).fetchone()
        if count - (row.state == "SENDING") >= limits.in_flight:
            raise Later(10.0)


def _spent(database: sqlite3.Connection, budget: Budget, besides: Purchase | None = None) -> Decimal:
    """What failed by the provider's own fault is not billed; anything else may be, so it counts."""
    rows = database.execute(
        "SELECT key, attempt, price FROM purchase WHERE sent_at >= :since AND sent_at > 0 AND "
        "(state IN ('SENDING', 'ACCEPTED', 'DONE') OR state = 'FAILED' AND failure <> 'transient')",
        {"since": budget.since},
    )
    mine = (besides.key, besides.attempt) if besides else None
    counted = (row for row in rows if budget.keys is None or row["key"] in budget.keys)
    return sum((Decimal(row["price"]) for row in counted if (row["key"], row["attempt"]) != mine), Decimal(0))


def _move(ledger: Ledger, row: Purchase, **news: object) -> bool:
    """Compare-and-set: False if `row` is no longer as it was read, or its new job is another row's."""
    try:
        with _transaction(ledger) as database:
            return _set(database, row, news)
    except sqlite3.IntegrityError:
        return False


def _set(database: sqlite3.Connection, row: Purchase, news: Mapping[str, object]) -> bool:
    settings = ", ".join(f"{column} = :{column}" for column in news)
    was = {"old_key": row.key, "old_attempt": row.attempt, "old_version": row.version}
    changed = database.execute(
        f"UPDATE purchase SET version = version + 1, {settings} "
        "WHERE key = :old_key AND attempt = :old_attempt AND version = :old_version",
        {**news, **was},
    )
    return changed.rowcount == 1


def _reread(ledger: Ledger, row: Purchase) -> Purchase:
    return next(now for now in purchases(ledger, row.key) if now.attempt == row.attempt)


def _owned(ledger: Ledger, row: Purchase) -> frozenset[str]:
    account = (row.provider, row.account)
    return frozenset(each.job_id for each in purchases(ledger) if (each.provider, each.account) == account)


def _asked(provider: Provider, request: VideoRequest) -> dict[str, Any]:
    account: dict[str, Any] = {"provider": provider.name, "account": provider.account, "model": request.model}
    return account | {"prompt": request.prompt, "seconds": request.seconds, "size": str(request.size)}


def _words(error: ProviderError | None) -> dict[str, object]:
    if error is None:
        return dict.fromkeys(("failure", "code", "text"), "")
    return {"failure": error.failure, "code": error.code, "text": error.text or error.message}


def _purchase(row: sqlite3.Row) -> Purchase:
    return Purchase(**{**dict(row), "price": Decimal(row["price"])})
