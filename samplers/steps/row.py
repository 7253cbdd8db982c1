"""A sampler as numbers: one row of coefficients per network evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from guidance.asks import Level, Step


@dataclass(frozen=True, slots=True)
class Row:
    """One update `x_s = a*x_t + b*R + c*R_1 + d*R_2 + shift*(denoised - R) + noise*n`, n standard normal.

    R is `renoise` (or `denoised` where a method gives none) of this row, R_1 and R_2 those of the two rows
    before. The solver runs on R alone; what guidance adds beyond R moves the sample by `shift = alpha_s`.
    """

    now: Level
    next: Level
    a: float
    b: float
    c: float = 0.0
    d: float = 0.0
    shift: float = 0.0
    noise: float = 0.0
    began: Level | None = None
    """Where the solver's step started, in its second row."""

    @classmethod
    def from_ve(
        cls,
        now: Level,
        next: Level,
        a: float,
        b: float,
        c: float = 0.0,
        shift: float = 1.0,
        noise: float = 0.0,
        began: Level | None = None,
    ) -> Row:
        """A row from coefficients that hold for `x / alpha`, the variance-exploding coordinates."""
        to = next.alpha
        scaled = {"c": c * to, "shift": shift * to, "noise": noise * to}
        return cls(now, next, a * to / now.alpha, b * to, **scaled, began=began)


@dataclass(frozen=True)
class Plan:
    """A sampler compiled for one step count and one model's schedule."""

    rows: tuple[Row, ...]
    init_scale: float
    """The run starts from `init_scale` times standard normal noise."""
    skipped: int = 0
    """Steps that are left out at the noisy end, for a run that starts from a picture."""
    upward: bool = False
    """An inversion, from clean to noise: steps count down, and the two estimates change their roles."""

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """What guidance is told of each row; the two rows of a two-evaluation step share an index."""
        indices = list(accumulate((row.began is None for row in self.rows), initial=-1))[1:]
        total = indices[-1] + 1
        if self.upward:
            indices = [total - 1 - i for i in indices]
        return tuple(
            Step(
                i, total, row.now, row.next, row.began, row.noise**2 / row.b if row.noise and row.b else None
            )
            for i, row in zip(indices, self.rows, strict=True)
        )

    @property
    def levels(self) -> tuple[Level, ...]:
        """The level of each evaluation, then the level of the result."""
        return (*(row.now for row in self.rows), self.rows[-1].next)
