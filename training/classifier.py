"""Train the subgroup classifier: `python -m training.classifier`.

Clean and lightly noised pictures, one label a Unicode subgroup. `--label style`
trains the style judge that training.evaluate asks.
"""

from __future__ import annotations

import json

import torch
import torch.nn.functional as F
from transformers import ConvNextImageProcessorPil, ResNetConfig, ResNetForImageClassification

from training import settings
from training.data import Backgrounds
from training.schedule import Average, Clock, rate, save


def build(config: dict, labels: list[str]) -> ResNetForImageClassification:
    widths = config["widths"]
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=widths[0],
            hidden_sizes=widths,
            depths=[1] * len(widths),
            layer_type="basic",
            id2label=dict(enumerate(labels)),
            label2id={label: at for at, label in enumerate(labels)},
        )
    )


def main() -> None:
    label = {"choices": ("subgroup", "style"), "default": "subgroup"}
    args, config = settings.parse(__doc__, ("--label", label))
    own, device = config["classifier"], args.device
    torch.manual_seed(config["seed"])
    pictures = settings.pictures(args, device)
    labels = sorted({row[args.label] for row in pictures.rows})
    target = torch.tensor([labels.index(row[args.label]) for row in pictures.rows], device=device)
    source = Backgrounds(pictures.pixels, config["data"], config["seed"], pictures.flips)
    model = build(own, labels).to(device)
    average = Average(model)
    optimiser = torch.optim.AdamW(model.parameters(), own["lr"], weight_decay=0.05, fused=True)
    clock, step = Clock(own["minutes"] * 60), 0
    for step, bar in clock.steps(0, args.label):
        for group in optimiser.param_groups:
            group["lr"] = own["lr"] * rate(clock.share, step)
        index, colour = source.choose(own["batch"])
        picture = source.place(index, colour)
        noise = 0.3 * source.uniform(len(index), 1, 1, 1).square()
        logits = model(picture + noise * torch.randn_like(picture)).logits
        loss = F.cross_entropy(logits, target[index], label_smoothing=0.1)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        average.update(model, step)
        if step % 20 == 0:
            right = (logits.argmax(1) == target[index]).float().mean().item()
            bar.set_postfix_str(f" step {step} loss {loss.item():.3f} right {right:.2f}")
    # The averaged weights need statistics of their own.
    average.model.train()
    with torch.no_grad():
        for _ in range(50):
            average.model(source.place(*source.choose(own["batch"])))
    average.model.eval()
    folder = args.runs / ("classifier" if args.label == "subgroup" else "style")
    size = config["data"]["size"]
    average.model.save_pretrained(folder, safe_serialization=True)
    ConvNextImageProcessorPil(
        size={"shortest_edge": size}, image_mean=[0.5] * 3, image_std=[0.5] * 3, crop_pct=1.0
    ).save_pretrained(folder)
    things = {label: sorted({row["name"].lower() for row in pictures.rows if row[args.label] == label})
              for label in labels}  # fmt: skip
    if args.label == "subgroup":
        (folder / "things.json").write_text(json.dumps(things, indent=0))
    save(args.runs / f"{folder.name}.pt", {"step": step, "labels": labels})


if __name__ == "__main__":
    main()
