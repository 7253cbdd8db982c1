"""The finished picture of a QR code, and what a reader makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import zxingcpp as _zxingcpp
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional

from guidance.qr.request import picture_module_px
from guidance.qr.scanning import Target, protect

zxingcpp: Any = _zxingcpp
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Scan:
    """What was read, and which share of the error correction that left unused."""

    text: str
    margin: float


def scan(pixels: Pixels, strict: bool = False) -> Scan | None:
    """Read the QR code in a picture (H, W, 3) with zxing-cpp; None where there is none to be read.

    `strict`: at its own size and polarity only, as a plainer reader would.
    """
    found = zxingcpp.read_barcodes(
        np.ascontiguousarray(pixels),
        formats=zxingcpp.BarcodeFormat.QRCode,
        try_downscale=not strict,
        try_invert=not strict,
    )
    return Scan(found[0].text, float(found[0].extra.get("UEC", 0.0))) if found else None


def margin(pixels: Pixels, data: str, strict: bool = False) -> float:
    """The share of unused error correction where exactly `data` is read, else -1."""
    found = scan(pixels, strict)
    return found.margin if found is not None and found.text == data else -1.0


def sure_margin(pixels: Pixels, data: str) -> float:
    """The least margin of the picture as a camera may see it; -1 where it is not read in one of the ways."""
    least = 1.0
    for view in views(pixels):
        least = min(least, margin(view, data))
        if least < 0:
            break
    return least


def views(pixels: Pixels) -> Iterator[Pixels]:
    """The picture as it is, blurred, pale, smaller, larger."""
    picture = Image.fromarray(pixels)
    width, height = picture.size
    yield pixels
    yield np.asarray(picture.filter(ImageFilter.GaussianBlur(1.5)))
    yield (0.6 * pixels + 0.4 * 128).astype(np.uint8)
    yield np.asarray(picture.resize((width * 2 // 3, height * 2 // 3)))
    yield np.asarray(picture.resize((width * 2, height * 2)))


def finish(image: Tensor, target: Target, quiet_zone: int) -> Pixels:
    """The picture (H, W, 3) of a symbol (3, h, w), 0 to 1: its patterns protected, white around it."""
    module_px = picture_module_px(target.module_px)
    target = replace(target, module_px=module_px)
    with torch.no_grad():
        image = enlarged(image[None].float(), target.canvas_px)
        pixels = protect(image, target)[0].clamp(0, 1).mul(255).round().to(torch.uint8)
    border = quiet_zone * module_px
    sides = ((border, border), (border, border), (0, 0))
    return np.pad(pixels.permute(1, 2, 0).cpu().numpy(), sides, constant_values=255)


def enlarged(images: Tensor, side_px: int) -> Tensor:
    """Square pictures (B, 3, h, w), 0 to 1, in another size."""
    if images.shape[-1] == side_px:
        return images
    return functional.interpolate(images, (side_px, side_px), mode="bicubic", antialias=True).clamp(0, 1)
