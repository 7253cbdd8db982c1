"""Which pair a voter sees next. The voter's page never learns which arms they are."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from app.comparison.cells import Cell
from app.comparison.preference import bradley_terry
from app.comparison.spec import Comparison
from app.comparison.store import Ballot, Vote
from app.comparison.votes import duels

REPEAT_SHARE = 0.1
"""This share of a voter's ballots shows an earlier pair again, sides swapped: does the voter agree?"""
REPEAT_AFTER = 5
"""An earlier pair comes again when at least so many others were shown since."""
BALANCED_VOTES = 5
"""Until each pair of arms has so many votes, the pair with the fewest is next; then the least certain one."""

Spot = tuple[int, int]
Pair = tuple[int, int]


def draw(
    found: Comparison,
    cells: Sequence[Cell],
    ballots: Sequence[Ballot],
    votes: Sequence[Vote],
    voter: str,
    now_ms: int,
    rng: random.Random | None = None,
) -> Ballot | None:
    """The voter's next ballot: one left open first. None when there is no pair that they have not seen.

    A pair can be voted on when both its pictures are made.
    """
    rng = rng or random.SystemRandom()
    own = [ballot for ballot in ballots if ballot.voter == voter]
    voted = {vote.ballot.ticket: vote for vote in votes}
    if waiting := next((ballot for ballot in own if ballot.ticket not in voted), None):
        return waiting
    ticket = secrets.token_urlsafe(18)
    again = {ballot.repeats for ballot in own}
    once = [
        one
        for one in own[:-REPEAT_AFTER]
        if not one.repeats and one.ticket not in again and voted[one.ticket].choice != "skip"
    ]
    if once and rng.random() < REPEAT_SHARE:
        shown = rng.choice(once)
        swapped = {"ticket": ticket, "left": shown.right, "right": shown.left, "repeats": shown.ticket}
        return shown.model_copy(update={**swapped, "issued_at_ms": now_ms})
    spots = unseen(cells, own)
    if not spots:
        return None
    first = [vote for vote in votes if vote.ballot.repeats is None and vote.choice != "skip"]
    pair = next_pair(found, list(spots), first, rng)
    prompt, seed = rng.choice(spots[pair])
    left, right = rng.sample(pair, 2)
    return Ballot(
        ticket=ticket,
        prompt=prompt,
        seed=seed,
        left=left,
        right=right,
        voter=voter,
        repeats=None,
        issued_at_ms=now_ms,
    )


def unseen(cells: Sequence[Cell], own: Sequence[Ballot]) -> dict[Pair, list[Spot]]:
    """For each pair of arms, the (prompt, seed) of which both are made and that these ballots do not show."""
    made: dict[Spot, list[int]] = {}
    for cell in cells:
        if cell.record and cell.record.result and cell.record.result.images:
            made.setdefault((cell.place.prompt, cell.place.seed), []).append(cell.place.arm)
    seen = {(one.prompt, one.seed, min(one.left, one.right), max(one.left, one.right)) for one in own}
    spots: dict[Pair, list[Spot]] = {}
    for (prompt, seed), arms in made.items():
        for pair in combinations(sorted(arms), 2):
            if (prompt, seed, *pair) not in seen:
                spots.setdefault(pair, []).append((prompt, seed))
    return spots


def next_pair(found: Comparison, pairs: Sequence[Pair], votes: Sequence[Vote], rng: random.Random) -> Pair:
    """The pair of arms with the fewest votes or, once all have some, with the widest interval."""
    counts = Counter(
        (min(vote.ballot.left, vote.ballot.right), max(vote.ballot.left, vote.ballot.right)) for vote in votes
    )
    pairs = rng.sample(pairs, len(pairs))  # ties are broken by chance
    fewest = min(pairs, key=lambda pair: counts[pair])
    if counts[fewest] < BALANCED_VOTES:
        return fewest
    errors = bradley_terry(duels(votes), len(found.arms)).errors
    return max(pairs, key=lambda pair: float(errors[pair]))
