"""The Stable Diffusion adapter against the unmodified StableDiffusionPipeline on the same weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from guidance.asks import Level
from guidance.cfg import CFG
from samplers import load, sample
from samplers.models.sd import StableDiffusion
from samplers.models.text import pieces
from tests.conftest import COUNTERPARTS

PROMPT, NEGATIVE = "a red apple, 3d", "blue"


@pytest.fixture(scope="module")
def model(tiny_sd: Path) -> StableDiffusion:
    loaded = load(tiny_sd, name="tiny", dtype="float32", device="cpu")
    assert isinstance(loaded, StableDiffusion)
    return loaded


@pytest.fixture(scope="module")
def pipeline(tiny_sd: Path) -> Any:
    loaded = StableDiffusionPipeline.from_pretrained(tiny_sd)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def with_scheduler(folder: Path, target: Path, **changes: Any) -> Path:
    shutil.copytree(folder, target)
    path = target / "scheduler"
    diffusers.DDIMScheduler.from_pretrained(path, **changes).save_pretrained(path)
    return target


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("sampler", COUNTERPARTS)
def test_latents_are_the_pipelines(model: StableDiffusion, pipeline: Any, sampler: str) -> None:
    scheduler = getattr(diffusers, COUNTERPARTS[sampler]).from_config(model.scheduler_config)
    pipeline.scheduler = scheduler
    theirs = pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        guidance_scale=7.5,
        num_inference_steps=8,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
    ).images
    ours = sample(
        model,
        PROMPT,
        negative_prompt=NEGATIVE,
        guidance=CFG(scale=7.5),
        sampler=sampler,
        steps=8,
        seeds=[3],
    ).latents
    assert relative(ours, theirs) < 1e-4


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_other_predictions_are_the_pipelines(tiny_sd: Path, tmp_path: Path, prediction: str) -> None:
    folder = with_scheduler(
        tiny_sd,
        tmp_path / "model",
        prediction_type=prediction,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    )
    reference = StableDiffusionPipeline.from_pretrained(folder)
    reference.set_progress_bar_config(disable=True)
    theirs = reference(
        PROMPT,
        guidance_scale=4.0,
        num_inference_steps=5,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
    ).images
    ours = sample(load(folder), PROMPT, guidance=CFG(scale=4), sampler="ddim", steps=5, seeds=[0]).latents
    assert relative(ours, theirs) < 1e-4


def test_pictures_are_the_pipelines(model: StableDiffusion, pipeline: Any) -> None:
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(model.scheduler_config)
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    theirs = pipeline([PROMPT] * 2, guidance_scale=4, num_inference_steps=4, generator=generators).images
    ours = sample(model, PROMPT, guidance=CFG(scale=4), sampler="ddim", steps=4, seeds=[5, 6])
    assert ours.seeds == [5, 6]
    for mine, reference in zip(ours.images, theirs, strict=True):
        assert mine.size == reference.size == (16, 16)
        assert np.abs(np.asarray(mine, int) - np.asarray(reference, int)).max() <= 1


def test_rows_of_a_mixed_batch_are_independent(model: StableDiffusion) -> None:
    conds = model.encode([PROMPT, NEGATIVE, ""]).conds
    levels = [Level(0.2, 0.98, 900.0), Level(0.7, 0.71, 400.0), Level(0.99, 0.14, 20.0)]
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    together = model.denoise(x, levels, conds)
    for i in range(3):
        alone = model.denoise(x[i : i + 1], levels[i : i + 1], conds[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


LONG = "a red apple on a very long wooden table " * 5


def test_a_long_prompt_is_read_to_its_end_in_pieces_of_whole_words(
    model: StableDiffusion, pipeline: Any
) -> None:
    encoded = model.encode([LONG, "short", ""])
    assert encoded.warnings == []
    assert encoded.read == {"prompt_pieces": [3, 1, 1]}
    parts = pieces(pipeline.tokenizer, LONG)
    assert " ".join(parts).split() == LONG.split()
    theirs = torch.cat([pipeline.encode_prompt(part, "cpu", 1, False)[0][0] for part in parts])
    torch.testing.assert_close(encoded.conds[0].data, theirs)
    assert model.encode([PROMPT]).read == {}


def test_a_long_prompts_picture_is_the_pipelines(model: StableDiffusion, pipeline: Any) -> None:
    """With both embeddings given, since the pipeline wants them equally long."""
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(model.scheduler_config)
    negative = LONG.replace("red", "blue")
    embeddings = [cond.data[None] for cond in model.encode([LONG, negative]).conds]
    theirs = pipeline(
        prompt_embeds=embeddings[0], negative_prompt_embeds=embeddings[1], guidance_scale=4.0,
        num_inference_steps=3, generator=torch.Generator().manual_seed(1), output_type="latent",
    ).images  # fmt: skip
    ours = sample(
        model, LONG, negative_prompt=negative, guidance=CFG(scale=4), sampler="ddim", steps=3, seeds=[1]
    )
    assert relative(ours.latents, theirs) < 1e-4


def test_long_and_short_prompts_share_a_batch_without_changing_each_other(model: StableDiffusion) -> None:
    conds = model.encode([PROMPT, LONG, NEGATIVE]).conds
    levels = [Level(0.7, 0.71, 400.0), Level(0.2, 0.98, 900.0), Level(0.9, 0.43, 200.0)]
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    together = model.denoise(x, levels, conds)
    for i in range(3):
        alone = model.denoise(x[i : i + 1], levels[i : i + 1], conds[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


def test_a_word_that_is_longer_than_the_encoder_reads_is_broken(pipeline: Any) -> None:
    parts = pieces(pipeline.tokenizer, f"an {'x' * 200} apple")
    assert "".join(parts).replace(" ", "") == f"an{'x' * 200}apple"
    assert all(len(pipeline.tokenizer(part).input_ids) <= 77 for part in parts)


@pytest.mark.parametrize("skipped", [0, 1])
def test_clip_skip_leaves_out_the_encoders_last_layers(tiny_sd: Path, skipped: int) -> None:
    """As if they were not there."""
    pipeline: Any = StableDiffusionPipeline.from_pretrained(tiny_sd)
    layers = pipeline.text_encoder.encoder.layers
    pipeline.text_encoder.encoder.layers = layers[: len(layers) - skipped]
    theirs, _ = pipeline.encode_prompt(PROMPT, "cpu", 1, False)
    encoded = load(tiny_sd, clip_skip=skipped).encode([PROMPT])
    torch.testing.assert_close(encoded.conds[0].data, theirs[0])
    assert encoded.read == {"clip_skip": skipped}
    asked = load(tiny_sd).encode([PROMPT], clip_skip=skipped)
    assert torch.equal(asked.conds[0].data, encoded.conds[0].data)
    assert asked.conds[0].key == encoded.conds[0].key != load(tiny_sd).encode([PROMPT]).conds[0].key
    with pytest.raises(ValueError, match="clip_skip is 2; this model's text encoder has 2 layers"):
        load(tiny_sd).encode([PROMPT], clip_skip=2)


def test_a_prompt_is_encoded_once(model: StableDiffusion) -> None:
    first, second, other = model.encode([PROMPT, PROMPT, NEGATIVE]).conds
    assert first is second
    assert first.key != other.key


def test_the_gradient_reaches_x_t(model: StableDiffusion) -> None:
    cond = model.encode([PROMPT]).conds
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    picture = model.decode(model.denoise(x, [Level(0.7, 0.71, 400.0)], cond, grad=True), grad=True)
    (gradient,) = torch.autograd.grad(picture.square().sum(), x)
    assert gradient.abs().min() > 0
    assert not model.denoise(x, [Level(0.7, 0.71, 400.0)], cond).requires_grad


def test_the_weak_network_is_another_one(model: StableDiffusion, tiny_sd: Path, tmp_path: Path) -> None:
    assert "weak" in model.extras
    cond, level = model.encode([PROMPT]).conds, [Level(0.7, 0.71, 400.0)]
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert relative(model.denoise(x, level, cond, "weak"), model.denoise(x, level, cond)) > 1e-3
    folder = tmp_path / "model"
    shutil.copytree(tiny_sd, folder)
    shutil.rmtree(folder / "unet_weak")
    without = load(folder)
    assert "weak" not in without.extras
    with pytest.raises(ValueError, match="no weak network; put one in its unet_weak folder"):
        without.denoise(x, level, cond, "weak")


def test_a_tiny_autoencoder_decodes_as_in_the_pipeline(tiny_sd: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_sd, folder)
    shutil.rmtree(folder / "vae")
    torch.manual_seed(1)
    reference = StableDiffusionPipeline.from_pretrained(
        tiny_sd,
        vae=diffusers.AutoencoderTiny(
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
        ),
    )
    reference.save_pretrained(folder)
    reference.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(2)
    theirs = reference(PROMPT, num_inference_steps=3, guidance_scale=4, generator=generator).images[0]
    mine = sample(load(folder), PROMPT, guidance=CFG(scale=4), sampler="ddim", steps=3, seeds=[2]).images[0]
    assert np.abs(np.asarray(mine, int) - np.asarray(theirs, int)).max() <= 1


def test_sizes_that_do_not_fit_are_refused(model: StableDiffusion) -> None:
    assert model.latent_shape(24, 16) == (4, 8, 12)
    with pytest.raises(ValueError, match="multiples of 4, not 18x16"):
        model.latent_shape(18, 16)


def test_an_epsilon_network_at_zero_snr_is_refused(tiny_sd: Path, tmp_path: Path) -> None:
    folder = with_scheduler(tiny_sd, tmp_path / "model", rescale_betas_zero_snr=True)
    with pytest.raises(ValueError, match="zero SNR"):
        load(folder)


def test_a_missing_model_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="give a diffusers folder, a hub id like owner/name"):
        load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="save_pretrained"):
        load(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "KandinskyPipeline"}')
    with pytest.raises(ValueError, match="a KandinskyPipeline is not supported; supported are"):
        load(tmp_path)
