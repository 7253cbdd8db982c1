"""Every journey by keyboard alone: Tab, Enter, Space, arrows, letters; the mouse does not exist."""

import re
from functools import partial

from playwright.async_api import Locator, Page, expect

from tests.e2e.browsing import MARKS, canceled, compared, done, stamp, tab_to, taken, told, voted
from tests.e2e.serving import Serving

pytestmark = MARKS


async def button(page: Page, name: str | re.Pattern[str], key: str = "Enter", **options: bool) -> None:
    """Go to a button and press it."""
    await tab_to(page, page.get_by_role("button", name=name, **options))
    await page.keyboard.press(key)


async def link(page: Page, name: str, **options: bool) -> None:
    """Go to a link and follow it."""
    await tab_to(page, page.get_by_role("link", name=name, **options))
    await page.keyboard.press("Enter")


async def write(page: Page, field: Locator, text: str) -> None:
    """Go to a field and write there, in the place of what it held."""
    await tab_to(page, field)
    await page.keyboard.press("ControlOrMeta+a")
    await page.keyboard.type(text)
    await expect(field).to_have_value(text)


async def pick(page: Page, field: Locator, option: str) -> None:
    """Go to a list and choose from it by its first letters, or leave it where it stands."""
    await tab_to(page, field)
    if await field.locator("option:checked").inner_text() != option:
        await page.keyboard.type(option)
    await expect(field.locator("option:checked")).to_have_text(option)


async def test_the_worked_example_is_run_looked_at_and_shared(page: Page) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.goto("/")
    await button(page, "Run the worked example")
    await done(page)
    await expect(page.get_by_role("heading", level=1)).to_be_focused()
    slider = page.get_by_role("slider", name="Where A ends and B begins")
    await tab_to(page, slider)
    for left in (49, 48, 47, 46, 45):
        await page.keyboard.press("ArrowLeft")
        await expect(slider).to_have_attribute("aria-valuetext", f"{left} % CFG, {100 - left} % CFG++")
    await expect(page.locator(".clip")).to_have_css("clip-path", "inset(0px 0px 0px 45%)")
    await button(page, "25 %", exact=True)
    await expect(slider).to_have_attribute("aria-valuetext", "25 % CFG, 75 % CFG++")
    said = page.get_by_role("region", name="What differs")
    await tab_to(page, said.get_by_role("region", name="Parameters that differ"))
    await expect(said).to_contain_text("the method differs: CFG and CFG++; saturation goes from")
    await expect(said).to_contain_text("the mean guidance norm from")
    await tab_to(page, page.get_by_role("button", name="Share"), "Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("The link copied.").first).to_be_visible()
    assert "at=25" in await page.evaluate("navigator.clipboard.readText()")


async def test_letters_lead_through_a_comparison_and_can_be_switched_off(
    page: Page, service: Serving
) -> None:
    await page.goto(f"/compare/{compared(service.url(), seeds=[1, 2])}")
    await done(page)
    for key, checked in (("m", "Side by side"), ("m", "Blink")):
        await page.keyboard.press(key)
        await expect(page.get_by_role("radio", name=checked)).to_be_checked()
    await page.keyboard.down("Space")
    await expect(page.get_by_role("button", name="Hold to see B")).to_have_attribute("aria-pressed", "true")
    await page.keyboard.up("Space")
    await expect(page.get_by_role("button", name="Hold to see B")).to_have_attribute("aria-pressed", "false")
    await page.keyboard.press("x")
    await expect(page.get_by_label("A", exact=True)).to_have_value("1")
    await page.keyboard.press("]")
    await expect(page.get_by_label("Seed of the pair")).to_have_value("1")
    await page.keyboard.press("}")
    await expect(page.get_by_label("Prompt of the pair")).to_have_value("1")
    await page.keyboard.press("+")
    await page.keyboard.press("ArrowRight")
    await expect(page).to_have_url(re.compile(r"z=1\.5.*0\.56"))
    await page.keyboard.press("/")
    await page.keyboard.type("low")
    await expect(page.get_by_role("rowheader", name="high")).to_have_count(0)
    await page.keyboard.press("Tab")
    await page.keyboard.press("i")
    await expect(page.locator("table.grid")).to_have_count(0)
    await page.keyboard.press("t")
    await expect(page.get_by_role("link", name="Trajectories")).to_have_attribute("aria-current", "page")
    await tab_to(page, page.get_by_role("img", name="Guidance norm"))
    await page.keyboard.press("ArrowRight")
    await expect(page.get_by_role("status")).to_contain_text("step 1: CFG ")
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog")).to_contain_text("Swap A and B")
    await tab_to(page, page.get_by_label("Single letters act as shortcuts"))
    await page.keyboard.press("Space")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.keyboard.press("g")
    await expect(page.get_by_role("link", name="Trajectories")).to_have_attribute("aria-current", "page")


async def test_a_comparison_of_ones_own_is_composed(page: Page) -> None:
    prompt = stamp()
    await page.goto("/")
    await write(page, page.get_by_label("Prompts, one a line"), prompt)
    await write(page, page.get_by_label("Seeds"), "4, 5")
    await write(page, page.get_by_label("Steps", exact=True), "3")
    await write(page, page.get_by_label("scale", exact=True).first, "7")
    await pick(page, page.get_by_label("Method of arm B"), "Adaptive guidance")
    await tab_to(page, page.get_by_role("button", name="Remove").nth(2))
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Method of arm C")).to_have_count(0)
    await button(page, "Add an arm")
    await expect(page.get_by_label("Method of arm C")).to_be_visible()
    await button(page, "Run 6 pictures")
    await done(page, "6 of 6 pictures, done")
    await expect(page.locator("table.grid thead th")).to_have_count(1 + 3)
    await link(page, "Fork")
    await expect(page.get_by_label("Prompts, one a line")).to_have_value(prompt)
    await expect(page.get_by_label("Seeds")).to_have_value("4, 5")


async def test_a_run_is_canceled_and_made_again(page: Page, service: Serving) -> None:
    slow = compared(service.url(), wait=False, model="endless", steps=200, prompts=[stamp()])
    await page.goto(f"/compare/{slow}")
    await button(page, "Cancel")
    await done(page, "3 not made")
    await button(page, "Make again: CFG++,")
    await done(page, "2 not made")
    canceled(service.url(), slow)
    soon = compared(service.url(), wait=False, model="slow", steps=20, prompts=[stamp()])
    canceled(service.url(), soon)
    await page.goto(f"/compare/{soon}")
    await button(page, re.compile("Make [23] again"))
    await done(page, "3 of 3 pictures, done")


async def test_a_failed_cell_says_why_and_is_tried_again(page: Page, service: Serving) -> None:
    await page.goto(f"/compare/{compared(service.url(), model='fragile', prompts=['broken'], seeds=[2])}")
    await expect(page.get_by_text("failed: the network's answer for this image is").first).to_be_visible()
    async with page.expect_response("**/retry?cell=*") as answer:
        await button(page, "Make again: APG, broken")
    assert (await answer.value).ok
    await done(page, "0 of 3 pictures, 3 not made")


async def test_votes_are_cast_taken_back_and_counted(page: Page, service: Serving) -> None:
    made = compared(service.url(), prompts=[stamp()], seeds=[1, 2, 3])
    await page.goto(f"/compare/{made}")
    await done(page)
    await page.keyboard.press("v")
    await expect(page.get_by_role("img", name="Image 1")).to_be_visible()
    counted = page.get_by_text("votes planned are yours")
    for number, key in enumerate("1234", 1):
        await page.keyboard.press(key)
        await expect(counted).to_have_text(f"{number} of 30 votes planned are yours")
    await page.keyboard.press("u")
    await expect(page.get_by_role("status")).to_contain_text("The pair before is back")
    await page.keyboard.press("1")
    await page.keyboard.press("s")
    await tab_to(page, page.get_by_role("button", name="Left"))
    for number in (5, 6):  # the focus stays, so that one key votes on
        await page.keyboard.press("Enter")
        await expect(counted).to_have_text(f"{number} of 30 votes planned are yours")
    voted(service.url(), made, 9, "somebody-4")
    await link(page, "Stop and see the results")
    await expect(page.get_by_role("heading", name="Votes on")).to_be_focused()
    await expect(page.get_by_text("rank 1 to 3").first).to_be_visible()
    await pick(page, page.get_by_label("Whose votes"), "mine alone")
    await expect(page.get_by_text("6 votes: too few to rank")).to_be_visible()
    await tab_to(page, page.get_by_role("link", name="Votes, CSV"))


async def test_the_library_is_searched_and_cleared(page: Page, service: Serving) -> None:
    made = compared(service.url(), prompts=[prompt := stamp()])
    title = prompt.replace("high", "Found")
    await page.goto(f"/compare/{made}")
    await button(page, "Rename")
    await page.keyboard.press("ControlOrMeta+a")
    await page.keyboard.type(title)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name=title)).to_be_visible()
    await tab_to(page, page.get_by_role("link", name="Library"), "Shift+Tab")
    await page.keyboard.press("Enter")
    await write(page, page.get_by_label("Search title"), prompt)
    found = page.get_by_role("link", name=title, exact=True)
    await button(page, f"Delete {title}")
    await expect(found).to_have_count(0)
    await expect(page.get_by_role("button", name="Undo")).to_be_focused()
    await page.keyboard.press("Enter")
    await tab_to(page, found)
    await page.keyboard.press("Enter")
    await done(page)


async def test_a_qr_code_is_made_and_its_wrong_modules_marked(page: Page) -> None:
    await page.goto("/")
    await button(page, "Fill in a QR code")
    await write(page, page.get_by_label("What a scanner reads"), "KEYS")
    await write(page, page.get_by_label("Prompts, one a line"), "high")
    await write(page, page.get_by_label("Steps", exact=True), "4")
    await tab_to(page, page.get_by_text("More", exact=True).first)
    await page.keyboard.press("Enter")
    await write(page, page.get_by_label("refine iterations", exact=True).first, "2")
    await button(page, "Run 2 pictures")
    await done(page, "2 of 2 pictures, done")
    await tab_to(page, page.get_by_label("Mark the modules that read wrong"))
    await page.keyboard.press("Space")
    await expect(page.locator(".pair").get_by_role("img", name="modules read wrong").first).to_be_visible()


async def test_a_scale_is_matched(page: Page, service: Serving) -> None:
    await page.goto(f"/compare/{compared(service.url(), prompts=['high'], seeds=[1, 2])}")
    await link(page, "Match scales")
    await pick(page, page.get_by_label("Sweep the scale of"), "CFG")
    await pick(page, page.get_by_label("to match"), "APG")
    await write(page, page.get_by_label("at scales"), "2, 4, 8, 16")
    await button(page, "Run the sweep, 4 scales")
    await expect(page.get_by_role("img", name="Saturation by scale: cfg from")).to_be_visible()
    await pick(page, page.get_by_label("What shall be equal"), "Mean effective scale")
    await button(page, "Compare at scale")
    await expect(page.get_by_label("B", exact=True)).to_contain_text(", matched")
    await done(page)


async def test_everything_is_taken_away(page: Page, service: Serving) -> None:
    made = compared(service.url(), prompts=["low"], seeds=[4])
    voted(service.url(), made, 1, "somebody-6")
    await page.goto(f"/compare/{made}")
    await done(page)
    await page.keyboard.press("e")
    enter = partial(page.keyboard.press, "Enter")
    for link in await page.locator("#export a").all():
        await tab_to(page, link)
        assert await taken(page, enter)
    await tab_to(page, page.get_by_role("link", name="PNG with its request: APG"))
    assert (await taken(page, enter)).startswith(b"\x89PNG")


async def test_the_fleet_is_looked_after(page: Page, service: Serving) -> None:
    slow = compared(service.url(), wait=False, model="endless", steps=200, prompts=[stamp()])
    job = told(service.url(), slow)["cells"][0]["job"]
    await page.goto("/system")
    await button(page, f"Cancel job {job}")
    await expect(page.get_by_role("button", name=f"Cancel job {job}")).to_have_count(0)
    canceled(service.url(), slow)
