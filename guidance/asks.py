"""What a run and a guidance method say to each other: levels, conditions, asks, predictions.

A guidance method never calls a network. Its `guide` is a generator that *asks* (`Denoise`, `Decode`,
`Classify`, ...) and is *answered* by whoever drives the run: the plain driver `samplers.sample` or the
serving engine `workers.engine`, which packs the asks of many runs into one forward.

Nothing here imports torch at run time: the API process reads the methods' schemas without it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

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
