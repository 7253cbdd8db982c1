"""A real browser on a running service, and comparisons for it to look at."""

import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, Locator, Page, Request, async_playwright, expect

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
PATIENCE_MS = 60_000
PLAIN: dict[str, Any] = {"trust_env": False, "timeout": PATIENCE_MS / 1e3}
ARMS = [
    {"label": "CFG", "guidance": {"method": "cfg", "scale": 4}},
    {"label": "CFG++", "guidance": {"method": "cfgpp", "scale": 0.6}},
    {"label": "APG", "guidance": {"method": "apg", "scale": 6}},
]
MARKS = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="session"),  # that of the one browser
    pytest.mark.timeout(500),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; on Debian: apt-get install chromium"),
]


def in_browser(test: Callable) -> Callable:
    """A test that needs the browser, in a module where not all do."""
    for mark in MARKS:
        test = mark(test)
    return test


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """A browser, which no user's profile or service of its maker disturbs."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        expect.set_options(timeout=PATIENCE_MS)
        yield browser
        await browser.close()


@asynccontextmanager
async def browsing(browser: Browser, url: str, complaints: list[str]) -> AsyncIterator[BrowserContext]:
    """A person who was never here; whatever their pages complain of is added to `complaints`."""

    def failed(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # by leaving the page
            complaints.append(f"{request.url}: {request.failure}")

    wide = {"width": 1280, "height": 900}
    context = await browser.new_context(base_url=url, viewport=wide)
    context.set_default_timeout(PATIENCE_MS)
    context.on(
        "console",
        lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None,
    )
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("requestfailed", failed)
    yield context
    await context.close()


def compared(url: str, wait: bool = True, **changes: Any) -> str:
    """A comparison of three arms: its id, by default when all its pictures have ended."""
    asked = {"prompts": ["high", "low"], "seeds": [1], "arms": ARMS, "steps": 3, "width": 64, "height": 64}
    with httpx.Client(base_url=url, **PLAIN) as http:
        answer = http.post("/v1/comparisons", json=asked | changes)
        answer.raise_for_status()
        made = answer.json()
        for cell in made["cells"] if wait else []:
            assert http.get(f"/v1/jobs/{cell['job']}", params={"wait": 60}, timeout=90).is_success
    return made["id"]


def told(url: str, comparison: str, what: str = "") -> dict[str, Any]:
    """What the service tells of a comparison: itself, or, say, its "/results"."""
    return httpx.get(f"{url}/v1/comparisons/{comparison}{what}", **PLAIN).raise_for_status().json()


def canceled(url: str, comparison: str) -> None:
    """Leave the worker to others."""
    httpx.post(f"{url}/v1/comparisons/{comparison}/cancel", **PLAIN).raise_for_status()


def voted(url: str, comparison: str, votes: int, voter: str, choice: str = "left") -> None:
    """Have a voter say this so often, by default that the left picture is better."""
    with httpx.Client(base_url=f"{url}/v1/comparisons/{comparison}", **PLAIN) as http:
        for _ in range(votes):
            ticket = http.post("/ballots", json={"voter": voter}).json()["ticket"]
            if ticket is None:
                return
            http.post(f"/ballots/{ticket}/vote", json={"choice": choice}).raise_for_status()


async def settled(page: Page) -> None:
    """All that was asked for is there: no picture is missing, no request under way."""
    await page.wait_for_load_state("networkidle")
    await page.locator("main img:not([loading=lazy])").evaluate_all(
        "images => Promise.all(images.map((image) => image.decode().catch(() => {})))"
    )


async def done(page: Page, words: str = "done") -> None:
    """The comparison that is shown has got so far."""
    await expect(page.locator("#state")).to_contain_text(words)


async def taken(page: Page, act: Callable[[], Awaitable[None]]) -> bytes:
    """What is downloaded when one does this."""
    async with page.expect_download() as download:
        await act()
    return _bytes(await (await download.value).path())


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


async def tab_to(page: Page, wanted: Locator, key: str = "Tab") -> None:
    """Go to an element as somebody without a mouse does."""
    await expect(wanted).to_be_visible()
    element = await wanted.element_handle()
    for _ in range(250):
        where = await element.evaluate("one => one === document.activeElement ? 'here' : one.isConnected")
        if where == "here":
            return
        if not where:  # drawn anew
            element = await wanted.element_handle()
        await page.keyboard.press(key)
    raise AssertionError(f"{key} never reaches {wanted}")


def stamp() -> str:
    """A text that no other comparison has."""
    return f"high {time.monotonic_ns()}"
