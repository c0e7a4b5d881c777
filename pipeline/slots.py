"""The slots of a worker: how many tasks may use its processors at once, and whose turn it is."""

from __future__ import annotations

import heapq
import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


def usual_count() -> int:
    """One more than there are cores: while a task signs, or waits for the disk, the others keep them busy. On two
    cores three made 0.96 of the best that was done by hand, and two 0.93 (tests/benchmarks/clips.py)."""
    return (os.cpu_count() or 1) + 1


@dataclass(slots=True)
class Slots:
    """So many are `free`. Of those who wait for one, who is furthest along goes first: renders are finished one after
    the other, the first of them soon. (Each by turns, they all ended at once, and the processors stood still until
    the next had come.)"""

    free: int
    waiting: list[tuple[int, int]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    turn: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def held(self, made: int) -> Iterator[None]:
        """Hold a slot for a task of a render that has `made` so many; wait until it is its turn."""
        with self.turn:
            mine = -made, next(self.numbers)
            heapq.heappush(self.waiting, mine)
            self.turn.wait_for(lambda: self.free and self.waiting[0] == mine)
            heapq.heappop(self.waiting)
            self.free -= 1
            self.turn.notify_all()  # there may be another that is free
        try:
            yield
        finally:
            with self.turn:
                self.free += 1
                self.turn.notify_all()
