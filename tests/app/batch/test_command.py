"""`lodestar batch`, in a process of its own where signals matter."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.__main__ import cli
from app.queue.base import JobQueue
from app.settings import Settings
from tests.app.batch.conftest import Hands


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    told = {
        "LODESTAR_REDIS_URL": settings.redis_url or "",
        "LODESTAR_REDIS_PREFIX": settings.redis_prefix,
        "LODESTAR_DATA_DIR": str(settings.data_dir),
        "LODESTAR_CATALOGUE": str(settings.catalogue),
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    return told


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a", "seeds": [1]}\n\n"b"\n{"prompt": 3}\n')
    return path


def mend(prompts: Path) -> None:
    prompts.write_text(prompts.read_text().replace("3", '"c"'))


async def lodestar(*args: object) -> Result:
    """The command, in a thread, as it has a loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, cli, [str(arg) for arg in args])


@pytest.mark.usefixtures("environment")
async def test_run_does_the_good_rows_and_tells_of_the_bad(
    hands: Hands, prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    async with hands():
        result = await lodestar(
            "batch", "run", prompts, "--out", out, "--guidance", "apg", "--scale", 4, "--seed", 7
        )
    assert result.exit_code == 1, result.output
    assert result.stdout == f"2 rows done (2 pictures), 1 refused; see {out}/results.jsonl\n"
    assert "line 4 refused: /prompt: Input should be a valid string" in result.stderr
    first, second, _ = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    assert (first["resolved"]["seeds"], second["resolved"]["seeds"]) == ([1], [7])
    assert second["resolved"]["guidance"]["scale"] == 4
    mend(prompts)
    async with hands() as ran:
        again = await lodestar(
            "batch", "run", prompts, "--out", out, "--guidance", "apg", "--scale", 4, "--seed", 7
        )
    assert (again.exit_code, ran) == (0, ["c"])
    assert again.stdout.startswith("1 rows done (1 pictures), 2 done before; ")


@pytest.mark.usefixtures("environment")
async def test_wrong_use_is_one_clear_line(prompts: Path, tmp_path: Path) -> None:
    for args, reason in [
        (["nowhere.jsonl", "--out", tmp_path / "out"], "cannot read nowhere.jsonl: No such file"),
        ([prompts, "--out", prompts], f"cannot write into {prompts}"),
        ([prompts, "--out", tmp_path / "out", "--scale", 3], "add --guidance"),
        (
            [prompts, "--out", tmp_path / "out", "--redis-url", "redis://127.0.0.1:1"],
            "the queue does not answer",
        ),
        ([prompts, "--out", tmp_path / "out", "--redis-url", ""], "no service runs in"),
    ]:
        result = await lodestar("batch", "run", *args)
        assert result.exit_code == 1
        assert reason in result.stderr.splitlines()[-1]
        assert isinstance(result.exception, SystemExit)


async def test_ctrl_c_stops_and_the_rest_can_be_canceled(
    environment: dict[str, str], queue: JobQueue, tmp_path: Path, hands: Hands
) -> None:
    prompts, out = tmp_path / "many.jsonl", tmp_path / "out"
    prompts.write_text("".join(f'"{number}"\n' for number in range(40)))
    command = (
        sys.executable,
        "-m",
        "app",
        "batch",
        "run",
        str(prompts),
        "--out",
        str(out),
        "--in-flight",
        "5",
    )
    process = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        while (await queue.depth())["queued"] < 5:  # noqa: ASYNC110 - the queue tells nobody of its length
            await asyncio.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, told = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 130
    assert b"5 still in the queue" in said
    assert b"the same command goes on" in told
    assert b"Traceback" not in told
    canceled = await lodestar("batch", "cancel", out)
    assert canceled.stdout == "5 jobs canceled\n"
    async with hands() as ran:
        result = await lodestar(*command[3:])
    assert result.exit_code == 0, result.output
    assert len(set(ran)) == len(ran) == 40
