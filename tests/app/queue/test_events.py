"""The task behind all listeners."""

from __future__ import annotations

import asyncio
from typing import Any

from app.logs import REQUEST
from app.queue.events import Events
from app.queue.keys import Keys


class Gone:
    """A server that is not there, and tells for which request it was asked."""

    def __init__(self) -> None:
        self.asked: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def pubsub(self) -> Any:
        if not self.asked.done():
            self.asked.set_result(REQUEST.get())
        raise OSError


async def test_it_speaks_for_no_listeners_request() -> None:
    async def now(job_id: str) -> None:
        return None

    server: Any = Gone()
    events, before = Events(server, Keys("q"), now), REQUEST.set("the-first")
    listener = events.listen("a")
    REQUEST.reset(before)
    assert await server.asked is None
    await events.close()
    del listener
