"""Every setting of the service, read from the environment (`LODESTAR_*`) or the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One flat list; each unit is in the name. `LODESTAR_PORT=9000 lodestar serve` sets `port`."""

    model_config = SettingsConfigDict(env_prefix="LODESTAR_", extra="ignore")

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=0, le=64)
    data_dir: Path = Path("data")
    redis_url: str | None = Field(None, description="None starts the embedded server in data_dir")
    redis_prefix: str = Field("lodestar", pattern=r"^[A-Za-z0-9_-]{1,40}$")
    catalogue: Path | None = Field(None, description="models.toml; None offers the built-in models")
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    lease_ms: int = Field(15_000, ge=100)
    beat_ms: int = Field(
        100, ge=20, description="a worker renews leases, reports and looks for cancels this often"
    )
    max_attempts: int = Field(3, ge=1)
    retry_backoff_ms: int = Field(1_000, ge=0)
    result_ttl_s: int = Field(7 * 86_400, ge=1)
    idempotency_ttl_s: int = Field(86_400, ge=1)
    max_queued: int = Field(10_000, ge=1, description="open jobs before the API answers 503")

    max_rows: int = Field(16, ge=1, description="network rows per forward")
    policy: Literal["fifo", "srpt"] = Field("fifo", description="serve the oldest first, or the shortest")
    determinism: Literal["free", "bucket"] = Field(
        "free", description="bucket: the same bits at any load, every forward padded to max_rows"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    torch_threads: int = Field(0, ge=0, description="CPU threads per worker; 0 leaves torch's choice")
    drain_s: float = Field(20.0, ge=0, description="a worker told to stop finishes for this long")

    max_prompt_chars: int = Field(4_000, ge=1)
    max_images: int = Field(16, ge=1, description="seeds per job")
    max_steps: int = Field(200, ge=1)
    max_pixels: int = Field(2048 * 2048, ge=64 * 64)
    max_body_bytes: int = Field(1_000_000, ge=1_000)

    @property
    def socket_path(self) -> Path:
        """The embedded server's unix socket."""
        return self.data_dir / "redis.sock"
