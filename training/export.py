"""Write the diffusers folder: `python -m training.export [--out models/emoji]`.

With `--start FOLDER` what was trained from there, and the rest as it is there.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTokenizer

from training import settings, text, unet


def load(
    runs: Path, config: dict, name: str = "unet.pt", start: Path | None = None
) -> tuple[unet.Denoiser, CLIPTokenizer]:
    """The averaged weights of a checkpoint; random ones where there is none yet.

    The tokenizer is that of `start`, where training began from there.
    """
    own, size = config["unet"], config["data"]["size"] // 8
    tokenizer = CLIPTokenizer.from_pretrained((start or runs) / "tokenizer")
    model = unet.Denoiser(
        unet.build(own, config["vae"]["latent_channels"], size, config["text"]["width"]),
        text.build(config["text"], tokenizer),
    )
    if (runs / name).exists():
        state = torch.load(runs / name, map_location="cpu", weights_only=True, mmap=True)
        model.load_state_dict(state["average"])
        print(f"{name}: step {state['step']}")
    return model.eval(), tokenizer


def pipeline(runs: Path, config: dict, name: str = "unet.pt") -> StableDiffusionPipeline:
    model, tokenizer = load(runs, config, name)
    return StableDiffusionPipeline(
        vae=unet.load_vae(runs, "cpu"),
        text_encoder=model.encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=unet.scheduler(config["unet"]),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def renewed(start: Path, runs: Path, config: dict) -> StableDiffusionPipeline:
    """The pipeline of the folder `start` with the networks that were trained on from it."""
    pipe = StableDiffusionPipeline.from_pretrained(start, safety_checker=None, torch_dtype=torch.float32)
    if (runs / "vae.pt").exists():
        pipe.vae = unet.load_vae(runs, "cpu")
    if (runs / "unet.pt").exists():
        model, _ = load(runs, config, start=start)
        pipe.unet, pipe.text_encoder = model.unet, model.encoder
    return pipe


def main() -> None:
    out = {"type": Path, "default": settings.HERE.parent / "models/emoji"}
    args, config = settings.parse(__doc__, ("--out", out), settings.START)
    begun = [args.start] if args.start else []
    pipe = renewed(args.start, args.runs, config) if begun else pipeline(args.runs, config)
    pipe.to(dtype=torch.float16)
    part = args.out.with_name(f".{args.out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    pipe.save_pretrained(part, safe_serialization=True)
    forget(part / "vae/config.json", "block_out_channels")
    if (args.runs / "weak.pt").exists():
        weak: UNet2DConditionModel = load(args.runs, config, "weak.pt", args.start)[0].unet
        weak.half().save_pretrained(part / "unet_weak", safe_serialization=True)
    for name in ("scorer", "classifier", "controlnet_qr", "unet_weak"):
        found = next((one for one in (part, args.runs, *begun) if (one / name).is_dir()), part)
        if found is not part:
            shutil.copytree(found / name, part / name)
    for weights in part.rglob("*.safetensors"):
        weights.chmod(0o644)
    swap(part, args.out)
    sizes = {
        folder.name: sum(f.stat().st_size for f in folder.glob("*.safetensors")) / 1e6
        for folder in sorted(args.out.iterdir())
        if folder.is_dir()
    }
    print(json.dumps({k: round(v, 2) for k, v in sizes.items() if v}))


def forget(path: Path, key: str) -> None:
    """Drop a key that AutoencoderTiny writes but, on reading, warns of."""
    config = json.loads(path.read_text())
    config.pop(key, None)
    path.write_text(json.dumps(config, indent=2) + "\n")


def swap(part: Path, out: Path) -> None:
    """Put `part` where `out` is and keep the loose files (the card, its figures) of `out`."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        for loose in out.iterdir():
            if loose.is_file() and not (part / loose.name).exists():
                shutil.copy2(loose, part / loose.name)
        out.rename(old)
    part.rename(out)
    shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    main()
