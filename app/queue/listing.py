"""Lists of jobs, page by page, from the indexes that the scripts keep."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from heapq import merge
from typing import Literal, cast

from redis.asyncio import Redis

from app.jobs import JobRecord, JobStatus
from app.queue.base import Page
from app.queue.keys import Key, Keys
from app.queue.records import record

PAGE = 500
"""Ids looked at in one go where a list has two filters."""

MOST = 5_000
"""Jobs looked at for one page where what is wanted has no index."""

Order = Literal["asc", "desc"]


async def page(
    redis: Redis,
    keys: Keys,
    limit: int,
    after: str | None,
    order: Order,
    status: Collection[JobStatus] | None,
    tag: str | None,
    account: str | None,
    created_ms: tuple[int | None, int | None],
    matches: Callable[[JobRecord], bool] | None,
) -> Page:
    """Jobs by time of creation. Raises ValueError when `after` is unknown.

    Each filter has an index of its own; with two, the narrower one is read on until the page is full. Where
    `matches` picks among them, it is read on for `MOST` jobs at most.
    """
    bound = None
    if after is not None:
        bound = await _created(redis, keys, after, account)
        if bound is None:
            raise ValueError(f"there is no job {after} to list after; it may have been deleted")
    if account is not None:
        indexes = [keys(Key.ACCOUNT, account)]
    elif tag is not None:
        indexes = [keys(Key.TAG, tag)]
    else:
        indexes = [keys(Key.STATUS, one) for one in set(JobStatus if status is None else status)]
    begin, end = (None if ms is None else ms * 1e3 for ms in created_ms)
    if order == "desc":
        bound = min((one for one in (bound, end) if one is not None), default=None)
        last = "-inf" if begin is None else f"{begin:.0f}"
    else:
        bound = max((one for one in (bound, begin and begin - 1) if one is not None), default=None)
        last = "+inf" if end is None else f"({end:.0f}"
    filtered = sum(one is not None for one in (status, tag, account)) > 1 or matches is not None

    def wanted(one: JobRecord) -> bool:
        return (
            (status is None or one.status in status)
            and (tag is None or tag in one.tags)
            and (matches is None or matches(one))
        )

    size = max(PAGE, limit + 1) if filtered else limit + 1
    found: list[JobRecord] = []
    looked = 0
    while len(found) <= limit:
        ids = await _ids(redis, indexes, bound, last, order, size)
        there = await records(redis, keys, [job_id for job_id, _ in ids])
        found += [one for one in there if one and (not filtered or wanted(one))]
        looked += len(ids)
        if len(ids) < size:
            break
        if matches is not None and looked >= MOST and len(found) <= limit:
            return Page(found, True, ids[-1][0])
        bound = ids[-1][1]
    shown = found[:limit]
    return Page(shown, len(found) > limit, shown[-1].id if shown else None)


async def _created(redis: Redis, keys: Keys, job_id: str, account: str | None) -> float | None:
    """When a job came, as the indexes have it; to an account other accounts' jobs are not there."""
    if account is not None:
        return await redis.zscore(keys(Key.ACCOUNT, account), job_id)
    async with redis.pipeline() as pipeline:  # a transaction: no other index has it meanwhile
        for status in JobStatus:
            pipeline.zscore(keys(Key.STATUS, status), job_id)
        found = cast(list[float | None], await pipeline.execute())
    return next((score for score in found if score is not None), None)


async def _ids(
    redis: Redis, indexes: Sequence[str], bound: float | None, last: str, order: Order, size: int
) -> list[tuple[str, float]]:
    """The first `size` ids of these indexes together, beyond `bound` and up to `last`."""
    desc = order == "desc"
    first = f"({bound:.0f}" if bound is not None else "+inf" if desc else "-inf"
    async with redis.pipeline(transaction=False) as pipeline:
        for index in indexes:
            command = ("ZREVRANGEBYSCORE" if desc else "ZRANGEBYSCORE", index, first, last)
            pipeline.execute_command(*command, "WITHSCORES", "LIMIT", 0, size, withscores=True)
        pages = cast(list[list[tuple[str, float]]], await pipeline.execute())
    ordered = merge(*pages, key=lambda entry: entry[1], reverse=desc)
    return [(job_id, score) for (job_id, score), _ in zip(ordered, range(size), strict=False)]


async def records(redis: Redis, keys: Keys, ids: Sequence[str]) -> list[JobRecord | None]:
    """The record of each job, None for one that is not there."""
    async with redis.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.hgetall(keys(Key.JOB, job_id))
        hashes = await pipeline.execute() if ids else []
    return [record(job_id, fields) if fields else None for job_id, fields in zip(ids, hashes, strict=True)]


async def statuses(redis: Redis, keys: Keys, ids: Sequence[str]) -> list[JobStatus | None]:
    """The status of each job, None for one that is not there."""
    async with redis.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.hget(keys(Key.JOB, job_id), "status")
        found = await pipeline.execute() if ids else []
    return [None if status is None else JobStatus(status) for status in found]
