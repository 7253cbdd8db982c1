"""Pictures and traces in an S3-compatible object store, by the `obstore` package (extra `s3`)."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from app.storage.base import checked_key, checked_prefix

T = TypeVar("T")
RETRY: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}
"""Within the store; a job whose result cannot be stored even so is tried again by the queue."""


class S3Storage:
    """Objects under `s3://bucket/prefix`. Keys, region and endpoint come from the usual AWS_* variables.

    A single PUT is all or nothing. What the store refuses is raised as OSError.
    """

    def __init__(self, url: str) -> None:
        self._store = S3Store.from_url(url, retry_config=RETRY)

    async def put(self, key: str, data: bytes) -> None:
        """Store `data` in one request."""
        await _tell(obstore.put_async(self._store, checked_key(key), data, use_multipart=False))

    async def get(self, key: str) -> bytes | None:
        """The bytes, or None."""
        try:
            answer = await _tell(obstore.get_async(self._store, checked_key(key)))
            return bytes(await _tell(answer.bytes_async()))
        except FileNotFoundError:
            return None

    async def get_prefix(self, prefix: str) -> dict[str, bytes]:
        """Every object under `prefix`, which ends with a slash, by key."""
        found = {key: await self.get(key) for key in await self._list(prefix)}
        return {key: data for key, data in found.items() if data is not None}

    async def delete(self, key: str) -> None:
        """Delete one object; nothing where there is none."""
        await _tell(obstore.delete_async(self._store, checked_key(key)))

    async def delete_prefix(self, prefix: str) -> int:
        """Delete everything under `prefix`, which ends with a slash; the number of objects."""
        keys = await self._list(prefix)
        if keys:
            await _tell(obstore.delete_async(self._store, keys))
        return len(keys)

    async def check(self) -> None:
        """Raise OSError when nothing could be stored now."""
        await self.put("check", b"writable")

    async def _list(self, prefix: str) -> list[str]:
        listed = obstore.list(self._store, f"{checked_prefix(prefix)}/")
        return sorted(one["path"] for one in await _tell(listed.collect_async()))


async def _tell(call: Awaitable[T]) -> T:
    """The outcome of a call; the store's own errors as OSError, without addresses and keys."""
    try:
        return await call
    except BaseError as error:
        raise OSError(f"the object store refused ({type(error).__name__})") from error
