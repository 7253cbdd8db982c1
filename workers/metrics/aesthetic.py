"""How much people would like a picture, by a linear or MLP head on the picture embedding of a CLIP."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from workers.metrics import Pixels, Scorer, Unavailable
from workers.metrics.clip import Clip, loaded

HEAD = "head.safetensors"
HOW = (
    "hf download openai/clip-vit-large-patch14 --include '*.json' '*.txt' model.safetensors "
    f"--local-dir {{folder}}, and put LAION's head there as {HEAD}"
)


def score(pixels: Pixels, prompt: str = "", scorer: Path | None = None) -> dict[str, float]:
    """Predicted rating, (H, W, 3) in sRGB; LAION's head gives 1 to 10. Raises Unavailable without weights.

    Source: C. Schuhmann, "improved-aesthetic-predictor", 2022. Its layers have no activations between them,
    and the embedding has unit length.
    """
    clip, layers = parts(scorer)
    picture = clip.processor([Image.fromarray(pixels)], return_tensors="pt")
    with torch.no_grad():
        seen = clip.model.vision_model(pixel_values=picture["pixel_values"]).pooler_output
        x = functional.normalize(clip.model.visual_projection(seen), dim=-1)
        for weight, bias in layers:
            x = functional.linear(x, weight, bias)
    return {"aesthetic": float(x)}


def identity(scorer: Path | None) -> Scorer:
    """Which CLIP and head score. Raises Unavailable."""
    return parts(scorer)[0].identity


def parts(scorer: Path | None) -> tuple[Clip, list[tuple[Tensor, Tensor]]]:
    """The CLIP and its head's layers, loaded once. Raises Unavailable."""
    how = HOW.format(folder=scorer)
    clip = loaded(scorer, how)
    if scorer is None or not (scorer / HEAD).is_file():
        raise Unavailable(f"weights not installed: {how}")
    return clip, _layers(scorer / HEAD)


@lru_cache(maxsize=2)
def _layers(file: Path) -> list[tuple[Tensor, Tensor]]:
    found = {name: tensor.float() for name, tensor in load_file(file).items()}
    names = sorted((name for name in found if name.endswith("weight")), key=_place)
    return [(found[name], found[name.removesuffix("weight") + "bias"]) for name in names]


def _place(name: str) -> list[int]:
    """Where a layer stands: `layers.2.weight` comes before `layers.10.weight`."""
    return [int(number) for number in re.findall(r"\d+", name)]
