"""What a worker counts of itself for Prometheus, and where it shows it."""

from __future__ import annotations

from dataclasses import asdict

from prometheus_client import Counter, Histogram, start_http_server

from app.jobs import Resolved, Timings
from app.meters import SLOW_S
from samplers.answer import Nfe

ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
STEP_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)

FORWARD_ROWS = Histogram(
    "lodestar_forward_rows", "Rows of a network evaluation that were asked for", ["model"], buckets=ROWS
)
FORWARD_FILL = Histogram(
    "lodestar_forward_fill",
    "Share of the rows that a network evaluation may have which were asked for",
    ["model"],
    buckets=[tenth / 10 for tenth in range(1, 11)],
)
PADDING = Counter("lodestar_padding_rows", "Rows of network evaluations that nobody asked for", ["model"])
STEP_SECONDS = Histogram(
    "lodestar_step_seconds", "Duration of a step of the engine: one forward", ["model"], buckets=STEP_S
)
EVALUATIONS = Counter(
    "lodestar_nfe", "Evaluations that guidance asked for, by what was evaluated", ["model", "guidance", "of"]
)
JOBS = Counter("lodestar_worker_jobs", "Jobs that this worker was done with", ["model", "outcome"])
STAGE_SECONDS = Histogram(
    "lodestar_job_stage_seconds", "Where the time of a job that succeeded went", ["stage"], buckets=SLOW_S
)


def forward(model: str, rows: int, padding: int, cap: int) -> None:
    """One network evaluation of `rows` rows and some padding, where `cap` rows were possible."""
    FORWARD_ROWS.labels(model).observe(rows)
    FORWARD_FILL.labels(model).observe(rows / cap)
    PADDING.labels(model).inc(padding)


def evaluate(job: Resolved, nfe: Nfe) -> None:
    """What one image took."""
    for what, count in asdict(nfe).items():
        EVALUATIONS.labels(job.model, job.guidance.method, what).inc(count)


def spend(timings: Timings) -> None:
    """Where one job's time went."""
    for stage, ms in timings.model_dump().items():
        STAGE_SECONDS.labels(stage.removesuffix("_ms")).observe(ms / 1e3)


def serve(host: str, port: int) -> int:
    """Show everything at /metrics, from a thread of its own; the port. Raises ValueError."""
    try:
        server, _ = start_http_server(port, host)
    except OSError as error:
        raise ValueError(f"cannot show metrics on {host}:{port}: {error.strerror}") from error
    return server.server_port
