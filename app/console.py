"""What the commands of `lodestar` share: options, settings, tables, and how they fail."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from app.settings import Settings

REDIS = ["LODESTAR_REDIS_URL", "REDIS_URL"]
Catalogue = Annotated[Path | None, typer.Option(help="a models.toml; without it, the built-in models")]
DataDir = Annotated[Path | None, typer.Option(help="where pictures and the queue lie (data)")]
Redis = Annotated[str | None, typer.Option(envvar=REDIS, help="redis://...; without it, one is embedded")]
Profile = Annotated[str | None, typer.Option(help="how networks run: eager, compiled or graphs (eager)")]
Classes = Annotated[
    list[str] | None, typer.Option("--class", help="a class besides the prompt's, for gfcg and classifier")
]


def guidance_of(method: str | None, scale: float | None, assignments: Sequence[str]) -> dict[str, Any] | None:
    """The guidance part of a request. Exits when a parameter has no method, or is none."""
    values: dict[str, Any] = {} if scale is None else {"scale": scale}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not (key and equals):
            fail(f"--set takes KEY=VALUE, as in --set eta=0.5, not {assignment!r}")
        values[key] = value_of(text)
    if method is None:
        if values:
            fail("--scale and --set belong to a method: add --guidance, as in --guidance apg --scale 10")
        return None
    return {"method": method, **values}


def base64_of(picture: Path) -> str:
    """A picture's file as a request takes it. Exits when it cannot be read."""
    try:
        return b64encode(picture.read_bytes()).decode()
    except OSError as error:
        fail(f"cannot read {picture}: {error.strerror}")


def value_of(text: str) -> Any:
    """A parameter's value as a person writes it: JSON where it is that, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def read_settings(**given: Any) -> Settings:
    """The settings, with those of the command line first. Exits when one is wrong, naming it."""
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        fail("; ".join(f"{_source(str(one['loc'][0]), given)}: {one['msg']}" for one in error.errors()))
    return settings.model_copy(update={"redis_url": settings.redis_url or None})


def _source(setting: str, given: Mapping[str, Any]) -> str:
    """Where a setting came from, as the person knows it."""
    if given.get(setting) is not None:
        return f"--{setting.replace('_', '-')}"
    return f"LODESTAR_{setting.upper()}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    typer.echo()


def fail(message: str) -> NoReturn:
    """Say why not, and exit with 1."""
    typer.echo(f"lodestar: {message}", err=True)
    raise typer.Exit(1)
