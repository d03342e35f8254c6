"""OpenTelemetry's own SDK under us, as docs/observability.md shows it: not a span is lost."""

from __future__ import annotations

from signal import SIGHUP

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from kit.collector import Collector
from kit.master import Master
from kit.pages import files_under
from kit.wire import Wire

PAGE = files_under("observability.md", "OpenTelemetry")
SHOWN, APP = PAGE["gunicorn.conf.py"], PAGE["app.py"]

ROUTE = """
import os
from fastapi import Request

@app.get("/items/{item}")
async def item(item: int, request: Request):
    told = request.scope["extensions"]["gunicorn_asgi.request"]
    return {"pid": os.getpid(), "id": told["id"]}
"""
EXIT = SHOWN[SHOWN.index("def worker_exit") :]
PROVIDER = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
"""
LIFESPAN = """
from contextlib import asynccontextmanager

@asynccontextmanager
async def lifespan(app):
    yield
    provider.shutdown()
"""
# How it is set up: the configuration, and the application.
SETUPS = {
    "as shown": (SHOWN, APP),
    "as shown, preloaded": (SHOWN + "\npreload_app = True\n", APP),
    # The processor's thread starts in the master: what a library does that knows no fork.
    "at import, preloaded": (EXIT + "\npreload_app = True\n", PROVIDER + APP),
    "ended by the lifespan": (
        "",
        PROVIDER + LIFESPAN + APP.replace("()", "(lifespan=lifespan)", 1),
    ),
}


def trace_id(number: int) -> str:
    """The trace that the caller of a request has begun."""
    return f"{number:032x}"


def ask(master: Master, first: int) -> int:
    """Send requests until both workers have answered some; the number of the next."""
    pids: set[int] = set()
    number = first
    while len(pids) < 2 or number < first + 10:
        parent = f"00-{trace_id(number)}-{number:016x}-01"
        with Wire(master.connect()) as wire:
            told = wire.request("GET", f"/items/{number}", {"traceparent": parent}).json()
        assert told["id"] == trace_id(number), "the request's id is that of the trace"
        pids.add(told["pid"])
        number += 1
    return number


def spans_of(collector: Collector) -> list[Span]:
    """Every server span that was exported."""
    found = []
    for posted in collector.posted:
        assert posted.path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(posted.body).resource_spans:
            for scope in resource.scope_spans:
                found += [span for span in scope.spans if span.kind == Span.SPAN_KIND_SERVER]
    return found


@pytest.mark.parametrize("setup", SETUPS)
def test_every_request_is_a_span_of_its_callers_trace(setup: str) -> None:
    """Over a reload and to the end. Only what is flushed when a worker leaves is exported."""
    config, app = SETUPS[setup]
    with Collector() as collector:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "600000",  # milliseconds: never by itself
        }
        files = {"app.py": app + ROUTE}
        with Master("app:app", files=files, config=config, workers=2, env=env) as master:
            end = ask(master, 1)
            mark = master.mark()
            master.signal(SIGHUP)
            master.wait_log(r"Worker ready", 30, after=mark, count=2)
            master.wait_log(r"Worker exiting", 30, after=mark, count=2)
            end = ask(master, end)
            assert master.stop() == 0
            assert "Traceback" not in master.log()
        spans = spans_of(collector)
    told = {span.trace_id.hex(): span.parent_span_id.hex() for span in spans}
    assert told == {trace_id(number): f"{number:016x}" for number in range(1, end)}
    assert len(spans) == end - 1
    assert {span.name for span in spans} == {"GET /items/{item}"}
