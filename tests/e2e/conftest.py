"""One service for the tests that do not end it."""

from collections.abc import Iterator

import pytest

from tests.e2e.serving import Serving, serving


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("service") / "data") as service:
        service.url()
        yield service
