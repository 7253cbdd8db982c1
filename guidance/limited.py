"""Methods that guide inside an interval of the run only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from guidance.asks import Step
from guidance.base import ADVANCED, Guidance


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


class Scaled(Limited):
    """A limited method whose parameter `scale` is neutral at 1: there too the conditional stands alone."""

    scale: float

    def guided(self, step: Step) -> bool:
        """Whether this step needs a second prediction."""
        return self.scale != 1 and self.active(step)

    def nfe(self, steps: Sequence[Step]) -> int:
        """One evaluation per step and one more where it is guided."""
        return len(steps) + sum(self.guided(step) for step in steps)
