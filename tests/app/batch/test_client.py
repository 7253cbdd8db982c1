"""The queue client: whole batches, bad rows, stops, second runs, and how much it holds."""

import asyncio
import gc
import json
import resource
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.batch import BadRow, BatchClient, BatchError
from app.jobs import JobRecord, JobResult, JobSpec, Nfe, Resolved, Timings
from app.queue.base import JobQueue, NewJob
from app.settings import Settings
from app.storage.png import read_png
from guidance.apg import APG
from tests.app.batch.conftest import Hands
from tests.queued import new_job

ROWS: list[Any] = [
    {"prompt": "a", "seeds": [1, 2]},
    "b",
    JobSpec(prompt="c", n=1, guidance=APG(scale=3)),
    None,
    {"prompt": "d", "stpes": 3},
    {"prompt": "e", "width": 5000, "steps": 999},
    BadRow("the line is not valid JSON"),
    {"prompt": object()},
]


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


async def open_jobs(queue: JobQueue) -> int:
    return sum((await queue.depth()).values())


async def until_open(queue: JobQueue, count: int) -> None:
    async with asyncio.timeout(30):
        while await open_jobs(queue) < count:  # noqa: ASYNC110 - the queue tells nobody of its length
            await asyncio.sleep(0.01)


@dataclass
class Stopper:
    """Rows that stop the run when so many of them were read."""

    rows: list[Any]
    after: int
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def __iter__(self) -> Iterator[Any]:
        for number, row in enumerate(self.rows, 1):
            if number > self.after:
                self.stop.set()
            yield row


async def test_rows_in_pictures_out(client: BatchClient, hands: Hands, tmp_path: Path) -> None:
    out = tmp_path / "out"
    async with hands():
        tally = await client.arun(ROWS, out, defaults={"steps": 4, "n": 3})
    assert (tally.succeeded, tally.refused, tally.failed, tally.images) == (3, 4, 0, 6)
    assert not tally.good
    found = lines(out)
    assert [one["line"] for one in found] == [1, 2, 3, 5, 6, 7, 8]
    assert [one["status"] for one in found] == ["succeeded"] * 3 + ["refused"] * 4
    first = found[0]
    assert first["input"] == {"priority": "batch", "steps": 4, "prompt": "a", "seeds": [1, 2]}
    assert (first["resolved"]["steps"], first["nfe"]["model"], first["metrics"]) == (4, 4, {"contrast": 0.5})
    assert [image["file"] for image in first["images"]] == ["images/000001-0.png", "images/000001-1.png"]
    for one in found[:3]:
        for image in one["images"]:
            held = read_png((out / image["file"]).read_bytes())
            assert held == {"prompt": one["input"]["prompt"], "seed": image["seed"]}
    assert len(found[1]["images"]) == 3
    assert found[2]["resolved"]["guidance"]["scale"] == 3


async def test_refused_rows_say_line_field_and_reason(
    client: BatchClient, hands: Hands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with hands():
        await client.arun(ROWS, tmp_path / "out")
    told = capsys.readouterr().err
    assert "line 5 refused: /stpes: there is no field 'stpes' here" in told
    assert "line 6 refused: /width: width is 5000" in told
    assert "line 6 refused: /steps: steps is 999" in told
    assert "line 7 refused: row: the line is not valid JSON" in told
    refused = lines(tmp_path / "out")[4]
    assert {error["pointer"] for error in refused["error"]["errors"]} == {"/width", "/steps"}


async def test_nothing_is_done_twice(
    client: BatchClient, queue: JobQueue, hands: Hands, tmp_path: Path
) -> None:
    rows = [f"prompt {number}" for number in range(30)]
    stopper = Stopper(rows, 20)
    async with hands() as first:
        tally = await client.arun(stopper, tmp_path / "out", stop=stopper.stop)
    assert tally.stopped
    assert 0 < tally.succeeded < 30
    async with hands() as second:
        again = await client.arun(rows, tmp_path / "out")
    assert again.kept == tally.succeeded
    assert again.kept + again.succeeded == 30
    assert sorted([*first, *second]) == sorted(rows)
    assert [one["line"] for one in lines(tmp_path / "out")] == list(range(1, 31))
    async with hands() as third:
        assert (await client.arun(rows, tmp_path / "out")).kept == 30
    assert third == []


async def test_another_folder_is_another_batch(client: BatchClient, hands: Hands, tmp_path: Path) -> None:
    async with hands() as ran:
        await client.arun(["a"], tmp_path / "one")
        await client.arun(["a"], tmp_path / "two")
    assert ran == ["a", "a"]


async def test_what_failed_changed_or_lost_its_picture_is_run_again(
    client: BatchClient, hands: Hands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    async with hands(fails=("b",)):
        tally = await client.arun(["a", "b", "c", "d"], out)
    assert (tally.succeeded, tally.failed) == (3, 1)
    assert "line 2 failed: it broke" in capsys.readouterr().err
    (out / "images/000004-0.png").unlink()
    async with hands() as ran:
        again = await client.arun(["a", "b", "new", "d"], out)
    assert sorted(ran) == ["b", "new"]  # the queue still had the picture of d
    assert (again.kept, again.succeeded, again.good) == (1, 3, True)
    assert [one["resolved"]["prompt"] for one in lines(out)] == ["a", "b", "new", "d"]
    assert (out / "images/000004-0.png").is_file()


async def test_what_it_holds_does_not_grow_with_the_batch(
    client: BatchClient, queue: JobQueue, hands: Hands, tmp_path: Path
) -> None:
    count, bound, out = 500, 8, tmp_path / "out"
    held: list[int] = []
    alive: list[int] = []
    gc.collect()
    before = _alive()

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(count):
            yield {"prompt": str(number), "seeds": [number]}
            if number % 50 == 49:
                gc.collect()
                alive.append(_alive() - before)
                with (out / "results.jsonl").open("rb") as file:
                    held.append(number + 1 - sum(1 for _ in file))

    async with hands():
        tally = await client.arun(rows(), out)
    assert tally.succeeded == count
    assert max(held) <= bound
    assert max(alive) <= 8 * bound  # in flight here, and in the hands of the worker
    assert await open_jobs(queue) == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
async def test_a_hundred_thousand_prompts_do_not_grow_memory(
    settings: Settings, queue: JobQueue, tmp_path: Path
) -> None:
    count, ended = 100_000, asyncio.Event()
    resident: list[int] = []

    def rows() -> Iterator[str]:
        for number in range(count):
            if number % 10_000 == 0:
                gc.collect()
                resident.append(_resident_bytes())
            yield f"prompt {number}"
        resident.append(_resident_bytes())

    async def hands() -> None:
        nothing = JobResult(images=[], nfe=Nfe(model=4), timings=Timings(), metrics={})
        while not ended.is_set():
            claims = await queue.claim("hands", ["toy"], 256, wait_s=0.05)
            await asyncio.gather(*(queue.finish("hands", claim.id, nothing) for claim in claims))

    working = asyncio.create_task(hands())
    try:
        tally = await BatchClient(settings).arun(rows(), tmp_path / "out")
    finally:
        ended.set()
        await working
    assert tally.succeeded == count
    print([round(size / 1e6, 1) for size in resident], "MB")
    assert max(resident) - resident[1] < 10e6  # the first rows fill pools and caches


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _alive() -> int:
    """Jobs, in whatever form, that this process holds."""
    kinds = {JobSpec, Resolved, NewJob, JobRecord}
    return sum(type(one) in kinds for one in gc.get_objects())  # isinstance would run others' properties


async def test_a_full_queue_is_waited_for(settings: Settings, hands: Hands, tmp_path: Path) -> None:
    client = BatchClient(settings.model_copy(update={"max_queued": 2}), in_flight=20)
    async with hands():
        tally = await client.arun([str(number) for number in range(5)], tmp_path / "out")
    assert tally.succeeded == 5


async def test_others_keep_their_turn(client: BatchClient, queue: JobQueue, tmp_path: Path) -> None:
    """What a batch queues is another client's work than what comes through the API."""
    stopper = Stopper(["a"] * 20, 6)
    await client.arun(stopper, tmp_path / "out", stop=stopper.stop)
    await queue.enqueue(new_job("mine", rows=1))
    claims = await queue.claim("w", ["toy"], 1)
    claims += await queue.claim("w", ["toy"], 1)
    assert "mine" in [claim.id for claim in claims]


async def test_a_stopped_batch_can_be_canceled(client: BatchClient, queue: JobQueue, tmp_path: Path) -> None:
    stopper = Stopper(["a"] * 20, 6)
    tally = await client.arun(stopper, tmp_path / "out", stop=stopper.stop)
    assert tally.waiting == await open_jobs(queue) > 0
    assert await client.acancel(tmp_path / "out") == tally.waiting
    assert await open_jobs(queue) == 0
    with pytest.raises(BatchError, match="no batch has written"):
        await client.acancel(tmp_path)


async def test_a_deleted_job_is_told(client: BatchClient, queue: JobQueue, tmp_path: Path) -> None:
    run = asyncio.create_task(client.arun(["a", "b"], tmp_path / "out"))
    await until_open(queue, 2)
    for record in (await queue.list()).records:
        await (queue.delete if record.resolved.prompt == "a" else queue.cancel)(record.id)
    tally = await run
    assert tally.failed == 2
    assert [one["status"] for one in lines(tmp_path / "out")] == ["deleted", "canceled"]


async def test_pictures_that_are_elsewhere_end_the_run(
    settings: Settings, hands: Hands, tmp_path: Path
) -> None:
    client = BatchClient(settings.model_copy(update={"data_dir": tmp_path / "nowhere"}))
    async with hands():
        with pytest.raises(BatchError, match="--server"):
            await client.arun(["a"], tmp_path / "out")
        tally = await BatchClient(settings).arun(["a"], tmp_path / "out")
    assert tally.succeeded == 1


async def test_one_run_at_a_time_in_a_folder(client: BatchClient, queue: JobQueue, tmp_path: Path) -> None:
    stop = asyncio.Event()
    run = asyncio.create_task(client.arun(["a"], tmp_path / "out", stop=stop))
    await until_open(queue, 1)
    with pytest.raises(BatchError, match="another run works"):
        await client.arun(["a"], tmp_path / "out")
    stop.set()
    await run


async def test_no_queue_is_one_clear_error(settings: Settings, tmp_path: Path) -> None:
    client = BatchClient(settings.model_copy(update={"redis_url": f"unix://{tmp_path}/no.sock"}))
    with pytest.raises(BatchError, match="the queue does not answer"):
        await client.arun(["a"], tmp_path / "out")
    with pytest.raises(BatchError, match="no service runs in"):
        BatchClient(settings.model_copy(update={"redis_url": None}))
    odd = BatchClient(settings.model_copy(update={"redis_url": "http://x"}))
    with pytest.raises(BatchError, match="no address of a queue"):
        await odd.arun(["a"], tmp_path / "other")
    with pytest.raises(BatchError, match="in_flight"):
        BatchClient(settings, in_flight=0)
