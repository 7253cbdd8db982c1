"""What a comparison is: prompts x seeds x arms, each cell of it a job of one picture.

A cell's job starts from the noise of its seed, so that all arms of a row start from the same. The ids of a
comparison and of its jobs follow from what will run: asking for the same twice finds the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

from pydantic import Field, ValidationError

from app.admission import Refusal, Refused, new_job, resolve
from app.catalogue import Catalogue
from app.faults import explain
from app.jobs import Asked, Edit, JobSpec, Priority, Resolved, Seed, Wire
from app.queue.base import NewJob
from app.settings import Settings
from guidance import REGISTRY, AnyGuidance, Guidance
from guidance.qr.request import Qr

NAMESPACE = UUID("5a2b8f5e-6d0c-4c5e-9f0e-0d6c2a1d7a10")
"""Ours alone: comparisons' ids are made in it."""
QUESTION = "Which picture follows the prompt better?"
SHARED = (
    "model", "negative_prompt", "classes", "init_image", "mask", "strength", "edit", "qr",
    "embedded_scale", "width", "height", "metrics", "priority",
)  # fmt: skip
"""What the jobs of all cells have in common."""
PREVIEWS = 8
"""Previews of a picture while it is made, unless the request says otherwise."""
PICTURES = ("init_image", "mask")
TO_COME = "to come"
"""Stands for a picture that is asked for and was not taken in yet."""


class ArmSpec(Asked):
    """One arm: a guidance method with its parameters, and steps or a sampler of its own."""

    label: str = Field("", max_length=60, description="empty: made from the method and its scale")
    guidance: AnyGuidance
    steps: int | None = Field(None, ge=1, description="the comparison's, unless given")
    sampler: str | None = Field(None, max_length=40, description="the comparison's, unless given")


class ComparisonSpec(Asked):
    """What a client asks for. The first arm is the baseline that the others are compared with."""

    title: str = Field("", max_length=200)
    prompts: list[str] = Field(min_length=1, max_length=1000, examples=[["a red apple, 3d"]])
    arms: list[ArmSpec] = Field(min_length=1, max_length=8)
    seeds: list[Seed] = Field(min_length=1, max_length=1000, examples=[[1, 2]])
    model: str | None = Field(None, max_length=100, description="a name of GET /v1/models")
    negative_prompt: str = ""
    classes: list[str] = Field(default_factory=list[str], max_length=64)
    init_image: str | None = Field(None, min_length=1, description="as in a job; every cell starts from it")
    mask: str | None = Field(None, min_length=1, description="as in a job; every cell keeps what is black")
    strength: float | None = Field(None, gt=0, le=1, description="as in a job")
    edit: Edit | None = Field(None, description="as in a job; every seed would edit alike, so give one")
    qr: Qr | None = Field(None, description="as in a job: the code of every cell, all of them with srpg")
    embedded_scale: float | None = Field(None, ge=0, le=100, description="as in a job")
    width: int | None = Field(None, ge=8)
    height: int | None = Field(None, ge=8)
    steps: int | None = Field(None, ge=1)
    sampler: str | None = Field(None, max_length=40, description="a name of GET /v1/samplers")
    metrics: list[str] = Field(default_factory=lambda: ["basic"], max_length=20)
    preview_every: int | None = Field(None, ge=0, description="a preview each so many steps; 0 for none")
    priority: Priority = "interactive"
    question: str = Field(QUESTION, min_length=1, max_length=200, description="what voters are asked")
    votes_planned: int = Field(30, ge=1, le=10_000, description="fixed before the first vote")
    look_s: float = Field(0, ge=0, le=60, description="voters look at a pair so long before they may vote")


class Arm(Wire):
    """An arm with nothing left open."""

    label: str
    guidance: AnyGuidance
    steps: int
    sampler: str
    embedded_scale: float | None = None
    """What a network with a guidance scale built in is told in this arm; None: what all are."""


class Comparison(Wire):
    """A comparison as it is stored: every value that runs, and what people say of it."""

    id: str
    created_at_ms: int
    title: str
    question: str
    votes_planned: int
    look_s: float = 0
    prompts: list[str]
    seeds: list[Seed]
    arms: list[Arm]
    shared: JobSpec
    """What all cells have in common; its prompt and its guidance stand for none."""
    account: str | None = None
    """The API key that it belongs to."""

    @property
    def tag(self) -> str:
        """By this tag its jobs are found."""
        return f"comparison:{self.id}"

    @property
    def places(self) -> list[Place]:
        """All cells in order: the arms of a row are neighbours."""
        return list(_places(self))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cell is: indices into prompts, seeds and arms, and the job that makes its picture."""

    index: int
    prompt: int
    seed: int
    arm: int
    job_id: str


def plan(
    spec: ComparisonSpec,
    catalogue: Catalogue,
    settings: Settings,
    created_at_ms: int,
    account: str | None = None,
) -> Comparison:
    """Fill in what is left open. Raises Refused with everything that is wrong, each arm by its pointer.

    A picture to start from and its mask are not taken in here: see `started_from`.
    """
    pictures = [name for name in PICTURES if getattr(spec, name) is not None]
    spec = spec.model_copy(update=dict.fromkeys(pictures, TO_COME))
    labels = [arm.label or label_of(arm) for arm in spec.arms]
    refusals = [
        *_twice("/prompts", "prompt", spec.prompts),
        *_twice("/seeds", "seed", spec.seeds),
        *_twice("/arms", "arm", labels),
    ]
    if spec.edit is not None and len(spec.seeds) > 1:
        refusals.append(
            Refusal("/seeds", "an edit draws no noise, so every seed gives one picture; ask for one")
        )
    cells = len(spec.prompts) * len(spec.seeds) * len(spec.arms)
    if cells > settings.max_cells:
        detail = f"{cells} pictures are asked for; one comparison makes at most {settings.max_cells}"
        refusals.append(Refusal("", detail, {"maximum": settings.max_cells}))
        raise Refused(refusals)
    firsts = list[Resolved]()
    for number, arm in enumerate(spec.arms):
        try:
            firsts.append(
                [resolve(_cell(spec, arm, prompt), catalogue, settings) for prompt in spec.prompts].pop()
            )
        except ValidationError as error:
            refusals += [_of_arm(spec, number, explain(item)) for item in error.errors()]
        except Refused as refused:
            refusals += [_of_arm(spec, number, refusal) for refusal in refused.refusals]
    if refusals:
        raise Refused(list({(one.pointer, one.detail): one for one in refusals}.values()))
    found = Comparison(
        id="",
        created_at_ms=created_at_ms,
        title=spec.title or " vs ".join(labels),
        question=spec.question,
        votes_planned=spec.votes_planned,
        look_s=spec.look_s,
        prompts=spec.prompts,
        seeds=spec.seeds,
        arms=[
            Arm(
                label=label,
                guidance=first.guidance,
                steps=first.steps,
                sampler=first.sampler,
                embedded_scale=first.embedded_scale,
            )
            for label, first in zip(labels, firsts, strict=True)
        ],
        shared=_shared(spec, firsts[0]),
        account=account,
    )
    return _named(found)


def started_from(found: Comparison, digests: Mapping[str, str]) -> Comparison:
    """The comparison whose cells start from what has these digests (`sha256:...`), under its own id."""
    return _named(found.model_copy(update={"shared": found.shared.model_copy(update=digests)}))


def cell_job(found: Comparison, place: Place, catalogue: Catalogue, settings: Settings) -> NewJob:
    """The job that makes one cell."""
    arm = found.arms[place.arm]
    spec = found.shared.model_copy(
        update={
            "prompt": found.prompts[place.prompt],
            "seeds": [found.seeds[place.seed]],
            "guidance": arm.guidance,
            "classes": found.shared.classes if arm.guidance.requires().classes else [],
            "steps": arm.steps,
            "sampler": arm.sampler,
            "embedded_scale": (
                found.shared.embedded_scale if arm.embedded_scale is None else arm.embedded_scale
            ),
            "tags": [found.tag],
        }
    )
    asked = JobSpec.model_validate(spec.model_dump(mode="json", exclude_none=True))
    resolved = resolve(asked, catalogue, settings).model_copy(
        update={name: getattr(asked, name) for name in PICTURES}
    )
    return new_job(place.job_id, asked, resolved)


def label_of(arm: ArmSpec) -> str:
    """A short name: the method's title and what the client set of it."""
    guidance: Guidance = arm.guidance
    told = guidance.model_dump(mode="json", exclude_unset=True, exclude={"method", "scale"})
    scale = getattr(guidance, "scale", None)
    parts = [f"{scale:g}"] if scale is not None else []
    parts += [
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in told.items()
    ]
    if arm.steps is not None:
        parts.append(f"{arm.steps} steps")
    if arm.sampler is not None:
        parts.append(arm.sampler)
    return " ".join([REGISTRY[guidance.method].title, ", ".join(parts)]).strip()[:60]


def _places(found: Comparison) -> Iterator[Place]:
    root, index = UUID(found.id), 0
    for prompt in range(len(found.prompts)):
        for seed in range(len(found.seeds)):
            for arm in range(len(found.arms)):
                yield Place(index, prompt, seed, arm, str(uuid5(root, f"{prompt}/{seed}/{arm}")))
                index += 1


def _cell(spec: ComparisonSpec, arm: ArmSpec, prompt: str) -> JobSpec:
    """A cell as a request of its own, for admission to look at."""
    own = {"prompt": prompt, "seeds": spec.seeds[:1], "guidance": arm.guidance}
    own |= {"steps": arm.steps or spec.steps, "sampler": arm.sampler or spec.sampler}
    others_use_classes = any(other.guidance.requires().classes for other in spec.arms)
    if others_use_classes and not arm.guidance.requires().classes:
        own |= {"classes": []}
    return JobSpec.model_validate({name: getattr(spec, name) for name in SHARED} | own)


def _shared(spec: ComparisonSpec, first: Resolved) -> JobSpec:
    every = spec.preview_every
    return JobSpec.model_validate(
        {name: getattr(first, name) for name in SHARED}
        | {"classes": spec.classes, "init_image": spec.init_image, "mask": spec.mask}
        | {"prompt": "", "preview_every": max(1, first.steps // PREVIEWS) if every is None else every}
    )


def _of_arm(spec: ComparisonSpec, number: int, refusal: Refusal) -> Refusal:
    """A refusal of a cell, as one of the comparison: what is the arm's own gets the arm's pointer."""
    arm = spec.arms[number]
    pointer = refusal.pointer
    if pointer == "/qr" and spec.qr is not None and not arm.guidance.needs.qr:
        pointer = "/guidance/method"
    own = (
        pointer.startswith("/guidance")
        or (pointer == "/steps" and arm.steps is not None)
        or (pointer == "/sampler" and arm.sampler is not None)
    )
    if own:
        return Refusal(f"/arms/{number}{pointer}", refusal.detail, refusal.allowed)
    return Refusal("/prompts" if pointer == "/prompt" else pointer, refusal.detail, refusal.allowed)


def _twice(pointer: str, what: str, values: Sequence[object]) -> Iterator[Refusal]:
    """Equal cells would be the same job."""
    seen: set[object] = set()
    for number, value in enumerate(values):
        if value in seen:
            yield Refusal(f"{pointer}/{number}", f"the same {what} is given twice: {value}")
        seen.add(value)


def _named(found: Comparison) -> Comparison:
    return found.model_copy(update={"id": str(uuid5(NAMESPACE, (found.account or "") + _what_runs(found)))})


def _what_runs(found: Comparison) -> str:
    """All that decides about the pictures, and nothing else."""
    what = found.model_dump(mode="json", include={"prompts", "seeds", "arms"})
    shared = found.shared.model_dump(mode="json", exclude={"preview_every", "priority"}, exclude_none=True)
    return json.dumps([what, shared], sort_keys=True)
