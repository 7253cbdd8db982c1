import gc

import pytest
import torch

from app.jobs import JobStatus
from app.queue.base import JobQueue
from app.settings import Settings
from app.storage.local import LocalStorage
from guidance.base import Guidance
from guidance.cfg import CFG
from guidance.none import NoGuidance
from samplers.driver import drive
from tests.workers.serving import ended, new_job, working
from tests.workers.tiny import Tiny, image
from workers.engine import Engine
from workers.prefix import Question
from workers.ticket import Outcome, Ticket

ARMS: list[Guidance] = [CFG(scale=3, guide_from=0.5), CFG(scale=8, guide_from=0.5), NoGuidance()]
"""The same for three of six steps; the fourth begins at the same sample."""
ALONE, TOGETHER = [9, 9, 6], 3 * 1 + 2 + 2 * (2 + 2 + 1)


@pytest.fixture
def model() -> Tiny:
    return Tiny()


def submit(engine: Engine, model: Tiny, guidance: Guidance, seed: int = 1, **alike: str) -> list[Outcome]:
    outcomes: list[Outcome] = []
    engine.submit(Ticket("tiny", image(model, guidance, seed, steps=6), outcomes.append, **alike))
    return outcomes


def finish(engine: Engine) -> None:
    while engine.step():
        pass


def bits(outcome: Outcome) -> bytes:
    assert outcome.final is not None
    return outcome.final.latents.numpy().tobytes()


@pytest.mark.parametrize("delay", [0, 2, 5])
def test_arms_are_evaluated_once_until_they_part_and_get_the_same_bits(model: Tiny, delay: int) -> None:
    wanted = []
    for guidance in ARMS:
        engine = Engine({"tiny": model}, 8, determinism="bucket")
        outcomes = submit(engine, model, guidance)
        finish(engine)
        wanted.append(bits(outcomes[0]))
    engine = Engine({"tiny": model}, 8, determinism="bucket")
    arms = [submit(engine, model, ARMS[0], family="a")]
    for _ in range(delay):
        engine.step()
    arms += [submit(engine, model, guidance, family="a") for guidance in ARMS[1:]]
    finish(engine)
    assert [bits(outcome) for (outcome,) in arms] == wanted
    assert [outcome.nfe.model for (outcome,) in arms] == ALONE
    assert engine.stats.rows == TOGETHER
    assert sum(outcome.nfe.shared for (outcome,) in arms) == sum(ALONE) - TOGETHER


def test_what_is_not_the_same_sample_is_not_shared(model: Tiny) -> None:
    engine = Engine({"tiny": model})
    arms = [submit(engine, model, CFG(), seed, family="a") for seed in (1, 2)]
    finish(engine)
    assert [outcome.nfe.shared for (outcome,) in arms] == [0, 0]
    for seed, (outcome,) in zip((1, 2), arms, strict=True):
        (alone,), _ = drive(model, [image(model, CFG(), seed, steps=6)])
        assert outcome.final is not None
        assert torch.allclose(outcome.final.latents, alone.latents, rtol=1e-4, atol=1e-5)


def test_a_canceled_arm_leaves_the_others_what_was_evaluated(model: Tiny) -> None:
    engine = Engine({"tiny": model})
    ended: list[Outcome] = []
    first = engine.submit(Ticket("tiny", image(model, CFG(), 1, steps=6), ended.append, family="a"))
    other = submit(engine, model, CFG(), family="a")
    for _ in range(3):
        engine.step()
    engine.cancel(first)
    finish(engine)
    assert ended[0].final is None
    assert other[0].final is not None
    assert engine.stats.rows == other[0].nfe.model == 12


def test_what_nobody_can_come_to_any_more_is_let_go_while_the_family_lives_on(model: Tiny) -> None:
    engine = Engine({"tiny": model})
    for scale in range(2, 20):  # of a long sweep two runs at a time, so the family never ends
        submit(engine, model, CFG(scale=scale), family="a")
        for _ in range(3):
            engine.step()
    kept = [one for one in gc.get_objects() if type(one) is Question]
    assert 0 < len(kept) <= 3 * 6
    finish(engine)


async def test_a_worker_shares_between_jobs_that_differ_in_guidance_alone(
    settings: Settings, queue: JobQueue, storage: LocalStorage
) -> None:
    for scale in (2, 6):
        guidance = CFG(scale=scale, guide_from=0.5)
        await queue.enqueue(new_job(f"arm {scale}", guidance=guidance, seeds=[1]))
    await queue.enqueue(new_job("other", guidance=CFG(scale=2), seeds=[3], prompt="low"))
    async with working(settings, queue, storage):
        arms = [await ended(queue, name) for name in ("arm 2", "arm 6", "other")]
    assert [arm.status for arm in arms] == [JobStatus.SUCCEEDED] * 3
    nfe = [arm.result.nfe for arm in arms if arm.result]
    assert [one.model for one in nfe] == [6, 6, 8]
    assert nfe[0].shared + nfe[1].shared == 2 + 2
    assert nfe[2].shared == 0
