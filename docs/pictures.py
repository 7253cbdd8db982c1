"""The README's pictures, made by the product: `python -m docs.pictures [--url http://...]`.

Without --url it starts a service of its own for as long as it takes. Needs Chromium (CHROMIUM names another).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import sync_playwright

from app.client import Client
from guidance import REGISTRY

FOLDER = Path(__file__).resolve().parent / "images"
QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]

PROMPTS = [
    "a red apple, 3d",
    "grinning face, fluent",
    "a panda, flat, on a green background",
    "a blue heart, flat, on an orange background",
    "a frog, 3d, on a black background",
]
COLUMNS: list[dict[str, Any]] = [
    {"method": "none"},
    {"method": "cfg", "scale": 4},
    {"method": "cfg", "scale": 12},
    {"method": "apg", "scale": 12},
    {"method": "cfgpp", "scale": 0.6},
    {"method": "tangential", "scale": 4},
    {"method": "autoguidance", "scale": 2},
    {"method": "fkc", "scale": 2.5},
]
SEED = 1
PICTURE, GAP, LEFT, TOP = 128, 6, 150, 84


def main() -> None:
    """Make both pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", help="a running service; without it, one is started")
    url = parser.parse_args().url
    FOLDER.mkdir(exist_ok=True)
    with started() if url is None else as_is(url) as where:
        compare(where, FOLDER / "compare.png")
        methods(where, FOLDER / "methods.png")


def compare(url: str, path: Path) -> None:
    """The page, with its worked example finished."""
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
        page.goto(url)
        page.get_by_role("button", name="Run the worked example").click()
        page.locator("#state").get_by_text("done").wait_for(timeout=300_000)
        page.locator("svg.plot").first.wait_for()
        page.wait_for_load_state("networkidle")
        # As tall as the page: what sticks to the window's lower edge lies at its place.
        height = page.evaluate("document.documentElement.scrollHeight")
        page.set_viewport_size({"width": 1280, "height": height})
        page.mouse.move(0, 0)
        page.evaluate("document.activeElement.blur()")
        page.screenshot(path=path)
        browser.close()
    tell(path)


def methods(url: str, path: Path) -> None:
    """A sheet of prompts (rows) by guidance methods (columns), each from the same noise."""
    width = LEFT + len(COLUMNS) * (PICTURE + GAP)
    sheet = Image.new("RGB", (width, TOP + len(PROMPTS) * (PICTURE + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    bold, plain = ImageFont.load_default(19), ImageFont.load_default(16)
    with Client(url) as client, ThreadPoolExecutor(16) as pool:

        def cell(prompt: str, guidance: dict[str, Any]) -> tuple[Image.Image, int]:
            sampler = "euler_a" if REGISTRY[guidance["method"]].needs.stochastic else "ddim"
            job = client.generate(prompt, guidance=guidance, sampler=sampler, seeds=[SEED])
            nfe = job.nfe.model + job.nfe.weak if job.nfe else 0
            return Image.open(io.BytesIO(client.image(job))).convert("RGB"), nfe

        made = [[pool.submit(cell, prompt, guidance) for guidance in COLUMNS] for prompt in PROMPTS]
        for row, prompt in enumerate(PROMPTS):
            y = TOP + row * (PICTURE + GAP)
            lines = textwrap.fill(prompt, 16)
            draw.multiline_text((LEFT - 14, y + PICTURE / 2), lines, "#1c2126", plain, "rm", 5, "right")
            for column, guidance in enumerate(COLUMNS):
                x = LEFT + column * (PICTURE + GAP)
                picture, nfe = made[row][column].result()
                sheet.paste(picture.resize((PICTURE, PICTURE), Image.Resampling.NEAREST), (x, y))
                if row == 0:
                    title = REGISTRY[guidance["method"]].title
                    middle = x + PICTURE / 2
                    draw.text((middle, 18), title, "#1c2126", bold, "mm")
                    if "scale" in guidance:
                        draw.text((middle, 42), f"scale {guidance['scale']}", "#5a636c", plain, "mm")
                    draw.text((middle, 64), f"{nfe} evaluations", "#5a636c", plain, "mm")
    sheet.save(path, optimize=True)
    tell(path)


@contextmanager
def started() -> Generator[str]:
    """A service for the time of the block."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "app", "serve", "--port", "0", "--data-dir", folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
            try:
                assert service.stdout is not None
                for line in service.stdout:
                    print(line, end="", flush=True)
                    if found := re.search(r"ready +(http://\S+)", line):
                        yield found[1]
                        return
                sys.exit("the service did not start")
            finally:
                service.terminate()


@contextmanager
def as_is(url: str) -> Generator[str]:
    """A service that runs already."""
    yield url


def tell(path: Path) -> None:
    """Say what was written."""
    print(json.dumps({"path": str(path), "bytes": path.stat().st_size}), flush=True)


if __name__ == "__main__":
    main()
