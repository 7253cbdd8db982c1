"""What every guidance method is made of: parameters, needs, traces, the particles it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict

from guidance.asks import Conditions, Guide, Step
from guidance.sources import Fidelity, Paper

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Needs:
    """What a method cannot do without; checked against the model and the sampler before a job is queued."""

    negative: bool = False
    """It reads the unconditional (or negative-prompt) prediction."""
    grad: bool = False
    classifier: bool = False
    classes: bool = False
    weak: bool = False
    qr: bool = False
    particles: bool = False
    stochastic: bool = False
    """It is defined only with a sampler that adds noise at each step."""
    first_order: bool = False
    """It is defined only with a sampler that looks at no earlier step."""
    from_noise: bool = False
    """It is defined only for runs of all steps, from pure noise."""
    pixels: bool = False
    """It is defined only for models that work on pixels, not on latents."""


@dataclass(frozen=True, slots=True)
class Population:
    """How the loop keeps several particles of each image: rows k*particles ... of x_t belong to image k.

    The loop adds up each `Prediction.log_weight`; a step without one neither weighs nor resamples. It
    resamples an image's particles when their effective sample size is below `resample_below * particles`
    (at 1: at every weighed step), sets their weights to zero, and resamples what weight is left at the end.
    """

    particles: int
    resample_below: float = 0.5
    prior_scale: float = 1.0
    """The starting noise is multiplied by this: the target at the highest noise level is not N(0, 1)."""
    keep: Literal["one", "all"] = "one"
    """Return one particle of each image, or all of them."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A per-step scalar that a method reports, for plots: unit-free unless the label says otherwise."""

    label: str
    log: bool = False


class Guidance(BaseModel):
    """A guidance method: a frozen, shared set of parameters plus the rule that uses them.

    Subclass it in a module of its own, with `method: Literal["name"] = "name"`, `paper`, `fidelity`,
    `needs`, `traces` and `guide`; the registry, the API's validation and schema, the form in the browser and
    the contract tests follow from that file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    title: ClassVar[str]
    summary: ClassVar[str]
    """One sentence for a person who chooses a method."""
    paper: ClassVar[Paper]
    fidelity: ClassVar[Fidelity]
    needs: ClassVar[Needs] = Needs()
    traces: ClassVar[dict[str, Trace]] = {}
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    """Parameters that a source gives for a model, by the model's name; the rest keeps its defaults."""
    usual: ClassVar[dict[str, dict[str, Any]]] = {}
    """Defaults for a family of models (vp, flow, ve) or a diffusers pipeline, where they are others."""

    method: str

    def suited(self, family: str, pipeline: str | None = None) -> Self:
        """This instance, with the `usual` defaults of a pipeline or family where it leaves them open."""
        usual = self.usual.get(pipeline or "", self.usual.get(family, {}))
        given = self.model_fields_set
        return self.model_copy(update={name: value for name, value in usual.items() if name not in given})

    def start(self) -> Any:
        """Return the fresh per-run state that `guide` may mutate; None for a stateless method."""
        return None

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: Any) -> Guide:
        """Ask what is needed at `x_t` and return the `Prediction` for this step. A generator."""
        raise NotImplementedError

    def requires(self) -> Needs:
        """What this instance needs: `needs`, or less (or more) where that depends on its parameters."""
        return self.needs

    def planned(self, steps: Sequence[Step]) -> Self:
        """This instance for a run along `steps`: what follows from the schedule gets its value."""
        return self

    def population(self) -> Population | None:
        """The particles that the loop keeps per image; None for one sample per image."""
        return None

    def nfe(self, steps: Sequence[Step]) -> int:
        """Network evaluations per image over `steps` (an upper bound where it depends on the data)."""
        return len(steps) * (2 if self.needs.negative else 1)


ADVANCED: Any = {"advanced": True}
"""Marks, in the schema, a parameter that a form may hide at first."""
