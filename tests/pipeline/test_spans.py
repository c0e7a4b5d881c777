"""What a collector of OpenTelemetry is told: over its own protocol, by a batch that buys, and nothing secret."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from shoot import Shoot, server

from pipeline import spans
from pipeline.run import Event
from pipeline.tasks import Film, Task
from stages.errors import ProviderRefused

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

RECIPE = """\
inputs: {prompt: ~, name: ~}
steps: [{generate: {prompt: $prompt, frame: 16:9, length: 2s, model: sim}}, {trim: 1s}]
deliver: [{preset: web, file: out/$name.mp4}]
"""


class Collector(ThreadingHTTPServer):
    """Keeps the spans that come, by name of their task's kind."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        super().__init__(("127.0.0.1", 0), Desk)

    def named(self, name: str) -> list[Any]:
        """Those of one kind."""
        return [span for span in self.spans if span.name == name]


class Desk(BaseHTTPRequestHandler):
    """One request of an exporter."""

    server: Collector

    def do_POST(self) -> None:
        """Take the spans."""
        assert self.path == "/v1/traces"
        said = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in said.resource_spans:
            self.server.services |= {
                a.value.string_value for a in resource.resource.attributes if a.key == "service.name"
            }
            self.server.spans += [span for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def told(span: Any) -> dict[str, Any]:
    """A span's attributes."""
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def test_a_collector_sees_each_render_with_its_tasks_and_no_prompt(tmp_path: Path) -> None:
    with server(tmp_path / "server") as sells, Collector() as collector:
        threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        shoot = Shoot(tmp_path, sells)
        shoot.workshop.write(RECIPE)
        (shoot.workshop.folder / "rows.csv").write_text("prompt,name\na secret fox,fox\n", encoding="utf-8")
        url = f"http://127.0.0.1:{collector.server_address[1]}"
        env = {**shoot.env, "OTEL_EXPORTER_OTLP_ENDPOINT": url}
        done = shoot.workshop.cli("batch", "film.yaml", "--rows", "rows.csv", "--json", env=env)
        assert done.returncode == 0, done.stderr
        collector.shutdown()
    assert collector.services == {"afterframe"}
    (render,) = collector.named("render")
    (film,) = collector.named("generate")
    batch = json.loads(done.stdout)
    assert {span.trace_id for span in collector.spans} == {render.trace_id}
    assert {span.parent_span_id for span in collector.spans if span is not render} == {render.span_id}
    assert told(render)["afterframe.state"] == "done"
    assert {told(span)["afterframe.batch"] for span in collector.spans} == {batch["batch"]}
    assert {told(span)["afterframe.render"] for span in collector.spans} == {batch["rows"][0]["render"]}
    assert {told(film)[f"afterframe.{name}"] for name in ("provider", "model")} == {"sim"}
    assert told(film)["afterframe.action"] in ("pay", "make")  # `make` once it is bought, and yet to be fetched
    assert told(film)["afterframe.job"].startswith("video_")
    assert render.start_time_unix_nano <= film.start_time_unix_nano < film.end_time_unix_nano
    assert film.end_time_unix_nano <= render.end_time_unix_nano
    assert "secret" not in str(collector.spans)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Where all spans go."""
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 -- the test's own
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415 -- likewise
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: PLC0415

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(spans, "_provider", lambda: provider)
    return exporter


def test_what_could_not_even_be_planned_did_not_begin_in_1970(exporter: InMemorySpanExporter) -> None:
    before = time.time_ns() - 1_000_000
    spans.Trace("fox/batch", {}).end("failed", 0.0)
    (render,) = exporter.get_finished_spans()
    assert render.start_time
    assert before < render.start_time


def test_what_failed_is_told_by_its_class_and_what_was_there_as_cached(exporter: InMemorySpanExporter) -> None:
    cached, failed = (task(f"{kind}-1", action) for kind, action in (("film", "cached"), ("speak", "make")))
    with contextlib.suppress(ProviderRefused), spans.traced(lambda _: None, recipe="film.yaml") as watch:
        watch(Event("planned", (cached, failed)))
        watch(Event("failed", (failed,), error=ProviderRefused("it will not film a secret fox", "moderation_input")))
        raise ProviderRefused("it will not film a secret fox", "moderation_input")
    found = {span.name: span for span in exporter.get_finished_spans()}
    assert {name: span.status.is_ok for name, span in found.items()} == {"film": True, "speak": False, "render": False}
    assert dict(found["film"].attributes or {})["afterframe.cached"] is True
    assert dict(found["speak"].attributes or {})["error.type"] == "ProviderRefused"
    assert "secret" not in "".join(span.to_json() for span in found.values())


def task(name: str, action: Any) -> Task:
    """One that is only told of."""
    work: Film = None  # type: ignore[assignment]  # nobody makes it
    return Task(name, "slot", (), {}, (), work, action, "", "")


@pytest.mark.parametrize(
    ("said", "asks"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_nobody_is_told_who_did_not_ask(said: dict[str, str], asks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*spans.ASKS, "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    spans._provider.cache_clear()
    try:
        assert (spans.trace_of("run") is not None) == asks
    finally:
        if provider := spans._provider():
            provider.shutdown()
        spans._provider.cache_clear()


def test_who_asks_for_nothing_loads_nothing() -> None:
    script = "import sys, pipeline.batch, pipeline.spans as s; s.trace_of('r'); print('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"
