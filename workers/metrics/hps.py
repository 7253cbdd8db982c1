"""How well people would say that a picture answers its prompt: HPS v2, a CLIP fitted to their choices."""

from __future__ import annotations

from pathlib import Path

from workers.metrics import Pixels, Scorer
from workers.metrics.clip import Clip, compare, loaded


def score(pixels: Pixels, prompt: str = "", scorer: Path | None = None) -> dict[str, float]:
    """Cosine of picture and prompt, (H, W, 3) in sRGB; in [-1, 1]. Raises Unavailable without weights.

    Source: X. Wu et al., "Human Preference Score v2", arXiv 2306.09341.
    """
    return {"hps": compare(_clip(scorer), pixels, prompt)[0]}


def identity(scorer: Path | None) -> Scorer:
    """Which CLIP scores. Raises Unavailable."""
    return _clip(scorer).identity


def _clip(scorer: Path | None) -> Clip:
    return loaded(
        scorer, f"put HPS v2, converted to a CLIPModel of transformers with its tokenizer, into {scorer}"
    )
