"""Tiny pipelines of diffusers' own classes with random weights, one for each family of models."""

from __future__ import annotations

import string
from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
import torch
import transformers

CHARACTERS = [*string.ascii_lowercase, *string.digits, *",.!?-'"]
LABELS = {"0": "tench, Tinca tinca", "1": "goldfish", "2": "white shark"}
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
CLIP_TOKENS = ["<|startoftext|>", "<|endoftext|>", *CHARACTERS, *(letter + "</w>" for letter in CHARACTERS)]


def clip_tokenizer() -> Any:
    vocabulary = {token: i for i, token in enumerate(CLIP_TOKENS)}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def clip(projection: int | None = None) -> Any:
    config = transformers.CLIPTextConfig(
        vocab_size=len(CLIP_TOKENS),
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=projection or 32,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return (
        transformers.CLIPTextModelWithProjection(config) if projection else transformers.CLIPTextModel(config)
    )


def t5_tokenizer(longest: int = 32) -> Any:
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)]
    vocabulary = [*special, *((letter, -2.0) for letter in CHARACTERS)]
    return transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=longest)


def t5(width: int) -> Any:
    config = transformers.T5Config(
        vocab_size=64, d_model=width, d_kv=8, d_ff=37, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    return transformers.T5EncoderModel(config)


def kl(channels: int = 4, **config: Any) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=channels,
        **config,
    )


def unet(text_width: int, **config: Any) -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=text_width,
        attention_head_dim=4,
        norm_num_groups=8,
        **config,
    )


def lcm() -> Any:
    """Stable Diffusion with its guidance scale built in."""
    return diffusers.LatentConsistencyModelPipeline(
        vae=kl(),
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        unet=unet(32, time_cond_proj_dim=16),
        scheduler=diffusers.LCMScheduler(**BETAS),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl() -> Any:
    return diffusers.StableDiffusionXLPipeline(
        vae=kl(),
        text_encoder=clip(),
        text_encoder_2=clip(projection=24),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=unet(
            64,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24 + 6 * 8,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(**BETAS, steps_offset=1, timestep_spacing="leading"),
    )


def sd3(with_t5: bool = True) -> Any:
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8,
            in_channels=16,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=64,
            caption_projection_dim=32,
            pooled_projection_dim=48,
            out_channels=16,
            pos_embed_max_size=16,
        ),
        vae=kl(16, shift_factor=0.06, scaling_factor=1.5),
        text_encoder=clip(projection=24),
        text_encoder_2=clip(projection=24),
        text_encoder_3=t5(64) if with_t5 else None,
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        tokenizer_3=t5_tokenizer() if with_t5 else None,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def flux(guidance_embeds: bool = True) -> Any:
    """FLUX.1-dev; without `guidance_embeds` FLUX.1-schnell."""
    shift: dict[str, Any] = {"shift": 3.0, "use_dynamic_shifting": True} if guidance_embeds else {}
    return diffusers.FluxPipeline(
        transformer=diffusers.FluxTransformer2DModel(
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            guidance_embeds=guidance_embeds,
            axes_dims_rope=(4, 4, 8),
        ),
        vae=kl(16, shift_factor=0.06, scaling_factor=1.5),
        text_encoder=clip(),
        text_encoder_2=t5(32),
        tokenizer=clip_tokenizer(),
        tokenizer_2=t5_tokenizer(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**shift),
    )


def pixart() -> Any:
    return diffusers.PixArtSigmaPipeline(
        transformer=diffusers.PixArtTransformer2DModel(
            sample_size=8,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            in_channels=4,
            out_channels=8,
            cross_attention_dim=32,
            caption_channels=32,
        ),
        vae=kl(),
        text_encoder=t5(32),
        tokenizer=t5_tokenizer(),
        scheduler=diffusers.DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02),
    )


def sana() -> Any:
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", "▁", *CHARACTERS])}
    text = transformers.Gemma2Config(
        vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8,
    )  # fmt: skip
    return diffusers.SanaPipeline(
        transformer=diffusers.SanaTransformer2DModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=16,
        ),
        vae=diffusers.AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.41407,
        ),
        text_encoder=transformers.Gemma2Model(text),
        tokenizer=transformers.GemmaTokenizer(vocab=vocabulary, merges=[]),
        scheduler=diffusers.DPMSolverMultistepScheduler(
            use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction"
        ),
    )


def dit() -> Any:
    return diffusers.DiTPipeline(
        transformer=diffusers.DiTTransformer2DModel(
            sample_size=8,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            in_channels=4,
            out_channels=8,
            num_embeds_ada_norm=1000,
        ),
        vae=kl(),
        scheduler=diffusers.DDIMScheduler(beta_start=0.0001, beta_end=0.02, clip_sample=False),
        id2label=LABELS,
    )


def ddpm(**scheduler: Any) -> Any:
    return diffusers.DDPMPipeline(
        unet=diffusers.UNet2DModel(
            sample_size=16,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=8,
        ),
        scheduler=diffusers.DDPMScheduler(**({"clip_sample": False} | scheduler)),
    )


BUILDERS: dict[str, Callable[[], Any]] = {
    "lcm": lcm,
    "sdxl": sdxl,
    "sd3": sd3,
    "sd3 without t5": partial(sd3, with_t5=False),
    "flux dev": flux,
    "flux schnell": partial(flux, guidance_embeds=False),
    "pixart": pixart,
    "sana": sana,
    "dit": dit,
    "ddpm": ddpm,
}
"""Family -> what makes its pipeline."""


def build(family: str, **changes: Any) -> Any:
    """A pipeline with the same random weights each time, quiet."""
    torch.set_num_threads(1)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        pipeline = BUILDERS[family](**changes)
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    return pipeline
