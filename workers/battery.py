"""How surely a finished QR code is read: by several readers, and under what a camera does to it."""

from __future__ import annotations

import math
from io import BytesIO

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter

from app.jobs import QrReading
from guidance.qr import scanning, thresholds
from guidance.qr.request import Qr, picture_module_px
from guidance.qr.symbol import Symbol
from samplers.scan import Pixels, margin, scan
from workers.readers import verdicts

CAMERA = 2.2
"""Distance of the camera from the picture, in half widths."""
SURROUND = (216, 216, 216)


def score(pixels: Pixels, qr: Qr, symbol: Symbol) -> tuple[dict[str, float], QrReading]:
    """All scores of `app.scores.QR_SCORES` for a picture (H, W, 3), and what was read."""
    found, wrong, told = scan(pixels), wrong_modules(pixels, qr, symbol), verdicts(pixels, qr.data)
    at_hand = [verdict == "read" for verdict in told.values() if verdict != "unavailable"]
    mild, hard = battery(pixels)
    scores = {
        "ssr_any": float(any(at_hand)),
        "ssr_all": float(all(at_hand)),
        "margin": max(margin(pixels, qr.data), 0.0),
        "module_error": float(wrong.mean()),
        "battery_mild": _share(mild, qr.data),
        "battery_hard": _share(hard, qr.data),
    }
    reading = QrReading(
        text=None if found is None else found.text,
        version=symbol.version,
        mask=symbol.mask,
        module_px=picture_module_px(qr.module_px or 1),
        quiet_zone=qr.quiet_zone,
        wrong=[(int(row), int(column)) for row, column in np.argwhere(wrong)],
        readers=told,
    )
    return scores, reading


def wrong_modules(pixels: Pixels, qr: Qr, symbol: Symbol) -> np.ndarray:
    """(n, n): the modules whose centre reads as the other bit, with the thresholds that readers take."""
    module_px = picture_module_px(qr.module_px or 1)
    begin, side = qr.quiet_zone * module_px, symbol.modules * module_px
    inside = np.ascontiguousarray(pixels[begin : begin + side, begin : begin + side])
    image = torch.from_numpy(inside).permute(2, 0, 1)[None].float() / 255
    least, most = thresholds.local(image, scanning.Target(symbol, module_px))
    middle = (least + most) / 2
    light = scanning.light_modules(symbol, image)
    read = scanning.read(image, light, module_px, limits=(middle, middle))
    return read.misread[0].bool().numpy()


def battery(pixels: Pixels) -> tuple[list[Pixels], list[Pixels]]:
    """The picture as it may be met: mildly and strongly disturbed, seven of each."""
    halves: list[list[Pixels]] = []
    for blur, noise, size, quality, contrast, bright, tilt in (
        (1.5, 0.1, 0.67, 60, 0.6, 0.8, (15,)),
        (3.0, 0.25, 0.4, 20, 0.3, 0.5, (30, 45)),
    ):
        picture = Image.fromarray(pixels)
        smaller = (round(picture.width * size), round(picture.height * size))
        seen = [
            picture.filter(ImageFilter.GaussianBlur(blur)),
            _noisy(picture, noise),
            picture.resize(smaller, Image.Resampling.BICUBIC),
            _jpeg(picture, quality),
            ImageEnhance.Contrast(picture).enhance(contrast),
            ImageEnhance.Brightness(picture).enhance(bright),
            *(tilted(picture, degrees) for degrees in tilt),
        ]
        halves.append([np.asarray(one) for one in seen])
    return halves[0], halves[1]


def tilted(picture: Image.Image, degrees: float) -> Image.Image:
    """The picture turned about its vertical axis, on a light grey ground, as a camera sees it."""
    turn, (width, height) = math.radians(degrees), picture.size
    corners = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    rows: list[list[float]] = []
    values: list[float] = []
    for x, y in corners:
        depth = CAMERA / (CAMERA + x * math.sin(turn))
        seen = (x * math.cos(turn) * depth * 0.7 + 1) * width / 2, (y * depth * 0.7 + 1) * height / 2
        at = (x + 1) * width / 2, (y + 1) * height / 2
        for place, value in enumerate(at):
            own = [*seen, 1.0] if place == 0 else [0.0] * 3
            other = [0.0] * 3 if place == 0 else [*seen, 1.0]
            rows.append([*own, *other, -value * seen[0], -value * seen[1]])
            values.append(value)
    solved = np.linalg.solve(np.array(rows), np.array(values)).tolist()
    return picture.transform(
        picture.size, Image.Transform.PERSPECTIVE, solved, Image.Resampling.BICUBIC, fillcolor=SURROUND
    )


def _noisy(picture: Image.Image, deviation: float) -> Image.Image:
    values = np.asarray(picture).astype(float)
    values += np.random.default_rng(0).normal(0, 255 * deviation, values.shape)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def _jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def _share(pictures: list[Pixels], data: str) -> float:
    return sum(margin(one, data) >= 0 for one in pictures) / len(pictures)
