"""The page itself: what it shows, what it escapes, and that it loads nothing."""

import re
from dataclasses import replace

import numpy as np
import pytest

from app.comparison.command import spread
from app.comparison.report import report
from app.comparison.run import CannotCompare, parse_arm
from app.jobs import JobError, JobStatus
from app.storage.png import encode_png
from tests.app.comparison.made import PNG, comparison, made, vote

LARGE = encode_png(np.random.default_rng(0).integers(0, 255, (256, 256, 3), "uint8"))
EVIL = '<script>alert("x")</script>&'


def page(prompts: list[str], seeds: list[int], png: bytes = PNG, votes: int = 0) -> str:
    found = comparison(prompts, seeds)
    cells = made(found)
    return report(
        found, cells, [vote(n, "left") for n in range(votes)], dict.fromkeys(range(len(cells)), png), {}
    )


def test_means_differences_and_costs_are_there() -> None:
    told = page(["a", "b"], [1, 2])
    assert "<td>0.5 (0.577)</td><td>1.5 (0.577)</td>" in told
    assert "<b>+1 [+1, +1]</b>" in told
    assert "<td>8</td><td>9</td>" in told
    assert "Not compute-matched" in told
    assert "bootstrap over prompts, n = 2" in told
    assert "no clear difference" in told  # of `odd`, which is 1 everywhere
    assert told.count("<img ") == 8


def test_what_arms_shared_is_told() -> None:
    found = comparison(["a"], [1])
    cells = made(found)
    for cell in cells[1:]:
        assert cell.record is not None
        assert cell.record.result is not None
        cell.record.result.nfe.shared = 3
    told = report(found, cells, [], dict.fromkeys(range(len(cells)), PNG), {})
    assert "Of 17 network evaluations, 3 were not run" in told


def test_one_prompt_says_what_it_does_not_say() -> None:
    assert "nothing of other prompts" in page(["a"], [1, 2])
    assert "one pair: no interval" in page(["a"], [1])


def test_votes_are_told_in_words() -> None:
    assert "cfg:4 is preferred to apg:10,eta=0.5 in 100 % of 12 votes" in page(["a"], [1], votes=12)
    assert "Below 10 votes there is no ranking" in page(["a"], [1], votes=3)


def test_nothing_is_loaded_and_everything_is_escaped() -> None:
    found = comparison([EVIL], [1])
    told = report(found, made(found), [], {0: LARGE}, {})
    assert "<script" not in told
    assert told.count("&lt;script&gt;") >= 3
    sources = re.findall(r"""(?:src|href)=["']?([^"'>]{0,30})""", told)
    assert {source[:22] for source in sources} == {"data:image/webp;base64"}
    assert "url(" not in told


def test_a_failed_picture_is_said_and_its_pair_left_out() -> None:
    found = comparison(["a", "b"], [1])
    cells = made(found)
    assert cells[2].record is not None
    error = JobError(code="not_finite", message="it was <nan>")
    failed = cells[2].record.model_copy(update={"status": JobStatus.FAILED, "result": None, "error": error})
    cells[2] = replace(cells[2], record=failed)
    told = report(found, cells, [], {0: PNG, 1: PNG, 3: PNG}, {})
    assert told.count("not made") == 1
    assert "failed: it was &lt;nan&gt;" in told
    assert "one pair: no interval" in told


def test_arms_are_read_and_wrong_ones_named() -> None:
    assert parse_arm("apg:10,eta=0.5")["guidance"] == {"method": "apg", "scale": 10, "eta": 0.5}
    assert parse_arm("none") == {"label": "none", "guidance": {"method": "none"}}
    for text, reason in [("cgf:3", "no guidance method 'cgf'"), ("cfg:x", "scale"), ("cfg:1,foo=2", "foo")]:
        with pytest.raises(CannotCompare, match=reason):
            parse_arm(text)


def test_options_take_values_up_to_the_next_option() -> None:
    args = ["--arms", "a", "b", "--steps", "3", "--seeds", "1", "2", "--html", "x"]
    assert spread(args, ("--arms", "--seeds")) == [
        "--arms", "a", "--arms", "b", "--steps", "3", "--seeds", "1", "--seeds", "2", "--html", "x",
    ]  # fmt: skip
    assert spread(["--arms=a", "b"], ("--arms",)) == ["--arms=a", "b"]
