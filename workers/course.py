"""What the runs of one job have in common: where they start, what guides them, how far they go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image

from app.jobs import Resolved
from guidance.asks import Conditions
from guidance.srpg import SRPG
from samplers.img2img import Start, start_from
from samplers.inversion import edit_run, upward
from samplers.loop import Observed, Run, batch, run
from samplers.models.base import Model
from samplers.noise import Noise
from samplers.qr import CodeCourse, code_course
from samplers.steps import Plan, compile_plan


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """One job's runs, one per seed: from noise, from a picture (`start`), or an edit of it (`source`)."""

    spec: Resolved
    plan: Plan
    model: Model
    cond: Conditions
    warnings: list[str]
    read: dict[str, Any]
    """How the model read the prompts, where that is worth telling."""
    source: Conditions | None = None
    """What an edit's picture shows."""
    start: Start | None = None

    @property
    def steps(self) -> int:
        """Steps of one run; an edit goes there and back."""
        return self.plan.steps[-1].total * (1 if self.source is None else 2)

    @property
    def work(self) -> int:
        """Network evaluations that one run is expected to take."""
        back = 0 if self.source is None else self.spec.guidance.nfe(upward(self.plan).steps)
        return self.spec.guidance.nfe(self.plan.steps) + back

    def run(self, seed: int, observe: Callable[[Observed], None]) -> Run:
        """The run of one seed."""
        guidance = self.spec.guidance
        if self.start is not None and self.source is not None:
            return edit_run(self.plan, guidance, self.source, self.cond, self.start.latents, observe)
        shape = self.model.latent_shape(self.spec.width, self.spec.height)
        noise = Noise(seed, shape, batch(guidance), self.model.device)
        return run(self.plan, guidance, self.cond, noise, observe, self.start)


def chart(
    model: Model, spec: Resolved, picture: Image.Image | None, mask: Image.Image | None = None
) -> Course | CodeCourse:
    """Compile the plan and encode what the runs need. Calls the model's encoders."""
    if spec.qr is not None and isinstance(spec.guidance, SRPG):
        return code_course(
            model,
            spec.prompt,
            spec.negative_prompt,
            sampler=spec.sampler,
            steps=spec.steps,
            guidance=spec.guidance,
            qr=spec.qr,
            clip_skip=spec.clip_skip,
        )
    config = model.schedule_config(model.latent_shape(spec.width, spec.height))
    plan = compile_plan(spec.sampler, spec.steps, model.family, config, spec.skipped)
    source = [] if spec.edit is None else [spec.edit.source_prompt]
    prompts = [spec.prompt, spec.negative_prompt, *source, *spec.classes]
    encoded = model.encode(prompts, spec.clip_skip)
    positive, negative, *others = encoded.conds
    classes = tuple(others[len(source) :])
    return Course(
        spec,
        plan,
        model,
        Conditions(positive, negative, classes).told(spec.embedded_scale),
        encoded.warnings,
        encoded.read,
        Conditions(others[0], negative, classes).told(spec.embedded_scale) if source else None,
        None if picture is None else start_from(model, picture, mask),
    )
