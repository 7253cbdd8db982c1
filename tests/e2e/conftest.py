"""One service for the tests that do not end it, and one browser, whose pages may not complain."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.e2e.browsing import browsing, launched
from tests.e2e.serving import Serving, serving


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("service") / "data") as service:
        service.url()
        yield service


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with launched() as browser:
        yield browser


@pytest.fixture
def complaints() -> list[str]:
    """What the browser may not complain of: a test that provokes something takes it out."""
    return []


@pytest_asyncio.fixture(loop_scope="session")
async def page(service: Serving, browser: Browser, complaints: list[str]) -> AsyncIterator[Page]:
    async with browsing(browser, service.url(), complaints) as context:
        yield await context.new_page()
    assert complaints == []
