"""What an operator sees of a worker and of the queue: metrics, logs with ids, a trace from request to job."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY

from app.api.main import create_app
from app.logs import JOB, Json
from app.queue.redis import RedisQueue
from app.settings import Settings
from app.storage.local import LocalStorage
from tests.workers.serving import ended, new_job, working
from workers import meters

DOCKER = Path(__file__).parents[2] / "docker"
SPANS = InMemorySpanExporter()


@pytest.fixture(scope="module", autouse=True)
def provider() -> None:
    """There is one for each process, and it cannot be taken back."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(SPANS))
    trace.set_tracer_provider(provider)


@pytest.fixture
def lines() -> Iterator[list[dict[str, object]]]:
    """What is logged, as an operator's machine reads it."""
    found: list[dict[str, object]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(json.loads(Json().format(record)))

    handler, root = Kept(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel("INFO")
    yield found
    root.removeHandler(handler)
    root.setLevel(before)


async def test_a_job_is_followed_from_its_request_to_its_worker(
    settings: Settings, queue: RedisQueue, storage: LocalStorage, lines: list[dict[str, object]]
) -> None:
    SPANS.clear()
    app = create_app(settings)
    remote = f"00-{'a' * 32}-{'b' * 16}-01"
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://lodestar.test") as http,
        working(settings, queue, storage),
    ):
        asked = {"prompt": "high", "width": 64, "height": 64, "steps": 2, "seeds": [1]}
        job = (await http.post("/v1/jobs", json=asked, headers={"traceparent": remote})).json()["id"]
        await ended(queue, job)
        scraped = (await http.get("/metrics")).text
    by_id = {span.context.span_id: span for span in SPANS.get_finished_spans()}
    work, above = next(span for span in by_id.values() if span.name == "job"), []
    while (parent := by_id.get((above or [work])[-1].parent.span_id)) is not None:
        above.append(parent)
    request = above[-1]
    assert request.name == "POST /v1/jobs"
    assert request.parent.span_id == int("b" * 16, 16)
    assert work.context.trace_id == int("a" * 32, 16)
    assert work.attributes["lodestar.job.id"] == job
    queued = next(line for line in lines if line["message"] == f"job {job}: queued")
    assert queued["job_id"] == job
    assert queued["request_id"] in {span.attributes.get("lodestar.request.id") for span in above}
    done = next(line for line in lines if line["message"] == f"job {job}: done")
    assert done["job_id"] == job
    access = next(line for line in lines if line["logger"] == "lodestar.access" and line["status"] == 202)
    assert (access["path"], access["request_id"]) == ("/v1/jobs", queued["request_id"])
    assert 'lodestar_jobs_ended_total{model="toy",outcome="succeeded"} 1.0' in scraped
    assert 'lodestar_queue_command_seconds_count{command="enqueue"}' in scraped


async def test_an_error_keeps_its_reason_and_its_job(lines: list[dict[str, object]]) -> None:
    token = JOB.set("j")
    try:
        raise ValueError("broken\nin two lines")
    except ValueError:
        logging.getLogger("x").exception("it failed")
    JOB.reset(token)
    (line,) = [line for line in lines if line["logger"] == "x"]
    assert (line["level"], line["job_id"], line["message"]) == ("error", "j", "it failed")
    assert "ValueError: broken" in str(line["error"])
    assert "request_id" not in line


async def test_the_queue_knows_who_waits_and_who_was_taken_over(redis_url: str, redis_prefix: str) -> None:
    queue = RedisQueue(redis_url, redis_prefix, lease_ms=100, retry_backoff_ms=0)
    await queue.enqueue(new_job("a", priority="batch"))
    await queue.enqueue(new_job("b", priority="batch"))
    (line,) = [line for line in (await queue.census()).lines if line.waiting]
    assert (line.model, line.priority, line.waiting) == ("toy", "batch", 2)
    assert line.oldest_s > 0
    assert [claim.id for claim in await queue.claim("w", ["toy"], 1)] == ["a"]
    assert [line.waiting for line in (await queue.census()).lines if line.priority == "batch"] == [1]
    while not await queue.sweep():  # the lease runs out
        pass
    census = await queue.census()
    assert census.takeovers == {"toy": 1}
    assert [line.waiting for line in census.lines if line.priority == "batch"] == [2]
    await queue.cancel("a")
    await queue.delete("b")
    census = await queue.census()
    assert census.lines == []
    assert census.ended == {("canceled", "toy"): 2}
    await queue.close()


async def test_a_worker_shows_what_its_forwards_were(
    settings: Settings, queue: RedisQueue, storage: LocalStorage
) -> None:
    before = REGISTRY.get_sample_value("lodestar_forward_rows_sum", {"model": "toy"}) or 0
    labels = {"model": "toy", "guidance": "cfg", "of": "model"}
    evaluated = REGISTRY.get_sample_value("lodestar_nfe_total", labels) or 0
    async with working(settings, queue, storage):
        await queue.enqueue(new_job("a"))
        await ended(queue, "a")
    assert (REGISTRY.get_sample_value("lodestar_nfe_total", labels) or 0) - evaluated == 16
    assert (REGISTRY.get_sample_value("lodestar_forward_rows_sum", {"model": "toy"}) or 0) - before >= 16
    port = meters.serve("127.0.0.1", 0)
    async with httpx.AsyncClient(trust_env=False) as http:
        shown = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    assert 'lodestar_step_seconds_count{model="toy"}' in shown
    assert 'lodestar_worker_jobs_total{model="toy",outcome="succeeded"}' in shown
    with pytest.raises(ValueError, match=f"127.0.0.1:{port}"):
        meters.serve("127.0.0.1", port)
