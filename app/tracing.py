"""OpenTelemetry traces: from a request to the job it makes, through the queue, to the worker that runs it.

FastAPI makes the spans of requests, this the jobs'. They need the extra `otel` and OpenTelemetry's own
variables (`OTEL_EXPORTER_OTLP_ENDPOINT=...`).
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry import propagate, trace

ENDPOINT = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def configure(service: str) -> None:
    """Send this process's spans where the environment says. Raises ValueError where the extra is missing."""
    if not any(os.environ.get(name) for name in ENDPOINT):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ValueError(
            f"{ENDPOINT[0]} asks for traces, and the extra for them is not installed; "
            "pip install 'lodestar-diffusion[otel]', or take the variable away"
        ) from None
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


@contextmanager
def span(name: str, parent: str, **attributes: str | int | float) -> Generator[None]:
    """A span for the time of the block, below `parent` (a traceparent, or empty for none)."""
    context = propagate.extract({"traceparent": parent})
    with trace.get_tracer("lodestar").start_as_current_span(name, context):
        annotate(**attributes)
        yield


def annotate(**attributes: str | int | float) -> None:
    """Tell more of the span that is open here: `lodestar_job_id=...` becomes `lodestar.job.id`."""
    trace.get_current_span().set_attributes(
        {name.replace("_", "."): value for name, value in attributes.items()}
    )


def traceparent() -> str:
    """The span that is open here, as another process can go on from it; empty where there is none."""
    if not trace.get_current_span().get_span_context().is_valid:
        return ""
    carrier = dict[str, str]()
    propagate.inject(carrier)
    return carrier.get("traceparent", "")
