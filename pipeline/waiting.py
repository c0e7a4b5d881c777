"""Who waits in a worker for films, and who of them is woken.

Of all that wait for films of one account one is woken in time, and looks for
them all; the others are left alone until theirs are ready. That each looked for
himself took a core for 300 of them.

Of all whom the limits of an account keep from buying the first in line is woken
in time, and asks; once he has bought the next asks at once, until one is turned
away.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from pipeline.roster import Orders
from stages.ledger import open_ledger
from stages.watching import NO_NEWS, news

PATIENCE = 1800.0
"""Seconds after which who leaves it to others looks or asks himself: a film may be given up."""

LOOKING = 60.0
"""Seconds after which another is sent to look, or to ask, if the one who was sent is not back."""


@dataclass(slots=True)
class Waiter:
    """A render that waits for news of `keys`, or stands in `line` to buy them. Once its time is over it leaves the
    looking to another, as long as the films that it `expects` are being made."""

    loop: asyncio.AbstractEventLoop
    event: asyncio.Event
    keys: frozenset[str]
    batch: str
    line: str = ""
    expects: frozenset[str] = frozenset()
    timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """Let it go on; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(self.event.set)


@dataclass(frozen=True, slots=True)
class Sent:
    """The run that was woken for others too, and when, on the monotonic clock."""

    run: str
    at: float = field(default_factory=time.monotonic)

    def is_away(self, waiting: Collection[str]) -> bool:
        """Whether it is at it now, as far as is known."""
        return self.run not in waiting and time.monotonic() - self.at <= LOOKING


NOBODY = Sent("", float("-inf"))


@dataclass(slots=True)
class Lobby:
    """Those who wait, by their runs."""

    waiting: dict[str, Waiter] = field(default_factory=dict)
    awaited: frozenset[str] = frozenset()  # keys of what was being filmed at the last look
    looking: dict[tuple[str, str], Sent] = field(default_factory=dict)  # by account
    asking: dict[str, Sent] = field(default_factory=dict)  # by line
    opens: dict[str, float] = field(default_factory=dict)  # by line, when the next may ask, on the monotonic clock

    async def wait(self, run: str, batch: str, seconds: float, keys: Sequence[str], line: str = "") -> None:
        """Until it is time, or there is news, or its turn in a line. It may be done again: when to look is in the
        ledger."""
        loop = asyncio.get_running_loop()
        waiter = self.waiting[run] = Waiter(loop, asyncio.Event(), frozenset(keys), batch, line)
        waiter.timer = loop.call_later(PATIENCE if line else seconds, self._has_waited, waiter)
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
        """Wake whose film is ready, one for each account whose films are due, the first of each line that opens, and
        whose batch was `told` to rest."""
        runs = dict(self.waiting)
        who = {key: run for run, waiter in runs.items() for key in waiter.keys}
        found = news(open_ledger(), who.keys()) if who else NO_NEWS
        self.awaited, woken = found.awaited, set(found.ready)
        for account, keys in found.due.items():
            if not self.looking.get(account, NOBODY).is_away(runs):
                woken.add(chosen := random.choice(keys))
                self.looking[account] = Sent(who[chosen])
        for line in {waiter.line for waiter in runs.values() if waiter.line}:
            made_room = bool(found.ready)  # a film that is finished is in flight no more, perhaps of this account
            opens = made_room or time.monotonic() >= self.opens.get(line, 0.0)
            if opens and not self.asking.get(line, NOBODY).is_away(runs):
                self._next(line)
        for waiter in runs.values():
            fetched = waiter.expects - found.awaited  # by another render, that wants the same film
            if fetched or waiter.keys & woken or told(waiter.batch) in ("pause", "cancel"):
                waiter.wake()

    def is_back(self, run: str, seconds: float = 0.0, line: str = "") -> None:
        """Another may be sent to look at films: who was sent may have fetched his own, and not wait again. Who asked
        for the others of a line was turned away for `seconds`, if he stands in it again, and else the next asks."""
        if line:
            self.opens[line] = time.monotonic() + seconds
        for account, sent in list(self.looking.items()):
            if sent.run == run:
                self.looking.pop(account, None)
        for asked, sent in list(self.asking.items()):
            if sent.run == run:
                self.asking.pop(asked, None)
                if asked != line:
                    self._next(asked)

    def _next(self, line: str) -> None:
        """Let the first of a line ask."""
        first = next((run for run, waiter in dict(self.waiting).items() if waiter.line == line), "")
        if waiter := self.waiting.get(first):
            self.asking[line] = Sent(first)
            waiter.wake()

    def wake_all(self, but: Collection[str] = ()) -> int:
        """Let all go on but the runs `but`. How many do."""
        others = [waiter for run, waiter in dict(self.waiting).items() if run not in but]
        for waiter in others:
            waiter.wake()
        return len(others)
