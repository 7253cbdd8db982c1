"""Voting: a shortest time to look, and how the votes came in."""

import re
import time

import httpx
from playwright.async_api import Page, expect

from tests.e2e.access import examine
from tests.e2e.browsing import MARKS, PLAIN, compared, stamp, taken, voted
from tests.e2e.serving import Serving

pytestmark = MARKS


async def test_buttons_and_keys_wait_until_a_pair_was_looked_at(page: Page, service: Serving) -> None:
    made = compared(service.url(), prompts=[stamp()], seeds=[1, 2, 3])
    await page.goto(f"/compare/{made}/results")
    await page.get_by_label("Seconds to look at a pair").fill("4")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Saved.").first).to_be_visible()
    sent = list[float]()
    page.on(
        "request", lambda request: sent.append(time.monotonic()) if request.url.endswith("/vote") else None
    )
    await page.get_by_role("link", name="Cast the first vote").click()
    left = page.get_by_role("button", name="Left")
    await expect(left).to_have_attribute("aria-disabled", "true")
    shown = time.monotonic()
    await expect(left).to_have_accessible_description("Look at both pictures for 4 s; then vote.")
    await left.click(force=True)
    await page.keyboard.press("1")
    await expect(
        page.get_by_role("status").get_by_text("Look at both pictures for 4 s first.")
    ).to_be_attached()
    assert not await examine(page, name="waiting")
    await expect(left).to_have_attribute("aria-disabled", "false")
    await expect(page.get_by_role("status").get_by_text("You can vote now.")).to_be_attached()
    assert sent == []
    assert time.monotonic() - shown >= 3
    await page.keyboard.press("1")
    await expect(page.get_by_text("1 of 30 votes planned are yours")).to_be_visible()
    await expect(left).to_have_attribute("aria-disabled", "true")
    await page.keyboard.press("s")  # without a look
    await expect(page.get_by_text("1 of 30 votes planned are yours")).to_be_visible()
    await page.keyboard.press("u")  # one that was looked at
    await expect(left).to_have_attribute("aria-disabled", "false")
    assert len(sent) == 2


async def test_the_results_show_how_the_votes_came_in(page: Page, service: Serving) -> None:
    made = compared(service.url(), prompts=[stamp()], seeds=[1, 2, 3])
    await page.goto(f"/compare/{made}/results")
    table = page.get_by_role("link", name="Votes, CSV")
    assert (await taken(page, table.click)).startswith(b"prompt,seed,left,right,choice,question,")
    voted(service.url(), made, 1, "somebody-7")
    await page.reload()
    await expect(page.get_by_text("1 vote: too few to rank")).to_be_visible()
    await expect(page.get_by_role("figure", name="Votes over time")).to_have_count(0)  # one is no course
    voted(service.url(), made, 4, "somebody-8")
    await page.reload()
    figure = page.get_by_role("figure", name="Votes over time")
    await expect(figure.get_by_role("img")).to_have_attribute(
        "aria-label", re.compile("votes so far from 1 to ")
    )
    await figure.get_by_role("button", name="Table", exact=True).click()
    rows = figure.get_by_role("row")
    async with httpx.AsyncClient(base_url=service.url(), **PLAIN) as http:
        times = (await http.get(f"/v1/comparisons/{made}/results")).json()["votes"]["voted_at_ms"]
    await expect(rows).to_have_count(1 + len(times))
    cells = (await rows.last.inner_text()).split()
    assert float(cells[0]) > 0
    assert cells[1] == str(len(times))
    assert not await examine(page, name="results")
