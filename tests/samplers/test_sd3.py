"""The SD3 adapter against the unmodified StableDiffusion3Pipeline on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from guidance.cfg import CFG
from samplers import load, sample
from tests.pipelines import build

CALL: dict[str, Any] = {"negative_prompt": "blue", "width": 24, "height": 16}


def both(folder: Path, pipeline: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Our latents of a stored pipeline, and its own."""
    theirs = pipeline(
        "a red apple, 3d",
        guidance_scale=5.0,
        num_inference_steps=6,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
        **CALL,
    ).images
    ours = sample(
        load(folder, **options), "a red apple, 3d", guidance=CFG(scale=5), steps=6, seeds=[3], **CALL
    )
    return ours.latents, theirs


@pytest.mark.parametrize("family", ["sd3", "sd3 without t5"])
def test_latents_are_the_pipelines(tmp_path: Path, family: str) -> None:
    pipeline = build(family)
    pipeline.save_pretrained(tmp_path)
    ours, theirs = both(tmp_path, pipeline)
    assert ours.shape == (1, 16, 8, 12)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_t5_can_be_left_out_when_loading(tmp_path: Path) -> None:
    build("sd3").save_pretrained(tmp_path)
    pipeline = diffusers.StableDiffusion3Pipeline.from_pretrained(
        tmp_path, text_encoder_3=None, tokenizer_3=None
    )
    ours, theirs = both(tmp_path, pipeline, without=["text_encoder_3", "tokenizer_3"])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_a_shift_by_the_pictures_size_is_the_pipelines(tmp_path: Path) -> None:
    """As SD3.5's turbo models ask for it."""
    pipeline = build("sd3")
    pipeline.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=1.5)
    pipeline.save_pretrained(tmp_path)
    ours, theirs = both(tmp_path, pipeline)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_a_picture_is_the_pipelines(tmp_path: Path) -> None:
    pipeline = build("sd3")
    pipeline.save_pretrained(tmp_path)
    generator = torch.Generator().manual_seed(5)
    theirs = pipeline("an apple", guidance_scale=4.0, num_inference_steps=3, generator=generator, **CALL)
    ours = sample(load(tmp_path), "an apple", guidance=CFG(scale=4), steps=3, seeds=[5], **CALL)
    difference = np.asarray(ours.images[0], int) - np.asarray(theirs.images[0], int)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(("family", "tokens"), [("sd3", 256), ("sd3 without t5", 77)])
def test_a_prompt_is_cut_where_its_longest_encoder_ends(tmp_path: Path, family: str, tokens: int) -> None:
    build(family).save_pretrained(tmp_path)
    model = load(tmp_path)
    assert model.encode(["a " * (tokens // 2 - 2)]).warnings == []
    (warning,) = model.encode(["a " * tokens]).warnings
    assert f"reads {tokens} tokens" in warning
