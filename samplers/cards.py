"""What there is to say of each sampler without torch: the API's catalogue and the admission checks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from guidance.base import Guidance

Family = Literal["vp", "flow", "ve"]


@dataclass(frozen=True, slots=True)
class SamplerCard:
    """One sampler: what it is, which models it fits, what it costs."""

    name: str
    title: str
    families: tuple[Family, ...]
    order: int = 1
    evaluations_per_step: int = 1
    stochastic: bool = False
    most_steps: int | None = None
    """More it cannot take: the levels that its models were distilled at."""
    paper: str = ""

    def rows(self, steps: int) -> int:
        """Network evaluations of one branch in `steps` steps: the last step, to sigma 0, takes one."""
        return steps * self.evaluations_per_step - (self.evaluations_per_step - 1)


CARDS: dict[str, SamplerCard] = {
    card.name: card
    for card in (
        SamplerCard("ddim", "DDIM", ("vp",), paper="2010.02502"),
        SamplerCard("flow_euler", "Flow Euler", ("flow",), paper="2209.03003"),
        SamplerCard("euler", "Euler", ("vp", "ve"), paper="2206.00364"),
        SamplerCard("euler_a", "Euler ancestral", ("vp", "ve"), stochastic=True, paper="2206.00364"),
        SamplerCard("dpmpp_2m", "DPM-Solver++ 2M", ("vp", "ve", "flow"), order=2, paper="2211.01095"),
        SamplerCard("unipc", "UniPC", ("vp",), order=2, paper="2302.04867"),
        SamplerCard("heun", "Heun", ("vp", "ve"), order=2, evaluations_per_step=2, paper="2206.00364"),
        SamplerCard(
            "dpmpp_2s_a",
            "DPM-Solver++ 2S ancestral",
            ("vp", "ve"),
            order=2,
            evaluations_per_step=2,
            stochastic=True,
            paper="2211.01095",
        ),
        SamplerCard("sde", "Euler-Maruyama", ("vp", "ve"), stochastic=True, paper="2503.02819"),
        SamplerCard("ddpm", "DDPM", ("vp",), stochastic=True, paper="2006.11239"),
        SamplerCard("lcm", "Latent consistency", ("vp",), stochastic=True, most_steps=50, paper="2310.04378"),
    )
}
"""Wire name -> card."""


def usual_strength(masked: bool) -> float:
    """The share of the steps that a run from a picture takes, where nobody says: all inside a mask."""
    return 1.0 if masked else 0.8


def steps_from(steps: int, strength: float) -> int:
    """How many of `steps` are left where a run starts from a picture; rounded down, as diffusers does."""
    return min(int(steps * strength), steps)


def start_problems(guidance: Guidance) -> list[str]:
    """Why a run with this guidance cannot start from a noised picture; empty where it can."""
    if not guidance.requires().from_noise:
        return []
    return [f"guidance {guidance.method!r} is defined from pure noise on and cannot start from a picture"]


def inversion_problems(guidance: Guidance, sampler: SamplerCard) -> list[str]:
    """Why a picture cannot be inverted with this guidance and sampler; empty where it can."""
    found: list[str] = []
    if sampler.stochastic or sampler.order > 1:
        fit = ", ".join(card.name for card in CARDS.values() if not card.stochastic and card.order == 1)
        found.append(f"sampler {sampler.name!r} cannot be run backwards; use one of: {fit}")
    if guidance.population() is not None or guidance.start() is not None:
        found.append(
            f"guidance {guidance.method!r} remembers earlier steps, which an inversion meets in reverse; use "
            "one without memory, like cfgpp or cfg"
        )
    return found


def embedded_problems(scale: float | None, has: Collection[str]) -> list[str]:
    """Why a model that `has` these extras cannot be told this built-in scale; empty where it can."""
    if scale is None or "embedded" in has:
        return []
    return [
        "embedded_scale is for models with a guidance scale built in, which this one has not; leave it out"
    ]


def clip_problems(clip_skip: int | None, has: Collection[str]) -> list[str]:
    """Why a model that `has` these extras cannot leave out layers of CLIP; empty where it can."""
    if clip_skip is None or "clip" in has:
        return []
    return ["clip_skip leaves out layers of CLIP, by which this model reads no prompts; leave it out"]


def qr_problems(guidance: Guidance, asked: bool) -> list[str]:
    """Why this guidance does not go with a QR code being asked for, or not; empty where it does."""
    if guidance.needs.qr and not asked:
        return [f"guidance {guidance.method!r} makes a QR code; say in qr what it holds"]
    if asked and not guidance.needs.qr:
        return [f"guidance {guidance.method!r} makes no QR code; use srpg, or leave qr out"]
    return []


def problems(guidance: Guidance, sampler: SamplerCard, family: Family, has: Collection[str]) -> list[str]:
    """Why this guidance cannot run with this sampler on a model of `family` that `has` these extras.

    `has`: any of "weak", "classifier", "noisy_classifier" (knows noisy pictures, too), "controlnet", "grad",
    "pixels", "unconditional". Empty answer: it can run. Each sentence says what would work instead.
    """
    found: list[str] = []
    needs = guidance.requires()
    if family not in sampler.families:
        fit = ", ".join(card.name for card in CARDS.values() if family in card.families)
        found.append(f"sampler {sampler.name!r} does not fit a {family} model; use one of: {fit}")
    fits = [card for card in CARDS.values() if family in card.families]
    if needs.stochastic and not sampler.stochastic:
        fit = ", ".join(card.name for card in fits if card.stochastic)
        found.append(f"guidance {guidance.method!r} needs a sampler that adds noise at each step: {fit}")
    if needs.first_order and sampler.order > 1:
        fit = ", ".join(card.name for card in fits if card.order == 1)
        found.append(f"guidance {guidance.method!r} needs a first-order sampler: {fit}")
    if needs.negative and "unconditional" in has:
        found.append(
            f"guidance {guidance.method!r} compares with a negative prompt, and this model takes no prompt"
        )
    for need, what in (("weak", "a weak model"), ("classifier", "a classifier")):
        if getattr(needs, need) and need not in has:
            found.append(f"guidance {guidance.method!r} needs {what}, which this model does not have")
    if needs.grad and "grad" not in has:
        found.append(f"guidance {guidance.method!r} needs gradients, which this model does not give")
    if needs.classifier and needs.pixels and "classifier" in has and "noisy_classifier" not in has:
        found.append(
            f"guidance {guidance.method!r} with these parameters needs a classifier of noisy pictures; "
            "this model has one of clean pictures"
        )
    if needs.pixels and "pixels" not in has:
        found.append(
            f"guidance {guidance.method!r} with these parameters is defined on pixels only, and this model "
            "works on latents"
        )
    return found
