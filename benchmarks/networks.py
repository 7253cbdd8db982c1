"""The built-in model twice on the same weights: as diffusers' pipeline and as this project's model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from samplers.models.sd import StableDiffusion

BUILT_IN = Path(__file__).resolve().parent.parent / "models" / "emoji"


def load(folder: Path = BUILT_IN) -> tuple[Any, StableDiffusion]:
    """Pipeline and model; `RuntimeError` where the folder is missing."""
    if not (folder / "model_index.json").is_file():
        raise RuntimeError(f"no model in {folder}; name a Stable Diffusion folder with --model")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline: Any = StableDiffusionPipeline.from_pretrained(
        folder, torch_dtype=torch.float32, use_safetensors=True, safety_checker=None
    ).to(device)
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.eval().requires_grad_(False)
    model = StableDiffusion(
        folder.name,
        pipeline.tokenizer,
        pipeline.text_encoder,
        pipeline.unet,
        pipeline.vae,
        dict(pipeline.scheduler.config),
    )
    return pipeline, model


def difference(got: Tensor, wanted: Tensor) -> float:
    """Largest difference relative to the largest value."""
    return float((got - wanted).abs().max() / wanted.abs().max())
