"""The losses against the official code's arrays, and what must hold whatever the picture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from guidance.qr.scanning import (
    DARK_AT_MOST,
    LIGHT_AT_LEAST,
    RULES,
    Read,
    Target,
    Variant,
    gaussian,
    luminance,
    perceptual_distance,
    protect,
    read,
)
from guidance.qr.symbol import encode
from tests.golden.arrays import load

FILTERS, SRL = load("diffqrcoder_filters"), load("diffqrcoder_srl")
VGG = load("diffqrcoder_perceptual_tinyvgg")
SIZES = (5, 8, 9, 12, 16, 20)
CASES = ("rand_ms8", "v3_clean_ms5", "edges_black_ms8")
VARIANTS: tuple[Variant, ...] = ("paper", "code")


def picture(case: str) -> Tensor:
    return (SRL[f"{case}_image_u8"].float() / 255).requires_grad_()


def seen(case: str, image: Tensor) -> Read:
    light = SRL[f"{case}_qr_matrix"].float()
    return read(image, light, int(SRL[f"{case}_module_size"]), "code")


def official_features(image: Tensor) -> list[Tensor]:
    """The code's VGG slices in small: each passes on its features at unit length."""
    maps, x = [], image - image.new_tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    x = x / image.new_tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    for index in range(23):
        if f"vgg_{index}_weight" in VGG:
            weight, bias = VGG[f"vgg_{index}_weight"].float(), VGG[f"vgg_{index}_bias"].float()
            x = functional.conv2d(x, weight, bias, padding=1)
        else:
            x = functional.max_pool2d(x, 2) if index in (4, 9, 16) else x.relu()
        if index in (3, 8, 15, 22):
            x = functional.normalize(x, dim=1)
            maps.append(x)
    return maps


@pytest.mark.parametrize("size", SIZES)
def test_the_kernels_are_the_codes(size: int) -> None:
    assert torch.allclose(gaussian(size).double(), FILTERS[f"gaussian_{size}"], atol=1e-6, rtol=0)
    grey = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(size)).expand(1, 3, -1, -1)
    mean = (luminance(grey, RULES["code"])[0, 0] * FILTERS[f"center_mean_{size}"]).sum()
    assert torch.allclose(read(grey, torch.ones(1, 1), size, "code").centre.double(), mean, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_loss_errors_and_gradient_are_the_codes(case: str) -> None:
    image = picture(case)
    found = seen(case, image)
    mask, error = SRL[f"{case}_mask"][:, 0], SRL[f"{case}_module_error"][:, 0]
    assert torch.equal(found.wrong.bool(), mask.bool())
    assert torch.allclose(found.error.double(), error, rtol=2e-6, atol=1e-6)
    loss = found.loss.mean()
    assert torch.allclose(loss.double(), SRL[f"{case}_loss"], rtol=2e-6, atol=0)
    loss.backward()
    assert image.grad is not None
    assert torch.allclose(image.grad.double(), SRL[f"{case}_grad"], atol=1e-6, rtol=1e-5)


def test_the_perceptual_distance_is_the_codes_with_the_gradient_it_lost() -> None:
    x = (VGG["x_u8"].float() / 255).requires_grad_()
    mine, other = official_features(x), official_features(VGG["y_u8"].float() / 255)
    loss = perceptual_distance(mine, other)
    assert torch.allclose(loss.double(), VGG["loss"], rtol=1e-5)
    loss.sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad.double(), VGG["intended_grad_not_official"], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_symbol_that_reads_right_is_left_alone(variant: Variant) -> None:
    """Also where the modules' borders are wrong."""
    symbol = encode("PARITY", 1)
    image = torch.from_numpy(~symbol.dark).float().repeat_interleave(9, 0).repeat_interleave(9, 1)
    image[::9] = 1 - image[::9]
    image = image.expand(1, 3, -1, -1).clone().requires_grad_()
    found = read(image, torch.from_numpy(~symbol.dark), 9, variant)
    found.loss.sum().backward()
    assert found.loss.item() == 0
    assert found.share_wrong.item() == 0
    assert not image.grad.any()


def test_white_on_a_dark_module_costs_what_the_formula_says() -> None:
    found = read(torch.ones(1, 3, 20, 20), torch.zeros(1, 1), 20, "code")
    assert found.loss.item() == pytest.approx(13.5285 * 2 * (0.9983 - 0.45), rel=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_agrees_with_differences_and_with_the_channels_weights(variant: Variant) -> None:
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(1, 3, 24, 24, generator=generator, dtype=torch.float64).requires_grad_()
    light = torch.randint(0, 2, (3, 3), generator=generator)
    (g,) = torch.autograd.grad(read(image, light, 8, variant).loss.sum(), image)
    direction = torch.randn(image.shape, generator=generator, dtype=torch.float64)
    near = [read(image + step * direction, light, 8, variant).loss for step in (1e-7, -1e-7)]
    assert (g * direction).sum().item() == pytest.approx(((near[0] - near[1]) / 2e-7).item(), rel=1e-4)
    red, green, blue = g.abs().sum((0, 2, 3)).tolist()
    assert (red / green, blue / green) == pytest.approx(
        (RULES[variant].luma[0] / 0.587, RULES[variant].luma[2] / 0.587)
    )


def test_a_picture_that_is_no_grid_of_modules_is_refused() -> None:
    with pytest.raises(ValueError, match="24 x 23 pixels are not 3 x 3 modules of 8 px"):
        read(torch.zeros(1, 3, 23, 24), torch.zeros(3, 3), 8)


def test_pictures_do_not_depend_on_their_neighbours() -> None:
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    light = torch.eye(2)
    together = read(images, light, 8).loss
    alone = torch.cat([read(image[None], light, 8).loss for image in images])
    assert torch.allclose(together, alone)


def test_protection_tints_no_more_than_is_needed() -> None:
    symbol = encode("PARITY", 1)
    target = Target(symbol, 4)
    images = torch.rand(2, 3, 84, 84, generator=torch.Generator().manual_seed(1))
    tinted = protect(images, target)
    enlarge = nn.Upsample(scale_factor=4)
    function = enlarge(torch.from_numpy(symbol.function)[None, None].float())[0, 0] > 0
    dark = enlarge(torch.from_numpy(symbol.dark)[None, None].float())[0, 0] > 0
    grey = luminance(tinted)[:, 0]
    assert (grey[:, function & dark] <= DARK_AT_MOST + 1e-6).all()
    assert (grey[:, function & ~dark] >= LIGHT_AT_LEAST - 1e-6).all()
    assert torch.equal(tinted[..., ~function], images[..., ~function])
    assert torch.allclose(protect(tinted, target), tinted, atol=1e-6)
