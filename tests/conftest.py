"""Fixtures that several areas share."""

from __future__ import annotations

import os
import secrets
import string
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.queue.embedded import embedded_server
from app.queue.redis import RedisQueue

SD_SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
COUNTERPARTS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "heun": "HeunDiscreteScheduler",
    "ddpm": "DDPMScheduler",
    "lcm": "LCMScheduler",
}
"""Our samplers that diffusers has a scheduler for."""


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server for all tests of the session."""
    with embedded_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def object_store() -> Iterator[Any]:
    """An S3-compatible server in this process, and the variables that lead to it; stop it, start it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    server._port = port  # it shall come back where it was
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ALLOW_HTTP", "true")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        yield server
    server.stop()


@pytest.fixture(scope="session")
def s3_bucket(object_store: Any) -> str:
    """The URL of a bucket there."""
    httpx.put(f"{os.environ['AWS_ENDPOINT_URL']}/results", trust_env=False).raise_for_status()
    return "s3://results"


@pytest.fixture
def redis_prefix() -> str:
    """The test's own part of that server."""
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
async def queue(redis_url: str, redis_prefix: str) -> AsyncIterator[RedisQueue]:
    """An empty queue."""
    queue = RedisQueue(redis_url, redis_prefix, retry_backoff_ms=0)
    yield queue
    await queue.close()


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable-Diffusion-shaped folder with random weights (16x16 pixels), plus a weak UNet."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    letters = [*string.ascii_lowercase, *string.digits, *",.!?-'"]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]

    def unet(**changes: object) -> UNet2DConditionModel:
        return UNet2DConditionModel(
            **{
                "sample_size": 8,
                "block_out_channels": (32, 64),
                "layers_per_block": 1,
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
                "cross_attention_dim": 32,
                "attention_head_dim": 4,
                "norm_num_groups": 8,
            }
            | changes
        )

    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            latent_channels=4,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokens),
                hidden_size=32,
                intermediate_size=37,
                num_hidden_layers=2,
                num_attention_heads=4,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        ),
        tokenizer=CLIPTokenizer(
            vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=77
        ),
        unet=unet(),
        scheduler=DDIMScheduler(**SD_SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    folder = tmp_path_factory.mktemp("tiny_sd")
    pipeline.save_pretrained(folder)
    unet(layers_per_block=1, block_out_channels=(16, 16)).save_pretrained(folder / "unet_weak")
    return folder
