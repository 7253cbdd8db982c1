"""Every screen for everybody when all is done: axe, 320 px, keyboard order; and faults to be found."""

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.e2e.access import (
    cut_by_spacing,
    examine,
    lost_by_keyboard,
    too_wide,
    violations,
)
from tests.e2e.browsing import MARKS, compared, done, settled, voted
from tests.e2e.serving import Serving

pytestmark = MARKS

SCREENS = {
    "compose": "/",
    "overview": "/compare/{id}",
    "pair-slider": "/compare/{id}?view=pair",
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
    "library": "/library?search=everybody",
    "system": "/system",
}
"""Name of a screenshot -> address."""
SOON = ("compose", "overview", "pair-slider", "metrics", "vote", "results", "library")
"""What `make test` looks at."""


async def open_screen(page: Page, path: str) -> None:
    await page.goto(path)
    await expect(page.locator("main h1")).not_to_contain_text("Loading")
    await settled(page)


@pytest.fixture(scope="module")
def made(service: Serving) -> str:
    made = compared(service.url(), seeds=[1, 2], preview_every=1, title="For everybody")
    voted(service.url(), made, 12, "somebody-1")
    return made


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in SOON else pytest.mark.slow) for name in SCREENS]
)
async def test_a_screen_is_accessible_and_fits_320_px(
    page: Page, made: str, name: str, tmp_path: Path
) -> None:
    await open_screen(page, SCREENS[name].format(id=made))
    wrong = await examine(page, tmp_path, name)
    wrong += await lost_by_keyboard(page)
    wrong += await cut_by_spacing(page)
    assert not wrong, "\n".join(wrong)


async def test_faults_are_found(page: Page) -> None:
    """Broken on purpose: a check that cannot fail proves nothing."""
    style = "document.documentElement.style.setProperty"
    faults = {
        "label: ": "document.querySelector('label[for=search]').remove()",
        "color-contrast: ": f"{style}('--ink', '#cccccc')",
        "page-has-heading-one: ": "document.querySelector('h1').outerHTML = '<p>Library</p>'",
        "target-size: ": """const nav = document.querySelector("nav.main");
          nav.style.gap = 0;
          for (const one of nav.children)
            one.style.cssText = "width: 9px; height: 9px; padding: 0; overflow: hidden";""",
        "ends at 400 px": "document.querySelector('main').style.cssText = 'width: 400px; margin: 0'",
        "cuts its text": """document.querySelector("h1").style.cssText =
          "width: 40px; overflow: hidden; white-space: nowrap";""",
        "no focus ring": "document.querySelector('main input').style.outline = 'none'",
        "covered while": "document.querySelector('header.top').style.cssText = 'position: fixed; inset: 0'",
        "Tab ": "document.querySelector('main input').tabIndex = 1",
    }
    sound = "/library?search=nothing-like-this"
    for fault, break_it in faults.items():
        await open_screen(page, sound)
        await page.evaluate(break_it)
        found = await violations(page) if fault.endswith(": ") else await too_wide(page)
        found += await cut_by_spacing(page) + await lost_by_keyboard(page)
        assert any(one.startswith(fault) for one in found), (fault, found)
    await open_screen(page, sound)
    assert await violations(page) + await too_wide(page) + await cut_by_spacing(page) == []
    assert await lost_by_keyboard(page) == []


async def test_focus_goes_to_the_heading_of_a_new_screen(page: Page, made: str) -> None:
    await open_screen(page, "/library")
    await expect(page.locator("body")).to_be_focused()  # so that Tab leads to the skip link first
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    for name in ("Compose", "System", "Library"):
        await page.get_by_role("link", name=name, exact=True).click()
        await expect(page.get_by_role("link", name=name, exact=True)).to_have_attribute(
            "aria-current", "page"
        )
        await expect(page.get_by_role("heading", level=1)).to_be_focused()
    for name in ("Results of", "Pictures", "Vote"):
        await page.get_by_role("link", name=name).first.click()
        await settled(page)
        await expect(page.get_by_role("heading", level=1)).to_be_focused()


async def test_a_dialog_gives_the_focus_back(page: Page) -> None:
    await open_screen(page, "/system")
    opener = page.get_by_role("button", name="Shortcuts")
    await opener.press("Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    assert await lost_by_keyboard(page) == []
    await page.keyboard.press("Escape")
    await expect(opener).to_be_focused()


async def test_nothing_moves_for_those_who_want_no_motion(page: Page, made: str) -> None:
    await page.emulate_media(reduced_motion="reduce")
    moving = """() => [...document.querySelectorAll("*")].flatMap((one) =>
      [null, "::before", "::after", "::-webkit-progress-value"].map((part) => getComputedStyle(one, part)))
      .filter((style) => style.transitionDuration !== "0s" || style.animationName !== "none"
        || style.scrollBehavior === "smooth").length"""
    for name in ("overview", "pair-blink", "compose"):
        await open_screen(page, SCREENS[name].format(id=made))
        assert await page.evaluate(moving) == 0
        assert await page.get_by_role("button", name="Blink by itself").count() == 0
    await page.emulate_media(reduced_motion="no-preference")
    await open_screen(page, SCREENS["pair-blink"].format(id=made))
    await expect(page.get_by_role("button", name="Blink by itself")).to_be_visible()


async def test_forced_colours_leave_everything_to_be_told_apart(page: Page, made: str) -> None:
    await page.emulate_media(forced_colors="active")
    await open_screen(page, f"/compare/{made}")
    await done(page)
    styles = """(selector) => [...document.querySelectorAll(selector)].map((one) => {
      const style = getComputedStyle(one);
      const { stroke, strokeDasharray, color, backgroundColor, borderColor, boxShadow, fontWeight } = style;
      return { stroke, strokeDasharray, color, backgroundColor, borderColor, boxShadow, fontWeight };
    })"""
    lines = await page.evaluate(styles, "svg.plot .line")
    assert len({(line["stroke"], line["strokeDasharray"]) for line in lines}) == 3
    (edge,) = await page.evaluate(styles, ".view .rule")
    assert edge["backgroundColor"] != "rgba(0, 0, 0, 0)"
    assert edge["boxShadow"] != "none"  # on white pictures, its rim is what is seen
    for on, off in (
        (".pills label:has(:checked)", ".pills label:not(:has(:checked))"),
        (".tabs a[aria-current]", ".tabs a:not([aria-current])"),
        (".cell button[aria-pressed=true]", ".cell button[aria-pressed=false]"),
        (".bar > button.plain[aria-pressed=true]", ".bar > button.plain[aria-pressed=false]"),
    ):
        one, other = [await page.evaluate(styles, selector) for selector in (on, off)]
        assert one[0] != other[0], on
    assert await lost_by_keyboard(page) == []
