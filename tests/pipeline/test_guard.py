"""Who lives and who is gone, by a real Postgres: what a worker had goes on, whether it died or only stands still."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest
import sqlalchemy
from sqlalchemy.pool import NullPool

from pipeline import guard
from pipeline.guard import Guard


@dataclass(slots=True)
class Work:
    """What is under way, by worker."""

    url: str
    had: dict[str, int] = field(default_factory=dict)
    put_back: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)

    def guard(self, name: str) -> Guard:
        """A worker's."""
        url = sqlalchemy.make_url(self.url).set(drivername="postgresql+psycopg")
        sessions = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        return Guard(sessions, name, lambda: set(self.had), self.take, lambda: self.returned.append(name))

    def take(self, name: str) -> int:
        """Put a worker's renders back."""
        self.put_back.append(name)
        return self.had.pop(name)


@pytest.fixture
def work(postgres_server: str) -> Work:
    """Three workers are at it."""
    return Work(postgres_server, {"one": 3, "two": 1, "three": 2})


def test_what_the_dead_had_goes_on_at_the_second_look_and_what_the_living_have_stays(work: Work) -> None:
    one, two, three = (work.guard(name) for name in work.had)
    for each in (one, two, three, one):  # when it first looked, the others were not there yet
        each.look()
    two.drop()  # as if it had died
    while not one._is_free("two"):  # the server hears of it a moment later
        time.sleep(0.01)
    one.look()
    assert work.put_back == []
    one.look()
    assert work.put_back == ["two"]
    three.look()
    three.look()
    assert work.put_back == ["two"]
    assert work.returned == []
    two.look()  # it was only cut off
    assert two.session
    assert work.returned == ["two"], "others may have what it had"
    for each in (one, three):
        each.look()
        each.drop()
    two.drop()


def test_one_who_stands_still_longer_than_the_lease_is_gone_and_may_come_back(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "LEASE", 1.0)
    one, two = work.guard("one"), work.guard("two")
    work.had.pop("three")
    two.look()
    end = time.monotonic() + 300
    while "two" not in work.put_back:
        assert time.monotonic() < end
        one.look()
        time.sleep(0.2)
    assert work.had == {"one": 3}
    with pytest.raises(Exception, match=r"terminat|closed"):
        two.look()  # its session has ended, and its lock
    two.drop()
    two.look()
    work.had["two"] = 1
    one.look()
    one.look()
    assert work.put_back == ["two"]
    one.drop()
    two.drop()
