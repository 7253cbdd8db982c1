"""Tiny pipelines of diffusers' own classes with random weights, one for each family of models."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import diffusers
import torch
import transformers

CHARACTERS = [*string.ascii_lowercase, *string.digits, *",.!?-'"]
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


def t5() -> Any:
    config = transformers.T5Config(
        vocab_size=64, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, decoder_start_token_id=0
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


def sdxl() -> Any:
    return diffusers.StableDiffusionXLPipeline(
        vae=kl(),
        text_encoder=clip(),
        text_encoder_2=clip(projection=24),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=diffusers.UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=64,
            attention_head_dim=4,
            norm_num_groups=8,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24 + 6 * 8,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(**BETAS, steps_offset=1, timestep_spacing="leading"),
    )


BUILDERS: dict[str, Callable[[], Any]] = {"sdxl": sdxl}
"""Family -> what makes its pipeline."""


def build(family: str) -> Any:
    """A pipeline with the same random weights each time, quiet."""
    torch.set_num_threads(1)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        pipeline = BUILDERS[family]()
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    return pipeline
