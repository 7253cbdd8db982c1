"""What a screen must be for everybody: axe, and what axe cannot see (WCAG 2.2 AA)."""

from pathlib import Path
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Page

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
AXE = """async (tags) => {
  const found = await axe.run({
    runOnly: tags, resultTypes: ["violations"], rules: { "target-size": { enabled: true } },
  });
  return found.violations.flatMap((one) =>
    one.nodes.slice(0, 3).map((node) => `${one.id}: ${one.help}: ${node.html.slice(0, 200)}`));
}"""

WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 320, "height": 800}
TOO_WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? [] :
  [...document.querySelectorAll("body *")]
    .filter((one) => !one.closest(".grid-scroll, .scroll, .sr"))
    .filter((one) => one.getBoundingClientRect().right > innerWidth)
    .map((one) => `ends at ${one.getBoundingClientRect().right} px: ${one.outerHTML.slice(0, 120)}`)"""

STOPS = """() => {
  const box = document.querySelector("dialog[open]") ?? document.body;
  const chosen = (radio) => [...document.getElementsByName(radio.name)].find((one) => one.checked) ?? radio;
  const able = "a[href], button, input, select, textarea, summary, [tabindex]";
  window.stops = [...box.querySelectorAll(able)].filter(
    (one) => one.tabIndex >= 0 && !one.disabled && one.checkVisibility({ visibilityProperty: true })
      && (one.type !== "radio" || chosen(one) === one));
  box.tabIndex = -1; // go back to its beginning
  box.focus({ preventScroll: true });
  box.removeAttribute("tabindex");
  return stops.length;
}"""
STOP = """() => {
  const one = document.activeElement;
  const shown = one.type === "radio" ? one.closest("label") : one;
  const { outlineStyle, outlineWidth } = getComputedStyle(shown);
  const handle = ":focus-visible::-webkit-slider-thumb"; // whose style cannot be asked for
  const ringed = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules]).some((rule) =>
    rule.selectorText?.endsWith(handle) && one.matches(rule.selectorText.slice(0, -handle.length))
      && parseFloat(rule.style.outline) >= 2);
  const { left, right, top, bottom } = shown.getBoundingClientRect();
  const seen = [[0.5, 0.5], [0.1, 0.2], [0.9, 0.2], [0.1, 0.8], [0.9, 0.8]].some(([u, v]) => {
    const there = document.elementFromPoint(left + u * (right - left), top + v * (bottom - top));
    const plot = one.closest("svg"); // whose dots may lie on each other
    return there && (shown.contains(there) || there.contains(shown) && there !== document.body
      || plot && plot === there.closest("svg"));
  });
  return {
    at: stops.indexOf(one),
    date: one.type === "date",
    name: one.outerHTML.slice(0, 120),
    ring: one.matches(":focus-visible")
      && (ringed || outlineStyle !== "none" && parseFloat(outlineWidth) >= 2),
    seen,
  };
}"""

SPACED = """() => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`p { margin-bottom: 2em !important; } * {
    line-height: 1.5 !important; letter-spacing: .12em !important; word-spacing: .16em !important; }`);
  document.adoptedStyleSheets = [sheet];
}"""
"""What a reader may set by WCAG 1.4.12."""
CUT = """() => [...document.querySelectorAll("main :is(button, a, label, th, td, p, h1, h2, h3, dt, dd)")]
  .filter((one) => !one.matches(".sr") && getComputedStyle(one).overflowX !== "visible")
  .filter((one) => one.scrollWidth > one.clientWidth + 1)
  .map((one) => `cuts its text: ${one.outerHTML.slice(0, 120)}`)"""


async def violations(page: Page) -> list[str]:
    """What axe finds, target sizes of 24 px among it."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE_SCRIPT)
    return await page.evaluate(AXE, TAGS)


async def too_wide(page: Page) -> list[str]:
    """What makes a reader scroll in two directions at 320 px (WCAG 1.4.10), which is 1280 px at 400 %."""
    await page.set_viewport_size(NARROW)
    found = await page.evaluate(TOO_WIDE)
    await page.set_viewport_size(WIDE)
    return found


async def cut_by_spacing(page: Page) -> list[str]:
    """What a reader's text spacing cuts off or pushes out at 320 px."""
    await page.evaluate(SPACED)
    await page.set_viewport_size(NARROW)
    found = await page.evaluate(TOO_WIDE) + await page.evaluate(CUT)
    await page.set_viewport_size(WIDE)
    await page.evaluate("document.adoptedStyleSheets = []")
    return found


async def lost_by_keyboard(page: Page) -> list[str]:
    """Go through the screen by Tab: all that acts is reached, in reading order, with a ring, uncovered."""
    wrong = list[str]()
    count = await page.evaluate(STOPS)
    for wanted in range(count):
        await page.keyboard.press("Tab")
        stop: dict[str, Any] = await page.evaluate(STOP)
        while stop["at"] == wanted - 1 and stop["date"]:  # its month, day, year and picker
            await page.keyboard.press("Tab")
            stop = await page.evaluate(STOP)
        if stop["at"] != wanted:
            return [*wrong, f"Tab {wanted + 1} of {count} goes to number {stop['at'] + 1}: {stop['name']}"]
        wrong += [f"no focus ring: {stop['name']}"] if not stop["ring"] else []
        wrong += [f"covered while it has the focus: {stop['name']}"] if not stop["seen"] else []
    return wrong


async def examine(page: Page, shots: Path | None = None, name: str = "") -> list[str]:
    """Both themes by axe, and 320 px; `shots`: a folder for pictures of them."""
    wrong = list[str]()
    for theme in ("light", "dark"):
        await page.emulate_media(color_scheme=theme)
        wrong += [f"{theme}: {one}" for one in await violations(page)]
        if shots:
            await page.screenshot(path=shots / f"{name}-{theme}.png", full_page=True)
    wrong += await too_wide(page)
    return [f"{name}: {one}" for one in wrong]
