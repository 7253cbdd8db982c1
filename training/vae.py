"""Train the autoencoder: `python -m training.vae`.

With `--start models/emoji` its decoder alone: the latents stay, and with them the UNet's worth.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from torch import Tensor, nn

from training import settings
from training.data import Backgrounds
from training.schedule import Average, Checkpoint, Clock, rate


def build(config: dict) -> AutoencoderTiny:
    """Three halvings; every level has the same width, as AutoencoderTiny demands."""
    channels = (config["channels"],) * 4
    return AutoencoderTiny(
        latent_channels=config["latent_channels"],
        encoder_block_out_channels=channels,
        decoder_block_out_channels=channels,
        num_encoder_blocks=tuple(config["encoder_blocks"]),
        num_decoder_blocks=tuple(config["decoder_blocks"]),
        scaling_factor=1.0,
    )


def calm(model: AutoencoderTiny) -> None:
    """Start every residual branch at zero and the rest orthogonal: no norms, yet fast."""
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.orthogonal_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for part in model.modules():
        if isinstance(part, AutoencoderTinyBlock):
            nn.init.zeros_(part.conv[-1].weight)


def crop(x: Tensor, side: int) -> Tensor:
    """One random window for the whole batch: many more steps early on, at the same cost."""
    left, top = (int(torch.randint(n - side + 1, ())) for n in (x.shape[3], x.shape[2]))
    return x[..., top : top + side, left : left + side]


def edges(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def distance(x: Tensor, y: Tensor) -> Tensor:
    """L1 at three scales plus L1 of the edges: sharp lines, exact flat colours."""
    loss = sum((a - b).abs().mean() for a, b in zip(edges(x), edges(y), strict=True))
    for _ in range(3):
        loss = loss + (x - y).abs().mean() + (x - y).square().mean()
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return loss


def moments(z: Tensor) -> Tensor:
    """How far each latent channel is from zero mean and unit standard deviation."""
    mean, std = z.mean((0, 2, 3)), z.std((0, 2, 3))
    return (mean.square() + (std - 1).square()).mean()


@torch.no_grad()
def standardise(vae: AutoencoderTiny, latents: Tensor) -> None:
    """Fold per-channel mean and deviation into the encoder's last convolution.

    The decoder's first convolution takes the inverse, exact but for its soft clip
    and its zero padding, which the rest of the run repairs.
    """
    first, last = vae.decoder.layers[0], vae.encoder.layers[-1]
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    first.bias.add_((first.weight * mean[:, None, None]).sum((1, 2, 3)))
    first.weight.mul_(std[:, None, None])
    last.weight.div_(std[:, None, None, None])
    last.bias.sub_(mean).div_(std)


def main() -> None:
    args, config = settings.parse(__doc__, settings.START)
    torch.manual_seed(config["seed"])
    own, device = config["vae"], args.device
    pictures = settings.pictures(args, device)
    batches = Backgrounds(pictures.pixels, config["data"] | {"flip": 0.5}, config["seed"], pictures.flips)
    model = build(own)
    calm(model)
    if args.start:
        model.load_state_dict(AutoencoderTiny.from_pretrained(args.start / "vae").state_dict())
    model = model.to(device, memory_format=torch.channels_last)
    average = Average(model)
    optimiser = torch.optim.AdamW(
        model.parameters(), own["lr"], betas=(0.9, 0.98), weight_decay=1e-3, fused=True
    )
    kept = Checkpoint(args.runs / "vae.pt", model, average, optimiser, device)
    step, frozen = kept.step, kept.state.get("frozen", args.start is not None)
    model.encoder.requires_grad_(not frozen)
    clock = Clock(own["minutes"] * 60, kept.spent_s)
    for step, bar in clock.steps(kept.step, "vae"):
        if not frozen and clock.share > own["freeze"]:
            # From here the encoder rests at its averaged, standardised self.
            model.load_state_dict(average.model.state_dict())
            with torch.no_grad():
                standardise(
                    model,
                    torch.cat(
                        [
                            model.encode(batches.place(*batches.choose(own["batch"]))).latents
                            for _ in range(20)
                        ]
                    ),
                )
            average.model.load_state_dict(model.state_dict())
            model.encoder.requires_grad_(False)
            frozen = True
        for group in optimiser.param_groups:
            group["lr"] = own["lr"] * rate(clock.share, step, 50)
        x = batches.place(*batches.choose(own["batch"]))
        if clock.share < own["crops"]:
            x = crop(x, x.shape[3] // 2)
        x = x.contiguous(memory_format=torch.channels_last)
        z = model.encode(x).latents
        y = model.decode(z + own["latent_noise"] * torch.randn_like(z)).sample
        loss = distance(x, y) + (0.0 if frozen else 0.2 * moments(z))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        average.update(model, step)
        if step % 50 == 0:
            bar.set_postfix_str(f" step {step} loss {loss.item():.4f} L1 {(x - y).abs().mean().item():.4f}")
        kept.save(step, clock.spent_s, every_s=60, frozen=frozen, config=own)
    kept.save(step, clock.spent_s, frozen=frozen, config=own)


if __name__ == "__main__":
    main()
