import random
from collections import Counter

from app.comparison.ballots import draw
from app.comparison.results import results
from app.comparison.store import Ballot, Vote
from tests.app.comparison.made import comparison, made, vote


def test_a_session_is_balanced_shows_no_pair_twice_and_swaps_what_it_repeats() -> None:
    found = comparison([f"prompt {n}" for n in range(10)], [1, 2], arms=3)
    cells, rng = made(found), random.Random(1)
    ballots, votes = list[Ballot](), list[Vote]()
    while (ballot := draw(found, cells, ballots, votes, "somebody", len(ballots), rng)) is not None:
        assert draw(found, cells, [*ballots, ballot], votes, "somebody", 0, rng) == ballot  # until voted on
        ballots.append(ballot)
        votes.append(Vote(ballot=ballot, choice="left", question="?", voted_at_ms=len(votes)))
    first = [one for one in ballots if one.repeats is None]
    assert Counter(frozenset((one.left, one.right)) for one in first).values().__len__() == 3
    assert len(first) == 3 * 20
    assert len({(one.prompt, one.seed, frozenset((one.left, one.right))) for one in first}) == 60
    early = Counter(frozenset((one.left, one.right)) for one in first[:15])
    assert set(early.values()) == {5}
    again = [one for one in ballots if one.repeats is not None]
    by_ticket = {one.ticket: one for one in ballots}
    assert 1 <= len(again) <= 16  # about one in ten
    for one in again:
        assert one.repeats is not None
        shown = by_ticket[one.repeats]
        assert (one.prompt, one.seed, one.left, one.right) == (
            shown.prompt,
            shown.seed,
            shown.right,
            shown.left,
        )


def test_sides_are_balanced() -> None:
    found = comparison(["a"], [1])
    cells, rng = made(found), random.Random(2)
    left = Counter(ballot.left for n in range(1000) if (ballot := draw(found, cells, [], [], str(n), 0, rng)))
    assert abs(left[0] - 500) < 64  # four standard errors


def test_what_is_not_made_is_not_shown() -> None:
    found = comparison(["a"], [1])
    cells = made(found)
    assert draw(found, cells[:1], [], [], "somebody", 0) is None


def test_results_say_who_won_and_what_they_do_not_know() -> None:
    found = comparison(["a", "b"], [1])
    cells = made(found)
    votes = [vote(n, "left" if n < 18 else "right", voter=f"voter {n}", prompt=n % 2) for n in range(20)]
    votes += [vote(20, "right", 1, 0, repeats="0"), vote(21, "left", 1, 0, repeats="1"), vote(22, "skip")]
    told = results(found, cells, votes).votes
    assert (told.n, told.pairs[0].wins_a, told.pairs[0].wins_b) == (20, 18, 2)
    assert told.pairs[0].text.startswith("cfg:4 is preferred to apg:10,eta=0.5 in 90 % of 20 votes")
    assert told.pairs[0].clear
    assert [(arm.best_rank, arm.worst_rank) for arm in told.arms] == [(1, 1), (2, 2)]
    assert told.self_agreement is not None
    assert (told.self_agreement.share, told.self_agreement.n) == (0.5, 2)
    assert told.agreement[0].share.share == 0.1  # the second arm is the more saturated one
    few = results(found, cells, votes[:5]).votes
    assert few.arms == []
    assert not few.pairs[0].clear
    assert "no clear difference" in few.pairs[0].text
