"""API keys: who may use the service beyond this machine, and how much of it. Kept in the queue's server.

A key is shown once, when it is made; what is kept is a digest of its secret part. The secret has 256 random
bits, so one round of SHA-256 is enough: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import Annotated, Literal, Self, cast

from pydantic import Field

from app.jobs import Wire
from app.queue.connection import connect
from app.queue.keys import Key, Keys
from app.settings import Settings

SESSION_S = 30 * 86_400
"""A browser that signed in stays so for this time."""

Scope = Literal["read", "write", "metrics", "admin"]
PREFIX = "lds"


class Limits(Wire):
    """What one key may use; None is no limit."""

    per_minute: Annotated[int, Field(ge=1)] | None = None
    """Jobs that it may create in a minute."""
    max_open: Annotated[int, Field(ge=1)] | None = None
    """Jobs that it may have waiting and running."""
    pixel_steps: Annotated[int, Field(ge=1)] | None = None
    """Width x height x steps x pictures in a day."""


class ApiKey(Wire):
    """A key without its secret. `read` sees its own jobs, `write` makes them, `admin` sees everybody's."""

    id: str
    name: str
    scopes: list[Scope]
    limits: Limits = Limits()
    weight: Annotated[int, Field(ge=1, le=100)] = 1
    """Its share of the workers' time while others wait too: 2 gets twice what 1 gets."""
    created_at_ms: int


class StoredKey(ApiKey):
    """A key with what its secret is checked against."""

    digest: str


class KeyStore:
    """All keys of one service."""

    def __init__(self, url: str, prefix: str) -> None:
        self._redis = connect(url, prefix)
        self._keys = Keys(prefix)
        self._hash = self._keys(Key.API_KEYS)

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Connect as the settings say; their `redis_url` must be set."""
        if settings.redis_url is None:
            raise ValueError("no redis_url; start the embedded server first and set it")
        return cls(settings.redis_url, settings.redis_prefix)

    async def create(
        self, name: str, scopes: list[Scope], limits: Limits, weight: int = 1
    ) -> tuple[ApiKey, str]:
        """A new key, and the token that its owner sends: it cannot be told again."""
        secret = secrets.token_urlsafe(32)
        key = StoredKey(
            id=secrets.token_hex(6),
            name=name,
            scopes=scopes,
            limits=limits,
            weight=weight,
            created_at_ms=int(time.time() * 1e3),
            digest=_digest(secret),
        )
        await self._redis.hset(self._hash, key.id, key.model_dump_json())
        return key, f"{PREFIX}_{key.id}_{secret}"

    async def find(self, token: str) -> ApiKey | None:
        """The key that a token belongs to, unless it was revoked or is none of ours."""
        prefix, _, rest = token.partition("_")
        key_id, _, secret = rest.partition("_")
        if prefix != PREFIX or not key_id.isalnum() or not secret:
            return None
        found = await self._redis.hget(self._hash, key_id)
        if found is None:
            return None
        key = StoredKey.model_validate_json(found)
        return key if hmac.compare_digest(key.digest, _digest(secret)) else None

    async def open_session(self, key: ApiKey) -> str:
        """A token for a browser: it stands for the key until it expires, is ended, or the key is revoked."""
        token = secrets.token_urlsafe(32)
        await self._redis.set(self._session(token), key.id, ex=SESSION_S)
        return token

    async def find_session(self, token: str) -> ApiKey | None:
        """The key for which a browser's token stands."""
        key_id = await self._redis.get(self._session(token))
        found = await self._redis.hget(self._hash, key_id) if key_id else None
        return StoredKey.model_validate_json(found) if found else None

    async def end_session(self, token: str) -> None:
        """Forget a browser's token."""
        await self._redis.delete(self._session(token))

    def _session(self, token: str) -> str:
        return self._keys(Key.SESSION, _digest(token))

    async def all(self) -> list[ApiKey]:
        """Every key, the oldest first."""
        found = cast(dict[str, str], await self._redis.hgetall(self._hash))
        keys = [StoredKey.model_validate_json(text) for text in found.values()]
        return sorted(keys, key=lambda key: key.created_at_ms)

    async def revoke(self, key_id: str) -> bool:
        """Forget a key: its next request is refused. Whether there was one. Its jobs stay."""
        return bool(await self._redis.hdel(self._hash, key_id))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
