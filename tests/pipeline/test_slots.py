"""Whose turn it is at the processors."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from pipeline.slots import Slots


def test_who_is_furthest_along_goes_first_and_of_equals_who_came_first() -> None:
    slots, order = Slots(1), list[tuple[str, int]]()

    def task(name: str, made: int) -> None:
        with slots.held(made):
            order.append((name, made))

    with ThreadPoolExecutor(8) as pool, slots.held(0):
        for number, (name, made) in enumerate((("a", 0), ("b", 0), ("c", 2), ("d", 1), ("e", 2)), 1):
            pool.submit(task, name, made)
            while len(slots.waiting) < number:
                time.sleep(0.001)
    assert order == [("c", 2), ("e", 2), ("d", 1), ("a", 0), ("b", 0)]


def test_no_more_hold_one_than_there_are_and_none_is_left_out() -> None:
    slots, lock, holding, most, ended = Slots(3), threading.Lock(), 0, 0, 0

    def task(made: int) -> None:
        nonlocal holding, most, ended
        with slots.held(made):
            with lock:
                holding += 1
                most = max(most, holding)
            time.sleep(0.002)
            with lock:
                holding, ended = holding - 1, ended + 1

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(task, range(100)))
    assert (most, ended, slots.free, slots.waiting) == (3, 100, 3, [])


def test_a_task_that_fails_gives_its_slot_back() -> None:
    slots = Slots(1)
    for _ in range(2):
        try:
            with slots.held(0):
                raise ValueError
        except ValueError:
            pass
    assert (slots.free, slots.waiting) == (1, [])
