"""One run of a batch: rows into the queue, a bounded number at a time, and what ends out of it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from app.admission import Refused
from app.background import pause
from app.batch.results import BatchError
from app.batch.rows import Row, asked, job_id
from app.batch.saving import NoPicture, Saver
from app.jobs import TERMINAL, JobStatus
from app.queue.base import JobQueue, NewJob
from app.queue.refusals import IdempotencyConflict, QueueFull

CHUNK = 200
"""Rows read and queued in one go."""
SAVES = 16
"""Jobs whose pictures are fetched at once."""
LOOK_S = 0.1
"""Between two looks at jobs of which none had ended."""
HINT_S = 5.0
"""When nothing has happened for so long, it is looked into why."""
SHOWN = 20
"""Refused rows that are told one by one; `results.jsonl` has all."""


@dataclass
class Tally:
    """How many rows came to what."""

    kept: int = 0
    """Done by an earlier run into the same folder."""
    succeeded: int = 0
    refused: int = 0
    failed: int = 0
    """Failed, canceled, expired or deleted."""
    images: int = 0
    waiting: int = 0
    """Queued, and left there because the run was stopped."""
    stopped: bool = False

    @property
    def good(self) -> bool:
        """Whether every row has its pictures."""
        return not (self.refused or self.failed or self.stopped)


@dataclass(frozen=True, slots=True)
class Entry:
    """A row on its way."""

    line: int
    request: dict[str, Any]
    job: NewJob


class Run:
    """What is read but not queued is `pending`, what is queued is `flying`; the tally has the rest."""

    def __init__(
        self,
        admit: Callable[[str, Mapping[str, Any], str], NewJob],
        in_flight: int,
        queue: JobQueue,
        saver: Saver,
        defaults: Mapping[str, Any],
        bar: Any,
        stop: asyncio.Event,
    ) -> None:
        self._admit = admit
        self._in_flight = in_flight
        self._queue = queue
        self._saver = saver
        self._defaults = defaults
        self._bar = bar
        self._stop = stop
        self._tally = Tally()
        self._pending: deque[Entry] = deque()
        self._flying: dict[str, Entry] = {}
        self._room_at = 0.0
        self._moved_at = time.monotonic()

    async def go(self, rows: Iterable[Row]) -> Tally:
        """Read, queue and collect until nothing is left, or until told to stop."""
        source = enumerate(rows, 1)
        more = True
        while not self._stop.is_set() and (more or self._pending or self._flying):
            read = 0
            while more and read < CHUNK and self._held < self._in_flight:
                line, row = next(source, (0, None))
                more = line > 0
                read += 1
                if row is not None:
                    self._take(line, row)
            moved = await self._submit() + await self._collect() + read
            await self._breathe(bool(moved))
        self._tally.waiting = len(self._flying)
        self._tally.stopped = self._stop.is_set()
        return self._tally

    @property
    def _held(self) -> int:
        return len(self._pending) + len(self._flying)

    def _take(self, line: int, row: Any) -> None:
        """Admit a row, unless an earlier run did it already."""
        folder = self._saver.folder
        request: dict[str, Any] = {}
        try:
            request = asked(row, self._defaults)
            entry_id = job_id(folder.id, line, request)
            before = folder.results.get(line)
            if before and before["id"] == entry_id and before["status"] == "succeeded" and folder.has(before):
                self._tally.kept += 1
                self._bar.update()
                return
            job = self._admit(entry_id, request, tag_of(folder.id))
        except Refused as refused:
            self._refuse(line, request, refused)
        else:
            self._pending.append(Entry(line, request, job))

    def _refuse(self, line: int, request: dict[str, Any], refused: Refused) -> None:
        self._saver.refuse(line, request, refused)
        self._tally.refused += 1
        self._bar.update()
        for refusal in refused.refusals:
            self._tell(f"line {line} refused: {refusal.pointer or 'row'}: {refusal.detail}")

    def _tell(self, text: str) -> None:
        """Say what is wrong with a row; after some, that the file has the others."""
        count = self._tally.refused + self._tally.failed
        if count <= SHOWN:
            self._bar.write(text, file=self._bar.fp)
        elif count == SHOWN + 1:
            self._bar.write("further ones are in results.jsonl only", file=self._bar.fp)

    async def _submit(self) -> int:
        """Queue what is pending; the number that found room."""
        if not self._pending or time.monotonic() < self._room_at:
            return 0
        entries, self._pending = list(self._pending), deque()
        answers = await self._queue.enqueue_many([entry.job for entry in entries])
        for entry, answer in zip(entries, answers, strict=True):
            match answer:
                case QueueFull():
                    self._pending.append(entry)
                    self._room_at = time.monotonic() + answer.retry_after_s
                case IdempotencyConflict():  # only an edited queue can answer so
                    raise BatchError(
                        f"line {entry.line}: job {entry.job.id} is another one; use a new folder"
                    )
                case record, created:
                    self._flying[entry.job.id] = entry
                    if not created and record.status in TERMINAL and record.status != JobStatus.SUCCEEDED:
                        await self._again(entry)
        return len(entries) - len(self._pending)

    async def _again(self, entry: Entry) -> None:
        """A job that failed in an earlier run gets another attempt."""
        try:
            await self._queue.retry(entry.job.id)
        except QueueFull as full:
            del self._flying[entry.job.id]
            self._pending.append(entry)
            self._room_at = time.monotonic() + full.retry_after_s

    async def _collect(self) -> int:
        """Save what has ended; how many."""
        ids = list(self._flying)
        found = await self._queue.statuses(ids)
        ended = [one for one, status in zip(ids, found, strict=True) if status is None or status in TERMINAL]
        if ended:  # so there is room again
            self._room_at = 0.0
        for begin in range(0, len(ended), SAVES):
            if self._stop.is_set():
                break
            some = [self._flying[one] for one in ended[begin : begin + SAVES]]
            outcomes = await asyncio.gather(
                *(self._saver.save(entry.line, entry.request, entry.job.id) for entry in some),
                return_exceptions=True,
            )
            for entry, outcome in zip(some, outcomes, strict=True):
                if isinstance(outcome, NoPicture):
                    raise BatchError(str(outcome)) from outcome
                if isinstance(outcome, BaseException):
                    raise outcome
                del self._flying[entry.job.id]
                self._count(entry.line, outcome)
        return len(ended)

    def _count(self, line: int, outcome: dict[str, Any]) -> None:
        if outcome["status"] == "succeeded":
            self._tally.succeeded += 1
            self._tally.images += len(outcome["images"])
        else:
            self._tally.failed += 1
            reason = (outcome["error"] or {}).get("message", "no reason was given")
            self._tell(f"line {line} {outcome['status']}: {reason}")
        self._bar.update()

    async def _breathe(self, moved: bool) -> None:
        """Wait a moment if nothing happened; where that lasts, look for the reason."""
        if moved:
            self._moved_at = time.monotonic()
            self._bar.set_description(None, refresh=False)
            await asyncio.sleep(0)
            return
        if self._flying and time.monotonic() - self._moved_at > HINT_S:
            wanted = {entry.job.resolved.model for entry in self._flying.values()}
            served = {model for worker in await self._queue.workers() for model in worker.models}
            if unserved := sorted(wanted - served):
                self._bar.set_description(f"waiting for a worker that serves {', '.join(unserved)}")
            self._moved_at = time.monotonic()
        await pause(LOOK_S, self._stop)


def tag_of(batch: Any) -> str:
    """The tag of all jobs of a batch; `GET /v1/jobs?tag=` lists them."""
    return f"batch:{batch}"
