"""Statistics of the picture itself: no network, no reference, well under a millisecond at 64 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workers.metrics import Pixels

LUMA = (0.299, 0.587, 0.114)
"""Rec. 601 weights."""


def score(pixels: Pixels, prompt: str = "", scorer: Path | None = None) -> dict[str, float]:
    """All scores of this module for one picture, (H, W, 3) in sRGB, at least 3 x 3 pixels."""
    rgb = pixels.astype(np.float64)
    luma = rgb @ np.array(LUMA)
    return {
        "saturation": saturation(rgb),
        "contrast": contrast(luma),
        "colourfulness": colourfulness(rgb),
        "sharpness": sharpness(luma),
        "clipped": clipped(pixels),
    }


def saturation(rgb: NDArray[np.float64]) -> float:
    """Mean HSV saturation, `(max - min) / max` over the channels, 0 for black; in [0, 1].

    Source: A. R. Smith, "Color gamut transform pairs", SIGGRAPH 1978.
    """
    high, low = rgb.max(axis=-1), rgb.min(axis=-1)
    return float(np.mean((high - low) / np.where(high > 0, high, 1)))


def contrast(luma: NDArray[np.float64]) -> float:
    """RMS contrast: the standard deviation of luma scaled to [0, 1]; in [0, 0.5].

    Source: E. Peli, "Contrast in complex images", JOSA A 7(10), 1990, eq. 3.
    """
    return float(luma.std() / 255)


def colourfulness(rgb: NDArray[np.float64]) -> float:
    """`M3 = sigma_rgyb + 0.3 mu_rgyb` over `rg = R - G` and `yb = (R + G) / 2 - B`.

    Source: D. Hasler and S. Süsstrunk, "Measuring colourfulness in natural images", SPIE 5007, 2003, sec. 6.
    """
    red, green, blue = np.moveaxis(rgb, -1, 0)
    rg, yb = red - green, (red + green) / 2 - blue
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


def sharpness(luma: NDArray[np.float64]) -> float:
    """Variance of the 4-neighbour Laplacian of luma (0 to 255), without the border.

    Source: J. L. Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000.
    """
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return float((around - 4 * luma[1:-1, 1:-1]).var())


def clipped(pixels: Pixels) -> float:
    """Share of pixels with a channel at 0 or 255: detail that is lost; in [0, 1]."""
    return float(np.mean(((pixels == 0) | (pixels == 255)).any(axis=-1)))
