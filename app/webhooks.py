"""Telling clients of their jobs' ends, by the rules of Standard Webhooks.

Signed, tried again for three days, never redirected, and never sent to an address that only this network
reaches: the name is looked up once, every address it has is checked, and the connection goes to one of these.
Source: https://www.standardwebhooks.com
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import time
from datetime import UTC, datetime
from typing import Any

import httpx
from standardwebhooks import Webhook

from app.jobs import TERMINAL, JobRecord
from app.queue.base import JobQueue
from app.queue.outbox import Delivery
from app.settings import Settings

PAUSES_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Between one try and the next."""
TIMEOUT_S = 15.0
GONE = 410


class Undeliverable(Exception):
    """A webhook that must not or cannot be sent there; the message is for its owner."""


def problem_with(url: str, private: bool = False) -> str | None:
    """Why no webhook is ever sent to this URL, or None. A name is looked up only when one is sent."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "the webhook is not a URL"
    if parsed.scheme not in ("https", "http") or not parsed.host:
        return "the webhook must be a URL that begins with https:// or http://"
    if parsed.userinfo:
        return "the webhook's URL must not contain a name or password; what is sent is signed instead"
    try:
        address = ipaddress.ip_address(parsed.host)
    except ValueError:
        return None
    if not private and not is_public(str(address)):
        return f"webhooks are not sent to {parsed.host}: the address is not public"
    return None


def is_public(address: str) -> bool:
    """Whether the whole internet means the same host by it."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found.is_global and not found.is_multicast


def message(record: JobRecord) -> dict[str, Any]:
    """What is told: little, and by id, so that a receiver asks the API for the rest."""
    completed_ms = record.completed_at_ms or 0
    images = record.result.images if record.result else []
    return {
        "type": f"job.{record.status}",
        "timestamp": datetime.fromtimestamp(completed_ms / 1e3, UTC).isoformat(),
        "data": {
            "id": record.id,
            "status": record.status,
            "attempt": record.attempt,
            "path": f"/v1/jobs/{record.id}",
            "images": [
                {**image.model_dump(exclude={"key"}), "path": f"/v1/jobs/{record.id}/images/{image.index}"}
                for image in images
            ],
            "error": record.error.model_dump() if record.error else None,
            "tags": record.tags,
            "metadata": record.metadata,
        },
    }


class Courier:
    """Sends what the queue's outbox holds, if the settings have a secret to sign with."""

    def __init__(self, queue: JobQueue, settings: Settings) -> None:
        self._queue = queue
        self._seal = Webhook(settings.webhook_secret) if settings.webhook_secret else None
        self._private = settings.webhook_private
        self._http = httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)

    async def send_due(self) -> None:
        """Send all that is due."""
        while self._seal is not None and (due := await self._queue.outbox.due()):
            await asyncio.gather(*(self._tell(job_id, number) for job_id, number in due))

    async def close(self) -> None:
        """End its connections."""
        await self._http.aclose()

    async def _tell(self, job_id: str, number: int) -> None:
        record = await self._queue.get(job_id)
        if record is None or record.webhook is None or record.status not in TERMINAL:
            return  # deleted or tried again meanwhile: another end will come
        began, at_ms = time.perf_counter(), time.time_ns() // 1_000_000
        status: int | None = None
        error: str | None = None
        try:
            status = await self._post(record, record.webhook)
        except Undeliverable as reason:
            error = str(reason)
        except (httpx.HTTPError, OSError) as reason:
            error = f"{type(reason).__name__}: {reason}"
        spent_ms = round((time.perf_counter() - began) * 1e3)
        delivery = Delivery(number=number, at_ms=at_ms, spent_ms=spent_ms, status=status, error=error)
        over = delivery.arrived or status == GONE or number > len(PAUSES_S)
        await self._queue.outbox.told(job_id, delivery, None if over else PAUSES_S[number - 1])

    async def _post(self, record: JobRecord, webhook: str) -> int:
        assert self._seal is not None
        url = httpx.URL(webhook)
        address = await self._address(url)
        body, now = json.dumps(message(record)), datetime.now(UTC)
        told = f"{record.id}.{record.completed_at_ms}"
        headers = {
            "Host": url.netloc.decode(),
            "Content-Type": "application/json",
            "User-Agent": "Lodestar",
            "webhook-id": told,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._seal.sign(told, now, body),
        }
        request = self._http.build_request(
            "POST",
            url.copy_with(host=address),
            content=body,
            headers=headers,
            extensions={"sni_hostname": url.host},
        )
        answer = await self._http.send(request, stream=True)  # whatever it says, its status is all we read
        await answer.aclose()
        return answer.status_code

    async def _address(self, url: httpx.URL) -> str:
        """An address of the host, each of which may be sent to. Raises Undeliverable."""
        port = url.port or {"https": 443, "http": 80}[url.scheme]
        try:
            found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise Undeliverable(f"{url.host} is not known: {error.strerror}") from error
        addresses = [str(entry[4][0]) for entry in found]
        if not self._private and not all(is_public(address) for address in addresses):
            raise Undeliverable(f"{url.host} has an address that is not public")
        return addresses[0]
