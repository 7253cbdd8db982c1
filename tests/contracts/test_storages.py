"""What every storage does."""

from pathlib import Path

import pytest

from app.settings import Settings
from app.storage.base import Storage, image_key, job_prefix, trace_key
from app.storage.opening import open_storage

A = job_prefix("a", 1)


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "s3":
        bucket = request.getfixturevalue("s3_bucket")
        return open_storage(Settings(storage_url=f"{bucket}/{tmp_path.name}"))
    return open_storage(Settings(data_dir=tmp_path))


async def test_what_is_put_is_got(storage: Storage) -> None:
    data = bytes(range(256)) * 100
    await storage.put(image_key(A, "aa"), data)
    assert await storage.get(image_key(A, "aa")) == data
    assert await storage.get(image_key(A, "bb")) is None
    assert await storage.get("results/a") is None
    await storage.put("empty", b"")
    assert await storage.get("empty") == b""


async def test_the_same_again_leaves_one_object(storage: Storage) -> None:
    await storage.put("results/a/1/0.png", b"1")
    await storage.put("results/a/1/0.png", b"1")
    assert await storage.delete_prefix("results/a/") == 1


async def test_a_prefix_is_deleted_with_all_below_it_and_nothing_else(storage: Storage) -> None:
    later, other = job_prefix("a", 10), job_prefix("ab", 1)
    for key in (image_key(A, "aa"), image_key(A, "bb"), trace_key(A, "cc")):
        await storage.put(key, b"1")
    for prefix in (later, other):
        await storage.put(image_key(prefix, "aa"), b"2")
    assert await storage.delete_prefix(A) == 3
    assert await storage.get(trace_key(A, "cc")) is None
    assert await storage.get(image_key(later, "aa")) == await storage.get(image_key(other, "aa")) == b"2"
    assert await storage.delete_prefix(A) == 0


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../a", "a/../../b", "a//b", "a/", "./a", "a\\b", "a\0b"])
async def test_a_key_never_leaves_the_storage(storage: Storage, key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        await storage.put(key, b"1")
    with pytest.raises(ValueError, match="key"):
        await storage.get(key)


@pytest.mark.parametrize("prefix", ["", "/", "../", "results", "results/../../"])
async def test_only_a_directory_inside_is_deleted(storage: Storage, prefix: str) -> None:
    with pytest.raises(ValueError, match=r"key|slash"):
        await storage.delete_prefix(prefix)


async def test_a_storage_that_works_says_nothing(storage: Storage) -> None:
    await storage.check()


async def test_small_objects_are_read_together_and_deleted_one_by_one(storage: Storage) -> None:
    for key, data in (("votes/a/1.json", b"1"), ("votes/a/2.json", b"2"), ("votes/ab/3.json", b"3")):
        await storage.put(key, data)
    assert await storage.get_prefix("votes/a/") == {"votes/a/1.json": b"1", "votes/a/2.json": b"2"}
    assert await storage.get_prefix("votes/none/") == {}
    await storage.delete("votes/a/1.json")
    await storage.delete("votes/a/1.json")
    assert await storage.get_prefix("votes/a/") == {"votes/a/2.json": b"2"}
