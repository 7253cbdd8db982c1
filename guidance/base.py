"""What every guidance method is made of: conditions, levels, asks, predictions, needs.

A guidance method never calls a network. Its `guide` is a generator that *asks* (`Denoise`, `Decode`,
`Classify`, ...) and is *answered* by whoever drives the run: the plain driver `samplers.sample` or the
serving engine `workers.engine`, which packs the asks of many runs into one forward.

Nothing here imports torch at run time: the API process reads the methods' schemas without it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from guidance.sources import Fidelity, Paper

if TYPE_CHECKING:
    from torch import Tensor

    from guidance.qr.scanning import Target

Network = Literal["main", "weak"]


@dataclass(frozen=True, slots=True)
class Level:
    """One noise level of `x = alpha * x0 + sigma * eps`, with the network's own time input for it."""

    alpha: float
    sigma: float
    timestep: float

    @property
    def sigma_ve(self) -> float:
        """Noise level in variance-exploding units, `sigma / alpha`."""
        return self.sigma / self.alpha if self.alpha else float("inf")


@dataclass(frozen=True, slots=True)
class Step:
    """Solver step `index` of `total` in a run: from the level `now` (x_t) to the level `next` (x_s).

    A solver that evaluates the network twice a step gives two of these with one `index`; the second says in
    `began` at which level the solver's step started, so that a decision taken once holds for both.
    """

    index: int
    total: int
    now: Level
    next: Level
    began: Level | None = None
    noise_gain: float | None = None
    """Variance of the noise that the solver adds, over its weight of `denoised`; None where it adds none."""

    @property
    def fraction(self) -> float:
        """Share of the run that lies behind this step, in [0, 1)."""
        return self.index / self.total


@dataclass(frozen=True, slots=True, eq=False)
class Control:
    """A picture (1, 3, H, W), 0 to 1, that a ControlNet follows with this strength."""

    image: Tensor = field(repr=False)
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Cond:
    """What a network is conditioned on, as one model adapter made it.

    `data` is the adapter's own (text embeddings, a class label, ...); guidance methods only hand it back.
    `key` identifies the content, so that equal conditions can share work. `scale` is what a network with a
    guidance scale built in (FLUX.1-dev) is told; None: the model's own default.
    """

    key: str
    data: Any = field(repr=False, compare=False)
    control: Control | None = None
    scale: float | None = None
    text: str = field(default="", repr=False, compare=False)
    """The prompt that it came from, for a classifier that reads."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of one run. `classes` are alternative labels or prompts (GFCG and relatives)."""

    positive: Cond
    negative: Cond
    classes: tuple[Cond, ...] = ()
    target: Target | None = None
    """The QR symbol that the picture shall be read as (SRPG)."""

    def controlled(self, control: Control | None) -> Conditions:
        """The same, with every network evaluation under this control."""
        return self._each(control=control)

    def told(self, scale: float | None) -> Conditions:
        """The same, with every network evaluation told this built-in scale."""
        return self._each(scale=scale)

    def _each(self, **changes: Any) -> Conditions:
        positive, negative, *classes = (
            replace(cond, **changes) for cond in (self.positive, self.negative, *self.classes)
        )
        return replace(self, positive=positive, negative=negative, classes=tuple(classes))


@dataclass(frozen=True, slots=True, eq=False)
class Denoise:
    """Ask for `denoised` (the estimate of x0), once per condition.

    `x_t`: (B, C, H, W) float32. Answer: a list of `len(conds)` tensors shaped like `x_t`, float32.
    `grad=True`: the answer carries the graph back to `x_t`; such an ask is never batched with others.
    Cost: B * len(conds) network evaluations.
    """

    x_t: Tensor
    level: Level
    conds: Sequence[Cond]
    network: Network = "main"
    grad: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Decode:
    """Ask for pictures: latents (B, C, h, w) -> (B, 3, H, W) in [-1, 1], float32."""

    latents: Tensor
    grad: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Classify:
    """Ask the model's classifier for logits: pictures (B, 3, H, W) in [-1, 1] -> (B, K), float32.

    `labels`: the K conditions to choose among, in the order of the answer's columns; empty means all classes
    that the classifier knows. `level`: the noise level of `images`, for a classifier trained on noisy input.
    `softplus`: put Softplus of this beta in the place of the classifier's ReLUs.
    """

    images: Tensor
    labels: Sequence[Cond] = ()
    level: Level | None = None
    softplus: float | None = None
    grad: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Encode:
    """Ask for the latents (B, C, h, w) of pictures (B, 3, H, W) in [-1, 1], float32."""

    images: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Perceive:
    """Ask for the features in which pictures (B, 3, H, W) in [-1, 1] look alike: maps (B, C, h, w), float32.

    Empty where the model has no perceptual network.
    """

    images: Tensor
    grad: bool = False


Ask = Denoise | Decode | Encode | Classify | Perceive


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What `denoised` we pretend the network said, for one step.

    `renoise`: the estimate whose noise is put back (and whose history a multistep solver keeps); None means
    `denoised`. CFG++ renoises with the unconditional estimate.
    `log_weight`: (B,) increment of the particles' log-weights over this step (FKC).
    `trace`: the scalars that the method declares in `traces`, each (B,) or a float.
    """

    denoised: Tensor
    renoise: Tensor | None = None
    log_weight: Tensor | None = None
    trace: dict[str, Any] = field(default_factory=dict[str, Any])


Guide = Generator[Ask, Any, Prediction]


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


class Limited(Guidance):
    """A method that guides inside an interval only; outside it the conditional prediction stands alone.

    Source: arXiv 2404.07724 (limited interval): guide where sigma is in (sigma_low, sigma_high].
    """

    guide_from: float = Field(
        0.0, ge=0, le=1, description="share of the steps before guidance begins", json_schema_extra=ADVANCED
    )
    guide_to: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of the steps after which it ends",
        json_schema_extra=ADVANCED,
    )
    sigma_low: float = Field(
        0.0, ge=0, description="guide only above this level (sigma / alpha)", json_schema_extra=ADVANCED
    )
    sigma_high: float | None = Field(
        None, ge=0, description="guide only up to this level (sigma / alpha)", json_schema_extra=ADVANCED
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.guide_to < self.guide_from:
            raise ValueError(f"guide_to ({self.guide_to}) lies before guide_from ({self.guide_from})")
        if self.sigma_high is not None and self.sigma_high < self.sigma_low:
            raise ValueError(f"sigma_high ({self.sigma_high}) is below sigma_low ({self.sigma_low})")
        return self

    def active(self, step: Step) -> bool:
        """Whether this step is guided. Steps count as in diffusers: int(from*N) <= index < int(to*N)."""
        first, last = (int(share * step.total + 1e-9) for share in (self.guide_from, self.guide_to))
        sigma = (step.began or step.now).sigma_ve
        below = self.sigma_high is None or sigma <= self.sigma_high
        return first <= step.index < last and self.sigma_low < sigma and below

    def nfe(self, steps: Sequence[Step]) -> int:
        """One evaluation per step and one more where it is guided."""
        return len(steps) + sum(self.active(step) for step in steps)
