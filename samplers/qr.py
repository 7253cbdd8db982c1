"""The run that makes a picture a QR code: paint it, guide it until it scans, refine it.

1. The base guidance paints a picture, in a size that the model knows: under the symbol's ControlNet
   where that is the symbol's size; in a smaller one modules are finer than latent cells, and only noise.
2. From that picture, noised, SRPG guides under the ControlNet towards a symbol of the same payload that
   follows the picture.
3. SR-MPGD moves the finished latents until a reader has enough error correction left.

Source: arXiv 2409.06355, figure 2.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from guidance.asks import Conditions, Control, Decode, Encode, Level, Step
from guidance.qr import qart, scanning
from guidance.qr.request import TRIES, Qr
from guidance.qr.scanning import Target
from guidance.srpg import CONTRAST_STEP, MOST_CONTRAST, SRPG, damage, gradient, look
from samplers.img2img import Start
from samplers.loop import Final, Observed, Run, run
from samplers.models.base import Model
from samplers.noise import Noise
from samplers.scan import Pixels, enlarged, finish, margin, sure_margin
from samplers.steps import Plan, compile_plan
from samplers.trace import TraceLog

KNOWN_UP_TO = 1.5
"""A model paints canvases up to so many times its own size; larger ones are painted small and enlarged."""
STRONGER = 4
"""Each further attempt multiplies the scanning scale by it."""
SECOND = 2**62
"""Added to the seed for the noise of the second stage."""
NEARLY_RIGHT = 0.2
"""Share of the error correction that may be used up when the refinement asks for more contrast."""
CLEAN = Level(1.0, 0.0, 0.0)
Observe = Callable[[Observed], None]


@dataclass(frozen=True, slots=True, eq=False)
class CodeCourse:
    """What the runs of one request have in common. `plan` has all steps, `tail` those of the second stage."""

    model: Model
    plan: Plan
    tail: Plan
    guidance: SRPG
    cond: Conditions
    qr: Qr
    warnings: list[str] = field(default_factory=list[str])
    read: dict[str, Any] = field(default_factory=dict[str, Any])
    """How the model read the prompts, where that is worth telling."""

    @property
    def tries(self) -> int:
        """How often the second stage may run."""
        return TRIES if self.qr.guarantee == "scannable" else 1

    @property
    def steps(self) -> int:
        """Steps of one run at most, those of the refinement included."""
        again = self.tail.steps[-1].total + self.guidance.refine.iterations + 1
        return self.plan.steps[-1].total + self.tries * again

    @property
    def work(self) -> int:
        """Network evaluations of one run at most."""
        base = self.guidance.base
        return base.nfe(self.plan.steps) + self.tries * base.nfe(self.tail.steps)

    def run(self, seed: int, observe: Observe | None = None) -> Run:
        """The run of one seed; its latents are those of the symbol without its quiet zone."""
        target = yield from self._aim(seed, observe)
        assert target.reference is not None
        latents = yield Encode(target.reference * 2 - 1)
        control = _control(target, self.qr, self.model.device)
        cond = replace(self.cond.controlled(control), target=target)
        best = yield from self._attempt(seed, 0, latents, cond, observe)
        for attempt in range(1, self.tries):
            if best.rank[1] >= 0:
                break
            again = yield from self._attempt(seed, attempt, latents, cond, observe)
            best = max(best, again, key=lambda one: one.rank)
        return Final(best.latents, best.trace, target)

    def controlled_only(self, seed: int, target: Target) -> Run:
        """The second stage without SRPG: what the ControlNet alone makes of the target's picture."""
        assert target.reference is not None
        latents = yield Encode(target.reference * 2 - 1)
        noise = Noise(seed + SECOND, latents.shape[1:], device=self.model.device)
        cond = self.cond.controlled(_control(target, self.qr, self.model.device))
        done = yield from run(self.tail, self.guidance.base, cond, noise, None, Start(latents))
        return replace(done, target=target)

    def _aim(self, seed: int, observe: Observe | None) -> Generator[Any, Any, Target]:
        """The first stage: a picture, and the symbol that follows it."""
        symbol = self.qr.symbol()
        target = Target(symbol, self.qr.module_px or 0)
        channels, cell_px, side_px = _painted(self.model, target.canvas_px)
        shape = (channels, side_px // cell_px, side_px // cell_px)
        noise, cond = Noise(seed, shape, device=self.model.device), self.cond
        if side_px == target.canvas_px:
            cond = cond.controlled(_control(target, self.qr, self.model.device))
        painted = yield from run(self.plan, self.guidance.base, cond, noise, _untraced(observe))
        decoded = yield Decode(painted.latents)
        picture = enlarged((decoded / 2 + 0.5).clamp(0, 1), target.canvas_px)
        if self.qr.follow:
            grey = functional.avg_pool2d(scanning.luminance(picture), target.module_px)[0, 0]
            wanted = grey.double().cpu().numpy()
            followed = (qart.follow(one, wanted) for one in self.qr.candidates())
            symbol = min(followed, key=lambda one: qart.distance(one, wanted))
        return Target(symbol, target.module_px, picture)

    def _attempt(
        self, seed: int, attempt: int, latents: Tensor, cond: Conditions, observe: Observe | None
    ) -> Generator[Any, Any, Refined]:
        """The second stage and the refinement, stronger with each attempt."""
        assert cond.target is not None
        scale = self.guidance.scanning_scale * STRONGER**attempt
        guidance = self.guidance.model_copy(update={"scanning_scale": scale})
        noise = Noise(seed + SECOND, latents.shape[1:], device=self.model.device)
        start = None if guidance.fresh_noise else Start(latents)
        guided = yield from run(self.tail, guidance, cond, noise, observe, start)
        refined = yield from refine(guided.latents, guidance, cond.target, self.qr, observe)
        refined.trace = {key: guided.trace[key] + refined.trace[key] for key in guidance.traces}
        return refined


def code_course(
    model: Model,
    prompt: str,
    negative_prompt: str,
    *,
    sampler: str,
    steps: int,
    guidance: SRPG,
    qr: Qr,
    clip_skip: int | None = None,
) -> CodeCourse:
    """The runs of a request. Calls the model's encoders. ValueError says what would fit."""
    encoded = model.encode([prompt, negative_prompt], clip_skip)
    positive, negative = encoded.conds
    cond = Conditions(positive, negative)
    channels, cell_px, _ = _painted(model, 1)
    qr = qr.resolved(cell_px, model.extras)
    side = qr.canvas_px // cell_px
    compiled = partial(
        compile_plan, sampler, steps, model.family, model.schedule_config((channels, side, side))
    )
    tail = compiled(guidance.begins(steps))
    return CodeCourse(model, compiled(), tail, guidance, cond, qr, encoded.warnings, encoded.read)


def finished(model: Model, final: Final, qr: Qr) -> Pixels:
    """The picture of a run's end."""
    assert final.target is not None
    with torch.no_grad():
        image = model.decode(final.latents)[0]
    return finish((image / 2 + 0.5).clamp(0, 1), final.target, qr.quiet_zone)


@dataclass(slots=True, eq=False)
class Refined:
    """The best latents (1, C, h, w) of a refinement, how well they are read, and the trace."""

    latents: Tensor
    rank: tuple[float, float, float]
    """How sure the reader is, its margin on the picture itself (-1: unread), minus the damage."""
    trace: dict[str, list[float | None]]


def refine(
    latents: Tensor, guidance: SRPG, target: Target, qr: Qr, observe: Observe | None = None
) -> Generator[Any, Any, Refined]:
    """SR-MPGD, stopped when the reader is sure enough; the best of all iterates is kept."""
    settings, trace = guidance.refine, TraceLog(guidance.traces, guidance.method)
    contrast, best = settings.contrast, None
    for i in range(settings.iterations + 1):
        z = latents.detach().requires_grad_()
        seen, far, images = yield from look(z, target, guidance, contrast)
        used = damage(seen, target)
        pixels = finish(images[0].detach(), target, qr.quiet_zone)
        rank = sure_margin(pixels, qr.data), margin(pixels, qr.data), -float(used)
        if best is None or rank > best.rank:
            best = Refined(z.detach(), rank, {})
        g = gradient((seen.loss + settings.perceptual * far).sum(), z)
        row = {
            "module_error": seen.share_wrong,
            "damage": used,
            "scanning_loss": seen.loss.detach(),
            "perceptual_loss": far.detach(),
            "gradient_norm": g.flatten(1).norm(dim=1),
        }
        trace.append(row)
        if observe is not None:
            observe(Observed(Step(i, settings.iterations + 1, CLEAN, CLEAN), z.detach(), z.detach(), row))
        if rank[0] >= settings.stop:
            break
        if float(used) <= NEARLY_RIGHT:
            contrast = min(contrast + CONTRAST_STEP, MOST_CONTRAST)
        latents = z.detach() - settings.lr * g
    assert best is not None
    best.trace = trace.columns()
    return best


def _painted(model: Model, canvas_px: int) -> tuple[int, int, int]:
    """Latent channels, pixels per latent cell, and the side in pixels of the first stage's picture."""
    own_px = min(model.default_size)
    channels, _, width = model.latent_shape(*model.default_size)
    side_px = canvas_px if canvas_px <= KNOWN_UP_TO * own_px else own_px
    return channels, model.default_size[0] // width, side_px


def _control(target: Target, qr: Qr, device: torch.device) -> Control | None:
    if not qr.control_scale:
        return None
    light = torch.from_numpy(~target.symbol.dark).float().expand(1, 3, -1, -1)
    whole = functional.interpolate(light, scale_factor=target.module_px, mode="nearest")
    return Control(whole.to(device), qr.control_scale)


def _untraced(observe: Observe | None) -> Observe | None:
    """The first stage's method has scalars of its own, which the request's method does not declare."""
    if observe is None:
        return None
    return lambda observed: observe(replace(observed, trace_row={}))
