"""Who waits in a worker for films, and who of them is woken.

Of all that wait for films of one account one is woken in time, and looks for
them all; the others are left alone until theirs are ready. That each looked for
himself took a core for 300 of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.roster import Orders
from stages.ledger import open_ledger
from stages.watching import NO_NEWS, news

PATIENCE = 1800.0
"""Seconds after which who waits for a film looks at it himself, whoever looked for all: it may be given up."""

LOOKING = 60.0
"""Seconds after which another is sent to look at the films of an account, if the one who was sent is not back."""


@dataclass(slots=True)
class Waiter:
    """A render that waits for news of `keys`. Once its time is over it leaves the looking to another, as long as the
    films that it `expects` are being made."""

    loop: asyncio.AbstractEventLoop
    event: asyncio.Event
    keys: frozenset[str]
    batch: str
    expects: frozenset[str] = frozenset()
    timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """Let it go on; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(self.event.set)


@dataclass(slots=True)
class Lobby:
    """Those who wait, by their runs."""

    waiting: dict[str, Waiter] = field(default_factory=dict)
    awaited: frozenset[str] = frozenset()  # keys of what was being filmed at the last look
    sent: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)  # by account, who was last, and when

    async def wait(self, run: str, batch: str, seconds: float, keys: Sequence[str]) -> None:
        """Until it is time, or there is news. It may be done again: when to look is in the ledger."""
        loop = asyncio.get_running_loop()
        waiter = self.waiting[run] = Waiter(loop, asyncio.Event(), frozenset(keys), batch)
        waiter.timer = loop.call_later(seconds, self._has_waited, waiter)
        try:
            await waiter.event.wait()
        finally:
            waiter.timer.cancel()
            if self.waiting.get(run) is waiter:  # not one that was held, and let go on, meanwhile
                del self.waiting[run]

    def _has_waited(self, waiter: Waiter) -> None:
        """Its time is over."""
        waiter.expects = waiter.keys & self.awaited
        if waiter.expects:
            waiter.timer = waiter.loop.call_later(PATIENCE, waiter.event.set)
        else:
            waiter.event.set()

    def look(self, told: Callable[[str], Orders]) -> None:
        """Wake whose film is ready, one for each account whose films are due, and whose batch was `told` to rest."""
        runs = dict(self.waiting)
        who = {key: run for run, waiter in runs.items() for key in waiter.keys}
        found = news(open_ledger(), who.keys()) if who else NO_NEWS
        self.awaited, woken, now = found.awaited, set(found.ready), time.monotonic()
        for account, keys in found.due.items():
            run, at = self.sent.get(account, ("", 0.0))
            if not run or run in runs or now - at > LOOKING:  # else he is at it
                woken.add(chosen := random.choice(keys))
                self.sent[account] = who[chosen], now
        for waiter in runs.values():
            fetched = waiter.expects - found.awaited  # by another render, that wants the same film
            if fetched or waiter.keys & woken or told(waiter.batch) in ("pause", "cancel"):
                waiter.wake()

    def is_back(self, run: str) -> None:
        """Another may be sent to look at films: who was sent may have fetched his own, and not wait again."""
        for account, (sent, _) in list(self.sent.items()):
            if sent == run:
                self.sent.pop(account, None)

    def wake_all(self) -> None:
        """Let all go on."""
        for waiter in list(self.waiting.values()):
            waiter.wake()
