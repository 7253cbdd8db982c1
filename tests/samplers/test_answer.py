"""Packing asks into forwards and handing the rows back; the cost of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from guidance.asks import Ask, Classify, Cond, Decode, Denoise, Level
from samplers.answer import Nfe, answer, answer_one, batches, pack, unpack
from samplers.models.toy import Toy

HIGH, LOW = Toy().cond("high"), Toy().cond("low")
CLOSE, FAR = Level(0.9, 0.436, 100.0), Level(0.4, 0.917, 800.0)


class Counting(Toy):
    """Notes how many rows each forward had."""

    def __init__(self) -> None:
        super().__init__(size_px=16)
        self.calls: list[int] = []

    def denoise(self, x_t: Tensor, levels: Sequence[Level], conds: Sequence[Cond], *rest: Any) -> Tensor:
        self.calls.append(len(x_t))
        return super().denoise(x_t, levels, conds, *rest)


def noise(batch: int, size: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


ASKS = [
    Denoise(noise(1, seed=1), CLOSE, (HIGH, LOW)),
    Denoise(noise(2, seed=2), FAR, (LOW,)),
    Denoise(noise(3, seed=3), CLOSE, (LOW, HIGH)),
]


def test_rows_are_packed_ask_by_ask_and_condition_by_condition() -> None:
    packed = pack(ASKS)
    assert [cond.key for cond in packed.conds] == ["high", "low", *["low"] * 2, *["low"] * 3, *["high"] * 3]
    assert packed.levels == [*[CLOSE] * 2, *[FAR] * 2, *[CLOSE] * 6]
    expected = [ASKS[0].x_t, ASKS[0].x_t, ASKS[1].x_t, ASKS[2].x_t, ASKS[2].x_t]
    assert torch.equal(packed.x, torch.cat(expected))


def test_unpacking_undoes_packing_whatever_the_padding() -> None:
    padded = torch.cat([pack(ASKS).x, noise(6, seed=9)])
    for ask, rows in zip(ASKS, unpack(padded, ASKS), strict=True):
        assert len(rows) == len(ask.conds)
        assert all(torch.equal(row, ask.x_t) for row in rows)


def test_together_they_get_what_each_gets_alone_in_one_forward() -> None:
    model = Counting()
    together = answer(model, ASKS)
    assert model.calls == [10]
    for ask, mine in zip(ASKS, together, strict=True):
        for cond, estimate in zip(ask.conds, mine, strict=True):
            alone = Toy().denoise(ask.x_t, [ask.level] * len(ask.x_t), [cond] * len(ask.x_t))
            torch.testing.assert_close(estimate, alone, rtol=1e-6, atol=1e-6)


def test_asks_that_cannot_share_a_forward_do_not() -> None:
    asks: list[Ask] = [
        ASKS[0],
        Denoise(noise(1), CLOSE, (HIGH,), network="weak"),
        Denoise(noise(1, size=4), CLOSE, (HIGH,)),
        Denoise(noise(1), CLOSE, (HIGH,), grad=True),
        Denoise(noise(1), CLOSE, (HIGH,), grad=True),
        Decode(noise(1)),
        ASKS[1],
        Classify(noise(1, size=16)),
    ]
    assert sorted(batches(asks)) == [[0, 6], [1], [2], [3], [4], [5], [7]]
    answers = answer(Counting(), asks)
    weak, main = answers[1][0], Toy().denoise(noise(1), [CLOSE], [HIGH])
    assert not torch.allclose(weak, main, atol=1e-3)
    assert answers[5].shape == (1, 3, 16, 16)
    assert answers[7].shape == (1, 3)


@pytest.mark.parametrize("grad", [True, False])
def test_the_graph_is_there_where_asked_for_and_only_there(grad: bool) -> None:
    x = noise(1).requires_grad_(True)
    asks: list[Ask] = [
        Denoise(x, CLOSE, (HIGH,), grad=grad),
        Decode(x, grad=grad),
        Classify(Toy().decode(x), grad=grad),
    ]
    for ask in asks:
        found = answer_one(Toy(), ask)
        assert (found[0] if isinstance(ask, Denoise) else found).requires_grad == grad


def test_every_evaluation_is_counted_once() -> None:
    nfe = Nfe()
    for ask in (
        *ASKS,
        Denoise(noise(2), CLOSE, (HIGH,), network="weak"),
        Denoise(noise(1), CLOSE, (HIGH, LOW), grad=True),
        Denoise(noise(1), CLOSE, (HIGH,), network="weak", grad=True),
        Decode(noise(3)),
        Classify(noise(5)),
    ):
        nfe.count(ask)
    assert nfe == Nfe(model=12, weak=3, grad=3, classifier=5, decode=3)
