"""The Flux adapter against the unmodified FluxPipeline on the same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from guidance.asks import Level
from guidance.base import Guidance
from guidance.cfg import CFG
from guidance.none import NoGuidance
from samplers import load, sample
from samplers.models import adapter
from tests.pipelines import build

PROMPT = "a red apple, 3d"
SIZE: dict[str, Any] = {"width": 24, "height": 16}


@pytest.mark.parametrize(
    ("family", "guidance", "call"),
    [
        ("flux dev", NoGuidance(), {"guidance_scale": 3.5}),
        ("flux dev", NoGuidance(), {"guidance_scale": 7.0}),
        ("flux dev", CFG(scale=3), {"guidance_scale": 2.0, "true_cfg_scale": 3.0}),
        ("flux schnell", NoGuidance(), {"guidance_scale": 0.0}),
        ("flux schnell", CFG(scale=3), {"true_cfg_scale": 3.0}),
    ],
    ids=["built-in scale", "another one", "true cfg", "schnell", "schnell with true cfg"],
)
def test_latents_are_the_pipelines(
    tmp_path: Path, family: str, guidance: Guidance, call: dict[str, Any]
) -> None:
    pipeline = build(family)
    pipeline.save_pretrained(tmp_path)
    packed = pipeline(
        PROMPT,
        negative_prompt="blue",
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
        **SIZE,
        **call,
    ).images
    theirs = pipeline._unpack_latents(packed, SIZE["height"], SIZE["width"], 2)
    ours = sample(
        load(tmp_path), PROMPT, negative_prompt="blue", guidance=guidance, steps=4, seeds=[3],
        embedded_scale=call.get("guidance_scale") if family == "flux dev" else None, **SIZE,
    ).latents  # fmt: skip
    assert ours.shape == (1, 16, 8, 12)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_each_row_tells_its_own_scale() -> None:
    pipeline = build("flux dev")
    model = adapter("FluxPipeline")("flux", pipeline)
    (cond,) = model.encode([PROMPT]).conds
    x = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    level = Level(0.5, 0.5, 500.0)
    conds = [cond, replace(cond, scale=3.5), replace(cond, scale=9.0)]
    by_default, same, other = model.denoise(x.expand(3, -1, -1, -1), [level] * 3, conds)
    torch.testing.assert_close(by_default, same)
    alone = model.denoise(x, [level], conds[2:])[0]
    torch.testing.assert_close(other, alone, rtol=1e-4, atol=1e-5)
    assert float((other - same).abs().max()) > 1e-4


def test_a_model_without_a_built_in_scale_cannot_be_told_one() -> None:
    model = adapter("FluxPipeline")("flux", build("flux schnell"))
    with pytest.raises(ValueError, match="embedded_scale is for models with a guidance scale built in"):
        sample(model, PROMPT, guidance=NoGuidance(), steps=1, embedded_scale=3.0, **SIZE)


def test_the_schedule_follows_the_pictures_size() -> None:
    model = adapter("FluxPipeline")("flux", build("flux dev"))
    small, large = (model.schedule_config(model.latent_shape(size, size)) for size in (64, 256))
    assert small["mu"] == pytest.approx(0.5)
    assert large["mu"] == pytest.approx(1.15)


def test_a_picture_is_the_pipelines(tmp_path: Path) -> None:
    pipeline = build("flux dev")
    pipeline.save_pretrained(tmp_path)
    call: dict[str, Any] = {"num_inference_steps": 3, "generator": torch.Generator().manual_seed(5)}
    theirs = pipeline(PROMPT, **SIZE, **call).images[0]
    ours = sample(load(tmp_path), PROMPT, guidance=NoGuidance(), steps=3, seeds=[5], **SIZE).images[0]
    assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1
