"""What is made, told to OpenTelemetry (the only opentelemetry): the extra `otel`, and only where the environment asks.

A trace is a render: a span for it, and below that one for each of its tasks.
Workers make a batch's render in turns, perhaps on several machines; so the
trace and its first span are named after the run, and what each tells comes
together. Of errors the class is told, not the words, which may quote a prompt.

    OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318     http/protobuf; OTEL_TRACES_EXPORTER=console prints them
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.run import Event, Watch
from pipeline.tasks import Task
from stages.errors import AfterframeError
from stages.ledger import open_ledger, purchases

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Span, TracerProvider

log = logging.getLogger(__name__)

ASKS = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Variables that ask for traces, the first of them in words."""

WITHIN = 3.0
"""Seconds that a collector has to take what is told, trying again included: no run is to wait for a dead one."""

TIMEOUTS = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
"""Variables that give it another time."""

_ids = threading.local()


@dataclass(slots=True)
class Trace:
    """One render's: `watch` what is done for it, and say at the `end` what came of it.

    `run` is unique to it; `about` are attributes of every span. Times are seconds since 1970.
    """

    run: str
    about: Mapping[str, str]
    started: dict[str, float] = field(default_factory=dict)

    def watch(self, event: Event) -> None:
        """Tell of tasks that were there, were made, or failed."""
        now = time.time()
        if event.kind == "planned":
            for task in event.tasks:
                if task.action == "cached":
                    self._tell(task, now, now)
        elif event.kind == "started":
            for task in event.tasks:
                self.started.setdefault(task.name, now)
        elif event.kind in ("done", "failed"):
            for task in event.tasks:
                self._tell(task, self.started.get(task.name, now), now, event.error)

    def end(self, state: str, began: float) -> None:
        """Tell of the whole; `began` is 0 if it could not even be planned."""
        _ids.trace, _ids.span = self._trace, self._span
        began = began or time.time()
        try:
            self._span_of("render", None, began, {"afterframe.state": state}, "" if state == "done" else state)
        finally:
            _ids.trace = _ids.span = 0

    @property
    def _trace(self) -> int:
        return int(hashlib.sha256(f"trace {self.run}".encode()).hexdigest()[:32], 16)

    @property
    def _span(self) -> int:
        return int(hashlib.sha256(f"span {self.run}".encode()).hexdigest()[:16], 16)

    def _tell(self, task: Task, began: float, ended: float, error: BaseException | None = None) -> None:
        told: dict[str, str | float | bool] = {"afterframe.task": task.name, "afterframe.action": task.action}
        told["afterframe.cached"] = task.action == "cached"
        if task.keys and task.action != "cached":
            sold, more = _bought(task)
            began, told = min(began, sold or began), {**told, **more}
        told["afterframe.seconds"] = round(ended - began, 3)
        fault = type(error).__name__ if error else ""
        self._span_of(task.name.partition("-")[0], self._parent(), began, told, fault, ended)

    def _parent(self) -> Any:
        """The render's span, as the parent of others: it is told last, and perhaps by another process."""
        from opentelemetry import trace  # noqa: PLC0415 -- heavy, and an extra

        provider = _provider()
        assert provider
        decision: Any = provider.sampler.should_sample(None, self._trace, "render").decision
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if decision.is_sampled() else trace.TraceFlags.DEFAULT)
        context = trace.SpanContext(self._trace, self._span, is_remote=True, trace_flags=flags)
        return trace.set_span_in_context(trace.NonRecordingSpan(context))

    def _span_of(
        self,
        name: str,
        parent: Any,
        began: float,
        told: Mapping[str, str | float | bool],
        fault: str,
        ended: float = 0.0,
    ) -> None:
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 -- heavy, and an extra

        provider = _provider()
        assert provider
        about = {f"afterframe.{key}": value for key, value in self.about.items()}
        span: Span = provider.get_tracer("afterframe").start_span(  # type: ignore[assignment]  # of the SDK, as the provider
            name, parent, attributes={**about, **told}, start_time=_nanoseconds(began)
        )
        if fault:
            span.set_attribute("error.type", fault)
            span.set_status(StatusCode.ERROR)
        span.end(_nanoseconds(ended or time.time()))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _bought(task: Task) -> tuple[float, dict[str, str | float | bool]]:
    """When it was ordered, and of whom, as the ledger has it: a seller tells time in whole seconds."""
    with contextlib.suppress(AfterframeError):
        rows = [row for key in task.keys for row in purchases(open_ledger(), key) if row.job_id]
        if rows:
            told = {"provider": rows[-1].provider, "model": rows[-1].model, "job": rows[-1].job_id}
            return rows[-1].sent_at, {f"afterframe.{key}": value for key, value in told.items()}
    return 0.0, {}


def trace_of(run: str, **about: str) -> Trace | None:
    """The trace of one render of a batch; None where nobody asks for it."""
    return Trace(run, about) if _provider() else None


@contextlib.contextmanager
def traced(watch: Watch, **about: str) -> Iterator[Watch]:
    """A run in a trace of its own, if anybody asks: hand it what this yields, which tells `watch` too."""
    trace, began = trace_of(uuid.uuid4().hex, **about), time.time()
    if trace is None:
        yield watch
        return

    def both(event: Event) -> None:
        trace.watch(event)
        watch(event)

    state = "failed"
    try:
        yield both
        state = "done"
    finally:
        trace.end(state, began)


@cache
def _provider() -> TracerProvider | None:
    """Where spans go, if they are asked for and the extra is there."""
    kind, *addresses = (os.environ.get(name, "").strip() for name in ASKS)
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if kind == "none" or disabled or not (kind or any(addresses)):
        return None
    try:
        return _opened(kind)
    except ImportError:
        log.warning("traces need the extra `otel`: pip install 'afterframe[otel]'")
        return None


def _opened(kind: str) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 -- heavy
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 -- heavy, and an extra
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 -- likewise
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter  # noqa: PLC0415 -- likewise
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415 -- likewise

    class Named(RandomIdGenerator):
        """Those of a render's own span are set before."""

        def generate_span_id(self) -> int:
            return getattr(_ids, "span", 0) or super().generate_span_id()

        def generate_trace_id(self) -> int:
            return getattr(_ids, "trace", 0) or super().generate_trace_id()

    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    resource = Resource.create({} if named else {"service.name": "afterframe"})
    provider = TracerProvider(id_generator=Named(), resource=resource)  # it tells the rest when the process ends
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # that it tries again is no news
    timeout = None if any(name in os.environ for name in TIMEOUTS) else WITHIN
    exporter = ConsoleSpanExporter() if kind == "console" else OTLPSpanExporter(timeout=timeout)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
