"""What a process counts of itself for Prometheus. `GET /metrics` shows it beside the state of the queue."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

QUICK_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
SLOW_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

QUEUE_SECONDS = Histogram(
    "lodestar_queue_command_seconds", "Round trip of a queue command to Redis", ["command"], buckets=QUICK_S
)
HTTP_SECONDS = Histogram(
    "lodestar_http_request_seconds", "From a request to the end of its answer", ["route"], buckets=SLOW_S
)
HTTP_REQUESTS = Counter("lodestar_http_requests", "Requests answered", ["method", "route", "status"])
