"""An ended job of a batch into its folder: pictures as files, the rest as a line of `results.jsonl`."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

import httpx

from app.admission import Refused
from app.batch.results import Folder
from app.jobs import ImageResult, JobRecord, JobStatus
from app.queue.base import JobQueue
from app.settings import Settings
from app.storage.opening import open_storage

Fetch = Callable[[str, ImageResult], Awaitable[bytes | None]]
"""The bytes of a picture of a job, or None where they are not found."""


class NoPicture(Exception):
    """A picture is not where it should be; the message says what to do."""


def from_storage(settings: Settings) -> Fetch:
    """Fetch from the service's storage: on this machine, on a shared disk, or in an object store."""
    storage = open_storage(settings)

    async def fetch(job_id: str, image: ImageResult) -> bytes | None:
        return await storage.get(image.key)

    return fetch


def from_server(url: str, api_key: str | None = None) -> Fetch:
    """Fetch from the service's API."""
    from app.client import ApiError, Client, NoAnswer

    client = Client(url, api_key=api_key)

    def get(job_id: str, index: int) -> bytes | None:
        try:
            return client.image(job_id, index)
        except ApiError as error:
            if error.status in (404, 410):
                return None
            raise NoPicture(f"{url} gives no pictures: {error}") from error
        except (NoAnswer, httpx.HTTPError) as error:
            raise NoPicture(f"{url} gives no pictures: {error}") from error

    async def fetch(job_id: str, image: ImageResult) -> bytes | None:
        return await asyncio.to_thread(get, job_id, image.index)

    return fetch


class Saver:
    """Writes outcomes into `folder`."""

    def __init__(self, queue: JobQueue, folder: Folder, fetch: Fetch) -> None:
        self.folder = folder
        self._queue = queue
        self._fetch = fetch

    def refuse(self, line: int, request: Mapping[str, Any], refused: Refused) -> None:
        """Write down why a row was not queued."""
        errors = [asdict(refusal) for refusal in refused.refusals]
        error = {"code": "invalid_request", "message": str(refused), "errors": errors}
        self.folder.results.put(
            line, {"id": None, "status": "refused", "input": request, "images": [], "error": error}
        )

    async def save(self, line: int, request: Mapping[str, Any], job_id: str) -> dict[str, Any]:
        """Write down what became of a job; the outcome as written. Raises NoPicture, OSError."""
        record = await self._queue.get(job_id)
        try:
            outcome = _deleted(job_id) if record is None else await self._outcome(line, record)
        except NoPicture:
            if await self._queue.get(job_id) is not None:
                raise
            outcome = _deleted(job_id)
        outcome = {"id": job_id, "status": outcome.pop("status"), "input": request, **outcome}
        self.folder.results.put(line, outcome)
        return outcome

    async def _outcome(self, line: int, record: JobRecord) -> dict[str, Any]:
        told = record.model_dump(mode="json", include={"status", "resolved", "error", "attempt"})
        result = record.result
        if record.status != JobStatus.SUCCEEDED or result is None:
            return {**told, "images": []}
        images: list[dict[str, Any]] = []
        for image in result.images:
            png = await self._fetch(record.id, image)
            if png is None:
                raise NoPicture(
                    f"line {line} is done, but its picture {image.index} is not in the storage that was "
                    "looked into; name the service's --data-dir, or its address to fetch from: --server http://..."
                )
            if hashlib.sha256(png).hexdigest() != image.sha256:
                raise NoPicture(
                    f"line {line}: picture {image.index} of job {record.id} is damaged in the storage"
                )
            file = await asyncio.to_thread(self.folder.write_image, line, image.index, png)
            images.append({**image.model_dump(mode="json", exclude={"key"}), "file": file})
        rest = result.model_dump(mode="json", exclude={"images", "trace_key"})
        return {**told, "images": images, **rest}


def _deleted(job_id: str) -> dict[str, Any]:
    message = f"job {job_id} was deleted, or had expired, before its pictures were fetched"
    return {"status": "deleted", "images": [], "error": {"code": "job_deleted", "message": message}}
