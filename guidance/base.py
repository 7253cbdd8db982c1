"""What every guidance method is made of: conditions, levels, asks, predictions, needs.

A guidance method never calls a network. Its `guide` is a generator that *asks* (`Denoise`, `Decode`,
`Classify`) and is *answered* by whoever drives the run: the plain driver `samplers.sample` or the serving
engine `workers.engine`, which packs the asks of many runs into one forward.

Nothing here imports torch at run time: the API process reads the methods' schemas without it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

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
    """Row `index` of `total` in a run: from the level `now` (x_t) to the level `next` (x_s)."""

    index: int
    total: int
    now: Level
    next: Level

    @property
    def fraction(self) -> float:
        """Share of the run that lies behind this step, in [0, 1)."""
        return self.index / self.total


@dataclass(frozen=True, slots=True)
class Cond:
    """What a network is conditioned on, as one model adapter made it.

    `data` is the adapter's own (text embeddings, a class label, ...); guidance methods only hand it back.
    `key` identifies the content, so that equal conditions can share work.
    """

    key: str
    data: Any = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of one run. `classes` are alternative labels or prompts (GFCG and relatives)."""

    positive: Cond
    negative: Cond
    classes: tuple[Cond, ...] = ()


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
    """Ask the model's classifier for logits: pictures (B, 3, H, W) in [-1, 1] -> (B, K), float32."""

    images: Tensor
    grad: bool = False


Ask = Denoise | Decode | Classify


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


@dataclass(frozen=True, slots=True)
class Trace:
    """A per-step scalar that a method reports, for plots: unit-free unless the label says otherwise."""

    label: str
    log: bool = False


@dataclass(frozen=True, slots=True)
class Paper:
    """Where a method comes from and how we know that ours is right."""

    title: str
    arxiv: str
    venue: str = ""
    compared_with: str = ""
    largest_difference: str = ""
    deviates: str = ""


class Guidance(BaseModel):
    """A guidance method: a frozen, shared set of parameters plus the rule that uses them.

    Subclass it in a module of its own, with `method: Literal["name"] = "name"`, `paper`, `needs`, `traces`
    and `guide`; the registry, the API's validation and schema, the form in the browser and the contract tests
    follow from that file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    title: ClassVar[str]
    summary: ClassVar[str]
    """One sentence for a person who chooses a method."""
    paper: ClassVar[Paper]
    needs: ClassVar[Needs] = Needs()
    traces: ClassVar[dict[str, Trace]] = {}

    method: str

    def start(self) -> Any:
        """Return the fresh per-run state that `guide` may mutate; None for a stateless method."""
        return None

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: Any) -> Guide:
        """Ask what is needed at `x_t` and return the `Prediction` for this step. A generator."""
        raise NotImplementedError

    def nfe(self, steps: Sequence[Step]) -> int:
        """Network evaluations per image over `steps` (an upper bound where it depends on the data)."""
        return len(steps) * (2 if self.needs.negative else 1)
