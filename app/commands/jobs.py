"""`lodestar jobs`: look after the jobs of a running service."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from app.client import ApiError, Client, Job, NoAnswer
from app.console import fail, table

T = TypeVar("T")
Server = Annotated[str, typer.Option(envvar="LODESTAR_SERVER", help="address of the service")]
Id = Annotated[str, typer.Argument(help="as `lodestar jobs list` shows it")]
URL = "http://127.0.0.1:8000"

jobs = typer.Typer(help="The jobs of a running service.", no_args_is_help=True)


@jobs.command("list")
def list_(
    status: Annotated[list[str] | None, typer.Option(help="queued, failed, ...; may be repeated")] = None,
    tag: Annotated[str | None, typer.Option(help="jobs with this tag alone")] = None,
    limit: Annotated[int, typer.Option(help="at most so many, newest first", min=1, max=100)] = 20,
    server: Server = URL,
) -> None:
    """List jobs, newest first."""
    found = _ask(server, lambda client: client.list(status=status, tag=tag, limit=limit))
    table(("id", "status", "model", "guidance", "images", "prompt"), [_row(job) for job in found])


@jobs.command()
def show(id: Id, server: Server = URL) -> None:
    """Print everything about a job, as JSON."""
    job = _ask(server, lambda client: client.get(id))
    typer.echo(json.dumps(job.model_dump(mode="json"), indent=2, ensure_ascii=False))


@jobs.command()
def cancel(id: Id, server: Server = URL) -> None:
    """Stop a job that waits or runs."""
    job = _ask(server, lambda client: client.cancel(id))
    typer.echo(f"job {job.id} is {'canceled' if job.ended else 'being canceled'}")


@jobs.command()
def retry(id: Id, server: Server = URL) -> None:
    """Run an ended job again, with the same seeds."""
    job = _ask(server, lambda client: client.retry(id))
    typer.echo(f"job {job.id} is {job.status}")


def _row(job: Job) -> tuple[str, ...]:
    ran = job.resolved or {}
    prompt = str(ran.get("prompt", ""))
    guidance = ran.get("guidance", {}).get("method", "")
    shown = prompt if len(prompt) <= 40 else f"{prompt[:39]}…"
    return job.id, job.status, ran.get("model", ""), guidance, str(len(job.images)), shown


def _ask(server: str, call: Callable[[Client], T]) -> T:
    """What the service answers. Exits when it does not, or refuses."""
    try:
        with Client(server) as client:
            client.ping()
            return call(client)
    except NoAnswer:
        fail(
            f"no service answers at {server}; start one with `lodestar serve`, or name it: --server http://..."
        )
    except ApiError as error:
        fail(error.detail)
