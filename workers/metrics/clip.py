"""How well a picture fits its prompt, by a CLIP model that the model's folder brings along (`scorer/`)."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from samplers.models.parts import load_clip
from workers.metrics import Features, Pixels, Scorer, Unavailable, identity_of

LOADING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Clip:
    """A loaded CLIP model with its tokenizer, its picture processor, and what it is."""

    model: Any
    tokenizer: Any
    processor: Any
    identity: Scorer


def look(pixels: Pixels, prompt: str = "", scorer: Path | None = None) -> tuple[dict[str, float], Features]:
    """Cosine of picture and prompt, (H, W, 3) in sRGB, in [-1, 1]; and the picture's unit embedding (D,).

    Raises Unavailable without weights.
    Source: J. Hessel et al., "CLIPScore", EMNLP 2021, without its factor 2.5 and its floor at 0.
    """
    cosine, seen = compare(loaded(scorer), pixels, prompt)
    return {"clip": cosine}, seen


def compare(clip: Clip, pixels: Pixels, prompt: str) -> tuple[float, Features]:
    """The cosine of the embeddings of picture and prompt, and that of the picture, of unit length."""
    text = clip.tokenizer([prompt], truncation=True, padding=True, return_tensors="pt")
    picture = clip.processor([Image.fromarray(pixels)], return_tensors="pt")
    with torch.no_grad():
        out = clip.model(
            input_ids=text["input_ids"],
            attention_mask=text["attention_mask"],
            pixel_values=picture["pixel_values"],
        )
    return float((out.image_embeds * out.text_embeds).sum()), out.image_embeds[0].float().numpy()


def identity(scorer: Path | None) -> Scorer:
    """Which model scores. Raises Unavailable."""
    return loaded(scorer).identity


def loaded(scorer: Path | None, how: str = "the model's folder has no scorer/") -> Clip:
    """The model in that folder, loaded once. Raises Unavailable, which says `how` to install it."""
    if scorer is None or not (scorer / "config.json").is_file():
        raise Unavailable(f"weights not installed: {how}")
    with LOADING:
        return _load(scorer)


@lru_cache(maxsize=4)
def _load(scorer: Path) -> Clip:
    from transformers import CLIPImageProcessorPil, CLIPTokenizer

    return Clip(
        load_clip(scorer, "cpu"),
        CLIPTokenizer.from_pretrained(scorer),
        CLIPImageProcessorPil.from_pretrained(scorer),
        identity_of(scorer),
    )
