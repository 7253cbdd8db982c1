"""Does a model load and run here, in how much memory, and how long does a forward of n rows take?"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from samplers.cards import CARDS
from samplers.models import load
from samplers.models.base import Model
from samplers.steps import compile_plan

ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Checkup:
    """What was found. `memory_bytes`: the most that was in use, on the GPU if there, else of the process."""

    device: str
    dtype: str
    load_s: float
    weights_bytes: int
    memory_bytes: int
    forward_ms: dict[int, float]
    """Rows -> milliseconds of one forward, the median of three."""


def examine(source: str, options: Mapping[str, Any], size: tuple[int, int], most_rows: int) -> Checkup:
    """Load a model and denoise 1, 2, 4, ... rows of a picture of this (width, height) in pixels."""
    began = time.perf_counter()
    model = load(source, **options)
    load_s = time.perf_counter() - began
    shape = model.latent_shape(*size)
    sampler = next(name for name, card in CARDS.items() if model.family in card.families)
    level = compile_plan(sampler, 2, model.family, model.schedule_config(shape)).rows[0].now
    (cond,) = model.encode([""]).conds
    forward_ms: dict[int, float] = {}
    rows = 1
    while rows <= most_rows:
        x_t = torch.randn(rows, *shape, device=model.device)
        spent = [_timed_ms(model, x_t, [level] * rows, [cond] * rows) for _ in range(ROUNDS + 1)]
        forward_ms[rows] = median(spent[1:])
        rows *= 2
    return Checkup(
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        load_s=load_s,
        weights_bytes=model.weights_bytes,
        memory_bytes=_memory_bytes(model.device),
        forward_ms=forward_ms,
    )


def _timed_ms(model: Model, x_t: torch.Tensor, levels: Any, conds: Any) -> float:
    began = time.perf_counter()
    denoised = model.denoise(x_t, levels, conds)
    if not bool(denoised.isfinite().all()):  # waits for the device, too
        raise ValueError(f"its answer in {model.dtype} is not finite; set dtype to bfloat16 or float32")
    return (time.perf_counter() - began) * 1e3


def _memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
