"""The fidelity statements of the methods, measured: what each says of its largest difference is held here."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from guidance import REGISTRY
from guidance.adaptive import Adaptive
from guidance.asks import Level, Prediction, Step
from guidance.autoguidance import Autoguidance
from guidance.cfg import CFG, clip_dynamically
from guidance.cfgpp import CFGPP
from guidance.classifier import Classifier
from guidance.gfcg import GFCG
from guidance.none import NoGuidance
from guidance.qr.scanning import gaussian, perceptual_distance
from guidance.tangential import Tangential
from guidance.zerostar import ZeroStar
from samplers import resample
from samplers.loop import run as run_plan
from samplers.noise import Noise
from samplers.schedule import Schedule
from samplers.steps.row import Plan
from tests import analytic
from tests.analytic import CONDITIONS, POSITIVE, Answerer, steps_of
from tests.guidance import (
    test_adaptive,
    test_apg,
    test_autoguidance,
    test_cfg,
    test_cfgpp,
    test_classifier,
    test_fkc,
    test_gfcg,
    test_linear,
    test_tangential,
    test_zerostar,
)
from tests.guidance.qr import test_scanning


def apart(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return (ours.double() - theirs.double()).abs().max().item()


def none() -> list[float]:
    out = []
    for levels in (family() for family in analytic.FAMILIES.values()):
        x = analytic.start(levels)
        for step in steps_of(levels):
            ours = Answerer().finish(NoGuidance().guide(x, step, CONDITIONS, None)).denoised
            out.append(apart(ours, analytic.denoised(x, step.now, POSITIVE)))
    return [max(out)]


def along(guidance: Any, levels: list[Level], x: Tensor, z: dict[str, Tensor], key: str, ve: bool) -> float:
    """A first-order trajectory of the golden CFG++ model against the recorded latents and estimates."""
    answerer, out = test_cfgpp.table(), []
    for step in steps_of(levels):
        prediction = answerer.finish(guidance.guide(x, step, CONDITIONS, None))
        x = analytic.first_order(x, step, prediction)
        out.append(apart(prediction.denoised, z[f"{key}|z0t"][step.index]))
        out.append(apart(x / step.next.alpha if ve else x, z[f"{key}|zt"][step.index]))
    return max(out)


def ddim(key: str, guidance: CFG | CFGPP) -> float:
    z = test_cfgpp.Z
    return along(guidance, test_cfgpp.ddim_levels(key), z[f"{key}|init"], z, key, ve=False)


def cfg() -> list[float]:
    z = test_cfg.load("baselines_wembed")
    pos, neg = z["pred_cond"], z["pred_uncond"]
    return [
        apart(test_cfg.fixed(CFG(scale=7.5), pos, neg), z["cfg_w7.5"]),
        max(ddim("ddim|7.5", CFG(scale=7.5)), ddim("ddim|1.0", CFG(scale=1))),
        max(
            apart(test_cfg.fixed(CFG(scale=7.5, rescale=float(phi)), pos, neg), z[f"rescale_phi{phi}"])
            for phi in ("0.7", "1.0")
        ),
        max(
            apart(clip_dynamically(z["dynthresh|in"], 0.995, float(top)), z[f"dynthresh|max{top}"])
            for top in ("1.0", "1.5", "100.0")
        ),
    ]


def cfgpp() -> list[float]:
    z, key = test_cfgpp.Z, "euler_cfg++|0.6"
    times = [*z[f"{key}|model_t"].tolist(), 0]
    sigmas = z["sigmas_karras_n10"].tolist()
    levels = [test_cfgpp.vp(1 / (1 + s * s), t) for s, t in zip(sigmas, times, strict=True)]
    there = test_cfgpp.inverted(CFGPP(scale=0.6))[-1]
    inversion = "ddim_inversion_cfg++|0.6"
    back, answerer, returned = there, test_cfgpp.table(), []
    for step in steps_of(test_cfgpp.ddim_levels(inversion)):
        prediction = answerer.finish(CFGPP(scale=0.6).guide(back, step, CONDITIONS, None))
        back = analytic.first_order(back, step, prediction)
        returned.append(apart(back, z[f"{inversion}|zt"][step.index]))
    return [
        max(ddim(f"ddim_cfg++|{scale}", CFGPP(scale=scale)) for scale in (0.0, 0.6, 1.0)),
        along(CFGPP(scale=0.6), levels, z[f"{key}|init"] * levels[0].alpha, z, key, ve=True),
        max(apart(there, z[f"{inversion}|init"]), *returned),
        max(
            appendix(sampler, scale)
            for sampler in ("euler", "euler_a", "heun", "dpmpp_2m", "dpmpp_2s_a")
            for scale in (0.6, 1.0)
        ),
    ]


def appendix(sampler: str, scale: float) -> float:
    """The product's tables against the solvers as the paper writes them."""
    levels = analytic.ve_levels(12, high=14.6, low=0.03)
    sigmas, spans = [level.sigma for level in levels], tuple(pairwise(levels))
    table = importlib.import_module(f"samplers.steps.{sampler}").table
    plan = Plan(tuple(table(Schedule(spans, sigmas[0], lambda s: Level(1.0, s, s)))), sigmas[0])
    ours = Answerer().finish(
        run_plan(plan, CFGPP(scale=scale), CONDITIONS, Noise(3, (4, 4, 4), dtype=torch.float64))
    )
    noise = Noise(3, (4, 4, 4), dtype=torch.float64)
    return apart(ours.latents, test_cfgpp.official_run(sampler, scale, sigmas, noise))


def apg() -> list[float]:
    z, names = test_apg.Z, ("cfg_neutral", "proj_only", "sdxl")
    paper, library = [], []
    for name in names:
        guidance = test_apg.configured(name)
        state = guidance.start()
        for k, (pos, neg) in enumerate(zip(z["pred_cond"], z["pred_uncond"], strict=True)):
            ours = test_apg.fixed(guidance, pos, neg, state)
            paper.append(apart(ours, z[f"{name}|paper"][k]))
            theirs = neg + guidance.scale * (ours - pos) / (guidance.scale - 1)
            library.append(apart(theirs, z[f"{name}|diffusers_default"][k]))
    steps = [
        max(apart(guided, z["traj_x0_neutral|x0"][k]), apart(x, z["traj_x0_neutral|xt"][k]))
        for k, (guided, x) in enumerate(test_apg.neutral_trajectory())
    ]
    return [max(paper), max(steps), max(library)]


def autoguidance() -> list[float]:
    runs = {"1.0": 32, "1.4": 32, "2.1": 32, "2.45": 32, "2.1_steps2": 2, "2.1_steps8": 8}
    return [
        max(
            apart(
                test_autoguidance.edm(Autoguidance(scale=float(key.split("_")[0])), steps, row)[0][0],
                test_autoguidance.Z[f"autog_{key}"][row],
            )
            for key, steps in runs.items()
            for row in range(3)
        )
    ]


def adaptive() -> list[float]:
    z, out = test_adaptive.Z, []
    for space, name in (("eps", "eps"), ("denoised", "x0")):
        ran = test_adaptive.golden_run(Adaptive(scale=7.5, threshold=2, space=space))  # pyright: ignore
        cosines = torch.stack([prediction.trace["cosine"] for prediction in ran.predictions])
        out += [apart(cosines, z[f"cfg|gamma_{name}"]), apart(torch.stack(ran.states), z["cfg|xt"])]
    for threshold in ("0.991", "0.999"):
        ran = test_adaptive.golden_run(Adaptive(scale=7.5, threshold=float(threshold), space="eps"))
        out.append(apart(ran.predictions[-1].denoised, z[f"ag_eps_{threshold}|x0_final"]))
    fitted = zip(test_linear.fit_of_a_relation(), test_linear.RELATION, strict=True)
    return [max(out), max(abs(ours - theirs) for ours, theirs in fitted)]


def fkc() -> list[float]:
    drift = {k.removeprefix("sde_cfg|"): v for k, v in test_fkc.EDM.items() if k.startswith("sde_cfg|")}
    z = {k.removeprefix("sde_fkc|"): v for k, v in test_fkc.EDM.items() if k.startswith("sde_fkc|")}
    plan = test_fkc.plan_of(test_fkc.golden_levels())
    guidance, weights = test_fkc.fkc(8, scale=2.5, clamp=1.0, resample_below=1.0), []
    for i in range(15):
        prediction = Answerer().finish(guidance.guide(z["x_in"][i], plan.steps[i], CONDITIONS, None))
        assert prediction.log_weight is not None
        chosen = resample.systematic(prediction.log_weight, z["u"][i].item())
        assert chosen.tolist() == z["choice"][i].tolist()
        weights.append(apart(prediction.log_weight, z["logits"][i]))
    annealed = [test_fkc.annealing(power, time) for power in ("1.0", "2.5") for time in ("0.9", "0.5", "0.1")]
    return [
        apart(torch.stack(test_fkc.unweighed()), drift["x_in"]),
        max(weights),
        max(apart(ours, theirs) for pairs in annealed for ours, theirs in pairs),
    ]


def gfcg() -> list[float]:
    p = (0.164826, 0.060636, 0.738701, 0.013530, 0.022307)
    out = []
    for target, wrong in ((0, 2), (2, 0)):
        order = [target, *(k for k in range(5) if k != target)]
        expected = {
            "one_minus_p": 1 - p[target],
            "margin": p[wrong] / (p[target] + p[wrong]),
            "hard": float(target == 0),
        }
        for name, value in expected.items():
            prediction, _ = test_gfcg.guided(GFCG(confusion=name), test_gfcg.LOGITS[order])  # pyright: ignore
            for trace, wanted in (("confusion", value), ("w", 1 + value)):
                out.append(abs(prediction.trace[trace][0].item() - wanted))
    return [max(out)]


def classifier() -> list[float]:
    gd, el, cls = test_classifier.GD, test_classifier.EL, test_classifier
    noisy = Classifier(gradient="noisy", scale=4)
    g = cls.gradient_of(noisy, gd, gd["pred_xstart"], cls.Tiny(gd))
    _, step = cls.bars()
    shift = cls.shifts(noisy, gd["x"], gd["pred_xstart"], gd["y"], cls.Tiny(gd), step)
    denoised = gd["pred_xstart"] + shift
    after = analytic.first_order(gd["x"], step, Prediction(denoised))
    clean = []
    for name in ("paper", "plain", "jointonly", "scaled"):
        beta, tau, joint, scale = el[f"cfg_{name}"].tolist()
        softplus = beta if math.isfinite(beta) else None
        guidance = Classifier(scale=scale, temperature=tau, joint=joint, softplus=softplus)
        ours = cls.gradient_of(guidance, el, el["x"].clamp(-1, 1), cls.Tiny(el))
        clean.append(apart(ours, el[f"grad_{name}"]))
    return [
        max(apart(g, gd["cond_fn_relu"]), apart(gd["mean"] + gd["variance"] * g, gd["condition_mean"])),
        max(
            apart(denoised, gd["condition_score_pred_xstart"]),
            apart(after, gd["ddim_sample_next"]),
        ),
        max(clean),
        cls.distance_to_the_official_trajectory(),
        max(cls.distance_of_the_edm_form(joint) for joint in (0.0, 1.0)),
    ]


def srpg() -> list[float]:
    filters, srl = test_scanning.FILTERS, test_scanning.SRL
    kernels = [apart(gaussian(size), filters[f"gaussian_{size}"]) for size in test_scanning.SIZES]
    losses = []
    for case in test_scanning.CASES:
        image = test_scanning.picture(case)
        found = test_scanning.seen(case, image)
        loss = found.loss.mean()
        (g,) = torch.autograd.grad(loss, image)
        losses += [
            apart(found.error.detach(), srl[f"{case}_module_error"][:, 0]),
            apart(loss.detach(), srl[f"{case}_loss"]),
            apart(g, srl[f"{case}_grad"]),
        ]
    vgg = test_scanning.VGG
    mine, theirs = (test_scanning.official_features(vgg[name].float() / 255) for name in ("x_u8", "y_u8"))
    pairs = zip(mine, theirs, vgg["per_layer"], strict=True)
    layers = [apart(perceptual_distance([a], [b])[0], layer) for a, b, layer in pairs]
    return [max(kernels), max(losses), max(layers)]


def tangential() -> list[float]:
    from diffusers.guiders.tangential_classifier_free_guidance import normalized_guidance

    c, u = test_tangential.Z["pred_cond"], test_tangential.Z["pred_uncond"]
    return [
        max(
            apart(test_tangential.noise(Tangential(scale=scale), c, u), normalized_guidance(c, u, scale))
            for scale in (2.0, 7.5)
        ),
        apart(
            test_tangential.noise(Tangential(scale=3), c, u).flatten(1), test_tangential.decomposed(c, u, 3.0)
        ),
    ]


def zerostar() -> list[float]:
    z, guidance = test_zerostar.Z, ZeroStar(scale=7.5)
    v, s_star = test_zerostar.velocity(guidance, z["pred_cond"], z["pred_uncond"])
    predictions, three = test_apg.Z, []
    for index, expected in enumerate(z["zerostar|guider_3steps"]):
        step = Step(index, 3, test_zerostar.STEP.now, test_zerostar.STEP.next)
        pos, neg = predictions["pred_cond"][index], predictions["pred_uncond"][index]
        three.append(apart(test_zerostar.velocity(guidance, pos, neg, step)[0], expected))
    return [
        apart(s_star, z["zerostar|s_star_official"].flatten()),
        max(apart(v, z["zerostar|pred_w7.5"]), *three),
    ]


MEASURES: dict[str, Callable[[], list[float]]] = {
    "adaptive": adaptive,
    "apg": apg,
    "autoguidance": autoguidance,
    "cfg": cfg,
    "cfgpp": cfgpp,
    "classifier": classifier,
    "fkc": fkc,
    "gfcg": gfcg,
    "none": none,
    "srpg": srpg,
    "tangential": tangential,
    "zerostar": zerostar,
}


def test_every_method_is_measured() -> None:
    assert set(MEASURES) == set(REGISTRY)


@pytest.mark.parametrize("method", sorted(MEASURES))
def test_the_largest_difference_is_the_stated_one(method: str) -> None:
    """Never more than stated; and no statement is padded by more than rounding differs between machines."""
    stated = REGISTRY[method].fidelity.compared
    for comparison, measured in zip(stated, MEASURES[method](), strict=True):
        assert measured <= comparison.largest_difference, f"measured {measured}: {comparison}"
        assert comparison.largest_difference <= 20 * measured + 1e-13, f"measured {measured}: {comparison}"
