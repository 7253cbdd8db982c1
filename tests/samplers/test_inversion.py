from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import samplers
from guidance import Guidance
from guidance.apg import APG
from guidance.asks import Conditions
from guidance.cfg import CFG
from guidance.cfgpp import CFGPP
from guidance.none import NoGuidance
from samplers import edit, invert, sample
from samplers.cards import CARDS, inversion_problems
from samplers.inversion import Given, edit_run, to_latents, upward
from samplers.loop import run
from samplers.models.toy import Toy
from samplers.steps import compile_plan
from samplers.steps.ddim import first_order
from samplers.steps.row import Plan
from tests.analytic import CONDITIONS, TOY, Answerer
from tests.golden.arrays import load
from tests.guidance import test_cfgpp

Z = load("cfgpp_sd15")


def golden_plan() -> Plan:
    levels = test_cfgpp.ddim_levels("ddim_inversion_cfg++|0.6")
    return Plan(tuple(first_order(now, then) for now, then in pairwise(levels)), init_scale=1.0)


def test_follows_the_official_inversion_and_comes_back_as_it_does() -> None:
    plan, key = golden_plan(), "ddim_inversion_cfg++|0.6"
    answerer = test_cfgpp.table()
    states: list[Tensor] = []
    guidance = CFGPP(scale=0.6)
    there = answerer.finish(
        run(upward(plan), guidance, CONDITIONS, Given(Z["src_z0"]), lambda row: states.append(row.x_t))
    )
    expected = test_cfgpp.inverted(guidance)
    for ours, theirs in zip([*states[1:], there.latents], expected, strict=True):
        assert torch.allclose(ours[:1], theirs[:1], atol=1e-12)
    assert torch.allclose(there.latents, Z[f"{key}|init"][:1], atol=1e-9, rtol=0)


def test_the_steps_of_an_inversion_count_down() -> None:
    plan = compile_plan("ddim", 5, "vp", TOY.scheduler_config)
    up = upward(plan)
    assert [step.index for step in up.steps] == [4, 3, 2, 1, 0]
    assert [step.now.timestep for step in up.steps] == [step.now.timestep for step in reversed(plan.steps)]
    assert up.steps[0].total == 5
    assert all(step.now.sigma_ve < step.next.sigma_ve for step in up.steps)


def round_trip(toy: Toy, guidance: Guidance, steps: int = 50, sampler: str | None = None) -> float:
    source = sample(toy, "high", guidance=NoGuidance(), steps=100, seeds=(3,)).latents
    noise = invert(toy, source, "high", guidance=guidance, steps=steps, sampler=sampler)
    plan = compile_plan(sampler or "ddim", steps, toy.family, toy.scheduler_config)
    back = edit_run(plan, guidance, *[Conditions(*toy.encode(["high", ""]).conds)] * 2, latents=source)
    final = Answerer(toy).finish(back)
    assert noise.shape == source.shape
    return (final.latents - source).square().mean().sqrt().item()


def test_the_round_trip_of_cfgpp_loses_less_than_cfg_in_few_steps() -> None:
    """At 50 steps, where lambda 0.6 is as strong as CFG at 7.5, this mixture shows no difference."""
    toy = Toy(dtype="float64")
    none, plus, cfg = (round_trip(toy, g, 10) for g in (NoGuidance(), CFGPP(scale=0.6), CFG(scale=7.5)))
    assert none < plus < 0.4 * cfg


@pytest.mark.parametrize(
    ("family", "sampler"), [("vp", "ddim"), ("vp", "euler"), ("flow", "flow_euler"), ("ve", "euler")]
)
def test_every_family_comes_back(family: str, sampler: str) -> None:
    toy = Toy(dtype="float64", family=family)  # pyright: ignore[reportArgumentType]
    source = sample(toy, "high", guidance=NoGuidance(), sampler=sampler, steps=100, seeds=(3,)).latents
    coarse, fine = (
        (edit(toy, source, "high", "high", guidance=NoGuidance(), sampler=sampler, steps=n).latents - source)
        .square()
        .mean()
        .sqrt()
        .item()
        for n in (20, 200)
    )
    assert fine < 0.05
    assert fine < 0.5 * coarse


def test_an_edit_changes_what_the_prompt_says_and_little_else() -> None:
    """On the toy, whose `low` and `high` prefer different components."""
    toy = Toy(dtype="float64")
    source = sample(toy, "high", guidance=NoGuidance(), steps=50, seeds=(3,)).latents
    edited = edit(toy, source, "high", "low", guidance=CFGPP(scale=0.6), steps=50)
    assert edited.latents.mean() < source.mean() - 0.3
    kept = torch.corrcoef(torch.stack([edited.latents.flatten(), source.flatten()]))[0, 1]
    fresh = sample(toy, "low", guidance=CFGPP(scale=0.6), steps=50, seeds=(4,)).latents
    unrelated = torch.corrcoef(torch.stack([fresh.flatten(), source.flatten()]))[0, 1]
    assert kept > unrelated + 0.2
    assert edited.nfe[0].model == 2 * 2 * 50
    assert len(edited.images) == 1


def test_a_picture_and_its_latents_are_the_same() -> None:
    toy = Toy()
    made = sample(toy, "high", guidance=NoGuidance(), steps=10, seeds=(3,))
    assert (to_latents(toy, made.images[0]).tanh() - made.latents.tanh()).abs().max() < 0.01
    with pytest.raises(ValueError, match="multiples of 8"):
        invert(toy, Image.new("RGB", (60, 64)), "high")


def test_what_cannot_be_inverted_is_refused() -> None:
    toy = Toy()
    picture = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"'dpmpp_2m' cannot be run backwards; use one of: ddim"):
        invert(toy, picture, "high", sampler="dpmpp_2m")
    with pytest.raises(ValueError, match=r"'apg' remembers earlier steps"):
        edit(toy, picture, "high", "low", guidance=APG())
    assert not inversion_problems(CFGPP(), CARDS["ddim"])
    given = Given(picture)
    given.draw()
    with pytest.raises(ValueError, match="no noise to add"):
        given.draw()
    with pytest.raises(ValueError, match="no particles"):
        given.uniform()


def test_lambda_follows_from_a_cfg_scale_in_both_directions() -> None:
    toy = Toy(dtype="float64")
    source = sample(toy, "high", guidance=NoGuidance(), steps=20, seeds=(3,)).latents
    plan = compile_plan("ddim", 20, "vp", toy.scheduler_config)
    by_hand = CFGPP(scale=CFGPP.matching(7.5, plan.steps).scale)
    asked = edit(toy, source, "high", "low", guidance=CFGPP(cfg_scale=7.5), steps=20)
    assert torch.equal(asked.latents, edit(toy, source, "high", "low", guidance=by_hand, steps=20).latents)


def test_the_autoencoders_latents_are_those_of_diffusers(tiny_sd: Path) -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd, safety_checker=None)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        expected = pipeline.vae.encode(images).latent_dist.mode() * pipeline.vae.config.scaling_factor
    model = samplers.load(tiny_sd)
    assert torch.allclose(model.encode_images(images), expected, atol=1e-6)
    picture = Image.fromarray((torch.rand(16, 16, 3) * 255).byte().numpy())
    edited = edit(model, picture, "a cat", "a dog", steps=3)
    assert edited.images[0].size == (16, 16)
    assert edited.nfe[0].model == 2 * 2 * 3
