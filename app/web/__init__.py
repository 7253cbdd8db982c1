"""The page: files served as they lie, and one shell for every screen's address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

WEB = Path(__file__).resolve().parent
SCREENS = ("/", "/compare/{id}", "/compare/{id}/vote", "/compare/{id}/results", "/library", "/system")
FRESH = {"Cache-Control": "no-cache"}
"""A browser asks each time whether its copy is still good: after an update no old module meets a new one."""


class Fresh(StaticFiles):
    """Static files with `FRESH`."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """The file, or 304."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(FRESH)
        return response


def mount(app: FastAPI, root_path: str = "") -> None:
    """Serve the page, whose addresses begin with `root_path`."""
    app.mount("/static", Fresh(directory=WEB / "static"), name="static")

    shown = {
        name: (WEB / "static" / f"{name}.html").read_text().replace('="/', f'="{root_path}/')
        for name in ("index", "docs")
    }

    async def shell() -> HTMLResponse:
        return HTMLResponse(shown["index"], headers=FRESH)

    async def docs() -> HTMLResponse:
        return HTMLResponse(shown["docs"], headers=FRESH)

    app.get("/docs", include_in_schema=False)(docs)
    for path in SCREENS:
        documented = path == "/"
        app.get(path, summary="The page", response_class=HTMLResponse, include_in_schema=documented)(shell)
        app.head(path, include_in_schema=False)(shell)
