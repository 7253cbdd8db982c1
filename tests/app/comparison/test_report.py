"""The page itself: what it shows, what it escapes, and that it loads nothing."""

import re

import numpy as np
import pytest

from app.comparison.command import spread
from app.comparison.report import report
from app.comparison.run import CannotCompare, Cell, Comparison, parse_arm
from app.storage.png import encode_png

SMALL = encode_png(np.zeros((8, 8, 3), "uint8"))
LARGE = encode_png(np.random.default_rng(0).integers(0, 255, (256, 256, 3), "uint8"))
EVIL = '<script>alert("x")</script>&'


def comparison(prompts: list[str], seeds: list[int], effect: float = 1.0, png: bytes = SMALL) -> Comparison:
    arms = [parse_arm("cfg:4"), parse_arm("apg:10,eta=0.5")]
    found = Comparison(prompts, seeds, arms, resolved={"model": "toy", "steps": 4})
    for p, prompt in enumerate(prompts):
        for seed in seeds:
            for number, arm in enumerate(arms):
                metrics = {"saturation": p + number * effect, "odd": 1.0}
                found.cells[prompt, seed, arm.label] = Cell(prompt, seed, arm.label, png, metrics, 8 + number)
    return found


def test_means_differences_and_costs_are_there() -> None:
    page = report(comparison(["a", "b"], [1, 2]))
    assert "<td>0.5 (0.577)</td><td>1.5 (0.577)</td>" in page
    assert "<b>+1 [+1, +1]</b>" in page
    assert "<td>8</td><td>9</td>" in page
    assert "different numbers of network evaluations" in page
    assert "bootstrap over prompts, n = 2" in page
    assert "no clear difference" in page  # of `odd`, which is 1 everywhere
    assert page.count("<img ") == 8


def test_one_prompt_says_what_it_does_not_say() -> None:
    assert "nothing of other prompts" in report(comparison(["a"], [1, 2]))
    assert "one pair: no interval" in report(comparison(["a"], [1]))


def test_nothing_is_loaded_and_everything_is_escaped() -> None:
    found = comparison([EVIL], [1], png=LARGE)
    found.failures.append(EVIL)
    page = report(found)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 3
    sources = re.findall(r"""(?:src|href)=["']?([^"'>]{0,30})""", page)
    assert {source[:22] for source in sources} == {"data:image/webp;base64"}
    assert "url(" not in page


def test_a_missing_picture_is_said_and_its_pair_left_out() -> None:
    found = comparison(["a", "b"], [1])
    del found.cells["b", 1, "cfg:4"]
    page = report(found)
    assert page.count("not made") == 1
    assert "one pair: no interval" not in report(comparison(["a", "b"], [1]))
    assert "one pair: no interval" in page


def test_arms_are_read_and_wrong_ones_named() -> None:
    arm = parse_arm("apg:10,eta=0.5")
    assert (arm.guidance.method, arm.guidance.model_dump()["eta"]) == ("apg", 0.5)
    assert parse_arm("none").guidance.method == "none"
    for text, reason in [("cgf:3", "no guidance method 'cgf'"), ("cfg:x", "scale"), ("cfg:1,foo=2", "foo")]:
        with pytest.raises(CannotCompare, match=reason):
            parse_arm(text)


def test_options_take_values_up_to_the_next_option() -> None:
    args = ["--arms", "a", "b", "--steps", "3", "--seeds", "1", "2", "--html", "x"]
    assert spread(args, ("--arms", "--seeds")) == [
        "--arms", "a", "--arms", "b", "--steps", "3", "--seeds", "1", "--seeds", "2", "--html", "x",
    ]  # fmt: skip
    assert spread(["--arms=a", "b"], ("--arms",)) == ["--arms=a", "b"]
