"""The page while connections are scarce, or the service dies and comes back."""

import signal
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.e2e.browsing import MARKS, browsing, canceled, compared, done, stamp
from tests.e2e.serving import Serving, serving

pytestmark = MARKS


async def test_six_tabs_follow_one_comparison_and_the_seventh_still_loads(
    page: Page, service: Serving
) -> None:
    slow = compared(service.url(), wait=False, model="endless", steps=200, prompts=[stamp()])
    for _ in range(6):
        tab = await page.context.new_page()
        await tab.goto(f"/compare/{slow}")
        await expect(tab.locator("progress").first).to_be_visible()
    await page.goto("/library")
    await expect(page.get_by_role("heading", name="Library")).to_be_visible()
    canceled(service.url(), slow)
    for tab in page.context.pages[1:]:
        await tab.bring_to_front()
        await done(tab, "3 not made")


@pytest.mark.slow
async def test_a_restart_of_the_service_loses_nothing(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--port", "18973") as first:
        slow = compared(first.url(), wait=False, model="slow", steps=100, prompts=["high"])
        async with browsing(browser, first.url(), []) as context:
            page = await context.new_page()
            await page.goto(f"/compare/{slow}")
            await expect(page.locator("#state")).to_contain_text("of 3 pictures")
            await expect(page.locator("progress").first).to_be_visible()
            first.stop(signal.SIGKILL)  # told to stop, it would finish what it holds
            await expect(page.get_by_role("alert")).to_contain_text("The connection is lost")
            with serving(tmp_path / "data", "--port", "18973") as second:
                second.url()
                await done(page, "3 of 3 pictures, done")
