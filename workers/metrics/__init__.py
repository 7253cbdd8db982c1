"""Metrics, one module each: a module's `score` is what `app.scores.METRIC_CARDS` has a card for.

Adding a metric is adding a module here, its card there and a test. A metric that needs a model of its own
finds it in its folder and says with `identity` which one it was; without it, it raises `Unavailable`.
A metric that sets of pictures are compared in has `look` instead: its scores, and the picture's features.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Features = NDArray[np.floating]


class Unavailable(Exception):
    """This metric cannot be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """The model behind a score: another one gives other numbers."""

    name: str
    sha256: str


def identity_of(folder: Path, weights: str = "*.safetensors") -> Scorer:
    """Name and hash of the weights in a folder; of several files, of one after the other by name."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob(weights)):
        digest.update(file.read_bytes())
    return Scorer(f"{folder.parent.name}/{folder.name}", digest.hexdigest())


@dataclass(frozen=True, slots=True)
class Measured:
    """The scores of one picture, features and the models behind them by metric, why a metric is missing."""

    scores: dict[str, float] = field(default_factory=dict[str, float])
    features: dict[str, Features] = field(default_factory=dict[str, Features])
    scorers: dict[str, Scorer] = field(default_factory=dict[str, Scorer])
    warnings: list[str] = field(default_factory=list[str])


def measure(names: Iterable[str], pixels: Pixels, prompt: str, folders: Mapping[str, Path]) -> Measured:
    """All scores of these metrics for one picture, (H, W, 3) in sRGB; `folders`: their models', by name."""
    found = Measured()
    for name in names:
        module = importlib.import_module(f"{__name__}.{name}")
        try:
            if hasattr(module, "look"):
                scores, found.features[name] = module.look(pixels, prompt, folders.get(name))
            else:
                scores = module.score(pixels, prompt, folders.get(name))
            found.scores.update(scores)
            if hasattr(module, "identity"):
                found.scorers[name] = module.identity(folders.get(name))
        except Unavailable as reason:
            found.warnings.append(f"metric {name!r} is unavailable: {reason}")
    return found
