"""What tells a model's pictures apart: an image classifier in `classifier/`, a CLIP in `scorer/`.

The classifier knows the classes it was trained for, by name, and by what they contain where
`classifier/things.json` says it (`{"food-fruit": ["red apple", "lemon"]}`). CLIP takes any text for a class.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from samplers.models.parts import load_clip, load_network, transformers

PARTS = ("classifier", "scorer")
THINGS = "things.json"


def load_judge(source: str, device: str) -> Judge | None:
    """The judge of a model folder, in float32; None where it has neither part."""
    classifier, scorer = (Path(source) / name for name in PARTS)
    has_classifier, has_scorer = ((folder / "config.json").is_file() for folder in (classifier, scorer))
    if not (has_classifier or has_scorer):
        return None
    return Judge(
        Classifier(classifier, device) if has_classifier else None,
        Scorer(scorer, device) if has_scorer else None,
    )


class Judge:
    """The classifier where it tells the labels apart, else CLIP."""

    def __init__(self, classifier: Classifier | None, scorer: Scorer | None) -> None:
        self._classifier = classifier
        self._scorer = scorer

    def logits(
        self, images: Tensor, labels: Sequence[str], grad: bool = False, softplus: float | None = None
    ) -> Tensor:
        """Pictures (N, 3, H, W) in [-1, 1] -> (N, len(labels)), float32; over all classes without labels.

        `softplus` is for the classifier's ReLUs; a CLIP has none. ValueError where neither part can
        tell these labels apart.
        """
        with torch.set_grad_enabled(grad):
            if self._classifier is not None:
                columns = self._classifier.columns(labels) if labels else slice(None)
                if columns is not None:
                    return self._classifier.logits(images, softplus)[:, columns]
            if self._scorer is not None and labels:
                return self._scorer.logits(images, labels)
        known = ", ".join(self._classifier.names) if self._classifier is not None else "any, by their texts"
        raise ValueError(
            f"this model's classifier cannot tell these classes apart: {', '.join(labels) or 'none given'}; "
            f"name a different one of its classes in each. It knows: {known}"
        )


class Classifier:
    """An image classifier of transformers."""

    def __init__(self, folder: Path, device: str) -> None:
        kind = transformers.AutoModelForImageClassification
        self._network = load_network(str(folder), None, kind, "float32", device)
        self._sight = Sight(folder)
        labels = self._network.config.id2label
        self.names = [str(labels[i]) for i in range(len(labels))]
        things: dict[str, list[str]] = {}
        if (folder / THINGS).is_file():
            things = json.loads((folder / THINGS).read_text())
        self._terms = [
            {_plain(term) for term in (*name.split(","), *things.get(name, ()))} for name in self.names
        ]

    def columns(self, labels: Sequence[str]) -> list[int] | None:
        """The class that each label names; None where one names none, or two the same."""
        found = [self.column(label) for label in labels]
        known = [column for column in found if column is not None]
        return known if len(set(known)) == len(labels) else None

    def column(self, label: str) -> int | None:
        """The class with the longest of its terms in this text; None where there is none, or several."""
        text = f" {_plain(label)} "
        lengths = [
            max((len(term) for term in terms if f" {term} " in text), default=0) for terms in self._terms
        ]
        best = max(lengths)
        return lengths.index(best) if best and lengths.count(best) == 1 else None

    def logits(self, images: Tensor, softplus: float | None = None) -> Tensor:
        """Over all classes; `softplus`: with Softplus of this beta for each ReLU."""
        with softened(self._network, softplus):
            return self._network(pixel_values=self._sight(images)).logits.float()


class Scorer:
    """A CLIP: the logits are its scaled cosines between picture and text."""

    def __init__(self, folder: Path, device: str) -> None:
        self._network = load_clip(folder, device)
        self._tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
        self._sight = Sight(folder)
        self._texts: dict[tuple[str, ...], Tensor] = {}

    def logits(self, images: Tensor, labels: Sequence[str]) -> Tensor:
        """One column per text."""
        scale = self._network.logit_scale.exp()
        return scale * self.see(images) @ self.read(tuple(labels)).T

    def see(self, images: Tensor) -> Tensor:
        """Unit features (N, D) of pictures in [-1, 1]."""
        seen = self._network.vision_model(pixel_values=self._sight(images)).pooler_output
        return functional.normalize(self._network.visual_projection(seen), dim=-1)

    @torch.no_grad()
    def read(self, texts: tuple[str, ...]) -> Tensor:
        """Unit features (N, D) of texts."""
        if texts not in self._texts:
            longest = self._network.config.text_config.max_position_embeddings
            tokens = self._tokenizer(
                list(texts), padding="max_length", max_length=longest, truncation=True, return_tensors="pt"
            ).to(self._network.device)
            words = self._network.text_model(**tokens).pooler_output
            if len(self._texts) >= 64:
                self._texts.clear()
            self._texts[texts] = functional.normalize(self._network.text_projection(words), dim=-1)
        return self._texts[texts]


class Sight:
    """What an image processor of transformers does, differentiably: scale, crop, normalise."""

    def __init__(self, folder: Path) -> None:
        found = [folder / name for name in ("preprocessor_config.json", "processor_config.json")]
        config: dict[str, Any] = json.loads(next(path for path in found if path.is_file()).read_text())
        config = config.get("image_processor", config)
        size: dict[str, int] = config["size"]
        short = size.get("shortest_edge")
        self._exact = None if short else (size["height"], size["width"])
        self._short = round(short / config.get("crop_pct", 1)) if short else 0
        crop: dict[str, int] = config["crop_size"] if config.get("do_center_crop") else {}
        self._crop = (crop["height"], crop["width"]) if crop else self._exact or (short or 0, short or 0)
        self._mean = torch.tensor(config["image_mean"]).view(1, 3, 1, 1)
        self._std = torch.tensor(config["image_std"]).view(1, 3, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) in [-1, 1] as the network wants them."""
        height, width = images.shape[2:]
        short = min(height, width)
        target = self._exact or (int(height * self._short / short), int(width * self._short / short))
        if target != (height, width):
            images = functional.interpolate(images, target, mode="bicubic", antialias=True)
        rows, columns = self._crop
        top, left = (target[0] - rows) // 2, (target[1] - columns) // 2
        cropped = images[:, :, top : top + rows, left : left + columns]
        return (cropped / 2 + 0.5 - self._mean.to(images)) / self._std.to(images)


@contextmanager
def softened(network: nn.Module, beta: float | None) -> Generator[None]:
    """With Softplus(beta) in the place of the network's ReLUs: its gradients become smooth (EluCD)."""
    places = [
        (parent, name, child)
        for parent in (() if beta is None else network.modules())
        for name, child in parent.named_children()
        if isinstance(child, nn.ReLU)
    ]
    for parent, name, _ in places:
        setattr(parent, name, nn.Softplus(beta or 1.0))
    try:
        yield
    finally:
        for parent, name, child in places:
            setattr(parent, name, child)


def _plain(text: str) -> str:
    """Lower case, words only."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))
