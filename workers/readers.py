"""The readers that a finished QR code is shown to."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable

from app.jobs import ReaderVerdict
from samplers.scan import Pixels, scan


def _zxing(pixels: Pixels) -> str | None:
    found = scan(pixels)
    return None if found is None else found.text


def _zxing_plain(pixels: Pixels) -> str | None:
    found = scan(pixels, strict=True)
    return None if found is None else found.text


def _wechat(pixels: Pixels) -> str | None:
    detector = importlib.import_module("cv2").wechat_qrcode.WeChatQRCode()
    texts = detector.detectAndDecode(pixels[..., ::-1].copy())[0]
    return texts[0] if texts else None


def _has_wechat() -> bool:
    if importlib.util.find_spec("cv2") is None:
        return False
    return hasattr(importlib.import_module("cv2"), "wechat_qrcode")


READERS: dict[str, Callable[[Pixels], str | None]] = {
    "zxing-cpp": _zxing,
    "zxing-cpp at its own size only": _zxing_plain,
    "OpenCV WeChat": _wechat,
}
"""Name -> what it reads in a picture (H, W, 3), None where nothing. The first is the one that guides."""


def verdicts(pixels: Pixels, data: str) -> dict[str, ReaderVerdict]:
    """Which readers read exactly `data`; WeChat's needs the package `opencv-contrib-python-headless`."""
    told: dict[str, ReaderVerdict] = {}
    for name, read in READERS.items():
        if read is _wechat and not _has_wechat():
            told[name] = "unavailable"
        else:
            told[name] = "read" if read(pixels) == data else "unread"
    return told
