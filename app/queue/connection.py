"""Ways to the queue's server: by its address, by asking Sentinel for it, or by asking a cluster.

    redis://user:password@host:6379/0       rediss://... with TLS       unix:///path/to/redis.sock
    redis+sentinel://host1,host2:26380/name-of-the-primary/0            rediss+sentinel://...
    redis+cluster://host1:7000,host2:7001                               rediss+cluster://...

All keys have one hash tag, so also in a cluster all of them are on one node: a connection goes there, and
asks again where that is when they were moved.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

from hiredis import pack_command
from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    RedisError,
    Sentinel,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.crc import key_slot
from redis.exceptions import AskError, ConnectionError, MovedError, ReadOnlyError

SOCKET_S = 10.0
"""The longest wait for an answer."""
CONNECTIONS = 64
SCHEMES = "redis://, rediss://, unix://, redis+sentinel://, redis+cluster:// (rediss+... with TLS)"

OF_SENTINELS = ("sentinel_username", "sentinel_password")

Host = tuple[str, int]
Locate = Callable[[], Awaitable[Host]]


@dataclass(frozen=True, slots=True)
class Address:
    """A URL, read. `options` are those of a connection, as redis-py names them."""

    options: dict[str, Any]
    kind: str = ""
    """sentinel, cluster, or nothing where the URL says the host itself."""
    hosts: tuple[Host, ...] = ()
    """Those who know where the server is."""
    primary: str = ""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises ValueError, which says what is wrong."""
        parts = urlsplit(url)
        scheme, _, kind = parts.scheme.partition("+")
        if scheme not in ("redis", "rediss", "unix") or kind not in ("", "sentinel", "cluster"):
            raise ValueError(f"a queue's URL begins with one of: {SCHEMES}")
        if scheme == "unix" and kind:
            raise ValueError("a unix socket is no host to ask; begin with redis+sentinel or redis+cluster")
        if not kind:
            return cls(_known(parse_url(url)))
        user, at, names = parts.netloc.rpartition("@")
        hosts = tuple(_host(name, 26379 if kind == "sentinel" else 6379) for name in names.split(","))
        primary, _, db = parts.path.strip("/").partition("/")
        if kind == "sentinel" and not primary:
            raise ValueError("after Sentinel's hosts comes the primary's name: redis+sentinel://host/name/0")
        if kind == "cluster":
            primary, db = "", primary
            if db not in ("", "0"):
                raise ValueError("a cluster has no numbered databases; leave the number out")
        options = parse_url(urlunsplit((scheme, f"{user}{at}{kind}", f"/{db}", parts.query, "")))
        return cls(_known(options), kind, hosts, primary)


def _known(options: Any) -> dict[str, Any]:
    """The same options, if a connection takes them: else the first command would be the one to find out."""
    taken = {name: value for name, value in options.items() if name not in OF_SENTINELS}
    try:
        taken.pop("connection_class", Connection)(**taken)
    except (TypeError, ValueError, RedisError) as error:
        raise ValueError(f"a connection to the queue does not take these options: {error}") from None
    return options


def _host(name: str, port: int) -> Host:
    parts = urlsplit(f"//{name}")
    if not parts.hostname:
        raise ValueError("each host is a name or an address, as in redis+cluster://host1:7000,host2:7000")
    return parts.hostname, parts.port or port


def connect(url: str, prefix: str, *, repeats: bool = True) -> Redis:
    """A client for the server that has the keys of `prefix`; `repeats` commands after a lost connection."""
    address = Address.parse(url)
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": SOCKET_S,
        "socket_connect_timeout": 3.0,
        "health_check_interval": 15,
    } | address.options
    options["retry"] = Retry(ExponentialBackoff(cap=1.0, base=0.1), 3 if repeats else 0)
    kind = options.pop("connection_class", Connection)
    options["connection_class"] = CLASSES[kind]
    if address.kind:
        options["connection_class"] = LocatedTLS if kind is SSLConnection else Located
        if address.kind == "sentinel":
            options["locate"] = _sentinels(address, options)
        else:
            options["locate"] = _cluster(prefix, address.hosts, options)
    return Redis.from_pool(BlockingConnectionPool(max_connections=CONNECTIONS, timeout=SOCKET_S, **options))


def _sentinels(address: Address, options: dict[str, Any]) -> Locate:
    """Ask Sentinels for the primary. They have credentials of their own, if any."""
    own = {name.removeprefix("sentinel_"): options.pop(name, None) for name in OF_SENTINELS}
    asking = {name: value for name, value in options.items() if name.startswith(("ssl_", "socket_"))}
    tls = issubclass(options["connection_class"], SSLConnection)

    async def locate() -> Host:
        sentinel = Sentinel(address.hosts, sentinel_kwargs=asking | own | ({"ssl": True} if tls else {}))
        try:
            host, port = await sentinel.discover_master(address.primary)
            return str(host), int(port)
        finally:
            for client in sentinel.sentinels:
                await client.aclose()

    return locate


def _cluster(prefix: str, hosts: Sequence[Host], options: Mapping[str, Any]) -> Locate:
    """Ask a cluster's nodes, one after the other, which of them has the keys."""
    slot = key_slot(f"{{{prefix}}}".encode())
    own = ("connection_class", "host", "port", "db")
    asking = {name: value for name, value in options.items() if name not in own}
    tls = issubclass(options["connection_class"], SSLConnection)

    async def locate() -> Host:
        problem: Exception = ConnectionError(f"no node of the cluster has the slot {slot}")
        for host, port in hosts:
            try:
                async with Redis(host=host, port=port, ssl=tls, **asking) as node:
                    ranges: Any = await node.execute_command("CLUSTER", "SLOTS")
                    for first, last, primary, *_ in ranges:
                        if first <= slot <= last:
                            return str(primary[0] or host), int(primary[1])
            except (RedisError, OSError) as error:
                problem = error
        raise problem

    return locate


class Packed:
    """Commands are written down by hiredis, which takes a fifth of the time that redis-py takes."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """One command."""
        name, *rest = args
        return [pack_command(cast(Any, (*str(name).split(), *rest)))]

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
        """Many, as one piece."""
        return [b"".join(self.pack_command(*command)[0] for command in commands)]


class Direct(Packed, Connection):
    """To a host."""


class DirectTLS(Packed, SSLConnection):
    """To a host, with TLS."""


class Socket(Packed, UnixDomainSocketConnection):
    """To a server on this machine."""


class Located(Direct):
    """Asks where its server is whenever it connects; one that is the right one no more is left."""

    def __init__(self, *, locate: Locate, **options: Any) -> None:
        super().__init__(**options)
        self._locate = locate

    async def _connect(self) -> None:
        self.host, self.port = await self._locate()
        await super()._connect()

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """An answer; that the keys are on another server ends the connection, and is tried again."""
        try:
            return await super().read_response(*args, **options)
        except (ReadOnlyError, MovedError, AskError) as error:
            await self.disconnect()
            raise ConnectionError(f"the keys are elsewhere now: {error}") from error


class LocatedTLS(Located, SSLConnection):
    """The same with TLS."""


CLASSES: dict[type, type] = {Connection: Direct, SSLConnection: DirectTLS, UnixDomainSocketConnection: Socket}
"""Ours for redis-py's."""
