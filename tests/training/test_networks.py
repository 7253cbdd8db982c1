from __future__ import annotations

import copy

import torch

from training import settings, unet, vae
from training.schedule import Average, Clock, rate

SMALL_VAE = {"channels": 8, "latent_channels": 4, "encoder_blocks": [0, 1, 1, 1],
             "decoder_blocks": [1, 1, 1, 1]}  # fmt: skip
SMALL_UNET = {"channels": [32, 64], "layers": 1, "head": 32, "beta": [3e-4, 0.027]}


def test_a_frozen_encoder_has_standard_latents_and_the_decoder_follows():
    torch.manual_seed(0)
    model = vae.build(SMALL_VAE)
    vae.calm(model)
    picture = torch.rand(8, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        before = model.encode(picture).latents
        decoded = model.decoder.layers[0](before)
        vae.standardise(model, before)
        after = model.encode(picture).latents
        again = model.decoder.layers[0](after)
    assert torch.allclose(after.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(after.std((0, 2, 3)), torch.ones(4), atol=1e-4)
    inner = (..., slice(1, -1), slice(1, -1))
    assert torch.allclose(decoded[inner], again[inner], atol=1e-4)


def test_the_distance_is_zero_only_for_equal_pictures():
    x = torch.rand(2, 3, 32, 32)
    assert vae.distance(x, x) == 0
    assert vae.distance(x, x + 0.1) > 0


def test_the_last_training_step_is_nearly_pure_noise():
    last = unet.scheduler(SMALL_UNET).alphas_cumprod[-1]
    assert 1e-6 < last < 1e-3


def test_the_unet_listens_to_the_text():
    torch.manual_seed(0)
    model = unet.build(SMALL_UNET, 4, 8, 64)
    x_t, time = torch.randn(2, 4, 8, 8), torch.tensor([10, 900])
    first, second = (model(x_t, time, torch.randn(2, 32, 64)).sample for _ in range(2))
    assert first.shape == x_t.shape
    assert not torch.allclose(first, second)


def test_the_rate_warms_up_and_anneals():
    assert rate(0.0, 0) < rate(0.0, 200) == 1.0
    assert rate(1.0, 10_000) < 0.02
    assert rate(0.25, 500) > rate(0.75, 500)


def test_the_clock_resumes():
    assert Clock(100.0, spent_s=50.0).share >= 0.5
    assert list(Clock(1.0, spent_s=1.0).steps(0, "done")) == []


def test_the_average_of_a_constant_is_the_constant():
    model = torch.nn.Linear(3, 3)
    average = Average(copy.deepcopy(model))
    torch.nn.init.zeros_(average.model.weight)
    for step in range(50):
        average.update(model, step)
    assert torch.allclose(average.model.weight, model.weight, atol=1e-6)


def test_both_machines_have_a_config():
    path = settings.HERE / "config.toml"
    cpu, gpu = settings.read(path, "cpu"), settings.read(path, "gpu")
    assert (cpu["data"]["size"], gpu["data"]["size"]) == (64, 128)
    assert "gamma" in gpu["unet"]
    assert settings.read(path, "cpu", "refine")["unet"]["lr"] < cpu["unet"]["lr"]
