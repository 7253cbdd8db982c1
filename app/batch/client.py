"""The queue client: 100,000 prompts in a memory that does not grow.

    client = BatchClient(Settings(data_dir=Path("data")))          # where `lodestar serve` keeps its queue
    tally = client.run(prompts, Path("out"), defaults={"guidance": {"method": "apg", "scale": 10}})

It speaks to Redis itself, many jobs in one round trip, and keeps at most `in_flight` of them in the queue. A
job's id follows from the batch, the line and the request, so a batch that is run again takes up what it left
in the queue and does nothing twice.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Iterable, Mapping, Sized
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError
from tqdm import tqdm

from app.admission import new_job
from app.batch.results import BatchError, Folder, batch_id
from app.batch.rows import Row, admit
from app.batch.run import Run, Tally, tag_of
from app.batch.saving import Fetch, Saver, from_storage
from app.catalogue import load_catalogue
from app.jobs import RUNNING, JobStatus
from app.queue.base import NewJob
from app.queue.embedded import NoServer, running_server
from app.queue.redis import RedisQueue
from app.settings import Settings

PAGE = 500


class BatchClient:
    """Runs batches on the service whose queue `settings` name. One run at a time.

    Pictures come from the service's storage in `settings.data_dir`, or from `fetch`. Raises BatchError.
    """

    def __init__(self, settings: Settings | None = None, *, in_flight: int = 256, fetch: Fetch | None = None):
        settings = settings or Settings()
        if in_flight < 1:
            raise BatchError(f"in_flight is {in_flight}; at least one job must be in flight")
        try:
            url = settings.redis_url or running_server(settings.data_dir)
            self._catalogue = load_catalogue(settings.catalogue)
        except (NoServer, ValueError) as error:
            raise BatchError(str(error)) from error
        self._settings = settings.model_copy(update={"redis_url": url})
        self._in_flight = in_flight
        self._fetch = fetch or from_storage(settings)

    def run(
        self,
        rows: Iterable[Row],
        out: Path,
        *,
        defaults: Mapping[str, Any] | None = None,
        total: int | None = None,
    ) -> Tally:
        """Have every row done, with a progress bar. Ctrl-C stops cleanly; the same call goes on.

        A row is a JobSpec, a mapping like the body of `POST /v1/jobs`, or a prompt; `defaults` fill up what
        it does not say. Rows that are refused or fail are reported and do not stop the others.
        """

        async def work() -> Tally:
            stop = asyncio.Event()
            with _interrupt(stop):
                return await self.arun(rows, out, defaults=defaults, total=total, stop=stop)

        return asyncio.run(work())

    async def arun(
        self,
        rows: Iterable[Row],
        out: Path,
        *,
        defaults: Mapping[str, Any] | None = None,
        total: int | None = None,
        stop: asyncio.Event | None = None,
    ) -> Tally:
        """`run` for asyncio; `stop` takes the place of Ctrl-C."""
        if total is None and isinstance(rows, Sized):
            total = len(rows)
        with Folder(out) as folder, tqdm(total=total, unit="row", mininterval=0.2) as bar:
            async with self._queue() as queue:
                saver = Saver(queue, folder, self._fetch)
                settled = {"priority": "batch", **(defaults or {})}
                run = Run(self._admit, self._in_flight, queue, saver, settled, bar, stop or asyncio.Event())
                try:
                    return await run.go(rows)
                finally:
                    folder.results.tidy()

    async def acancel(self, out: Path) -> int:
        """End the jobs that a stopped batch left in the queue; how many."""
        count, after = 0, None
        open_ones = [JobStatus.QUEUED, *RUNNING]
        async with self._queue() as queue:
            tag = tag_of(batch_id(out))
            while True:
                page = await queue.list(limit=PAGE, after=after, order="asc", status=open_ones, tag=tag)
                for record in page.records:
                    await queue.cancel(record.id)
                count += len(page.records)
                if not page.has_more:
                    return count
                after = page.records[-1].id

    def cancel(self, out: Path) -> int:
        """`acancel`, waited for."""
        return asyncio.run(self.acancel(out))

    def _admit(self, entry_id: str, request: Mapping[str, Any], tag: str) -> NewJob:
        """The job of a request. Its client is the batch itself: others keep their turns. Raises Refused."""
        spec, resolved = admit(request, self._catalogue, self._settings)
        job = new_job(entry_id, spec, resolved)
        return replace(job, client=tag, tags=[*job.tags, tag])

    @asynccontextmanager
    async def _queue(self) -> AsyncGenerator[RedisQueue]:
        try:
            queue = RedisQueue.connect(self._settings)
        except ValueError as error:
            raise BatchError(f"{self._settings.redis_url!r} is no address of a queue: {error}") from error
        try:
            await queue.ping()
            yield queue
        except (RedisError, OSError, TimeoutError) as error:
            if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
                raise BatchError(f"cannot go on: {error}") from error
            raise BatchError(
                f"the queue does not answer ({error or type(error).__name__}); see that it runs, then give "
                "the same command again: it goes on where it stopped"
            ) from error
        finally:
            await queue.close()


@contextmanager
def _interrupt(stop: asyncio.Event) -> Any:
    """Ctrl-C stops between two steps; a second one at once, which harms nothing either."""
    loop = asyncio.get_running_loop()

    def on_signal(*_: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        loop.call_soon_threadsafe(stop.set)

    try:
        before = signal.signal(signal.SIGINT, on_signal)
    except ValueError:  # not the main thread: Ctrl-C is not ours
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
