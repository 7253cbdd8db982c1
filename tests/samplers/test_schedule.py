"""The levels: which family's curve they lie on, where they start and end, what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from guidance.asks import Level
from samplers.cards import Family
from samplers.models.toy import SCHEDULERS
from samplers.schedule import Schedule, schedule
from samplers.steps import compile_plan

VP, FLOW, VE = (SCHEDULERS[family] for family in ("vp", "flow", "ve"))
EULER, DDIM, DPM = "EulerDiscreteScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler"


def levels(made: Schedule) -> list[Level]:
    return [*(now for now, _ in made.spans), made.spans[-1][1]]


def vp_bar(timestep: float) -> float:
    """`alpha^2` of Stable Diffusion's betas, from their definition."""
    first, last = 0.00085**0.5, 0.012**0.5
    return math.prod(1 - (first + (last - first) * t / 999) ** 2 for t in range(int(timestep) + 1))


@pytest.mark.parametrize(
    ("family", "config", "on_the_curve"),
    [
        ("vp", VP, lambda level: level.alpha**2 + level.sigma**2),
        ("flow", FLOW, lambda level: level.alpha + level.sigma),
        ("ve", VE, lambda level: level.alpha),
    ],
)
def test_levels_lie_on_the_familys_curve_and_fall(
    family: Family, config: dict[str, Any], on_the_curve: Any
) -> None:
    made = levels(schedule(EULER, 7, family, config))
    assert len(made) == 8
    assert all(on_the_curve(level) == pytest.approx(1, abs=1e-6) for level in made)
    noise = [level.sigma_ve for level in made]
    assert noise == sorted(noise, reverse=True)
    assert noise[-1] == 0


@pytest.mark.parametrize("scheduler", [EULER, DDIM, DPM])
def test_a_vp_levels_alpha_is_the_one_its_timestep_was_trained_with(scheduler: str) -> None:
    for now, _ in schedule(scheduler, 10, "vp", VP).spans:
        assert now.alpha**2 == pytest.approx(vp_bar(now.timestep), rel=1e-5)


def test_ddim_ends_where_set_alpha_to_one_says() -> None:
    assert levels(schedule(DDIM, 10, "vp", VP))[-1].alpha ** 2 == pytest.approx(vp_bar(0), rel=1e-6)
    assert levels(schedule(DDIM, 10, "vp", VP | {"set_alpha_to_one": True}))[-1] == Level(1.0, 0.0, 0.0)


def test_ddim_steps_back_by_a_stride_that_need_not_meet_the_next_timestep() -> None:
    """1000 // 30 = 33, while "trailing" spaces them by 33.3: a step ends a little before the next begins."""
    spans = schedule(DDIM, 30, "vp", VP | {"timestep_spacing": "trailing"}).spans
    assert [now.timestep for now, _ in spans[:3]] == [999, 966, 932]
    assert [then.timestep for _, then in spans[:3]] == [966, 933, 899]


def test_a_flows_shift_moves_its_levels() -> None:
    plain, shifted = (levels(schedule(EULER, 4, "flow", {"shift": shift})) for shift in (1.0, 3.0))
    assert plain[0] == shifted[0] == Level(0.0, 1.0, 1000.0)
    for before, after in zip(plain, shifted, strict=True):
        # the last level before 0 is shifted too, so only the ends agree
        assert after.sigma >= before.sigma
        assert after.timestep == pytest.approx(1000 * after.sigma)
    assert shifted[1].sigma > plain[1].sigma + 0.1


def test_edms_grid_is_the_papers() -> None:
    made = schedule(EULER, 9, "ve", VE)
    for i, level in enumerate(levels(made)[:-1]):
        root = 80 ** (1 / 7) + i / 8 * (0.002 ** (1 / 7) - 80 ** (1 / 7))
        assert level.sigma == pytest.approx(root**7, rel=1e-5)
        assert level.timestep == pytest.approx(math.log(level.sigma) / 4)
    assert made.init_scale == pytest.approx(80)


@pytest.mark.parametrize(("spacing", "expected"), [("leading", 1.0), ("trailing", None)])
def test_euler_starts_as_in_diffusers(spacing: str, expected: float | None) -> None:
    """From noise that fills the level, or from `sigma_max` noise in VE coordinates: `sigma` in ours."""
    made = schedule(EULER, 5, "vp", VP | {"timestep_spacing": spacing})
    first = made.spans[0][0]
    assert made.init_scale == pytest.approx(first.sigma if expected is None else expected, abs=1e-6)


@pytest.mark.parametrize(("family", "config"), [("vp", VP), ("flow", FLOW), ("ve", VE)])
def test_between_two_levels_is_one_of_the_same_curve(family: Family, config: dict[str, Any]) -> None:
    made = schedule(EULER, 6, family, config)
    for now, _ in made.spans[1:]:
        again = made.between(now.sigma_ve)
        assert again.alpha == pytest.approx(now.alpha, rel=1e-6)
        assert again.sigma == pytest.approx(now.sigma, rel=1e-6)
        assert again.timestep == pytest.approx(now.timestep, abs=1e-2)
    (first, then) = made.spans[2]
    middle = made.between(math.sqrt(first.sigma_ve * then.sigma_ve))
    assert min(first.timestep, then.timestep) < middle.timestep < max(first.timestep, then.timestep)


@pytest.mark.parametrize(
    ("family", "steps", "config", "message"),
    [
        ("vp", 0, VP, "steps must be at least 1, not 0"),
        ("vp", -3, VP, "steps must be at least 1, not -3"),
        ("vp", 1001, VP, "1001 steps are too many for this model's noise schedule; use fewer"),
        (
            "vp",
            5,
            VP | {"thresholding": True},
            "dynamic thresholding, which is not supported; set it to false",
        ),
        ("vp", 5, VP | {"use_flow_sigmas": True}, "set use_flow_sigmas to false"),
        ("vp", 5, VP | {"timestep_spacing": "odd"}, "choose one of 'linspace', 'leading' or 'trailing'"),
        ("flow", 5, FLOW | {"use_dynamic_shifting": True}, "give a fixed `shift` instead"),
        ("flow", 5, FLOW | {"invert_sigmas": True}, "inverted sigmas, which are not supported"),
        ("ve", 5, VE | {"final_sigmas_type": "sigma_min"}, "set final_sigmas_type to zero"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(
    family: Family, steps: int, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        schedule(EULER, steps, family, config)


def test_a_plan_is_compiled_once_for_equal_configs() -> None:
    first = compile_plan("ddim", 5, "vp", VP)
    assert compile_plan("ddim", 5, "vp", dict(reversed(VP.items()))) is first
    assert compile_plan("ddim", 5, "vp", VP | {"beta_end": 0.013}) is not first
