"""`GET /metrics`: the state of the queue and the fleet, and what this process counted, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.api.deps import Lodestar
from app.queue.base import Census, WorkerCard

router = APIRouter(tags=["fleet"])


class State(Collector):
    """What was read from the queue just now. Every replica of the API tells the same: take the `max`."""

    def __init__(
        self, depth: dict[str, int], census: Census, workers: Sequence[WorkerCard], ping_s: float
    ) -> None:
        self._depth = depth
        self._census = census
        self._workers = workers
        self._ping_s = ping_s

    def collect(self) -> Iterable[Metric]:
        """The metrics, each with all its labels' values."""
        jobs = GaugeMetricFamily("lodestar_jobs", "Open jobs", labels=["state"])
        for state, count in self._depth.items():
            jobs.add_metric([state], count)
        waiting = GaugeMetricFamily("lodestar_queue_depth", "Jobs that wait", labels=["model", "priority"])
        oldest = GaugeMetricFamily(
            "lodestar_queue_oldest_seconds", "How long the first of them has", labels=["model", "priority"]
        )
        for line in self._census.lines:
            waiting.add_metric([line.model, line.priority], line.waiting)
            oldest.add_metric([line.model, line.priority], line.oldest_s)
        ended = CounterMetricFamily("lodestar_jobs_ended", "Jobs that ended", labels=["outcome", "model"])
        for (outcome, model), count in self._census.ended.items():
            ended.add_metric([outcome, model], count)
        takeovers = CounterMetricFamily(
            "lodestar_lease_takeovers", "Jobs taken from workers that fell silent", labels=["model"]
        )
        for model, count in self._census.takeovers.items():
            takeovers.add_metric([model], count)
        rows = GaugeMetricFamily("lodestar_worker_rows", "Network rows in use", labels=["worker"])
        cap = GaugeMetricFamily("lodestar_worker_max_rows", "Network rows at most", labels=["worker"])
        for card in self._workers:
            rows.add_metric([card.id], card.rows)
            cap.add_metric([card.id], card.max_rows)
        alive = GaugeMetricFamily("lodestar_workers", "Workers alive", len(self._workers))
        ping = GaugeMetricFamily("lodestar_redis_ping_seconds", "Round trip to the queue", self._ping_s)
        return [jobs, waiting, oldest, ended, takeovers, rows, cap, alive, ping]


@router.get("/metrics", response_class=PlainTextResponse)
async def get_metrics(lodestar: Lodestar) -> Response:
    """The state of the queue and the fleet for Prometheus, and what this process has counted."""
    queue, registry = lodestar.queue, CollectorRegistry()
    state = State(await queue.depth(), await queue.census(), await queue.workers(), await queue.ping() / 1e3)
    registry.register(state)
    return Response(generate_latest(registry) + generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
