"""Clients that cost little: connections that are kept alive, each sending one request after the other."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress

from fastapi import FastAPI, Request, Response

CLK_TCK = os.sysconf("SC_CLK_TCK")


@contextmanager
def api_process(
    redis_url: str, data_dir: str, app: str = "app.api.main:create_app"
) -> Generator[tuple[int, int]]:
    """One API process as `lodestar serve` runs it: its port and its pid."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = {"LODESTAR_REDIS_URL": redis_url, "LODESTAR_DATA_DIR": data_dir, "LODESTAR_MAX_QUEUED": str(10**8)}
    command = [sys.executable, "-m", "uvicorn", "--factory", app, "--port", str(port)]
    process = subprocess.Popen([*command, "--log-level", "warning", "--no-access-log"], env=os.environ | own)
    try:
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if process.poll() is not None:
                raise RuntimeError("the API process has ended")
            time.sleep(0.05)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def bare() -> FastAPI:
    """An application that takes the same requests and does nothing: what uvicorn and FastAPI cost."""
    app = FastAPI()

    @app.post("/v1/jobs", status_code=202)
    async def nothing(request: Request) -> Response:
        await request.body()
        return Response(b"{}", 202, media_type="application/json")

    return app


def cpu_s(pid: int) -> float:
    """CPU time that a process has taken (Linux)."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLK_TCK


async def post(port: int, path: str, body: bytes, count: int, clients: int = 32) -> float:
    """Seconds that `count` requests take, spread over `clients` connections. Each must be answered 202."""
    request = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(count // clients):
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not head.startswith(b"http/1.1 202"):
                raise RuntimeError(f"not accepted: {head[:80]!r}")
            at = head.index(b"content-length: ") + 16
            await reader.readexactly(int(head[at : head.index(b"\r", at)]))
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - began
