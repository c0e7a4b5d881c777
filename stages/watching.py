"""One watcher for many jobs: a list instead of thousands of looks, and hints that make the next look sooner.

watched = refresh(ledger, provider, keys)
for key in watched.ready:
    collect(ledger, provider, key)        # done, failed or gone: it says which
time.sleep(watched.wait)
"""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from stages.ledger import SKEW, looked, may_look, news_of
from stages.providers import Provider, VideoJob
from stages.rows import THIS, Ledger, Purchase, in_flight, move

PAGE = 100
"""How many jobs one request for a list brings."""

PACE = 1.0
"""At most one request in so many seconds, for every PAGE jobs that are watched."""

HINTS_LAST = 4 * 86_400.0
"""Seconds for which a hint is known again; OpenAI repeats one for 72 hours."""

AT_ONCE = 50
"""How many jobs are looked at alone in one go; the others' turn comes with the next."""

SETTLED = ("done", "failed", "gone")


@dataclass(frozen=True, slots=True)
class Watched:
    """What `refresh` saw: which keys `collect` will settle now, how far the others are where that is
    known (0 to 1), and in how many seconds to look again (0 if nothing is in flight)."""

    ready: frozenset[str]
    progress: Mapping[str, float]
    wait: float


def refresh(ledger: Ledger, provider: Provider, keys: Collection[str] | None = None) -> Watched:
    """Look at the account's jobs of `keys` (by default all), if it is time; with one list, where that is less to ask.

    However many processes watch an account, it is listed at most once in
    `provider.poll` seconds, and every row learns from it.

    Raises Later and ProviderUnavailable as `provider.find` and `provider.check` do.
    """
    rows = in_flight(ledger, provider)
    mine = [row for row in rows if keys is None or row.key in keys]
    now = ledger.clock()
    due = sorted((row for row in mine if row.seen not in SETTLED and row.next_look <= now), key=_next_look)
    if due and not provider.can_list:
        _look_at(ledger, provider, due[:AT_ONCE])
    elif due:
        if turn := _turn(ledger, provider):
            return _watched(mine, now, at_least=turn)
        due.sort(key=_created)
        alone, listed = _split(due, _sold_since(ledger, provider, due[0].created_at))
        allowed, pages = math.ceil(len(rows) / PAGE) / PACE, 0
        if listed:
            jobs = {job.id: job for job in provider.find(listed[0].created_at - SKEW)}
            pages = math.ceil(len(jobs) / PAGE)
            alone = [*alone, *_note(ledger, provider, rows, jobs, listed)]
        alone = sorted(alone, key=_next_look)[: math.ceil(allowed * max(provider.poll, PACE))]
        _next_turn(ledger, provider, (pages + len(alone)) / allowed)
        _look_at(ledger, provider, alone)
    if due:
        rows, now = in_flight(ledger, provider), ledger.clock()
        mine = [row for row in rows if keys is None or row.key in keys]
    return _watched(mine, now)


def due(ledger: Ledger, keys: Collection[str]) -> frozenset[str]:
    """Those of `keys` whose jobs may be looked at now, or are known to be ready: cheap enough to ask every second."""
    sql = "SELECT key FROM purchase WHERE state = 'ACCEPTED' AND next_look <= :now"
    with ledger.store.transaction(alone=False) as database:
        return frozenset(row["key"] for row in database.rows(sql, {"now": ledger.clock()})) & frozenset(keys)


@dataclass(frozen=True, slots=True)
class News:
    """Of jobs that many wait for: those that are `ready`, by account those that are `due` to be looked at, where one
    look is for all, and all that are `awaited`."""

    ready: frozenset[str]
    due: Mapping[tuple[str, str], Sequence[str]]
    awaited: frozenset[str]


NO_NEWS = News(frozenset(), {}, frozenset())


def news(ledger: Ledger, keys: Collection[str]) -> News:
    """How the jobs of `keys` stand, as far as the ledger knows: cheap enough to ask every second."""
    sql, now = "SELECT key, provider, account, seen, next_look FROM purchase WHERE state = 'ACCEPTED'", ledger.clock()
    with ledger.store.transaction(alone=False) as database:
        rows = [row for row in database.rows(sql) if row["key"] in keys]
    due: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["seen"] not in SETTLED and row["next_look"] <= now:
            due.setdefault((row["provider"], row["account"]), []).append(row["key"])
    ready = frozenset(row["key"] for row in rows if row["seen"] in SETTLED)
    return News(ready, due, frozenset(row["key"] for row in rows))


def hint(ledger: Ledger, job_id: str, hint_id: str) -> bool:
    """Somebody says that there is news of a job: it is looked at as soon as may be. False if that was said before.

    `job_id` is the provider's, or a part of the path that is our name for it.
    """
    now = ledger.clock()
    with ledger.store.transaction() as database:
        database.change("DELETE FROM hint WHERE at < :now", {"now": now - HINTS_LAST})
        if not database.change(
            "INSERT INTO hint VALUES (:id, :now) ON CONFLICT DO NOTHING", {"id": hint_id, "now": now}
        ):
            return False
        for row in database.rows("SELECT key, attempt, job_id FROM purchase WHERE state = 'ACCEPTED'"):
            if job_id and job_id in (row["job_id"], *row["job_id"].split("/")):
                sooner = "UPDATE purchase SET next_look = :now WHERE key = :key AND attempt = :attempt"
                database.change(f"{sooner} AND next_look > :now", {**row, "now": now})
    return True


def _created(row: Purchase) -> float:
    return row.created_at


def _next_look(row: Purchase) -> float:
    return row.next_look


def _watched(rows: Sequence[Purchase], now: float, at_least: float = 0.05) -> Watched:
    waiting = [row for row in rows if row.seen not in SETTLED]
    return Watched(
        frozenset(row.key for row in rows if row.seen in SETTLED),
        {row.key: row.progress for row in waiting if row.progress is not None},
        max(min((row.next_look for row in waiting), default=now) - now, at_least) if waiting else 0.0,
    )


def _look_at(ledger: Ledger, provider: Provider, rows: Sequence[Purchase]) -> None:
    """One request each. What has ended is marked, and left to `collect`."""
    for row in rows:
        if may_look(ledger, provider, row):
            now, job = looked(ledger, provider, row)
            if job.state in SETTLED:
                move(ledger, now, next_look=0.0)


# ---------------------------------------------------------------- listing


def _sold_since(ledger: Ledger, provider: Provider, since: float) -> list[float]:
    """When the account's jobs were made, as far as the ledger knows, from `since` on."""
    sql = "SELECT created_at FROM purchase WHERE provider = :provider AND account = :account AND created_at >= :since"
    values = {"provider": provider.name, "account": provider.account, "since": since}
    with ledger.store.transaction(alone=False) as database:
        return [row["created_at"] for row in database.rows(f"{sql} ORDER BY created_at", values)]


def _split(due: Sequence[Purchase], sold: Sequence[float]) -> tuple[Sequence[Purchase], Sequence[Purchase]]:
    """The oldest, to be looked at alone, and the others, to be listed: so that it takes the fewest requests.

    A list must reach back to the oldest that it is for, past all that was sold since.
    """

    def requests(alone: int) -> int:
        if alone == len(due):
            return alone
        listed = len(sold) - bisect.bisect_left(sold, due[alone].created_at)
        return alone + max(math.ceil(listed / PAGE), 1)

    best = min(range(len(due) + 1), key=requests)
    return due[:best], due[best:]


def _note(
    ledger: Ledger,
    provider: Provider,
    rows: Sequence[Purchase],
    jobs: Mapping[str, VideoJob],
    due: Sequence[Purchase],
) -> list[Purchase]:
    """Write down what a list says of any row; those of `due` that it does not mention."""
    now = ledger.clock()
    then = now + provider.poll * random.uniform(1.0, 1.2)
    news = []
    for row in rows:
        job = jobs.get(row.job_id)
        if job is None or row.seen in SETTLED:
            continue
        seen = news_of(row, job, now)
        next_look = 0.0 if job.state in SETTLED else then if row.next_look <= now else row.next_look
        if seen or next_look != row.next_look:
            news.append({**_known(row), **seen, "looks": row.looks + 1, "next_look": next_look})
    settings = ", ".join(f"{name} = :{name}" for name in KNOWN)
    with ledger.store.transaction() as database:
        database.change_all(f"UPDATE purchase SET version = version + 1, {settings} {THIS}", news)
    return [row for row in due if row.job_id not in jobs]


KNOWN = ("looks", "next_look", "seen", "progress", "running_at", "done_at")


def _known(row: Purchase) -> dict[str, object]:
    known = {name: getattr(row, name) for name in KNOWN}
    return known | {"old_key": row.key, "old_attempt": row.attempt, "old_version": row.version}


def _turn(ledger: Ledger, provider: Provider) -> float:
    """Take the account's turn to be listed: 0.0, or the seconds until there is one."""
    now = ledger.clock()
    every = max(provider.poll, PACE)
    whose = {"provider": provider.name, "account": provider.account, "now": now, "then": now + every}
    with ledger.store.transaction() as database:
        database.change("INSERT INTO watch VALUES (:provider, :account, 0) ON CONFLICT DO NOTHING", whose)
        where = "WHERE provider = :provider AND account = :account"
        if database.change(f"UPDATE watch SET next_list = :then {where} AND next_list <= :now", whose):
            return 0.0
        (row,) = database.rows(f"SELECT next_list FROM watch {where}", whose)
    return max(float(row["next_list"]) - now, 0.05)


def _next_turn(ledger: Ledger, provider: Provider, distance: float) -> None:
    """What took many requests, as when others buy there as well, is done less often."""
    if distance <= max(provider.poll, PACE):
        return
    whose = {"provider": provider.name, "account": provider.account, "then": ledger.clock() + distance}
    with ledger.store.transaction() as database:
        database.change("UPDATE watch SET next_list = :then WHERE provider = :provider AND account = :account", whose)
