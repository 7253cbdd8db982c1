from __future__ import annotations

import random

import pytest
import torch

from training.captions import STYLES, Captions, faces, with_article
from training.data import COLOUR_NAMES
from training.text import TokenTable, corpus, tokens, train_tokenizer


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("red apple", "a red apple"),
        ("orange heart", "an orange heart"),
        ("octopus", "an octopus"),
        ("cherries", "cherries"),
        ("bowl with spoon", "a bowl with spoon"),
        ("beans", "beans"),
        ("glass of milk", "a glass of milk"),
        ("bread", "bread"),
    ],
)
def test_articles(name, said):
    assert with_article(name) == said


def test_faces_turn_round():
    assert faces("tiger face") == ["face of a tiger"]


def test_a_named_background_is_always_said(rows):
    captions, draw = Captions(rows), random.Random(0)
    for colour in range(1, len(COLOUR_NAMES)):
        for row in rows:
            assert f"{COLOUR_NAMES[colour]} background" in captions.draw(row, colour, draw)


def test_captions_name_no_style_but_their_own(rows):
    captions, draw = Captions(rows), random.Random(0)
    for row in rows * 20:
        said = set(captions.draw(row, 0, draw).replace(",", " ").split())
        assert said & set(STYLES) <= {row["style"]}


def test_a_style_is_also_called_by_its_other_word(rows):
    captions, draw = Captions(rows), random.Random(0)
    drawn = {word for row in rows * 20 for word in captions.draw(row, 0, draw).replace(",", " ").split()}
    flat = [captions.draw(row, 0, draw) for row in rows * 20 if row["style"] == "flat"]
    assert drawn >= {"3d", "fluent", "flat"}
    assert not any("fluent" in said for said in flat)


@pytest.fixture
def tokenizer(rows):
    return train_tokenizer(corpus(rows, 0, 20), 700, 32)


def test_the_tokenizer_round_trips_through_a_folder(tokenizer, rows, tmp_path):
    from transformers import CLIPTokenizer

    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    for said in [*corpus(rows, 1, 5), "Zürich ☃ 東", ""]:
        assert again(said).input_ids == tokenizer(said).input_ids
        back = again.decode(again(said).input_ids, skip_special_tokens=True)
        assert back.replace(" ", "") == said.lower().replace(" ", "")
    assert again.model_max_length == 32
    assert len(again) <= 700


def test_dropped_captions_are_the_empty_prompt(tokenizer, rows):
    table = TokenTable(rows, tokenizer, 0, 2)
    index, colour = torch.tensor([0, 5]), torch.tensor([1, 2])
    ids = table.draw(index, colour, torch.tensor([0.0, 0.9]), torch.tensor([True, False]))
    assert torch.equal(ids[0], tokens(tokenizer, [""])[0])
    said = tokenizer.decode(ids[1], skip_special_tokens=True)
    assert f"{COLOUR_NAMES[2]} background" in said
