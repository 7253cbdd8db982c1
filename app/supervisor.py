"""What `lodestar serve` does: queue, workers and API as one service that starts and stops together."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import httpx
import uvicorn

from app.api.main import create_app
from app.catalogue import Catalogue, load_catalogue
from app.crew import Crew, Say
from app.keys import KeyStore
from app.queue.embedded import NoServer, embedded_server
from app.settings import Settings, is_loopback

PROBE_S = 0.1
CLOSE_S = 2.0
"""Time that open requests have to end when the service stops."""


class CannotServe(Exception):
    """The service cannot start; the message is for a person and says what to do."""


def serve(settings: Settings, say: Say, insecure: bool = False) -> int:
    """Run the service until it is told to stop; the exit code. Raises CannotServe."""
    began = time.monotonic()

    def tell(what: str, text: str) -> None:
        say(f"{time.monotonic() - began:6.1f} s  {what:<8} {text}")

    try:
        catalogue = load_catalogue(settings.catalogue)
    except ValueError as error:
        raise CannotServe(f"the catalogue is wrong: {error}") from error
    if insecure:
        settings = settings.model_copy(update={"require_keys": False})
    if not (insecure or settings.keys_required or is_loopback(settings.host)):
        raise CannotServe(
            f"anybody who reaches {settings.host} could use the service, as LODESTAR_REQUIRE_KEYS is off. "
            "Listen on 127.0.0.1, or add --insecure if the network itself keeps others out."
        )
    with ExitStack() as stack:
        listener = stack.enter_context(listen(settings.host, settings.port))
        port = int(listener.getsockname()[1])
        check_writable(settings.data_dir)
        try:
            url = settings.redis_url or stack.enter_context(embedded_server(settings.data_dir))
        except (NoServer, OSError) as error:
            raise CannotServe(f"the queue could not be started: {error}") from error
        running = settings.model_copy(
            update={"redis_url": url, "data_dir": settings.data_dir.resolve(), "port": port}
        )
        if running.keys_required and not asyncio.run(_has_keys(running)):
            place = "--redis-url ..." if settings.redis_url else f"--data-dir {settings.data_dir}"
            raise CannotServe(
                f"nobody could use the service: on {settings.host} it asks for API keys, and there are none. "
                f"Make one with `lodestar keys create NAME {place}`, listen on 127.0.0.1, or add --insecure "
                "if the network itself keeps others out."
            )
        tell("queue", "a server of your own" if settings.redis_url else f"embedded, in {settings.data_dir}")
        return asyncio.run(_serve(running, catalogue, listener, tell))


def check_writable(data_dir: Path) -> None:
    """Raise CannotServe, naming the setting, where nothing can be kept."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=data_dir):
            pass
    except OSError as error:
        raise CannotServe(
            f"cannot write to the data directory {data_dir}: {error.strerror}. Name one that this user may "
            "write to: --data-dir DIR, LODESTAR_DATA_DIR=DIR (make serve DATA_DIR=DIR)"
        ) from error


async def _has_keys(settings: Settings) -> bool:
    keys = KeyStore.connect(settings)
    try:
        return bool(await keys.all())
    finally:
        await keys.close()


async def _serve(
    settings: Settings, catalogue: Catalogue, listener: socket.socket, tell: Callable[[str, str], None]
) -> int:
    stopping = asyncio.Event()
    crew = Crew(settings, lambda text: tell("workers", text))

    def stop() -> None:
        if stopping.is_set():
            tell("stop", "at once")
            crew.kill()
        else:
            stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    async with _api(settings, listener) as api, crew.working():
        count = f"{settings.workers} process{'' if settings.workers == 1 else 'es'}"
        if settings.workers:
            tell("workers", f"{count} starting")
            tell("models", f"loading {catalogue.default.id}")
        told = asyncio.create_task(stopping.wait())
        ready = asyncio.create_task(_until_ready(settings, catalogue, crew, tell))
        everything: set[asyncio.Task[Any]] = {told, api, crew.failed}
        done, _ = await asyncio.wait({ready, *everything}, return_when=asyncio.FIRST_COMPLETED)
        if ready in done:
            ready.result()
            done, _ = await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        told.cancel()
        if crew.failed in done:
            raise CannotServe("the workers do not start; what they wrote above says why")
        if api in done and not stopping.is_set():
            raise CannotServe("the API stopped by itself; what it wrote above says why")
        tell("stop", f"finishing running jobs for at most {settings.drain_s:g} s (again: at once)")
    tell("stop", "done")
    return 0


async def _until_ready(
    settings: Settings, catalogue: Catalogue, crew: Crew, tell: Callable[[str, str], None]
) -> None:
    """Probe until work would be done, and say so."""
    url = own_url(settings)
    async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as http:
        path = "/readyz" if settings.workers else "/healthz"
        while True:
            with suppress(httpx.TransportError):
                if (await http.get(path)).is_success:
                    break
            await asyncio.sleep(PROBE_S)
        crew.proven = True
        if not settings.workers:
            tell("ready", f"{url}  (API only: jobs wait until you start a worker with `lodestar worker`)")
            return
        offered = (await http.get("/readyz")).json()["models"]
    for model in catalogue.models:
        if model not in offered:
            tell("models", f"{model} could not be loaded; what the worker wrote above says why")
    tell("ready", url)
    key = ' -H "Authorization: Bearer $LODESTAR_API_KEY"' if settings.keys_required else ""
    tell(
        "try",
        f"curl -s {url}/v1/jobs -H 'Content-Type: application/json' -H 'Prefer: wait=60'{key} \\\n"
        """  -d '{"prompt": "a red apple, 3d", "seeds": [1], "guidance": {"method": "cfg", "scale": 4}}'""",
    )


@asynccontextmanager
async def _api(settings: Settings, listener: socket.socket) -> AsyncGenerator[asyncio.Task[None]]:
    """The HTTP server, in this process."""
    config = uvicorn.Config(
        create_app(settings),
        log_config=None,
        access_log=False,  # `app.api.guard` writes one, with ids
        timeout_graceful_shutdown=int(CLOSE_S),
        lifespan="on",
    )
    server = Server(config)
    task = asyncio.create_task(server.serve([listener]))
    try:
        yield task
    finally:
        # Streams that are still open are cut; their readers come back by themselves.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        server.should_exit = True
        await task


class Server(uvicorn.Server):
    """uvicorn, with the signals left to us."""

    def capture_signals(self) -> nullcontext[None]:  # type: ignore[override]
        """Capture none."""
        return nullcontext()


def own_url(settings: Settings) -> str:
    """Where this machine reaches the service."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    host = f"[{host}]" if ":" in host and host[0] != "[" else host
    return f"http://{host}:{settings.port}{settings.root_path}"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises CannotServe."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotServe(f"{host!r} is not an address of this machine: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise CannotServe(
                f"port {port} on {host} is in use; stop what listens there, or choose another: "
                f"--port {port + 1} (make serve PORT={port + 1})"
            ) from error
        raise CannotServe(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener
