"""The API's documentation in a browser, under our own policy and with nothing from elsewhere."""

from playwright.async_api import Page, expect

from tests.e2e.browsing import MARKS
from tests.e2e.serving import Serving

pytestmark = MARKS


async def test_an_endpoint_can_be_read_and_tried(service: Serving, page: Page) -> None:
    await page.goto(f"{service.url()}/docs")
    operation = page.locator("#operations-fleet-get_queue_v1_queue_get")
    await operation.locator(".opblock-summary-control").click()
    await operation.get_by_role("button", name="Try it out").click()
    await operation.get_by_role("button", name="Execute").click()
    await expect(operation.locator(".live-responses-table")).to_contain_text('"object": "queue"')
    create = page.locator("#operations-jobs-create_job_v1_jobs_post")
    await create.locator(".opblock-summary-control").click()
    await expect(create).to_contain_text("a red apple, 3d")
