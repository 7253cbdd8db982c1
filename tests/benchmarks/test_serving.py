"""The arithmetic of the comparison, with servers of known speed; `benchmarks.serving` runs true ones."""

from __future__ import annotations

import asyncio
import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from benchmarks import serving
from benchmarks.baselines import SCHEDULERS, Ask
from benchmarks.serving import Point, goodput

STEP_S = 0.001


class Known:
    """A server that takes `STEP_S` for each step, `at_once` pictures at a time."""

    def __init__(self, at_once: int, level: int = 0) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._level = level
        self.asked: list[Ask] = []

    async def picture(self, ask: Ask) -> bytes:
        self.asked.append(ask)
        async with self._free:
            await asyncio.sleep(ask.steps * STEP_S)
        out = io.BytesIO()
        Image.fromarray(np.full((2, 2, 3), self._level, "uint8")).save(out, "PNG")
        return out.getvalue()


def test_the_traffic_is_mixed_and_the_same_for_all() -> None:
    asks = serving.trace(200, seed=1)
    assert asks == serving.trace(200, seed=1)
    assert {ask.steps for ask in asks} == set(serving.STEPS)
    assert {ask.sampler for ask in asks} == set(SCHEDULERS)
    assert 0.15 < Counter(ask.scale for ask in asks)[1.0] / 200 < 0.35
    assert len({ask.seed for ask in asks}) == 200


async def test_pictures_are_compared_pixel_by_pixel() -> None:
    asks = serving.trace(3, seed=1)
    assert await serving.apart(Known(1), Known(1), asks) == 0
    assert await serving.apart(Known(1, level=7), Known(1), asks) == 7


async def test_a_server_that_shares_its_time_bears_more() -> None:
    asks, alone = serving.trace(24, seed=1), await serving.unloaded_s(Known(1))
    assert alone[12, True] >= 12 * STEP_S
    capacity = len(asks) / sum(alone[ask.steps, ask.scale != 1] for ask in asks)
    bare, wide = Known(1), Known(8)
    slow = await serving.slowdowns(bare, asks, 4.0, capacity, alone)
    fast = await serving.slowdowns(wide, asks, 4.0, capacity, alone)
    assert bare.asked == wide.asked == asks
    assert slow.p95 > fast.p95
    assert slow.p50 <= slow.p95


@pytest.mark.parametrize(("p95", "wanted"), [([1, 2, 3], 3), ([1, 4, 2], 1), ([4], 0), ([], 0)], ids=str)
def test_goodput_ends_where_slowdown_is_first_unbearable(p95: list[float], wanted: float) -> None:
    assert goodput([Point(rate, 1.0, slow) for rate, slow in enumerate(p95, 1)]) == wanted
