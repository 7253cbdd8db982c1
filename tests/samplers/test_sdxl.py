"""The SDXL adapter against the unmodified StableDiffusionXLPipeline on the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from guidance.asks import Conditions, Control, Level
from guidance.cfg import CFG
from guidance.none import NoGuidance
from samplers import load, sample
from samplers.architectures import read_layout
from samplers.driver import drive
from samplers.loop import run
from samplers.models.sdxl import StableDiffusionXL
from samplers.noise import Noise
from samplers.steps import compile_plan
from tests.pipelines import build

PROMPT = "a red apple, 3d"
SIZE: dict[str, Any] = {"width": 24, "height": 16}


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return build("sdxl")


@pytest.fixture(scope="module")
def model(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> StableDiffusionXL:
    folder = tmp_path_factory.mktemp("sdxl")
    pipeline.save_pretrained(folder)
    loaded = load(folder, name="tiny", dtype="float32", device="cpu")
    assert isinstance(loaded, StableDiffusionXL)
    return loaded


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def latents(pipeline: Any, **call: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return pipeline(PROMPT, generator=generator, output_type="latent", **SIZE, **call).images


@pytest.mark.parametrize("negative", [None, "blue"])
def test_latents_are_the_pipelines(model: StableDiffusionXL, pipeline: Any, negative: str | None) -> None:
    """Also where there is no negative prompt, which is all zeros then, and not the empty prompt."""
    theirs = latents(pipeline, negative_prompt=negative, guidance_scale=5.0, num_inference_steps=6)
    ours = sample(
        model, PROMPT, negative_prompt=negative or "", guidance=CFG(scale=5), sampler="euler", steps=6,
        seeds=[3], **SIZE,
    )  # fmt: skip
    assert relative(ours.latents, theirs) < 1e-4


@pytest.mark.parametrize(("steps", "spacing"), [(1, "trailing"), (4, "trailing")], ids=["turbo", "lightning"])
def test_distilled_models_are_sampler_settings(
    pipeline: Any, tmp_path: Path, steps: int, spacing: str
) -> None:
    pipeline = build("sdxl")
    pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing=spacing
    )
    pipeline.save_pretrained(tmp_path)
    theirs = latents(pipeline, guidance_scale=0.0, num_inference_steps=steps)
    ours = sample(
        load(tmp_path), PROMPT, guidance=NoGuidance(), sampler="euler", steps=steps, seeds=[3], **SIZE
    )
    assert [nfe.model for nfe in ours.nfe] == [steps]
    assert relative(ours.latents, theirs) < 1e-4


def test_an_entry_may_change_what_the_scheduler_leaves_at_its_default(pipeline: Any, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    path = tmp_path / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text())
    del config["timestep_spacing"]
    path.write_text(json.dumps(config))
    first = [
        compile_plan(sampler, 4, "vp", load(tmp_path, scheduler=changes).scheduler_config).levels[0].timestep
        for sampler in ("euler", "ddim")
        for changes in ({}, {"timestep_spacing": "trailing"})
    ]
    assert first == [999, 999, 751, 999]


def test_the_network_is_told_the_size_of_the_picture(model: StableDiffusionXL) -> None:
    """Equal cells of a wide and of a square picture differ even where the network sees but one of them."""
    cond, level = model.encode([PROMPT]).conds, [Level(0.7, 0.71, 400.0)]
    x = torch.zeros(1, 4, 8, 8)
    told: list[list[float]] = []
    hook = model._networks["main"].register_forward_pre_hook(  # pyright: ignore[reportPrivateUsage]
        lambda _, args, kwargs: told.append(kwargs["added_cond_kwargs"]["time_ids"][0].tolist()),
        with_kwargs=True,
    )
    model.denoise(x, level, cond)
    model.denoise(torch.zeros(1, 4, 8, 12), level, cond)
    hook.remove()
    assert told == [[16, 16, 0, 0, 16, 16], [16, 24, 0, 0, 16, 24]]


def test_a_picture_is_the_pipelines(model: StableDiffusionXL, pipeline: Any) -> None:
    call: dict[str, Any] = {"guidance_scale": 4.0, "num_inference_steps": 3}
    theirs = pipeline(PROMPT, generator=torch.Generator().manual_seed(5), **SIZE, **call).images[0]
    ours = sample(model, PROMPT, guidance=CFG(scale=4), sampler="euler", steps=3, seeds=[5], **SIZE)
    assert ours.images[0].size == theirs.size == (24, 16)
    assert np.abs(np.asarray(ours.images[0], int) - np.asarray(theirs, int)).max() <= 1


def test_an_autoencoder_with_mean_and_deviation_decodes_as_in_the_pipeline(tmp_path: Path) -> None:
    reference = build("sdxl")
    reference.vae.register_to_config(latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.0, 2.0, 0.5, 1.5])
    reference.save_pretrained(tmp_path)
    theirs = reference(PROMPT, num_inference_steps=2, generator=torch.Generator().manual_seed(5), **SIZE)
    ours = sample(load(tmp_path), PROMPT, guidance=CFG(scale=5), sampler="euler", steps=2, seeds=[5], **SIZE)
    assert np.abs(np.asarray(ours.images[0], int) - np.asarray(theirs.images[0], int)).max() <= 1
    picture = torch.rand(1, 3, 16, 16) * 2 - 1
    model = load(tmp_path)
    z = reference.vae.encode(picture).latent_dist.mode()
    std, mean = torch.tensor([1.0, 2.0, 0.5, 1.5]), torch.tensor([0.1, -0.2, 0.3, 0.0])
    wanted = (z - mean.view(1, 4, 1, 1)) / std.view(1, 4, 1, 1) * reference.vae.config.scaling_factor
    torch.testing.assert_close(model.encode_images(picture), wanted)


def test_a_lora_is_added_as_in_the_pipeline(model: StableDiffusionXL, tmp_path: Path) -> None:
    """Of a tenth of its strength, and of none."""
    trained = build("sdxl")
    trained.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    trained.save_lora_weights(tmp_path / "lora", unet_lora_layers=get_peft_model_state_dict(trained.unet))
    reference = build("sdxl")
    reference.save_pretrained(tmp_path / "model")
    reference.load_lora_weights(tmp_path / "lora")
    reference.fuse_lora(lora_scale=0.1)
    theirs = latents(reference, guidance_scale=5.0, num_inference_steps=2)
    call: dict[str, Any] = {"guidance": CFG(scale=5), "sampler": "euler", "steps": 2, "seeds": [3], **SIZE}

    def ours(scale: float) -> torch.Tensor:
        lora = {"source": str(tmp_path / "lora"), "scale": scale}
        return sample(load(tmp_path / "model", loras=[lora]), PROMPT, **call).latents

    assert relative(ours(0.1), theirs) < 1e-4
    plain = sample(model, PROMPT, **call).latents
    assert relative(ours(0.0), plain) < 1e-4
    assert relative(theirs, plain) > 1e-3


def test_a_controlnet_guides_as_in_the_pipeline(pipeline: Any, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    torch.manual_seed(2)
    controlnet: Any = diffusers.ControlNetModel.from_unet(
        pipeline.unet, conditioning_embedding_out_channels=(16, 32)
    ).eval()
    for zero in [*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block]:
        torch.nn.init.normal_(zero.weight, std=0.1)
    torch.nn.init.normal_(controlnet.controlnet_cond_embedding.conv_out.weight, std=0.1)
    controlnet.save_pretrained(tmp_path / "controlnet_qr")
    assert "controlnet" in read_layout(tmp_path).extras
    model = load(tmp_path, name="tiny", dtype="float32", device="cpu")
    assert "controlnet" in model.extras
    parts = {**pipeline.components, "controlnet": controlnet}
    reference = diffusers.StableDiffusionXLControlNetPipeline(**parts)
    reference.set_progress_bar_config(disable=True)
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    theirs = reference(
        PROMPT, image=picture, height=64, width=64, guidance_scale=5.0, num_inference_steps=4,
        controlnet_conditioning_scale=0.7, generator=torch.Generator().manual_seed(3), output_type="latent",
    ).images  # fmt: skip
    plan = compile_plan("euler", 4, "vp", model.scheduler_config)
    cond = Conditions(*model.encode([PROMPT, ""]).conds)
    noise = Noise(3, model.latent_shape(64, 64))
    (final,), _ = drive(model, [run(plan, CFG(scale=5), cond.controlled(Control(picture, 0.7)), noise)])
    assert relative(final.latents, theirs) < 1e-4
    (plain,), _ = drive(model, [run(plan, CFG(scale=5), cond, Noise(3, model.latent_shape(64, 64)))])
    assert relative(plain.latents, theirs) > 1e-3


def test_a_long_prompt_is_read_to_its_end(model: StableDiffusionXL, pipeline: Any) -> None:
    encoded = model.encode(["apple " * 30, "short"])
    assert encoded.read == {"prompt_pieces": [2, 1]}
    text, pooled = encoded.conds[0].data
    first, *_ = pipeline.encode_prompt("apple " * 15, device="cpu", do_classifier_free_guidance=False)
    assert text.shape == (154, 64)
    torch.testing.assert_close(text[:77], first[0])
    assert pooled.shape == encoded.conds[1].data[1].shape


def test_clip_skip_is_refused_where_there_is_no_clip(tmp_path: Path) -> None:
    build("pixart").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a PixArtSigmaPipeline has no clip_skip; leave it out"):
        load(tmp_path, clip_skip=1)


def test_half_precision_keeps_estimates_in_float32_and_an_autoencoder_that_would_overflow(
    pipeline: Any, tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path)
    model = load(tmp_path, dtype="bfloat16")
    done = sample(model, PROMPT, guidance=CFG(scale=5), sampler="euler", steps=2, seeds=[3], **SIZE)
    assert (model.dtype, done.latents.dtype) == (torch.bfloat16, torch.float32)
    exact = sample(load(tmp_path), PROMPT, guidance=CFG(scale=5), sampler="euler", steps=2, seeds=[3], **SIZE)
    assert 1e-6 < relative(done.latents, exact.latents) < 0.1
    loaded = load(tmp_path, dtype="float16")
    assert isinstance(loaded, StableDiffusionXL)
    assert loaded.dtype == torch.float16
    vae = loaded._pipeline.vae  # pyright: ignore[reportPrivateUsage]
    assert vae.config.force_upcast
    assert vae.dtype == torch.float32
    assert bool(loaded.decode(1e4 * exact.latents).isfinite().all())
