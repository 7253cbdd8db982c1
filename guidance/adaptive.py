"""Adaptive guidance (Castillo et al.): stop guiding once both predictions agree, or estimate one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from guidance.asks import Conditions, Denoise, Guide, Prediction, Step
from guidance.base import ADVANCED, Guidance, Needs, Trace
from guidance.linear import Coefficients, History, guided_steps, is_estimated, predictions, problem_with
from guidance.sources import Compared, Deviation, Fidelity, Paper

if TYPE_CHECKING:
    from torch import Tensor


OF_THRESHOLD = ("threshold", "space", "minimum_share")
"""Parameters that LinearAG has no use for."""


@dataclass(slots=True)
class Latch:
    """Per image: whether guidance goes on, and the cosine when it was last measured."""

    guided: Tensor | None = None
    cosine: Tensor | None = None


class Adaptive(Guidance):
    """Adaptive guidance: CFG, `denoised = neg + scale * (pos - neg)`, until `cos(pos, neg) >= threshold`.

    From the step after that on, `denoised = pos` at half the cost; a one-way latch, image by image. Only the
    images that are still guided ask for the negative condition. The cosine is that of the estimates of x0
    (`space="denoised"`) or of the noise (`"eps"`, the paper's); the right threshold depends on it and on the
    model. Knowing it, the host waits for the device once per guided step.

    `variant="linear"` is LinearAG: CFG in the first half of the steps, with every other `neg` estimated from
    the noise predictions so far, `eps_neg(k) = sum_i<=k bc_i eps_pos(i) + sum_i<k bu_i eps_neg(i)`, and `pos`
    alone in the second. Its coefficients are fitted beforehand (`guidance.linear`) for one model, sampler,
    step count and scale, with an empty negative prompt.

    Source: arXiv 2312.12487, eqs. 7 and 8, sections 4 and 5.
    Deviates: the step that crosses the threshold is still guided, since both predictions are paid for (as
        the community's node does); `minimum_share` keeps a low threshold from ending guidance at once.
    """

    title: ClassVar = "Adaptive guidance"
    summary: ClassVar = "CFG that stops by itself when it no longer matters: about a quarter less work."
    paper: ClassVar = Paper(
        "Adaptive Guidance: Training-free Acceleration of Conditional Diffusion Models",
        "2312.12487",
        "AAAI 2025",
    )
    fidelity: ClassVar = Fidelity(
        compared=(
            Compared(
                "the paper's formula in a loop of its own; there is no official code",
                "own",
                "4 images of 20 DDIM steps, thresholds 0.991 and 0.999; cosines, estimates",
                3e-14,
            ),
            Compared(
                "LinearAG: the linear relation that made the data; there is no official code",
                "own",
                "coefficients fitted to 50 trajectories of a known relation",
                1e-14,
            ),
        ),
        deviates=(
            Deviation(
                "the step that crosses the threshold is guided",
                "both predictions are paid for by then; the paper's formula leaves it open",
            ),
            Deviation(
                "the cosine is taken in the space that `space` names, and a minimum share of guided steps "
                "can be asked for",
                "the paper's thresholds hold for its own models: elsewhere the first step may cross them",
            ),
            Deviation(
                "LinearAG's least squares leave out directions in which the predictions hardly vary",
                "along them lies rounding; ordinary coefficients threw float32 runs off",
            ),
        ),
    )
    needs: ClassVar = Needs(negative=True)
    presets: ClassVar = {"linear-ag": {"variant": "linear"}}
    traces: ClassVar = {
        "cosine": Trace("cosine of both predictions, as last measured"),
        "guided": Trace("share of images still guided"),
    }

    usual: ClassVar = {"flow": {"scale": 4.0}, "StableDiffusionXLPipeline": {"scale": 5.0}}

    method: Literal["adaptive"] = "adaptive"
    scale: float = Field(7.5, ge=0, le=100, description="w of CFG while it lasts")
    variant: Literal["threshold", "linear"] = Field(
        "threshold",
        description="stop at the threshold, or LinearAG: estimate every other negative prediction in the "
        "first half of the steps, and stop then",
    )
    threshold: float = Field(
        0.99, ge=-1, le=2, description="guidance ends at this cosine; above 1 it never ends, which is CFG"
    )
    space: Literal["denoised", "eps"] = Field(
        "denoised", description="what is compared: estimates of the clean sample, or of the noise"
    )
    minimum_share: float = Field(
        0.0, ge=0, le=1, description="share of the steps that are guided in any case"
    )
    coefficients: Coefficients = Field(
        (),
        description="LinearAG's, per step of the first half 2k + 1 numbers at odd steps k; left out, those "
        "that `lodestar guidance fit-linear-ag` made for the model, sampler, steps and scale",
        json_schema_extra=ADVANCED,
    )

    @model_validator(mode="after")
    def _of_its_variant(self) -> Self:
        if self.variant == "threshold" and self.coefficients:
            raise ValueError("coefficients are LinearAG's; add variant 'linear', or leave them out")
        fields = type(self).model_fields
        given = [name for name in OF_THRESHOLD if getattr(self, name) != fields[name].default]
        if self.variant == "linear" and given:
            raise ValueError(f"variant 'linear' stops after half of the steps; leave out {', '.join(given)}")
        if (problem := problem_with(self.coefficients)) is not None:
            raise ValueError(problem)
        return self

    def start(self) -> Latch | History:
        return Latch() if self.variant == "threshold" else History()

    def planned(self, steps: Sequence[Step]) -> Self:
        if self.variant == "linear" and (problem := self.misfit(steps[0].total)) is not None:
            raise ValueError(problem)
        return self

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: Latch | History) -> Guide:
        if isinstance(state, History):
            return (yield from self._linear(x_t, step, cond, state))
        return (yield from self._until_threshold(x_t, step, cond, state))

    def _linear(self, x_t: Tensor, step: Step, cond: Conditions, state: History) -> Guide:
        if step.index >= guided_steps(step.total):
            (pos,) = yield Denoise(x_t, step.now, (cond.positive,))
            return Prediction(pos, trace={"guided": 0.0})
        pos, neg = yield from predictions(x_t, step, cond, self.coefficients, state)
        trace = {"cosine": self._cosine(x_t, step, pos, neg), "guided": 1.0}
        return Prediction(neg + self.scale * (pos - neg), trace=trace)

    def _until_threshold(self, x_t: Tensor, step: Step, cond: Conditions, state: Latch) -> Guide:
        if state.guided is None or state.cosine is None:
            state.guided = x_t.new_ones(len(x_t)).bool()
            state.cosine = x_t.new_zeros(len(x_t))
        rows = state.guided.nonzero().flatten()
        if len(rows) == len(x_t):
            pos, neg = yield Denoise(x_t, step.now, (cond.positive, cond.negative))
            denoised = neg + self.scale * (pos - neg)
        else:
            (pos,) = yield Denoise(x_t, step.now, (cond.positive,))
            denoised, neg = pos, pos[rows]
            if len(rows):
                (neg,) = yield Denoise(x_t[rows], step.now, (cond.negative,))
                denoised = pos.index_copy(0, rows, neg + self.scale * (pos[rows] - neg))
        guided = state.guided
        if len(rows):
            cosine = self._cosine(x_t[rows], step, pos[rows], neg)
            state.cosine = state.cosine.index_copy(0, rows, cosine.to(x_t.dtype))
            if (step.index + 1) / step.total >= self.minimum_share:
                state.guided = guided.index_copy(0, rows, cosine < self.threshold)
        return Prediction(denoised, trace={"cosine": state.cosine, "guided": guided.to(x_t.dtype)})

    def requires(self) -> Needs:
        linear = self.variant == "linear"
        return Needs(negative=True, first_order=linear, from_noise=linear)

    def nfe(self, steps: Sequence[Step]) -> int:
        """Both conditions at each step, the bound where guidance never ends; LinearAG's is exact."""
        if self.variant == "threshold":
            return 2 * len(steps)
        guided = sum(step.index < guided_steps(step.total) for step in steps)
        return len(steps) + guided - sum(is_estimated(step.index, step.total) for step in steps)

    def misfit(self, steps: int) -> str | None:
        """Why the coefficients do not go with this number of steps; None where they do."""
        wanted, have = guided_steps(steps), len(self.coefficients)
        if have == wanted:
            return None
        return (
            f"these coefficients are of {have} guided steps, and {steps} steps have {wanted}; fit them again "
            "with `lodestar guidance fit-linear-ag`, or take as many steps as they were fitted for"
        )

    def _cosine(self, x_t: Tensor, step: Step, pos: Tensor, neg: Tensor) -> Tensor:
        a, b = pos.double(), neg.double()
        if self.space == "eps":  # up to the factor sigma_t, which a cosine does not see
            a, b = x_t.double() - step.now.alpha * a, x_t.double() - step.now.alpha * b
        a, b = a.flatten(1), b.flatten(1)
        return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-300)
