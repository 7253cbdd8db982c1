"""The library: single jobs beside comparisons, and what was made on some days."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from playwright.async_api import Page, expect

from tests.e2e.access import examine
from tests.e2e.browsing import MARKS, PLAIN, compared, stamp
from tests.e2e.serving import Serving

pytestmark = MARKS


def made(url: str, prompt: str, **changes: Any) -> dict[str, Any]:
    """A job of one picture, when it has ended."""
    asked = {"model": "toy", "prompt": prompt, "seeds": [3], "steps": 3, "width": 64, "height": 64}
    headers = {"Prefer": "wait=60"}
    answer = httpx.post(f"{url}/v1/jobs", json=asked | changes, headers=headers, **PLAIN)
    return answer.raise_for_status().json()


async def test_single_jobs_are_shown_found_compared_and_deleted_with_undo(
    page: Page, service: Serving
) -> None:
    url = service.url()
    compared(url, prompts=[(prompt := stamp())])
    job = made(url, prompt, guidance={"method": "apg", "scale": 7})
    made(url, "broken", model="fragile")
    await page.goto(f"/library?search={prompt}")
    await page.get_by_role("link", name="Single jobs").click()
    await page.get_by_label("Search title").fill(prompt)
    cards = page.locator(".shelf > li")
    await expect(cards).to_have_count(1)  # the comparison's cells are not among them
    await expect(cards).to_contain_text("apg 7, toy, 3 steps, 1 picture")
    await expect(cards).to_contain_text("succeeded")
    assert await cards.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
    await expect(cards.get_by_role("link", name=prompt, exact=True)).to_have_attribute(
        "href", f"/v1/jobs/{job['id']}/images/0"
    )
    assert not await examine(page, name="single jobs")
    await page.get_by_role("button", name=f"Delete {prompt}").click()
    await expect(cards).to_have_count(0)
    await page.get_by_role("button", name="Undo").click()
    await expect(page.get_by_role("button", name=f"Delete {prompt}")).to_be_focused()
    await cards.get_by_role("link", name=f"Compare {prompt}").click()
    await expect(page.get_by_label("Prompts, one a line")).to_have_value(prompt)
    await expect(page.get_by_label("Method of arm A")).to_have_value("apg")
    await expect(page.get_by_label("Seeds")).to_have_value("3")
    await page.goto("/library?of=jobs&search=broken")
    await expect(cards.first).to_contain_text("failed")
    await expect(cards.first.locator(".bad")).not_to_be_empty()


async def test_a_job_is_deleted_when_nobody_undoes_it(page: Page, service: Serving) -> None:
    job = made(service.url(), prompt := stamp())
    await page.goto(f"/library?of=jobs&search={prompt}")
    await page.get_by_role("button", name=f"Delete {prompt}").click()
    async with page.expect_response(lambda answer: answer.request.method == "DELETE") as answer:
        await page.get_by_role("link", name="Library").focus()  # nothing holds the message any longer
    assert (await answer.value).ok
    gone = httpx.AsyncClient(base_url=service.url(), **PLAIN)
    async with gone:
        assert (await gone.get(f"/v1/jobs/{job['id']}")).status_code == 404


async def test_the_library_shows_what_was_made_on_some_days(page: Page, service: Serving) -> None:
    compared(service.url(), prompts=[(prompt := stamp())], title="Of today")
    made(service.url(), prompt)
    today = datetime.now(UTC).date()  # the browser's zone is UTC too
    days = {
        name: str(today + timedelta(days=by)) for name, by in (("before", -1), ("today", 0), ("after", 1))
    }
    for kind in ("comparisons", "jobs"):
        await page.goto(f"/library?of={kind}&search={prompt}")
        cards = page.locator(".shelf > li")
        begin, end = page.get_by_label("Made on this day or later"), page.get_by_label("And not after")
        await begin.fill(days["today"])
        await end.fill(days["today"])
        await expect(page).to_have_url(
            f"{service.url()}/library?of={kind}&search={prompt.replace(' ', '+')}"
            f"&since={days['today']}&until={days['today']}"
        )
        await expect(cards).to_have_count(1)
        await end.fill(days["before"])
        await expect(page.get_by_text("Nothing matches.")).to_be_visible()
        await begin.fill("")
        await end.fill("")
        await expect(cards).to_have_count(1)
        await begin.fill(days["after"])
        await expect(page.get_by_text("Nothing matches.")).to_be_visible()
    assert not await examine(page, name="library by days")
