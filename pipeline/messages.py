"""What somebody's server is told of a batch, and when again if it did not listen.

{"type": "batch.ended", "timestamp": "2026-11-27T02:00:11Z", "data": {…}}     as `pipeline status --json`, no rows
{"type": "render.ended", "timestamp": …, "data": {"batch": …, …}}             as a row of `pipeline export`
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pipeline.board import Standing, row_json, to_json
from pipeline.chains import digest
from pipeline.roster import Render
from stages.errors import AfterframeError, ProviderRefused
from stages.notices import host_of
from stages.telling import send

log = logging.getLogger(__name__)

RETRIES = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""Seconds after which a message that was not taken is sent again: the schedule that Standard Webhooks gives."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a batch. `id` and `body` stay the same however often it is sent; `attempt` counts that."""

    batch: str
    id: str
    url: str
    body: str
    attempt: int = 0

    @property
    def name(self) -> str:
        """What the engine calls this attempt."""
        return f"tell/{self.batch}.{self.id}:{self.attempt}"

    @property
    def again(self) -> Message:
        """The next attempt."""
        return replace(self, attempt=self.attempt + 1)

    @property
    def host(self) -> str:
        """Who gets it, as may be shown."""
        return host_of(self.url)

    def to_json(self) -> dict[str, Any]:
        """For the engine."""
        return asdict(self)


def batch_ended(standing: Standing) -> Message:
    """All of it is over. It may end again otherwise, after a resume: that is another message."""
    ends = ", ".join(f"{render.run} {standing.of(render).word}" for render in standing.batch.good)
    return _message(standing, "batch.ended", ends, to_json(standing, rows=False))


def render_ended(standing: Standing, render: Render) -> Message:
    """One of its renders is over."""
    told = {"batch": standing.batch.id, "recipe": standing.batch.recipe, **row_json(standing, render)}
    return _message(standing, "render.ended", render.run, told)


def _message(standing: Standing, kind: str, what: str, told: Mapping[str, Any]) -> Message:
    assert standing.batch.notify
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    body = json.dumps({"type": kind, "timestamp": now, "data": told})
    return Message(standing.batch.id, f"msg_{digest(kind, standing.batch.id, what)}", standing.batch.notify.url, body)


def sent(message: Message) -> str:
    """Send it once. Why it was not taken; empty if it was, or is not wanted."""
    told = {"batch": message.batch}
    try:
        send(message.url, message.id, message.body)
    except ProviderRefused as error:
        log.warning("%s", error, extra=told)
    except AfterframeError as error:
        last = message.attempt >= len(RETRIES)
        when = "it is given up" if last else f"again in {RETRIES[message.attempt]:.0f} s"
        log.warning("%s was not told: %s; %s", message.host, error, when, extra=told)
        return str(error)
    else:
        log.info("%s was told", message.host, extra=told)
    return ""
