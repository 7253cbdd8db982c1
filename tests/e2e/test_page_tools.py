"""What the page's screens let a person arrange and take along."""

import re
from pathlib import Path
from xml.etree import ElementTree

from playwright.async_api import Page, expect

from tests.e2e.browsing import MARKS, compared, stamp
from tests.e2e.serving import Serving

pytestmark = MARKS


async def test_prompts_come_from_a_file_or_a_pasted_table(page: Page) -> None:
    await page.goto("/")
    prompts = page.get_by_label("Prompts, one a line")
    table = {"name": "p.csv", "mimeType": "text/csv", "buffer": b'id,prompt\n1,"low, high"\n2,high\n'}
    await page.get_by_label("From a text or CSV file").set_input_files(table)
    await expect(prompts).to_have_value("low, high\nhigh")
    await prompts.fill("")
    await prompts.evaluate(
        """area => {
          const data = new DataTransfer();
          data.setData("text/plain", "prompt,n\\na dot,1\\na line,2");
          const how = { clipboardData: data, bubbles: true, cancelable: true };
          area.dispatchEvent(new ClipboardEvent("paste", how));
        }"""
    )
    await expect(prompts).to_have_value("a dot\na line")
    await expect(page.get_by_role("button", name="Run 6 pictures")).to_be_visible()


async def test_columns_are_moved_pinned_and_hidden_and_the_link_keeps_it(
    page: Page, service: Serving
) -> None:
    await page.goto(f"/compare/{compared(service.url(), prompts=['low'])}")
    heads = page.locator("table.grid thead th span:not(.quiet)")
    await expect(heads).to_have_text(["CFG", "CFG++", "APG"])
    await page.get_by_text("Columns", exact=True).click()
    await page.get_by_role("button", name="Move CFG to the right").click()
    await expect(heads).to_have_text(["CFG++", "CFG", "APG"])
    await page.get_by_role("button", name="Pin APG at the left").click()
    await expect(heads).to_have_text(["APG", "CFG++", "CFG"])
    await page.get_by_role("checkbox", name="CFG++").uncheck()
    await expect(heads).to_have_text(["APG", "CFG"])
    await expect(page).to_have_url(re.compile("hide=1"))
    await page.reload()
    await expect(heads).to_have_text(["APG", "CFG"])
    await expect(page.locator("th.pinned")).to_have_css("position", "sticky")
    await page.locator("[data-cell='2']").hover()
    await page.keyboard.press("a")
    await expect(page.get_by_label("A", exact=True)).to_have_value("2")


async def test_a_plot_is_taken_along_as_svg(page: Page, service: Serving, tmp_path: Path) -> None:
    await page.goto(f"/compare/{compared(service.url(), prompts=['low'])}?view=steps&over=snr")
    async with page.expect_download() as taken:
        await page.get_by_role("button", name="SVG").first.click()
    path = tmp_path / "plot.svg"
    await (await taken.value).save_as(path)
    drawn = ElementTree.fromstring(path.read_text())
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    lines = [one for one in drawn.iter("{http://www.w3.org/2000/svg}path") if one.get("fill") == "none"]
    assert len({one.get("stroke") for one in lines}) == 3
    assert "var(" not in path.read_text()


async def test_the_question_is_put_otherwise_before_the_first_vote(page: Page, service: Serving) -> None:
    made = compared(service.url(), prompts=[stamp()])
    await page.goto(f"/compare/{made}/results")
    await page.get_by_label("Question to voters").fill("Which is rounder?")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("status")).to_contain_text("Saved")
    await page.get_by_role("link", name="Cast the first vote").click()
    await expect(page.get_by_role("heading", name="Which is rounder?")).to_be_visible()
    await page.get_by_role("button", name="Zoom in").click()
    shapes = await page.locator(".ballot img").evaluate_all(
        "images => images.map((image) => getComputedStyle(image).transform.split(',')[0])"
    )
    assert shapes == ["matrix(1.5"] * 2


async def test_the_edge_is_dragged_on_the_picture_and_a_zoomed_picture_is_panned(
    page: Page, service: Serving
) -> None:
    await page.goto(f"/compare/{compared(service.url(), prompts=['low'])}?view=pair")
    slider = page.get_by_role("slider", name="Where A ends")
    await slider.scroll_into_view_if_needed()

    async def drag(to: float) -> None:
        box = await page.locator(".view").first.bounding_box()
        assert box is not None
        middle = box["y"] + box["height"] / 2
        await page.mouse.move(box["x"] + box["width"] / 2, middle)
        await page.mouse.down()
        await page.mouse.move(box["x"] + box["width"] * to, middle, steps=6)
        await page.mouse.up()

    await drag(0.25)
    told = await slider.get_attribute("aria-valuetext")
    assert told is not None
    assert 20 <= int(told.partition(" ")[0]) <= 30
    await page.get_by_role("button", name="Zoom in").first.click()
    await drag(0.4)  # the handle is elsewhere, so the picture moves
    await expect(slider).to_have_attribute("aria-valuetext", told)
    await expect(page).to_have_url(re.compile(r"z=1\.5%2C0\.5[6-9]"))
