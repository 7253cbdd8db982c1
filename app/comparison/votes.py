"""What blind votes say of a comparison, for the API, the page and the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import exp

from pydantic import BaseModel

from app.comparison.cells import Cell, metric_names
from app.comparison.preference import Duel, Strengths, bradley_terry, wilson
from app.comparison.spec import Comparison
from app.comparison.store import Vote
from app.scores import SCORES

FEW_VOTES = 10
"""Below so many votes there is no ranking."""


class ShareAnswer(BaseModel):
    """A share with its 95 % Wilson interval."""

    share: float
    low: float
    high: float
    n: int


class ArmStanding(BaseModel):
    """Where an arm stands among the votes: its log-strength (mean 0) and the ranks not ruled out."""

    strength: float
    best_rank: int
    worst_rank: int


class PairResult(BaseModel):
    """Two arms. `share`: of the votes for `a`, ties as half; `beats`: the model's probability of that."""

    a: int
    b: int
    wins_a: int
    wins_b: int
    ties: int
    both_bad: int
    share: ShareAnswer | None
    beats: ShareAnswer
    clear: bool
    text: str


class MetricAgreement(BaseModel):
    """How often the preferred picture has the higher score."""

    name: str
    title: str
    share: ShareAnswer


class VoteResult(BaseModel):
    """The votes of a comparison. `arms` is empty below `few`: there is no ranking yet."""

    n: int
    few: int
    planned: int
    voters: int
    questions: list[str]
    arms: list[ArmStanding]
    pairs: list[PairResult]
    left: ShareAnswer | None
    self_agreement: ShareAnswer | None
    agreement: list[MetricAgreement]
    voted_at_ms: list[int]


def vote_result(found: Comparison, cells: Sequence[Cell], votes: Sequence[Vote]) -> VoteResult:
    """The votes, counted. What a repeated ballot says counts for self-agreement and sides alone."""
    votes = [vote for vote in votes if vote.choice != "skip"]
    first = [vote for vote in votes if vote.ballot.repeats is None]
    sided = [vote for vote in votes if vote.choice in ("left", "right")]
    standings, pairs = list[ArmStanding](), list[PairResult]()
    if len(found.arms) > 1:
        strengths = bradley_terry(duels(first), len(found.arms))
        ranked = len(first) >= FEW_VOTES
        pairs = [
            _pair(found, a, b, first, strengths, ranked) for a, b in combinations(range(len(found.arms)), 2)
        ]
        standings = [_standing(strengths, arm) for arm in range(len(found.arms))] if ranked else []
    return VoteResult(
        n=len(first),
        few=FEW_VOTES,
        planned=found.votes_planned,
        voters=len({vote.ballot.voter for vote in votes}),
        questions=list(dict.fromkeys(vote.question for vote in votes)),
        arms=standings,
        pairs=pairs,
        left=_share(sum(vote.choice == "left" for vote in sided), len(sided)),
        self_agreement=_self_agreement(votes),
        agreement=list(_agreement(cells, first)),
        voted_at_ms=[vote.voted_at_ms for vote in first],
    )


def winner(vote: Vote) -> int | None:
    """The arm that a vote prefers; None for a tie and for both bad."""
    if vote.choice == "left":
        return vote.ballot.left
    return vote.ballot.right if vote.choice == "right" else None


def duels(votes: Sequence[Vote]) -> list[Duel]:
    """The votes that compare; `both_bad` does not."""
    scores = {"left": 1.0, "right": 0.0, "tie": 0.5}
    return [
        Duel(vote.ballot.left, vote.ballot.right, scores[vote.choice], vote.ballot.prompt, vote.ballot.voter)
        for vote in votes
        if vote.choice in scores
    ]


def _standing(strengths: Strengths, arm: int) -> ArmStanding:
    best, worst = strengths.ranks(arm)
    return ArmStanding(strength=float(strengths.logits[arm]), best_rank=best, worst_rank=worst)


def _pair(
    found: Comparison, a: int, b: int, votes: Sequence[Vote], strengths: Strengths, ranked: bool
) -> PairResult:
    own = [vote for vote in votes if {vote.ballot.left, vote.ballot.right} == {a, b}]
    wins_a, wins_b = (sum(winner(vote) == arm for vote in own) for arm in (a, b))
    ties = sum(vote.choice == "tie" for vote in own)
    share = _share(wins_a + ties / 2, wins_a + wins_b + ties)
    low, high = strengths.interval(a, b)
    apart = share is not None and not share.low <= 0.5 <= share.high
    clear = ranked and apart and not low <= 0 <= high
    return PairResult(
        a=a,
        b=b,
        wins_a=wins_a,
        wins_b=wins_b,
        ties=ties,
        both_bad=sum(vote.choice == "both_bad" for vote in own),
        share=share,
        beats=_beats(float(strengths.logits[a] - strengths.logits[b]), low, high, len(own)),
        clear=clear,
        text=_sentence(found.arms[a].label, found.arms[b].label, share, clear),
    )


def _beats(gap: float, low: float, high: float, n: int) -> ShareAnswer:
    """Log-odds as probabilities."""
    share, least, most = (1 / (1 + exp(-logit)) for logit in (gap, low, high))
    return ShareAnswer(share=share, low=least, high=most, n=n)


def _sentence(a: str, b: str, share: ShareAnswer | None, clear: bool) -> str:
    if share is None:
        return f"No vote has compared {a} with {b} yet."
    if share.share < 0.5:
        a, b = b, a
        share = ShareAnswer(share=1 - share.share, low=1 - share.high, high=1 - share.low, n=share.n)
    text = (
        f"{a} is preferred to {b} in {100 * share.share:.0f} % of {share.n} votes "
        f"(95 % interval {100 * share.low:.0f} % to {100 * share.high:.0f} %)"
    )
    return f"{text}." if clear else f"{text}: no clear difference."


def _share(wins: float, n: int) -> ShareAnswer | None:
    if not n:
        return None
    found = wilson(wins, n)
    return ShareAnswer(share=found.share, low=found.low, high=found.high, n=found.n)


def _self_agreement(votes: Sequence[Vote]) -> ShareAnswer | None:
    """How often a voter said the same of a pair shown again, sides swapped."""
    by_ticket = {vote.ballot.ticket: vote for vote in votes}
    again = [(vote, by_ticket[vote.ballot.repeats]) for vote in votes if vote.ballot.repeats in by_ticket]
    same = sum((winner(a), a.choice == "both_bad") == (winner(b), b.choice == "both_bad") for a, b in again)
    return _share(same, len(again))


def _agreement(cells: Sequence[Cell], votes: Sequence[Vote]) -> Iterator[MetricAgreement]:
    at = {(cell.place.prompt, cell.place.seed, cell.place.arm): cell for cell in cells}
    for name in metric_names(cells):
        higher = list[bool]()
        for vote in votes:
            won = winner(vote)
            if won is None:
                continue
            lost = vote.ballot.left + vote.ballot.right - won
            scores = [at[vote.ballot.prompt, vote.ballot.seed, arm].metrics.get(name) for arm in (won, lost)]
            if scores[0] is not None and scores[1] is not None and scores[0] != scores[1]:
                higher.append(scores[0] > scores[1])
        if (share := _share(sum(higher), len(higher))) is not None:
            score = SCORES.get(name)
            yield MetricAgreement(name=name, title=score.title if score else name, share=share)
