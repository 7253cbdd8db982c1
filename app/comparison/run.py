"""A comparison: prompts x arms x seeds as jobs of a running service, and the pictures that come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import ValidationError
from tqdm import tqdm
from ulid import ULID

from app.calls import JobFields
from app.client import ApiError, Client, Job, NoAnswer
from app.console import value_of
from app.jobs import JobStatus
from guidance import REGISTRY, Guidance

SEEDS_PER_JOB = 8


class CannotCompare(Exception):
    """No comparison; the message is for a person and says what to do."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A column: a guidance method with its parameters. `label` is how the person wrote it."""

    label: str
    guidance: Guidance


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture: of a prompt, with a seed, in an arm."""

    prompt: str
    seed: int
    arm: str
    png: bytes
    metrics: dict[str, float]
    nfe: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that was asked for and all that came of it; the first arm is the baseline."""

    prompts: list[str]
    seeds: list[int]
    arms: list[Arm]
    cells: dict[tuple[str, int, str], Cell] = field(default_factory=dict[tuple[str, int, str], Cell])
    failures: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])
    resolved: dict[str, Any] = field(default_factory=dict[str, Any])


def parse_arm(text: str) -> Arm:
    """`method`, `method:scale` or `method:scale,key=value,...` as an arm. Raises CannotCompare."""
    method, _, rest = text.partition(":")
    if method not in REGISTRY:
        raise CannotCompare(f"arm {text!r}: no guidance method {method!r}; there are: {', '.join(REGISTRY)}")
    values: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        key, value = (key, value) if equals else ("scale", key)
        values[key] = value_of(value)
    try:
        return Arm(text, REGISTRY[method].model_validate({"method": method, **values}))
    except ValidationError as error:
        said = "; ".join(
            f"{'/'.join(map(str, one['loc'])) or method}: {one['msg']}" for one in error.errors()
        )
        raise CannotCompare(f"arm {text!r}: {said}; write it like apg:10 or apg:10,eta=0.5") from None


def compare(
    client: Client,
    prompts: Sequence[str],
    arms: Sequence[Arm],
    seeds: Sequence[int],
    fields: Mapping[str, Any],
) -> Comparison:
    """Have every cell made. The same seeds mean the same starting noise in every arm. Raises CannotCompare.

    `fields`: what all jobs say besides (model, steps, ...). When it is stopped, what is queued is canceled.
    """
    found = Comparison(list(prompts), list(seeds), list(arms))
    for what, values in (
        ("prompt", found.prompts),
        ("seed", found.seeds),
        ("arm", [one.label for one in arms]),
    ):
        if not values:
            raise CannotCompare(f"give at least one {what}")
        if len(set(values)) < len(values):
            raise CannotCompare(f"the same {what} is given twice")
    tag = f"comparison:{ULID()}"
    jobs: list[tuple[str, Arm, Job]] = []
    done = 0
    try:
        for prompt in prompts:
            for arm in arms:
                for some in (seeds[i : i + SEEDS_PER_JOB] for i in range(0, len(seeds), SEEDS_PER_JOB)):
                    asked = {**fields, "seeds": list(some), "guidance": arm.guidance, "tags": [tag]}
                    jobs.append((prompt, arm, _submit(client, prompt, arm, asked)))
        for prompt, arm, job in tqdm(jobs, unit="job"):
            _gather(client, found, prompt, arm, client.wait(job))
            done += 1
    except NoAnswer as error:
        raise CannotCompare(f"the service does not answer: {error}") from error
    except ApiError as error:
        raise CannotCompare(f"the service refused: {error.detail}") from error
    finally:
        for _, _, job in jobs[done:]:
            try:
                client.cancel(job)
            except ApiError:  # deleted meanwhile
                continue
            except NoAnswer:
                break
    if not found.cells:
        raise CannotCompare("no picture was made: " + "; ".join(found.failures))
    return found


def _submit(client: Client, prompt: str, arm: Arm, asked: Mapping[str, Any]) -> Job:
    try:
        return client.submit(prompt, **cast(JobFields, dict(asked)))
    except ApiError as error:
        lines = [f"{one.get('pointer')}: {one.get('detail')}" for one in error.errors] or [error.detail]
        raise CannotCompare(f"the service refused arm {arm.label!r}: {'; '.join(lines)}") from error


def _gather(client: Client, found: Comparison, prompt: str, arm: Arm, job: Job) -> None:
    found.warnings.extend(f"{arm.label}: {text}" for text in job.warnings)
    if job.status != JobStatus.SUCCEEDED:
        reason = (job.error or {}).get("message", "no reason was given")
        found.failures.append(f"{arm.label}, {prompt!r}: {job.status}: {reason}")
        return
    resolved = job.resolved or {}
    found.resolved.update(
        {name: resolved.get(name) for name in ("model", "sampler", "steps", "width", "height")}
    )
    nfe = job.nfe.model if job.nfe else 0
    for image in job.images:
        png = client.image(job, image.index)
        found.cells[prompt, image.seed, arm.label] = Cell(
            prompt, image.seed, arm.label, png, image.metrics, nfe
        )
