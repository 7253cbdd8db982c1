"""Talk to a running service from Python: `Client` and, for asyncio, `AsyncClient`.

    with Client() as client:
        job = client.generate("a red apple, 3d", guidance={"method": "apg", "scale": 10}, seeds=[1])
        Path("apple.png").write_bytes(client.image(job))

Every call may be repeated without harm, and is, when the connection breaks: jobs are created under an id made
here, so that sending one twice runs it once. What each call does is in `app.calls`; the two
clients only differ in how they send and wait. `BatchClient`, for very many, speaks to the queue instead.
"""

from __future__ import annotations

import asyncio
import builtins
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx

from app import calls
from app.batch import BatchClient
from app.calls import (
    ApiError,
    Ask,
    Call,
    Job,
    JobFailed,
    JobFields,
    JobImage,
    NoAnswer,
    Pause,
    job_path,
    wire,
)
from app.tape import SILENCE_S, Event, Tape

__all__ = ["ApiError", "AsyncClient", "BatchClient", "Client", "Event", "Job", "JobFailed", "JobImage",
           "NoAnswer"]  # fmt: skip

URL = "http://127.0.0.1:8000"
T = TypeVar("T")
STREAM_TIMEOUT = httpx.Timeout(10.0, read=SILENCE_S)


class Client:
    """The service at `url`. Raises ApiError, NoAnswer; close it, or use it in a `with`."""

    def __init__(
        self, url: str = URL, *, api_key: str | None = None, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._http = httpx.Client(base_url=url.rstrip("/"), headers=bearer(api_key), transport=transport)

    def ping(self) -> None:
        """Whether a server is there; NoAnswer at once if not."""
        self._do(calls.send(Ask("GET", "/healthz", read_s=10), tries=1))

    def generate(self, prompt: str, *, timeout_s: float | None = None, **fields: Unpack[JobFields]) -> Job:
        """Submit, wait, and return the job with its pictures. JobFailed, TimeoutError if there are none."""
        return self._do(calls.generate(prompt, timeout_s, fields))

    def submit(self, prompt: str, *, job_id: str | None = None, **fields: Unpack[JobFields]) -> Job:
        """Queue a job; the same `job_id` again is the same job."""
        return self._do(calls.submit(prompt, job_id, fields))

    def get(self, job: Job | str) -> Job:
        """The job as it is now."""
        return self._do(calls.fetch_job(Ask("GET", job_path(job))))

    def wait(self, job: Job | str, timeout_s: float | None = None) -> Job:
        """The job when it has ended, however it did. TimeoutError when it has not in time."""
        return self._do(calls.wait(job.id if isinstance(job, Job) else job, timeout_s))

    def cancel(self, job: Job | str) -> Job:
        """Stop a job; a running one ends within a step."""
        return self._do(calls.fetch_job(Ask("POST", job_path(job) + "/cancel")))

    def retry(self, job: Job | str) -> Job:
        """Run an ended job again, with the same seeds."""
        return self._do(calls.fetch_job(Ask("POST", job_path(job) + "/retry"), tries=1))

    def list(
        self, *, status: Sequence[str] | None = None, tag: str | None = None, limit: int = 20
    ) -> builtins.list[Job]:
        """The newest jobs: with one of these statuses, with this tag."""
        return self._do(calls.fetch_jobs(status, tag, limit))

    def image(self, job: Job | str, k: int = 0) -> bytes:
        """Picture `k` as PNG, with its whole request inside."""
        return self._do(calls.fetch(f"{job_path(job)}/images/{k}"))

    def request(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Any other call of the API; repeated where that does no harm. ApiError for a refusal."""
        return self._do(calls.send(Ask(method, path, body)))

    def stream(self, job: Job | str) -> Iterator[Event]:
        """Events until the job has ended, across broken connections."""
        tape = Tape()
        while not tape.ended:
            lost: httpx.TransportError | None = None
            try:
                with self._http.stream(
                    "GET", job_path(job) + "/events", headers=tape.connect(), timeout=STREAM_TIMEOUT
                ) as response:
                    if not response.is_success:
                        response.read()
                        raise ApiError(response)
                    for chunk in response.iter_bytes():
                        yield from tape.feed(chunk)
                        if tape.ended:
                            return
            except httpx.TransportError as error:
                lost = error
            time.sleep(tape.broke(lost))

    def _do(self, call: Call[T]) -> T:
        try:
            step = next(call)
            while True:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = call.send(None)
                    continue
                try:
                    response = self._http.request(**wire(step))
                except httpx.TransportError as error:
                    step = call.throw(error)
                else:
                    step = call.send(response)
        except StopIteration as done:
            return done.value

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """`Client` for asyncio."""

    def __init__(
        self, url: str = URL, *, api_key: str | None = None, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._http = httpx.AsyncClient(base_url=url.rstrip("/"), headers=bearer(api_key), transport=transport)

    async def ping(self) -> None:
        """Whether a server is there; NoAnswer at once if not."""
        await self._do(calls.send(Ask("GET", "/healthz", read_s=10), tries=1))

    async def generate(
        self, prompt: str, *, timeout_s: float | None = None, **fields: Unpack[JobFields]
    ) -> Job:
        """Submit, wait, and return the job with its pictures. JobFailed, TimeoutError if there are none."""
        return await self._do(calls.generate(prompt, timeout_s, fields))

    async def submit(self, prompt: str, *, job_id: str | None = None, **fields: Unpack[JobFields]) -> Job:
        """Queue a job; the same `job_id` again is the same job."""
        return await self._do(calls.submit(prompt, job_id, fields))

    async def get(self, job: Job | str) -> Job:
        """The job as it is now."""
        return await self._do(calls.fetch_job(Ask("GET", job_path(job))))

    async def wait(self, job: Job | str, timeout_s: float | None = None) -> Job:
        """The job when it has ended, however it did. TimeoutError when it has not in time."""
        return await self._do(calls.wait(job.id if isinstance(job, Job) else job, timeout_s))

    async def cancel(self, job: Job | str) -> Job:
        """Stop a job; a running one ends within a step."""
        return await self._do(calls.fetch_job(Ask("POST", job_path(job) + "/cancel")))

    async def retry(self, job: Job | str) -> Job:
        """Run an ended job again, with the same seeds."""
        return await self._do(calls.fetch_job(Ask("POST", job_path(job) + "/retry"), tries=1))

    async def list(
        self, *, status: Sequence[str] | None = None, tag: str | None = None, limit: int = 20
    ) -> builtins.list[Job]:
        """The newest jobs: with one of these statuses, with this tag."""
        return await self._do(calls.fetch_jobs(status, tag, limit))

    async def image(self, job: Job | str, k: int = 0) -> bytes:
        """Picture `k` as PNG, with its whole request inside."""
        return await self._do(calls.fetch(f"{job_path(job)}/images/{k}"))

    async def request(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Any other call of the API; repeated where that does no harm. ApiError for a refusal."""
        return await self._do(calls.send(Ask(method, path, body)))

    async def stream(self, job: Job | str) -> AsyncIterator[Event]:
        """Events until the job has ended, across broken connections."""
        tape = Tape()
        while not tape.ended:
            lost: httpx.TransportError | None = None
            try:
                async with self._http.stream(
                    "GET", job_path(job) + "/events", headers=tape.connect(), timeout=STREAM_TIMEOUT
                ) as response:
                    if not response.is_success:
                        await response.aread()
                        raise ApiError(response)
                    async for chunk in response.aiter_bytes():
                        for event in tape.feed(chunk):
                            yield event
                        if tape.ended:
                            return
            except httpx.TransportError as error:
                lost = error
            await asyncio.sleep(tape.broke(lost))

    async def _do(self, call: Call[T]) -> T:
        try:
            step = next(call)
            while True:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = call.send(None)
                    continue
                try:
                    response = await self._http.request(**wire(step))
                except httpx.TransportError as error:
                    step = call.throw(error)
                else:
                    step = call.send(response)
        except StopIteration as done:
            return done.value

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.close()


def bearer(api_key: str | None) -> dict[str, str]:
    """The header that carries a key; without one, that of LODESTAR_API_KEY."""
    api_key = api_key or os.environ.get("LODESTAR_API_KEY")
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}
