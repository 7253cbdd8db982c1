"""What workers do: take jobs on lease, renew, and give them back one way or the other."""

from __future__ import annotations

import builtins
import time
from collections.abc import Collection, Sequence
from typing import Any

from redis.exceptions import NoScriptError

from app.jobs import JobError, JobResult, Resolved
from app.meters import QUEUE_SECONDS
from app.queue.base import Beat, BeatAnswer, Claim
from app.queue.keys import Key
from app.queue.records import compact
from app.queue.roundtrips import Argument
from app.queue.scripted import Scripted

BLOCK_S = 5.0
"""The longest that one command waits at the server; below SOCKET_S, or the client would give up first."""


class Leasing(Scripted):
    """The part of a `JobQueue` that workers use."""

    async def claim(
        self,
        worker: str,
        models: Collection[str],
        cost: float,
        wait_s: float = 0.0,
        loaded: Collection[str] | None = None,
    ) -> builtins.list[Claim]:
        """Lease jobs; with none there, wait for a bell or for a lease or delay that runs out."""
        near = [model for model in models if loaded is None or model in loaded]
        far = [model for model in models if model not in near]
        deadline = time.monotonic() + wait_s
        bells = [self._keys(Key.BELL, model) for model in models]
        while True:
            due_ms, *rows = await self._claim([worker, cost, len(near), *near, *far])
            left_s = deadline - time.monotonic()
            if rows or left_s <= 0 or not models:
                return [
                    Claim(job_id, attempt, Resolved.model_validate_json(resolved), int(created), now, parent)
                    for job_id, attempt, resolved, created, now, parent in rows
                ]
            pause_s = min(left_s, BLOCK_S) if due_ms < 0 else min(left_s, BLOCK_S, due_ms / 1e3)
            await self._once.blpop(bells, max(0.001, pause_s))

    async def beat(self, worker: str, beats: Sequence[Beat]) -> dict[str, BeatAnswer]:
        """Renew leases and report."""
        if not beats:
            return {}
        args: builtins.list[str | int] = [worker]
        for one in beats:
            progress = one.progress.model_dump_json() if one.progress is not None else ""
            args += [one.id, progress, len(one.events)]
            for kind, data in one.events:
                args += [kind, compact(data)]
        answers: builtins.list[BeatAnswer] = await self._run("beat", args)
        return {one.id: answer for one, answer in zip(beats, answers, strict=True)}

    async def finish(self, worker: str, job_id: str, result: JobResult) -> bool:
        """Hand in a result."""
        return bool(await self._run("finish", [worker, job_id, result.model_dump_json()]))

    async def fail(self, worker: str, job_id: str, error: JobError) -> bool:
        """Hand in a failure."""
        return bool(await self._run("fail", [worker, job_id, error.model_dump_json(), int(error.retryable)]))

    async def stop(self, worker: str, job_id: str) -> bool:
        """Confirm a cancellation."""
        return bool(await self._run("stop", [worker, job_id]))

    async def release(self, worker: str, job_ids: Sequence[str]) -> None:
        """Give jobs back."""
        await self._run("release", [worker, *job_ids])

    async def _claim(self, args: Sequence[Argument]) -> Any:
        """Run `claim`, never twice."""
        script, step = self._scripts["claim"], (len(args), *args)
        with QUEUE_SECONDS.labels("claim").time():
            try:
                (answer,) = await self._once.evalsha(script.sha, 1, self._keys.root, *step)
            except NoScriptError:
                (answer,) = await self._once.eval(script.text, 1, self._keys.root, *step)
            return answer
