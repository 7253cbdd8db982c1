"""Counting who waits, and reading the tally of what has happened."""

from __future__ import annotations

from typing import cast, get_args

from redis.asyncio import Redis

from app.jobs import Priority
from app.queue.base import Census, Line
from app.queue.keys import Key, Keys

TAKEOVER = "takeover"


async def census(redis: Redis, keys: Keys) -> Census:
    """The queue's lines and its tally, in two round trips however many jobs there are."""
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.time()
        pipeline.hkeys(keys(Key.MODELS))
        pipeline.hgetall(keys(Key.TALLY))
        (seconds, micros), models, tally = await pipeline.execute()
    places = [(model, priority) for model in sorted(models) for priority in get_args(Priority)]
    async with redis.pipeline(transaction=False) as pipeline:
        for model, priority in places:
            pipeline.zcard(keys(Key.LINE, f"{priority}:{model}"))
            pipeline.zrange(keys(Key.LINE, f"{priority}:{model}"), 0, 0, withscores=True)
        answers = await pipeline.execute() if places else []
    now_s = seconds + micros / 1e6
    lines = [
        Line(model, cast(Priority, priority), waiting, max(0.0, now_s - first[0][1] / 1e6) if first else 0.0)
        for (model, priority), waiting, first in zip(places, answers[::2], answers[1::2], strict=True)
    ]
    counts = {tuple(name.split(":", 1)): int(count) for name, count in cast(dict[str, str], tally).items()}
    return Census(
        lines,
        {(what, model): count for (what, model), count in counts.items() if what != TAKEOVER},
        {model: count for (what, model), count in counts.items() if what == TAKEOVER},
    )
