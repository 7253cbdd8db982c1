"""What is measured on a finished QR code, and a job that makes one."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from app.jobs import JobStatus
from app.queue.base import JobQueue
from app.scores import QR_SCORES
from app.settings import Settings
from app.storage.local import LocalStorage
from guidance.cfg import CFG
from guidance.qr.request import Qr
from guidance.srpg import SRPG, Refinement
from tests.workers.serving import ended, new_job, working
from workers.battery import battery, score, tilted
from workers.readers import READERS, verdicts

QR = Qr(data="https://lodestar.dev", control_scale=0, module_px=8).resolved(8, ())
SYMBOL = QR.symbol()


def drawn() -> np.ndarray:
    modules = np.pad(~SYMBOL.dark, QR.quiet_zone, constant_values=True)
    return np.kron(modules, np.ones((14, 14)))[..., None].repeat(3, 2).astype(np.uint8) * 255


def test_a_plain_symbol_passes_everything() -> None:
    scores, reading = score(drawn(), QR, SYMBOL)
    assert set(scores) == {one.name for one in QR_SCORES}
    assert (scores["ssr_any"], scores["ssr_all"], scores["margin"], scores["module_error"]) == (1, 1, 1, 0)
    assert scores["battery_mild"] == 1
    assert (reading.text, reading.wrong, reading.version) == (QR.data, [], 5)


def test_wrong_modules_are_found_where_they_are() -> None:
    pixels = drawn()
    for row, column in ((12, 10), (20, 21)):
        begin = [14 * (place + QR.quiet_zone) for place in (row, column)]
        cut = pixels[begin[0] : begin[0] + 14, begin[1] : begin[1] + 14]
        cut[:] = 255 - cut
    scores, reading = score(pixels, QR, SYMBOL)
    assert reading.wrong == [(12, 10), (20, 21)]
    assert 0 < scores["margin"] < 1
    assert scores["module_error"] == pytest.approx(2 / 37**2)


def test_another_text_does_not_count() -> None:
    scores, reading = score(drawn(), QR.model_copy(update={"data": "https://evil.dev"}), SYMBOL)
    assert (scores["ssr_any"], scores["margin"], scores["battery_mild"]) == (0, 0, 0)
    assert reading.text == "https://lodestar.dev"
    assert "read" not in reading.readers.values()


def test_every_reader_gives_its_verdict_and_one_that_is_missing_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("cv2")
    assert verdicts(drawn(), QR.data) == dict.fromkeys(READERS, "read")
    assert verdicts(np.full_like(drawn(), 255), QR.data) == dict.fromkeys(READERS, "unread")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert verdicts(drawn(), QR.data)["OpenCV WeChat"] == "unavailable"
    scores, reading = score(drawn(), QR, SYMBOL)
    assert (scores["ssr_all"], reading.readers["OpenCV WeChat"]) == (1, "unavailable")


def test_the_battery_disturbs_more_in_its_hard_half() -> None:
    mild, hard = battery(drawn())
    assert (len(mild), len(hard)) == (7, 8)
    for one, other in zip(mild[:-1], hard, strict=False):  # a tilt has a test of its own
        if one.shape == other.shape == drawn().shape:
            assert np.abs(other - drawn().astype(int)).mean() > np.abs(one - drawn().astype(int)).mean()


def test_a_tilted_picture_is_narrower_and_keeps_its_middle() -> None:
    white = Image.new("RGB", (200, 200), "white")
    row = np.asarray(tilted(white, 45))[100, :, 0] == 255
    straight = np.asarray(tilted(white, 0))[100, :, 0] == 255
    assert straight.sum() == pytest.approx(140, abs=2)
    assert 0.6 < row.sum() / straight.sum() < 0.85
    assert row[100]


async def test_a_job_makes_a_code_that_is_read(
    settings: Settings, queue: JobQueue, storage: LocalStorage
) -> None:
    guidance = SRPG(base=CFG(scale=2), scanning_scale=50, refine=Refinement(iterations=30, lr=300))
    await queue.enqueue(
        new_job("code", seeds=[1], qr=QR, guidance=guidance, width=QR.side_px, height=QR.side_px)
    )
    async with working(settings, queue, storage):
        record = await ended(queue, "code")
    assert record.status == JobStatus.SUCCEEDED, record.error
    assert record.result is not None
    (image,) = record.result.images
    assert (image.width, image.height) == (630, 630)
    assert image.metrics["ssr_any"] == 1
    assert image.qr is not None
    assert image.qr.text == QR.data
    assert record.result.warnings == []
    assert record.result.nfe.decode > 0
