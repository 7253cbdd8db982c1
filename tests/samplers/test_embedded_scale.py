"""A UNet with its guidance scale built in, against the unmodified LatentConsistencyModelPipeline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import diffusers
import pytest
import torch

from app.catalogue import load_catalogue
from guidance.asks import Cond, Conditions, Level
from guidance.cfg import CFG
from guidance.none import NoGuidance
from samplers import load, sample
from samplers.loop import Run, run
from samplers.models.base import Model
from samplers.models.sd import _scale_embedding
from samplers.noise import Noise
from samplers.steps import compile_plan
from tests.golden.arrays import load as load_golden
from workers.engine import Engine
from workers.ticket import Outcome, Ticket

CLOSE = 1e-4


@pytest.fixture(scope="module")
def folder(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a UNet that is told its scale."""
    folder = tmp_path_factory.mktemp("embedded") / "lcm"
    shutil.copytree(tiny_sd, folder)
    config = json.loads((folder / "unet" / "config.json").read_text())
    torch.manual_seed(5)
    unet = diffusers.UNet2DConditionModel.from_config(config | {"time_cond_proj_dim": 16})
    unet.save_pretrained(folder / "unet")
    index = json.loads((folder / "model_index.json").read_text())
    named = json.dumps(index | {"_class_name": "LatentConsistencyModelPipeline"})
    (folder / "model_index.json").write_text(named)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load(folder, name="lcm", dtype="float32", device="cpu")


@pytest.mark.parametrize("scale", [1.0, 4.0, 8.5])
def test_one_step_is_the_pipelines(folder: Path, model: Model, scale: float) -> None:
    scheduler = diffusers.LCMScheduler.from_pretrained(folder / "scheduler")
    pipeline = diffusers.LatentConsistencyModelPipeline.from_pretrained(
        folder, scheduler=scheduler, safety_checker=None
    )
    pipeline.set_progress_bar_config(disable=True)
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    theirs = pipeline(
        "a cat", latents=start, num_inference_steps=1, guidance_scale=scale, output_type="latent"
    ).images
    kept = float(scheduler.alphas_cumprod[999])
    level = Level(kept**0.5, (1 - kept) ** 0.5, 999.0)
    cond = Conditions(*model.encode(["a cat", ""]).conds).told(scale).positive
    ours = model.denoise(start, [level], [cond])
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < CLOSE


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_latents_are_the_pipelines(folder: Path, model: Model, steps: int) -> None:
    scheduler = diffusers.LCMScheduler.from_pretrained(folder / "scheduler")
    pipeline = diffusers.LatentConsistencyModelPipeline.from_pretrained(
        folder, scheduler=scheduler, safety_checker=None
    )
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    theirs = pipeline(
        "a cat", generator=generator, num_inference_steps=steps, guidance_scale=8.0, output_type="latent"
    ).images
    ours = sample(
        model, "a cat", guidance=NoGuidance(), sampler="lcm", steps=steps, seeds=[3], embedded_scale=8.0
    ).latents
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < CLOSE


def test_rows_of_one_forward_each_tell_their_own_scale(model: Model) -> None:
    """In the engine, next to one another: what each is alone; two passes on top are asked for as such."""
    plan = compile_plan("ddim", 4, model.family, model.scheduler_config)
    encoded = Conditions(*model.encode(["a cat", "a dog"]).conds)
    asked = [(2.0, NoGuidance()), (9.0, NoGuidance()), (None, NoGuidance()), (9.0, CFG(scale=3))]

    def steps(scale: float | None, guidance: NoGuidance | CFG) -> Run:
        return run(plan, guidance, encoded.told(scale), Noise(1, (4, 8, 8)))

    outcomes: list[Outcome | None] = [None] * len(asked)
    engine = Engine({"lcm": model}, max_rows=8)
    for i, (scale, guidance) in enumerate(asked):
        engine.submit(Ticket("lcm", steps(scale, guidance), lambda one, i=i: outcomes.__setitem__(i, one)))
    while engine.step():
        pass
    assert engine.stats.forwards == 4
    finals = [one.final.latents for one in outcomes if one is not None and one.final is not None]
    for (scale, guidance), final in zip(asked, finals, strict=True):
        alone = sample(
            model, "a cat", negative_prompt="a dog", guidance=guidance, steps=4, seeds=[1],
            sampler="ddim", embedded_scale=scale,
        )  # fmt: skip
        assert torch.allclose(alone.latents, final, atol=1e-4)
    assert not torch.allclose(finals[0], finals[1], atol=1e-3)
    default = sample(
        model, "a cat", guidance=NoGuidance(), steps=4, seeds=[1], sampler="ddim", embedded_scale=8.5
    )
    assert torch.allclose(finals[2], default.latents, atol=1e-4)
    assert [one.nfe.model for one in outcomes if one is not None] == [4, 4, 4, 8]


def test_the_folder_says_so_and_others_are_told_nothing(folder: Path, tiny_sd: Path, tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(f'[[models]]\nid = "lcm"\nsource = "{folder}"\n')
    assert "embedded" in load_catalogue(tmp_path / "models.toml").models["lcm"].extras
    with pytest.raises(ValueError, match="which this one has not"):
        sample(load(tiny_sd, device="cpu"), "a cat", embedded_scale=3)


@pytest.mark.parametrize("width", [256, 512])
def test_the_embedding_of_a_scale_is_the_official_one(width: int) -> None:
    """Of w = scale - 1; float32's sines of angles up to 1e4 are the limit."""
    z = load_golden("baselines_wembed")
    conds = [Cond("", None, scale=1 + w) for w in z["lcm|w_passed"].flatten().tolist()]
    ours = _scale_embedding(conds, width, None, torch.zeros(1))
    assert ours is not None
    assert torch.allclose(ours.double(), z[f"lcm|emb{width}"].double(), atol=2e-3, rtol=0)
