"""The network to time, twice with the same weights: as diffusers' pipeline loads it and as a worker does."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from guidance.asks import Cond
from samplers.models.base import Encoded
from samplers.models.sd import StableDiffusion

BUILT_IN = Path(__file__).resolve().parent.parent / "models" / "emoji"
SMALL = "small"
TEXT = (77, 128)


def load(source: str) -> tuple[Any, StableDiffusion]:
    """Pipeline and model of a diffusers folder, or "small": 8.8 M random parameters of SD's shape."""
    pipeline: Any = _small() if source == SMALL else _stored(Path(source))
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        if part is not None:
            part.eval().requires_grad_(False)
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
    adapter = RandomText if source == SMALL else StableDiffusion
    stock = pipeline.unet
    pipeline.unet = copy.deepcopy(stock)
    model = adapter("it", pipeline)
    pipeline.unet = stock
    return pipeline, model


class RandomText(StableDiffusion):
    """A prompt is a random embedding that depends on nothing but the prompt; there is no autoencoder."""

    def __init__(self, name: str, pipeline: Any) -> None:
        super().__init__(name, pipeline)
        self._cell_px = pipeline.vae_scale_factor

    def encode(self, prompts: Sequence[str]) -> Encoded:
        def embed(prompt: str) -> Tensor:
            seed = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4])
            return torch.randn(TEXT, generator=torch.Generator().manual_seed(seed)).to(self.device)

        return Encoded([Cond(prompt, embed(prompt)) for prompt in prompts])


def difference(got: Tensor, wanted: Tensor) -> float:
    """Largest difference relative to the largest value."""
    return float((got - wanted).abs().max() / wanted.abs().max())


def _stored(folder: Path) -> Any:
    if not (folder / "model_index.json").is_file():
        raise SystemExit(f"no model in {folder}; name a Stable Diffusion folder, or {SMALL!r}, with --model")
    options: dict[str, Any] = {"use_safetensors": True, "safety_checker": None}
    return StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, **options)


def _small() -> StableDiffusionPipeline:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(64, 128, 192),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT[1],
        attention_head_dim=8,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    absent: dict[str, Any] = dict.fromkeys(
        ("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor")
    )
    return StableDiffusionPipeline(unet=unet, scheduler=scheduler, requires_safety_checker=False, **absent)
