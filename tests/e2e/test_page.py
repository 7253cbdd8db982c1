"""Every journey in a real browser by mouse. Whatever the browser complains of fails the test."""

import csv
import io
import json
import re
import zipfile
from pathlib import Path

from PIL import Image
from playwright.async_api import Browser, Page, expect

from app.storage.png import read_png
from tests.e2e.browsing import MARKS, browsing, canceled, compared, done, settled, stamp, taken, told, voted
from tests.e2e.serving import Serving

pytestmark = MARKS


async def test_a_stranger_runs_the_worked_example_and_shares_what_they_see(
    page: Page, browser: Browser, service: Serving, complaints: list[str]
) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.goto("/")
    await page.get_by_role("button", name="Run the worked example").click()
    await done(page)
    pictures = page.locator("table.grid img")
    await expect(pictures).to_have_count(3)
    await settled(page)
    assert await pictures.first.evaluate("image => image.naturalWidth") > 0
    slider = page.get_by_role("slider", name="Where A ends and B begins")
    await slider.scroll_into_view_if_needed()
    box = await slider.bounding_box()
    assert box is not None
    height = box["y"] + box["height"] / 2
    await page.mouse.move(box["x"] + box["width"] / 2, height)
    await page.mouse.down()
    await page.mouse.move(box["x"] + box["width"] * 0.3, height, steps=5)
    await page.mouse.up()
    left = int(await slider.input_value())
    assert 25 <= left <= 35
    await expect(slider).to_have_attribute("aria-valuetext", f"{left} % CFG, {100 - left} % CFG++")
    await expect(page.locator(".clip")).to_have_css("clip-path", f"inset(0px 0px 0px {left}%)")
    said = page.get_by_role("region", name="What differs")
    await expect(said).to_contain_text("the method differs: CFG and CFG++; saturation goes from")
    await expect(said).to_contain_text("the mean guidance norm from")
    await expect(page.get_by_role("img", name="Guidance norm: CFG from")).to_be_visible()
    await page.get_by_label("B", exact=True).select_option(label="APG")
    await page.get_by_role("button", name="Zoom in").first.click()
    await expect(page).to_have_url(re.compile(r"z=1\.5"))
    await page.get_by_role("button", name="Share").click()
    await expect(page.get_by_text("The link copied.").first).to_be_visible()
    shared = await page.evaluate("navigator.clipboard.readText()")
    async with browsing(browser, service.url(), complaints) as elsewhere:
        other = await elsewhere.new_page()
        await other.goto(shared)
        await expect(other.get_by_role("slider", name="Where A ends")).to_have_attribute(
            "aria-valuetext", f"{left} % CFG, {100 - left} % APG"
        )
        await settled(other)
        for look in (page, other):
            shapes = await look.locator(".view img").evaluate_all(
                "images => images.map((image) => getComputedStyle(image).transform.split(',')[0])"
            )
            assert set(shapes) == {"matrix(1.5"}


async def test_all_arms_appear_step_by_step_and_little_is_said_aloud(page: Page, service: Serving) -> None:
    slow = compared(service.url(), wait=False, model="endless", steps=200, preview_every=1, prompts=[stamp()])
    await page.goto(f"/compare/{slow}")
    await page.evaluate(
        """() => {
          window.said = [];
          const region = document.querySelector("[role=status]");
          const hear = () => window.said.push(region.textContent);
          new MutationObserver(hear).observe(region, { childList: true, characterData: true, subtree: true });
        }"""
    )
    for label in ("CFG", "CFG++", "APG"):
        await expect(page.get_by_role("img", name=f"preview of {label}, ")).to_be_visible()
    await expect(page.locator("table.grid")).to_contain_text(re.compile("step [1-9][0-9]* of 200"))
    canceled(service.url(), slow)
    await done(page, "3 not made")
    said = await page.evaluate("window.said")
    assert 1 <= len(said) <= 4, said  # of each picture that ends, of no step


async def test_cancel_says_so_and_what_is_missing_is_made_again(page: Page, service: Serving) -> None:
    slow = compared(service.url(), wait=False, model="endless", steps=200, prompts=[stamp()])
    await page.goto(f"/compare/{slow}")
    await expect(page.locator("progress").first).to_be_visible()
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator("#state")).to_contain_text("3 not made")
    await expect(page.locator("table.grid")).to_contain_text("canceled")
    await page.get_by_role("button", name="Make again: CFG,").click()
    await expect(page.locator("#state")).to_contain_text("2 not made")
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator("#state")).to_contain_text("3 not made")


async def test_a_failed_cell_says_why_and_is_tried_again(page: Page, service: Serving) -> None:
    failed = compared(service.url(), model="fragile", prompts=["high", "broken"])
    await page.goto(f"/compare/{failed}")
    await done(page, "3 of 6 pictures, 3 not made")
    await expect(page.locator("table.grid")).to_contain_text("failed: the network's answer for this image is")
    before = int(told(service.url(), failed)["last_event_id"])
    async with page.expect_response("**/retry?cell=5") as answer:
        await page.get_by_role("button", name="Make again: APG, broken").click()
    made = await (await answer.value).json()
    assert int(made["last_event_id"]) > before  # it may have failed once more by now
    await done(page, "3 of 6 pictures, 3 not made")  # as it cannot but fail
    await page.get_by_label("Rows").fill("failed")
    await expect(page.get_by_role("rowheader", name="broken")).to_be_visible()
    await expect(page.get_by_role("rowheader", name="high")).to_have_count(0)


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


async def test_everything_is_taken_away(page: Page, service: Serving) -> None:
    made = compared(service.url(), prompts=[stamp(), "low"])
    voted(service.url(), made, 2, "somebody-2")
    await page.goto(f"/compare/{made}")
    await page.get_by_text("Export", exact=True).click()
    files = {
        (await link.inner_text()).split(" (")[0]: await taken(page, link.click)
        for link in await page.locator("#export a").all()
    }
    packed = zipfile.ZipFile(io.BytesIO(files["Everything as zip"]))
    assert sum(name.startswith("images/") for name in packed.namelist()) == 6
    assert files["Report, one HTML file"].count(b"data:image/png;base64,") == 6
    assert Image.open(io.BytesIO(files["Contact sheet, PNG"])).width > 3 * 64
    scores, traces, votes = (
        list(csv.DictReader(io.StringIO(files[name].decode())))
        for name in ("Scores, CSV", "Traces, CSV", "Votes, CSV")
    )
    assert [row["arm"] for row in scores].count("APG") == 2
    assert len(traces) == 6 * 3
    assert len(votes) == 2
    assert len(json.loads(files["All numbers, JSON"])["cells"]) == 6
    await page.get_by_role("link", name="Trajectories").click()
    save = page.get_by_role("figure", name="Guidance norm").get_by_role("button", name="CSV")
    plotted = list(csv.reader(io.StringIO((await taken(page, save.click)).decode())))
    assert plotted[0] == ["step", "CFG", "CFG++", "APG"]
    assert [row[0] for row in plotted[1:]] == ["1", "2", "3"]
