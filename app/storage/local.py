"""Pictures and traces as files below one directory."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from app.storage.base import checked_key, checked_prefix

CHECK_BYTES = 1_000_000
"""Less free space than this counts as none."""


class LocalStorage:
    """Files below `<data_dir>/storage`. A file is whole or absent, whatever happens while it is written."""

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir.resolve() / "storage"

    async def put(self, key: str, data: bytes) -> None:
        """Store `data`. Raises OSError (with `errno` ENOSPC when the disk is full)."""
        await asyncio.to_thread(self._put, self._path(key), data)

    async def get(self, key: str) -> bytes | None:
        """The bytes, or None."""
        return await asyncio.to_thread(self._get, self._path(key))

    async def get_prefix(self, prefix: str) -> dict[str, bytes]:
        """Every file in the directory `prefix` (it ends with a slash) and below, by key."""
        return await asyncio.to_thread(self._get_all, self._path(checked_prefix(prefix)))

    async def delete(self, key: str) -> None:
        """Delete one file; nothing where there is none."""
        await asyncio.to_thread(self._path(key).unlink, missing_ok=True)

    async def delete_prefix(self, prefix: str) -> int:
        """Delete the directory `prefix` (it ends with a slash); the number of files."""
        return await asyncio.to_thread(self._delete, self._path(checked_prefix(prefix)))

    async def check(self) -> None:
        """Raise OSError when nothing could be stored now."""
        await asyncio.to_thread(self._check)

    def _path(self, key: str) -> Path:
        return self._root.joinpath(*checked_key(key).split("/"))

    def _put(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_whole(path, data)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise OSError(errno.ENOSPC, f"the disk is full below {self._root}") from error
            raise

    def _get(self, path: Path) -> bytes | None:
        with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return path.read_bytes()
        return None

    def _get_all(self, path: Path) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for file in sorted(path.rglob("*")):
            if file.is_file() and not file.name.startswith("."):  # those are still being written
                with suppress(FileNotFoundError):
                    found[file.relative_to(self._root).as_posix()] = file.read_bytes()
        return found

    def _delete(self, path: Path) -> int:
        files = 0
        while path.is_dir():
            with suppress(FileNotFoundError):  # another process deletes it at the same time
                files = sum(1 for found in path.rglob("*") if found.is_file())
                shutil.rmtree(path)
        with suppress(OSError):  # other things lie there
            path.parent.rmdir()
        return files

    def _check(self) -> None:
        self._put(self._root / "check", b"writable")
        if shutil.disk_usage(self._root).free < CHECK_BYTES:
            raise OSError(errno.ENOSPC, f"the disk is full below {self._root}")


def write_whole(path: Path, data: bytes) -> None:
    """Write beside, flush to disk, rename, flush the directory: a crash leaves old or new."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    flush_directory(path.parent)


def flush_directory(path: Path) -> None:
    """Make the names in a directory outlast a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
