"""A provider in memory, which loses answers, lags, limits and forgets as it is told. Its time is a number."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

from stages.clip import Size
from stages.errors import ProviderUnavailable
from stages.ledger import Ledger, Purchase, request_key, submit_once
from stages.providers import VideoJob, VideoRequest

WISH = VideoRequest("a rose opens", "sora-2", Size(1280, 720), 8)
PRICE = Decimal("0.80")
FILM = b"\x00\x00\x00\x18ftypisom and a film"
BROKEN = ProviderUnavailable("the line broke", "transient", "ReadError")


@dataclass
class Shop:
    """A provider in memory. `trouble` is raised by the next submits, after the sale where `sells` says so."""

    name: str = "openai"
    account: str = "api.openai.com"
    idempotent: bool = False
    can_list: bool = True
    settle: float = 120.0
    poll: float = 5.0
    typical: float = 60.0
    now: float = 1_000_000.0
    trouble: list[Exception] = field(default_factory=list)
    sells: bool = True
    state: str = "running"
    failure: VideoJob | None = None
    film: bytes = FILM
    jobs: dict[str, VideoJob] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    sends: int = 0
    looks: int = 0
    downloads: int = 0

    def submit(self, request: VideoRequest, key: str) -> VideoJob:
        self.sends += 1
        trouble = self.trouble.pop(0) if self.trouble else None
        if trouble and not self.sells:
            raise trouble
        if not (self.idempotent and key in self.keys):
            self.keys[key] = self.sell(request)
        if trouble:
            raise trouble
        return self.jobs[self.keys[key]]

    def sell(self, request: VideoRequest, **other: object) -> str:
        job_id = f"video_{len(self.jobs) + 1}"
        job = VideoJob(
            job_id,
            "queued",
            created_at=self.now,
            model=request.model,
            prompt=request.prompt,
            seconds=request.seconds,
            size=request.size,
        )
        self.jobs[job_id] = replace(job, **other)  # type: ignore[arg-type]  # a test's own words
        return job_id

    def check(self, job_id: str) -> VideoJob:
        self.looks += 1
        if job_id not in self.jobs:
            return VideoJob(job_id, "gone", failure="lost", code="404")
        return self.failure or replace(self.jobs[job_id], state=self.state, progress=0.5)  # type: ignore[arg-type]  # likewise

    def download(self, job_id: str, target: Path) -> None:
        self.downloads += 1
        target.write_bytes(self.film)

    def find(self, since: float) -> list[VideoJob]:
        sold = [job for job in reversed(self.jobs.values()) if (job.created_at or 0) >= since]
        failed = self.failure
        return [
            replace(job, state="failed", failure=failed.failure, code=failed.code, text=failed.text)
            if failed
            else replace(job, state=self.state)  # type: ignore[arg-type]  # likewise
            for job in sold
        ]


def buy(ledger: Ledger, shop: Shop, request: VideoRequest = WISH, **how: object) -> Purchase:
    key = how.pop("key", None) or request_key(request)
    return submit_once(ledger, shop, request, str(key), price=PRICE, **how)  # type: ignore[arg-type]  # passed through
