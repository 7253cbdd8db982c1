"""`lodestar models`: the models of the catalogue on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.catalogue import ModelCard, load_catalogue
from app.console import Catalogue, fail, read_settings, table

models = typer.Typer(help="The catalogue's models on this machine.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="a model of the catalogue")]


@models.command()
def pull(name: Name, catalogue: Catalogue = None) -> None:
    """Fetch a model from the Hugging Face hub, as far as it is not here already."""
    from app import hub

    card = _card(name, catalogue)
    try:
        found = hub.pull(card)
    except hub.CannotPull as error:
        fail(str(error))
    typer.echo(f"{name} is here: {found.source}")
    if hub.is_hub_id(card.source) and card.revision is None:
        typer.echo(f'to keep exactly this one, add to its entry: revision = "{Path(found.source).name}"')


@models.command()
def check(
    name: Name,
    catalogue: Catalogue = None,
    rows: Annotated[int, typer.Option(min=1, help="most rows of one forward that are timed")] = 8,
) -> None:
    """Load a model, make one step, and print its memory and the time of a forward by rows."""
    from app import hub
    from samplers.models.checkup import examine

    card, settings = _card(name, catalogue), read_settings()
    try:
        here = hub.at_hand(card)
        size = (card.width, card.height)
        found = examine(here.source, here.load_options(settings.dtype, settings.device), size, rows)
    except (ValueError, OSError) as error:
        fail(f"{name} does not work: {error}")
    typer.echo(f"{name} works on {found.device} in {found.dtype}; loaded in {found.load_s:.1f} s")
    weights, most = found.weights_bytes / 2**20, found.memory_bytes / 2**20
    typer.echo(f"its weights take {weights:.0f} MiB; {most:.0f} MiB were in use at most")
    table(
        ("rows", "ms a forward", "ms a row"),
        [(str(n), f"{ms:.1f}", f"{ms / n:.1f}") for n, ms in found.forward_ms.items()],
    )


def _card(name: str, catalogue: Catalogue) -> ModelCard:
    try:
        cards = load_catalogue(read_settings(catalogue=catalogue).catalogue).models
    except ValueError as error:
        fail(str(error))
    if name not in cards:
        fail(f"there is no model {name!r} in the catalogue; there are: {', '.join(cards)}")
    return cards[name]
