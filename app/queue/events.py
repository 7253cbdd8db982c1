"""Listening to jobs: thousands of listeners share one pub/sub connection."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass, field
from weakref import WeakSet

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError, RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from app.jobs import JobEvent
from app.queue.keys import Key, Keys

BUFFER = 256
"""Events kept per job for a slow listener; the oldest go first, for the record tells what they told."""
PING_S = 15.0
"""A connection that is silent for so long is asked whether it still lives."""
SETTLE_S = 10.0
RECONNECT_S = 0.2

log = logging.getLogger(__name__)


class Listener(AsyncIterator[JobEvent]):
    """Events of some jobs from now on; ends when the queue is closed. Whoever drops it is unsubscribed."""

    def __init__(self, jobs: int, on_drop: Callable[[], None]) -> None:
        self._on_drop = on_drop
        self._events: deque[JobEvent] = deque(maxlen=BUFFER * jobs)
        self._news = asyncio.Event()
        self._ended = False

    async def __anext__(self) -> JobEvent:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._events.popleft()

    def put(self, event: JobEvent) -> None:
        """Add an event; never waits."""
        self._events.append(event)
        self._news.set()

    def end(self) -> None:
        """No more events will come."""
        self._ended = True
        self._news.set()

    def __del__(self) -> None:
        self._on_drop()


@dataclass(slots=True)
class Room:
    """The listeners of one job."""

    listeners: WeakSet[Listener] = field(default_factory=WeakSet[Listener])
    subscribed: asyncio.Event = field(default_factory=asyncio.Event)


class Events:
    """One connection, subscribed to the jobs that somebody listens to.

    `now` makes an event of a job's present state; it is sent after a lost connection, since nobody knows what
    was missed. `redis` must not retry by itself: a new connection begins anew here.
    """

    def __init__(self, redis: Redis, keys: Keys, now: Callable[[str], Awaitable[JobEvent | None]]) -> None:
        self._redis = redis
        self._channel = keys(Key.EVENTS)
        self._now = now
        self._rooms: dict[str, Room] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def listen(self, *job_ids: str) -> Listener:
        """Listen to these jobs. The subscriptions are under way; `settled` waits for one."""
        if self._task is None:
            # A context of its own: it serves all, and must not log as the first listener's request.
            self._task = asyncio.create_task(self._run(), name="events", context=Context())
        listener = Listener(len(job_ids), self._changed.set)
        for job_id in job_ids:
            self._rooms.setdefault(job_id, Room()).listeners.add(listener)
        self._changed.set()
        return listener

    async def settled(self, job_id: str) -> None:
        """Wait until a subscription that is under way is there: what is read after that misses no event."""
        room = self._rooms.get(job_id)
        if room is not None and not room.subscribed.is_set():
            try:
                async with asyncio.timeout(SETTLE_S):
                    await room.subscribed.wait()
            except TimeoutError:
                raise RedisTimeout("the queue has not confirmed a subscription in time") from None

    async def close(self) -> None:
        """End all listeners."""
        if self._task is not None:
            await _end(self._task)
        for room in self._rooms.values():
            for listener in list(room.listeners):
                listener.end()

    async def _run(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await self._session(pubsub)
            except (RedisError, OSError) as error:
                log.warning("lost the connection for events (%s); trying again", error)
            except Exception:  # listeners wait for this task: it must not end before they do
                log.exception("events went wrong; trying again")
            await asyncio.sleep(RECONNECT_S)

    async def _session(self, pubsub: PubSub) -> None:
        """Serve one connection until it breaks."""
        await pubsub.subscribe(self._channel)  # never without a subscription, so that reading may begin
        reader = asyncio.create_task(self._read(pubsub))
        there: set[str] = set()
        try:
            while True:
                self._changed.clear()
                self._rooms = {job_id: room for job_id, room in self._rooms.items() if room.listeners}
                wanted = set(self._rooms)
                if new := wanted - there:
                    await pubsub.subscribe(*(self._channel + job_id for job_id in new))
                if old := there - wanted:
                    await pubsub.unsubscribe(*(self._channel + job_id for job_id in old))
                there = wanted
                changed = asyncio.create_task(self._changed.wait())
                try:
                    await asyncio.wait({reader, changed}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
                if reader.done():
                    reader.result()
        finally:
            await _end(reader)

    async def _read(self, pubsub: PubSub) -> None:
        asked = False
        while True:
            message = await pubsub.get_message(timeout=PING_S)
            if message is None:
                if asked:
                    raise ConnectionError("no answer to a ping")
                await pubsub.ping()
                asked = True
                continue
            asked = False
            if message["type"] in ("subscribe", "message"):
                await self._hear(message["type"], str(message["channel"]), str(message["data"]))

    async def _hear(self, kind: str, channel: str, data: str) -> None:
        job_id = channel.removeprefix(self._channel)
        room = self._rooms.get(job_id)
        if room is None:
            return
        event: JobEvent | None = None
        if kind == "message":
            event = JobEvent.model_validate_json(data)
        elif room.subscribed.is_set():
            event = await self._now(job_id)
        else:
            room.subscribed.set()
        if event is not None:
            for listener in list(room.listeners):
                listener.put(event)


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel until it has ended: `wait_for` of Python 3.11, which redis-py uses, may swallow a cancel."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)
    if not task.cancelled():
        task.exception()  # read, so that nobody warns that it was not
