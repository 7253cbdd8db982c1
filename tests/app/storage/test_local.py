import asyncio
import errno
import os
import shutil
from pathlib import Path

import pytest

from app.storage.local import LocalStorage


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_full_disk_leaves_nothing_behind_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LocalStorage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(OSError, match="disk is full") as caught:
            await storage.put("results/a/1/0.png", b"new")
    assert caught.value.errno == errno.ENOSPC
    assert files(tmp_path) == []


async def test_a_write_that_breaks_off_leaves_the_old_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LocalStorage(tmp_path)
    await storage.put("a", b"old")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="full"):
        await storage.put("a", b"new")
    assert await storage.get("a") == b"old"


async def test_bytes_are_flushed_before_the_name_is_there_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[bool, bool]] = []
    path, fsync = tmp_path / "storage/a", os.fsync

    def watch(descriptor: int) -> None:
        flushed.append((Path(f"/proc/self/fd/{descriptor}").resolve().is_dir(), path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    await LocalStorage(tmp_path).put("a", b"1")
    assert flushed == [(False, False), (True, True)]


async def test_check_finds_a_full_disk_and_a_directory_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "storage").write_text("a file in the way")
    with pytest.raises(OSError, match="storage"):
        await LocalStorage(tmp_path).check()
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match="disk is full"):
        await LocalStorage(tmp_path / "other").check()


async def test_what_two_delete_at_once_is_deleted(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    for number in range(300):
        await storage.put(f"results/a/{number}/x", b"x")
    await asyncio.gather(*(storage.delete_prefix("results/a/") for _ in range(4)))
    assert files(tmp_path) == []
