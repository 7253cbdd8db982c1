"""The page of a service that asks for keys, below a path, as it stands behind a proxy of an institute."""

import subprocess
import sys
from pathlib import Path

from playwright.async_api import Browser, expect

from tests.e2e.access import examine, lost_by_keyboard
from tests.e2e.browsing import MARKS, browsing, settled
from tests.e2e.serving import serving

pytestmark = MARKS


def created(data_dir: Path) -> str:
    """A new key of Ann's."""
    command = [sys.executable, "-m", "app", "keys", "create", "ann", "--data-dir", str(data_dir)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout.strip()


async def test_a_guest_signs_in_below_a_path_and_sees_pictures_and_events(
    browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    told = {
        "LODESTAR_REQUIRE_KEYS": "true",
        "LODESTAR_ROOT_PATH": "/lodestar",
        "PATH": str(tmp_path / "empty"),  # no Node, nor anything else
    }
    complaints, key = list[str](), created(tmp_path / "data")
    with serving(tmp_path / "data", **told) as service:
        url = service.url()
        async with browsing(browser, url, complaints) as context:
            page = await context.new_page()
            await page.goto(f"{url}/library")
            await expect(page.get_by_label("API key")).to_be_focused()
            assert await examine(page, name="signed out") == []
            await page.get_by_label("API key").focus()
            await page.keyboard.type("lds_not_one")
            await page.keyboard.press("Enter")
            await expect(page.locator("main")).to_contain_text("no key of this service")
            assert complaints
            assert all("401" in complaint for complaint in complaints)
            complaints.clear()
            await expect(page.get_by_label("API key")).to_have_attribute("aria-invalid", "true")
            assert await examine(page, name="refused") + await lost_by_keyboard(page) == []
            await page.get_by_label("API key").focus()
            await page.keyboard.press("ControlOrMeta+a")
            await page.keyboard.type(key)
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("heading", name="Library")).to_be_visible()
            assert key not in await page.evaluate("JSON.stringify([document.cookie, {...localStorage}])")
            await page.get_by_role("link", name="Compose").click()
            await page.get_by_label("Model", exact=True).select_option("slow")
            await page.get_by_label("Steps", exact=True).fill("4")
            await page.get_by_role("button", name="Run 3 pictures").click()
            await expect(page.locator("#state")).to_contain_text("3 of 3 pictures, done")
            assert "/lodestar/compare/" in page.url
            pictures = page.locator("table.grid img")
            await expect(pictures).to_have_count(3)
            await settled(page)
            assert await pictures.first.evaluate("image => image.naturalWidth") > 0
            await page.reload()
            await expect(pictures).to_have_count(3)
            await page.get_by_role("link", name="Vote", exact=True).click()
            await expect(page.get_by_role("img", name="Image 1")).to_be_visible()
            await page.get_by_role("link", name="Stop and see the results").click()
            await expect(page.locator("main")).to_contain_text("Nobody has voted yet")
            await page.get_by_role("link", name="Library").click()
            await settled(page)
            await page.get_by_role("button", name="Sign out of ann").click()
            await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert complaints == []
