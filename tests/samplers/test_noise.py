"""A seed's noise: the pipeline's, and nobody else's business."""

from __future__ import annotations

import torch
from diffusers.utils.torch_utils import randn_tensor

from samplers.noise import Noise

SHAPE = (4, 3, 2)


def test_the_initial_noise_is_that_of_diffusers() -> None:
    theirs = randn_tensor((1, *SHAPE), generator=torch.Generator().manual_seed(11))
    assert torch.equal(Noise(11, SHAPE).draw(), theirs)


def test_seeds_differ_and_repeat() -> None:
    first, again, other = Noise(1, SHAPE), Noise(1, SHAPE), Noise(2, SHAPE)
    drawn = first.draw()
    assert torch.equal(drawn, again.draw())
    assert not torch.equal(drawn, other.draw())
    assert not torch.equal(drawn, first.draw())


def test_resampling_changes_no_later_noise() -> None:
    plain, resampled = Noise(1, SHAPE, 3), Noise(1, SHAPE, 3)
    assert 0 <= resampled.uniform() < 1
    assert resampled.uniform() != resampled.uniform()
    assert torch.equal(plain.draw(), resampled.draw())


def test_particles_get_noise_of_their_own() -> None:
    drawn = Noise(1, SHAPE, count=3, dtype=torch.float64).draw()
    assert (drawn.shape, drawn.dtype) == ((3, *SHAPE), torch.float64)
    assert not torch.equal(drawn[0], drawn[1])


def test_neither_other_images_nor_the_order_of_runs_change_a_seeds_noise() -> None:
    alone = [Noise(1, SHAPE).draw(), Noise(2, SHAPE).draw()]
    torch.manual_seed(99)  # the global generator is nobody's business here
    one, two = Noise(1, SHAPE), Noise(2, SHAPE)
    drawn = [two.draw(), one.draw()]
    assert torch.equal(drawn[1], alone[0])
    assert torch.equal(drawn[0], alone[1])
    torch.rand(3)
    follows = Noise(1, SHAPE)
    follows.draw()
    assert torch.equal(one.draw(), follows.draw())
