"""Gradient-free classifier guidance (Shenoy et al.): guide away from the class it is confused with."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from guidance.asks import Ask, Classify, Cond, Conditions, Decode, Denoise, Guide, Network, Prediction, Step
from guidance.base import Needs, Trace
from guidance.limited import Limited
from guidance.sources import Compared, Deviation, Fidelity, Paper

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What the classifier says, per image: the wrong class it likes best, and how confused it is."""

    reference: Tensor
    confusion: Tensor


@dataclass(slots=True)
class Lagging:
    """The verdict of the step before."""

    verdict: Verdict | None = None


class GFCG(Limited):
    """Gradient-free classifier guidance, `denoised = pos + strength * confusion * (pos - ref)`.

    `ref` is the estimate for the class r that a classifier, shown the decoded estimate of x0, likes best
    besides the target c; the confusion is 1 - p_c, p_r / (p_c + p_r) (margin), or whether the classifier errs
    (hard). The scale w = 1 + strength * confusion ends at `max_scale`; at w = 1 there is no `ref`.

    `mode`: "add" adds CFG, "mix" guides away from a mixture of negative and reference by the confusion,
    "autoguidance" guides away from the weak model, whose class is r where the confusion is above
    `switch_above`. `lag` takes the verdict of the step before, so that pos and ref come from one forward.
    The classifier is never differentiated.

    Source: arXiv 2411.15393: a classifier in inference mode gives, at every step, the reference class and the
        scale. No code is published.
    Deviates: the confusion functions, the modes and `lag` are our reconstruction of what is not published.
    """

    title: ClassVar = "GFCG"
    summary: ClassVar = "A classifier names the class the picture drifts to; guidance pushes away from it."
    paper: ClassVar = Paper(
        "Gradient-Free Classifier Guidance for Diffusion Model Sampling",
        "2411.15393",
        "WACV 2026",
    )
    fidelity: ClassVar = Fidelity(
        compared=(
            Compared(
                "a worked example of our own, to six digits; there is no official code",
                "own",
                "confusion and scale for five logits, three confusion functions, two targets",
                1e-6,
            ),
        ),
        deviates=(
            Deviation(
                "the confusion functions, the modes and the lag are our reconstruction",
                "the paper publishes no code, and says only that a classifier in inference mode gives the "
                "reference class and the scale",
            ),
        ),
    )
    needs: ClassVar = Needs(classifier=True, classes=True)
    traces: ClassVar = {"confusion": Trace("confusion"), "w": Trace("scale away from the wrong class")}

    method: Literal["gfcg"] = "gfcg"
    strength: float = Field(1.0, ge=0, le=20, description="how much a confused classifier adds to the scale")
    max_scale: float = Field(5.0, ge=1, le=100, description="largest scale away from the wrong class")
    confusion: Literal["one_minus_p", "margin", "hard"] = Field(
        "one_minus_p", description="1 - p_c; p_r / (p_c + p_r); or 1 where the most likely class is wrong"
    )
    temperature: float = Field(1.0, gt=0, le=1000, description="the logits are divided by it")
    mode: Literal["alone", "add", "mix", "autoguidance"] = Field(
        "alone", description="alone, with CFG added, with CFG's negative mixed in, or with a weak model"
    )
    scale: float = Field(
        2.0, ge=0, le=100, description="w of CFG (add, mix) or of autoguidance; unused when alone"
    )
    switch_above: float = Field(
        0.5, ge=0, le=1, description="autoguidance: the weak model takes the wrong class above this confusion"
    )
    lag: bool = Field(False, description="use the verdict of the step before: fewer forwards in a row")

    @model_validator(mode="after")
    def _lag_fits(self) -> Self:
        if self.lag and self.mode == "autoguidance":
            raise ValueError("lag saves nothing with mode 'autoguidance', whose forwards are separate anyway")
        return self

    def start(self) -> Lagging:
        return Lagging()

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: Lagging) -> Guide:
        others = tuple(label for label in cond.classes if label.key != cond.positive.key)
        if not others:
            raise ValueError("gfcg needs a class besides the prompt's own; give at least one in `classes`")
        if not self.active(step):
            (pos,) = yield Denoise(x_t, step.now, (cond.positive,))
            return Prediction(pos, trace={"confusion": 0.0, "w": 1.0})
        asked = (cond.positive, cond.negative) if self.mode in ("add", "mix") else (cond.positive,)
        labels = (cond.positive, *others)
        if self.lag:
            verdict = state.verdict or Verdict(x_t.new_zeros(len(x_t)).long(), x_t.new_zeros(len(x_t)))
            *own, ref = yield from _by_class(x_t, step, asked, labels, self._class_of(verdict), "main")
            state.verdict = yield from self._judge(own[0], labels)
        else:
            own = yield Denoise(x_t, step.now, asked)
            verdict = yield from self._judge(own[0], labels)
            network: Network = "weak" if self.mode == "autoguidance" else "main"
            (ref,) = yield from _by_class(x_t, step, (), labels, self._class_of(verdict), network)
        confusion = verdict.confusion.to(x_t.dtype)
        w = (1 + self.strength * confusion).clamp(max=self.max_scale)
        per_image = (-1, *(1,) * (x_t.dim() - 1))
        denoised = self._combined(own, ref, confusion.view(per_image), w.view(per_image))
        return Prediction(denoised, trace={"confusion": confusion, "w": w})

    def _combined(self, own: Sequence[Tensor], ref: Tensor, confusion: Tensor, w: Tensor) -> Tensor:
        pos = own[0]
        if self.mode == "autoguidance":
            return pos + (self.scale - 1) * (pos - ref)
        if self.mode == "mix":
            ref = (1 - confusion) * own[1] + confusion * ref
            return pos + (self.scale - 1) * (pos - ref)
        away = (w - 1) * (pos - ref)
        return pos + away if self.mode == "alone" else pos + (self.scale - 1) * (pos - own[1]) + away

    def _judge(self, pos: Tensor, labels: Sequence[Cond]) -> Generator[Ask, Any, Verdict]:
        pictures = yield Decode(pos)
        logits = yield Classify(pictures, labels)
        p = (logits.double() / self.temperature).softmax(1)
        p_wrong, wrong = p[:, 1:].max(1)
        if self.confusion == "one_minus_p":
            confusion = p[:, 1:].sum(1)
        elif self.confusion == "margin":
            confusion = p_wrong / (p[:, 0] + p_wrong)
        else:
            confusion = (p_wrong > p[:, 0]).double()
        return Verdict(wrong + 1, confusion)

    def _class_of(self, verdict: Verdict) -> Tensor:
        """Which label each image's reference gets; -1 where its weight is zero."""
        if self.mode == "autoguidance":
            return verdict.reference * (verdict.confusion > self.switch_above)
        idle = verdict.confusion * (1 if self.mode == "mix" else self.strength) == 0
        return verdict.reference.masked_fill(idle, -1)

    def requires(self) -> Needs:
        return Needs(
            negative=self.mode in ("add", "mix"),
            classifier=True,
            classes=True,
            weak=self.mode == "autoguidance",
        )

    def nfe(self, steps: Sequence[Step]) -> int:
        """As if every guided step asked for the reference."""
        guided = 2 if self.mode in ("add", "mix") else 1
        return len(steps) + guided * sum(self.active(step) for step in steps)


def _by_class(
    x_t: Tensor, step: Step, conds: tuple[Cond, ...], labels: Sequence[Cond], chosen: Tensor, network: Network
) -> Generator[Ask, Any, list[Tensor]]:
    """The estimates for `conds` and for each image's chosen label (zeros at -1), one ask per label."""
    found = [x_t.new_zeros(x_t.shape) for _ in (*conds, None)]
    for k in chosen.unique().tolist():
        rows = (chosen == k).nonzero().flatten()
        asked = conds if k < 0 else (*conds, labels[k])
        if asked:
            answers = yield Denoise(x_t[rows], step.now, asked, network)
            for slot, answer in zip(found, answers, strict=False):
                slot[rows] = answer
    return found
