"""Traces leave both processes for a collector: here one that speaks OTLP over HTTP, as any does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.e2e.serving import serving

pytestmark = pytest.mark.timeout(500)
PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


class Collector:
    """Takes spans at /v1/traces; `spans` are pairs of a service's name and its span."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        self._news = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                known = (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
                self.send_response(200 if known else 404)
                self.end_headers()
                if known:
                    self.wfile.write(ExportTraceServiceResponse().SerializeToString())
                    collector.take(ExportTraceServiceRequest.FromString(body))

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, request: ExportTraceServiceRequest) -> None:
        with self._news:
            for resource in request.resource_spans:
                names = {one.key: one.value.string_value for one in resource.resource.attributes}
                for scope in resource.scope_spans:
                    self.spans += [(names["service.name"], span) for span in scope.spans]
            self._news.notify_all()

    def wait(self, until: Callable[[], bool], within_s: float = 100) -> bool:
        """Whether it became so in time."""
        deadline = time.monotonic() + within_s
        with self._news:
            return self._news.wait_for(until, deadline - time.monotonic())


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    thread = threading.Thread(target=found.server.serve_forever)
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


def told(span: Span) -> dict[str, str]:
    return {one.key: one.value.string_value for one in span.attributes}


def test_a_job_is_one_trace_from_its_request_to_its_worker(collector: Collector, tmp_path: Path) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with serving(tmp_path / "data", **environment) as service:
        asked = {"model": "toy", "prompt": "high", "steps": 2, "seeds": [1]}
        headers = {"traceparent": PARENT, "Prefer": "wait=60"}
        answer = httpx.post(
            f"{service.url()}/v1/jobs", json=asked, headers=headers, timeout=100, trust_env=False
        )
        assert answer.status_code == 200, answer.text

        def ours() -> dict[str, tuple[str, Span]]:
            here = [one for one in collector.spans if one[1].trace_id == bytes.fromhex("a" * 32)]
            return {span.name: (name, span) for name, span in here}

        assert collector.wait(lambda: {"POST /v1/jobs", "job"} <= set(ours())), sorted(ours())
    by_id = {span.span_id: span for _, span in ours().values()}
    name, request = ours()["POST /v1/jobs"]
    assert (name, request.parent_span_id) == ("lodestar-api", bytes.fromhex("b" * 16))
    name, work = ours()["job"]
    assert name == "lodestar-worker"
    assert told(work)["lodestar.job.id"] == answer.json()["id"]
    assert told(work)["lodestar.worker.id"] == answer.json()["worker_id"]
    assert work.end_time_unix_nano > work.start_time_unix_nano >= request.start_time_unix_nano
    above = work
    while above.parent_span_id in by_id:
        above = by_id[above.parent_span_id]
    assert above.span_id == request.span_id
