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


def checked_key(key: str) -> str:
    """The key, if it can be one: no part of it is empty or leads elsewhere. Raises ValueError."""
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in key.split("/")):
        raise ValueError(f"not a storage key: {key!r}")
    return key


def checked_prefix(prefix: str) -> str:
    """The prefix without the slash that it must end with. Raises ValueError."""
    if not prefix.endswith("/"):
        raise ValueError(f"a prefix must end with a slash: {prefix!r}")
    return checked_key(prefix[:-1])


def job_prefix(job_id: str, created_at_ms: int) -> str:
    """Everything of a job lies under it, and nothing of another that a client gave the same id later."""
    return f"results/{job_id}/{created_at_ms}/"


def image_key(prefix: str, sha256: str) -> str:
    """Where a picture of the job lies, by its content: a worker that comes late can overwrite nothing."""
    return f"{prefix}{sha256}.png"


def features_key(image: str, metric: str) -> str:
    """Where the features that a metric saw in the picture with this key lie, an array of NumPy's."""
    return f"{image.removesuffix('.png')}.{metric}.npy"


def preview_key(prefix: str, index: int, step: int) -> str:
    """Where the preview of an image's run after this step lies."""
    return f"{prefix}previews/{index}-{step}.png"


def init_key(job_id: str, reference: str) -> str:
    """Where the picture that a job starts from lies; `reference` is `sha256:` and its digest."""
    return f"{init_prefix(job_id)}{reference.removeprefix('sha256:')}.png"


def init_prefix(job_id: str) -> str:
    """What a job starts from lies under it: it is stored before there is a job."""
    return f"results/{job_id}/init/"


def trace_key(prefix: str, sha256: str) -> str:
    """Where a trace lies, likewise."""
    return f"{prefix}{sha256}.json"
