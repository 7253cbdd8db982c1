"""What separates dark from light, as readers take it: the middle between the extremes around a module.

Readers binarise block by block. A block with contrast has a threshold in the middle of its extremes, which is
averaged with those of its surroundings; a flat block takes that of the nearest ones that have contrast. So a
module needs to differ from its neighbours only, and a picture keeps far more of its light and shade than
where each module shall pass a half.

Source: zxing-cpp's `HybridBinarizer` (blocks of 8 px, windows of 5 blocks, a range of 24 of 255 is flat).
Deviates: blocks are halves and wholes of modules, whatever their pixels, and see half a block beyond their
edges, as a reader may lay them anywhere; flat blocks look around in growing windows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from guidance.qr.scanning import Target, luminance, protect

FLAT = 24 / 255
"""Range of luminance in a block up to which it has no contrast."""
WINDOWS = (17, 9, 5)
"""Blocks per side that a threshold is averaged over: the least of these with contrast, else the picture."""
QUIET_ZONE = 4
"""White modules around the symbol."""


def local(images: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """The least and the largest threshold around each module, both (B, n, n), for pictures (B, 3, H, W).

    Without gradient. Function patterns count as `protect` tints them.
    """
    grey = luminance(protect(images.detach(), target))
    around = functional.pad(grey, (QUIET_ZONE * target.module_px,) * 4, value=1.0)
    halves = 2 if target.module_px % 2 == 0 else 1
    found = [
        functional.avg_pool2d(_middles(around, target.module_px // parts), parts)[:, 0]
        for parts in {1, halves}
    ]
    both = torch.stack(found)[..., QUIET_ZONE:-QUIET_ZONE, QUIET_ZONE:-QUIET_ZONE]
    return both.amin(0), both.amax(0)


def _middles(grey: Tensor, block_px: int) -> Tensor:
    """(B, 1, h, w): the threshold of each block; a half where there is no contrast anywhere."""
    margin = block_px // 2
    view = block_px + 2 * margin, block_px, margin
    lightest, darkest = functional.max_pool2d(grey, *view), -functional.max_pool2d(-grey, *view)
    sharp = (lightest - darkest > FLAT).to(grey)
    middle = (lightest + darkest) / 2 * sharp
    everywhere = (middle.sum((2, 3), True) / sharp.sum((2, 3), True).clamp(min=1)).expand_as(middle)
    anywhere = sharp.amax((2, 3), True) > 0
    threshold = torch.where(anywhere, everywhere, 0.5)
    for window in WINDOWS:
        share = _mean(sharp, window)
        threshold = torch.where(share > 1e-6, _mean(middle, window) / share.clamp(min=1e-6), threshold)
    return threshold


def _mean(blocks: Tensor, window: int) -> Tensor:
    return functional.avg_pool2d(blocks, window, 1, window // 2, count_include_pad=False)
