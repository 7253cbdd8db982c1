"""`lodestar batch`: large offline work from the command line."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from app.batch.client import BatchClient
from app.batch.results import RESULTS, BatchError
from app.batch.rows import read_jsonl
from app.batch.saving import from_server
from app.batch.table import write_table
from app.console import Catalogue, Classes, DataDir, Redis, fail, guidance_of, read_settings

batch = typer.Typer(help="Large offline work, straight through the queue.", no_args_is_help=True)

WORDS = {"kept": "done before", "refused": "refused", "failed": "failed", "waiting": "still in the queue"}
OutOf = Annotated[Path, typer.Argument(help="the folder that the batch writes into")]


@batch.command()
def run(
    prompts: Annotated[
        Path,
        typer.Argument(help='JSON Lines, {"prompt": "a cat", "seeds": [1]} or "a cat"; - is stdin'),
    ],
    out: Annotated[Path, typer.Option(help="folder for pictures and results.jsonl; it may be gone on with")],
    guidance: Annotated[str | None, typer.Option(help="for rows that name none")] = None,
    scale: Annotated[float | None, typer.Option(help="its strength")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a further guidance parameter")
    ] = None,
    model: Annotated[str | None, typer.Option(help="for rows that name none, like all options below")] = None,
    sampler: str | None = None,
    steps: int | None = None,
    seed: Annotated[list[int] | None, typer.Option(help="one picture per seed; may be repeated")] = None,
    n: Annotated[int | None, typer.Option("-n", help="that many pictures a row, with seeds drawn")] = None,
    class_: Classes = None,
    negative: Annotated[str | None, typer.Option(help="what it shall not show")] = None,
    width: int | None = None,
    height: int | None = None,
    priority: Annotated[str | None, typer.Option(help="interactive, normal or batch (batch)")] = None,
    in_flight: Annotated[int, typer.Option(help="jobs in the queue at a time")] = 256,
    server: Annotated[
        str | None,
        typer.Option(envvar="LODESTAR_SERVER", help="fetch pictures there, not in --data-dir"),
    ] = None,
    data_dir: DataDir = None,
    redis_url: Redis = None,
    catalogue: Catalogue = None,
) -> None:
    """Have every row of PROMPTS done. Ctrl-C stops; the same command goes on where it stopped."""
    defaults = {
        "negative_prompt": negative, "model": model, "sampler": sampler, "steps": steps,
        "seeds": seed or None, "n": n, "width": width, "height": height, "priority": priority,
        "guidance": guidance_of(guidance, scale, set_ or []), "classes": class_ or None,
    }  # fmt: skip
    given = {name: value for name, value in defaults.items() if value is not None}
    settings = read_settings(data_dir=data_dir, redis_url=redis_url, catalogue=catalogue)
    with ExitStack() as stack:
        try:
            stdin = str(prompts) == "-"
            file = sys.stdin.buffer if stdin else stack.enter_context(prompts.open("rb"))
            total = None
            if not stdin:
                total = sum(row is not None for row in read_jsonl(file, settings.max_body_bytes))
                file.seek(0)
        except OSError as error:
            fail(f"cannot read {prompts}: {error.strerror}")
        try:
            fetch = from_server(server) if server else None
            client = BatchClient(settings, in_flight=in_flight, fetch=fetch)
            tally = client.run(read_jsonl(file, settings.max_body_bytes), out, defaults=given, total=total)
        except BatchError as error:
            fail(str(error))
        except KeyboardInterrupt:  # a second Ctrl-C
            typer.echo("lodestar: stopped at once; the same command goes on", err=True)
            raise typer.Exit(130) from None
    counts = f"{tally.succeeded} rows done ({tally.images} pictures)"
    for what in ("kept", "refused", "failed", "waiting"):
        if count := getattr(tally, what):
            counts += f", {count} {WORDS[what]}"
    typer.echo(f"{counts}; see {out / RESULTS}")
    if tally.stopped:
        typer.echo(
            f"stopped; the same command goes on, `lodestar batch cancel {out}` clears the queue", err=True
        )
    raise typer.Exit(0 if tally.good else 130 if tally.stopped else 1)


@batch.command()
def parquet(out: OutOf) -> None:
    """Write results.parquet beside results.jsonl, a row per picture with its metrics."""
    try:
        typer.echo(write_table(out))
    except BatchError as error:
        fail(str(error))


@batch.command()
def cancel(out: OutOf, data_dir: DataDir = None, redis_url: Redis = None) -> None:
    """End the jobs that a stopped batch left in the queue."""
    settings = read_settings(data_dir=data_dir, redis_url=redis_url)
    try:
        count = BatchClient(settings).cancel(out)
    except BatchError as error:
        fail(str(error))
    typer.echo(f"{count} jobs canceled")
