"""The ledger's rows: what one holds, how it is found, counted and changed, in SQL for either store.

Every change is a compare-and-set on a row's `version`. Whether a request may
be sent now, and paid, is decided in the transaction that says it is sent
(`claim`), in which nobody else writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from stages.errors import BudgetExceeded, InputError, Later
from stages.files import home, told
from stages.money import dollars
from stages.providers import Provider, VideoRequest, Work
from stages.stores import Conflict, Database, SQLite, Store, store_at

LATE = 5.0
"""Seconds after its SENDING was committed in which a request may still start. A process
that was frozen in between would otherwise send what others have long concluded was lost."""

MINUTE, DAY = 61.0, 86_400 + 300.0
"""Seconds in which sends are counted: providers count by whole seconds, and for a day's
films from when they were made, which may be minutes after they were sent."""

SIMULATED = "sim"
"""The account of every simulator, whatever it stands for."""

State = Literal["INTENT", "SENDING", "ACCEPTED", "REJECTED", "DONE", "FAILED", "WRITTEN_OFF"]


@dataclass(frozen=True, slots=True)
class Purchase:
    """One row: one attempt at buying the request of `key`. Times are seconds since 1970.

    `price` is US dollars; `bill_to` a label to budget by. `failure`, `code`
    and `text` are those of the ProviderError that ended the attempt, or that
    troubles it; of a purchase that was written off `text` says why. `billed`
    is `yes` or `no` where that is known. `first_sent` is the earliest send
    whose outcome was unknown, `sent_at` the latest. `seen` is the state in
    which the job was last seen, `progress` how far (0 to 1); `running_at` and
    `done_at` when that was first so, if it was looked at in time to tell.
    `original` is the paid file, relative to the ledger's home. `work` is what
    was asked for: to film, or what was to be done to the film of the
    provider's job `footage`; `seconds` are then those that were asked for.
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
    bill_to: str = ""
    billed: str = ""
    seen: str = ""
    progress: float | None = None
    running_at: float = 0.0
    done_at: float = 0.0
    work: Work = "film"
    footage: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `limit` US dollars for what was sent since `since`, and within the last `within` seconds.

    It counts everything, or what is of `keys`, of one provider's `account`,
    or billed to `bill_to`, where these are given.
    """

    name: str
    limit: Decimal
    since: float = 0.0
    keys: frozenset[str] | None = None
    within: float | None = None
    account: str = ""
    bill_to: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the account may send and spend. None and () are no limit.

    `per_minute` requests in any 60 seconds, `in_flight` unfinished jobs and
    `per_day` films in any 24 hours, all for one model of one account.
    """

    per_minute: int | None = None
    in_flight: int | None = None
    budgets: tuple[Budget, ...] = ()
    per_day: int | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where the paid originals live (`home`), and the rows (`store`)."""

    home: Path
    clock: Callable[[], float]
    store: Store = field(repr=False)


# ---------------------------------------------------------------- the tables

TABLES = """
CREATE TABLE IF NOT EXISTS purchase (
    key TEXT NOT NULL, attempt INTEGER NOT NULL, version INTEGER NOT NULL, state TEXT NOT NULL,
    provider TEXT NOT NULL, account TEXT NOT NULL, model TEXT NOT NULL, prompt TEXT NOT NULL,
    seconds INTEGER NOT NULL, size TEXT NOT NULL, price TEXT NOT NULL DEFAULT '0',
    sends INTEGER NOT NULL DEFAULT 0, sent_at DOUBLE PRECISION NOT NULL DEFAULT 0,
    job_id TEXT NOT NULL DEFAULT '', created_at DOUBLE PRECISION NOT NULL DEFAULT 0,
    looks INTEGER NOT NULL DEFAULT 0, next_look DOUBLE PRECISION NOT NULL DEFAULT 0,
    original TEXT NOT NULL DEFAULT '', sha256 TEXT NOT NULL DEFAULT '',
    failure TEXT NOT NULL DEFAULT '', code TEXT NOT NULL DEFAULT '', text TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (key, attempt));
CREATE UNIQUE INDEX IF NOT EXISTS purchase_job ON purchase (provider, account, job_id) WHERE job_id <> '';
CREATE INDEX IF NOT EXISTS purchase_state ON purchase (state, account, model);
CREATE INDEX IF NOT EXISTS purchase_sent ON purchase (sent_at);
CREATE TABLE IF NOT EXISTS send (
    provider TEXT NOT NULL, account TEXT NOT NULL, model TEXT NOT NULL, at DOUBLE PRECISION NOT NULL);
CREATE INDEX IF NOT EXISTS send_at ON send (provider, account, model, at);
CREATE TABLE IF NOT EXISTS watch (
    provider TEXT NOT NULL, account TEXT NOT NULL, next_list DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (provider, account));
CREATE TABLE IF NOT EXISTS pause (
    provider TEXT NOT NULL, account TEXT NOT NULL, model TEXT NOT NULL, until DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (provider, account, model));
CREATE TABLE IF NOT EXISTS hint (id TEXT NOT NULL PRIMARY KEY, at DOUBLE PRECISION NOT NULL);
CREATE TABLE IF NOT EXISTS approval (
    id TEXT NOT NULL PRIMARY KEY, what TEXT NOT NULL, price TEXT NOT NULL, at DOUBLE PRECISION NOT NULL,
    state TEXT NOT NULL, answered_by TEXT NOT NULL);
"""

ADDED = {
    "purchase": {
        "first_sent": "DOUBLE PRECISION NOT NULL DEFAULT 0",
        "bill_to": "TEXT NOT NULL DEFAULT ''",
        "billed": "TEXT NOT NULL DEFAULT ''",
        "seen": "TEXT NOT NULL DEFAULT ''",
        "progress": "DOUBLE PRECISION",
        "running_at": "DOUBLE PRECISION NOT NULL DEFAULT 0",
        "done_at": "DOUBLE PRECISION NOT NULL DEFAULT 0",
        "work": "TEXT NOT NULL DEFAULT 'film'",
        "footage": "TEXT NOT NULL DEFAULT ''",
    },
    "send": {"ended": "DOUBLE PRECISION NOT NULL DEFAULT 0", "id": "TEXT NOT NULL DEFAULT ''"},
}
"""Columns that a ledger of an earlier version lacks: what was bought with that stays bought."""


def open_ledger(
    folder: Path | None = None, clock: Callable[[], float] | None = None, database: str | None = None
) -> Ledger:
    """The ledger; made if there is none yet.

    Its originals are in `folder`, by default AFTERFRAME_HOME; its rows in the
    Postgres `database` or AFTERFRAME_DATABASE, else in SQLite in that folder.
    """
    folder = folder or home()
    store = store_at(os.environ.get("AFTERFRAME_DATABASE", "") if database is None else database, folder)
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if isinstance(store, SQLite):
        store.write_ahead()
    with store.transaction(alone=False) as tables:
        made = _is_made(tables)
    if not made:
        with store.transaction() as tables:
            _make(tables)
    return Ledger(folder, clock or store.clock, store)


def _is_made(database: Database) -> bool:
    try:
        tables: dict[str, dict[str, str]] = {"watch": {}, "pause": {}, "hint": {}, "approval": {}, **ADDED}
        return all(set(columns) <= database.columns(table) for table, columns in tables.items())
    except Exception:  # there is no such table, in either store's words; making it says what is really wrong
        return False


def _make(database: Database) -> None:
    for statement in filter(str.strip, TABLES.split(";")):
        database.change(statement)
    for table, columns in ADDED.items():
        there = database.columns(table)
        for column in columns.keys() - there:
            database.change(f"ALTER TABLE {table} ADD COLUMN {column} {columns[column]}")
            if column == "first_sent":
                database.change("UPDATE purchase SET first_sent = sent_at")
            if column == "ended":
                database.change("UPDATE send SET ended = at")


# ---------------------------------------------------------------- reading


def purchases(ledger: Ledger, key: str = "") -> tuple[Purchase, ...]:
    """The rows of `key`, or all rows, oldest first."""
    where = "WHERE key = :key" if key else ""
    return select(ledger, f"{where} ORDER BY sent_at, key, attempt", {"key": key})


def in_flight(ledger: Ledger, provider: Provider) -> tuple[Purchase, ...]:
    """What the account has taken and not delivered yet."""
    return select(ledger, "WHERE state = 'ACCEPTED' AND provider = :provider AND account = :account", _whose(provider))


def owned(ledger: Ledger, provider: Provider) -> frozenset[str]:
    """The account's jobs that some row has."""
    sql = "SELECT job_id FROM purchase WHERE provider = :provider AND account = :account AND job_id <> ''"
    with ledger.store.transaction(alone=False) as database:
        return frozenset(row["job_id"] for row in database.rows(sql, _whose(provider)))


def reread(ledger: Ledger, row: Purchase) -> Purchase:
    """The row as it is now."""
    return next(now for now in purchases(ledger, row.key) if now.attempt == row.attempt)


def select(ledger: Ledger, rest: str, values: Mapping[str, object] | None = None) -> tuple[Purchase, ...]:
    """Rows, by what stands behind FROM in SQL."""
    with ledger.store.transaction(alone=False) as database:
        return tuple(_purchase(row) for row in database.rows(f"SELECT * FROM purchase {rest}", values))


def spent(ledger: Ledger, budget: Budget) -> Decimal:
    """US dollars that count against `budget`, whatever is still unknown included."""
    now = ledger.clock()
    with ledger.store.transaction(alone=False) as database:
        return _spent(database, budget, now)


# ---------------------------------------------------------------- changing


def intend(ledger: Ledger, provider: Provider, request: VideoRequest, key: str, attempt: int) -> None:
    """Note that this is to be bought, unless that is noted."""
    row = {"key": key, "attempt": attempt, "version": 1, "state": "INTENT", **_asked(provider, request)}
    names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    with ledger.store.transaction() as database:
        database.change(f"INSERT INTO purchase ({names}) VALUES ({values}) ON CONFLICT DO NOTHING", row)


def claim(
    ledger: Ledger,
    provider: Provider,
    request: VideoRequest,
    row: Purchase,
    *,
    price: Decimal,
    limits: Limits,
    bill_to: str,
) -> Purchase | None:
    """Make `row` SENDING within the limits: the row as it now is, or None if another process was faster.

    Where the provider does not honour keys, a lost answer can only be told by
    what was asked, not by which reference: so of requests that look alike one
    is sent at a time, and the one that is on its way is returned instead.

    Raises Later if it is not its turn, and BudgetExceeded.
    """
    sent = _asked(provider, request)
    with ledger.store.transaction() as database:
        alike = database.rows(ALIKE, sent | {"key": row.key, "attempt": row.attempt})
        if alike and provider.can_list and not provider.idempotent:
            return _purchase(alike[0])
        now = ledger.clock()  # only here: it may have waited long for its turn to write
        for budget in limits.budgets:
            mine = replace(row, account=provider.account)
            if not _has_room(ledger, database, budget, price, now, mine):
                _within(budget, price, _counted(ledger, database, budget, now, mine), request)
        _in_turn(database, sent | {"now": now}, row, limits)
        news = {
            "state": "SENDING",
            **sent,
            "price": price,
            "bill_to": row.bill_to if row.state == "SENDING" else bill_to,
            "sends": row.sends + 1,
            "first_sent": row.first_sent if row.state == "SENDING" else now,
            "sent_at": now,
            "failure": "",  # of this send nothing is known yet
        }
        if not _set(database, row, news | {"price": str(price)}):
            return None
        claimed = replace(row, version=row.version + 1, **news)  # not read again: that may be another's by now
        latest = {"id": _send_id(claimed), "now": now, "ended": now + LATE + provider.settle}
        database.change("DELETE FROM send WHERE ended < :now - 3600", latest)
        database.change(
            "INSERT INTO send (id, provider, account, model, at, ended)"
            " VALUES (:id, :provider, :account, :model, :now, :ended)",
            sent | latest,
        )
    return claimed


ALIKE = """SELECT * FROM purchase WHERE state = 'SENDING' AND account = :account AND provider = :provider
    AND prompt = :prompt
    AND (model = :model AND seconds = :seconds AND size = :size OR work <> 'film' OR :work <> 'film')
    AND NOT (key = :key AND attempt = :attempt) ORDER BY sent_at LIMIT 1"""
"""Of work on a film a list tells the film's model, size and whole length, or none of them."""


def move(ledger: Ledger, row: Purchase, *, ended: float = 0.0, **news: object) -> bool:
    """Compare-and-set: False if `row` is no longer as it was read, or its new job is another row's.

    `ended` is when its request was answered, or given up.
    """
    try:
        with ledger.store.transaction() as database:
            if ended:
                database.change("UPDATE send SET ended = :ended WHERE id = :id", {"ended": ended, "id": _send_id(row)})
            return _set(database, row, news)
    except Conflict:
        return False


def pause(ledger: Ledger, row: Purchase, seconds: float) -> None:
    """The provider asked to be left alone for a while: so nobody sends it anything for this model."""
    until = {"provider": row.provider, "account": row.account, "model": row.model, "until": ledger.clock() + seconds}
    with ledger.store.transaction() as database:
        database.change(
            "INSERT INTO pause VALUES (:provider, :account, :model, :until)"
            " ON CONFLICT (provider, account, model) DO UPDATE SET until = excluded.until"
            " WHERE pause.until < excluded.until",
            until,
        )


def unanswered_until(ledger: Ledger, row: Purchase) -> float:
    """Until when the row's requests may still arrive."""
    with ledger.store.transaction(alone=False) as database:
        found = database.rows("SELECT max(ended) AS ended FROM send WHERE id LIKE :id", {"id": f"{_attempt_id(row)}-%"})
    return float(found[0]["ended"] or 0.0)


def _set(database: Database, row: Purchase, news: Mapping[str, object]) -> bool:
    settings = "".join(f", {column} = :{column}" for column in news)
    was = {"old_key": row.key, "old_attempt": row.attempt, "old_version": row.version}
    sql = f"UPDATE purchase SET version = version + 1{settings} {THIS}"
    return database.change(sql, {**news, **was}) == 1


THIS = "WHERE key = :old_key AND attempt = :old_attempt AND version = :old_version"


# ---------------------------------------------------------------- counting


def _within(budget: Budget, price: Decimal, spent: Decimal, request: VideoRequest) -> None:
    if spent + price > budget.limit:
        raise BudgetExceeded(
            f"the price of {what(request)} is {dollars(price)}; with the {dollars(spent)} of {budget.name} "
            f"that is more than its ${budget.limit}: nothing was sent"
        )


KEYS_AT_ONCE = 500
"""How many keys one query may ask for."""

COUNTED = 10.0
"""Seconds for which what a large budget's keys cost is not counted anew."""

_sums: dict[tuple[str, Budget, bool], tuple[float, Decimal]] = {}


def _has_room(ledger: Ledger, database: Database, budget: Budget, price: Decimal, now: float, row: Purchase) -> bool:
    """Whether `budget` surely has: by what its keys cost when they were last counted, and all that anybody sent since.

    A batch of 10,000 asks for each of its films what all of them cost so far, and everybody waits meanwhile: that
    took half a second. What a person changes by hand in an earlier row counts when they are next counted.
    """
    if (known := _sums.get(_whose_sum(ledger, budget, row))) is None or not 0 <= now - known[0] < COUNTED:
        return False
    at, sum_ = known
    return sum_ + _spent(database, replace(budget, keys=None, since=at), now, row) + price <= budget.limit


def _counted(ledger: Ledger, database: Database, budget: Budget, now: float, row: Purchase) -> Decimal:
    """What was spent of `budget`; of a large one it is remembered."""
    spent = _spent(database, budget, now, row)
    if len(budget.keys or ()) > KEYS_AT_ONCE and budget.within is None:
        if len(_sums) > 8:  # batches that are bought by turns
            _sums.clear()
        _sums[_whose_sum(ledger, budget, row)] = now, spent
    return spent


def _whose_sum(ledger: Ledger, budget: Budget, row: Purchase) -> tuple[str, Budget, bool]:
    return str(ledger.store), budget, row.account == SIMULATED


def _in_turn(database: Database, sent: Mapping[str, Any], row: Purchase, limits: Limits) -> None:
    """Raise Later if the account has sent enough for this minute or day, has enough in flight, or was told to wait:
    the place in a line of those who asked for the same, within the same limits.

    A request arrives between its claim and its answer. It is counted until a
    minute after its answer; one that was never answered, until a minute after
    it must have arrived or never will. So no minute at the provider holds
    more than were counted here when the last of them was claimed.
    """
    whose, now = "provider = :provider AND account = :account AND model = :model", sent["now"]
    line = f"{sent['provider']} {sent['account']} {sent['model']} {replace(limits, budgets=())}"
    for each in database.rows(f"SELECT until FROM pause WHERE {whose} AND until > :now", sent):
        raise Later(each["until"] - now, line=line)
    if limits.per_minute is not None:
        sql = f"SELECT ended FROM send WHERE {whose} AND ended > :now - {MINUTE} ORDER BY ended"
        recent = [each["ended"] for each in database.rows(sql, sent)]
        if len(recent) >= limits.per_minute:
            last = recent[-limits.per_minute] if limits.per_minute else now
            wait = max(min(last, now) + MINUTE - now, 0.05)  # one on its way may be answered any moment
            raise Later(wait, line=line)
    if limits.per_day is not None:
        sql = f"SELECT sent_at FROM purchase WHERE {whose} AND sent_at > :now - {DAY} AND {SOLD} ORDER BY sent_at"
        recent = [each["sent_at"] for each in database.rows(sql, sent)]
        counted = len(recent) - (row.state == "SENDING")
        if counted >= limits.per_day:
            last = recent[-limits.per_day] if limits.per_day else now
            raise Later(min(max(last + DAY - now, 0.05), 600.0), line=line)  # what fails makes room earlier
    if limits.in_flight is not None:
        sql = f"SELECT count(*) AS many FROM purchase WHERE {whose} AND {FLYING}"
        if database.rows(sql, sent)[0]["many"] - (row.state == "SENDING") >= limits.in_flight:
            raise Later(10.0, line=line)


SOLD = "state IN ('SENDING', 'ACCEPTED', 'DONE', 'FAILED', 'WRITTEN_OFF')"

FLYING = """(state = 'SENDING' AND sent_at > :now - 86400
    OR state = 'ACCEPTED' AND failure NOT IN ('lost', 'expired') AND seen NOT IN ('done', 'failed'))"""
"""What the provider may be working on; for a day, what was sent and never found."""

COUNTS = (
    f"sent_at > 0 AND {SOLD} AND billed <> 'no' AND NOT (state = 'FAILED' AND failure = 'transient' AND billed = '')"
)
"""What failed by the provider's own fault is not billed; anything else may be, so it counts."""


def counts(row: Purchase) -> bool:
    """Whether a row's price counts as spent: COUNTS, for a row that is at hand."""
    sold = row.state in ("SENDING", "ACCEPTED", "DONE", "FAILED", "WRITTEN_OFF")
    broke = row.state == "FAILED" and row.failure == "transient" and not row.billed
    return row.sent_at > 0 and sold and row.billed != "no" and not broke


def _spent(database: Database, budget: Budget, now: float, besides: Purchase | None = None) -> Decimal:
    since = budget.since if budget.within is None else max(budget.since, now - budget.within)
    values: dict[str, object] = {"since": since, "account": budget.account, "bill_to": budget.bill_to}
    values |= {"key": besides.key if besides else "", "attempt": besides.attempt if besides else 0}
    where = f"{COUNTS} AND sent_at >= :since AND NOT (key = :key AND attempt = :attempt)"
    # What a simulator sells is priced and not paid: it counts against itself alone.
    where += f" AND account {'=' if besides and besides.account == SIMULATED else '<>'} '{SIMULATED}'"
    where += " AND account = :account" if budget.account else ""
    where += " AND bill_to = :bill_to" if budget.bill_to else ""
    if budget.keys is None:
        return _sum(database, where, values)
    total, keys = Decimal(0), sorted(budget.keys)
    for start in range(0, len(keys), KEYS_AT_ONCE):
        some = {f"key_{number}": key for number, key in enumerate(keys[start : start + KEYS_AT_ONCE])}
        total += _sum(database, f"{where} AND key IN ({', '.join(f':{name}' for name in some)})", {**values, **some})
    return total


def _sum(database: Database, where: str, values: Mapping[str, object]) -> Decimal:
    """Added up here: SQLite has no decimals."""
    found = database.rows(f"SELECT price, count(*) AS many FROM purchase WHERE {where} GROUP BY price", values)
    return sum((Decimal(row["price"]) * row["many"] for row in found), Decimal(0))


# ---------------------------------------------------------------- words


def what(sold: Purchase | VideoRequest) -> str:
    """`8 s of sora-2`; of what has no length `gpt-image-2`."""
    return f"{sold.seconds} s of {sold.model}" if sold.seconds else sold.model


def plain(text: str) -> str:
    """`text` as any database takes it: without NUL, and without halves of surrogate pairs."""
    return text.encode(errors="replace").decode().replace("\0", "")


def _asked(provider: Provider, request: VideoRequest) -> dict[str, Any]:
    if plain(request.prompt) != request.prompt:
        raise InputError("a prompt cannot hold NUL or half a character", "prompt")
    return {
        **_whose(provider),
        "model": request.model,
        "prompt": request.prompt,
        "seconds": request.seconds,
        "size": str(request.size),
        "work": request.work,
        "footage": request.footage.job_id if request.footage else "",
    }


def _whose(provider: Provider) -> dict[str, Any]:
    return {"provider": provider.name, "account": provider.account}


def _attempt_id(row: Purchase) -> str:
    return f"{row.key}-{row.attempt}"


def _send_id(row: Purchase) -> str:
    return f"{_attempt_id(row)}-{row.sends}"


def _purchase(row: Mapping[str, Any]) -> Purchase:
    known = {name: value for name, value in row.items() if name in COLUMNS}  # a later version may have added some
    return Purchase(**{**known, "price": Decimal(row["price"])})


COLUMNS = frozenset(column.name for column in fields(Purchase))
