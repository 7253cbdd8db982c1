"""The README's commands and snippets, run as they stand with the built-in model; its tables and links."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from app.catalogue import ROOT, load_catalogue
from app.settings import Settings
from app.storage.png import read_png
from tests.e2e.serving import Serving, serving

README = (ROOT / "README.md").read_text()
PORT = "8000"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]

pytestmark = pytest.mark.timeout(500)


def fences(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands(name: str) -> list[str]:
    """The README's commands that start with `name`, with the lines that continue them."""
    return [
        command
        for fence in fences("sh")
        for command in fence.replace("\\\n", " ").splitlines()
        if command.split()[:1] == [name]
    ]


@pytest.fixture(scope="module")
def builtin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A service as `make serve` starts it, on another port."""
    catalogue = str(ROOT / "models" / "models.toml")
    with serving(tmp_path_factory.mktemp("readme") / "data", "--catalogue", catalogue) as service:
        service.url()
        yield service


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Run something of the README in a folder that looks like the repository to it; what it printed."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    told = {
        "PATH": binaries,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "REDIS_URL": "",
    }

    def run(command: list[str], service: Serving | None = None) -> str:
        place = (
            {"LODESTAR_SERVER": service.url(), "LODESTAR_DATA_DIR": str(service.data_dir)} if service else {}
        )
        ran = subprocess.run(
            command, cwd=tmp_path, env=os.environ | told | place, capture_output=True, text=True, timeout=400
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return run


def here(text: str, service: Serving) -> str:
    """The README's text with the port of this service, and nothing else, replaced."""
    assert f":{PORT}" in text
    return text.replace(f":{PORT}", f":{httpx.URL(service.url()).port}")


def picture(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    low, high = image.convert("L").getextrema()
    assert low != high, "the picture is of one colour"
    return image


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_curl(builtin: Serving, run: Any) -> None:
    curls = commands("curl")
    assert curls
    for command in curls:
        job = json.loads(run(["bash", "-c", here(command, builtin)]))
        (shown,) = fences("json")
        agrees(json.loads(shown), job)
        (image,) = job["images"]
        assert picture(httpx.get(image["url"], trust_env=False).content).size == (64, 64)


def agrees(shown: Any, real: Any, path: str = "") -> None:
    """What the README shows of the answer is in it; times, scores and ids may differ."""
    if isinstance(shown, dict):
        for key, value in shown.items():
            assert key in real, f"{path}/{key}"
            agrees(value, real[key], f"{path}/{key}")
    elif isinstance(shown, list):
        assert len(shown) == len(real), path
        for k, (one, other) in enumerate(zip(shown, real, strict=True)):
            agrees(one, other, f"{path}/{k}")
    elif re.search(r"^/id$|/url$|/metrics/|^/timings/", path):
        assert isinstance(real, type(shown)), path
    else:
        assert real == shown, path


def lines(command: str) -> list[str]:
    found = [line for line in commands("lodestar") if line.split()[1] == command]
    assert found
    return found


def test_every_command_is_run_here() -> None:
    assert {line.split()[1] for line in commands("lodestar")} == {"generate", "batch", "compare", "keys"}


def test_generate(builtin: Serving, run: Any, tmp_path: Path) -> None:
    Image.new("L", (64, 64), "white").crop((0, 0, 32, 64)).crop((0, 0, 64, 64)).save(tmp_path / "left.png")
    for line in lines("generate"):
        said = run(["bash", "-c", line], builtin)
        nfe = 100 if "--source-prompt" in line else 30 if "--strength" in line else 50
        assert f" nfe {nfe} " in said
        data = (tmp_path / line.split()[-1]).read_bytes()
        assert picture(data).size == (64, 64)
        assert f'"{read_png(data)["prompt"]}"' in line


def test_keys(builtin: Serving, run: Any) -> None:
    for line in lines("keys"):
        assert run(["bash", "-c", line], builtin).startswith("lds_")


def test_batch(builtin: Serving, run: Any, tmp_path: Path) -> None:
    run(["bash", "-c", "\n".join(commands("printf") + lines("batch"))], builtin)
    rows = [json.loads(line) for line in (tmp_path / "pictures" / "results.jsonl").read_text().splitlines()]
    assert [len(row["images"]) for row in rows] == [1, 2]
    for row in rows:
        for image in row["images"]:
            assert picture((tmp_path / "pictures" / image["file"]).read_bytes()).size == (64, 64)


def test_compare(builtin: Serving, run: Any, tmp_path: Path) -> None:
    for line in lines("compare"):
        run(["bash", "-c", line], builtin)
        report = (tmp_path / line.split()[-1]).read_text()
        assert report.count("data:image/png;base64,") == 12


def test_python_client(builtin: Serving, run: Any, tmp_path: Path) -> None:
    (snippet,) = (text for text in fences("python") if "app.client" in text)
    said = run([sys.executable, "-W", "error", "-c", here(snippet, builtin)])
    assert "saturation" in said
    assert "model=50" in said
    assert picture((tmp_path / "face.png").read_bytes()).size == (64, 64)


def test_library(run: Any, tmp_path: Path) -> None:
    (snippet,) = (text for text in fences("python") if "app.client" not in text)
    nfe, _, trace = run([sys.executable, "-c", snippet]).partition(" ")
    assert nfe == "50"
    assert len(json.loads(trace)) == 25
    assert picture((tmp_path / "apple.png").read_bytes()).size == (64, 64)


def test_methods_are_those_of_the_catalogue(builtin: Serving) -> None:
    methods = httpx.get(f"{builtin.url()}/v1/guidance", trust_env=False).json()["data"]
    head = "| method | what it does | paper | calls |\n|---|---|---|---|\n"
    table = README.partition(head)[2].partition("\n\n")[0]
    assert table.splitlines() == [
        f"| `{method['id']}` | {method['summary'].rstrip('.')} "
        f"| [{method['paper']['arxiv']}]({method['paper']['url']}) | {method['evaluations_per_step']} |"
        for method in methods
    ]


def test_catalogue_entry(tmp_path: Path) -> None:
    (entry,) = fences("toml")
    (tmp_path / "models.toml").write_text(entry)
    assert load_catalogue(tmp_path / "models.toml").default.id in entry


def test_settings_exist_and_have_these_defaults() -> None:
    rows = re.findall(r"^\| `LODESTAR_(\w+)` \| (\S.*?) \|", README, re.MULTILINE)
    assert len(rows) > 3
    for name, shown in rows:
        default = Settings.model_fields[name.lower()].default
        assert default in (None, "") or shown in (f"`{default}`", "the built-in models"), name


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"serve", "test", "pictures", "bench"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if not re.match(r"[a-z]+:|#", target):
            assert (document.parent / target.partition("#")[0]).exists(), target
