"""`lodestar doctor`: what a service needs here, whether it is there, and what to do where it is not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import typer
from redis.exceptions import NoPermissionError, RedisError

from app.catalogue import load_catalogue
from app.console import Catalogue, DataDir, Redis, read_settings
from app.hub import NotHere, at_hand, is_hub_id
from app.queue.connection import connect
from app.queue.embedded import MIN_VERSION, NoServer, answers, server_binary, socket_path
from app.settings import Settings
from app.storage.local import LocalStorage
from app.storage.opening import open_storage


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    good: bool
    detail: str


def doctor(data_dir: DataDir = None, redis_url: Redis = None, catalogue: Catalogue = None) -> None:
    """Check queue, storage, models, device and port; say what to do, and exit with 1, where one is amiss."""
    settings = read_settings(data_dir=data_dir, redis_url=redis_url, catalogue=catalogue)
    amiss = False
    for check in (queue, storage, models, device, port):
        for finding in check(settings):
            amiss |= not finding.good
            typer.echo(f"{'ok ' if finding.good else 'NO '} {finding.what:<9} {finding.detail}")
    raise typer.Exit(int(amiss))


def queue(settings: Settings) -> Iterator[Finding]:
    """The server that is named, or the one that would be started."""
    if settings.redis_url is None:
        url = f"unix://{socket_path(settings.data_dir.resolve())}"
        if answers(url):
            yield Finding("queue", True, f"a service runs in {settings.data_dir}")
            return
        try:
            yield Finding("queue", True, f"to be started from {server_binary()}")
        except NoServer as error:
            yield Finding("queue", False, str(error))
        return
    try:
        version, policy, written = asyncio.run(_ask_server(settings.redis_url, settings.redis_prefix))
    except (RedisError, OSError) as error:
        yield Finding("queue", False, f"no answer from the server named by --redis-url: {error}")
        return
    fit = int(version.partition(".")[0]) >= MIN_VERSION
    yield Finding("queue", fit, f"version {version}" + ("" if fit else f"; use {MIN_VERSION} or newer"))
    if policy != "noeviction":
        yield Finding(
            "queue", False, "it may drop jobs when memory is short: CONFIG SET maxmemory-policy noeviction"
        )
    if written != "yes":
        yield Finding("queue", False, "a restart of it loses jobs: CONFIG SET appendonly yes")


async def _ask_server(url: str, prefix: str) -> tuple[str, str, str]:
    """Its version, maxmemory-policy and appendonly; it need not tell us the last two."""
    async with connect(url, prefix, repeats=False) as client:
        told = await client.info("server")
        version = str(told.get("valkey_version") or told.get("redis_version"))
        try:
            found = await client.config_get("maxmemory-policy", "appendonly")
        except NoPermissionError:
            found = {}
        return version, found.get("maxmemory-policy") or "noeviction", found.get("appendonly") or "yes"


def storage(settings: Settings) -> Iterator[Finding]:
    """The directory or the object store for pictures, and the directory that a service has in any case."""
    if settings.storage_url is not None:
        try:
            asyncio.run(open_storage(settings).check())
            yield Finding("storage", True, f"{settings.storage_url} can be written")
        except (OSError, ValueError) as error:
            detail = f"{settings.storage_url}: {error}; see LODESTAR_STORAGE_URL and the AWS_* variables"
            yield Finding("storage", False, detail)
    try:
        asyncio.run(LocalStorage(settings.data_dir).check())
        yield Finding("storage", True, f"{settings.data_dir} can be written")
    except OSError as error:
        detail = (
            f"{settings.data_dir} cannot be written ({error.strerror}); set --data-dir or LODESTAR_DATA_DIR"
        )
        yield Finding("storage", False, detail)


def models(settings: Settings) -> Iterator[Finding]:
    """The catalogue, and whether each model's folder is there."""
    try:
        cards = load_catalogue(settings.catalogue).models.values()
    except ValueError as error:
        yield Finding("models", False, f"{error}; LODESTAR_CATALOGUE names the file")
        return
    for card in cards:
        if card.source != "toy" and not is_hub_id(card.source) and not Path(card.source).is_dir():
            detail = f"{card.id}: there is no folder {card.source}, as the catalogue has it"
            yield Finding("models", False, detail)
            continue
        try:
            at_hand(card)
            yield Finding("models", True, f"{card.id}: here")
        except NotHere as error:
            yield Finding("models", False, str(error))
        except ImportError:
            yield Finding("models", True, f"{card.id}: not looked for, as no workers can run here")


def device(settings: Settings) -> Iterator[Finding]:
    """What the workers would run on."""
    try:
        import torch
    except ImportError as error:
        yield Finding("device", False, f"no workers can run here, PyTorch is not installed: {error}")
        return
    cuda = torch.cuda.is_available()
    if settings.device.startswith("cuda") and not cuda:
        yield Finding(
            "device", False, f"LODESTAR_DEVICE is {settings.device}, but PyTorch sees no NVIDIA GPU"
        )
        return
    name = torch.cuda.get_device_name() if cuda and settings.device != "cpu" else "the CPU"
    yield Finding("device", True, f"{name}; PyTorch {torch.__version__}")


def port(settings: Settings) -> Iterator[Finding]:
    """Whether the service could listen."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host if settings.host != "localhost" else "127.0.0.1", settings.port))
            yield Finding("port", True, f"{settings.port} on {settings.host} is free")
        except OSError as error:
            detail = f"{settings.port} on {settings.host}: {error.strerror}; set --port or LODESTAR_PORT"
            yield Finding("port", False, detail)
