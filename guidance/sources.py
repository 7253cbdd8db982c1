"""What there is to say of a method's origin: its paper, and how we know that ours is the published one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Paper:
    """Where a method comes from."""

    title: str
    arxiv: str
    venue: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """One comparison of ours with another's answers, on the same input.

    `largest_difference` is absolute, over all elements; `tests/guidance/test_fidelity.py` measures it anew
    and fails where it is larger than said, or much smaller.
    """

    reference: str
    """What it was compared with: a repository and commit, a library and version, a paper's listing."""
    kind: Literal["official code", "paper", "library", "own"]
    on: str
    """What was run: which quantities, how many steps, which settings."""
    largest_difference: float
    precision: Literal["float64", "float32"] = "float64"
    """What the less precise of the two sides computes in."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """Where we do otherwise than the source, and why."""

    where: str
    why: str


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How we know that a method is the published one: what it was compared with, and where it differs."""

    compared: tuple[Compared, ...]
    deviates: tuple[Deviation, ...] = ()
