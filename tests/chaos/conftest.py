"""`make chaos`: the service is broken in every way that we know of, and the books must balance."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.site import OUTCOMES, Site


@pytest.fixture
async def open_site(tmp_path: Path) -> AsyncIterator[Callable[..., Site]]:
    """Opens sites with settings of their own."""
    opened: list[Site] = []

    def open(**settings: Any) -> Site:
        folder = tmp_path / f"site{len(opened)}"
        folder.mkdir()
        opened.append(Site(folder, **settings))
        return opened[-1]

    yield open
    closing: list[Awaitable[None]] = [site.close() for site in opened]
    for one in closing:
        await one


@pytest.fixture
async def site(open_site: Callable[..., Site]) -> Site:
    return open_site()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what every scenario came to."""
    if not OUTCOMES:
        return
    terminalreporter.section("chaos")
    for outcome in OUTCOMES:
        terminalreporter.write_line(str(outcome))
    told = {outcome.scenario: outcome.recovery_s for outcome in OUTCOMES}
    terminalreporter.write_line(json.dumps({"benchmark": "chaos", "recovery_s": told}))
