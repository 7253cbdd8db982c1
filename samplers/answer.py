"""Answering what runs ask: pack many asks into one forward, hand each its rows back, count the cost."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from guidance.asks import Ask, Classify, Cond, Decode, Denoise, Encode, Level, Perceive
from samplers.models.base import Model


@dataclass(slots=True)
class Nfe:
    """What one image cost, in evaluations of one sample each.

    `model` and `weak` count denoiser rows of the main and the weak network; `grad` counts those among them
    that carried a gradient, `shared` those that were not evaluated for it, since another run had the same;
    `decode` and `classifier` count pictures that guidance asked for (the final decoding is not counted).
    """

    model: int = 0
    weak: int = 0
    grad: int = 0
    classifier: int = 0
    decode: int = 0
    shared: int = 0

    def count(self, ask: Ask) -> None:
        """Add the cost of one ask."""
        match ask:
            case Denoise(x_t=x_t, conds=conds, network=network, grad=grad):
                rows = len(x_t) * len(conds)
                if network == "weak":
                    self.weak += rows
                else:
                    self.model += rows
                self.grad += rows if grad else 0
            case Decode(latents=latents):
                self.decode += len(latents)
            case Classify(images=images):
                self.classifier += len(images)
            case Encode() | Perceive():  # as cheap as scoring the finished picture, which is not counted
                pass


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Rows of many asks, ready for one `Model.denoise`."""

    x: Tensor
    levels: list[Level]
    conds: list[Cond]


def rows(ask: Denoise) -> int:
    """How many rows of a forward this ask fills."""
    return len(ask.x_t) * len(ask.conds)


def kind(ask: Denoise) -> Hashable:
    """What asks must share to share a forward: network, latent shape, with a ControlNet or without."""
    return ask.network, tuple(ask.x_t.shape[1:]), ask.conds[0].control is not None


def pack(asks: Sequence[Denoise]) -> Packed:
    """Stack asks of one network and latent shape: ask by ask, within it condition by condition."""
    x = torch.cat([ask.x_t for ask in asks for _ in ask.conds])
    levels = [ask.level for ask in asks for _ in range(rows(ask))]
    conds = [cond for ask in asks for cond in ask.conds for _ in range(len(ask.x_t))]
    return Packed(x, levels, conds)


def unpack(denoised: Tensor, asks: Sequence[Denoise]) -> list[list[Tensor]]:
    """Each ask's answer, one tensor per condition, from the rows that `pack` made (more rows are padding)."""
    answers: list[list[Tensor]] = []
    begin = 0
    for ask in asks:
        size = len(ask.x_t)
        answers.append([denoised[begin + i * size : begin + (i + 1) * size] for i in range(len(ask.conds))])
        begin += rows(ask)
    return answers


def answer_one(model: Model, ask: Ask) -> Any:
    """Answer one ask by itself; with `grad` the answer carries the graph."""
    with torch.set_grad_enabled(getattr(ask, "grad", False)):
        match ask:
            case Denoise():
                packed = pack((ask,))
                out = model.denoise(packed.x, packed.levels, packed.conds, ask.network, ask.grad)
                return unpack(out, (ask,))[0]
            case Decode():
                return model.decode(ask.latents, ask.grad)
            case Classify():
                return model.classify(ask.images, ask.labels, ask.level, ask.grad, ask.softplus)
            case Encode():
                return model.encode_images(ask.images)
            case Perceive():
                return model.perceive(ask.images, ask.grad)


def batches(asks: Sequence[Ask]) -> list[list[int]]:
    """Positions of asks that may share a forward: same `kind` and no gradient; others alone."""
    groups: dict[Any, list[int]] = {}
    for i, ask in enumerate(asks):
        groups.setdefault(kind(ask) if isinstance(ask, Denoise) and not ask.grad else i, []).append(i)
    return list(groups.values())


def answer(model: Model, asks: Sequence[Ask]) -> list[Any]:
    """Answer all asks, in their order, with as few forwards as they allow."""
    answers: list[Any] = [None] * len(asks)
    for group in batches(asks):
        together = [ask for i in group if isinstance(ask := asks[i], Denoise)]
        if len(group) == 1:
            answers[group[0]] = answer_one(model, asks[group[0]])
            continue
        packed = pack(together)
        with torch.no_grad():
            out = model.denoise(packed.x, packed.levels, packed.conds, together[0].network)
        for i, mine in zip(group, unpack(out, together), strict=True):
            answers[i] = mine
    return answers
