"""The page in a real browser. Whatever the browser complains of fails the test."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.e2e.serving import Serving

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
PATIENCE_MS = 60_000

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(500),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; on Debian: apt-get install chromium"),
]


@pytest.fixture
def complaints() -> list[str]:
    """What the browser may not complain of: a test that provokes something takes it out."""
    return []


@pytest.fixture
async def page(service: Serving, complaints: list[str]) -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = await browser.new_page(base_url=service.url(), viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        page.on(
            "console",
            lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto("/")
        await expect(page.get_by_label("Method")).to_be_visible()
        yield page
        await browser.close()
    assert complaints == []


async def done(page: Page, words: str = "Done.") -> None:
    await expect(page.get_by_role("status")).to_have_text(words, timeout=PATIENCE_MS)


async def test_the_worked_example_compares_three_arms(page: Page) -> None:
    await page.get_by_label("Steps").fill("6")
    await page.get_by_role("button", name="Compare CFG, CFG++ and APG").click()
    await done(page)
    pictures = page.locator("#grid article img")
    await expect(pictures).to_have_count(3)
    for picture in await pictures.all():
        assert "seed 1" in (await picture.get_attribute("alt") or "")
        await expect(picture).to_have_js_property("complete", True)
        assert await picture.evaluate("image => image.naturalWidth") > 0
    scale = page.get_by_role("row", name="scale")
    assert await scale.get_by_role("cell").all_inner_texts() == ["4", "0.6", "6"]
    assert await page.get_by_role("row", name="saturation").count() == 1
    assert await page.locator("#plots figure").count() > 0


async def test_the_wipe_moves_by_keyboard(page: Page) -> None:
    await page.get_by_label("Steps").fill("2")
    await page.get_by_role("button", name="Add an arm").click()
    await page.get_by_role("button", name="Generate").click()
    await done(page)
    wipe = page.get_by_label("Where the two pictures meet")
    await wipe.press("Home")
    over = page.locator("#wipe .over")
    await expect(over).to_have_css("clip-path", "inset(0px 0px 0px 0%)")
    await wipe.press("End")
    await expect(over).to_have_css("clip-path", "inset(0px 0px 0px 100%)")


async def test_a_picture_by_keyboard_alone(page: Page) -> None:
    await page.get_by_label("Steps").fill("2")
    await page.evaluate("document.activeElement.blur()")
    for _ in range(60):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.id") == "run":
            break
    await page.keyboard.press("Enter")
    await done(page)
    assert await page.locator("#grid article img").evaluate("image => image.naturalWidth") > 0


async def test_a_refusal_is_shown_beside_its_field(page: Page, complaints: list[str]) -> None:
    await page.get_by_label("Steps").fill("9999")
    await page.get_by_role("button", name="Generate").click()
    await expect(page.locator("[data-error='/steps']")).to_contain_text("at most")
    (complaint,) = complaints
    assert "422" in complaint
    complaints.clear()


async def test_every_method_has_a_form(page: Page) -> None:
    method = page.get_by_label("Method")
    names = await method.locator("option").evaluate_all("options => options.map(option => option.value)")
    assert len(names) > 3
    for name in names:
        await method.select_option(name)
        await expect(method).to_have_value(name)
        assert await page.locator("#arms .summary").first.inner_text()


async def test_the_link_brings_the_request_back(page: Page, service: Serving) -> None:
    await page.get_by_label("Prompt", exact=True).fill("low & high, ünï")
    await page.get_by_role("button", name="Add an arm").click()
    await page.get_by_label("scale", exact=True).last.fill("0.3")
    await page.get_by_role("button", name="Copy link").click()
    link = page.url
    await page.goto("about:blank")
    await page.goto(link)
    await expect(page.get_by_label("Prompt", exact=True)).to_have_value("low & high, ünï")
    await expect(page.get_by_label("scale", exact=True).last).to_have_value("0.3")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width_px", [320, 1280])
async def test_nothing_overflows(page: Page, theme: str, width_px: int, tmp_path: Path) -> None:
    await page.set_viewport_size({"width": width_px, "height": 900})
    if theme == "dark":
        await page.get_by_role("button", name="Dark").click()
    await page.get_by_label("Steps").fill("4")
    await page.get_by_role("button", name="Compare CFG, CFG++ and APG").click()
    await done(page)
    await page.screenshot(path=tmp_path / f"{theme}-{width_px}.png", full_page=True)
    assert await page.evaluate("document.documentElement.scrollWidth") <= width_px
    assert await page.evaluate("document.documentElement.dataset.theme") == theme
