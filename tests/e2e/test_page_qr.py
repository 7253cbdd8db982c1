"""QR codes, previews, and pictures to start from, in the page."""

import io
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.async_api import Page, expect

from tests.e2e.access import examine
from tests.e2e.browsing import MARKS, compared, settled, stamp, told
from tests.e2e.serving import Serving

pytestmark = MARKS
CHANGED = """async (url) => {
  const image = new Image();
  image.src = new URL(url).pathname;
  await image.decode();
  const context = new OffscreenCanvas(64, 64).getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, 64, 64);
  const far = (x) => context.getImageData(x, 0, 32, 64).data
    .reduce((sum, value, i) => sum + (i % 4 < 3 ? Math.abs(value - [128, 48, 32][i % 4]) : 0), 0);
  return { left: far(0), right: far(32) };
}"""
"""How far the halves of a picture are from #803020."""


def run(code: str, folder: Path) -> bytes:
    """The picture that this code leaves in its folder."""
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, timeout=100)
    return (folder / "picture.png").read_bytes()


def pixels(png: bytes) -> bytes:
    return Image.open(io.BytesIO(png)).tobytes()


async def test_a_qr_code_is_asked_for_and_its_readers_and_wrong_modules_are_shown(page: Page) -> None:
    await page.goto("/")
    await page.get_by_role("button", name="Fill in a QR code").click()
    await page.get_by_label("What a scanner reads").fill("PARITY")
    await page.get_by_label("Prompts, one a line").fill("high")
    await page.get_by_text("More of the code").click()
    await page.get_by_label("version", exact=True).fill("1")
    await page.get_by_label("Steps", exact=True).fill("6")
    for name, value in (("scanning scale", "50"), ("base scale", "2")):
        await page.get_by_label(name, exact=True).first.fill(value)
    await page.get_by_text("More", exact=True).first.click()
    for name, value in (("refine iterations", "30"), ("refine lr", "300")):
        await page.get_by_label(name, exact=True).first.fill(value)
    await page.get_by_role("button", name="Run 2 pictures").click()
    await expect(page.locator("#state")).to_contain_text("2 of 2 pictures, done")
    await expect(page.locator("table.grid")).to_contain_text("of the correction left")
    await expect(page.locator("table.grid")).to_contain_text("does not scan")
    report = page.get_by_role("region", name="The QR codes")
    await expect(
        report.get_by_role("row", name=re.compile("^Read the text asked for nothing"))
    ).to_be_visible()
    await expect(report).to_contain_text("zxing-cpp")
    await report.get_by_label("Mark the modules that read wrong").check()
    told = await report.get_by_role("row", name=re.compile("Modules that read wrong")).inner_text()
    wrong = int(re.findall(r"(\d+) of 441", told)[1])
    marks = page.locator(".pair").get_by_role("img", name=f"{wrong} modules read wrong")
    assert wrong > 0
    path = await marks.first.locator("path").get_attribute("d")
    assert path is not None
    assert path.count("M") == wrong
    inside = await marks.first.evaluate(
        """(svg) => {
          const box = svg.querySelector("path").getBBox(), module = 14, quiet = 4 * module;
          return box.x >= quiet && box.y >= quiet && box.x + box.width <= quiet + 21 * module;
        }"""
    )
    assert inside
    await page.get_by_role("link", name="Fork").click()
    await expect(page.get_by_label("What a scanner reads")).to_have_value("PARITY")


async def test_previews_of_two_arms_move_together_with_the_plots(page: Page, service: Serving) -> None:
    made = compared(service.url(), model="slow", prompts=[stamp()], steps=8, preview_every=2)
    await page.goto(f"/compare/{made}?view=pair")
    section = page.get_by_role("region", name="Step by step")
    slider = section.get_by_label("Step of both")
    await slider.press("Home")
    await expect(page).to_have_url(re.compile("step=2"))
    await expect(section).to_contain_text("A CFG, step 2, sigma")
    await expect(section).to_contain_text("B CFG++, step 2, sigma")
    await settled(page)
    first = section.get_by_role("img", name="A CFG after step 2")
    assert await first.evaluate("image => image.naturalWidth") == 64
    await page.reload()
    await expect(first).to_be_visible()
    await page.get_by_role("img", name="Guidance norm").press("End")
    await expect(section.get_by_role("img", name="A CFG, finished")).to_be_visible()


async def test_a_form_starts_from_a_picture_and_a_fork_does_too(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "#803020").save(path := tmp_path / "start.png")
    await page.goto("/")
    await page.get_by_text("Start from a picture").click()
    await page.get_by_label("Picture to start from").set_input_files(path)
    await page.get_by_label("Share of the steps that change it").fill("0.5")
    await page.get_by_label("Prompts, one a line").fill(stamp())
    await page.get_by_label("Steps", exact=True).fill("4")
    await page.get_by_role("button", name="Run 3 pictures").click()
    await expect(page.locator("#state")).to_contain_text("3 of 3 pictures, done")
    await page.get_by_role("link", name="Fork").click()
    await expect(page.get_by_label("Share of the steps that change it")).to_have_value("0.5")
    await settled(page)
    start = page.get_by_role("img", name="What every cell starts from")
    assert await start.evaluate("image => image.naturalWidth") > 0
    await expect(page.get_by_role("button", name="Run 3 pictures")).to_be_visible()


async def test_every_cell_is_made_anew_inside_a_mask_and_the_spec_shows_it(
    page: Page, service: Serving, tmp_path: Path, complaints: list[str]
) -> None:
    Image.new("RGB", (64, 64), "#803020").save(picture := tmp_path / "start.png")
    mask = Image.new("L", (64, 64))
    mask.save(black := tmp_path / "black.png")
    mask.paste(255, (32, 0, 64, 64))
    mask.save(half := tmp_path / "mask.png")
    await page.goto("/")
    await page.get_by_text("Start from a picture").click()
    await page.get_by_label("Picture to start from").set_input_files(picture)
    where = page.get_by_label("Mask, white where it is made anew")
    await where.set_input_files(black)
    await page.get_by_label("Prompts, one a line").fill(stamp())
    await page.get_by_label("Steps", exact=True).fill("4")
    await page.get_by_role("button", name="Run 3 pictures").click()
    await expect(page.get_by_text("the mask is nowhere white").last).to_be_visible()
    assert complaints
    assert all("422" in one for one in complaints)
    complaints.clear()
    await where.set_input_files(half)
    await page.get_by_role("button", name="Run 3 pictures").click()
    await expect(page.locator("#state")).to_contain_text("3 of 3 pictures, done")
    await page.get_by_role("link", name="Spec", exact=True).click()
    shown = page.get_by_role("img", name="Where it is made anew, in white")
    await settled(page)
    assert await shown.evaluate("image => image.naturalWidth") > 0
    made = told(service.url(), page.url.rpartition("/")[2].partition("?")[0])
    request = page.get_by_role("region", name="The request")
    await expect(request).to_contain_text(f'"mask": "lodestar:jobs/{made["cells"][0]["job"]}/mask"')
    assert await examine(page) == []
    code = await page.get_by_role("region", name="Python, one picture of it").inner_text()
    first = await page.request.get(made["cells"][0]["images"][0]["url"])
    assert pixels(run(code, tmp_path)) == pixels(await first.body())
    for cell in made["cells"]:
        far = await page.evaluate(CHANGED, cell["images"][0]["url"])
        assert far["left"] < 0.2 * far["right"], cell["arm"]
    await page.get_by_role("link", name="Fork").click()
    await settled(page)
    await expect(page.get_by_role("img", name="Where every cell is made anew")).to_be_visible()
    await page.get_by_role("button", name="Run 3 pictures").click()
    await expect(page).to_have_url(re.compile(made["id"]))
    await page.get_by_role("link", name="Fork").click()
    await page.get_by_role("button", name="Make all of it anew").click()
    await expect(page.get_by_label("Share of the steps that change it")).to_have_attribute(
        "placeholder", "0.8"
    )
