"""One service for the tests that do not end it, and a browser that may not complain."""

from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Page

from tests.e2e.browsing import browsing
from tests.e2e.serving import Serving, serving


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("service") / "data") as service:
        service.url()
        yield service


@pytest.fixture
def complaints() -> list[str]:
    """What the browser may not complain of: a test that provokes something takes it out."""
    return []


@pytest.fixture
async def page(service: Serving, complaints: list[str]) -> AsyncIterator[Page]:
    async with browsing(service.url(), complaints) as context:
        yield await context.new_page()
    assert complaints == []
