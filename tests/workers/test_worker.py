import asyncio
import json
import threading
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

import samplers.models
from app.jobs import JobStatus
from app.queue.base import JobQueue
from app.queue.embedded import embedded_server
from app.queue.redis import RedisQueue
from app.settings import Settings
from app.storage.arrays import array_of
from app.storage.base import features_key, job_prefix, preview_key
from app.storage.local import LocalStorage
from guidance.cfgpp import CFGPP
from guidance.classifier import Classifier
from guidance.gfcg import GFCG
from samplers.models.parts import Loading
from samplers.models.toy import Toy
from samplers.steps import compile_plan
from tests.contracts.test_metrics import alexnet
from tests.workers.serving import begun, ended, eventually, new_job, working
from workers.errors import explain
from workers.shelf import ModelUnavailable


async def test_a_job_becomes_images_scores_and_a_trace(
    settings: Settings, queue: JobQueue, storage: LocalStorage
) -> None:
    await queue.enqueue(new_job("a", prompt="high " * 80))
    async with working(settings, queue, storage):
        record = await ended(queue, "a")
        ((cost,),) = [card.costs for card in await queue.workers()]
    assert record.status == JobStatus.SUCCEEDED
    assert record.result is not None
    assert (cost.model, cost.width, cost.method, cost.evaluations) == ("toy", 32, "cfg", 2)
    assert 20 <= 2 * cost.busy_ms <= 1.5 * cost.step_ms  # the two images share forwards of 20 ms and more
    kept = await storage.get_prefix(f"results/{record.id}/")
    assert cost.image_bytes == sum(map(len, kept.values())) / 2
    images = record.result.images
    assert [(image.index, image.seed, image.width) for image in images] == [(0, 1, 32), (1, 2, 32)]
    for image in images:
        stored = await storage.get(image.key)
        assert stored is not None
        assert sha256(stored).hexdigest() == image.sha256
        assert set(image.metrics) == {"saturation", "contrast", "colourfulness", "sharpness", "clipped"}
    assert images[0].sha256 != images[1].sha256
    assert record.result.nfe.model == 8
    assert record.result.timings.denoise_ms >= 4 * 20
    assert any("was cut" in warning for warning in record.result.warnings)
    assert record.result.ran["device"] == "cpu"
    assert (record.progress.step, record.progress.total) == (8, 8)
    trace = json.loads(await storage.get(record.result.trace_key or "") or b"null")
    assert [image["seed"] for image in trace["images"]] == [1, 2]
    assert [row["step"] for row in trace["images"][1]["rows"]] == [0, 1, 2, 3]
    assert trace["images"][0]["rows"][0]["guidance_norm"] > 0


async def test_what_a_metric_saw_is_kept_beside_the_picture(
    settings: Settings, queue: JobQueue, storage: LocalStorage, tmp_path: Path
) -> None:
    folder = tmp_path / "scorers/lpips"
    folder.mkdir(parents=True)
    for name, weights in zip(("alexnet-owt-7be5be79.pth", "alex.pth"), alexnet(), strict=True):
        torch.save(weights, folder / name)
    told = settings.model_copy(update={"scorers_dir": folder.parent})
    await queue.enqueue(new_job("a", metrics=["basic", "lpips", "clip"]))
    async with working(told, queue, storage):
        record = await ended(queue, "a")
    assert record.result is not None
    assert record.result.ran["scorers"]["lpips"]["name"] == "scorers/lpips"
    (warning,) = record.result.warnings
    assert warning.startswith("metric 'clip' is unavailable: weights not installed")
    for image in record.result.images:
        seen = await storage.get(features_key(image.key, "lpips"))
        assert seen is not None
        assert array_of(seen).shape == (31872,)
        assert "lpips" not in image.metrics
        assert await storage.get(features_key(image.key, "clip")) is None


async def test_the_same_seed_gives_the_same_bytes_next_to_any_neighbours(
    settings: Settings, queue: JobQueue, storage: LocalStorage
) -> None:
    await queue.enqueue(new_job("crowd", seeds=[5, 6, 7, 8], sampler="euler_a"))
    await queue.enqueue(new_job("one", seeds=[6], sampler="euler_a"))
    async with working(settings, queue, storage):
        crowd, one = await ended(queue, "crowd"), await ended(queue, "one")
    assert crowd.result is not None
    assert one.result is not None
    assert crowd.result.images[1].sha256 == one.result.images[0].sha256


async def test_listeners_hear_of_everything(
    settings: Settings, queue: JobQueue, storage: LocalStorage
) -> None:
    await queue.enqueue(new_job("a", "slow", seeds=[1], steps=5, preview_every=2))
    heard: dict[str, Any] = {}

    async def listen() -> None:
        async for event in queue.listen("a"):
            heard[event.type] = event.data
            if event.type == "completed":
                return

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0)
    await queue.get("a")  # waits for the subscription
    async with working(settings, queue, storage):
        await asyncio.wait_for(listening, 60)
    assert {"start", "progress", "guidance", "preview", "image", "completed"} <= set(heard)
    assert heard["image"]["seed"] == 1
    assert heard["guidance"]["rows"][0]["guidance_norm"] > 0
    assert heard["preview"] == {"index": 0, "step": 3}
    assert (await queue.get_blob("preview:a:0") or b"").startswith(b"\x89PNG")
    record = await queue.get("a")
    assert record is not None
    assert record.result is not None
    kept, prefix = record.result.images[0].previews, job_prefix("a", record.created_at_ms)
    assert 3 in kept
    for step in kept:
        assert (await storage.get(preview_key(prefix, 0, step)) or b"").startswith(b"\x89PNG")


async def test_the_trace_of_a_running_job_is_there_so_far(
    settings: Settings, queue: JobQueue, storage: LocalStorage
) -> None:
    await queue.enqueue(new_job("a", "slow", seeds=[1], steps=200))
    async with working(settings, queue, storage):
        await begun(queue, "a")

        async def rows() -> list[dict[str, Any]]:
            images = json.loads(await queue.get_blob("trace:a") or b'{"images": []}')["images"]
            return images[0]["rows"] if images else []

        found = await eventually(rows)
        record = await queue.get("a")
        assert record is not None
        assert record.status == JobStatus.PROCESSING
        assert found[0]["guidance_norm"] > 0
        assert len(found) < 200
        await queue.cancel("a")
        await ended(queue, "a")


async def test_a_canceled_job_stops_before_its_next_step(
    settings: Settings, queue: JobQueue, storage: LocalStorage
) -> None:
    await queue.enqueue(new_job("a", "slow", seeds=[1], steps=50))
    async with working(settings, queue, storage):
        await begun(queue, "a")
        asked = await queue.cancel("a")
        record = await ended(queue, "a")
        assert asked is not None
        assert record.status == JobStatus.CANCELED
        # one step may have been under way, and one done that had not been reported
        assert record.progress.step <= asked.progress.step + 2
        await queue.enqueue(new_job("b"))
        assert (await ended(queue, "b")).status == JobStatus.SUCCEEDED


async def test_a_restart_of_the_queue_costs_nothing(
    settings: Settings, storage: LocalStorage, tmp_path: Path
) -> None:
    folder = tmp_path / "queue"
    with ExitStack() as server:
        url = server.enter_context(embedded_server(folder))
        before, after, of_worker = (RedisQueue(url) for _ in range(3))
        await before.enqueue(new_job("a", "slow", seeds=[1], steps=8))
        async with working(settings, of_worker, storage):
            await begun(before, "a")
            server.close()
            server.enter_context(embedded_server(folder))
            record = await ended(after, "a")
        for queue in (before, after, of_worker):
            await queue.close()
    assert (record.status, record.attempt) == (JobStatus.SUCCEEDED, 1)


async def test_a_model_is_loaded_while_others_work_and_tells_how_far_that_is(
    settings: Settings,
    queue: JobQueue,
    storage: LocalStorage,
    tiny_sd: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = threading.Event()

    def load(source: str, *, on_part: Loading, **options: Any) -> Any:
        if source == str(tiny_sd):
            on_part("unet", 1, 4)
            assert held.wait(60)
        return samplers.models.load(source, on_part=on_part, **options)

    monkeypatch.setattr("workers.shelf.load", load)
    entries = "".join(
        f"[[models]]\nid = '{id}'\nsource = '{source}'\n" for id, source in (("toy", "toy"), ("sd", tiny_sd))
    )
    (tmp_path / "two.toml").write_text(entries)
    told = settings.model_copy(update={"catalogue": tmp_path / "two.toml"})
    await queue.enqueue(new_job("later", "sd", width=16, height=16, seeds=[1]))

    async def loading() -> bool:
        record = await queue.get("later")
        assert record is not None
        progress = record.progress
        return (progress.stage, progress.step, progress.total) == ("loading", 1, 4)

    async with working(told, queue, storage):
        assert await eventually(loading)
        await queue.enqueue(new_job("a"))
        assert (await ended(queue, "a")).status == JobStatus.SUCCEEDED
        assert await loading()
        held.set()
        assert (await ended(queue, "later")).status == JobStatus.SUCCEEDED


async def test_a_job_on_a_model_that_is_not_here_says_which_command_gets_it(
    settings: Settings,
    queue: JobQueue,
    storage: LocalStorage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    far = "[[models]]\nid = 'far'\nsource = 'owner/far'\npipeline = 'FluxPipeline'\n"
    (tmp_path / "far.toml").write_text("[[models]]\nid = 'toy'\nsource = 'toy'\n" + far)
    told = settings.model_copy(update={"catalogue": tmp_path / "far.toml"})
    await queue.enqueue(new_job("a", "far"))
    async with working(told, queue, storage):
        record = await ended(queue, "a")
    assert record.error is not None
    assert "get it with: lodestar models pull far" in record.error.message


async def test_a_model_that_cannot_be_loaded_fails_its_jobs_and_is_not_announced(
    settings: Settings, queue: JobQueue, storage: LocalStorage
) -> None:
    await queue.enqueue(new_job("a", "gone"))
    async with working(settings, queue, storage):
        record = await ended(queue, "a")

        async def offered() -> bool:
            return [list(card.models) for card in await queue.workers()] == [["toy", "slow"]]

        assert await eventually(offered)
    assert record.status == JobStatus.FAILED
    assert record.error is not None
    assert record.error.code == "model_unavailable"
    assert "/nowhere" not in record.error.message


async def test_a_job_that_does_not_fit_the_model_fails_with_the_reason(
    settings: Settings, queue: JobQueue, storage: LocalStorage
) -> None:
    await queue.enqueue(new_job("a", width=33))
    async with working(settings, queue, storage):
        record = await ended(queue, "a")
    assert record.error is not None
    assert "multiples of 8" in record.error.message
    assert record.attempt == 1


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (ValueError("width must be a multiple of 8"), "invalid_request", False),
        (FloatingPointError("diverged"), "not_finite", False),
        (ModelUnavailable("no such model"), "model_unavailable", True),
        (torch.OutOfMemoryError("tried to allocate"), "out_of_memory", False),
        (OSError(28, "No space left on device", "/var/secret"), "storage_unavailable", True),
        (RuntimeError("/var/secret: boom"), "internal_error", True),
    ],
)
def test_an_error_becomes_a_message_without_inner_matters(
    error: Exception, code: str, retryable: bool
) -> None:
    problem = explain(error)
    assert (problem.code, problem.retryable) == (code, retryable)
    assert "secret" not in problem.message


async def test_classes_of_a_request_reach_the_method(
    settings: Settings, queue: JobQueue, storage: LocalStorage
) -> None:
    """The toy's exact classifier tells what a picture is confused with; another class, another picture."""
    guided = {"guidance": GFCG(strength=4), "seeds": [1]}
    await queue.enqueue(new_job("low", classes=["low"], **guided))
    await queue.enqueue(new_job("middle", classes=["middle"], **guided))
    await queue.enqueue(new_job("gradient", classes=["low"], guidance=Classifier(), seeds=[1]))
    async with working(settings, queue, storage):
        low, middle, gradient = [await ended(queue, name) for name in ("low", "middle", "gradient")]
    assert low.result is not None
    assert middle.result is not None
    assert gradient.result is not None
    assert low.result.images[0].sha256 != middle.result.images[0].sha256
    assert low.result.nfe.classifier == gradient.result.nfe.classifier == 4


async def test_what_follows_from_the_schedule_is_told(
    settings: Settings, queue: JobQueue, storage: LocalStorage
) -> None:
    await queue.enqueue(new_job("a", guidance=CFGPP(cfg_scale=3.0), seeds=[1]))
    async with working(settings, queue, storage):
        record = await ended(queue, "a")
    assert record.result is not None
    plan = compile_plan("ddim", 4, "vp", Toy().scheduler_config)
    ran = record.result.ran["guidance"]
    assert ran["scale"] == CFGPP.matching(3.0, plan.steps).scale
    assert ran["cfg_scale"] is None
