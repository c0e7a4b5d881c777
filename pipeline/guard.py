"""Who of the workers lives, and what happens to the work of the dead.

Each worker holds a lock in the database for as long as it lives, and shows
that it does by looking at the others; the database frees it when the connection
ends, however it ended, or when nothing came over it for a while: from a machine
that lost its power, or its cable, or a process that stands still, nothing says
that it is gone. Who finds the lock of another free, twice in a row, puts that
worker's renders back into their queues. One who was only slow then does his
step twice, which changes nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

log = logging.getLogger(__name__)

LOOKS = 4.0
"""Seconds between two looks whether others live."""

LEASE = 14.0
"""Seconds without a look after which the database takes a worker for dead: with two looks of another, its renders
go on within 22 of its death, and within 8 where its connection ended with it."""

NAMESPACE, REAPER = 0x41464D, "who puts back"
"""Of the advisory locks; and the one that is held while renders are put back."""

HELD = """SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
    AND classid = %s AND objid::int8 = (hashtext(%s)::int8 & 4294967295)"""
"""Whether this session holds a lock: who takes one twice must free it twice."""


class Sessions(Protocol):
    """Connections to the database, each a session of its own."""

    def connect(self) -> Any:
        """A new one."""
        ...


@dataclass(slots=True)
class Guard:
    """The lock of `executor`, and its looks at the others.

    `owners` says which executors have renders under way, `put_back` puts those of one back. `returned` is told when
    this one was without its lock for a while: others may have what it had.
    """

    sessions: Sessions
    executor: str
    owners: Callable[[], set[str]]
    put_back: Callable[[str], int]
    returned: Callable[[], None]
    was_here: bool = False
    suspects: set[str] = field(default_factory=set)
    session: Any = None

    def watch(self, stopping: threading.Event) -> None:
        """Until `stopping`: keep the own lock, look at the others."""
        while True:
            try:
                self.look()
            except Exception as error:  # whatever a lost connection raises: it is opened anew
                said = str(error).partition("\n")[0] or type(error).__name__
                log.warning("the database cannot be reached: %s", said)
                self.drop()
            if stopping.wait(LOOKS if self.session else 1.0):
                self.drop()
                return

    def look(self) -> None:
        """Hold the own lock; put back what the dead had."""
        if self.session is None:
            self.session = self.sessions.connect()
            self.session.exec_driver_sql(f"SET idle_session_timeout = '{LEASE:.0f}s'")  # by its clock, not by ours
        if not self._mine(self.executor):
            self._ask("SELECT pg_advisory_lock(%s, hashtext(%s))", self.executor)
            if self.was_here:
                self.returned()
            self.was_here = True
        gone = {owner for owner in self.owners() - {self.executor} if self._is_free(owner)}
        if (dead := gone & self.suspects) and self._try(REAPER):
            try:
                for owner in sorted(dead & self.owners()):
                    log.warning("worker %s is gone: %d of its renders go on", owner, self.put_back(owner))
            finally:
                self._unlock(REAPER)
            gone -= dead
        self.suspects = gone

    def drop(self) -> None:
        """End the session, and with it the lock."""
        session, self.session = self.session, None
        if session is not None:
            session.invalidate()
            session.close()

    def _mine(self, name: str) -> bool:
        return bool(self._ask(HELD, name))

    def _is_free(self, name: str) -> bool:
        if not self._try(name):
            return False
        self._unlock(name)
        return True

    def _try(self, name: str) -> bool:
        return bool(self._ask("SELECT pg_try_advisory_lock(%s, hashtext(%s))", name))

    def _unlock(self, name: str) -> None:
        self._ask("SELECT pg_advisory_unlock(%s, hashtext(%s))", name)

    def _ask(self, sql: str, name: str) -> Any:
        return self.session.exec_driver_sql(sql, (NAMESPACE, name)).scalar()
