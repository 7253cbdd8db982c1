"""The run that makes a QR code, on a tiny pipeline with random weights and on the toy."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from guidance.asks import Conditions, Control, Denoise, Level
from guidance.cfg import CFG
from guidance.qr import qart
from guidance.qr.request import Qr
from guidance.qr.symbol import encode
from guidance.srpg import SRPG, Refinement
from samplers import sample
from samplers.answer import answer_one, batches
from samplers.models.control import residuals
from samplers.models.toy import Toy
from samplers.qr import CodeCourse, code_course
from samplers.scan import finish, margin, scan, sure_margin

QR = Qr(data="PARITY", version=1, quiet_zone=4)
GUIDANCE = SRPG(base=CFG(scale=2), scanning_scale=50, refine=Refinement(iterations=12, lr=1000))
TOY = Toy(size_px=64)
LEVEL = Level(0.8, 0.6, 300.0)
torch.set_num_threads(1)  # tensors here are tiny: threads would only wait for each other


def test_the_finished_picture_is_read_and_its_cost_is_told() -> None:
    done = sample(TOY, "high", guidance=GUIDANCE, qr=QR, steps=6, seeds=[3], sampler="ddim")
    pixels = np.asarray(done.images[0])
    assert pixels.shape == (14 * 29, 14 * 29, 3)
    assert (pixels[:56] == 255).all()
    found = scan(pixels)
    assert found is not None
    assert found.text == "PARITY"
    assert set(done.trace[0]) == set(SRPG.traces)
    assert done.nfe[0].model == 12 + 2
    assert done.nfe[0].grad == 2
    errors = done.trace[0]["module_error"]
    assert all(error is not None for error in errors)
    again = sample(TOY, "high", guidance=GUIDANCE, qr=QR, steps=6, seeds=[3], sampler="ddim")
    assert torch.equal(done.latents, again.latents)


def course(model: Any = TOY, **changes: Any) -> CodeCourse:
    qr = QR.model_copy(update=changes)
    return code_course(model, "high", "", sampler="ddim", steps=4, guidance=GUIDANCE, qr=qr)


def ran(course: CodeCourse) -> tuple[Any, list[Any]]:
    asks, reply, steps = [], None, course.run(0)
    while True:
        try:
            asks.append(steps.send(reply))
        except StopIteration as end:
            return end.value, asks
        reply = answer_one(TOY, asks[-1])


def test_a_guaranteed_code_is_tried_again_and_harder_until_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for reads, tries in ((0.5, 1), (-1.0, 3)):
        monkeypatch.setattr("samplers.qr.margin", lambda pixels, data, reads=reads: reads)
        monkeypatch.setattr("samplers.qr.sure_margin", lambda pixels, data, reads=reads: reads)
        _, asks = ran(course(guarantee="scannable"))
        graded = [ask for ask in asks if isinstance(ask, Denoise) and ask.grad]
        assert len(graded) == tries * 1  # the second stage has one step of the four
        assert course(guarantee="scannable").steps >= 4 + tries


def test_the_symbol_controls_what_is_painted_in_its_own_size() -> None:
    for size_px, sides in ((64, [None] * 4 + [168]), (128, [168] * 5)):
        with_control = Toy(size_px=size_px)
        with_control.extras = with_control.extras | {"controlnet"}  # type: ignore[misc]
        final, asks = ran(course(with_control))
        controls = [ask.conds[0].control for ask in asks if isinstance(ask, Denoise)]
        assert [control and control.image.shape[-1] for control in controls] == sides
        assert controls[-1].scale == 1.35
    light = controls[-1].image[0, 0, 4::8, 4::8].bool().numpy()
    assert (light == ~final.target.symbol.dark).all()


def test_a_reader_tells_right_from_wrong() -> None:
    symbol = encode("https://a.io", 2)
    modules = np.pad(~symbol.dark, 4, constant_values=True)
    pixels = np.kron(modules, np.ones((12, 12)))[..., None].repeat(3, 2).astype(np.uint8) * 255
    assert margin(pixels, "https://a.io") == 1.0
    assert sure_margin(pixels, "https://a.io") == 1.0
    assert margin(pixels, "https://b.io") == -1.0
    assert margin(np.full_like(pixels, 255), "https://a.io") == -1.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": "x" * 200}, "it fits version"),
        ({"module_px": 12}, "say 16"),
        ({"control_scale": 1.0}, "no QR ControlNet; set control_scale to 0"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        course(**changes)


def test_the_picture_chooses_the_mask_unless_it_is_given() -> None:
    masks = {ran(course(version=2))[0].target.symbol.mask}
    masks |= {ran(course(version=2, mask=mask))[0].target.symbol.mask for mask in (1, 6)}
    assert masks >= {1, 6}
    grey = np.random.default_rng(0).random((25, 25))
    chosen = [qart.follow(one, grey) for one in course(version=2).qr.candidates()]
    assert [one.mask for one in chosen] == list(range(8))
    assert len({qart.distance(one, grey) for one in chosen}) == 8
    assert {scanned_text(one) for one in chosen} == {"PARITY"}


def scanned_text(symbol: Any) -> str | None:
    modules = np.pad(~symbol.dark, 4, constant_values=True)
    found = scan(np.kron(modules, np.ones((12, 12)))[..., None].repeat(3, 2).astype(np.uint8) * 255)
    return None if found is None else found.text


def test_a_code_needs_its_method_and_the_method_a_code() -> None:
    with pytest.raises(ValueError, match="say in qr what it holds"):
        sample(TOY, "high", guidance=GUIDANCE, sampler="ddim")
    with pytest.raises(ValueError, match="use srpg, or leave qr out"):
        sample(TOY, "high", guidance=CFG(), qr=QR)


def tiny_unet() -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16, attention_head_dim=4, norm_num_groups=8,
    ).eval()  # fmt: skip


def test_residuals_are_those_of_diffusers_scaled_row_by_row() -> None:
    torch.manual_seed(0)
    unet = tiny_unet()
    controlnet: Any = diffusers.ControlNetModel.from_unet(unet, conditioning_channels=3).eval()
    for parameter in controlnet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, text, picture = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 16), torch.rand(1, 3, 64, 64)
    when = torch.tensor([100.0, 500.0])
    (cond,) = TOY.encode(["high"]).conds
    conds = [Conditions(cond, cond).controlled(Control(picture, scale)).positive for scale in (1.5, 0.5)]
    with torch.no_grad():
        ours = residuals(controlnet, x, when, text, conds)
        for row, scale in enumerate((1.5, 0.5)):
            down, middle = controlnet(
                x[row : row + 1], when[row], text[row : row + 1], picture, scale, return_dict=False
            )
            theirs = [*down, middle]
            mine = [*ours["down_block_additional_residuals"], ours["mid_block_additional_residual"]]
            for a, b in zip(mine, theirs, strict=True):
                assert torch.allclose(a[row : row + 1], b, atol=1e-5)
        told = unet(x, when, text, **ours).sample
        assert (told - unet(x, when, text).sample).abs().max() > 1e-3
    assert residuals(controlnet, x, when, text, [cond, cond]) == {}
    with pytest.raises(ValueError, match="cannot share a forward"):
        residuals(controlnet, x, when, text, [cond, conds[0]])
    with pytest.raises(ValueError, match="has no ControlNet"):
        residuals(None, x, when, text, conds)


def test_controlled_asks_have_a_forward_of_their_own() -> None:
    (cond,) = TOY.encode(["high"]).conds
    led = Conditions(cond, cond).controlled(Control(torch.rand(1, 3, 64, 64))).positive
    asks = [Denoise(torch.zeros(1, 3, 8, 8), LEVEL, (one,)) for one in (cond, led, cond, led)]
    assert batches(asks) == [[0, 2], [1, 3]]


def test_a_finished_picture_has_white_around_it_and_tinted_patterns() -> None:
    target = course().qr.symbol()
    from guidance.qr.scanning import Target

    pixels = finish(torch.full((3, 168, 168), 0.5), Target(target, 8), 4)
    assert (pixels[:, :56] == 255).all()
    assert pixels[63, 63, 0] < 64  # the finder's corner is dark
    assert pixels[56 + 14 * 7 + 7, 63, 0] > 200  # its separator is light
