"""`lodestar compare`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from app.client import Client, NoAnswer
from app.comparison.run import CannotCompare, parse_arm
from app.comparison.run import compare as run
from app.console import Classes, fail

MANY = ("--arms", "--prompt", "--prompts", "--seeds", "--metrics")


class Many(TyperCommand):
    """A command whose options in MANY take all values up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spread(args, MANY))


def spread(args: Sequence[str], names: Collection[str]) -> list[str]:
    """`--arms a b` as `--arms a --arms b`."""
    out: list[str] = []
    option = ""
    first = True
    for arg in args:
        if arg.startswith("--"):
            option, first = (arg if arg in names else ""), True
            out.append(arg)
        else:
            out += [arg] if first or not option else [option, arg]
            first = False
    return out


def compare(
    arms: Annotated[
        list[str], typer.Option("--arms", help="METHOD:SCALE[,KEY=VALUE...] each; the first is the baseline")
    ],
    prompts: Annotated[list[str] | None, typer.Option("--prompt", "--prompts", help="one or more")] = None,
    prompt_file: Annotated[Path | None, typer.Option(help="further prompts, one a line")] = None,
    seeds: Annotated[list[int] | None, typer.Option("--seeds", help="one or more (1 2 3 4)")] = None,
    html: Annotated[Path, typer.Option(help="the report; one file with everything in it")] = Path(
        "report.html"
    ),
    model: Annotated[str | None, typer.Option(help="a name of `lodestar catalogue`")] = None,
    sampler: Annotated[str | None, typer.Option(help="a name of `lodestar catalogue`")] = None,
    steps: int | None = None,
    metrics: Annotated[
        list[str] | None, typer.Option("--metrics", help="basic, unless given; clip also compares sets")
    ] = None,
    equal_nfe: Annotated[
        bool, typer.Option("--equal-nfe", help="steps by arm, so that all cost what the first one does")
    ] = False,
    class_: Classes = None,
    negative: Annotated[str | None, typer.Option(help="what they shall not show")] = None,
    width: int | None = None,
    height: int | None = None,
    server: Annotated[str, typer.Option(envvar="LODESTAR_SERVER")] = "http://127.0.0.1:8000",
) -> None:
    """Make every prompt with every arm and every seed, and write a report.

    lodestar compare --arms cfg:7.5 cfgpp:0.6 apg:10 --prompt "a red apple" --seeds 1 2 3 --html report.html
    """
    if not html.parent.is_dir():
        fail(f"there is no directory {html.parent}")
    texts = list(prompts or [])
    if prompt_file is not None:
        try:
            texts += [line.strip() for line in prompt_file.read_text().splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            fail(f"cannot read {prompt_file}: {error}")
    asked = {
        "model": model, "sampler": sampler, "steps": steps, "negative_prompt": negative,
        "width": width, "height": height, "classes": class_ or None, "metrics": metrics or None,
    }  # fmt: skip
    given = {name: value for name, value in asked.items() if value is not None}
    try:
        parsed = [parse_arm(text) for text in arms]
        with Client(server) as client:
            client.ping()
            found = run(client, texts, parsed, seeds or [1, 2, 3, 4], given, equal_nfe)
    except NoAnswer:
        fail(
            f"no service answers at {server}; start one with `lodestar serve`, or name yours: --server http://..."
        )
    except CannotCompare as error:
        fail(str(error))
    try:
        html.write_text(found.report, encoding="utf-8")
    except OSError as error:
        fail(f"cannot write {html}: {error.strerror}")
    for text in dict.fromkeys(found.failures):
        typer.echo(f"failed: {text}", err=True)
    typer.echo(f"{found.pictures} pictures in {html}; look at them in the browser: {found.page}")
    raise typer.Exit(1 if found.failures else 0)
