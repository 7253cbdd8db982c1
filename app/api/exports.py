"""A comparison in other forms: JSON, CSV, zip, one HTML file, a contact sheet."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from app.api.comparisons import Found, cells_of
from app.api.deps import Lodestar, Service
from app.api.errors import Problem
from app.comparison import export
from app.comparison.calibration import Calibration, NothingToMatch, calibration
from app.comparison.cells import Cell
from app.comparison.distribution import SPACES, Distribution, Seen, distribution
from app.comparison.report import report
from app.comparison.store import Comparisons
from app.storage.arrays import array_of
from app.storage.base import features_key

router = APIRouter(prefix="/v1/comparisons", tags=["comparisons"])

Kind = Literal["json", "csv", "zip", "html", "png"]
MEDIA_TYPES: dict[Kind, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "zip": "application/zip",
    "html": "text/html; charset=utf-8",
    "png": "image/png",
}
CONTENT: dict[int | str, Any] = {
    200: {"content": {kind.partition(";")[0]: {} for kind in MEDIA_TYPES.values()}}
}
REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"


@router.get("/{id}/export.{kind}", response_class=Response, responses=CONTENT)
async def export_comparison(
    lodestar: Lodestar,
    found: Found,
    kind: Kind,
    of: Annotated[Literal["cells", "traces", "votes"], Query(description="which table, for csv")] = "cells",
) -> Response:
    """Everything as `json` or `zip`; a table as `csv`; a report in one `html`; a contact sheet as `png`.

    Pictures in the zip hold the request that made them. Voters are numbered, not named.
    """
    cells, votes = await cells_of(lodestar, found), await Comparisons(lodestar.storage).votes(found)
    traces = await traces_of(lodestar, cells) if kind in ("json", "zip") or of == "traces" else {}
    pictures = await pictures_of(lodestar, cells) if kind in ("zip", "html", "png") else {}
    seen = await features_of(lodestar, cells) if kind in ("json", "zip", "html") else {}

    def make() -> bytes | str:
        match kind:
            case "json":
                told = export.everything(found, cells, votes, traces, seen)
                return json.dumps(told, indent=1, ensure_ascii=False)
            case "csv" if of == "votes":
                return export.as_csv(export.vote_rows(found, votes), export.VOTE_COLUMNS)
            case "csv" if of == "traces":
                return export.as_csv(export.trace_rows(found, cells, traces))
            case "csv":
                return export.as_csv(export.cell_rows(found, cells))
            case "zip":
                return export.archive(found, cells, votes, traces, pictures, seen)
            case "html":
                return report(found, cells, votes, pictures, seen)
            case "png":
                return export.contact_sheet(found, cells, pictures)

    name = f"lodestar-{found.id}{'' if of == 'cells' else f'-{of}'}.{kind}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if kind == "html":
        headers["Content-Security-Policy"] = REPORT_POLICY
    return Response(await asyncio.to_thread(make), media_type=MEDIA_TYPES[kind], headers=headers)


@router.get("/{id}/calibration")
async def get_calibration(
    lodestar: Lodestar,
    found: Found,
    of: Annotated[str, Query(max_length=60, description="a score or a trace")] = "saturation",
) -> Calibration:
    """The arms that differ in scale alone, as a curve, and the scale at which they match the other arm."""
    cells = await cells_of(lodestar, found)
    traces = await traces_of(lodestar, cells)
    try:
        return await asyncio.to_thread(calibration, found, cells, traces, of)
    except NothingToMatch as error:
        raise Problem(422, str(error), errors=[{"pointer": "/of", "detail": str(error)}]) from None


@router.get("/{id}/distribution")
async def get_distribution(lodestar: Lodestar, found: Found) -> Distribution:
    """The arms' pictures as sets: diversity of each, KID and FD of each against the baseline's.

    By the features that the metrics `clip` and `lpips` keep, so ask for these in the comparison. KID takes 50
    pairs of pictures, FD two for each dimension; `least` says how many that is, and below it they are null.
    """
    cells = await cells_of(lodestar, found)
    seen = await features_of(lodestar, cells)
    return await asyncio.to_thread(distribution, found, cells, seen)


async def pictures_of(lodestar: Service, cells: list[Cell]) -> dict[int, bytes]:
    """The first picture of each cell that has one, by cell index."""
    found = dict[int, bytes]()
    for cell in cells:
        images = cell.record.result.images if cell.record and cell.record.result else []
        if images and (data := await lodestar.storage.get(images[0].key)) is not None:
            found[cell.place.index] = data
    return found


async def traces_of(lodestar: Service, cells: list[Cell]) -> dict[int, list[dict[str, Any]]]:
    """Each finished cell's scalars per step, by cell index."""
    found = dict[int, list[dict[str, Any]]]()
    for cell in cells:
        key = cell.record.result.trace_key if cell.record and cell.record.result else None
        if key and (data := await lodestar.storage.get(key)) is not None:
            images = json.loads(data)["images"]
            found[cell.place.index] = images[0]["rows"] if images else []
    return found


async def features_of(lodestar: Service, cells: list[Cell]) -> Seen:
    """What metrics saw in each finished cell's picture, as far as they keep it."""
    found: dict[str, dict[int, Any]] = {name: {} for name in SPACES}
    for cell in cells:
        images = cell.record.result.images if cell.record and cell.record.result else []
        for name in SPACES if images else ():
            if cell.record is None or name not in cell.record.resolved.metrics:
                continue
            if (data := await lodestar.storage.get(features_key(images[0].key, name))) is not None:
                found[name][cell.place.index] = array_of(data)
    return found
