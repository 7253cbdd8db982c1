"""What is looked at: the address restores it, the back button leads through it, its numbers are numpy's."""

import io
import re
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.async_api import Browser, Page, expect

from tests.e2e.browsing import MARKS, PLAIN, browsing, compared, done, settled, told, voted
from tests.e2e.serving import Serving

pytestmark = MARKS

LOOK = """() => {
  const all = (selector, read) => [...document.querySelectorAll(selector)].map(read);
  const text = (one) => one.textContent;
  const placed = (one) => {
    const { a, e, f } = new DOMMatrix(getComputedStyle(one).transform);
    return [a, Math.round(e), Math.round(f)];
  };
  const value = (one) => (["checkbox", "radio"].includes(one.type) ? one.checked : one.value);
  return {
    tabs: all("[aria-current=page]", text),
    headings: all("main :is(h1, h2, th)", text),
    fields: all("main :is(input, select, textarea)", (one) => [one.labels[0]?.textContent, value(one)]),
    pressed: all("main [aria-pressed=true]", text),
    pictures: all("main .view :is(img, canvas)", (one) =>
      [one.alt ?? one.ariaLabel, placed(one), one.getBoundingClientRect().width]),
    clips: all("main .clip", (one) => [getComputedStyle(one).clipPath, getComputedStyle(one).opacity]),
  };
}"""
"""Everything of a screen that a person can tell."""


async def look(page: Page) -> Any:
    await settled(page)
    await expect(page.locator("canvas[aria-label$=computing]")).to_have_count(0)
    return await page.evaluate(LOOK)


async def choose(page: Page, label: str, option: str) -> None:
    await page.get_by_label(label, exact=True).select_option(label=option)


async def pressed(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name, exact=True).first.click()


def pixels(url: str) -> np.ndarray:
    """A picture's values as floats."""
    png = httpx.get(url, **PLAIN).raise_for_status().content
    return np.asarray(Image.open(io.BytesIO(png))).astype(float)


async def test_an_address_restores_the_view_exactly(
    page: Page, browser: Browser, service: Serving, complaints: list[str]
) -> None:
    made = compared(service.url(), model="slow", seeds=[1, 2], preview_every=1)
    voted(service.url(), made, 12, "somebody-3")

    async def zoomed() -> None:
        await pressed(page, "Zoom in")
        view = page.locator(".pair .view").first
        await view.scroll_into_view_if_needed()
        box = await view.bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        await page.mouse.move(x, y)
        await page.mouse.down()
        await page.mouse.move(x - 40, y - 40, steps=4)
        await page.mouse.up()

    async def overview() -> None:
        await page.get_by_role("button", name="Compare as A: APG, low, seed 2").click()
        await page.get_by_role("button", name="Hide CFG", exact=True).click()
        await page.get_by_text("Small", exact=True).click()
        await page.get_by_label("Rows").fill("low")
        await pressed(page, "25 %")
        await pressed(page, "Horizontal edge")

    async def difference() -> None:
        await choose(page, "B", "APG")
        await page.get_by_text("Lightness", exact=False).first.click()

    async def onion() -> None:
        await choose(page, "Prompt of the pair", "low")
        await choose(page, "Seed of the pair", "2")
        await page.get_by_label("How much of B lies over A").press("ArrowRight")
        await page.get_by_label("Step of both").press("Home")
        await zoomed()

    async def metrics() -> None:
        await page.get_by_label("Across").select_option(index=1)

    async def steps() -> None:
        await page.get_by_text("over sigma").click()

    async def results() -> None:
        await choose(page, "On which prompt", "low")

    async def library() -> None:
        await page.get_by_label("Search title").fill("nothing like this")
        await expect(page.get_by_text("Nothing matches.")).to_be_visible()

    views = [
        (f"/compare/{made}", overview, "way=level"),
        (f"/compare/{made}?view=pair&mode=diff", difference, "kind=lightness"),
        (f"/compare/{made}?view=pair&mode=onion", onion, r"z=1\.5%2C0\.5\d+%2C0\.5\d+"),
        (f"/compare/{made}?view=metrics", metrics, "u="),
        (f"/compare/{made}?view=steps", steps, "over=sigma"),
        (f"/compare/{made}/results", results, "prompt=1"),
        ("/library", library, "search=nothing"),
    ]
    async with browsing(browser, service.url(), complaints) as elsewhere:
        other = await elsewhere.new_page()
        for address, change, told_last in views:
            await page.goto(address)
            await change()
            await expect(page).to_have_url(re.compile(told_last))
            seen = await look(page)
            await other.goto(page.url)
            assert await look(other) == seen, page.url


async def test_the_back_button_goes_through_what_was_looked_at(page: Page, service: Serving) -> None:
    await page.goto("/library")
    made = compared(service.url(), prompts=["high"])
    await page.goto(f"/compare/{made}")
    await done(page)
    await page.get_by_role("link", name="Trajectories").click()
    await page.get_by_role("link", name="Spec", exact=True).click()
    await expect(page.get_by_role("heading", name="The request")).to_be_visible()
    await page.go_back()
    await expect(page.get_by_role("link", name="Trajectories")).to_have_attribute("aria-current", "page")
    await page.go_back()
    await expect(page.locator("table.grid")).to_be_visible()
    await page.go_back()
    await expect(page.get_by_role("heading", name="Library")).to_be_visible()
    await page.go_forward()
    await expect(page.locator("table.grid")).to_be_visible()


async def test_the_differences_of_two_pictures_equal_numpys(page: Page, service: Serving) -> None:
    made = compared(service.url(), prompts=["high"])
    a, b = (pixels(told(service.url(), made)["cells"][arm]["images"][0]["url"]) for arm in (0, 2))
    rgb = np.abs(a - b).mean(axis=-1)
    wanted = {
        "Mean": rgb.mean(),
        "99th percentile": np.percentile(rgb, 99, method="inverted_cdf"),
        "Most": rgb.max(),
        "PSNR, dB": 10 * np.log10(255**2 / ((a - b) ** 2).mean()),
    }
    await page.goto(f"/compare/{made}?view=pair&mode=diff&b=2")
    numbers = page.locator("#difference > div")
    await expect(numbers.first).to_be_visible()
    shown = dict(re.findall(r"(.+)\n+([\d.]+)", "\n".join(await numbers.all_inner_texts())))
    for name, value in wanted.items():
        assert float(shown[name]) == pytest.approx(value, rel=5e-3), name
