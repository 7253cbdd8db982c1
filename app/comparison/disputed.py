"""Which rows of a comparison are worth another look: where voters disagree or, before, where scores part."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from math import ceil
from typing import Literal

from pydantic import BaseModel

from app.comparison.cells import Cell, metric_names
from app.comparison.spec import Comparison
from app.comparison.store import Vote
from app.comparison.votes import winner

SHARE = 4
"""One row in so many is disputed by its scores."""
PARTED = (
    "the quarter of the rows where the arms' scores differ most (their range, in standard deviations of all "
    "pictures, as the mean over scores)."
)

Spot = tuple[int, int]


class Row(BaseModel):
    """A row by its indices into prompts and seeds."""

    prompt: int
    seed: int


class Disputed(BaseModel):
    """The disputed rows in order, and `text`, what they are. Votes are told of once all planned are cast."""

    by: Literal["votes", "scores"]
    rows: list[Row]
    text: str


def disputed(found: Comparison, cells: Sequence[Cell], votes: Sequence[Vote]) -> Disputed:
    """By votes where there are enough of them, else by scores."""
    first = [vote for vote in votes if vote.ballot.repeats is None and vote.choice != "skip"]
    judged = _judged(first)
    if not first:
        why = "Nobody has voted yet, so these are "
    elif len(first) < found.votes_planned:
        why = f"Votes stay blind until the {found.votes_planned} that are planned are cast, so these are "
    elif not judged:
        why = "No pair was judged twice, so these are "
    else:
        rows = sorted({spot for spot, winners in judged if len(winners - {None}) > 1})
        text = f"Rows where one vote preferred an arm and another vote its rival: {len(rows)}, of "
        text += f"{len({spot for spot, _ in judged})} with a pair that was judged twice."
        return Disputed(by="votes", rows=_rows(rows), text=text)
    return Disputed(by="scores", rows=_rows(_parted(cells)), text=why + PARTED)


def _rows(spots: Sequence[Spot]) -> list[Row]:
    return [Row(prompt=prompt, seed=seed) for prompt, seed in spots]


def _judged(votes: Sequence[Vote]) -> list[tuple[Spot, set[int | None]]]:
    """The pairs with two votes or more: the row of each, and the arms that were preferred there."""
    said: dict[tuple[Spot, frozenset[int]], list[int | None]] = {}
    for vote in votes:
        shown = vote.ballot
        pair = (shown.prompt, shown.seed), frozenset((shown.left, shown.right))
        said.setdefault(pair, []).append(winner(vote))
    return [(spot, set(winners)) for (spot, _), winners in said.items() if len(winners) > 1]


def _parted(cells: Sequence[Cell]) -> list[Spot]:
    """The rows with the widest ranges of scores over their arms."""
    widths: dict[Spot, list[float]] = {}
    for name in metric_names(cells):
        rows: dict[Spot, list[float]] = {}
        for cell in cells:
            if name in cell.metrics:
                rows.setdefault((cell.place.prompt, cell.place.seed), []).append(cell.metrics[name])
        if deviation := statistics.pstdev([value for row in rows.values() for value in row]):
            for spot, row in rows.items():
                widths.setdefault(spot, []).append((max(row) - min(row)) / deviation)
    parted = {spot: statistics.fmean(width) for spot, width in widths.items() if any(width)}
    most = sorted(parted, key=lambda spot: -parted[spot])[: ceil(len(parted) / SHARE)]
    return sorted(most)
