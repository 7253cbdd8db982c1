"""The SANA adapter against the unmodified SanaPipeline on the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from guidance.cfg import CFG
from samplers import load, sample
from samplers.models.base import Model
from samplers.steps import compile_plan
from tests.pipelines import build

PROMPT = "a red apple, 3d"
CALL: dict[str, Any] = {"height": 64, "width": 32, "use_resolution_binning": False}


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return build("sana")


@pytest.fixture(scope="module")
def model(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("sana")
    pipeline.save_pretrained(folder)
    return load(folder, dtype="float32", device="cpu")


@pytest.mark.parametrize("steps", [4, 20])
def test_latents_are_the_pipelines(model: Model, pipeline: Any, steps: int) -> None:
    """With the solver's first and second order, and with the last step of either."""
    theirs = pipeline(
        PROMPT, guidance_scale=4.5, num_inference_steps=steps, output_type="latent",
        generator=torch.Generator().manual_seed(3), **CALL,
    ).images  # fmt: skip
    ours = sample(
        model, PROMPT, guidance=CFG(scale=4.5), sampler="dpmpp_2m", steps=steps, seeds=[3],
        width=32, height=64,
    ).latents  # fmt: skip
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-4


def test_a_picture_is_the_pipelines(model: Model, pipeline: Any) -> None:
    theirs = pipeline(
        PROMPT, guidance_scale=4.5, num_inference_steps=2, generator=torch.Generator().manual_seed(5), **CALL
    ).images[0]
    ours = sample(
        model, PROMPT, guidance=CFG(scale=4.5), sampler="dpmpp_2m", steps=2, seeds=[5], width=32, height=64
    ).images[0]
    assert ours.size == theirs.size == (32, 64)
    assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1


def test_every_sampler_walks_the_models_own_levels(model: Model) -> None:
    euler, solver = (
        compile_plan(name, 6, "flow", model.scheduler_config) for name in ("flow_euler", "dpmpp_2m")
    )
    assert euler.levels == solver.levels
    assert all(level.timestep == int(level.timestep) for level in euler.levels)


def test_what_gemma_does_not_read_is_told(model: Model) -> None:
    (warning,) = model.encode(["apple " * 80]).warnings
    assert "reads 300 tokens; this part of the prompt was cut" in warning
