"""The workers that are alive: each tells of itself, and is forgotten when it stops telling."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import cast

from pydantic import TypeAdapter
from redis.asyncio import Redis

from app.queue.base import WorkerCard
from app.queue.keys import Key, Keys
from app.queue.records import compact

CARD = TypeAdapter(WorkerCard)
"""Leaves out what a worker of a newer version tells besides."""


async def announce(redis: Redis, keys: Keys, card: WorkerCard, ttl_s: int) -> None:
    """Keep a worker's card for a while, stamped with the server's time."""
    seconds, micros = await redis.time()
    told = asdict(replace(card, heartbeat_at_ms=seconds * 1000 + micros // 1000))
    async with redis.pipeline() as pipeline:
        pipeline.set(keys(Key.WORKER, card.id), compact(told), ex=ttl_s)
        pipeline.sadd(keys(Key.WORKERS), card.id)
        await pipeline.execute()


async def retire(redis: Redis, keys: Keys, worker: str) -> None:
    """Forget a worker."""
    async with redis.pipeline() as pipeline:
        pipeline.delete(keys(Key.WORKER, worker))
        pipeline.srem(keys(Key.WORKERS), worker)
        await pipeline.execute()


async def workers(redis: Redis, keys: Keys) -> list[WorkerCard]:
    """The cards that are still kept, by id."""
    ids = sorted(cast(set[str], await redis.smembers(keys(Key.WORKERS))))
    cards = await redis.mget([keys(Key.WORKER, one) for one in ids]) if ids else []
    if gone := [one for one, card in zip(ids, cards, strict=True) if card is None]:
        await redis.srem(keys(Key.WORKERS), *gone)
    return [CARD.validate_json(card) for card in cards if card is not None]
