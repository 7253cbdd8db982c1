"""The `lodestar` command, without a service; `tests/e2e/test_serve.py` has it with one."""

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from app.__main__ import cli
from app.storage.png import read_png
from guidance import REGISTRY

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    catalogue = tmp_path / "models.toml"
    catalogue.write_text('[[models]]\nid = "toy"\nsource = "toy"\nmin_size_px = 16\n')
    monkeypatch.setenv("LODESTAR_CATALOGUE", str(catalogue))
    monkeypatch.setenv("LODESTAR_TORCH_THREADS", "1")
    monkeypatch.setenv("LODESTAR_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(cli, [str(arg) for arg in args])


def refused(result: Result, *reasons: str) -> None:
    """One clear message, no traceback, nothing else."""
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert result.stderr.startswith("lodestar: ")
    for reason in reasons:
        assert reason in result.stderr


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_redis_url_that_is_none_is_named(run: Run, command: str) -> None:
    refused(run(command, "--redis-url", "bogus://x"), "--redis-url", "redis://")


def test_the_command_is_there_without_torch() -> None:
    code = (
        "import sys, app.__main__, app.generation, app.supervisor, app.client;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'workers')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_catalogue_lists_everything(run: Run) -> None:
    result = run("catalogue")
    assert result.exit_code == 0
    firsts = {line.split()[0] for line in result.stdout.splitlines() if line}
    assert {"toy", "ddim", "flow_euler", *REGISTRY} <= firsts


def test_local_pictures_hold_their_request(run: Run, tmp_path: Path) -> None:
    result = run(
        "generate", "a cat", "--local", "--guidance", "apg", "--scale", 10, "--set", "eta=0.5",
        "--steps", 3, "--seed", 4, "--seed", 5, "--width", 16, "--height", 16, "-o", "cat.png",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[:5] for line in lines] == [
        ["seed", "4", "cat-1.png", "nfe", "6"],
        ["seed", "5", "cat-2.png", "nfe", "6"],
    ]
    request = read_png((tmp_path / "cat-2.png").read_bytes())
    assert (request["seeds"], request["prompt"], request["width"]) == ([5], "a cat", 16)
    guidance = request["guidance"]
    assert (guidance["method"], guidance["scale"], guidance["eta"]) == ("apg", 10, 0.5)


def test_one_local_picture_has_the_name_that_was_given(run: Run, tmp_path: Path) -> None:
    result = run("generate", "a cat", "--local", "--steps", 1, "--width", 16, "--height", 16, "-o", "a.png")
    assert result.exit_code == 0, result.output
    assert [path.name for path in tmp_path.glob("*.png")] == ["a.png"]


def test_local_says_all_that_is_wrong(run: Run) -> None:
    refused(run("generate", "x", "--local", "--width", 17, "--steps", 999), "/width: width is 17", "/steps")
    refused(run("generate", "x", "--local", "--guidance", "apx"), "guidance", "'apg'")
    refused(run("generate", "x", "--local", "--guidance", "cfg", "--set", "foo=1"), "foo")
    refused(run("generate", "x", "--local", "--model", "nope"), "there is no model 'nope'")


def test_generate_without_a_service_says_what_to_do(run: Run, free_port: int) -> None:
    result = run("generate", "x", "--server", f"http://127.0.0.1:{free_port}")
    refused(result, "start one with `lodestar serve` or add --local")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-o", "x.jpg"], "not a .png"),
        (["-o", "nowhere/x.png"], "there is no directory nowhere"),
        (["--scale", "3"], "add --guidance"),
        (["--guidance", "apg", "--set", "eta"], "KEY=VALUE"),
    ],
)
def test_generate_refuses_before_it_asks(run: Run, options: list[str], reason: str) -> None:
    refused(run("generate", "x", *options), reason)


def test_a_port_in_use_is_one_clear_line(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--port", port)
    refused(result, f"port {port} on 127.0.0.1 is in use", f"--port {port + 1}")
    assert result.stderr.count("\n") == 1


def test_an_open_address_needs_consent(run: Run) -> None:
    refused(run("serve", "--host", "0.0.0.0", "--port", 0), "lodestar keys create", "--insecure")


def test_a_method_is_shown_with_its_parameters(run: Run) -> None:
    listed = run("guidance", "list").stdout.splitlines()[1:]
    assert {line.split()[0] for line in listed if line} == set(REGISTRY)
    shown = run("guidance", "show", "apg").stdout
    assert "arxiv.org/abs/2410.02416" in shown
    assert any(line.split()[:1] == ["momentum"] for line in shown.splitlines())
    refused(run("guidance", "show", "agp"), "there is no guidance method 'agp'", "apg")


def test_jobs_without_a_service_say_what_to_do(run: Run, free_port: int) -> None:
    for command in (["list"], ["show", "x"], ["cancel", "x"], ["retry", "x"]):
        refused(run("jobs", *command, "--server", f"http://127.0.0.1:{free_port}"), "lodestar serve")


def test_the_doctor_says_what_is_amiss(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("LODESTAR_PORT", str(taken.getsockname()[1]))
        ill = run("doctor", "--data-dir", tmp_path / "models.toml", "--redis-url", "redis://127.0.0.1:1")
    assert ill.exit_code == 1
    amiss = {line.split()[1] for line in ill.stdout.splitlines() if line.startswith("NO")}
    assert amiss == {"queue", "storage", "port"}
    assert "LODESTAR_DATA_DIR" in ill.stdout
    assert "LODESTAR_PORT" in ill.stdout


def test_the_doctor_looks_for_models_and_the_object_store(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = tmp_path / "models.toml"
    kinds = {"toy": "toy", "gone": str(tmp_path / "gone"), "far": "somebody/never-fetched"}
    catalogue.write_text("".join(f'[[models]]\nid = "{one}"\nsource = "{kinds[one]}"\n' for one in kinds))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("LODESTAR_STORAGE_URL", "s3://bucket/results")
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:1", "ALLOW_HTTP": "true", "REGION": "x"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    told = run("doctor", "--data-dir", tmp_path / "data", "--catalogue", catalogue)
    lines = {line for line in told.stdout.splitlines() if line.split()[1] in ("models", "storage")}
    assert told.exit_code == 1
    assert "ok  models    toy: here" in lines
    assert f"NO  models    gone: there is no folder {tmp_path / 'gone'}, as the catalogue has it" in lines
    assert any(line.startswith("NO ") and "lodestar models pull far" in line for line in lines)
    assert any(line.startswith("NO  storage   s3://bucket/results") for line in lines)
    assert any(line.startswith("ok  storage ") for line in lines)


def test_keys_are_made_listed_and_revoked(run: Run, tmp_path: Path) -> None:
    made = run("keys", "create", "ann", "--weight", 3, "--scope", "read", "--per-minute", 5)
    token = made.stdout.strip()
    assert token.startswith("lds_")
    (line,) = [line for line in run("keys", "list").stdout.splitlines() if " ann " in line]
    key_id = line.split()[0]
    assert token.split("_")[1] == key_id
    assert line.split()[1:5] == ["ann", "read", "3", "5"]
    assert token not in line
    assert run("keys", "revoke", key_id).exit_code == 0
    refused(run("keys", "revoke", key_id), "there is no key")
    refused(run("keys", "create", "bob", "--scope", "all"), "there is no scope 'all'", "admin")
    refused(run("keys", "create", "bob", "--max-open", 0), "--max-open", "greater than or equal to 1")


def test_a_wrong_catalogue_is_named(run: Run, tmp_path: Path) -> None:
    refused(run("serve", "--catalogue", "nowhere.toml"), "the catalogue is wrong", "nowhere.toml")
    (tmp_path / "models.toml").write_text('[[models]]\nid = "toy"\n')
    refused(run("serve"), "models.toml", "source")
    refused(run("catalogue"), "models.toml", "source")


def test_a_wrong_setting_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(run("serve", "--workers", "-1"), "--workers", "greater than or equal to 0")
    monkeypatch.setenv("LODESTAR_LEASE_MS", "soon")
    refused(run("serve"), "LODESTAR_LEASE_MS", "valid integer")


def test_a_worker_without_a_service_says_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "")  # as `make` passes it
    refused(run("worker"), "no service runs in", "lodestar serve")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_picture_is_changed_or_edited_in_this_process(run: Run, tmp_path: Path) -> None:
    made = run("generate", "high", "--local", "--steps", 4, "--seed", 1, "-o", "first.png")
    assert made.exit_code == 0, made.stderr
    begin = ("--local", "--steps", 4, "--seed", 1, "--init-image", "first.png")
    changed = run("generate", "low", *begin, "--strength", 0.5, "-o", "changed.png")
    assert "nfe 4" in changed.stdout, changed.stderr
    edited = run("generate", "low", *begin, "--source-prompt", "high", "-o", "edited.png")
    assert "nfe 16" in edited.stdout, edited.stderr
    mask = Image.new("L", (512, 512))
    mask.paste(255, (256, 0, 512, 512))
    mask.save(tmp_path / "mask.png")
    half = run("generate", "low", *begin, "--mask", "mask.png", "-o", "half.png")
    assert "nfe 8" in half.stdout, half.stderr
    first, second = (np.asarray(Image.open(tmp_path / name), int) for name in ("first.png", "half.png"))
    assert np.abs(first - second)[:, :256].mean() < 0.2 * np.abs(first - second)[:, 256:].mean()
    told = read_png((tmp_path / "edited.png").read_bytes())
    assert told["edit"] == {"source_prompt": "high"}
    assert told["guidance"]["method"] == "cfgpp"
    refused(run("generate", "low", "--init-image", "nowhere.png", "-o", "x.png"), "cannot read nowhere.png")
    refused(run("generate", "low", "--local", "--strength", 0.5), "give it in init_image")
