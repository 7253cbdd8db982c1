"""Every screen for everybody: axe, 320 px, both themes, screenshots; and faults that the checks must find."""

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from tests.e2e.browsing import CHROMIUM, compared, settled, voted
from tests.e2e.serving import Serving

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(900),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; on Debian: apt-get install chromium"),
]

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SCREENS = {
    "compose": "/",
    "overview": "/compare/{id}",
    "pair-side": "/compare/{id}?view=pair&mode=side",
    "pair-blink": "/compare/{id}?view=pair&mode=blink",
    "pair-onion": "/compare/{id}?view=pair&mode=onion",
    "pair-diff": "/compare/{id}?view=pair&mode=diff&kind=oklab",
    "metrics": "/compare/{id}?view=metrics",
    "trajectories": "/compare/{id}?view=steps",
    "match": "/compare/{id}?view=match",
    "spec": "/compare/{id}?view=spec",
    "vote": "/compare/{id}/vote",
    "results": "/compare/{id}/results",
    "library": "/library",
    "system": "/system",
}
"""Name of a screenshot -> address."""


async def violations(page: Page) -> list[str]:
    found: Any = await Axe().run(page, options={"runOnly": TAGS})
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
        for one in found.response["violations"]
    ]


async def open_screen(page: Page, path: str) -> None:
    await page.goto(path)
    await expect(page.locator("main h1")).not_to_contain_text("Loading")
    await settled(page)


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
async def test_every_screen_is_accessible_and_fits_320_px(
    page: Page, service: Serving, theme: str, tmp_path: Path
) -> None:
    made = compared(service.url(), seeds=[1, 2])
    voted(service.url(), made, 12, "somebody-1")
    await page.emulate_media(color_scheme=theme)
    wrong = list[str]()
    for name, path in SCREENS.items():
        await page.set_viewport_size({"width": 1280, "height": 900})
        await open_screen(page, path.format(id=made))
        wrong += [f"{name}: {one}" for one in await violations(page)]
        await page.screenshot(path=tmp_path / f"{name}-{theme}.png", full_page=True)
        await page.set_viewport_size({"width": 320, "height": 800})
        width = await page.evaluate("document.documentElement.scrollWidth")
        wrong += [f"{name}: {width} px wide at 320"] if width > 320 else []
        await page.screenshot(path=tmp_path / f"{name}-{theme}-320.png", full_page=True)
    assert not wrong, "\n".join(wrong)


async def test_the_sign_in_is_accessible(page: Page, complaints: list[str]) -> None:
    refused = {"status": 401, "json": {"detail": "send an API key"}}
    await page.route("**/v1/session", lambda route: route.fulfill(**refused))
    await open_screen(page, "/")
    await expect(page.get_by_label("API key")).to_be_focused()
    await page.get_by_label("API key").fill("lds_none")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_label("API key")).to_have_attribute("aria-invalid", "true")
    assert await violations(page) == []
    await page.set_viewport_size({"width": 320, "height": 800})
    assert await page.evaluate("document.documentElement.scrollWidth") <= 320
    assert complaints
    assert all("401" in complaint for complaint in complaints)
    complaints.clear()


async def test_faults_are_found(page: Page) -> None:
    """A label, a contrast and a heading broken on purpose: a check that cannot fail proves nothing."""
    await open_screen(page, "/library")
    assert await violations(page) == []
    faults = {
        "label": "document.querySelector('label[for=search]').remove()",
        "color-contrast": "document.documentElement.style.setProperty('--ink', '#cccccc')",
        "page-has-heading-one": "document.querySelector('h1').outerHTML = '<p>Library</p>'",
    }
    for rule, break_it in faults.items():
        await open_screen(page, "/library")
        await page.evaluate(break_it)
        assert rule in {one.partition(":")[0] for one in await violations(page)}


async def test_focus_goes_to_the_heading_of_a_new_screen_and_motion_is_left_out(
    page: Page, service: Serving
) -> None:
    made = compared(service.url())
    await page.emulate_media(reduced_motion="reduce", forced_colors="active")
    await open_screen(page, "/library")
    await page.get_by_role("link", name="System").click()
    await expect(page.get_by_role("heading", name="System")).to_be_focused()
    await open_screen(page, f"/compare/{made}?view=pair&mode=blink")
    await expect(page.get_by_role("button", name="Hold to see B")).to_be_visible()
    assert await page.get_by_role("button", name="Blink by itself").count() == 0
