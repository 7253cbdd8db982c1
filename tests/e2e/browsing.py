"""A real browser on a running service, and comparisons for it to look at."""

import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from playwright.async_api import BrowserContext, Page, async_playwright

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
PATIENCE_MS = 60_000
ARMS = [
    {"label": "CFG", "guidance": {"method": "cfg", "scale": 4}},
    {"label": "CFG++", "guidance": {"method": "cfgpp", "scale": 0.6}},
    {"label": "APG", "guidance": {"method": "apg", "scale": 6}},
]


@asynccontextmanager
async def browsing(url: str, complaints: list[str], **options: Any) -> AsyncIterator[BrowserContext]:
    """A browser of its own; whatever its pages complain of is added to `complaints`."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        wide = {"width": 1280, "height": 900}
        context = await browser.new_context(**{"base_url": url, "viewport": wide} | options)
        context.set_default_timeout(PATIENCE_MS)
        context.on(
            "console",
            lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None,
        )
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        yield context
        await browser.close()


def compared(url: str, wait: bool = True, **changes: Any) -> str:
    """A comparison of three arms: its id, by default when all its pictures are made."""
    asked = {"prompts": ["high", "low"], "seeds": [1], "arms": ARMS, "steps": 3, "width": 64, "height": 64}
    with httpx.Client(base_url=url, trust_env=False) as http:
        answer = http.post("/v1/comparisons", json=asked | changes)
        answer.raise_for_status()
        made = answer.json()
        for cell in made["cells"] if wait else []:
            assert http.get(f"/v1/jobs/{cell['job']}", params={"wait": 60}, timeout=90).is_success
    return made["id"]


def voted(url: str, comparison: str, votes: int, voter: str) -> None:
    """Have a voter prefer the left picture so often."""
    with httpx.Client(base_url=f"{url}/v1/comparisons/{comparison}", trust_env=False) as http:
        for _ in range(votes):
            ticket = http.post("/ballots", json={"voter": voter}).json()["ticket"]
            if ticket is None:
                return
            http.post(f"/ballots/{ticket}/vote", json={"choice": "left"}).raise_for_status()


async def settled(page: Page) -> None:
    """All that was asked for is there: no picture is missing, no request under way."""
    await page.wait_for_load_state("networkidle")
    for image in await page.locator("main img").all():
        await image.evaluate("image => image.decode().catch(() => {})")


def stamp() -> str:
    """A text that no other comparison has."""
    return f"high {time.monotonic_ns()}"
