"""Train a small CLIP on the captions: `python -m training.scorer`."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from training import settings, text
from training.data import Backgrounds
from training.schedule import Average, Checkpoint, Clock, rate


def build(config: dict, size: int, length: int, tokenizer: CLIPTokenizer) -> CLIPModel:
    own = {"projection_dim": config["project"], "hidden_act": "gelu"}
    words = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=config["text_width"],
        intermediate_size=4 * config["text_width"],
        num_hidden_layers=config["text_layers"],
        num_attention_heads=config["text_width"] // 64,
        max_position_embeddings=length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **own,
    )
    sight = CLIPVisionConfig(
        image_size=size,
        patch_size=config["patch"],
        hidden_size=config["width"],
        intermediate_size=4 * config["width"],
        num_hidden_layers=config["layers"],
        num_attention_heads=config["width"] // 64,
        **own,
    )
    return CLIPModel(CLIPConfig(text_config=words.to_dict(), vision_config=sight.to_dict(), **own))


def processor(tokenizer: CLIPTokenizer, size: int) -> CLIPProcessor:
    """Pictures in -1..1, no crop."""
    images = CLIPImageProcessorPil(
        size={"height": size, "width": size},
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return CLIPProcessor(image_processor=images, tokenizer=tokenizer)


def contrast(model: CLIPModel, pictures: Tensor, ids: Tensor, same: Tensor) -> Tensor:
    """Symmetric cross entropy; pairs of one picture and colour are no negatives (`same`)."""
    out = model(input_ids=ids, pixel_values=pictures)
    target = same.float() / same.sum(1, keepdim=True)
    logits = out.logits_per_image
    rows = F.cross_entropy(logits.float(), target)
    return (rows + F.cross_entropy(logits.float().T, target)) / 2


def main() -> None:
    args, config = settings.parse(__doc__)
    own, device, seed = config["scorer"], args.device, config["seed"]
    torch.manual_seed(seed)
    fast = device.startswith("cuda")
    pictures = settings.pictures(args, device)
    tokenizer = CLIPTokenizer.from_pretrained(args.runs / "tokenizer")
    table = text.TokenTable(pictures.rows, tokenizer, seed + 7, config["unet"]["captions"]).to(device)
    source = Backgrounds(pictures.pixels, config["data"], seed, pictures.flips)
    size = config["data"]["size"]
    model = build(own, size, config["text"]["length"], tokenizer).to(device)
    average = Average(model)
    optimiser = torch.optim.AdamW(
        model.parameters(), own["lr"], betas=(0.9, 0.98), weight_decay=0.05, fused=True
    )
    kept = Checkpoint(args.runs / "scorer.pt", model, average, optimiser, device)
    step = kept.step
    clock = Clock(own["minutes"] * 60, kept.spent_s)
    for step, bar in clock.steps(kept.step, "scorer"):
        for group in optimiser.param_groups:
            group["lr"] = own["lr"] * rate(clock.share, step)
        index, colour = source.choose(own["batch"])
        if step % 4:  # one colour for all: the background tells nothing apart, the subject must
            colour = colour[:1].expand_as(colour).contiguous()
        picture = source.place(index, colour)
        picture = picture + 0.05 * source.uniform(len(index), 1, 1, 1) * torch.randn_like(picture)
        ids = table.draw(index, colour, source.uniform(len(index)), index < 0)
        key = index * 100 + colour
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=fast):
            loss = contrast(model, picture, ids, key[:, None] == key)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=4.6)
        average.update(model, step)
        if step % 20 == 0:
            bar.set_postfix_str(f" step {step} loss {loss.item():.3f}")
        kept.save(step, clock.spent_s, every_s=60)
    kept.save(step, clock.spent_s)
    export(average.model, tokenizer, size, args.runs / "scorer")


def export(model: CLIPModel, tokenizer: CLIPTokenizer, size: int, out: Path) -> None:
    model.half().save_pretrained(out, safe_serialization=True)
    processor(tokenizer, size).save_pretrained(out)


if __name__ == "__main__":
    main()
