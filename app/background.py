"""Work that goes on beside a service until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from redis.exceptions import RedisError

log = logging.getLogger(__name__)


async def every(interval_s: float, call: Callable[[], Awaitable[object]], stopped: asyncio.Event) -> None:
    """Call again and again until `stopped`; what goes wrong is logged and tried again.

    It is told to stop, not cancelled: `wait_for` of Python 3.11, which redis-py uses, may swallow that.
    """
    while not stopped.is_set():
        try:
            await call()
        except (RedisError, OSError) as error:
            log.warning("the queue is not reachable (%s); trying again", error)
        except Exception:
            log.exception("%s went wrong", getattr(call, "__name__", "a background task"))
        await pause(interval_s, stopped)


async def pause(seconds: float, until: asyncio.Event) -> None:
    """Wait so long, or until the event."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await until.wait()
