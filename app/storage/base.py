"""Where pictures and traces lie. Keys are relative paths that we make ourselves, never a client."""

from __future__ import annotations

from typing import Protocol


class Storage(Protocol):
    """A put is all or nothing. Pictures and traces never change once they are stored."""

    async def put(self, key: str, data: bytes) -> None: ...

    async def get(self, key: str) -> bytes | None: ...

    async def get_prefix(self, prefix: str) -> dict[str, bytes]:
        """Every object under `prefix`, by key; for small ones, as votes are."""
        ...

    async def delete(self, key: str) -> None:
        """Delete one object; nothing where there is none."""
        ...

    async def delete_prefix(self, prefix: str) -> int:
        """Delete everything under `prefix`; the number of objects deleted."""
        ...

    async def check(self) -> None:
        """Raise OSError when nothing could be stored now (no directory, no space, no rights)."""
        ...


def image_key(job_id: str, attempt: int, index: int) -> str:
    """Where picture `index` of an attempt lies; a stale attempt never overwrites a newer one."""
    return f"results/{job_id}/{attempt}/{index}.png"


def trace_key(job_id: str, attempt: int) -> str:
    """Where the trace of an attempt lies."""
    return f"results/{job_id}/{attempt}/trace.json"


def init_key(job_id: str, reference: str) -> str:
    """Where the picture that a job starts from lies; `reference` is `sha256:` and its digest."""
    return f"results/{job_id}/init/{reference.removeprefix('sha256:')}.png"


def job_prefix(job_id: str) -> str:
    """Everything of a job lies under it."""
    return f"results/{job_id}/"
