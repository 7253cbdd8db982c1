"""Sentences for pictures: names, articles, paraphrases, keywords, styles, colours."""

from __future__ import annotations

import random
from collections import Counter

from training.data import COLOUR_NAMES

SPOKEN = {"3d": ("3d", "3d", "fluent"), "flat": ("flat",), "noto": ("noto",)}
"""The words that captions have for a style, each as often as it stands here."""
STYLES = tuple(SPOKEN)
EMPTY = ""

ALIASES = {
    "red heart": ["heart", "love heart"],
    "red apple": ["apple"],
    "grinning face": ["smiley", "happy face", "smiley face"],
    "smiling face": ["smiley face"],
    "hamburger": ["burger", "cheeseburger"],
    "hot beverage": ["cup of coffee", "coffee"],
    "pile of poo": ["poo"],
    "doughnut": ["donut"],
    "face with tears of joy": ["laughing face"],
    "enraged face": ["angry red face"],
    "honeybee": ["bee"],
    "lady beetle": ["ladybug"],
    "pizza": ["slice of pizza"],
    "beer mug": ["beer"],
    "glass of milk": ["milk"],
    "deciduous tree": ["tree"],
    "evergreen tree": ["pine tree"],
    "baby chick": ["chick"],
    "cheese wedge": ["cheese"],
    "soft ice cream": ["ice cream cone"],
    "sauropod": ["dinosaur"],
    "sad but relieved face": ["sad face"],
    "crying face": ["sad crying face"],
    "smiling face with sunglasses": ["cool face", "face with sunglasses"],
    "smiling face with heart-eyes": ["face with heart eyes"],
}
MASS = frozenset(  # names that take no article
    [
        "bacon", "bread", "broccoli", "bubble tea", "butter", "canned food", "cooked rice", "cooking",
        "coral", "curry rice", "dango", "falafel", "french fries", "garlic", "ginger root", "ice",
        "leafy green", "mate", "oden", "popcorn", "pouring liquid", "sake", "salt", "shaved ice",
        "spaghetti", "star-struck", "sushi", "t-rex", "zzz",
    ]
)  # fmt: skip
SINGULAR_S = (
    "glass",
    "cactus",
    "octopus",
    "hibiscus",
    "lotus",
    "hippopotamus",
    "grass",
    "bus",
    "cross",
    "compass",
    "abacus",
    "walrus",
)

TEMPLATES = (  # weight, text; {thing} may carry an article, {name} never does
    (10, "{thing}, {style}"),
    (2, "{style} {name} emoji"),
    (2, "{style} {name}"),
    (2, "{thing}, {style} style"),
    (1, "{thing} in {style} style"),
    (1, "{thing}, {style} emoji"),
    (1, "{name} emoji, {style}"),
)
PLAIN = ("{thing}", "{thing}", "{name} emoji")
BACKDROPS = (
    (6, "{body}, on {a} {colour} background"),
    (2, "{body} on {a} {colour} background"),
    (2, "{body}, {colour} background"),
    (1, "{body} against {a} {colour} background"),
)


def with_article(name: str) -> str:
    """Prefix a or an where English wants one."""
    head = name.split(" with ")[0].split(" of ")[0]
    if head in MASS or name in MASS or (head.endswith("s") and not head.endswith(SINGULAR_S)):
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def faces(name: str) -> list[str]:
    """'tiger face' is also 'face of a tiger'; '... face' of a mood stays itself."""
    return [f"face of {with_article(name.removesuffix(' face'))}"]


class Captions:
    """Draws captions for rows; knows which keywords name one emoji only."""

    def __init__(self, rows: list[dict]) -> None:
        owners = Counter()
        for keywords in {row["name"]: row["keywords"] for row in rows}.values():
            owners.update({word.lower() for word in keywords})
        names = {row["name"].lower() for row in rows}
        self.unique = {w for w, n in owners.items() if n == 1 and w not in names and len(w) > 2}

    def title(self, row: dict, draw: random.Random) -> str:
        """The thing's name or a true paraphrase of it."""
        name = row["name"].lower()
        others = list(ALIASES.get(row["name"], ()))
        if name.endswith(" face") and row["group"] == "Animals & Nature":
            others += faces(name) * 2
        if others and draw.random() < 0.4:
            return draw.choice(others)
        own = [w.lower() for w in row["keywords"] if w.lower() in self.unique]
        if own and draw.random() < 0.06:
            return draw.choice(own)
        return name

    def draw(self, row: dict, colour: int, draw: random.Random) -> str:
        """One caption of `row` on COLOUR_NAMES[colour]; white is mostly left unsaid."""
        name = self.title(row, draw)
        thing = with_article(name) if draw.random() < 0.6 else name
        body = pick(TEMPLATES, draw) if draw.random() < 0.92 else draw.choice(PLAIN)
        style = draw.choice(SPOKEN[row["style"]])
        body = body.format(thing=thing, name=name, style=style)
        if row["keywords"] and draw.random() < 0.08:
            words = [w.lower() for w in row["keywords"] if w.lower() != name]
            body += "".join(f", {w}" for w in draw.sample(words, min(2, len(words))))
        if colour or draw.random() < 0.2:
            named = COLOUR_NAMES[colour]
            a = "an" if named[0] in "aeiou" else "a"
            body = pick(BACKDROPS, draw).format(body=body, a=a, colour=named)
        return body


def pick(weighted: tuple[tuple[int, str], ...], draw: random.Random) -> str:
    weights, texts = zip(*weighted, strict=True)
    return draw.choices(texts, weights)[0]
