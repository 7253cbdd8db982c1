"""Round trips to the server, shared: what is asked while one is under way travels together in the next."""

from __future__ import annotations

import asyncio
import time
from asyncio import Future
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError, NoScriptError, TimeoutError

from app.meters import QUEUE_SECONDS
from app.queue.scripts import Script

COMMANDS = 64
"""In one round trip, while the server answers."""
STEPS = 32
"""In one call of a script; the server serves others between two."""

Argument = str | int | float | bytes


@dataclass(slots=True)
class Command:
    """A command and who waits for its answer; of a script, all steps that are asked for in a row."""

    arguments: Sequence[Argument]
    answers: list[Future[Any]]
    script: Script | None = None
    steps: list[Sequence[Argument]] = field(default_factory=list[Sequence[Argument]])

    def packed(self, known: bool = True) -> Iterable[Argument]:
        """As it is sent. `known`: whether the server has the script."""
        if self.script is None:
            return self.arguments
        name = ("EVALSHA", self.script.sha) if known else ("EVAL", self.script.text)
        return chain(name, self.arguments, *((len(step), *step) for step in self.steps))

    def settle(self, found: Any) -> None:
        """Tell those who wait; callers that were canceled do not."""
        for k, answer in enumerate(self.answers):
            if answer.done():
                continue
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found if self.script is None else found[k])


class RoundTrips:
    """One at a time, each as full as the callers make it: alone a command waits for nobody.

    Whoever waits for an answer may be canceled; redis-py, which that would confuse, never is.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._asked: deque[Command] = deque()
        self._task: asyncio.Task[None] | None = None

    def ask(self, *command: Argument) -> Future[Any]:
        """The answer to a command, once it is there."""
        answer: Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.append(Command(command, [answer]))
        self._depart()
        return answer

    def run(self, script: Script, root: str, args: Sequence[Argument]) -> Future[Any]:
        """What a step of a script returns."""
        answer: Future[Any] = asyncio.get_running_loop().create_future()
        last = self._asked[-1] if self._asked else None
        if last is None or last.script is not script or len(last.steps) >= STEPS:
            last = Command((1, root), [], script)
            self._asked.append(last)
        last.answers.append(answer)
        last.steps.append(args)
        self._depart()
        return answer

    def run_together(
        self, script: Script, root: str, steps: Sequence[Sequence[Argument]]
    ) -> list[Future[Any]]:
        """What each of these steps returns, all taken in one call of the script: nothing comes in between."""
        answers: list[Future[Any]] = [asyncio.get_running_loop().create_future() for _ in steps]
        self._asked.append(Command((1, root), answers, script, list(steps)))
        self._depart()
        return answers

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def _depart(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._travel(), name="round trips")

    async def _travel(self) -> None:
        lost = False
        while self._asked:
            # While no server answers, a trip lasts as long as all its tries: then all who wait go along.
            most = len(self._asked) if lost else COMMANDS
            commands = [self._asked.popleft() for _ in range(min(most, len(self._asked)))]
            began = time.perf_counter()
            found = await self._exchange([command.packed() for command in commands])
            spent_s = time.perf_counter() - began
            lost = isinstance(found[-1], ConnectionError | TimeoutError)
            for k, (command, answer) in enumerate(zip(commands, found, strict=True)):
                if isinstance(answer, NoScriptError):
                    (found[k],) = await self._exchange([command.packed(known=False)])
                command.settle(found[k])
                if command.script is not None:
                    QUEUE_SECONDS.labels(command.script.name).observe(spent_s)

    async def _exchange(self, commands: Sequence[Iterable[Argument]]) -> list[Any]:
        """Answers or exceptions, one for each command."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            try:
                return await pipeline.execute(raise_on_error=False)
            except Exception as error:
                return [error] * len(commands)
