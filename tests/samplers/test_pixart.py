"""The PixArt-Sigma adapter against the unmodified PixArtSigmaPipeline on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from guidance.cfg import CFG
from samplers import load, sample
from samplers.models import adapter
from tests.pipelines import build

SIZE: dict[str, Any] = {"width": 24, "height": 16}


def test_latents_are_the_pipelines(tmp_path: Path) -> None:
    pipeline = build("pixart")
    pipeline.save_pretrained(tmp_path)
    theirs = pipeline(
        "a red apple",
        negative_prompt="blue",
        guidance_scale=4.5,
        num_inference_steps=6,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
        use_resolution_binning=False,
        clean_caption=False,
        **SIZE,
    ).images
    ours = sample(
        load(tmp_path), "a red apple", negative_prompt="blue", guidance=CFG(scale=4.5), sampler="dpmpp_2m",
        steps=6, seeds=[3], **SIZE,
    ).latents  # fmt: skip
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-4


def test_padding_is_masked() -> None:
    """Whatever stands behind a prompt's last token changes nothing."""
    model = adapter("PixArtSigmaPipeline")("pixart", build("pixart"))
    (cond,) = model.encode(["an apple"]).conds
    text, mask = cond.data
    noisy = text + 100 * (1 - mask[:, None])
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    stacked = [model._forward(model._networks["main"], x, torch.tensor([500.0]), [one]) for one in (
        cond, type(cond)("noisy", (noisy, mask)))]  # pyright: ignore[reportPrivateUsage]  # fmt: skip
    torch.testing.assert_close(*stacked)
