"""Train the brightness-pattern ControlNet: `python -m training.controlnet`.

The condition is a QR-like grid of dark and light squares (1 channel repeated to 3,
0..1). Real pictures get the pattern of their own brightness, read at the squares,
so the network learns to paint a picture whose squares are dark or light as asked.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import ControlNetModel
from torch import Tensor
from transformers import CLIPTokenizer

from training import settings, text, unet
from training.data import Backgrounds
from training.export import load
from training.schedule import Average, Checkpoint, Clock, rate


def pattern(picture: Tensor, squares: int) -> Tensor:
    """(B, 3, H, W) in 0..1: squares darker than the picture's median are black."""
    luma = (picture * picture.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    small = F.adaptive_avg_pool2d(luma, squares)
    middle = small.flatten(1).median(1).values[:, None, None, None]
    light = (small > middle).float()
    return F.interpolate(light, picture.shape[2:], mode="nearest").expand(-1, 3, -1, -1)


def main() -> None:
    args, config = settings.parse(__doc__)
    own, device, seed = config["controlnet"], args.device, config["seed"]
    torch.manual_seed(seed)
    fast = device.startswith("cuda")
    pictures = settings.pictures(args, device)
    tokenizer = CLIPTokenizer.from_pretrained(args.runs / "tokenizer")
    table = text.TokenTable(pictures.rows, tokenizer, seed + 3, config["unet"]["captions"]).to(device)
    source = Backgrounds(pictures.pixels, config["data"], seed, pictures.flips)
    coder = unet.load_vae(args.runs, device)
    frozen = load(args.runs, config)[0].to(device).requires_grad_(False)
    model = ControlNetModel.from_unet(frozen.unet, conditioning_channels=3, load_weights_from_unet=True)
    model = model.to(device)
    average = Average(model)
    optimiser = torch.optim.AdamW(model.parameters(), own["lr"], weight_decay=0.01, fused=True)
    kept = Checkpoint(args.runs / "controlnet.pt", model, average, optimiser, device)
    step = kept.step
    clock = Clock(own["minutes"] * 60, kept.spent_s)
    alphas_bar = unet.scheduler(config["unet"]).alphas_cumprod.to(device)
    for step, bar in clock.steps(kept.step, "controlnet"):
        for group in optimiser.param_groups:
            group["lr"] = own["lr"] * rate(clock.share, step)
        many = own["batch"]
        index, colour = source.choose(many)
        picture = source.place(index, colour)
        squares = own["modules"][step % len(own["modules"])]
        asked = pattern(picture, squares)
        ids = table.draw(index, colour, source.uniform(many), source.uniform(many) < 0.3)
        timestep = (source.uniform(many) * len(alphas_bar)).long()
        alpha_bar = alphas_bar[timestep][:, None, None, None]
        alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=fast):
            with torch.no_grad():
                x0 = coder.encode(picture).latents.float()
                said = frozen.encoder(ids)[0]
            eps = torch.randn_like(x0)
            x_t = alpha * x0 + sigma * eps
            down, middle = model(x_t, timestep, said, controlnet_cond=asked, return_dict=False)
            v = frozen.unet(
                x_t,
                timestep,
                said,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
            ).sample
        loss = (v.float() - (alpha * eps - sigma * x0)).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        average.update(model, step)
        if step % 20 == 0:
            bar.set_postfix_str(f" step {step} loss {loss.item():.4f}")
        kept.save(step, clock.spent_s, every_s=120)
    kept.save(step, clock.spent_s)
    average.model.half().save_pretrained(args.runs / "controlnet_qr", safe_serialization=True)


if __name__ == "__main__":
    main()
