"""`lodestar guidance`: the methods, and each one's parameters, without a service."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.console import fail, table
from guidance import REGISTRY

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


def _range(field: dict[str, Any]) -> str:
    """What a parameter takes, from its schema."""
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {field[key]:g}" for key, sign in signs.items() if key in field]
    return ", ".join(bounds) or field.get("type", "")
