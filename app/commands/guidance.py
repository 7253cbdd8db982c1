"""`lodestar guidance`: the methods, each one's parameters, and LinearAG's fit, without a service."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from app.catalogue import load_catalogue
from app.console import Catalogue, DataDir, fail, read_settings, table
from app.fits import Key, keep
from guidance import REGISTRY

PROMPTS = (
    "a red apple", "a cat", "a tree", "a smiling face", "a slice of pizza", "a fish", "a sunflower", "an owl",
    "a strawberry", "a dog", "a cup of coffee", "a butterfly", "a burger", "a horse", "a mushroom", "a bear",
)  # fmt: skip
"""What is fitted on where no file of prompts is given."""

guidance = typer.Typer(help="The guidance methods.", no_args_is_help=True)


@guidance.command("list")
def list_() -> None:
    """List the methods."""
    rows = [(name, one.title, one.paper.arxiv, one.summary) for name, one in REGISTRY.items()]
    table(("method", "title", "arXiv", "what it does"), rows)


@guidance.command()
def show(method: Annotated[str, typer.Argument(help="a name of `lodestar guidance list`")]) -> None:
    """Show a method's paper and parameters, for --guidance, --scale and --set."""
    if method not in REGISTRY:
        fail(f"there is no guidance method {method!r}; there are: {', '.join(REGISTRY)}")
    one = REGISTRY[method]
    typer.echo(f"{one.title}: {one.summary}\nhttps://arxiv.org/abs/{one.paper.arxiv}\n")
    fields: dict[str, Any] = one.model_json_schema().get("properties", {})
    rows = [
        (name, str(field.get("default", "")), _range(field), field.get("description", ""))
        for name, field in fields.items()
        if name != "method"
    ]
    table(("parameter", "default", "allowed", "meaning"), rows)


@guidance.command("fit-linear-ag")
def fit_linear_ag(
    model: Annotated[
        str | None, typer.Option(help="a name of `lodestar catalogue`; the default model")
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="a first-order sampler; the model's")] = None,
    steps: Annotated[int | None, typer.Option(min=2, help="the model's default")] = None,
    scale: Annotated[float | None, typer.Option(min=0, help="of CFG; the model's default, or 7.5")] = None,
    images: Annotated[int, typer.Option(min=4, help="one in four is held out")] = 32,
    prompts: Annotated[Path | None, typer.Option(help="a prompt per line; some everyday things")] = None,
    data_dir: DataDir = None,
    catalogue: Catalogue = None,
) -> None:
    """Fit LinearAG (method adaptive, variant linear) for one model, sampler, step count and scale.

    It samples with CFG in this process, keeps the coefficients in the data directory, where a service with
    that directory finds them at once, and says what they are worth on images that they were not fitted on.
    """
    settings = read_settings(data_dir=data_dir, catalogue=catalogue)
    try:
        cards = load_catalogue(settings.catalogue)
        texts = PROMPTS if prompts is None else [line for line in prompts.read_text().splitlines() if line]
    except (ValueError, OSError) as error:
        fail(str(error))
    if model is not None and model not in cards.models:
        fail(f"there is no model {model!r} in the catalogue; there are: {', '.join(cards.models)}")
    card = cards.default if model is None else cards.models[model]
    usual = getattr(card.guidance, "scale", 7.5)
    key = Key(card.id, sampler or card.sampler, steps or card.steps, usual if scale is None else scale)

    import torch

    from app.hub import at_hand
    from samplers import linear_fit
    from samplers.models import load

    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    try:
        here = at_hand(card)
        loaded = load(here.source, **here.load_options(settings.dtype, settings.device))
        found = linear_fit.fit_linear_ag(
            loaded, texts, sampler=key.sampler, steps=key.steps, scale=key.scale, images=images, progress=True
        )
    except (ValueError, OSError) as error:
        fail(str(error))
    measured = asdict(found)
    path = keep(settings.data_dir, key, measured.pop("coefficients"), measured)
    for line in _told(found):
        typer.echo(line)
    typer.echo(f"kept in {path}")


def _told(found: Any) -> list[str]:
    """What a fit is worth, in sentences."""
    return [
        f"on {found.images // 4} held-out images, at the worst step, the estimates explain "
        f"{100 * found.explained:.3f} % of the unconditional noise; "
        f"the conditional noise, {100 * found.copied:.3f} %",
        f"RMSE of the final latents to CFG's: {found.error:.3g} (without estimates {found.half_error:.3g}, "
        f"without guidance {found.unguided_error:.3g})",
        f"{found.evaluations} evaluations an image; CFG takes {found.cfg_evaluations}",
    ]


def _range(field: dict[str, Any]) -> str:
    """What a parameter takes, from its schema."""
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {field[key]:g}" for key, sign in signs.items() if key in field]
    return ", ".join(bounds) or field.get("type", "")
