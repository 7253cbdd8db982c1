"""One claimed job on its way through the worker: encode, sample, decode, score, store."""

from __future__ import annotations

import asyncio
import hashlib
import json
import platform
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import diffusers
import torch
from PIL import Image
from torch import Tensor

from app.costs import Cost, cost_of, work_ms
from app.jobs import ImageResult, JobResult, Priority, Progress, Resolved, Stage
from app.queue.base import Beat, Claim, JobQueue, rows_of
from app.storage.base import Storage, init_key, job_prefix, trace_key
from samplers.loop import Final
from samplers.models.base import Model
from samplers.qr import CodeCourse
from samplers.steps import Plan
from workers import meters
from workers.account import Account, per_image
from workers.course import Course, chart
from workers.darkroom import Darkroom, means
from workers.engine import Engine
from workers.shelf import Shelf
from workers.telemetry import Telemetry
from workers.ticket import Outcome, Ticket

REPORT_S = 0.25
"""At least this long between two `progress` or two `guidance` events of a job."""
TRACE_S = 1.0
"""At least this long between two writes of a running job's trace."""
HANDICAP_S: dict[Priority, float] = {"interactive": 0.0, "normal": 5.0, "batch": 30.0}
"""So much later do a job's runs count as come: at every step the urgent go first, and none starves."""

Ending = Literal["cancel", "lost", "release"]


@dataclass(frozen=True, slots=True)
class Bench:
    """What jobs are worked on with.

    `lane` is the one thread that calls models outside of the step loop, `loader` the one that loads them;
    `scorers` holds metrics' models, `families` counts the jobs at hand that begin alike.
    """

    shelf: Shelf
    engine: Engine
    queue: JobQueue
    storage: Storage
    lane: Executor
    loader: Executor
    scorers: Path
    families: Counter[Hashable] = field(default_factory=Counter[Hashable])


class HeldJob:
    """A leased job. `work` does all of it; `report` tells what is new; cancel the task around it to stop.

    `on_room` is called when it needs fewer rows than before.
    """

    def __init__(self, claim: Claim, bench: Bench, on_room: Callable[[], None]) -> None:
        self.id = claim.id
        self.prefix = job_prefix(claim.id, claim.created_at_ms)
        self.ending: Ending | None = None
        self.handed_in = False
        self.task: asyncio.Task[None] | None = None
        self.claim = claim
        self._spec = claim.resolved
        self._bench = bench
        self._on_room = on_room
        self._stage: Stage = "loading"
        self._loaded: tuple[int, int] | None = None
        self._telemetry: Telemetry | None = None
        self._reported = Progress()
        self._previewing: asyncio.Task[None] | None = None
        self._kept: dict[int, list[int]] = {}
        self._events: list[tuple[str, dict[str, Any]]] = []
        self._account = Account(queue_ms=max(0, claim.claimed_at_ms - claim.created_at_ms))
        self._reported_at = self._trace_at = 0.0
        self.rows_per_image = rows_of(self._spec) // len(self._spec.seeds)
        self.images_left = len(self._spec.seeds)
        self.cost: Cost | None = None
        """What it cost, when it is done."""
        self._family = family_of(self._spec)
        bench.families[self._family] += 1

    @property
    def rows(self) -> int:
        """Rows that it still takes of each forward."""
        return self.rows_per_image * self.images_left

    async def work(self) -> JobResult:
        """Make and store all images. Raises what goes wrong; canceling it ends its runs before it returns."""
        shelf, name = self._bench.shelf, self._spec.model
        while (model := shelf.borrow(name)) is None:  # a model that others need may make it go again
            loop = asyncio.get_running_loop()
            spent_ms = await loop.run_in_executor(self._bench.loader, shelf.load, name, self._on_part)
            self._account.add("load_ms", spent_ms)
        try:
            return await self._work_with(model)
        finally:
            shelf.give_back(name)

    @cached_property
    def _darkroom(self) -> Darkroom:
        bench, spec = self._bench, self._spec
        scorers = {name: bench.scorers / name for name in spec.metrics}
        scorers["clip"] = Path(bench.shelf.catalogue.models[spec.model].source) / "scorer"
        return Darkroom(spec, self.prefix, bench.storage, bench.lane, scorers, self._account)

    def leave(self) -> None:
        """Be no longer at hand."""
        self._bench.families[self._family] -= 1
        if not self._bench.families[self._family]:
            del self._bench.families[self._family]

    def _on_part(self, part: str, place: int, count: int) -> None:
        """Called by the loader's thread before each part of the model."""
        self._loaded = (place, count)

    async def _work_with(self, model: Model) -> JobResult:
        spec = self._spec
        self._stage = "encoding"
        picture, mask = await self._stored("init_image"), await self._stored("mask")
        course = await self._account.timed("encode_ms", self._bench.lane, chart, model, spec, picture, mask)
        self._telemetry = Telemetry(spec.seeds, course.steps, spec.preview_every)
        self._stage = "denoising"
        tickets, futures = self._submit(course)
        try:
            made = await asyncio.gather(
                *(self._develop(model, index, future) for index, future in enumerate(futures))
            )
        finally:
            for ticket in tickets:
                self._bench.engine.cancel(ticket)
            if self._previewing is not None:
                self._previewing.cancel()
            await asyncio.wait(futures)
        trace = await asyncio.to_thread(self._telemetry.trace)
        key = trace_key(self.prefix, hashlib.sha256(trace).hexdigest())
        await self._bench.storage.put(key, trace)
        self._account.stored(trace)
        images = [image for images in made for image in images]
        outcomes = [future.result() for future in futures]
        self.cost = self._account.cost(spec, outcomes)
        return JobResult(
            images=images,
            trace_key=key,
            nfe=per_image(outcomes),
            timings=self._account.timings(),
            metrics=means([image.metrics for image in images]),
            warnings=[*course.warnings, *self._darkroom.warnings(images)],
            ran=self._ran(model, course.plan) | course.read,
        )

    def left_ms(self, costs: Iterable[Cost]) -> float:
        """How long a worker is still busy with it, by what was measured."""
        cost = cost_of(self._spec, costs)
        return 0.0 if cost is None else work_ms(self._spec, cost) * (1 - self._progress().fraction)

    async def report(self, last: bool = False) -> Beat:
        """What is new since the last call. Steps and scalars come at most every `REPORT_S`, and at last."""
        now = time.monotonic()
        due = last or now - self._reported_at >= REPORT_S
        progress, known = self._progress(), self._reported
        changed = progress != known and (due or progress.stage != known.stage)
        if changed:
            self._reported = progress
        if due:
            self._reported_at = now
            if self._telemetry is not None:
                await self._report_runs(self._telemetry, now)
        events, self._events = self._events, []
        return Beat(self.id, progress if changed else None, events)

    async def _report_runs(self, telemetry: Telemetry, now: float) -> None:
        if rows := await asyncio.to_thread(telemetry.read):
            self._events.append(("guidance", {"rows": rows}))
        if self._previewing is None or self._previewing.done():  # decoding may take longer than a lease
            self._previewing = asyncio.create_task(self._preview(telemetry.previews()))
        if now - self._trace_at >= TRACE_S:
            self._trace_at = now
            await self._bench.queue.put_blob(f"trace:{self.id}", telemetry.trace())

    def _progress(self) -> Progress:
        if self._stage == "loading" and self._loaded is not None:
            step, total = self._loaded
            return Progress(step=step, total=total, stage="loading")
        if self._telemetry is None:
            return Progress(total=len(self._spec.seeds) * self._spec.steps_run, stage=self._stage)
        return Progress(step=self._telemetry.done, total=self._telemetry.total, stage=self._stage)

    async def _stored(self, name: Literal["init_image", "mask"]) -> Image.Image | None:
        """The picture that the runs start from, or its mask, as the API fitted it."""
        reference = getattr(self._spec, name)
        if reference is None:
            return None
        data = await self._bench.storage.get(init_key(self.id, reference))
        if data is None:
            raise ValueError(f"the {name} of this job is no longer stored; send it again in a new job")
        return Image.open(BytesIO(data))

    def _submit(self, course: Course | CodeCourse) -> tuple[list[Ticket], list[asyncio.Future[Outcome]]]:
        """One run per seed, all in the engine's hands, and a future for how each ends."""
        loop = asyncio.get_running_loop()
        tickets, futures = list[Ticket](), list[asyncio.Future[Outcome]]()
        assert self._telemetry is not None
        for index, seed in enumerate(self._spec.seeds):
            future: asyncio.Future[Outcome] = loop.create_future()
            steps = course.run(seed, self._telemetry.observer(index))

            def ended(outcome: Outcome, future: asyncio.Future[Outcome] = future) -> None:
                loop.call_soon_threadsafe(future.set_result, outcome)

            handicap_s = HANDICAP_S[self._spec.priority]
            family = (self._family, seed) if self._bench.families[self._family] > 1 else None
            ticket = Ticket(self._spec.model, steps, ended, course.work, handicap_s, family)
            tickets.append(self._bench.engine.submit(ticket))
            futures.append(future)
        return tickets, futures

    async def _develop(self, model: Model, index: int, future: asyncio.Future[Outcome]) -> list[ImageResult]:
        """Wait for a run and make pictures of its latents: one, or one per particle that it keeps."""
        await asyncio.wait([future])  # unlike `await future`, leaves it alone when this task is canceled
        outcome = future.result()
        meters.evaluate(self._spec, outcome.nfe)
        self.images_left -= 1
        self._on_room()
        if outcome.error is not None:
            raise outcome.error
        if outcome.final is None:
            raise asyncio.CancelledError
        self._account.longest("denoise_ms", outcome.denoise_ms)
        if not self.images_left:
            self._stage = "decoding"
        return [
            await self._picture(model, index, particle, outcome.final)
            for particle in range(len(outcome.final.latents))
        ]

    async def _picture(self, model: Model, index: int, particle: int, final: Final) -> ImageResult:
        image = await self._darkroom.picture(model, final, index, particle)
        if particle == 0:
            image = image.model_copy(update={"previews": self._kept.get(index, [])})
        self._events.append(("image", image.model_dump(exclude={"key"})))
        return image

    async def _preview(self, due: Mapping[int, tuple[int, Tensor]]) -> None:
        model = self._bench.shelf.loaded[self._spec.model]
        for index, (step, denoised) in due.items():
            data = await self._darkroom.preview(model, index, step, denoised[:1])
            self._kept.setdefault(index, []).append(step)
            await self._bench.queue.put_blob(f"preview:{self.id}:{index}", data)
            self._events.append(("preview", {"index": index, "step": step}))

    def _ran(self, model: Model, plan: Plan) -> dict[str, Any]:
        engine = self._bench.engine
        return {
            "guidance": self._spec.guidance.planned(plan.steps).model_dump(mode="json"),
            "device": str(model.device),
            "dtype": str(model.dtype).removeprefix("torch."),
            "determinism": engine.determinism,
            "max_rows": engine.max_rows,
            "profile": self._bench.shelf.profile,
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "host": platform.machine(),
            "scorers": self._darkroom.scored_by(),
        }


def family_of(spec: Resolved) -> Hashable:
    """What jobs have in common whose runs begin alike: all but guidance and what becomes of the pictures."""
    told = spec.model_dump(mode="json", exclude={"guidance", "classes", "seeds", "metrics"})
    return json.dumps(told | {"preview_every": 0, "priority": ""}, sort_keys=True)
