"""The worker process: claim jobs, drive them through the engine, report, hand in; and survive what happens.

Each job is held under a lease that `beat` renews. A lease that is lost (the queue gave the job to another, or
it was canceled) ends the work before the next forward. Told to stop, the worker claims nothing more, finishes
what it can in `drain_s` and gives the rest back unharmed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import secrets
import signal
from collections.abc import Awaitable, Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import diffusers
import torch
import transformers
from redis.exceptions import RedisError

from app import logs, tracing
from app.background import every, pause
from app.catalogue import load_catalogue
from app.costs import Cost
from app.queue.base import Beat, Claim, JobQueue, WorkerCard
from app.queue.redis import RedisQueue
from app.settings import Settings
from app.storage.base import Storage, job_prefix
from app.storage.opening import open_storage
from samplers.models import device_of
from samplers.models.profiles import unavailable
from workers import meters
from workers.engine import Engine
from workers.errors import explain
from workers.job import Bench, Ending, HeldJob
from workers.shelf import ModelUnavailable, Shelf
from workers.ticket import Outcome, Ticket
from workers.warmup import warm_up

CLAIM_WAIT_S = 1.0
ANNOUNCE_S = 3.0
PARENT = "LODESTAR_PARENT_PID"
"""Set by whoever starts a worker that shall stop when its parent is gone."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class Worker:
    """One process's worth of serving: an engine thread, a thread for other model calls, and this loop."""

    def __init__(self, settings: Settings, queue: JobQueue, storage: Storage) -> None:
        self.id = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._settings = settings
        self._queue = queue
        self._held: dict[str, HeldJob] = {}
        self._costs: dict[Hashable, Cost] = {}
        self._shelf = Shelf(load_catalogue(settings.catalogue), settings)
        self._engine = Engine(
            self._shelf.loaded,
            settings.max_rows,
            settings.policy,
            settings.determinism,
            settings.ageing,
            calibrate=settings.calibrate,
        )
        self._lane = ThreadPoolExecutor(1, "model")
        self._loader = ThreadPoolExecutor(1, "loader")
        self._bench = Bench(
            self._shelf, self._engine, queue, storage, self._lane, self._loader, settings.scorers_dir
        )
        self._stopping = asyncio.Event()
        self._drained = asyncio.Event()
        self._room = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        """Serve until told to stop; the process's exit code."""
        self._engine.start()
        await self._preload()
        lease_s = self._settings.lease_ms / 1e3
        background = [
            asyncio.create_task(every(self._settings.beat_ms / 1e3, self._beat, self._drained)),
            asyncio.create_task(every(ANNOUNCE_S, self._announce, self._drained)),
            asyncio.create_task(every(min(5.0, lease_s / 2), self._queue.sweep, self._drained)),
        ]
        log.info("worker %s serves %s", self.id, ", ".join(self._shelf.offered))
        await self._claim()
        await self._drain()
        self._drained.set()
        await asyncio.gather(*background)
        await asyncio.to_thread(self._engine.close)
        for executor in (self._lane, self._loader):
            executor.shutdown(cancel_futures=True)
        try:
            await self._queue.retire(self.id)
        except (RedisError, OSError):
            log.warning("could not say goodbye: the queue is not reachable")
        log.info("worker %s stopped", self.id)
        return self._exit_code

    def stop(self) -> None:
        """Stop claiming and drain; told again, give everything back at once."""
        if self._stopping.is_set():
            self._end_all("release")
        self._stopping.set()
        self._room.set()

    async def _preload(self) -> None:
        """Load the default model and run it once before work comes, so that the first job need not wait."""
        loop, card = asyncio.get_running_loop(), self._shelf.catalogue.default
        try:
            await loop.run_in_executor(self._loader, self._shelf.load, card.id)
            steps = await loop.run_in_executor(self._loader, warm_up, self._shelf.loaded[card.id], card)
        except ModelUnavailable:
            log.warning("serving without the default model")
            return
        except ValueError as error:
            log.error("the default model does not take its own defaults: %s", error)
            return
        ended: asyncio.Future[Outcome] = loop.create_future()

        def end(outcome: Outcome) -> None:
            loop.call_soon_threadsafe(ended.set_result, outcome)

        self._engine.submit(Ticket(card.id, steps, end))
        if (error := (await ended).error) is not None:
            log.error("the default model does not run: %s", error)

    async def _claim(self) -> None:
        """Take as many jobs as there are free rows, until told to stop."""
        while not self._stopping.is_set():
            self._room.clear()
            free = self._settings.max_rows - sum(job.rows for job in self._held.values())
            if free <= 0:
                await self._room.wait()
                continue
            models = list(self._shelf.catalogue.models)  # those that failed too: their jobs get an answer
            loaded = list(self._shelf.loaded)
            try:
                claims = await self._queue.claim(self.id, models, free, CLAIM_WAIT_S, loaded)
            except (RedisError, OSError) as error:
                log.warning("the queue is not reachable (%s); trying again", error)
                await pause(1.0, self._stopping)
                continue
            except Exception:
                log.exception("claiming went wrong; trying again")
                await pause(1.0, self._stopping)
                continue
            if self._stopping.is_set():
                taken = [claim.id for claim in claims]
                await self._insist(partial(self._queue.release, self.id, taken))
                return
            for claim in claims:
                self._take(claim)

    def _take(self, claim: Claim) -> None:
        if claim.id in self._held:  # lost while the queue was away, and found again
            self._end(self._held[claim.id], "lost")
        job = HeldJob(claim, self._bench, self._room.set)
        self._held[claim.id] = job
        job.task = asyncio.create_task(self._serve(job))

    async def _serve(self, job: HeldJob) -> None:
        """See one job to its end, whichever that is."""
        logs.JOB.set(job.id)
        with tracing.span("job", job.claim.traceparent, lodestar_job_id=job.id, lodestar_worker_id=self.id):
            await self._see_through(job)

    async def _see_through(self, job: HeldJob) -> None:
        log.info("job %s: begun", job.id)
        outcome = "failed"
        try:
            result = await job.work()
            meters.spend(result.timings)
            await self._insist(lambda: self._beat([job], last=True))
            job.handed_in = True
            await self._learn(job)
            kept = await self._insist(lambda: self._queue.finish(self.id, job.id, result))
            log.info("job %s: %s", job.id, "done" if kept else "dropped, somebody else has it")
            outcome = "succeeded" if kept else "lost"
            if not kept:
                await self._insist(lambda: self._clear(job))
        except asyncio.CancelledError:
            log.info("job %s: stopped (%s)", job.id, job.ending)
            outcome = str(job.ending)
            if job.ending == "lost":
                await self._insist(lambda: self._clear(job))
            if job.ending == "cancel":
                await self._insist(lambda: self._queue.stop(self.id, job.id))
            if job.ending == "release":
                await self._insist(lambda: self._queue.release(self.id, [job.id]))
        except Exception as error:
            problem = explain(error)
            log.error("job %s: failed (%s): %s", job.id, problem.code, error, exc_info=problem.retryable)
            await self._insist(lambda: self._queue.fail(self.id, job.id, problem))
            if isinstance(error, ModelUnavailable):
                await self._insist(self._announce)
            if isinstance(error, torch.AcceleratorError):
                log.critical("the accelerator is in an undefined state; a new process is needed")
                self._exit_code = 1
                self.stop()
        finally:
            job.leave()
            meters.JOBS.labels(job.claim.resolved.model, outcome).inc()
            if self._held.get(job.id) is job:
                del self._held[job.id]
            self._room.set()

    async def _learn(self, job: HeldJob) -> None:
        """Keep what a job cost: the first measurement, told at once, then a moving average."""
        assert job.cost is not None
        key = (job.cost.model, job.cost.width, job.cost.height, job.cost.method)
        if key in self._costs:
            self._costs[key] = self._costs[key].moved(job.cost)
        else:
            self._costs[key] = job.cost
            await self._insist(self._announce)

    async def _clear(self, job: HeldJob) -> None:
        """Delete what was stored for a job that was deleted meanwhile."""
        record = await self._queue.get(job.id)
        if record is None or job.prefix != job_prefix(record.id, record.created_at_ms):
            await self._bench.storage.delete_prefix(job.prefix)

    async def _beat(self, jobs: Sequence[HeldJob] = (), last: bool = False) -> None:
        """Renew leases (all by default), report, end the jobs that are lost or shall be canceled."""
        jobs = jobs or list(self._held.values())
        if not jobs:
            return
        beats = [await self._report(job, last) for job in jobs]
        answers = await self._queue.beat(self.id, beats)
        for job in jobs:
            answer = answers.get(job.id, "lost")
            if answer != "ok" and not job.handed_in:  # then `finish` itself answers whether it came too late
                self._end(job, answer)

    async def _report(self, job: HeldJob, last: bool) -> Beat:
        """What one job has to tell; whatever goes wrong with that, its lease is renewed."""
        try:
            return await job.report(last)
        except Exception:
            log.exception("job %s: could not tell how far it is", job.id)
            return Beat(job.id)

    async def _announce(self) -> None:
        parent = os.environ.get(PARENT)
        if parent and os.getppid() != int(parent) and not self._stopping.is_set():
            log.warning("the process that started this worker is gone")
            self.stop()
        card = WorkerCard(
            id=self.id,
            host=platform.node(),
            pid=os.getpid(),
            device=self._device(),
            models=self._shelf.offered,
            rows=sum(job.rows for job in self._held.values()),
            max_rows=self._settings.max_rows,
            left_ms=sum(job.left_ms(self._costs.values()) for job in self._held.values()),
            costs=list(self._costs.values()),
        )
        await self._queue.announce(card, ttl_s=int(ANNOUNCE_S * 5))

    def _device(self) -> str:
        devices = {str(model.device) for model in self._shelf.loaded.values()}
        return ", ".join(sorted(devices)) or self._settings.device

    async def _drain(self) -> None:
        tasks = [job.task for job in self._held.values() if job.task is not None]
        if not tasks:
            return
        log.info("finishing %d jobs, for at most %.0f s", len(tasks), self._settings.drain_s)
        await asyncio.wait(tasks, timeout=self._settings.drain_s)
        self._end_all("release")
        await asyncio.wait(tasks)

    def _end_all(self, ending: Ending) -> None:
        for job in self._held.values():
            self._end(job, ending)

    def _end(self, job: HeldJob, ending: Ending) -> None:
        if job.ending is None and job.task is not None:
            job.ending = ending
            job.task.cancel()

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """Hand something in, however often the queue is away; None when it stays away for a lease."""
        for _ in range(max(3, self._settings.lease_ms // 500)):
            try:
                return await call()
            except (RedisError, OSError) as error:
                log.warning("the queue is not reachable (%s); trying again", error)
                await asyncio.sleep(0.5)
        return None


def main(settings: Settings) -> int:
    """Run a worker until it is told to stop; the exit code. ValueError where this machine cannot."""
    logs.configure(settings, "%(asctime)s %(levelname)s %(name)s: %(message)s")
    tracing.configure("lodestar-worker")
    if settings.metrics_port is not None:
        meters.serve(settings.metrics_host, settings.metrics_port)
    if settings.log_level != "debug":
        for library in (diffusers, transformers):  # a log has no use for their bars and notices
            library.utils.logging.disable_progress_bar()
            library.utils.logging.set_verbosity_error()
    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    if reason := unavailable(settings.profile, device_of(settings.device)):
        raise ValueError(reason)
    return asyncio.run(_main(settings))


async def _main(settings: Settings) -> int:
    queue = RedisQueue.connect(settings)
    worker = Worker(settings, queue, open_storage(settings))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    try:
        return await worker.run()
    finally:
        await queue.close()
