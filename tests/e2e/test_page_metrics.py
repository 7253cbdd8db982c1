"""Scores on the page: means, sets, a matched scale, and the rows that are disputed."""

import re

import numpy as np
import pytest
from playwright.async_api import Page, expect

from app.comparison.distribution import distribution
from tests.app.comparison.test_distribution import asked, scored
from tests.e2e.access import examine
from tests.e2e.browsing import ARMS, MARKS, compared, done, stamp, told, voted
from tests.e2e.serving import Serving

pytestmark = MARKS


async def test_the_means_are_sorted_by_any_score_and_the_link_keeps_it(page: Page, service: Serving) -> None:
    made = compared(service.url())
    names = ["CFG", "CFG++", "APG"]
    metrics = told(service.url(), made, "/results")["metrics"]
    column = next(one for one in metrics if one["name"] == "saturation")["arms"]
    upwards = sorted(names, key=lambda name: column[names.index(name)]["mean"])
    assert upwards != names, "else the order would tell nothing"
    await page.goto(f"/compare/{made}?view=metrics")
    table = page.get_by_role("region", name="Means of all arms")
    heads, rows = table.locator("thead th"), table.get_by_role("rowheader")
    head = heads.filter(has_text="Saturation")
    button = head.get_by_role("button")
    await expect(rows).to_have_text(names)
    await button.click()
    await expect(rows).to_have_text(upwards[::-1])
    await expect(head).to_have_attribute("aria-sort", "descending")
    await button.press("Enter")
    await expect(rows).to_have_text(upwards)
    await expect(head).to_have_attribute("aria-sort", "ascending")
    await expect(table.locator("[aria-sort]")).to_have_count(1)
    await expect(page).to_have_url(re.compile("sort=saturation"))
    await page.reload()
    await expect(rows).to_have_text(upwards)
    await button.click()
    await expect(rows).to_have_text(names)
    await expect(table.locator("[aria-sort]")).to_have_count(0)


async def test_each_arm_has_its_own_interval_and_a_dot_leads_to_its_pair(
    page: Page, service: Serving
) -> None:
    made = compared(service.url())
    mean = told(service.url(), made, "/results")["metrics"][0]["arms"][0]
    assert mean["low"] < mean["mean"] < mean["high"]
    await page.goto(f"/compare/{made}?view=metrics")
    await expect(page.get_by_role("img", name="Saturation: difference to CFG")).to_be_visible()
    await page.get_by_text("Mean of each arm").click()
    plot = page.get_by_role("img", name="Saturation: mean: CFG")
    shown, low, high = re.findall(r"0\.\d+", await plot.get_attribute("aria-label") or "")[:3]
    wanted = [mean[name] for name in ("mean", "low", "high")]
    assert [float(one) for one in (shown, low, high)] == pytest.approx(wanted, rel=5e-3)
    await expect(plot.locator(".span")).to_have_count(3)
    await page.get_by_role("link", name="APG, low, seed 1: ").click()
    await expect(page.get_by_role("slider", name="Where A ends")).to_be_visible()
    await expect(page.get_by_label("B", exact=True)).to_have_value("2")
    await expect(page.get_by_label("Prompt of the pair")).to_have_value("1")


async def test_sets_are_told_in_numbers_or_in_words(page: Page, service: Serving) -> None:
    """The built-in model has no scorer, so features are made up here; the figures are the service's."""
    made = compared(service.url())
    await page.goto(f"/compare/{made}?view=metrics")
    sets = page.get_by_role("region", name="The pictures as sets")
    await expect(sets).to_contain_text("CLIP features: not measured: ask for the metric 'clip'")

    async def answer(prompts: int) -> None:
        found = asked(prompts, 2, "clip", arms=3)
        chance = np.random.default_rng(0)
        seen = {one.index: chance.normal(size=30) + one.arm for one in found.places}
        figures = distribution(found, scored(found), {"clip": seen}).model_dump(mode="json")
        await page.route("**/distribution", lambda route: route.fulfill(json=figures))
        await page.reload()

    await answer(3)
    table = sets.get_by_role("region", name="Sets by CLIP features")
    await expect(sets).to_contain_text("There is KID from 50 pairs of pictures on, FD from 60 pairs on")
    await expect(table.get_by_role("row", name="KID to CFG")).to_contain_text("too few: 6 of 50 pairs")
    await expect(table.get_by_role("row", name="Diversity within a prompt")).to_contain_text("(3 prompts)")
    await expect(table.get_by_role("row", name="Diversity, minus CFG")).to_contain_text("[")
    await expect(sets).to_contain_text("emoji/scorer, SHA-256 abababab")
    assert await examine(page) == []
    await page.unroute("**/distribution")
    await answer(25)
    await expect(table.get_by_role("row", name="KID to CFG")).to_contain_text("[")
    await expect(table.get_by_role("row", name="FD to CFG")).to_contain_text("too few: 50 of 60 pairs")
    await expect(sets).to_contain_text("smaller is not better")


async def test_what_measures_the_pictures_is_chosen_and_a_fork_keeps_it(page: Page, service: Serving) -> None:
    await page.goto(f"/compare/{compared(service.url(), prompts=[stamp()])}?view=metrics")
    sets = page.get_by_role("region", name="The pictures as sets")
    await sets.get_by_role("link", name="Fork with it").first.click()
    basic, clip = (
        page.get_by_role("checkbox", name=name) for name in ("Basic statistics", "Fit to the prompt")
    )
    await expect(clip).to_be_checked()
    await expect(clip).to_have_accessible_description(re.compile("How well picture and prompt fit"))
    await expect(basic).to_be_checked()
    await basic.uncheck()
    await page.get_by_role("button", name="Run 3 pictures").click()
    await done(page)
    await page.get_by_role("link", name="Metrics").click()
    await expect(sets).to_contain_text("the model's folder has no scorer")
    await expect(sets.get_by_role("link", name="Fork with it")).to_have_count(1)  # that of LPIPS
    await page.get_by_role("link", name="Fork", exact=True).click()
    await expect(clip).to_be_checked()
    await expect(basic).not_to_be_checked()
    await clip.uncheck()
    await basic.check()
    await expect(page).not_to_have_url(re.compile("clip"))
    assert await examine(page) == []


async def test_at_the_matched_scale_it_is_said_what_else_differs(page: Page, service: Serving) -> None:
    scales = [{"label": f"CFG {scale}", "guidance": {"method": "cfg", "scale": scale}} for scale in (2, 16)]
    made = compared(service.url(), arms=[ARMS[2], *scales])
    found = told(service.url(), made, "/calibration?of=sharpness")
    assert {"saturation", "guidance_norm"} < {one["name"] for one in found["differences"]}
    await page.goto(f"/compare/{made}?view=match&of=sharpness")
    differences = page.get_by_role("region", name="Differences at the matched scale")
    for one in found["differences"]:
        row = differences.get_by_role("row", name=f"{one['title']} {one['difference']['text']}", exact=True)
        await expect(row).to_be_visible()
    assert await examine(page) == []
    await page.get_by_label("What shall be equal").select_option(label="Mean effective scale")
    await expect(page.get_by_text("does not reach it at scales 2 to 16")).to_be_visible()
    await expect(differences).to_have_count(0)


async def test_disputed_rows_are_found_by_scores_and_once_all_voted_by_votes(
    page: Page, service: Serving
) -> None:
    made = compared(
        service.url(), prompts=["high", "low", stamp()], seeds=[1, 2], arms=ARMS[:2], votes_planned=12
    )
    await page.goto(f"/compare/{made}")
    rows = page.locator("table.grid tbody tr")
    await expect(rows).to_have_count(6)
    await page.get_by_label("Rows").fill("disputed")
    said = page.get_by_text("Nobody has voted yet, so these are the quarter of the rows")
    await expect(said).to_be_visible()
    await expect(rows).to_have_count(2)
    assert await examine(page) == []
    voted(service.url(), made, 20, "somebody-6")
    await page.reload()
    await expect(page.get_by_text("Votes stay blind until the 12 that are planned")).to_be_visible()
    await expect(rows).to_have_count(2)
    voted(service.url(), made, 20, "somebody-7")
    await page.reload()
    await expect(page.get_by_text("of 6 with a pair that was judged twice")).to_be_visible()
    disputed = told(service.url(), made, "/disputed")["rows"]
    await expect(rows).to_have_count(len(disputed))
    await page.get_by_label("Rows").fill("low seed 2")
    await expect(rows).to_have_count(1)
