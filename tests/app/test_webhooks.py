"""Webhooks to a real receiver on this machine, which only `webhook_private` allows."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from standardwebhooks import Webhook

from app import webhooks
from app.api.main import create_app
from app.queue.redis import RedisQueue
from app.settings import Settings
from app.webhooks import Courier, is_public, problem_with
from tests.queued import REFUSAL, RESULT, new_job

SECRET = "whsec_" + "c2VjcmV0" * 4


class Receiver:
    """Answers each request with the next of `statuses`, the last one again and again."""

    def __init__(self) -> None:
        self.statuses = ["204 No Content"]
        self.heard: list[tuple[dict[str, str], bytes]] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head)}
        self.heard.append((headers, await reader.readexactly(int(headers["content-length"]))))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        lines = [f"HTTP/1.1 {status}", "Connection: close", "Location: /elsewhere", "Content-Length: 0"]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await writer.drain()
        writer.close()


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[Receiver, str]]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.answer, "127.0.0.1", 0)
    yield receiver, f"http://localhost:{server.sockets[0].getsockname()[1]}/hook"
    server.close()


@pytest.fixture
async def courier(
    queue: RedisQueue, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Courier]]:
    """Opens couriers; between tries there is no pause."""
    monkeypatch.setattr(webhooks, "PAUSES_S", (0, 0))
    opened: list[Courier] = []

    def open(**settings: Any) -> Courier:
        opened.append(Courier(queue, Settings(webhook_secret=SECRET, **settings)))
        return opened[-1]

    yield open
    for one in opened:
        await one.close()


async def end(queue: RedisQueue, job_id: str, url: str) -> None:
    """A job that names the webhook and has ended."""
    await queue.enqueue(new_job(job_id, webhook=url, tags=["t"]))
    await queue.claim("w", ["toy"], 1)
    await queue.finish("w", job_id, RESULT)


async def test_an_end_is_told_once_signed(
    queue: RedisQueue, receiver: tuple[Receiver, str], courier: Callable[..., Courier]
) -> None:
    there, url = receiver
    await end(queue, "a", url)
    await asyncio.gather(*(courier(webhook_private=True).send_due() for _ in range(3)))
    ((headers, body),) = there.heard
    told = Webhook(SECRET).verify(body, headers)
    assert (told["type"], told["data"]["id"], told["data"]["tags"]) == ("job.succeeded", "a", ["t"])
    assert headers["host"] == httpx.URL(url).netloc.decode()
    assert json.loads(body) == told
    (delivery,) = await queue.outbox.log("a")
    assert (delivery.number, delivery.status, delivery.arrived) == (1, 204, True)


async def test_what_does_not_arrive_is_told_again_under_the_same_id(
    queue: RedisQueue, receiver: tuple[Receiver, str], courier: Callable[..., Courier]
) -> None:
    there, url = receiver
    there.statuses = ["500 No", "302 Found", "503 No"]
    await end(queue, "a", url)
    await courier(webhook_private=True).send_due()
    assert [one.status for one in await queue.outbox.log("a")] == [500, 302, 503], "no redirect is followed"
    assert len({headers["webhook-id"] for headers, _ in there.heard}) == 1
    assert await queue.outbox.due() == [], "after its last try it is given up"
    there.statuses = ["200 OK"]
    assert await queue.outbox.replay("a") == "ok"
    await courier(webhook_private=True).send_due()
    assert [(one.number, one.status) for one in await queue.outbox.log("a")][-1] == (1, 200)
    assert there.heard[-1][0]["webhook-id"] == there.heard[0][0]["webhook-id"]


async def test_a_receiver_that_is_gone_is_left_alone(
    queue: RedisQueue, receiver: tuple[Receiver, str], courier: Callable[..., Courier]
) -> None:
    there, url = receiver
    there.statuses = ["410 Gone"]
    await end(queue, "a", url)
    await courier(webhook_private=True).send_due()
    assert len(there.heard) == 1


async def test_nothing_is_sent_to_a_private_address(
    queue: RedisQueue, receiver: tuple[Receiver, str], courier: Callable[..., Courier]
) -> None:
    there, url = receiver
    await end(queue, "a", url)
    await courier().send_due()
    log = await queue.outbox.log("a")
    assert len(log) == 3
    assert all("not public" in (one.error or "") for one in log)
    assert there.heard == []


async def test_a_new_attempt_takes_the_old_end_back(queue: RedisQueue) -> None:
    await queue.enqueue(new_job("a", webhook="https://example.org/"))
    await queue.claim("w", ["toy"], 1)
    await queue.fail("w", "a", REFUSAL)
    await queue.retry("a")
    assert await queue.outbox.replay("a") == "open"
    assert await queue.outbox.due() == []
    await queue.cancel("a")
    assert await queue.outbox.due() == [("a", 1)]
    await queue.delete("a")
    assert await queue.outbox.replay("a") == "none"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://example.org/hook", None),
        ("https://8.8.8.8/hook", None),
        ("ftp://example.org", "https://"),
        ("example.org", "https://"),
        ("https://me:word@example.org", "password"),
        ("http://127.0.0.1/", "not public"),
        ("http://[::ffff:10.0.0.1]/", "not public"),
        ("http://[fe80::1]/", "not public"),
        ("http://169.254.169.254/latest", "not public"),
    ],
)
def test_urls_that_no_webhook_is_sent_to(url: str, problem: str | None) -> None:
    found = problem_with(url)
    assert (found is None) if problem is None else (found is not None and problem in found)


def test_addresses_of_this_network_are_not_public() -> None:
    private = ["10.1.2.3", "192.168.0.1", "100.64.0.1", "0.0.0.0", "::1", "fd00::1", "224.0.0.1"]
    assert not any(is_public(address) for address in private)
    assert is_public("2606:4700::1111")


def test_a_secret_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="24 to 64"):
        Settings(webhook_secret="guess")


async def test_webhooks_over_http(
    redis_url: str, redis_prefix: str, tmp_path: Any, receiver: tuple[Receiver, str], queue: RedisQueue
) -> None:
    there, url = receiver
    where = {"redis_url": redis_url, "redis_prefix": redis_prefix, "data_dir": tmp_path}
    asked = {"prompt": "high", "model": "toy", "webhook": url}
    for told, status, word in [
        ({}, 422, "LODESTAR_WEBHOOK_SECRET"),
        ({"webhook_secret": SECRET, "webhook_private": True}, 202, "queued"),
    ]:
        app = create_app(Settings(**where, **told))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://lodestar.test") as api,
        ):
            answer = await api.post("/v1/jobs", json=asked)
            assert (answer.status_code, word in answer.text) == (status, True)
            if status != 202:
                continue
            path = f"/v1/jobs/{answer.json()['id']}/deliveries"
            assert (await api.post(path)).status_code == 409
            await queue.cancel(answer.json()["id"])
            async with asyncio.timeout(20):
                while not (log := (await api.get(path)).json()["data"]):
                    pass
            assert log[0]["status"] == 204
            assert (await api.post(path)).status_code == 202
    assert json.loads(there.heard[0][1])["type"] == "job.canceled"
