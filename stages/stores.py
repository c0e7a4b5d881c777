"""The two databases that a ledger can live in, behind one small seam: SQLite and Postgres (the only psycopg).

    with store.transaction() as database:
        database.change("UPDATE purchase SET looks = :looks WHERE key = :key", {"looks": 3, "key": key})

SQL is written once, in what both understand, with `:name` where a value goes.
A transaction that writes is alone in either store: what it counted still holds
when it commits, so limits and budgets hold across processes and machines.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import sqlite3
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stages.errors import InputError, WriteError

if TYPE_CHECKING:
    import psycopg

WAIT = 30.0
"""Seconds for which a transaction waits for its turn."""


class Conflict(Exception):
    """What was to be written is there already, where it may be only once."""


@dataclass(frozen=True, slots=True)
class Database:
    """One transaction. `run` carries out one statement, `run_all` one for each of many sets of values."""

    run: Callable[[str, Mapping[str, object]], Any]
    run_all: Callable[[str, Sequence[Mapping[str, object]]], object]

    def rows(self, sql: str, values: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
        """What a query finds."""
        cursor = self.run(sql, values or {})
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def change(self, sql: str, values: Mapping[str, object] | None = None) -> int:
        """How many rows a statement changed."""
        return int(self.run(sql, values or {}).rowcount)

    def change_all(self, sql: str, values: Sequence[Mapping[str, object]]) -> None:
        """Carry one statement out for each of `values`, quickly."""
        if values:
            self.run_all(sql, values)

    def columns(self, table: str) -> frozenset[str]:
        """The names of a table's columns."""
        return frozenset(column[0] for column in self.run(f"SELECT * FROM {table} WHERE 1 = 0", {}).description)


class Store(Protocol):
    """A database. `str()` says where it is, without its password."""

    def clock(self) -> float:
        """Seconds since 1970, the same for everybody who shares the store."""
        ...

    def transaction(self, *, alone: bool = True) -> AbstractContextManager[Database]:
        """All or nothing, on disk when the block ends; `alone`, if it writes.

        Raises Conflict, InputError if there is no such database, and
        WriteError if it fails.
        """
        ...


def store_at(address: str, folder: Path) -> Store:
    """The store that `address` names, `postgresql://user:password@host/name`; if it is empty, SQLite in `folder`."""
    if not address:
        return SQLite(folder / "ledger.sqlite3")
    if not re.fullmatch(r"postgres(ql)?://([^@/?#]*@)?[^@]*", address):  # else parts of a password would be shown
        wanted = "postgresql://user:password@host/name"
        raise InputError(f"AFTERFRAME_DATABASE should be {wanted}, and @ : / ? # in a password %40 %3A %2F %3F %23")
    return Postgres(address)


_turns: dict[tuple[str, int], threading.Semaphore] = {}

os.register_at_fork(after_in_child=_turns.clear)


@contextmanager
def _turn(store: Store, most: int) -> Iterator[None]:
    """One of `most` threads of this process; the others queue.

    SQLite would let them try again and again, which took most of the time of 60; on Postgres each would have a
    connection of its own, of the hundred that a server has for everybody.
    """
    turn = _turns.setdefault((str(store), most), threading.Semaphore(most))
    if not turn.acquire(timeout=WAIT):
        raise WriteError(f"the ledger {store} cannot be used now: it is used by others for more than {WAIT:g} s")
    try:
        yield
    finally:
        turn.release()


# ---------------------------------------------------------------- SQLite


SYNCHRONOUS = "FULL"
"""Each commit is on disk when it returns: it must survive a power cut."""


@dataclass(frozen=True, slots=True)
class SQLite:
    """A file. Nothing stays open between transactions."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def clock(self) -> float:
        """This machine's: nobody else shares the file."""
        return time.time()

    @contextmanager
    def transaction(self, *, alone: bool = True) -> Iterator[Database]:
        """See Store."""
        with _turn(self, 1) if alone else contextlib.nullcontext(), self._opened() as connection:
            connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
            connection.execute("BEGIN IMMEDIATE" if alone else "BEGIN")
            try:
                yield Database(connection.execute, connection.executemany)
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def write_ahead(self) -> None:
        """Switch the file to a write-ahead log, for good. Two processes that do so at once are not
        queued by SQLite, as all else is: one is told «locked» and tries again."""
        for tries in range(100):
            with self._opened() as connection:
                try:
                    connection.execute("PRAGMA journal_mode = WAL")
                    return
                except sqlite3.OperationalError:
                    if tries == 99:
                        raise
            time.sleep(0.05)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)) as connection:
                yield connection
        except sqlite3.IntegrityError as error:
            raise Conflict(str(error)) from None
        except sqlite3.OperationalError as error:  # locked, full, read-only
            raise WriteError(f"the ledger {self} cannot be used now: {error}") from None
        except sqlite3.Error as error:
            raise InputError(f"the ledger {self} cannot be used: {error}") from None


# ---------------------------------------------------------------- Postgres

ALONE = 0x41465243
"""The number of the advisory lock that writers queue for."""

SETTINGS = f"""SELECT set_config('lock_timeout', '{WAIT:.0f}s', true),
    set_config('idle_in_transaction_session_timeout', '{WAIT / 2:.0f}s', true),
    set_config('synchronous_commit', CASE current_setting('synchronous_commit')
        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)"""
"""For one transaction, so that a pooler between us does not hand them on: a machine that
vanished holds the others up for 15 s, and what was committed survives a crash."""

TOGETHER = 60.0
"""Seconds after which the server is asked anew what time it is."""

IDLE = 4
"""How many read at once in a process, and how many connections it keeps open between transactions."""

_idle: dict[tuple[int, str], list[psycopg.Connection[Any]]] = {}
_clocks: dict[str, tuple[float, float]] = {}


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server, shared by many machines. Connections are used again within a process, never across a fork."""

    url: str = field(repr=False)

    def __str__(self) -> str:
        parts = urllib.parse.urlsplit(self.url)
        return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def clock(self) -> float:
        """The server's, since machines disagree: as it was last asked, and what has passed since. Our own time of day
        has no part in it, so it may be set meanwhile."""
        known = _clocks.get(self.url)
        if known is None or time.monotonic() - known[0] >= TOGETHER:
            with contextlib.suppress(WriteError), self.transaction(alone=False) as database:
                before = time.monotonic()
                (row,) = database.rows("SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision) AS now")
                known = _clocks[self.url] = (before + time.monotonic()) / 2, row["now"]
        return known[1] + time.monotonic() - known[0] if known else time.time()

    @contextmanager
    def transaction(self, *, alone: bool = True) -> Iterator[Database]:
        """See Store. Writers queue for one lock: nothing is ever tried again, as it would be at
        the level SERIALIZABLE, and statements see all that was committed before."""
        with _turn(self, 1 if alone else IDLE), self._translated():
            connection = self._begun(alone)
            try:
                yield Database(
                    lambda sql, values: connection.execute(_pyformat(sql), values),
                    lambda sql, values: connection.cursor().executemany(_pyformat(sql), values),
                )
                if connection.execute(b"COMMIT").statusmessage != "COMMIT" and alone:
                    raise WriteError(f"the ledger {self} undid what was written: a statement had failed")
            except Exception:
                with contextlib.suppress(Exception):  # it may be gone; then there is nothing to undo
                    connection.execute(b"ROLLBACK")
                self._keep(connection)
                raise
            except BaseException:  # Ctrl-C, perhaps in the middle of an answer
                connection.close()
                raise
            self._keep(connection)

    def _begun(self, alone: bool) -> psycopg.Connection[Any]:
        while True:
            try:
                connection, used = _idle[os.getpid(), self.url].pop(), True
            except LookupError:
                connection, used = self._connected(), False
            try:
                if alone:
                    connection.execute(b"BEGIN")
                    connection.execute(SETTINGS.encode())
                    connection.execute(b"SELECT pg_advisory_xact_lock(%s)", [ALONE])
                else:
                    connection.execute(b"BEGIN READ ONLY")
                return connection
            except BaseException as error:
                gone = connection.broken and isinstance(error, Exception)
                connection.close()
                if not (used and gone):  # the server was started again since: nothing was done yet
                    raise

    def _connected(self) -> psycopg.Connection[Any]:
        try:
            import psycopg  # noqa: PLC0415 -- an extra, for those who share a ledger
        except ImportError:
            raise InputError("a ledger on Postgres needs psycopg: pip install 'afterframe[cluster]'") from None
        return psycopg.connect(
            self.url,
            autocommit=True,
            prepare_threshold=None,  # a pooler may give the next transaction another session
            connect_timeout=10,
            tcp_user_timeout=30_000,
            application_name="afterframe",
        )

    def _keep(self, connection: psycopg.Connection[Any]) -> None:
        kept = _idle.setdefault((os.getpid(), self.url), [])
        if len(kept) < IDLE and not connection.closed:
            kept.append(connection)
        else:
            connection.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not type(error).__module__.startswith("psycopg"):
                raise
            import psycopg  # noqa: PLC0415 -- see _connected; it is loaded by now

            if isinstance(error, psycopg.errors.UniqueViolation):
                raise Conflict(str(error)) from None
            if isinstance(error, psycopg.ProgrammingError | psycopg.DataError):  # no such database, no rights
                raise InputError(f"the ledger {self} cannot be used: {self._said(error)}") from None
            raise WriteError(f"the ledger {self} cannot be used now: {self._said(error)}") from None

    def _said(self, error: Exception) -> str:
        """Its first line, without the password that a wrongly written address may have put there."""
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        userinfo = urllib.parse.urlsplit(self.url).netloc.rpartition("@")[0]
        for secret in filter(None, (userinfo, *userinfo.partition(":")[2:])):
            said = said.replace(secret, "…").replace(urllib.parse.unquote(secret), "…")
        return said


# ---------------------------------------------------------------- taking turns


TURNS = 0x41464E
"""The namespace of the advisory locks that machines take turns by."""

_sessions: dict[tuple[int, str], psycopg.Connection[Any]] = {}
_session_lock = threading.Lock()


@contextmanager
def turn(name: str) -> Iterator[bool]:
    """Whether no other process that shares AFTERFRAME_DATABASE is at `name`; in the block none is. The database frees
    it when the connection ends, however it ended. Without a shared database it is always one's turn.

    Raises as a transaction does. Threads of a process must not ask for the same name.
    """
    address = os.environ.get("AFTERFRAME_DATABASE", "")
    if not address:
        yield True
        return
    server = Postgres(address)
    with server._translated():
        mine = _in_session(server, "SELECT pg_try_advisory_lock(%s, hashtext(%s))", name)
    try:
        yield mine
    finally:
        if mine:
            with contextlib.suppress(Exception):  # it is free once the connection is gone
                _in_session(server, "SELECT pg_advisory_unlock(%s, hashtext(%s))", name)


def _in_session(server: Postgres, sql: str, name: str) -> bool:
    """One session holds all the locks of a process: threads use it one after the other."""
    key = os.getpid(), server.url
    with _session_lock:
        session = _sessions.get(key)
        if session is None or session.closed:
            session = _sessions[key] = server._connected()
        try:
            found = session.execute(sql.encode(), [TURNS, name]).fetchone()
        except BaseException:
            session.close()  # with what it held; who else does it then too changes nothing
            raise
        return bool(found and found[0])


@lru_cache(maxsize=256)
def _pyformat(sql: str) -> bytes:
    """`:name` as `%(name)s`, which is how psycopg wants it."""
    return re.sub(r"(?<![:\w]):([a-z_]\w*)", r"%(\1)s", sql.replace("%", "%%")).encode()


def close_idle() -> None:
    """Close this process's idle connections."""
    for (pid, _), kept in list(_idle.items()):
        while kept and pid == os.getpid():
            kept.pop().close()
    for key in [key for key in _sessions if key[0] == os.getpid()]:
        _sessions.pop(key).close()


atexit.register(close_idle)
