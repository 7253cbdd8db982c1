"""The unconditional adapter against the unmodified DDPMPipeline and DDIMPipeline on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from guidance.cfg import CFG
from guidance.none import NoGuidance
from samplers import load, sample
from samplers.models import adapter
from tests.pipelines import build

CALL: dict[str, Any] = {"num_inference_steps": 5, "output_type": "pt"}


@pytest.mark.parametrize(
    "config",
    [{}, {"clip_sample": True}, {"variance_type": "fixed_large"}],
    ids=["plain", "clipped", "large variance"],
)
def test_pictures_are_the_pipelines(tmp_path: Path, config: dict[str, Any]) -> None:
    pipeline = build("ddpm", **config)
    pipeline.save_pretrained(tmp_path)
    theirs = pipeline(generator=torch.Generator().manual_seed(3), **CALL).images
    model = load(tmp_path)
    ours = sample(model, "", guidance=NoGuidance(), sampler="ddpm", steps=5, seeds=[3]).latents
    torch.testing.assert_close(model.decode(ours) / 2 + 0.5, theirs, rtol=0, atol=1e-4)


def test_ddim_goes_on_from_the_clipped_estimate(tmp_path: Path) -> None:
    pipeline = build("ddpm", clip_sample=True)
    scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline = diffusers.DDIMPipeline(pipeline.unet, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    theirs = pipeline(generator=generator, use_clipped_model_output=True, **CALL).images
    model = adapter("DDIMPipeline")("ddim", pipeline)
    ours = sample(model, "", guidance=NoGuidance(), sampler="ddim", steps=5, seeds=[3]).latents
    torch.testing.assert_close(model.decode(ours) / 2 + 0.5, theirs, rtol=0, atol=1e-4)


def test_what_it_cannot_take_is_said() -> None:
    model = adapter("DDPMPipeline")("ddpm", build("ddpm"))
    with pytest.raises(ValueError, match="'cfg' compares with a negative prompt, and this model takes no"):
        sample(model, "", guidance=CFG(scale=3), steps=2)
    (warning,) = model.encode(["an apple", ""]).warnings
    assert "takes no prompt" in warning
