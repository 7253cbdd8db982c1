"""Prompts as a model reads them, the latest ones kept."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from guidance.asks import Cond

CACHED_PROMPTS = 512


@dataclass(frozen=True, slots=True)
class Embedded:
    """A prompt as one network takes it: `data` (a tensor, or a tuple of tensors), and how it was read."""

    data: Any
    warning: str | None = None
    pieces: int = 1
    text: str | None = None
    """What a classifier reads in its place; the prompt itself where None."""


class Prompts:
    """What `embed` makes of a prompt, with a number of CLIP layers left out, as a condition of this model."""

    def __init__(self, model: str, embed: Callable[[str, int | None], Embedded]) -> None:
        self._model, self._embed = model, embed
        self._kept: OrderedDict[tuple[str, int | None], tuple[Cond, Embedded]] = OrderedDict()

    @torch.no_grad()
    def read(self, prompt: str, clip_skip: int | None) -> tuple[Cond, Embedded]:
        """The condition, and how the prompt was read."""
        asked = prompt, clip_skip
        if asked not in self._kept:
            read = self._embed(prompt, clip_skip)
            key = hashlib.sha256(f"{self._model}\0{prompt}\0{clip_skip}".encode()).hexdigest()[:24]
            cond = Cond(key, read.data, text=prompt if read.text is None else read.text)
            self._kept[asked] = cond, read
            if len(self._kept) > CACHED_PROMPTS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(asked)
        return self._kept[asked]
