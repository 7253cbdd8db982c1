"""`lodestar keys`: make, list and revoke the API keys of a service, whether it runs now or not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Annotated, TypeVar, cast, get_args

import typer
from pydantic import ValidationError
from redis.exceptions import RedisError

from app.console import DataDir, Redis, fail, read_settings, table
from app.keys import KeyStore, Limits, Scope
from app.queue.embedded import NoServer, embedded_server

T = TypeVar("T")
keys = typer.Typer(help="API keys, which a service beyond this machine asks for.", no_args_is_help=True)


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="whose key it is, for you to know")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="read, write, metrics or admin; may be repeated (read and write)"),
    ] = None,
    per_minute: Annotated[int | None, typer.Option(help="jobs that it may create in a minute")] = None,
    max_open: Annotated[int | None, typer.Option(help="jobs that it may have waiting and running")] = None,
    pixel_steps: Annotated[
        int | None, typer.Option(help="width x height x steps x pictures that it may use in a day")
    ] = None,
    weight: Annotated[
        int, typer.Option(min=1, max=100, help="its share of the workers' time while others wait too")
    ] = 1,
    data_dir: DataDir = None,
    redis_url: Redis = None,
) -> None:
    """Make a key and print it, once: only a digest of it is kept."""
    try:
        limits = Limits(per_minute=per_minute, max_open=max_open, pixel_steps=pixel_steps)
    except ValidationError as error:
        one = error.errors()[0]
        fail(f"--{str(one['loc'][0]).replace('_', '-')}: {one['msg']}")
    if unknown := set(scope or ()) - set(get_args(Scope)):
        fail(f"there is no scope {min(unknown)!r}; there are: {', '.join(get_args(Scope))}")
    scopes = cast(list[Scope], scope or ["read", "write"])
    key, token = _with_store(data_dir, redis_url, lambda store: store.create(name, scopes, limits, weight))
    typer.echo(f"key {key.id} of {key.name}; it is shown only now:", err=True)
    typer.echo(token)


@keys.command("list")
def list_(data_dir: DataDir = None, redis_url: Redis = None) -> None:
    """List all keys, without their secrets."""
    found = _with_store(data_dir, redis_url, lambda store: store.all())
    rows = [
        (
            key.id,
            key.name,
            ", ".join(key.scopes),
            str(key.weight),
            *(str(limit or "") for limit in key.limits.model_dump().values()),
            f"{datetime.fromtimestamp(key.created_at_ms / 1e3, UTC):%Y-%m-%d %H:%M}",
        )
        for key in found
    ]
    table(
        (
            "id",
            "name",
            "scopes",
            "weight",
            "jobs a minute",
            "open jobs",
            "pixel-steps a day",
            "created (UTC)",
        ),
        rows,
    )


@keys.command()
def revoke(
    id: Annotated[str, typer.Argument(help="as `lodestar keys list` shows it")],
    data_dir: DataDir = None,
    redis_url: Redis = None,
) -> None:
    """Revoke a key: its next request is refused."""
    if not _with_store(data_dir, redis_url, lambda store: store.revoke(id)):
        fail(f"there is no key {id!r}; `lodestar keys list` shows all")
    typer.echo(f"key {id} is revoked")


def _with_store(data_dir: DataDir, redis_url: Redis, call: Callable[[KeyStore], Awaitable[T]]) -> T:
    """What `call` makes of that service's keys. A queue that does not run is started for the moment."""
    settings = read_settings(data_dir=data_dir, redis_url=redis_url)

    async def work(url: str) -> T:
        store = KeyStore(url, settings.redis_prefix)
        try:
            return await call(store)
        finally:
            await store.close()

    with ExitStack() as stack:
        try:
            url = settings.redis_url or stack.enter_context(embedded_server(settings.data_dir))
            return asyncio.run(work(url))
        except (NoServer, OSError, RedisError) as error:
            fail(f"the keys cannot be reached: {error}")
