"""What `POST /v1/batches` asks for: rows as a list, or fields whose values are combined."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from app.admission import Refusal, Refused
from app.batch.rows import Asking
from app.jobs import Asked, JobSpec


class BatchSpec(Asked):
    """`jobs`, or `axes`: one of them. Each row is a job as in `POST /v1/jobs`, filled up from `defaults`."""

    jobs: list[dict[str, Any] | str] | None = Field(
        None,
        min_length=1,
        description="each a job as in POST /v1/jobs, or a prompt alone",
        examples=[[{"prompt": "a red apple, 3d", "seeds": [1]}, "a panda, flat"]],
    )
    axes: dict[str, list[Any]] | None = Field(
        None,
        min_length=1,
        description="fields of a job, each with the values that it takes",
        examples=[{"prompt": ["a cat, 3d", "a dog, 3d"], "steps": [10, 25]}],
    )
    combine: Literal["product", "zip"] = Field(
        "product", description="of axes: every combination, or in step"
    )
    defaults: dict[str, Any] = Field(default_factory=dict[str, Any], description="for rows that do not say")

    @model_validator(mode="after")
    def _one_of_them(self) -> BatchSpec:
        if (self.jobs is None) == (self.axes is None):
            raise ValueError("give jobs or axes: one of them")
        return self

    def rows(self, at_most: int) -> Iterator[Asking]:
        """The rows. Raises Refused where there are too many, or where they cannot be made."""
        if self.jobs is not None:
            check_count(len(self.jobs), at_most)
            yield from self.jobs
            return
        axes = self.axes or {}
        for name, values in axes.items():
            if name not in JobSpec.model_fields:
                raise Refused(
                    [Refusal(f"/axes/{name}", f"a job has no field {name!r}", [*JobSpec.model_fields])]
                )
            if not values:
                raise Refused([Refusal(f"/axes/{name}", f"{name} has no values")])
        lengths = [len(values) for values in axes.values()]
        if self.combine == "zip" and len(set(lengths)) > 1:
            detail = f"to be combined in step, axes must be equally long; these have {lengths} values"
            raise Refused([Refusal("/axes", detail)])
        check_count(max(lengths) if self.combine == "zip" else math.prod(lengths), at_most)
        combined = (
            zip(*axes.values(), strict=True) if self.combine == "zip" else itertools.product(*axes.values())
        )
        for values in combined:
            yield dict(zip(axes, values, strict=True))


def check_count(count: int, at_most: int) -> None:
    """Refuse a batch of too many rows, before any is made."""
    if count > at_most:
        detail = (
            f"this makes {count} jobs; one batch takes at most {at_most}, `lodestar batch run` any number"
        )
        raise Refused([Refusal("", detail, {"maximum": at_most})])
