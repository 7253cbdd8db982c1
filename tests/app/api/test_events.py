from __future__ import annotations

import json
from typing import Any

import httpx

from app.jobs import Progress
from app.queue.base import Beat
from app.queue.redis import RedisQueue
from app.settings import Settings
from tests.app.api.test_jobs import APPLE, work_once


def parse(text: str) -> list[dict[str, Any]]:
    """The events of a whole stream; comments are dropped."""
    events: list[dict[str, Any]] = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            events.append({**fields, "data": json.loads(fields["data"])})
    return events


async def test_stream_tells_a_job_from_queue_to_end(
    live: httpx.AsyncClient, settings: Settings, queue: RedisQueue
) -> None:
    job = (await live.post("/v1/jobs", json=APPLE)).json()
    lines: list[str] = []
    async with live.stream("GET", job["urls"]["events"]) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        worked = False
        async for line in stream.aiter_lines():
            lines.append(line)
            if line == "event: queued" and not worked:
                worked = True
                (claim,) = await queue.claim("w", ["emoji"], 8)
                guidance = ("guidance", {"rows": [{"index": 0, "step": 0, "guidance_norm": 1.5}]})
                progress = Progress(step=5, total=25, stage="denoising")
                preview = ("preview", {"index": 0, "step": 4})
                await queue.beat("w", [Beat(claim.id, progress, (guidance, preview))])
                await queue.release("w", [claim.id])
                await work_once(settings)
    events = parse("\n".join(lines))
    names = [event["event"] for event in events]
    assert names[:2] == ["snapshot", "queued"]
    assert {"start", "progress", "guidance", "preview"} <= set(names)
    assert names[-1] == "completed"
    assert events[-1]["data"]["images"][0]["sha256"]
    assert {event["retry"] for event in events} == {"2000"}
    ids = [int(event["id"]) for event in events]
    assert ids == sorted(ids)
    (preview,) = [event for event in events if event["event"] == "preview"]
    assert preview["data"]["url"].endswith(f"/v1/jobs/{job['id']}/images/0/preview?step=4")


async def test_a_late_reader_gets_a_snapshot_first(live: httpx.AsyncClient, settings: Settings) -> None:
    job = (await live.post("/v1/jobs", json=APPLE)).json()
    await work_once(settings)
    late = parse((await live.get(job["urls"]["events"], headers={"Last-Event-ID": "1"})).text)
    assert [event["event"] for event in late] == ["snapshot", "completed"]
    up_to_date = parse(
        (await live.get(job["urls"]["events"], headers={"Last-Event-ID": late[-1]["id"]})).text
    )
    assert [event["event"] for event in up_to_date] == ["completed"]
