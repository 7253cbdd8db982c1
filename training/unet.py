"""Train the UNet and the text encoder together: `python -m training.unet`."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTokenizer

from training import settings, text, vae
from training.data import COLOUR_NAMES, Backgrounds
from training.schedule import Average, Checkpoint, Clock, rate, save


def build(config: dict, channels: int, size: int, width: int) -> UNet2DConditionModel:
    """A UNet with text attention on every level."""
    levels = len(config["channels"])
    return UNet2DConditionModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=tuple(config["channels"]),
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        layers_per_block=config["layers"],
        cross_attention_dim=width,
        attention_head_dim=tuple(c // config["head"] for c in config["channels"]),
    )


def scheduler(config: dict) -> DDIMScheduler:
    """v-prediction on a schedule whose last step is nearly pure noise (alpha_bar 4e-5)."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=config["beta"][0],
        beta_end=config["beta"][1],
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def spread(uniform: Tensor) -> Tensor:
    """Times in 0..1 whose density is half flat, half 6t(1-t): shapes form in the middle."""
    middle = 0.5 - torch.sin(torch.asin(1 - 2 * uniform) / 3)
    return torch.where(torch.arange(len(uniform), device=uniform.device) % 2 == 0, uniform, middle)


class Denoiser(nn.Module):
    """The two networks that learn together."""

    def __init__(self, unet: UNet2DConditionModel, encoder: nn.Module) -> None:
        super().__init__()
        self.unet, self.encoder = unet, encoder

    def forward(self, x_t: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        return self.unet(x_t, timestep, self.encoder(tokens)[0]).sample


class Bank:
    """Latents of every picture on every colour, several placements each, in fp16."""

    def __init__(self, latents: Tensor, colours: Tensor, weights: Tensor, seed: int) -> None:
        self.latents, self.colours, self.weights = latents, colours, weights
        self.generator = torch.Generator().manual_seed(seed)

    @classmethod
    def open(
        cls, path: Path, coder: AutoencoderTiny, source: Backgrounds, counts: list[int], seed: int
    ) -> Bank:
        """The bank stored at `path`, made first where there is none."""
        if not path.exists():
            latents, colours = cls.fill(coder, source, counts)
            save(path, {"latents": latents, "colours": colours})
        stored = torch.load(path, weights_only=True)
        return cls(stored["latents"], stored["colours"], source.weights, seed)

    @staticmethod
    @torch.no_grad()
    def fill(coder: AutoencoderTiny, source: Backgrounds, counts: list[int]) -> tuple[Tensor, Tensor]:
        order = [0] * counts[0] + [c for c in range(1, len(COLOUR_NAMES)) for _ in range(counts[1])]
        planes = []
        every = torch.arange(len(source.pixels))
        for colour in tqdm(order, desc="latents"):
            parts = [
                coder.encode(source.place(index, torch.full_like(index, colour))).latents.half()
                for index in every.split(64)
            ]
            planes.append(torch.cat(parts))
        return torch.stack(planes, 1), torch.tensor(order)

    def next(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (B, C, H, W), picture indices and colour indices; white has its share."""
        index = self.weights.multinomial(batch, replacement=True, generator=self.generator)
        plane = torch.randint(len(self.colours), (batch,), generator=self.generator)
        return self.latents[index, plane].float(), index, self.colours[plane]


class Live:
    """Encodes fresh placements every step, for a GPU."""

    def __init__(self, coder: AutoencoderTiny, source: Backgrounds) -> None:
        self.coder, self.source = coder, source

    @torch.no_grad()
    def next(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        index, colour = self.source.choose(batch)
        picture = self.source.place(index, colour)
        return self.coder.encode(picture).latents.float(), index, colour


def load_vae(runs: Path, device: str, start: Path | None = None) -> AutoencoderTiny:
    """The autoencoder that was trained in `runs`; where none was, the one of the folder `start`."""
    if start and not (runs / "vae.pt").exists():
        coder = AutoencoderTiny.from_pretrained(start / "vae", torch_dtype=torch.float32)
    else:
        state = torch.load(runs / "vae.pt", map_location=device, weights_only=True)
        coder = vae.build(state["config"])
        coder.load_state_dict(state["average"])
    return coder.requires_grad_(False).eval().to(device, memory_format=torch.channels_last)


def main() -> None:
    args, config = settings.parse(__doc__, settings.START)
    own, device, seed = config["unet"], args.device, config["seed"]
    torch.manual_seed(seed)
    pictures = settings.pictures(args, device)
    tokenizer = CLIPTokenizer.from_pretrained((args.start or args.runs) / "tokenizer")
    table = text.TokenTable(pictures.rows, tokenizer, seed, own["captions"]).to(device)
    coder = load_vae(args.runs, device, args.start)
    source = Backgrounds(pictures.pixels, config["data"], seed, pictures.flips)
    common = set(own["common"])
    source.weights += (own["common_weight"] - 1) * torch.tensor(
        [float(row["name"] in common) for row in pictures.rows], device=device
    )
    data: Bank | Live
    live = device.startswith("cuda")
    data = Live(coder, source) if live else Bank.open(args.runs / "bank.pt", coder, source, own["bank"], seed)
    latents, _, _ = data.next(2)
    model = Denoiser(
        build(own, latents.shape[1], latents.shape[2], config["text"]["width"]),
        text.build(config["text"], tokenizer),
    ).to(device, memory_format=torch.channels_last)
    if args.start:
        start = StableDiffusionPipeline.from_pretrained(args.start, safety_checker=None)
        model.unet.load_state_dict(start.unet.state_dict())
        model.encoder.load_state_dict(start.text_encoder.state_dict())
    average = Average(model, own["gamma"])
    optimiser = torch.optim.AdamW(
        model.parameters(), own["lr"], betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    weak_kept = (args.runs / "weak.pt").exists()
    kept = Checkpoint(args.runs / "unet.pt", model, average, optimiser, device)
    step = kept.step
    clock = Clock(own["minutes"] * 60, kept.spent_s)
    alphas_bar = scheduler(own).alphas_cumprod.to(device)
    forward = torch.compile(model) if own["mixed"] else model
    generator = torch.Generator(device).manual_seed(seed + step)
    losses: list[Tensor] = []
    log = (args.runs / "unet.csv").open("a", buffering=1)
    for step, bar in clock.steps(kept.step, "unet"):
        for group in optimiser.param_groups:
            group["lr"] = own["lr"] * rate(clock.share, step, own["warm_steps"])
        x0, index, colour = data.next(own["batch"])
        x0 = x0.contiguous(memory_format=torch.channels_last)
        many = len(x0)
        which, drop, within = torch.rand((3, many), generator=generator, device=device)
        ids = table.draw(index, colour, which, drop < own["drop"])
        # Times are stratified over the batch: less noise in the loss.
        strata = (torch.arange(many, device=device) + within) / many
        timestep = (spread(strata) * len(alphas_bar)).long().clamp_max(len(alphas_bar) - 1)
        alpha_bar = alphas_bar[timestep][:, None, None, None]
        eps = torch.empty_like(x0).normal_(generator=generator)
        alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=own["mixed"]):
            v = forward(alpha * x0 + sigma * eps, timestep, ids)
        loss = (v.float() - (alpha * eps - sigma * x0)).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        average.update(model, step)
        losses.append(loss.detach())
        if len(losses) == 20:
            figure = float(torch.stack(losses).mean())
            losses.clear()
            bar.set_postfix_str(f" step {step} loss {figure:.4f}")
            log.write(f"{step},{clock.spent_s:.1f},{figure:.5f}\n")
        if not weak_kept and clock.share > own["weak"]:
            save(args.runs / "weak.pt", {"average": average.model.state_dict(), "step": step})
            weak_kept = True
        kept.save(step, clock.spent_s, own["save_s"])
    kept.save(step, clock.spent_s)


if __name__ == "__main__":
    main()
