"""Clients that come all at once, read slowly, or lose their API in the middle of a request."""

import asyncio
import json
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest

from app.jobs import JobStatus, Progress
from app.queue.base import Beat
from tests.chaos.processes import send
from tests.chaos.site import Site, request, seeds_of
from tests.queued import RESULT

pytestmark = pytest.mark.timeout(200)


def body(name: str) -> dict[str, Any]:
    return request("high", seeds_of(name)).model_dump(mode="json", exclude={"classes"})


def clients(site: Site) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.AsyncClient(base_url=site.url, timeout=90, trust_env=False, limits=limits)


async def test_the_api_is_killed_in_the_middle_of_requests(site: Site) -> None:
    api = await site.api()
    site.worker()
    unanswered = 0
    answered_at: list[float] = []
    answered = asyncio.Event()

    async def client(http: httpx.AsyncClient, name: str) -> None:
        """Send until there is an answer, under one key."""
        nonlocal unanswered
        while True:
            with suppress(httpx.TransportError):
                answer = await http.post("/v1/jobs", json=body(name), headers={"Idempotency-Key": name})
                assert answer.status_code in (200, 202, 409), answer.text
                running = answer.status_code == 409  # accepted before the kill
                where = answer.headers["location"].rpartition("/")[2] if running else answer.json()["id"]
                site.accepted.add(where)
                answered_at.append(time.time())
                answered.set()
                return
            unanswered += 1
            await asyncio.sleep(0.05)

    async def person(http: httpx.AsyncClient, name: str) -> None:
        """One request after the other, so that some are under way whenever the kill comes."""
        for k in range(4):
            await client(http, f"{name}.{k}")

    async with clients(site) as http:
        first = [asyncio.create_task(person(http, f"c{k}")) for k in range(20)]
        await answered.wait()
        send(api, signal.SIGKILL)
        killed_at = time.time()
        await site.gone(api)
        gone_at = time.time()
        await site.api()
        await asyncio.gather(*first)
    assert unanswered, "the kill came too late to hit a request"
    outcome = await site.audit("API killed mid-request, 20 clients")
    outcome.recovery_s = min(at for at in answered_at if at > gone_at) - killed_at
    assert outcome.ends == {JobStatus.SUCCEEDED: 80}


@pytest.mark.slow
async def test_two_hundred_clients_come_at_once(site: Site) -> None:
    await site.api()
    for _ in range(2):
        site.worker()

    async def client(http: httpx.AsyncClient, name: str) -> None:
        answer = await http.post("/v1/jobs", json=body(name), headers={"Prefer": "wait=60"})
        assert answer.is_success, answer.text + site.logs()
        job = answer.json()
        site.accepted.add(job["id"])
        while job["status"] in ("queued", "starting", "processing"):  # a machine with other work takes longer
            job = (await http.get(job["urls"]["self"], params={"wait": 60})).json()
        assert job["status"] == "succeeded"
        assert (await http.get(job["images"][1]["url"])).content.startswith(b"\x89PNG")

    async with clients(site) as http:
        await asyncio.gather(*(client(http, f"c{k}") for k in range(200)))
    outcome = await site.audit("200 clients at once")
    assert outcome.ends == {JobStatus.SUCCEEDED: 200}


@pytest.mark.slow
async def test_slow_readers_of_events_hold_nobody_up(open_site: Callable[..., Site]) -> None:
    """50 readers that read nothing, while 20 MB of events are sent; then they read on, to the same end."""
    site = open_site(lease_ms=60_000)
    await site.api()
    (job_id,) = await site.submit(1)
    (claim,) = await site.queue.claim("w", ["toy"], 8)
    assert claim.id == job_id
    slow = [await slow_reader(site, job_id) for _ in range(50)]
    async with clients(site) as http, http.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
        lines = stream.aiter_lines()
        progressed = (data async for line in lines if "total" in (data := data_of(line)))
        rows = [{"index": 0, "step": 0, "note": "x" * 1000}] * 4
        longest_s = 0.0
        for step in range(1, 101):
            began = time.monotonic()
            progress = Progress(step=step, total=100)
            await site.queue.beat("w", [Beat(job_id, progress, [("guidance", {"rows": rows})])])
            while (await anext(progressed))["step"] != step:
                pass
            longest_s = max(longest_s, time.monotonic() - began)
        await site.queue.finish("w", job_id, RESULT)
        assert [line async for line in lines if line.startswith("event:")][-1] == "event: completed"
    assert longest_s < 5, "a beat and its event wait for those who do not read"
    for reader in slow:
        text = await read_all(reader)
        (_, *data) = text[text.rindex("event: completed") :].splitlines()
        assert json.loads(data[0].removeprefix("data: "))["status"] == "succeeded"


def data_of(line: str) -> dict[str, Any]:
    """A line of a stream's data; nothing for another line."""
    return json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}


async def slow_reader(site: Site, job_id: str) -> socket.socket:
    """A connection with hardly a buffer, whose request is sent and whose answer is not read."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(reader, ("127.0.0.1", site.settings.port))
    lines = f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    await loop.sock_sendall(reader, lines.encode())
    return reader


async def read_all(reader: socket.socket) -> str:
    text = bytearray()
    with reader:
        while data := await asyncio.get_running_loop().sock_recv(reader, 65536):
            text += data
    return text.decode()
