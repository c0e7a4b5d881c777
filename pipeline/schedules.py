"""Batches at set times: what a schedule is, and which of the times that were missed are caught up.

The engine sees to it that a tick fires once, however many workers live, and
that none is forgotten while all were down. What to do with those is decided
here, since the engine knows only all or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from stages.errors import InputError
from stages.stage import nearest

CatchUp = Literal["latest", "all", "none"]

LATE = timedelta(minutes=2)
"""How late a tick may begin and still be in time: workers look up to ten seconds late, and start in a few."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A batch that is to be made at the times of `cron` in the time `zone`. Paths are relative to the project."""

    name: str
    cron: str
    zone: str
    recipe: str
    rows: str
    catch_up: CatchUp
    simulate: bool = False
    paused: bool = False
    last: str = ""

    def to_json(self) -> dict[str, Any]:
        """What the engine keeps of it, besides what it knows itself."""
        return {key: value for key, value in asdict(self).items() if key not in ("paused", "last")}

    def next(self, after: datetime) -> datetime:
        """The first of its times after that one."""
        from croniter import croniter  # noqa: PLC0415 -- comes with the extra `cluster`

        times = croniter(self.cron, after.astimezone(ZoneInfo(self.zone)), second_at_beginning=True)
        found: datetime = next(time for time in times.all_next(datetime) if not self.repeats(time))
        return found

    def repeats(self, tick: datetime) -> bool:
        """Whether it is a time of day that was there an hour ago already, when the clocks were put back. Of set
        hours the first is meant; what is made every hour is made in this one, too. (A time that is left out when
        they are put forward comes an hour later: croniter sees to that.)"""
        hour = (self.cron.split()[-4:] or ["*"])[0]
        return bool(tick.astimezone(ZoneInfo(self.zone)).fold) and hour[0] != "*" and hour != "@hourly"

    def wants(self, tick: datetime, now: datetime) -> bool:
        """Whether a tick is still to be made, `now` that it is its turn."""
        if self.repeats(tick):
            return False
        if self.catch_up == "none":
            return now - tick <= LATE
        return self.catch_up == "all" or self.next(tick) > now

    def batch(self, tick: datetime) -> str:
        """The id of the batch that a tick makes: the same, whoever makes it and how often."""
        return f"{self.name}-{tick.astimezone(UTC):%Y%m%d-%H%M%S}"


def from_json(said: Mapping[str, Any], paused: bool = False, last: str = "") -> Schedule:
    """As it was kept."""
    return replace(Schedule(**said), paused=paused, last=last)


def checked(schedule: Schedule) -> Schedule:
    """The schedule, if its time, zone and way of catching up can be. Raises InputError."""
    from croniter import croniter  # noqa: PLC0415 -- comes with the extra `cluster`

    if not croniter.is_valid(schedule.cron, second_at_beginning=True):
        raise InputError(f"'{schedule.cron}' is no time: should be five fields as in cron, such as \"0 2 * * MON\"")
    try:
        ZoneInfo(schedule.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(f"--zone {schedule.zone}: there is no such time zone (such as Europe/Berlin)") from None
    if schedule.catch_up not in get_args(CatchUp):
        words = get_args(CatchUp)
        raise InputError(
            f"--catch-up {schedule.catch_up}: should be one of {', '.join(words)}{nearest(schedule.catch_up, words)}"
        )
    return schedule
