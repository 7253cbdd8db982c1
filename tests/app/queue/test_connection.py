"""Ways to the server: what a URL says, a Sentinel that fails over, a cluster, TLS, a user with few rights."""

import asyncio
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from app.keys import KeyStore, Limits
from app.queue.base import Beat, Claim
from app.queue.connection import Address
from app.queue.embedded import embedded_server, server_binary, socket_path, stop
from app.queue.redis import RedisQueue
from tests.queued import RESULT, new_job
from tests.workers.serving import eventually


@pytest.mark.parametrize(
    ("url", "kind", "hosts", "options"),
    [
        ("redis://h:1/2", "", (), {"host": "h", "port": 1, "db": 2}),
        (
            "redis+sentinel://u:p%40@a,b:7/main/3?sentinel_password=s",
            "sentinel",
            (("a", 26379), ("b", 7)),
            {"username": "u", "password": "p@", "db": 3, "sentinel_password": "s"},
        ),
        ("rediss+cluster://[::1]:7000,b", "cluster", (("::1", 7000), ("b", 6379)), {}),
    ],
)
def test_a_url_is_read(
    url: str, kind: str, hosts: tuple[tuple[str, int], ...], options: dict[str, object]
) -> None:
    address = Address.parse(url)
    assert (address.kind, address.hosts) == (kind, hosts)
    assert options.items() <= address.options.items()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://h", "redis"),
        ("redis+sentinel://h", "name"),
        ("redis+cluster://h/1", "numbered"),
        ("redis+cluster://a,", "each host"),
        ("unix+cluster:///x", "host"),
        ("redis://h/0?no_such_option=1", "no_such_option"),
        ("redis+cluster://h/?max_connections=2", "max_connections"),
    ],
)
def test_a_url_that_leads_nowhere_says_why(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Address.parse(url)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator["Servers"]:
    with ExitStack() as stack:
        yield Servers(tmp_path, stack)


class Servers:
    """Starts servers on ports of this machine."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack

    def start(self, *options: str) -> tuple[int, "subprocess.Popen[bytes]"]:
        """Its port and its process."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        folder = self._folder / str(port)
        folder.mkdir()
        config = folder / "server.conf"
        config.write_text(f'port {port}\nbind 127.0.0.1\ndir {folder}\nsave ""\n')
        process = subprocess.Popen(
            [server_binary(), str(config), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._stack.callback(stop, process)
        return port, process


async def answers(port: int) -> Redis:
    """A client of a server, as soon as it answers."""
    client = Redis(host="127.0.0.1", port=port, decode_responses=True)
    async with asyncio.timeout(20):
        while True:
            with suppress(RedisError, OSError):
                await client.ping()
                return client
            await asyncio.sleep(0.02)


async def claimed(queue: RedisQueue) -> list[Claim]:
    """What a worker gets; a claim is never sent twice, so it fails where a connection must be made anew."""
    with suppress(RedisError, OSError):
        return await queue.claim("w", ["toy"], 1)
    return []


async def whole_life(queue: RedisQueue, job_id: str) -> None:
    """Everything that touches other commands than the rest: scripts, lists, events, short-lived bytes."""
    events = queue.listen(job_id)
    assert await queue.get(job_id) is None  # from here on the subscription is there
    await queue.enqueue(new_job(job_id, tags=["t"], idempotency_key=job_id))
    assert await queue.get(job_id)
    assert (await anext(events)).type == "queued"
    assert [claim.id for claim in await eventually(lambda: claimed(queue))] == [job_id]
    await queue.put_blob(f"trace:{job_id}", b"{}")
    assert await queue.beat("w", [Beat(job_id)]) == {job_id: "ok"}
    assert await queue.finish("w", job_id, RESULT)
    assert [job.id for job in (await queue.list(tag="t")).records] == [job_id]
    assert await queue.delete(job_id)


async def test_sentinel_names_the_primary_and_the_next_one(servers: Servers) -> None:
    first, process = servers.start()
    second, _ = servers.start("--replicaof", "127.0.0.1", str(first))
    (await_first, await_second) = await answers(first), await answers(second)
    guard, _ = servers.start("--sentinel")
    async with await answers(guard) as sentinel, await_first, await_second as replica:
        await sentinel.execute_command("SENTINEL MONITOR", "main", "127.0.0.1", str(first), "1")
        for name, value in (("down-after-milliseconds", "300"), ("failover-timeout", "2000")):
            await sentinel.execute_command("SENTINEL SET", "main", name, value)
        queue = RedisQueue(f"redis+sentinel://127.0.0.1:{guard}/main/0", "q")
        await whole_life(queue, "before")

        async def ready() -> bool:
            linked = (await replica.info("replication"))["master_link_status"] == "up"
            return linked and bool((await sentinel.execute_command("SENTINEL MASTERS"))["main"]["num-slaves"])

        await eventually(ready)
        await queue.enqueue(new_job("kept"))
        await await_first.execute_command("WAIT", "1", "5000")
        process.kill()
        assert [claim.id for claim in await eventually(lambda: claimed(queue), 60)] == ["kept"]
        await whole_life(queue, "after")
        await queue.close()


async def test_a_cluster_is_asked_which_node_has_the_keys(servers: Servers) -> None:
    """Any of them may be named. The keys' slot is moved to the other node, and the queue goes after it."""
    ports = [servers.start("--cluster-enabled", "yes")[0] for _ in range(2)]
    nodes = [await answers(port) for port in ports]
    for node, (low, high) in zip(nodes, ((0, 8191), (8192, 16383)), strict=True):
        await node.execute_command("CLUSTER ADDSLOTSRANGE", low, high)
    await nodes[0].execute_command("CLUSTER MEET", "127.0.0.1", ports[1])

    async def ready() -> bool:
        told = [await node.execute_command("CLUSTER INFO") for node in nodes]
        return all(one["cluster_state"] == "ok" for one in told)

    await eventually(ready)
    slots = {
        prefix: await nodes[0].execute_command("CLUSTER KEYSLOT", f"{{{prefix}}}") for prefix in "abcdef"
    }
    low, high = (next(p for p, slot in slots.items() if (slot > 8191) == upper) for upper in (False, True))
    for prefix in (low, high):
        queue = RedisQueue(f"redis+cluster://127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}", prefix)
        await whole_life(queue, "there")
        if prefix == high:
            await empty(nodes[1], prefix)
            target = await nodes[0].execute_command("CLUSTER MYID")
            for node in nodes:
                await node.execute_command("CLUSTER SETSLOT", slots[prefix], "NODE", target)
            await whole_life(queue, "moved")
            assert await nodes[0].execute_command("CLUSTER COUNTKEYSINSLOT", slots[prefix])
        await queue.close()
    for node in nodes:
        await node.aclose()


async def empty(node: Redis, prefix: str) -> None:
    """A slot is moved without its keys here."""
    await node.unlink(*await node.keys(f"{{{prefix}}}:*"))


@pytest.fixture
async def tls(tmp_path: Path) -> AsyncIterator[tuple[int, Path]]:
    """The port of a server behind TLS, and the certificate to trust. (Not every build speaks it itself.)"""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    asked = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost -keyout {key} -out {certificate}"
    )
    await asyncio.to_thread(subprocess.run, ["openssl", *asked.split()], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_unix_connection(str(socket_path(tmp_path / "redis")))
        with suppress(OSError, ssl.SSLError):
            await asyncio.gather(carry(reader, inner[1]), carry(inner[0], writer))

    with embedded_server(tmp_path / "redis"):
        server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
        yield server.sockets[0].getsockname()[1], certificate
        server.close()


async def test_tls_by_url(tls: tuple[int, Path]) -> None:
    port, certificate = tls
    queue = RedisQueue(f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}", "q")
    await whole_life(queue, "safe")
    await queue.close()
    stranger = RedisQueue(f"rediss://localhost:{port}/0", "q")
    with pytest.raises((RedisError, OSError), match=r"(?i)certificate"):
        await stranger.claim("w", ["toy"], 1)
    await stranger.close()


KEDA = Path(__file__).parents[3] / "docker/k8s/keda.yaml"
"""It says what rights a user needs, and looks at the lengths of keys."""
LENGTH = "local kind = redis.call('type', KEYS[1]).ok; return {kind, redis.call('zcard', KEYS[1])}"
"""KEDA asks for a key's type and then its length, in a script."""


async def test_a_user_with_rights_to_the_prefix_alone_is_enough(tmp_path: Path) -> None:
    text = KEDA.read_text()
    (command,) = re.findall(r"# (ACL SETUSER lodestar .*)", text)
    with embedded_server(tmp_path) as url:
        async with Redis.from_url(url) as redis:
            await redis.execute_command("ACL SETUSER", *command.split()[2:])
        by_user = f"unix://lodestar:change-me@{url.removeprefix('unix://')}"
        queue, keys = RedisQueue(by_user), KeyStore(by_user, "lodestar")
        await whole_life(queue, "mine")
        await queue.enqueue(new_job("runs"))
        await queue.enqueue(new_job("waits"))
        await queue.claim("w", ["toy"], 1)
        await queue.sweep()
        await queue.census()
        await keys.create("a", ["read"], Limits())
        async with Redis.from_url(by_user, decode_responses=True) as keda:
            for watched in re.findall(r'listName: "(.*?)"', text):
                assert await keda.eval(LENGTH, 1, watched) == ["zset", 1], watched
        other = RedisQueue(by_user, "other")
        with pytest.raises(NoPermissionError):
            await other.enqueue(new_job("a"))
        await other.close()
        await queue.close()
        await keys.close()
