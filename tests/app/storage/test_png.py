import json
import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from app.storage.png import CHUNK, SIGNATURE, convert, encode_png, read_png
from tests.queued import new_job

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
REQUEST = {"resolved": {"prompt": 'ein Äffchen 🐒\n"zitiert"'}, "seed": 2**63 - 1, "index": 0}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(text: str, compressed: bool = False) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_itxt(CHUNK, text, zip=compressed)
    out = BytesIO()
    Image.fromarray(PIXELS).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def test_a_png_carries_pixels_and_request() -> None:
    data = encode_png(PIXELS, REQUEST)
    assert read_png(data) == REQUEST
    assert np.array_equal(np.asarray(Image.open(BytesIO(data))), PIXELS)
    assert encode_png(PIXELS, REQUEST) == data


def test_a_request_may_be_a_model() -> None:
    resolved = new_job("a").resolved
    assert read_png(encode_png(PIXELS, resolved)) == resolved.model_dump(mode="json")


def test_a_png_without_a_request_says_so() -> None:
    with pytest.raises(ValueError, match="carries no request"):
        read_png(encode_png(PIXELS))


@pytest.mark.parametrize(
    "pixels",
    [PIXELS[..., 0], PIXELS[..., :2], PIXELS.astype(np.float32), np.zeros((4, 4, 4), np.uint8)],
    ids=["grey", "two channels", "float", "alpha"],
)
def test_other_arrays_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        encode_png(pixels)


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_a_png_becomes_another_format(format: str) -> None:
    smooth = np.tile(np.arange(0, 240, 8, dtype=np.uint8)[:, None, None], (1, 30, 3))
    image = Image.open(BytesIO(convert(encode_png(smooth, REQUEST), format)))  # type: ignore[arg-type]
    assert image.format == format.upper()
    assert np.abs(np.asarray(image, dtype=int) - smooth).mean() < 3
    assert b"zitiert" not in convert(encode_png(smooth, REQUEST), format)  # type: ignore[arg-type]


def test_png_to_png_is_the_same_bytes() -> None:
    data = encode_png(PIXELS, REQUEST)
    assert convert(data, "png") is data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a PNG"),
        (b"GIF89a" + bytes(40), "not a PNG"),
        (convert(encode_png(PIXELS), "jpeg"), "not a PNG"),
        (SIGNATURE, "not a PNG"),
        (encode_png(PIXELS, REQUEST)[:60], "damaged|no request"),
        (SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)), "pixels"),
        (png_with("{"), "not JSON"),
        (png_with("[1]"), "not an object"),
        (png_with(json.dumps({"a": "0" * 50_000_000}), compressed=True), "damaged"),
    ],
    ids=["empty", "gif", "jpeg", "signature", "cut", "bomb", "json", "list", "text bomb"],
)
def test_bad_bytes_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_png(data)
