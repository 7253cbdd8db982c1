"""What can be measured on a picture, without what measures it: the catalogue and the units of the plots.

A job asks for metrics by name (`"metrics": ["basic"]`); each gives one or more scores per picture.
The code is in `workers/metrics/`, one module per metric, and a test keeps the two in step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Score:
    """One number per picture. `better` is None where neither direction is."""

    name: str
    title: str
    unit: str = ""
    better: Better | None = None


@dataclass(frozen=True, slots=True)
class MetricCard:
    """One metric that a job can ask for."""

    name: str
    title: str
    summary: str
    scores: tuple[Score, ...]


METRIC_CARDS: dict[str, MetricCard] = {
    card.name: card
    for card in (
        MetricCard(
            "basic",
            "Basic statistics",
            "Colour, contrast and sharpness of the picture itself; strong guidance drives most of them up.",
            (
                Score("saturation", "Saturation", "mean HSV saturation, 0 to 1"),
                Score("contrast", "RMS contrast", "standard deviation of luma, 0 to 0.5"),
                Score("colourfulness", "Colourfulness", "Hasler-Süsstrunk M3, 0 to about 110 in photographs"),
                Score("sharpness", "Sharpness", "variance of the Laplacian of luma (0 to 255)"),
                Score("clipped", "Clipped pixels", "share of pixels with a channel at 0 or 255"),
            ),
        ),
        MetricCard(
            "clip",
            "Fit to the prompt",
            "How well picture and prompt fit, by the CLIP model in the model's scorer/; `ran` names it.",
            (Score("clip", "CLIP similarity", "cosine, -1 to 1", "higher"),),
        ),
        MetricCard(
            "aesthetic",
            "Aesthetic rating",
            "How much people would like the picture, by the CLIP and its head in scorers/aesthetic.",
            (Score("aesthetic", "Aesthetic rating", "predicted rating, 1 to 10", "higher"),),
        ),
        MetricCard(
            "imagereward",
            "ImageReward",
            "How people would judge picture and prompt, by the package image-reward and scorers/imagereward.",
            (Score("imagereward", "ImageReward", "about standard normal", "higher"),),
        ),
        MetricCard(
            "hps",
            "Human Preference Score v2",
            "How people would judge picture and prompt, by the CLIP in scorers/hps that was fitted to them.",
            (Score("hps", "HPS v2", "cosine, -1 to 1", "higher"),),
        ),
        MetricCard(
            "lpips",
            "LPIPS features",
            "How different pictures look, for a comparison's distribution; by the network in scorers/lpips.",
            (),
        ),
    )
}
"""Metric name -> card."""

QR_SCORES = (
    Score("ssr_any", "Scans", "1 where any reader reads exactly the payload", "higher"),
    Score("ssr_all", "Scans for all readers", "1 where every reader at hand reads it exactly", "higher"),
    Score("margin", "Margin", "share of the error correction left unused, 0 where unread", "higher"),
    Score("module_error", "Module errors", "share of the modules that read wrong", "lower"),
    Score("battery_mild", "Mild battery", "share read when slightly blurred, noisy, small, tilted", "higher"),
    Score("battery_hard", "Hard battery", "share read when strongly disturbed, tilted up to 45°", "higher"),
)
"""Scores that every QR code has, whatever metrics are asked for."""

SCORES: dict[str, Score] = {score.name: score for card in METRIC_CARDS.values() for score in card.scores} | {
    score.name: score for score in QR_SCORES
}
"""Score name, as in an image's `metrics`, -> what it is."""
