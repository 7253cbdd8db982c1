"""Every setting of the service, read from the environment (`LODESTAR_*`) or the command line."""

from __future__ import annotations

import binascii
import ipaddress
from base64 import b64decode
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.queue.connection import Address


class Settings(BaseSettings):
    """One flat list; each unit is in the name. `LODESTAR_PORT=9000 lodestar serve` sets `port`."""

    model_config = SettingsConfigDict(env_prefix="LODESTAR_", env_ignore_empty=True, extra="ignore")

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    workers: int = Field(default=1, ge=0, le=64)
    data_dir: Path = Path("data")
    storage_url: str | None = Field(
        default=None, pattern=r"^s3://[^/]+", description="s3://bucket/prefix; None stores in data_dir"
    )
    redis_url: str | None = Field(default=None, description="None starts the embedded server in data_dir")
    scorers_dir: Path = Field(
        default=Path("models/scorers"),
        description="models of the metrics aesthetic, imagereward, hps and lpips",
    )
    redis_prefix: str = Field(default="lodestar", pattern=r"^[A-Za-z0-9_-]{1,40}$")
    catalogue: Path | None = Field(default=None, description="models.toml; None offers the built-in models")
    require_keys: bool | None = Field(
        default=None, description="ask for an API key; None does so unless only this machine can reach `host`"
    )
    cors_origins: str = Field(
        default="",
        description="web origins, separated by blanks, whose pages may use the API; none by default",
    )
    root_path: str = Field(
        default="",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="path below which a proxy shows the service, say /lodestar",
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    log: Literal["text", "json"] = Field(default="text", description="json: an object per line, with ids")
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="where a worker shows its own /metrics; further workers of `serve` take the next ports",
    )

    lease_ms: int = Field(default=15_000, ge=100)
    beat_ms: int = Field(
        default=100, ge=20, description="a worker renews leases, reports and looks for cancels this often"
    )
    max_attempts: int = Field(default=3, ge=1)
    retry_backoff_ms: int = Field(default=1_000, ge=0)
    result_ttl_s: int = Field(default=7 * 86_400, ge=1)
    idempotency_ttl_s: int = Field(default=86_400, ge=1)
    max_queued: int = Field(default=10_000, ge=1, description="open jobs before the API answers 503")
    max_wait_s: float = Field(
        default=0, ge=0, description="predicted wait in line beyond which a job is refused (503); 0: never"
    )
    max_queued_per_model: int | None = Field(
        default=None, ge=1, description="open jobs of a model before 503; None: no bound but max_queued"
    )
    max_queued_per_client: int | None = Field(
        default=None, ge=1, description="open jobs of a client before 429; None: no bound but max_queued"
    )

    unserved: Literal["wait", "refuse"] = Field(
        default="wait", description="what a job does whose model no live worker serves; refuse: 503"
    )
    swap_after_ms: int = Field(
        default=10_000,
        ge=0,
        description="a worker turns from its loaded models to a job that waits so long",
    )
    webhook_secret: str | None = Field(
        default=None, repr=False, description="whsec_ and 24 to 64 bytes in base64; None: no webhooks"
    )
    webhook_private: bool = Field(default=False, description="send webhooks to private addresses too")

    max_rows: int = Field(default=16, ge=1, description="network rows per forward")
    calibrate: bool = Field(
        default=True, description="measure how many rows pay, and have no more than that in a forward"
    )
    policy: Literal["fifo", "srpt"] = Field(
        default="fifo", description="serve the oldest first, or the shortest, where waiting counts too"
    )
    ageing: float = Field(
        default=8.0, ge=0, description="srpt: rows of work that a second of waiting makes up for"
    )
    determinism: Literal["free", "bucket"] = Field(
        default="free", description="bucket: the same bits at any load, every forward padded to max_rows"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    profile: Literal["eager", "compiled", "graphs"] = Field(
        default="eager",
        description="networks as they are, compiled, or as CUDA graphs; compiling takes minutes at first",
    )
    model_memory_bytes: int | None = Field(
        default=None, ge=1, description="beyond it, idle models make room for new ones; None keeps all"
    )
    torch_threads: int = Field(default=0, ge=0, description="CPU threads per worker; 0 leaves torch's choice")
    drain_s: float = Field(default=20.0, ge=0, description="a worker told to stop finishes for this long")

    sync_wait_s: float = Field(
        default=300.0, gt=0, description="the longest that an endpoint without jobs keeps its client waiting"
    )
    max_prompt_chars: int = Field(default=4_000, ge=1)
    max_images: int = Field(default=16, ge=1, description="seeds per job")
    max_steps: int = Field(default=200, ge=1)
    max_cells: int = Field(default=1_000, ge=1, description="pictures per comparison")
    max_pixels: int = Field(default=2048 * 2048, ge=64 * 64)
    max_batch: int = Field(default=2_000, ge=1, description="rows of POST /v1/batches")
    max_body_bytes: int = Field(default=8_000_000, ge=1_000)

    @field_validator("redis_url")
    @classmethod
    def _is_a_redis_url(cls, url: str | None) -> str | None:
        if url:
            Address.parse(url)
        return url

    @field_validator("webhook_secret")
    @classmethod
    def _is_a_secret(cls, secret: str | None) -> str | None:
        try:
            if secret is None or 24 <= len(b64decode(secret.removeprefix("whsec_"), validate=True)) <= 64:
                return secret
        except binascii.Error:
            pass
        raise ValueError(
            "a webhook secret is whsec_ and 24 to 64 random bytes in base64; make one with: "
            "python -c \"import base64, os; print('whsec_' + base64.b64encode(os.urandom(32)).decode())\""
        )

    @property
    def keys_required(self) -> bool:
        """Whether a request needs an API key."""
        return not is_loopback(self.host) if self.require_keys is None else self.require_keys

    @property
    def socket_path(self) -> Path:
        """The embedded server's unix socket."""
        return self.data_dir / "redis.sock"


@cache
def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
