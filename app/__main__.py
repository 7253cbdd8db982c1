"""The `lodestar` command."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from app import logs, tracing
from app.batch.command import batch
from app.commands.doctor import doctor
from app.commands.guidance import guidance as methods
from app.commands.jobs import jobs
from app.commands.keys import keys
from app.comparison.command import Many, compare
from app.console import (
    Catalogue,
    Classes,
    DataDir,
    Profile,
    Redis,
    base64_of,
    fail,
    guidance_of,
    read_settings,
    table,
)
from app.models import models
from guidance import REGISTRY

cli = typer.Typer(
    help="Diffusion sampling in which the guidance method is a per-request choice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli.add_typer(batch, name="batch")
cli.add_typer(models, name="models")
cli.add_typer(keys, name="keys")
cli.add_typer(jobs, name="jobs")
cli.add_typer(methods, name="guidance")
cli.command()(doctor)
cli.command("compare", cls=Many)(compare)


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="address to listen on (127.0.0.1)")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on; 0 takes a free one (8000)")] = None,
    workers: Annotated[int | None, typer.Option(help="worker processes; 0 for the API alone (1)")] = None,
    data_dir: DataDir = None,
    redis_url: Redis = None,
    catalogue: Catalogue = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error (warning)")] = None,
    profile: Profile = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", envvar="LODESTAR_INSECURE", help="ask nobody for an API key")
    ] = False,
) -> None:
    """Start API, queue and workers; stop them with Ctrl-C. Further settings: LODESTAR_* variables."""
    from app.supervisor import CannotServe, serve

    settings = read_settings(
        host=host, port=port, workers=workers, data_dir=data_dir, redis_url=redis_url, catalogue=catalogue,
        log_level=log_level, profile=profile,
    )  # fmt: skip
    if "log_level" not in settings.model_fields_set:
        settings = settings.model_copy(update={"log_level": "warning"})
    logs.configure(settings, "%(levelname)s %(name)s: %(message)s")
    try:
        tracing.configure("lodestar-api")
        code = serve(settings, logs.speaker(settings), insecure)
    except (CannotServe, ValueError) as error:
        fail(str(error))
    except KeyboardInterrupt:  # while the queue starts
        code = 130
    raise typer.Exit(code)


@cli.command()
def worker(
    data_dir: DataDir = None, redis_url: Redis = None, catalogue: Catalogue = None, profile: Profile = None
) -> None:
    """Run one more worker for a running service; for one on this machine, its --data-dir is enough."""
    from app.crew import PARENT
    from app.queue.embedded import NoServer, running_server

    if parent := os.environ.get(PARENT):
        end_with(int(parent))
    settings = read_settings(data_dir=data_dir, redis_url=redis_url, catalogue=catalogue, profile=profile)
    if settings.redis_url is None:
        try:
            url = running_server(settings.data_dir)
        except NoServer as error:
            fail(str(error))
        settings = settings.model_copy(update={"redis_url": url})
    from workers.worker import main

    try:
        code = main(settings)
    except ValueError as error:
        fail(str(error))
    raise typer.Exit(code)


@cli.command()
def generate(
    prompt: Annotated[str, typer.Argument(help='what the picture shows: "a red apple, 3d"')],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="a .png; several become out-1.png, out-2.png, ...")
    ] = Path("out.png"),
    guidance: Annotated[str | None, typer.Option(help=f"one of: {', '.join(REGISTRY)}")] = None,
    scale: Annotated[float | None, typer.Option(help="its strength")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a further guidance parameter")
    ] = None,
    model: Annotated[str | None, typer.Option(help="a name of `lodestar catalogue`")] = None,
    embedded_scale: Annotated[
        float | None, typer.Option(help="what a model with a guidance scale built in is told")
    ] = None,
    clip_skip: Annotated[int | None, typer.Option(help="last layers of CLIP to leave out")] = None,
    sampler: Annotated[str | None, typer.Option(help="a name of `lodestar catalogue`")] = None,
    steps: int | None = None,
    seed: Annotated[list[int] | None, typer.Option(help="one picture per seed; may be repeated")] = None,
    n: Annotated[int | None, typer.Option("-n", help="that many pictures with seeds drawn")] = None,
    negative: Annotated[str | None, typer.Option(help="what it shall not show")] = None,
    width: int | None = None,
    height: int | None = None,
    class_: Classes = None,
    init_image: Annotated[
        Path | None, typer.Option(help="a picture to start from: PNG, JPEG or WebP")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="its part that is made anew: white in a picture of its size")
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="share of the steps that change it, up to 1 (0.8; with a mask 1)"),
    ] = None,
    source_prompt: Annotated[
        str | None, typer.Option(help="edit it: what it shows; the prompt says what it shall show")
    ] = None,
    server: Annotated[str, typer.Option(envvar="LODESTAR_SERVER")] = "http://127.0.0.1:8000",
    local: Annotated[bool, typer.Option("--local", help="in this process, without a service")] = False,
) -> None:
    """Make pictures: with the running service, or with --local in this process."""
    from app import generation

    if output.suffix.lower() != ".png":
        fail(f"{output} is not a .png; pictures are written as PNG, which holds the request that made them")
    if not output.parent.is_dir():
        fail(f"there is no directory {output.parent}")
    asked = {
        "prompt": prompt, "negative_prompt": negative, "model": model, "sampler": sampler, "steps": steps,
        "clip_skip": clip_skip,
        "embedded_scale": embedded_scale, "seeds": seed or None, "n": n, "width": width, "height": height,
        "guidance": guidance_of(guidance, scale, set_ or []), "classes": class_ or None, "strength": strength,
        "init_image": None if init_image is None else base64_of(init_image),
        "mask": None if mask is None else base64_of(mask),
        "edit": None if source_prompt is None else {"source_prompt": source_prompt},
    }  # fmt: skip
    given = {name: value for name, value in asked.items() if value is not None}
    try:
        made = generation.local(given, read_settings()) if local else generation.remote(given, server)
    except generation.Failed as error:
        fail(str(error))
    for warning in made.warnings:
        typer.echo(f"warning: {warning}", err=True)
    for number, picture in enumerate(made.pictures, 1):
        path = output if len(made.pictures) == 1 else output.with_stem(f"{output.stem}-{number}")
        try:
            path.write_bytes(picture.png)
        except OSError as error:
            fail(f"cannot write {path}: {error.strerror}")
        typer.echo(f"seed {picture.seed}  {path}  nfe {picture.nfe}  {made.seconds:.2f} s")


@cli.command()
def catalogue(catalogue: Catalogue = None) -> None:
    """List models, samplers and guidance methods."""
    from app.catalogue import load_catalogue
    from samplers.cards import CARDS

    try:
        models = load_catalogue(read_settings(catalogue=catalogue).catalogue).models.values()
    except ValueError as error:
        fail(str(error))
    table(
        ("model", "title", "family", "size", "steps", "sampler"),
        [(m.id, m.title, m.family, f"{m.width}x{m.height}", str(m.steps), m.sampler) for m in models],
    )
    table(
        ("sampler", "title", "families", "order", "noise"),
        [
            (c.name, c.title, ", ".join(c.families), str(c.order), "at each step" if c.stochastic else "")
            for c in CARDS.values()
        ],
    )
    table(
        ("guidance", "title", "what it does"),
        [(name, method.title, method.summary) for name, method in REGISTRY.items()],
    )


def end_with(parent: int) -> None:
    """Be told to stop when the parent is gone, however it went (on Linux at once)."""
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        fail("the process that started this worker is gone")


def main() -> None:
    """Run the command."""
    cli(prog_name="lodestar")


if __name__ == "__main__":
    main()
