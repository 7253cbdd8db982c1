"""Starting from a picture, against the unmodified StableDiffusionImg2ImgPipeline on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

from guidance.cfg import CFG
from guidance.fkc import FKC
from guidance.none import NoGuidance
from samplers import load, sample
from samplers.models.base import Model
from samplers.models.toy import Toy
from tests.conftest import COUNTERPARTS


@pytest.fixture(scope="module")
def model(tiny_sd: Path) -> Model:
    return load(tiny_sd, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def pipeline(tiny_sd: Path) -> Any:
    loaded = StableDiffusionImg2ImgPipeline.from_pretrained(tiny_sd)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.mark.parametrize("strength", [0.55, 1.0])
@pytest.mark.parametrize("sampler", [name for name in COUNTERPARTS if name != "heun"])
def test_latents_are_the_pipelines(model: Model, pipeline: Any, sampler: str, strength: float) -> None:
    """Not Heun's: diffusers cuts its two-evaluation steps in the middle."""
    pipeline.scheduler = getattr(diffusers, COUNTERPARTS[sampler]).from_config(model.scheduler_config)
    picture = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    theirs = pipeline(
        "a red apple",
        image=picture,
        strength=strength,
        guidance_scale=7.5,
        num_inference_steps=8,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
    ).images
    ours = sample(
        model,
        "a red apple",
        guidance=CFG(scale=7.5),
        sampler=sampler,
        steps=8,
        seeds=[3],
        init_image=picture,
        strength=strength,
    )
    assert float((ours.latents - theirs).abs().max() / theirs.abs().max()) < 1e-4
    assert ours.nfe[0].model == 2 * int(8 * strength)


@pytest.mark.parametrize(
    ("family", "sampler"), [("vp", "heun"), ("vp", "sde"), ("flow", "flow_euler"), ("ve", "dpmpp_2s_a")]
)
def test_less_strength_keeps_more_of_the_picture(family: Any, sampler: str) -> None:
    toy = Toy(family=family, dtype="float64")
    source = sample(toy, "high", guidance=NoGuidance(), steps=30, seeds=[5]).latents
    far = [
        float(
            (
                sample(
                    toy, "high", guidance=NoGuidance(), sampler=sampler, steps=20, seeds=range(8),
                    init_image=source, strength=strength,
                ).latents
                - source
            ).square().mean()
        )
        for strength in (0.2, 0.5, 1.0)
    ]  # fmt: skip
    assert far[0] < far[1] < far[2]


def test_a_seed_makes_the_same_of_a_picture_next_to_any_other() -> None:
    toy = Toy()
    picture = Image.radial_gradient("L").resize((64, 64))
    both = sample(toy, "high", steps=6, seeds=[1, 2], sampler="euler_a", init_image=picture)
    one = sample(toy, "high", steps=6, seeds=[2], sampler="euler_a", init_image=picture)
    assert torch.equal(both.latents[1:], one.latents)
    assert both.images[0].size == (64, 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strength": 0.1}, "at least one must run"),
        ({"guidance": FKC()}, "weighs particles from pure noise on"),
        ({"width": 64}, "width and height are those of init_image"),
        ({"init_image": Image.new("RGB", (60, 64))}, "multiples of 8"),
    ],
)
def test_what_cannot_start_from_a_picture_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(Toy(), "high", **{"steps": 4, "init_image": torch.zeros(1, 3, 8, 8)} | changes)
