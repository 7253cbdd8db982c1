"""Every screen in every state: loading, empty, running, failed, canceled, dialogs, no worker, no service."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.e2e.access import examine
from tests.e2e.browsing import MARKS, browsing, canceled, compared, done, stamp, voted
from tests.e2e.serving import Serving, serving

pytestmark = MARKS

VIEWS = ("", "?view=pair", "?view=metrics", "?view=steps", "?view=match", "?view=spec")


@asynccontextmanager
async def held(page: Page, what: str) -> AsyncIterator[None]:
    """Answers to such requests arrive after the block only."""
    free = asyncio.Event()

    async def hold(route: Route) -> None:
        await free.wait()
        await route.fallback()

    await page.route(what, hold)
    yield
    free.set()


@pytest.fixture
def running(service: Serving) -> Iterator[str]:
    """A comparison that takes longer than a test looks at it."""
    slow = compared(service.url(), wait=False, model="endless", steps=200, prompts=[stamp()], preview_every=1)
    yield slow
    canceled(service.url(), slow)


async def test_while_it_loads(page: Page, service: Serving) -> None:
    made = compared(service.url())
    screens = {
        "/": "Loading the catalogue",
        f"/compare/{made}": "Loading the comparison",
        f"/compare/{made}/vote": "Vote",
        f"/compare/{made}/results": "Counting the votes",
        "/library": "Library",
        "/system": "Asking",
    }
    wrong = list[str]()
    for path, words in screens.items():
        async with held(page, re.compile(r"/v1/(?!session)")):
            await page.goto(path)
            await expect(page.locator("main")).to_contain_text(words)
            wrong += await examine(page, name=path)
        await expect(page.locator("main")).not_to_contain_text("Loading")
    async with held(page, "**/results"):
        await page.goto(f"/compare/{made}?view=metrics")
        await expect(page.locator("main")).to_contain_text("Counting…")
        wrong += await examine(page, name="metrics")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
async def test_while_it_runs(page: Page, running: str) -> None:
    wrong = list[str]()
    for view in VIEWS:
        await page.goto(f"/compare/{running}{view}")
        await done(page, "0 of 3 pictures")
        await expect(page.get_by_role("button", name="Cancel")).to_be_visible()
        if view in ("", "?view=steps"):
            await expect(
                page.get_by_role("img", name=re.compile("^(preview of CFG|Guidance norm)")).first
            ).to_be_visible()
        wrong += await examine(page, name=view or "overview")
    await page.goto(f"/compare/{running}/vote")
    await expect(page.get_by_text("No pair is made yet")).to_be_visible()
    wrong += await examine(page, name="vote")
    await page.goto(f"/compare/{running}/results")
    await expect(page.get_by_text("Nobody has voted yet")).to_be_visible()
    wrong += await examine(page, name="results")
    await page.goto("/library")
    await expect(page.get_by_text("3 processing")).to_be_visible()
    wrong += await examine(page, name="library")
    await page.goto("/system")
    await expect(page.get_by_role("button", name="Cancel job").first).to_be_visible()
    wrong += await examine(page, name="system")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
async def test_what_failed_or_was_canceled(page: Page, service: Serving) -> None:
    failed = compared(service.url(), model="fragile", prompts=[stamp(), "broken"])
    stopped = compared(service.url(), wait=False, model="slow", steps=40, prompts=[stamp()])
    canceled(service.url(), stopped)
    wrong = list[str]()
    for made, words in ((failed, "3 of 6 pictures, 3 not made"), (stopped, "0 of 3 pictures, 3 not made")):
        for view in VIEWS:
            await page.goto(f"/compare/{made}{view}")
            await done(page, words)
            wrong += await examine(page, name=f"{words}{view}")
    await page.goto("/library")
    await expect(page.get_by_text("3 canceled").first).to_be_visible()
    await expect(page.get_by_text(re.compile("3 failed")).first).to_be_visible()
    wrong += await examine(page, name="library")
    await page.goto("/system")
    await expect(page.get_by_role("button", name="Retry job").first).to_be_visible()
    wrong += await examine(page, name="system")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
async def test_what_opens_on_a_screen(page: Page, service: Serving, complaints: list[str]) -> None:
    made = compared(service.url(), prompts=[prompt := stamp()])
    voted(service.url(), made, 2, "somebody-5")

    async def dialog() -> None:
        await page.get_by_role("button", name="Shortcuts").click()
        await expect(page.get_by_role("dialog")).to_be_visible()

    async def details() -> None:
        await expect(page.locator("details").first).to_be_attached()
        await page.locator("details").evaluate_all("all => all.forEach((one) => (one.open = true))")

    async def rename() -> None:
        await page.get_by_role("button", name="Rename").click()

    async def tables() -> None:
        for button in await page.get_by_role("button", name="Table", exact=True).all():
            await button.click()

    async def toast() -> None:
        await page.get_by_role("button", name="Delete").first.click()
        await expect(page.get_by_role("button", name="Undo")).to_be_visible()

    async def undone() -> None:
        await page.get_by_role("button", name="Undo").click()

    async def refused() -> None:
        await page.get_by_label("Steps", exact=True).fill("9999")
        await page.get_by_role("button", name=re.compile("^Run (3|the comparison)")).click()
        await expect(page.locator("#summary")).to_be_focused()

    async def code() -> None:
        await page.get_by_role("button", name="Fill in a QR code").click()
        await expect(page.get_by_label("What a scanner reads")).to_be_visible()
        await details()

    async def told() -> None:
        await page.get_by_label("Tell me after each vote").check()
        await page.get_by_role("button", name="Left").click()
        await expect(page.locator("main").get_by_text("Left was")).to_be_visible()

    async def seen() -> None:
        voter = await page.evaluate("localStorage.getItem('voter')")
        voted(service.url(), made, 100, voter)
        await page.reload()
        await expect(page.get_by_text("You have seen every pair that is made")).to_be_visible()

    async def missing() -> None:
        await expect(page.locator("main")).to_contain_text("there is no comparison 'none'")

    opened: list[tuple[str, Callable[[], Awaitable[None]]]] = [
        ("/", dialog),
        ("/", details),
        ("/", code),
        ("/", refused),
        (f"/compare/{made}", dialog),
        (f"/compare/{made}", details),
        (f"/compare/{made}", rename),
        (f"/compare/{made}?view=steps", tables),
        (f"/compare/{made}?view=metrics", tables),
        (f"/compare/{made}/vote", dialog),
        (f"/compare/{made}/vote", told),
        (f"/compare/{made}/vote", seen),
        (f"/compare/{made}/results", dialog),
        (f"/library?search={prompt}", toast),
        ("/library?search=nothing-like-this", dialog),
        ("/system", dialog),
        ("/compare/none", missing),
        ("/compare/none/vote", missing),
        ("/compare/none/results", missing),
    ]
    wrong = list[str]()
    for path, act in opened:
        await page.goto(path)
        await expect(page.locator("main h1")).not_to_contain_text("Loading")
        await act()
        wrong += await examine(page, name=f"{act.__name__} at {path}")
        if act is toast:
            await undone()
    assert not wrong, "\n".join(wrong)
    assert all("422" in complaint or "404" in complaint for complaint in complaints)
    complaints.clear()


@pytest.mark.slow
async def test_without_a_worker_and_then_without_a_service(browser: Browser, tmp_path: Path) -> None:
    complaints = list[str]()
    wrong = list[str]()
    with serving(tmp_path / "data", "--workers", "0") as service:
        async with browsing(browser, url := service.url(), complaints) as context:
            page = await context.new_page()
            await page.goto("/library")
            await expect(page.get_by_text("Nothing was compared yet.")).to_be_visible()
            wrong += await examine(page, name="empty library")
            waiting = compared(url, wait=False)
            await page.goto("/system")
            await expect(page.get_by_text("No worker is alive, so 6 jobs wait")).to_be_visible()
            wrong += await examine(page, name="no worker")
            await page.goto(f"/compare/{waiting}")
            await expect(page.get_by_text("waits", exact=True).first).to_be_visible()
            wrong += await examine(page, name="waiting")
            tabs = {path: await context.new_page() for path in ("/", "/library", "/system")}
            for path, tab in tabs.items():
                await tab.goto(path)
                await expect(tab.locator("main h1")).not_to_contain_text("Loading")
            await tabs["/"].get_by_label("Steps", exact=True).fill("4")
            await expect(tabs["/"].get_by_text("evaluations per picture")).to_be_visible()
            await page.bring_to_front()
            assert complaints == []
            service.stop(signal.SIGKILL)
            await expect(page.get_by_role("alert")).to_contain_text("The connection is lost")
            wrong += await examine(page, name="connection lost")
            await page.get_by_role("link", name="Library").click()
            await expect(page.locator("main")).to_contain_text("does not answer")
            wrong += await examine(page, name="a screen that cannot be loaded")
            await tabs["/"].bring_to_front()
            await (
                tabs["/"].get_by_role("button", name=re.compile("^Run 6|^Run the comparison|^Run 3")).click()
            )
            await expect(tabs["/"].locator("#summary")).to_contain_text("The server does not answer")
            await tabs["/library"].bring_to_front()
            await tabs["/library"].get_by_label("Search title").fill("anything")
            await expect(tabs["/library"].get_by_role("alert")).to_contain_text("The server does not answer")
            await tabs["/system"].bring_to_front()
            await expect(tabs["/system"].get_by_role("alert")).to_contain_text("The server does not answer")
            for path, tab in tabs.items():
                await tab.bring_to_front()
                wrong += await examine(tab, name=f"offline {path}")
    assert not wrong, "\n".join(wrong)
    refused = re.compile(
        "ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE"
    )
    assert [one for one in complaints if not refused.search(one)] == []
