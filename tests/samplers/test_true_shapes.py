"""The ready-made entries of models/hub.toml: the catalogue reads them, and their adapters run at true shape.

Networks are built on the meta device from their published configs: shapes are real, numbers are not there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch

from app.catalogue import ROOT, ModelCard, load_catalogue
from guidance.asks import Cond
from samplers.models import adapter
from samplers.steps import compile_plan

CARDS = load_catalogue(ROOT / "models" / "hub.toml").models
FOUR = (128, 256, 512, 512)


def kl(channels: int) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=FOUR,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=channels,
    )


def sd15() -> tuple[Any, int]:
    unet = diffusers.UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    return pipeline("StableDiffusionPipeline", unet, "DDIMScheduler"), 859_520_964


def lcm() -> tuple[Any, int]:
    unet = diffusers.UNet2DConditionModel(sample_size=96, cross_attention_dim=768, time_cond_proj_dim=256)
    return pipeline("LatentConsistencyModelPipeline", unet, "LCMScheduler"), 0


def sdxl() -> tuple[Any, int]:
    unet = diffusers.UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    return pipeline("StableDiffusionXLPipeline", unet, "EulerDiscreteScheduler"), 2_567_463_684


def sd35() -> tuple[Any, int]:
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=128,
        num_layers=24,
        num_attention_heads=24,
        attention_head_dim=64,
        caption_projection_dim=1536,
        joint_attention_dim=4096,
        pooled_projection_dim=2048,
        pos_embed_max_size=384,
        dual_attention_layers=tuple(range(13)),
        qk_norm="rms_norm",
    )
    return pipeline("StableDiffusion3Pipeline", transformer, "FlowMatchEulerDiscreteScheduler", 16), 0


def flux(dev: bool) -> tuple[Any, int]:
    transformer = diffusers.FluxTransformer2DModel(guidance_embeds=dev)
    made = pipeline("FluxPipeline", transformer, "FlowMatchEulerDiscreteScheduler", 16)
    return made, 11_901_408_320 if dev else 11_891_178_560


def pixart() -> tuple[Any, int]:
    transformer = diffusers.PixArtTransformer2DModel(
        sample_size=128, caption_channels=4096, use_additional_conditions=False
    )
    return pipeline("PixArtSigmaPipeline", transformer, "DPMSolverMultistepScheduler"), 0


def sana() -> tuple[Any, int]:
    blocks = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
    made = pipeline("SanaPipeline", diffusers.SanaTransformer2DModel(), "DPMSolverMultistepScheduler")
    with torch.device("cpu"):
        made.scheduler = diffusers.DPMSolverMultistepScheduler(use_flow_sigmas=True, flow_shift=3.0)
    made.vae = diffusers.AutoencoderDC(
        encoder_block_types=blocks,
        decoder_block_types=blocks,
        encoder_layers_per_block=(2, 2, 2, 3, 3, 3),
        encoder_block_out_channels=(128, 256, 512, 512, 1024, 1024),
        scaling_factor=0.41407,
    )
    return made, 0


def dit() -> tuple[Any, int]:
    transformer = diffusers.DiTTransformer2DModel(
        num_layers=28, num_attention_heads=16, attention_head_dim=72, in_channels=4, out_channels=8,
        sample_size=32, patch_size=2, num_embeds_ada_norm=1000,
    )  # fmt: skip
    return pipeline("DiTPipeline", transformer, "DDIMScheduler"), 0


BUILDERS: dict[str, Callable[[], tuple[Any, int]]] = {
    "sd15": sd15,
    "sd15-qr": sd15,
    "sdxl": sdxl,
    "sdxl-lightning": sdxl,
    "sdxl-turbo": sdxl,
    "sdxl-hyper": sdxl,
    "lcm": lcm,
    "sana": sana,
    "sd35-medium": sd35,
    "flux-dev": lambda: flux(dev=True),
    "flux-schnell": lambda: flux(dev=False),
    "pixart-sigma": pixart,
    "dit-xl-256": dit,
}
TEXT: dict[str, tuple[tuple[int, ...], ...]] = {
    "StableDiffusionXLPipeline": ((77, 2048), (1280,)),
    "StableDiffusion3Pipeline": ((333, 4096), (2048,)),
    "FluxPipeline": ((512, 4096), (768,)),
    "PixArtSigmaPipeline": ((300, 4096), (300,)),
    "SanaPipeline": ((300, 2304), (300,)),
}


def pipeline(name: str, network: Any, scheduler: str, channels: int = 4) -> Any:
    """A pipeline of this name without text encoders, which an adapter's forward does without."""
    kind = type(name, (SimpleNamespace,), {})
    parts = {"unet": network} if "UNet" in type(network).__name__ else {"transformer": network}
    made = getattr(diffusers, name)
    with torch.device("cpu"):  # its levels are numbers
        levels = getattr(diffusers, scheduler)()
    return kind(
        **parts,
        vae=kl(channels),
        scheduler=levels,
        _pack_latents=getattr(made, "_pack_latents", None),
        _unpack_latents=getattr(made, "_unpack_latents", None),
        _prepare_latent_image_ids=getattr(made, "_prepare_latent_image_ids", None),
    )


def condition(card: ModelCard) -> Cond:
    if card.pipeline == "DiTPipeline":
        return Cond("", torch.zeros((), dtype=torch.long, device="meta"))
    if card.pipeline in ("StableDiffusionPipeline", "LatentConsistencyModelPipeline"):
        return Cond("", torch.zeros(77, 768, device="meta"))
    assert card.pipeline is not None
    return Cond("", tuple(torch.zeros(shape, device="meta") for shape in TEXT[card.pipeline]))


def test_every_repository_is_pinned() -> None:
    """By a commit, but for the one whose safetensors lie in a pull request of its own."""
    for card in CARDS.values():
        pins = [(card.source, card.revision), *((lora.source, lora.revision) for lora in card.loras)]
        pins += [tuple(str(value).split("@")) for value in card.options.values()]
        for source, revision in pins:
            known = revision == "refs/pr/1" if source == "facebook/DiT-XL-2-256" else None
            assert known or re.fullmatch("[0-9a-f]{40}", revision or ""), source


def test_there_is_a_network_for_every_entry() -> None:
    assert set(BUILDERS) == set(CARDS)


SIBLINGS = {"sd15-qr", "lcm", "sdxl-lightning", "sdxl-turbo", "sdxl-hyper", "flux-schnell"}
"""Entries whose network another one has, too."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in SIBLINGS else ()) for name in BUILDERS],
)
def test_the_adapter_runs_the_entrys_default_request_at_true_shape(name: str) -> None:
    card = CARDS[name]
    with torch.device("meta"):
        made, parameters = BUILDERS[name]()
    model = adapter(card.pipeline or "")(name, made)
    beside = {"controlnet"} & set(card.options)
    assert (model.factor, model.family, model.extras | beside) == (card.factor, card.family, card.extras)
    network = getattr(made, "unet", None) or made.transformer
    assert parameters in (0, sum(one.numel() for one in network.parameters()))
    shape = model.latent_shape(card.width, card.height)
    plan = compile_plan(
        card.sampler, card.steps, card.family, model.schedule_config(shape) | dict(card.scheduler)
    )
    assert len(plan.steps) == card.steps
    x = torch.zeros(2, *shape, device="meta")
    denoised = model.denoise(x, [plan.rows[0].now] * 2, [condition(card)] * 2)
    assert denoised.shape == x.shape
    assert model.decode(denoised).shape == (2, 3, card.height, card.width)
