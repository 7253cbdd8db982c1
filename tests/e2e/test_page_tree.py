"""Every screen as assistive technology is told of it, against goldens that a person can review.

What differs from run to run is masked: ids, times, measured numbers, the machine. After a change that is
meant, `UPDATE_GOLDENS=1` writes them anew, and the diff tells what it did to each screen.
"""

import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.e2e.browsing import MARKS, browsing, compared, settled, voted
from tests.e2e.serving import Serving, serving

pytestmark = MARKS

GOLDEN = Path(__file__).parent.parent / "golden" / "aria"
SCREENS = {
    "compose": ("/", "main"),
    "frame": ("/library?search=nothing", "header.top"),
    "overview": ("/compare/{id}", "main"),
    "inspect": ("/compare/{id}?view=pair&mode=side", "main"),
    "metrics": ("/compare/{id}?view=metrics", "main"),
    "trajectory": ("/compare/{id}?view=steps", "main"),
    "match": ("/compare/{id}?view=match", "main"),
    "spec": ("/compare/{id}?view=spec", "main"),
    "vote": ("/compare/{judged}/vote", "main"),
    "results": ("/compare/{judged}/results", "main"),
    "library": ("/library?search=record", "main"),
    "system": ("/system", "main"),
}
"""Name of a golden -> address, and the part of the screen."""
MEASURED = (
    "[aria-label='What ran'] td, [aria-label=Workers] th[scope=row], time, "
    "[aria-label=Workers] td:last-child, [aria-label^=Pace] td:last-child"
)
"""Parts of the screens that a machine or a clock decides about."""
MASKS = {
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}": "ID",
    r"\d+/\d+/\d+, [\d:]+ [AP]M": "TIME",
    r"(img \"Votes over time:.*': ).*": r"\1N",
    r"127\.0\.0\.1:\d+": "HOST",
    r"[+−-]?\d+\.\d+(?:e[+-]?\d+)?": "N",
    r"\babout \d+ (?:s|min|kB|MB)\b": "about N",
}
"""Pattern -> what stands for it."""
PATIENCE_S = 20


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A service on which no other test leaves anything to be seen."""
    with serving(tmp_path_factory.mktemp("alone") / "data") as service:
        yield service


@pytest.fixture(scope="module")
def ids(alone: Serving) -> dict[str, str]:
    """A comparison to look at, and one on which four people were asked, who find all alike.

    Without previews: which of them are kept depends on time.
    """
    url = alone.url()
    judged = compared(url, prompts=["high"], title="For the vote")
    for number in range(4):
        voted(url, judged, 3, f"somebody-{number}", "tie")
    return {"id": compared(url, preview_every=0, title="For the record"), "judged": judged}


@pytest_asyncio.fixture(loop_scope="session")
async def page(alone: Serving, browser: Browser, complaints: list[str]) -> AsyncIterator[Page]:
    async with browsing(browser, alone.url(), complaints) as context:
        yield await context.new_page()
    assert complaints == []


async def read(page: Page, part: str) -> str:
    """The accessibility tree, masked."""
    await page.locator(MEASURED).evaluate_all("cells => cells.forEach((one) => (one.textContent = 'N'))")
    told = await page.locator(part).aria_snapshot()
    for pattern, mask in MASKS.items():
        told = re.sub(pattern, mask, told)
    return told + "\n"


@pytest.mark.parametrize("name", SCREENS)
async def test_a_screen_reads_as_it_did(page: Page, ids: dict[str, str], name: str) -> None:
    path, part = SCREENS[name]
    await page.goto(path.format(**ids))
    await expect(page.locator("main h1")).not_to_contain_text("Loading")
    await settled(page)
    golden = GOLDEN / f"{name}.yml"
    if os.environ.get("UPDATE_GOLDENS"):
        await page.wait_for_timeout(PATIENCE_S * 1e3 / 10)
        golden.write_text(await read(page, part))
    wanted, end = golden.read_text(), time.monotonic() + PATIENCE_S
    while (told := await read(page, part)) != wanted and time.monotonic() < end:
        await page.wait_for_timeout(200)  # what a plot or a table shows may still be on its way
    assert told == wanted
