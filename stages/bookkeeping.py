"""What a human does with the ledger: say which job it was, give a purchase up, compare it with the provider's list."""

from __future__ import annotations

from dataclasses import dataclass

from stages.errors import InputError
from stages.ledger import CALLED_OFF, SKEW
from stages.providers import Provider, TakesBack, VideoJob
from stages.rows import Ledger, Purchase, in_flight, move, owned, plain, purchases, reread, select, unanswered_until


@dataclass(frozen=True, slots=True)
class Audit:
    """What the books and an account's list do not agree on.

    `strangers` are jobs there that no row knows; None if there is no list.
    `missing` are rows whose job is not known there, `unclear` those that were
    sent and never answered. Jobs too `young` to be noted yet are only counted.
    """

    strangers: tuple[VideoJob, ...] | None
    missing: tuple[Purchase, ...]
    unclear: tuple[Purchase, ...]
    young: int = 0

    @property
    def agrees(self) -> bool:
        """Nothing was found."""
        return not (self.strangers or self.missing or self.unclear)


def find_key(ledger: Ledger, start: str) -> str:
    """The key that begins with `start`. Raises InputError if there is none, or more than one."""
    sql = "SELECT DISTINCT key FROM purchase WHERE substr(key, 1, :length) = :start ORDER BY key"
    with ledger.store.transaction(alone=False) as database:
        found = [row["key"] for row in database.rows(sql, {"start": start, "length": len(start)})]
    if start in found:
        return start
    if not found or not start:
        raise InputError(f"the ledger has no purchase '{start}'; `pipeline ledger list` shows them")
    if len(found) > 1:
        raise InputError(f"'{start}' may be {', '.join(key[:16] for key in found[:5])}: write more of it")
    return str(found[0])


def adopt(ledger: Ledger, key: str, job_id: str) -> Purchase:
    """A human says which job it was that was bought under `key`; the next run fetches it.

    Raises InputError if nothing is open there, or if another row has the job.
    """
    row = _last(ledger, key)
    lost = row.state == "ACCEPTED" and (row.failure or row.seen == "gone")
    if not lost and row.state not in ("SENDING", "WRITTEN_OFF"):
        raise InputError(f"{key[:12]} is {_words(row)}: there is no question which job it is")
    now = ledger.clock()
    news = {"job_id": job_id, "created_at": row.created_at or row.sent_at, "next_look": now, "looks": 0, "seen": ""}
    cleared = {"failure": "", "code": "", "text": "", "billed": ""}
    if not move(ledger, row, ended=0.0, state="ACCEPTED", **news, **cleared):
        if any(other.job_id == job_id for other in purchases(ledger)):
            raise InputError(f"another purchase has job {job_id} already")
        raise InputError(f"{key[:12]} changed in this moment: look again")
    return reread(ledger, row)


def write_off(ledger: Ledger, key: str, why: str, *, unpaid: bool = False) -> Purchase:
    """Give up what was bought under `key`: the next run may buy it again.

    It counts against budgets as before, unless a human knows that it was
    `unpaid`. Raises InputError if there is nothing to give up, or if the
    request may still be on its way.
    """
    row, now = _last(ledger, key), ledger.clock()
    if row.state not in ("SENDING", "ACCEPTED", "REJECTED", "FAILED"):
        raise InputError(f"{key[:12]} is {_words(row)}: there is nothing to write off; --retake buys another take")
    arrives = unanswered_until(ledger, row) - now if row.state == "SENDING" else 0.0
    if arrives > 0:
        raise InputError(
            f"{key[:12]} was sent {now - row.sent_at:.0f} s ago and may still arrive: wait {arrives:.0f} s"
        )
    free = row.state == "REJECTED" or (row.state == "FAILED" and row.failure == "transient" and row.billed != "yes")
    billed = "no" if unpaid or free else row.billed
    if not move(ledger, row, state="WRITTEN_OFF", text=plain(why), billed=billed):
        raise InputError(f"{key[:12]} changed in this moment: look again")
    return reread(ledger, row)


def call_off(ledger: Ledger, provider: Provider, row: Purchase, why: str) -> Purchase | None:
    """Have the provider cancel a job that has not begun: its row, written off and not paid, so that the next run buys
    it again. None if it is paid and goes on: it has begun, or its provider cancels none.

    Raises ProviderError if that cannot be learnt; once it can, `collect` finds out.
    """
    if not isinstance(provider, TakesBack) or not _noted(ledger, row, code=CALLED_OFF):
        return None
    job = provider.take_back(row.job_id)
    if job.state == "gone" and job.billed is False:
        return _noted(ledger, row, state="WRITTEN_OFF", billed="no", text=plain(why))
    _noted(ledger, row, code="")
    return None


def _noted(ledger: Ledger, row: Purchase, **news: object) -> Purchase | None:
    """Note something of a job that is not fetched, whoever else looks at it meanwhile: its row as it is then."""
    while (now := reread(ledger, row)).state in ("ACCEPTED", "FAILED") and now.job_id == row.job_id:
        if move(ledger, now, ended=0.0, **news):
            return reread(ledger, row)
    return None


def audit(ledger: Ledger, provider: Provider, since: float) -> Audit:
    """Compare what the account lists from `since` on (seconds since 1970) with the rows."""
    rows = [row for row in in_flight(ledger, provider) if row.created_at >= since]
    strangers: tuple[VideoJob, ...] | None = None
    listed: frozenset[str] = frozenset()
    young = 0
    if provider.can_list:
        jobs = provider.find(since - SKEW)
        known = owned(ledger, provider)  # read after the list: what was bought meanwhile is in both
        fresh = ledger.clock() - provider.settle
        unknown = [job for job in jobs if job.id not in known]
        strangers = tuple(job for job in unknown if (job.created_at or 0.0) < fresh)
        listed, young = frozenset(job.id for job in jobs), len(unknown) - len(strangers)
    missing = [row for row in rows if row.job_id not in listed and provider.check(row.job_id).state == "gone"]
    where = "WHERE state = 'SENDING' AND provider = :provider AND account = :account AND sent_at < :before"
    whose = {"provider": provider.name, "account": provider.account, "before": ledger.clock() - provider.settle}
    return Audit(strangers, tuple(missing), select(ledger, f"{where} ORDER BY sent_at", whose), young)


def _last(ledger: Ledger, key: str) -> Purchase:
    rows = purchases(ledger, key)
    if not rows:
        raise InputError(f"the ledger has no purchase '{key}'")
    return max(rows, key=lambda row: row.attempt)


def _words(row: Purchase) -> str:
    words = {"INTENT": "not sent yet", "DONE": f"here, in {row.original}", "ACCEPTED": f"being filmed, as {row.job_id}"}
    return words.get(row.state, row.state.lower().replace("_", " "))
