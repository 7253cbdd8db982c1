"""Rows that are worth another look."""

from app.comparison.cells import Cell
from app.comparison.disputed import Disputed, disputed
from app.comparison.spec import Comparison
from app.comparison.store import Choice, Vote
from tests.app.comparison.made import comparison, made, vote


def asked(planned: int = 4) -> Comparison:
    found = comparison(["a", "b", "c", "d"], [1, 2], arms=3)
    return found.model_copy(update={"votes_planned": planned})


def parted(found: Comparison, *effects: float) -> list[Cell]:
    """Row by row, so far is the last arm's saturation from the others'."""
    cells = made(found, 0)
    for cell in cells:
        assert cell.record is not None
        assert cell.record.result is not None
        row, last = cell.place.index // 3, cell.place.arm == 2
        cell.record.result.metrics["saturation"] = effects[row] * last
    return cells


def spots(told: Disputed) -> list[tuple[int, int]]:
    return [(row.prompt, row.seed) for row in told.rows]


def cast(*said: tuple[Choice, int, int]) -> list[Vote]:
    """Votes: choice, prompt, the arm on the right."""
    return [
        vote(number, choice, 0, right, prompt=prompt) for number, (choice, prompt, right) in enumerate(said)
    ]


def test_without_votes_it_is_the_quarter_of_rows_whose_scores_part_most() -> None:
    found = asked()
    told = disputed(found, parted(found, 1, 2, 9, 3, 1, 8, 0, 0), [])
    assert (told.by, spots(told)) == ("scores", [(1, 0), (2, 1)])
    assert "Nobody has voted yet" in told.text
    assert spots(disputed(found, parted(found, 0, 0, 0, 0, 0, 0, 0, 5), [])) == [(3, 1)]
    assert spots(disputed(found, made(found, 0), [])) == [], "all arms alike"
    assert spots(disputed(found, [], [])) == []


def test_votes_are_told_of_only_once_all_are_cast() -> None:
    found = asked(planned=5)
    cells = parted(found, 0, 0, 9, 0, 0, 0, 0, 0)
    said = cast(("left", 0, 1), ("right", 0, 1), ("left", 1, 1), ("left", 1, 1))
    told = disputed(found, cells, [*said, vote(9, "skip")])
    assert (told.by, spots(told)) == ("scores", [(1, 0)])
    assert "Votes stay blind until the 5" in told.text
    told = disputed(found, cells, [*said, vote(9, "tie", prompt=2)])
    assert (told.by, spots(told)) == ("votes", [(0, 0)])
    assert "1, of 2 with a pair that was judged twice" in told.text


def test_only_opposite_votes_on_the_same_pair_are_a_dispute() -> None:
    found = asked()
    cells = parted(found, *range(8))
    alone = disputed(found, cells, cast(("left", 0, 1), ("right", 0, 2), ("left", 1, 1), ("right", 2, 1)))
    assert alone.by == "scores"
    assert "No pair was judged twice" in alone.text
    tied = disputed(found, cells, cast(("left", 0, 1), ("tie", 0, 1), ("left", 1, 1), ("both_bad", 1, 1)))
    assert (tied.by, spots(tied)) == ("votes", [])
    same_arm = [vote(1, "left"), vote(2, "right", 1, 0), *cast(("left", 3, 1), ("right", 3, 1))]
    assert spots(disputed(found, cells, same_arm)) == [(3, 0)]
    repeated = [*cast(("left", 0, 1), ("left", 3, 1), ("left", 3, 1), ("tie", 3, 2))]
    again = vote(7, "right", repeats="0")
    assert spots(disputed(found, cells, [*repeated, again])) == []
