"""Goods that come in the answer: what was received is never lost, what was lost is never bought twice."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import pytest

import stages.ledger
import stages.providers.handover as handover
from stages.bookkeeping import write_off
from stages.clip import Size
from stages.errors import (
    BudgetExceeded,
    InputError,
    Later,
    ProviderRefused,
    ProviderUnavailable,
    SubmissionUnknown,
    WriteError,
)
from stages.files import home
from stages.http import NOT_SENT
from stages.ledger import Budget, Ledger, Limits, Purchase, collect, open_ledger, purchases, submit_once
from stages.providers import HandsOver, Provider, VideoRequest
from stages.providers.handover import Handover, Link

WISH = VideoRequest("a fox", "painter", Size(1024, 1024), 0, work="draw")
KEY = "f0" * 32
PICTURE = b"\x89PNG\r\n\x1a\n and a picture"
BROKEN = ProviderUnavailable("the line broke", "transient", "ReadError")


@dataclass
class Till:
    """What a server sold, and what it does next."""

    sold: int = 0
    goods: bytes | Link = PICTURE
    trouble: list[Exception] = field(default_factory=list)
    sells: bool = True


@dataclass(frozen=True, slots=True)
class Counter(Handover):
    """A server in memory. Its answers get lost as the till is told: after the sale, where it `sells`."""

    usual_url = "http://127.0.0.1:9/v1"

    name: str = "counter"
    till: Till = field(default_factory=Till)
    keys: dict[str, bytes | Link] = field(default_factory=dict)

    def order(self, request: VideoRequest, key: str) -> bytes | Link:
        trouble = self.till.trouble.pop(0) if self.till.trouble else None
        if trouble and not self.till.sells:
            raise trouble
        if not (self.idempotent and key in self.keys):
            self.till.sold += 1
            self.keys[key] = self.till.goods
        if trouble:
            raise trouble
        return self.keys[key]


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> Ledger:
    return open_ledger(clock=clock)


@pytest.fixture
def counter() -> Counter:
    return Counter()


def buy(ledger: Ledger, counter: Provider, request: VideoRequest = WISH, limits: Limits = Limits()) -> Path:
    submit_once(ledger, counter, request, KEY, price=Decimal("0.04"), limits=limits)
    return collect(ledger, counter, KEY)


def only_row(ledger: Ledger) -> Purchase:
    (row,) = purchases(ledger)
    return row


def waiting() -> list[str]:
    """What was handed over and is not in the originals yet."""
    folder = home() / "handed"
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def test_it_is_a_provider_like_any_other(counter: Counter) -> None:
    provider: Provider = counter
    assert isinstance(provider, HandsOver)
    assert (provider.can_list, provider.idempotent, provider.account) == (False, False, "127.0.0.1:9")
    with pytest.raises(ProviderUnavailable, match="no list"):
        provider.find(0)


def test_what_comes_is_an_original_and_nothing_else_is_left(ledger: Ledger, counter: Counter) -> None:
    original = buy(ledger, counter)
    assert original.read_bytes() == PICTURE
    assert (original.parent.name, original.suffix) == ("originals", ".png")
    assert (only_row(ledger).state, waiting()) == ("DONE", [])
    assert buy(ledger, counter) == original
    assert counter.till.sold == 1


@pytest.mark.parametrize(
    ("goods", "suffix"),
    [(b"\xff\xd8\xff\xe0 jpeg", ".jpg"), (b"RIFF....WEBPVP8 ", ".webp"), (b"RIFF....WAVEfmt ", ".wav"),
     (b"ID3\x04 sound", ".mp3"), (b"fLaC sound", ".flac"), (b"OggS sound", ".ogg"), (b"\0\0\0\x18ftypisom", ".mp4")],
    ids=str,
)  # fmt: skip
def test_pictures_sounds_and_films_are_named_for_what_they_are(
    ledger: Ledger, counter: Counter, goods: bytes, suffix: str
) -> None:
    counter.till.goods = goods
    assert buy(ledger, counter).suffix == suffix


def test_what_is_none_of_these_is_kept_and_not_taken(ledger: Ledger, counter: Counter, clock: Clock) -> None:
    counter.till.goods = b"<html>Bad gateway</html>"
    for _ in range(2):
        clock.now += 60
        with pytest.raises(ProviderUnavailable, match="no film, picture or sound for job f0f0"):
            buy(ledger, counter)
    assert (counter.till.sold, only_row(ledger).state, len(waiting())) == (1, "ACCEPTED", 1)


def test_a_picture_where_a_film_was_bought_is_not_taken(ledger: Ledger, counter: Counter) -> None:
    with pytest.raises(ProviderUnavailable, match="no MP4"):
        buy(ledger, counter, replace(WISH, seconds=8))


# ---------------------------------------------------------------- answers that were lost


def test_a_lost_answer_is_for_a_human(ledger: Ledger, counter: Counter, clock: Clock) -> None:
    counter.till.trouble = [BROKEN]
    with pytest.raises(Later):
        buy(ledger, counter)
    for _ in range(2):
        with pytest.raises(SubmissionUnknown, match=r"may have been paid \$0.04 for painter: .* no list to look it up"):
            buy(ledger, counter)
    assert counter.till.sold == 1
    clock.now += 1000
    write_off(ledger, KEY, "it is not on the invoice")
    assert buy(ledger, counter).read_bytes() == PICTURE
    assert counter.till.sold == 2


def test_where_keys_are_honoured_it_is_asked_again(ledger: Ledger, clock: Clock) -> None:
    counter = Counter(idempotent=True)
    counter.till.trouble = [BROKEN]
    with pytest.raises(Later) as later:
        buy(ledger, counter)
    clock.now += later.value.seconds
    assert buy(ledger, counter).read_bytes() == PICTURE
    assert counter.till.sold == 1


def test_while_another_process_may_wait_for_the_answer_nobody_is_alarmed(
    ledger: Ledger, counter: Counter, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture takes minutes; whoever wants the same one meanwhile must not be told to write it off."""

    def order(self: Counter, request: VideoRequest, key: str) -> bytes:
        clock.now += 100
        with pytest.raises(Later) as later:
            buy(ledger, counter)  # the other process
        assert later.value.seconds <= counter.poll
        return PICTURE

    monkeypatch.setattr(Counter, "order", order)
    assert buy(ledger, counter).read_bytes() == PICTURE


def test_after_a_kill_it_is_for_a_human_once_no_answer_can_come(
    ledger: Ledger, counter: Counter, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(monkeypatch, counter, "order", before=True)
    with pytest.raises(Killed):
        buy(ledger, counter)
    with pytest.raises(Later):
        buy(ledger, counter)
    clock.now += counter.settle
    with pytest.raises(SubmissionUnknown):
        buy(ledger, counter)
    assert counter.till.sold == 0


class Killed(BaseException):
    """What the ledger cannot catch."""


def killed(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, *, before: bool) -> None:
    """The process ends before or after the next call of this."""
    holder = type(owner) if isinstance(owner, Counter) else owner
    plain = getattr(holder, name)

    def call(*args: object, **options: object) -> object:
        monkeypatch.setattr(holder, name, plain)
        if not before:
            plain(*args, **options)
        raise Killed

    monkeypatch.setattr(holder, name, call)


@pytest.mark.parametrize(
    ("owner", "name", "before"),
    [(Counter(), "submit", False), (stages.ledger, "_accept", True), (stages.ledger, "_accept", False),
     (Counter(), "download", False), (stages.ledger, "sha256", False), (Counter(), "clear", True)],
    ids=lambda value: str(getattr(value, "__name__", value))[:20],
)  # fmt: skip
def test_what_was_received_is_never_lost_and_never_bought_again(
    ledger: Ledger,
    counter: Counter,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    before: bool,
) -> None:
    killed(monkeypatch, owner, name, before=before)
    with pytest.raises(Killed):
        buy(ledger, counter)
    clock.now += 60
    assert buy(ledger, counter).read_bytes() == PICTURE
    assert (counter.till.sold, waiting()) == (1, [])


def test_what_was_received_is_found_even_days_later_and_where_keys_are_honoured(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(idempotent=True)
    killed(monkeypatch, counter, "submit", before=False)
    with pytest.raises(Killed):
        buy(ledger, counter)
    clock.now += 86_400 * 3
    assert buy(ledger, counter).read_bytes() == PICTURE
    assert counter.till.sold == 1


# ---------------------------------------------------------------- where it is kept


def test_nothing_is_bought_that_could_not_be_kept(
    ledger: Ledger, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(handover, "ROOM", 1 << 60)
        with pytest.raises(
            ProviderUnavailable, match="has no room for what counter would send: nothing was sent"
        ) as no:
            buy(ledger, counter)
    assert (no.value.code, counter.till.sold, only_row(ledger).state) == (NOT_SENT, 0, "INTENT")
    shutil.rmtree(home() / "handed")
    (home() / "handed").write_text("in the way")
    with pytest.raises(ProviderUnavailable, match="nothing was sent to counter"):
        buy(ledger, counter)
    (home() / "handed").unlink()
    assert buy(ledger, counter)


def test_another_machine_does_not_find_what_this_one_received(ledger: Ledger, counter: Counter, clock: Clock) -> None:
    submit_once(ledger, counter, WISH, KEY, price=Decimal("0.04"))
    (home() / "handed").rename(home() / "the other machine's")
    clock.now += counter.settle
    with pytest.raises(SubmissionUnknown, match=r"is not on this machine: .*write-off") as unknown:
        collect(ledger, counter, KEY)
    assert "adopt" not in str(unknown.value)
    with pytest.raises(ProviderRefused, match="another machine may have received it"):
        counter.download(only_row(ledger).job_id, home() / "part")
    (home() / "the other machine's").rename(home() / "handed")
    clock.now += 60
    assert collect(ledger, counter, KEY).read_bytes() == PICTURE
    assert counter.till.sold == 1


def test_a_job_that_a_human_wrote_leads_nowhere_else(counter: Counter) -> None:
    (home() / "secret").write_text("not for sale")
    assert counter.check("../secret").state == "gone"
    counter.clear("../secret")
    assert (home() / "secret").exists()


def test_a_link_that_fails_is_followed_later(
    ledger: Ledger, counter: Counter, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sale is noted whatever becomes of the link."""
    counter.till.goods = Link("https://files.example/fox.png")
    fetched: list[str] = []

    def fetch(service: object, url: str, target: Path) -> None:
        fetched.append(url)
        if len(fetched) < 3:
            raise ProviderUnavailable("the line broke")
        target.write_bytes(PICTURE)

    monkeypatch.setattr(handover, "fetch", fetch)
    with pytest.raises(ProviderUnavailable):
        buy(ledger, counter)
    assert only_row(ledger).state == "ACCEPTED"
    clock.now += 60
    assert buy(ledger, counter).read_bytes() == PICTURE
    assert (counter.till.sold, waiting(), set(fetched)) == (1, [], {"https://files.example/fox.png"})


def test_a_link_that_is_not_https_and_public_is_refused(ledger: Ledger, counter: Counter) -> None:
    counter.till.goods = Link("http://169.254.169.254/latest/meta-data")
    with pytest.raises(ProviderRefused, match="not https and public"):
        buy(ledger, counter)
    assert (counter.till.sold, only_row(ledger).state) == (1, "ACCEPTED")


# ---------------------------------------------------------------- clear answers


@pytest.mark.parametrize(
    ("no", "state"),
    [(ProviderRefused("no", "moderation_input"), "REJECTED"), (InputError("no words", "loop"), "INTENT"),
     (Later(7), "INTENT")],
)  # fmt: skip
def test_a_clear_no_is_no_sale(ledger: Ledger, counter: Counter, no: Exception, state: str) -> None:
    counter.till.trouble, counter.till.sells = [no], False
    with pytest.raises(type(no)):
        buy(ledger, counter)
    assert (only_row(ledger).state, counter.till.sold, waiting()) == (state, 0, [])


def test_a_budget_speaks_of_what_has_no_length(ledger: Ledger, counter: Counter) -> None:
    with pytest.raises(BudgetExceeded, match=r"^the price of painter is \$0.04; "):
        buy(ledger, counter, limits=Limits(budgets=(Budget("the day", Decimal("0.03")),)))
    assert counter.till.sold == 0


def test_a_disk_that_fills_up_meanwhile_costs_one_sale_at_most(
    ledger: Ledger, counter: Counter, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(target: Path) -> Path:
        raise WriteError(f"{target}: the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(handover, "attempt", full)
        with pytest.raises(WriteError):
            buy(ledger, counter)
    clock.now += counter.settle
    with pytest.raises(SubmissionUnknown):
        buy(ledger, counter)
    assert counter.till.sold == 1
