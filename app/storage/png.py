"""Pictures as bytes: PNG with the whole request inside, and other formats made from it."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image, PngImagePlugin
from pydantic import BaseModel

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

CHUNK = "lodestar"
"""Keyword of the iTXt chunk that holds the request, as JSON."""
MAX_PIXELS = 64_000_000
SIGNATURE = b"\x89PNG\r\n\x1a\n"

Format = Literal["png", "jpeg", "webp"]


def encode_png(pixels: NDArray[uint8], metadata: BaseModel | Mapping[str, Any] | None = None) -> bytes:
    """(H, W, 3) bytes as a PNG that carries `metadata`. The same input gives the same bytes."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != "uint8":
        raise ValueError(f"pixels must be (height, width, 3) uint8, not {pixels.shape} {pixels.dtype}")
    info = PngImagePlugin.PngInfo()
    if metadata is not None:
        text = metadata.model_dump_json() if isinstance(metadata, BaseModel) else json.dumps(dict(metadata))
        info.add_itxt(CHUNK, text)
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG", pnginfo=info, compress_level=4)
    return out.getvalue()


def read_png(data: bytes) -> dict[str, Any]:
    """What `encode_png` put into it. The pixels are not decoded.

    Raises ValueError for what is not a PNG, is too large to be one of ours, or carries no request.
    """
    with _open(data) as image:
        text = image.info.get(CHUNK)
    if text is None:
        raise ValueError("the PNG carries no request of this service")
    try:
        found = json.loads(text)
    except ValueError:
        raise ValueError("the request in the PNG is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("the request in the PNG is not an object")
    return found


def convert(png: bytes, format: Format, quality: int = 92) -> bytes:
    """A PNG of ours in another format, without the request."""
    if format == "png":
        return png
    out = BytesIO()
    with _open(png) as image:
        image.convert("RGB").save(out, format.upper(), quality=quality)
    return out.getvalue()


def bare_png(png: bytes) -> bytes:
    """The same pixels as a PNG that says nothing else: no request, no text."""
    out = BytesIO()
    with _open(png) as image:
        pixels = image.convert("RGB")
        pixels.info.clear()
        pixels.save(out, "PNG")
    return out.getvalue()


def _open(data: bytes) -> Image.Image:
    """Open without decoding; the size is looked at before Pillow takes memory for anything."""
    if data[:8] != SIGNATURE or data[12:16] != b"IHDR" or len(data) < 24:
        raise ValueError("not a PNG")
    width, height = struct.unpack(">II", data[16:24])
    if width * height > MAX_PIXELS:
        raise ValueError(f"the picture has more than {MAX_PIXELS} pixels")
    try:
        return Image.open(BytesIO(data), formats=("PNG",))
    except Exception as error:  # Pillow raises many kinds; a text chunk that unpacks to too much is one
        raise ValueError("not a PNG, or a damaged one") from error
