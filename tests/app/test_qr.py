"""Requests for QR codes: what is filled in, and what is refused with what would fit."""

from __future__ import annotations

from typing import Any

import pytest

from app.admission import Refused, resolve
from app.catalogue import Catalogue, ModelCard
from app.jobs import JobSpec, Resolved
from app.settings import Settings
from guidance.cfg import CFG
from guidance.srpg import SRPG

PLAIN = ModelCard(id="plain", source="toy", guidance=CFG(scale=3))
LED = ModelCard(id="led", source="toy", extras=frozenset({"grad", "controlnet"}))
CATALOGUE = Catalogue(models={"plain": PLAIN, "led": LED})
LINK = "https://lodestar.dev"


def asked(qr: dict[str, Any], model: str = "plain", **fields: Any) -> Resolved:
    spec = JobSpec.model_validate({"model": model, "prompt": "a fox", "qr": qr, **fields})
    return resolve(spec, CATALOGUE, Settings())


def test_open_values_are_filled_in() -> None:
    resolved = asked({"data": LINK})
    assert resolved.qr is not None
    assert (resolved.qr.version, resolved.qr.module_px, resolved.qr.control_scale) == (5, 8, 0)
    assert resolved.qr.mask == "auto"  # the picture chooses
    unfollowed = asked({"data": LINK, "follow": False}).qr
    assert unfollowed is not None
    assert isinstance(unfollowed.mask, int)
    assert resolved.width == resolved.height == (37 + 8) * 14
    assert isinstance(resolved.guidance, SRPG)
    assert resolved.guidance.base == CFG(scale=3)
    assert Resolved.model_validate_json(resolved.model_dump_json()) == resolved
    led = asked({"data": LINK, "module_px": 16}, model="led")
    assert led.qr is not None
    assert (led.qr.control_scale, led.width) == (1.35, 45 * 16)


@pytest.mark.parametrize(
    ("qr", "fields", "pointer", "said"),
    [
        ({"data": "x" * 100, "version": 3}, {}, "/qr", "it fits version 6"),
        ({"data": LINK, "module_px": 12}, {}, "/qr", "multiple of 8, say 16"),
        ({"data": LINK, "control_scale": 1}, {}, "/qr", "no QR ControlNet; set control_scale to 0"),
        ({"data": LINK}, {"width": 296}, "/width", "37 modules and the quiet zone take 630"),
        ({"data": LINK, "module_px": 64}, {}, "/qr", "takes at most"),
        ({"data": LINK}, {"strength": 0.5}, "/strength", "leave strength out"),
        ({"data": LINK}, {"guidance": {"method": "cfg"}}, "/qr", "use srpg, or leave qr out"),
        (None, {"guidance": {"method": "srpg"}}, "/qr", "say in qr what it holds"),
    ],
)
def test_the_impossible_is_refused(qr: Any, fields: dict[str, Any], pointer: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        asked(qr, **fields)
    assert any(one.pointer == pointer and said in one.detail for one in refused.value.refusals), refused.value


def test_an_unknown_ecc_is_told_which_there_are() -> None:
    with pytest.raises(ValueError, match="'L', 'M', 'Q' or 'H'"):
        asked({"data": LINK, "ecc": "X"})
