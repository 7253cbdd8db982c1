"""The page in a real browser, as a person uses it. Whatever the browser complains of fails the test."""

import re
import signal
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from app.storage.png import read_png
from tests.e2e.browsing import CHROMIUM, PATIENCE_MS, browsing, compared, settled, stamp, voted
from tests.e2e.serving import Serving, serving

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(500),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; on Debian: apt-get install chromium"),
]


async def done(page: Page, words: str = "done") -> None:
    await expect(page.locator("#state")).to_contain_text(words, timeout=PATIENCE_MS)


async def test_a_stranger_runs_the_worked_example_and_shares_what_they_see(
    page: Page, service: Serving, complaints: list[str]
) -> None:
    await page.goto("/")
    await page.get_by_role("button", name="Run the worked example").click()
    await done(page)
    pictures = page.locator("table.grid img")
    await expect(pictures).to_have_count(3)
    await settled(page)
    assert await pictures.first.evaluate("image => image.naturalWidth") > 0
    slider = page.get_by_role("slider", name="Where A ends and B begins")
    for left in (49, 48, 47, 46, 45):
        await slider.press("ArrowLeft")
        await expect(slider).to_have_attribute("aria-valuetext", f"{left} % CFG, {100 - left} % CFG++")
    await expect(page.locator(".clip")).to_have_css("clip-path", "inset(0px 0px 0px 45%)")
    said = page.get_by_role("region", name="What differs")
    await expect(said).to_contain_text("the method differs: CFG and CFG++; saturation goes from")
    await expect(said).to_contain_text("the mean guidance norm from")
    await expect(page.get_by_role("img", name="Guidance norm: CFG from")).to_be_visible()
    await page.get_by_label("B", exact=True).select_option(label="APG")
    await page.get_by_role("button", name="Zoom in").first.click()
    await expect(page).to_have_url(re.compile(r"z=1\.5"))
    shared = page.url
    async with browsing(service.url(), complaints) as elsewhere:
        other = await elsewhere.new_page()
        await other.goto(shared)
        await expect(other.get_by_role("slider", name="Where A ends")).to_have_attribute(
            "aria-valuetext", "45 % CFG, 55 % APG"
        )
        await settled(other)
        for look in (page, other):
            shapes = await look.locator(".view img").evaluate_all(
                "images => images.map((image) => getComputedStyle(image).transform.split(',')[0])"
            )
            assert set(shapes) == {"matrix(1.5"}


async def test_the_whole_way_by_keyboard(page: Page) -> None:
    await page.goto("/")
    await expect(page.get_by_role("button", name="Run the worked example")).to_be_visible()
    for _ in range(12):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.textContent") == "Run the worked example":
            break
    await page.keyboard.press("Enter")
    await done(page)
    await page.keyboard.press("m")
    await expect(page.get_by_role("radio", name="Side by side")).to_be_checked()
    await page.keyboard.press("x")
    await expect(page.get_by_label("A", exact=True)).to_have_value("1")
    await page.keyboard.press("t")
    await expect(page.get_by_role("link", name="Trajectories")).to_have_attribute("aria-current", "page")
    plot = page.get_by_role("img", name="Guidance norm")
    await plot.press("ArrowRight")
    await expect(page.get_by_role("status")).to_contain_text("step 1: CFG ")
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog")).to_contain_text("Swap A and B")
    await page.keyboard.press("Escape")
    await page.keyboard.press("v")
    await expect(page.get_by_role("img", name="Image 1")).to_be_visible()
    await page.keyboard.press("1")
    await expect(page.get_by_text("1 of 30 votes planned are yours")).to_be_visible()


async def test_cancel_says_so_and_what_is_missing_is_made_again(page: Page, service: Serving) -> None:
    slow = compared(service.url(), wait=False, model="slow", steps=40, prompts=[stamp()])
    await page.goto(f"/compare/{slow}")
    await expect(page.locator("progress").first).to_be_visible()
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator("#state")).to_contain_text("3 not made")
    await expect(page.locator("table.grid")).to_contain_text("canceled")
    await page.get_by_role("button", name="Make again: CFG,").click()
    await expect(page.locator("#state")).to_contain_text("2 not made")
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator("#state")).to_contain_text("3 not made")


async def test_a_refusal_stands_beside_its_field_and_in_a_summary(page: Page, complaints: list[str]) -> None:
    await page.goto("/")
    await page.get_by_label("Steps", exact=True).fill("9999")
    await page.get_by_role("button", name=re.compile("^Run (3|the comparison)")).click()
    await expect(page.get_by_label("Steps", exact=True)).to_have_attribute("aria-invalid", "true")
    await expect(page.locator("#summary")).to_contain_text("at most")
    await expect(page.locator("#summary")).to_be_focused()
    assert complaints
    assert all("422" in complaint for complaint in complaints)
    complaints.clear()


async def test_every_method_has_a_form_and_the_link_keeps_it(page: Page) -> None:
    await page.goto("/")
    method = page.get_by_label("Method of arm A")
    for name in await method.locator("option:enabled").evaluate_all("all => all.map((one) => one.value)"):
        await method.select_option(name)
        await expect(method).to_have_value(name)
    await method.select_option("cfg")
    await page.get_by_label("Prompts, one a line").fill("low & high, ünï\na {red|blue} dot")
    await expect(page.get_by_text("3 prompts; {a|b} makes two of one")).to_be_visible()
    await page.get_by_label("scale", exact=True).first.fill("3.5")
    await expect(page).to_have_url(re.compile("3\\.5"))
    await expect(page.get_by_role("button", name="Run 9 pictures")).to_be_visible()
    await page.reload()
    await expect(page.get_by_label("Prompts, one a line")).to_have_value(
        "low & high, ünï\na red dot\na blue dot"
    )
    await expect(page.get_by_label("scale", exact=True).first).to_have_value("3.5")


async def test_arms_of_unequal_cost_are_said_and_made_equal(page: Page, service: Serving) -> None:
    arms = [
        {"label": "CFG", "guidance": {"method": "cfg"}},
        {"label": "plain", "guidance": {"method": "none"}},
    ]
    await page.goto(f"/compare/{compared(service.url(), arms=arms, prompts=['low'], steps=4)}")
    await expect(page.get_by_text("Not compute-matched: CFG 8, plain 4 evaluations")).to_be_visible()
    await page.get_by_role("button", name="Equalise by steps").click()
    await expect(page.get_by_text("plain (8 steps)").first).to_be_visible()
    await done(page)
    assert await page.get_by_text("Not compute-matched").count() == 0


async def test_a_scale_is_matched_to_another_arm(page: Page, service: Serving) -> None:
    await page.goto(f"/compare/{compared(service.url(), prompts=['high'], seeds=[1, 2])}?view=match")
    await page.get_by_label("Sweep the scale of").select_option(label="CFG")
    await page.get_by_label("to match").select_option(label="APG")
    await page.get_by_label("at scales").fill("2, 4, 8, 16")
    await page.get_by_role("button", name="Run the sweep, 4 scales").click()
    await expect(page.get_by_role("img", name="Saturation by scale: cfg from")).to_be_visible()
    await page.get_by_label("What shall be equal").select_option(label="Mean effective scale")
    use = page.get_by_role("button", name="Compare at scale")
    await expect(use).to_be_visible()
    scale = float((await use.inner_text()).split()[-1])
    assert 2 < scale < 16
    await use.click()
    await expect(page.get_by_label("B", exact=True)).to_contain_text(f"cfg {scale:g}, matched")
    await done(page)


async def test_a_voting_session_learns_nothing_of_the_arms(page: Page, service: Serving) -> None:
    prompt = stamp()
    made = compared(service.url(), prompts=[prompt], seeds=[1, 2, 3, 4])
    seen = list[str]()

    async def record(response) -> None:
        if "/static/" not in response.url:
            seen.append(f"{response.url} {response.headers}")
            if not response.url.endswith(".png"):  # their bytes are looked at in tests/app/api
                seen.append(await response.text())

    page.on("response", record)
    await page.goto(f"/compare/{made}/vote")
    for number, name in enumerate(("Left", "Right", "As good", "Both bad"), 1):
        await page.get_by_role("button", name=name).click()
        await expect(page.get_by_text(f"{number} of 30 votes planned are yours")).to_be_visible()
        seen.append(await page.content())
    await page.get_by_role("button", name="Undo").click()
    await page.get_by_role("button", name="Left").click()
    await settled(page)
    texts = "".join(seen).lower().replace(prompt, "")
    for secret in ("cfg", "apg", "cfgpp", "guidance_norm", "nfe", '"scale"'):
        assert secret not in texts, secret
    await page.get_by_role("link", name="Stop and see the results").click()
    await expect(page.get_by_text("4 votes: too few to rank")).to_be_visible()
    voted(service.url(), made, 12, "somebody-else")
    await page.reload()
    await expect(page.get_by_text("no clear difference").first).to_be_visible()
    await expect(page.get_by_text("rank 1 to 3").first).to_be_visible()


async def test_the_library_finds_renames_and_deletes_with_undo(page: Page, service: Serving) -> None:
    made = compared(service.url(), prompts=[prompt := stamp()])
    await page.goto(f"/compare/{made}")
    await page.get_by_role("button", name="Rename").click()
    await page.get_by_label("Title").fill("Find me")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Find me")).to_be_visible()
    await page.goto(f"/library?search={prompt}")
    await expect(page.get_by_role("link", name="Find me", exact=True)).to_be_visible()
    await page.get_by_role("button", name="Delete Find me").click()
    await expect(page.get_by_role("link", name="Find me", exact=True)).to_have_count(0)
    await page.get_by_role("button", name="Undo").click()
    await expect(page.get_by_role("link", name="Find me", exact=True)).to_be_visible()
    await page.get_by_role("link", name="Fork Find me").click()
    await expect(page.get_by_label("Prompts, one a line")).to_have_value(prompt)


async def test_a_picture_taken_away_brings_its_request_back(
    page: Page, service: Serving, tmp_path: Path
) -> None:
    await page.goto(f"/compare/{compared(service.url(), prompts=['ünï'], seeds=[7])}")
    async with page.expect_download() as taken:
        await page.get_by_role("link", name="PNG with its request: APG").click()
    path = tmp_path / "apg.png"
    await (await taken.value).save_as(path)
    assert read_png(path.read_bytes())["guidance"]["method"] == "apg"
    await page.goto("/")
    await page.get_by_label("Open a picture made here").set_input_files(path)
    await expect(page.get_by_label("Prompts, one a line")).to_have_value("ünï")
    await expect(page.get_by_label("Method of arm A")).to_have_value("apg")
    await expect(page.get_by_label("Seeds")).to_have_value("7")


@pytest.mark.slow
async def test_six_tabs_follow_one_comparison_and_the_seventh_still_loads(
    page: Page, service: Serving
) -> None:
    slow = compared(service.url(), wait=False, model="slow", steps=60, prompts=[stamp()])
    for _ in range(6):
        tab = await page.context.new_page()
        await tab.goto(f"/compare/{slow}")
        await expect(tab.locator("progress").first).to_be_visible()
    await page.goto("/library")
    await expect(page.get_by_role("heading", name="Library")).to_be_visible()


@pytest.mark.slow
async def test_a_restart_of_the_service_loses_nothing(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--port", "18973") as first:
        slow = compared(first.url(), wait=False, model="slow", steps=40, prompts=["high"])
        async with browsing(first.url(), []) as context:
            page = await context.new_page()
            await page.goto(f"/compare/{slow}")
            await expect(page.locator("#state")).to_contain_text("of 3 pictures")
            await expect(page.locator("progress").first).to_be_visible()
            first.stop(signal.SIGKILL)  # told to stop, it would finish what it holds
            await expect(page.get_by_role("alert")).to_contain_text("The connection is lost")
            with serving(tmp_path / "data", "--port", "18973") as second:
                second.url()
                await done(page, "3 of 3 pictures, done")
