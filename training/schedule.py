"""A run measured in wall-clock time: it ends annealed on any machine, at any load."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm


class Clock:
    """Elapsed share of a wall-clock budget; resumes from the seconds already spent."""

    def __init__(self, budget_s: float, spent_s: float = 0.0) -> None:
        self.budget_s, self.began = budget_s, time.monotonic() - spent_s

    @property
    def spent_s(self) -> float:
        return time.monotonic() - self.began

    @property
    def share(self) -> float:
        return min(1.0, self.spent_s / self.budget_s)

    def steps(self, start: int, name: str) -> Iterator[tuple[int, tqdm]]:
        """Count steps from `start` until the budget is spent, behind a bar of seconds."""
        step = start
        form = "{desc} {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f}s{postfix}"
        with tqdm(total=self.budget_s, desc=name, bar_format=form, mininterval=2.0) as bar:
            while self.spent_s < self.budget_s:
                yield step, bar
                step += 1
                bar.update(min(self.spent_s, self.budget_s) - bar.n)


def rate(share: float, step: int, warm_steps: int = 100, floor: float = 0.01) -> float:
    """Learning-rate factor: linear warm-up in steps, cosine in wall-clock share."""
    cosine = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))
    return min(1.0, (step + 1) / warm_steps) * cosine


class Average:
    """Power-law EMA of weights: beta = (1 - 1/n)^(gamma + 1). Source: EDM2, eq. 127."""

    def __init__(self, model: nn.Module, gamma: float = 12.0) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.gamma = gamma

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        beta = (1 - 1 / (step + 1)) ** (self.gamma + 1)
        ours, theirs = list(self.model.parameters()), list(model.parameters())
        torch._foreach_lerp_(ours, [p.detach() for p in theirs], 1 - beta)


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


class Checkpoint:
    """A run's model, average and optimiser at `path`; found there, they are taken up where they were left."""

    def __init__(
        self, path: Path, model: nn.Module, average: Average, optimiser: torch.optim.Optimizer, device: str
    ) -> None:
        self.path = path
        self.parts: dict[str, Any] = {"model": model, "average": average.model, "optimiser": optimiser}
        self.step, self.spent_s, self.saved_s = 0, 0.0, 0.0
        self.state: dict[str, Any] = {}
        if path.exists():
            self.state = torch.load(path, map_location=device, weights_only=True)
            for name, part in self.parts.items():
                part.load_state_dict(self.state[name])
            self.step, self.spent_s = self.state["step"], self.state["spent_s"]
            self.saved_s = self.spent_s

    def save(self, step: int, spent_s: float, every_s: float = 0.0, **more: Any) -> None:
        """Store everything and `more`, unless that happened less than `every_s` seconds ago."""
        if spent_s - self.saved_s < every_s:
            return
        self.saved_s = spent_s
        states = {name: part.state_dict() for name, part in self.parts.items()}
        save(self.path, states | {"step": step, "spent_s": spent_s} | more)
