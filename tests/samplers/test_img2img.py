"""Starting from a picture, against diffusers' img2img and inpaint pipelines on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
)
from PIL import Image

from guidance import REGISTRY
from guidance.cfg import CFG
from guidance.fkc import FKC
from guidance.none import NoGuidance
from samplers import load, sample
from samplers.cards import CARDS, problems, start_problems
from samplers.models.base import Model
from samplers.models.toy import Toy
from tests.conftest import COUNTERPARTS
from tests.pipelines import build

CELLS = torch.zeros(1, 1, 8, 8).index_fill_(3, torch.tensor([1, 2, 3, 6]), 1.0)
"""A mask of latent cells, in columns."""


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


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Any]:
    folder, made = tmp_path_factory.mktemp("sdxl"), build("sdxl")
    made.save_pretrained(folder)
    return load(folder, dtype="float32", device="cpu"), made


def called(kind: Any, made: Any, sampler: str, strength: float, masked: bool, cell_px: int) -> torch.Tensor:
    """What the pipeline makes of a picture, given as latents: it would draw noise to encode one."""
    pipeline = kind(**{**made.components, "image_encoder": None, "feature_extractor": None})
    pipeline.set_progress_bar_config(disable=True)
    config = made.scheduler.config
    pipeline.scheduler = getattr(diffusers, COUNTERPARTS[sampler]).from_config(config)
    picture = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    mask = torch.nn.functional.interpolate(CELLS, scale_factor=cell_px)
    size = {"height": 8 * cell_px, "width": 8 * cell_px}
    inside = {"mask_image": mask, "masked_image_latents": torch.zeros_like(picture), **size}
    return pipeline(
        "a red apple",
        image=picture,
        strength=strength,
        guidance_scale=5.0,
        num_inference_steps=8,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
        **(inside if masked else {}),
    ).images


def mine(model: Model, sampler: str, strength: float, masked: bool) -> torch.Tensor:
    picture = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    side = model.default_size[0]
    mask = Image.fromarray((CELLS[0, 0].numpy() * 255).astype("uint8")).resize((side, side), 0)
    return sample(
        model, "a red apple", guidance=CFG(scale=5), sampler=sampler, steps=8, seeds=[3],
        init_image=picture, mask=mask if masked else None, strength=strength,
    ).latents  # fmt: skip


@pytest.mark.parametrize("masked", [False, True], ids=["img2img", "inpaint"])
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "unipc"])
def test_sdxl_starts_as_the_pipelines_do(sdxl: tuple[Model, Any], sampler: str, masked: bool) -> None:
    model, made = sdxl
    kind = StableDiffusionXLInpaintPipeline if masked else StableDiffusionXLImg2ImgPipeline
    theirs = called(kind, made, sampler, 0.7, masked, 2)
    ours = mine(model, sampler, 0.7, masked)
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-4


@pytest.mark.parametrize("strength", [0.55, 1.0])
@pytest.mark.parametrize("sampler", [name for name in COUNTERPARTS if name != "heun"])
def test_inside_a_mask_latents_are_the_pipelines(
    model: Model, pipeline: Any, sampler: str, strength: float
) -> None:
    theirs = called(StableDiffusionInpaintPipeline, pipeline, sampler, strength, True, 2)
    ours = mine(model, sampler, strength, True)
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-4


@pytest.mark.parametrize("family", ["vp", "flow", "ve"])
def test_outside_a_mask_the_picture_stays_under_every_method_and_sampler(family: Any) -> None:
    toy, picture = Toy(family=family), torch.full((1, 3, 8, 8), 0.25)
    mask = Image.new("L", (64, 64))
    mask.paste(255, (23, 16, 40, 48))  # its left edge is but one pixel of a cell
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:6, 2:5] = True
    cells = [
        (guidance, card.name)
        for guidance in (method() for method in REGISTRY.values())
        for card in CARDS.values()
        if not problems(guidance, card, toy.family, toy.extras) + start_problems(guidance)
        and not guidance.requires().qr
    ]
    assert len(cells) > 10
    for guidance, sampler in cells:
        classes = ["high", "low"] if guidance.requires().classes else []
        made = sample(
            toy, "high", guidance=guidance, classes=classes, sampler=sampler, steps=3, seeds=[2],
            init_image=picture, mask=mask,
        ).latents  # fmt: skip
        assert torch.equal(made[..., ~inside], picture[..., ~inside]), (guidance.method, sampler)
        assert float((made - picture)[..., inside].abs().min()) > 0, (guidance.method, sampler)


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
        ({"guidance": FKC()}, "defined from pure noise on"),
        ({"width": 64}, "width and height are those of init_image"),
        ({"init_image": Image.new("RGB", (60, 64))}, "multiples of 8"),
        ({"mask": Image.new("L", (64, 64))}, "black everywhere"),
        ({"mask": Image.new("L", (128, 64), 255)}, "128x64, which is not the size of init_image"),
        ({"mask": Image.new("L", (8, 8), 255), "init_image": None}, "give it in init_image"),
    ],
)
def test_what_cannot_start_from_a_picture_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(Toy(), "high", **{"steps": 4, "init_image": torch.zeros(1, 3, 8, 8)} | changes)
