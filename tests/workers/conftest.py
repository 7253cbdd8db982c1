from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.settings import Settings
from app.storage.local import LocalStorage
from tests.workers.serving import CATALOGUE, Process


@pytest.fixture
def settings(redis_url: str, redis_prefix: str, tmp_path: Path) -> Settings:
    catalogue = tmp_path / "models.toml"
    catalogue.write_text(CATALOGUE)
    return Settings(
        redis_url=redis_url,
        redis_prefix=redis_prefix,
        data_dir=tmp_path / "data",
        catalogue=catalogue,
        device="cpu",
        torch_threads=1,
        calibrate=False,
        beat_ms=20,
        lease_ms=4_000,
        retry_backoff_ms=0,
        drain_s=30,
    )


@pytest.fixture
def storage(settings: Settings) -> LocalStorage:
    return LocalStorage(settings.data_dir)


@pytest.fixture
def process(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts worker processes; none is left."""
    started: list[Process] = []

    def start(changed: Settings = settings, **environment: str) -> Process:
        started.append(Process(changed, tmp_path / f"worker{len(started)}.log", **environment))
        return started[-1]

    yield start
    for one in started:
        one.popen.kill()
        one.popen.wait()
