"""A comparison to take along: tables as CSV, everything as JSON, a contact sheet, a zip with the pictures."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from app.comparison.cells import Cell, metric_names
from app.comparison.distribution import Seen, distribution
from app.comparison.report import Pictures, report
from app.comparison.results import results
from app.comparison.spec import Comparison
from app.comparison.store import Vote

Row = dict[str, Any]
Traces = Mapping[int, list[dict[str, Any]]]
"""Cell index -> one row of scalars per step."""

PICTURE_PX, GAP_PX, LEFT_PX, TOP_PX = 256, 8, 200, 56


def cell_rows(found: Comparison, cells: Sequence[Cell]) -> Iterator[Row]:
    """One row per cell: where it is, how it went, its scores."""
    names = metric_names(cells)
    for cell in cells:
        arm, result = found.arms[cell.place.arm], cell.record.result if cell.record else None
        yield {
            **_where(found, cell),
            "method": arm.guidance.method,
            "guidance": arm.guidance.model_dump_json(),
            "steps": arm.steps,
            "sampler": arm.sampler,
            "job": cell.place.job_id,
            "status": str(cell.record.status) if cell.record else "missing",
            "nfe": cell.nfe,
            "denoise_ms": result.timings.denoise_ms if result else None,
            **{name: cell.metrics.get(name) for name in names},
            "scorers": "; ".join(
                f"{name}: {one['name']} {one['sha256']}"
                for name, one in (result.ran.get("scorers", {}) if result else {}).items()
            ),
        }


def trace_rows(found: Comparison, cells: Sequence[Cell], traces: Traces) -> Iterator[Row]:
    """One row per cell and step."""
    names = list(dict.fromkeys(name for rows in traces.values() for row in rows for name in row))
    for cell in cells:
        for row in traces.get(cell.place.index, []):
            yield {**_where(found, cell), **{name: row.get(name) for name in names}}


VOTE_COLUMNS = ("prompt", "seed", "left", "right", "choice", "question", "voter", "repeat", "voted_at_ms")


def vote_rows(found: Comparison, votes: Sequence[Vote]) -> Iterator[Row]:
    """One row per vote. Voters are numbered, their ids stay here."""
    voters = {name: n for n, name in enumerate(dict.fromkeys(vote.ballot.voter for vote in votes), 1)}
    for vote in votes:
        yield {
            "prompt": found.prompts[vote.ballot.prompt],
            "seed": found.seeds[vote.ballot.seed],
            "left": found.arms[vote.ballot.left].label,
            "right": found.arms[vote.ballot.right].label,
            "choice": vote.choice,
            "question": vote.question,
            "voter": voters[vote.ballot.voter],
            "repeat": vote.ballot.repeats is not None,
            "voted_at_ms": vote.voted_at_ms,
        }


def as_csv(rows: Iterable[Row], columns: Sequence[str] = ()) -> str:
    """RFC 4180. A text that a spreadsheet would take for a formula gets a quote in front.

    `columns`: for where there may be no row to name them.
    """
    rows = list(rows)
    names = list(columns or (rows[0] if rows else ()))
    out = io.StringIO()
    writer = csv.DictWriter(out, names)
    if names:
        writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def everything(
    found: Comparison, cells: Sequence[Cell], votes: Sequence[Vote], traces: Traces, seen: Seen
) -> dict[str, Any]:
    """All numbers as JSON takes them: what ran, each cell, the results, the votes by number of voter."""
    return {
        "comparison": found.model_dump(mode="json"),
        "cells": list(cell_rows(found, cells)),
        "traces": list(trace_rows(found, cells, traces)),
        "results": results(found, cells, votes).model_dump(mode="json"),
        "distribution": distribution(found, cells, seen).model_dump(mode="json"),
        "votes": list(vote_rows(found, votes)),
    }


def contact_sheet(found: Comparison, cells: Sequence[Cell], pictures: Pictures) -> bytes:
    """All pictures with labels as one PNG: a row per prompt and seed, a column per arm."""
    rows, columns = len(found.prompts) * len(found.seeds), len(found.arms)
    pitch = PICTURE_PX + GAP_PX
    sheet = Image.new("RGB", (LEFT_PX + columns * pitch, TOP_PX + rows * pitch), "#ffffff")
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(18), ImageFont.load_default(14)
    for number, arm in enumerate(found.arms):
        draw.text((LEFT_PX + number * pitch, 16), _fit(arm.label, 28), "#111111", large)
    for cell in cells:
        row = cell.place.prompt * len(found.seeds) + cell.place.seed
        top, left = TOP_PX + row * pitch, LEFT_PX + cell.place.arm * pitch
        if cell.place.arm == 0:
            lines = [
                *_lines(found.prompts[cell.place.prompt], 26)[:6],
                f"seed {found.seeds[cell.place.seed]}",
            ]
            draw.multiline_text((8, top), "\n".join(lines), "#444444", small)
        draw.rectangle((left, top, left + PICTURE_PX - 1, top + PICTURE_PX - 1), "#808080")
        if (png := pictures.get(cell.place.index)) is None:
            draw.text((left + 8, top + 8), "not made", "#ffffff", small)
            continue
        with Image.open(io.BytesIO(png), formats=("PNG",)) as picture:
            smooth = Image.Resampling.NEAREST if picture.width <= PICTURE_PX else Image.Resampling.LANCZOS
            scale = PICTURE_PX / max(picture.size)
            size = (round(picture.width * scale), round(picture.height * scale))
            place = (left + (PICTURE_PX - size[0]) // 2, top + (PICTURE_PX - size[1]) // 2)
            sheet.paste(picture.convert("RGB").resize(size, smooth), place)
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()


def archive(
    found: Comparison,
    cells: Sequence[Cell],
    votes: Sequence[Vote],
    traces: Traces,
    pictures: Pictures,
    seen: Seen,
) -> bytes:
    """A zip with everything: pictures (each with its request inside), tables, JSON, report, contact sheet."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for cell in cells:
            if (png := pictures.get(cell.place.index)) is not None:
                at, method = cell.place, found.arms[cell.place.arm].guidance.method
                name = f"images/{at.prompt:03}-{found.seeds[at.seed]}-{at.arm}-{method}.png"
                file.writestr(name, png, zipfile.ZIP_STORED)
        told = everything(found, cells, votes, traces, seen)
        file.writestr("comparison.json", json.dumps(told, indent=1, ensure_ascii=False))
        file.writestr("cells.csv", as_csv(cell_rows(found, cells)))
        file.writestr("traces.csv", as_csv(trace_rows(found, cells, traces)))
        file.writestr("votes.csv", as_csv(vote_rows(found, votes), VOTE_COLUMNS))
        file.writestr("report.html", report(found, cells, votes, pictures, seen))
        file.writestr("contact-sheet.png", contact_sheet(found, cells, pictures), zipfile.ZIP_STORED)
    return out.getvalue()


def _where(found: Comparison, cell: Cell) -> Row:
    at = cell.place
    return {"prompt": found.prompts[at.prompt], "seed": found.seeds[at.seed], "arm": found.arms[at.arm].label}


def _plain(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _fit(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def _lines(text: str, characters: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= characters:
            lines.append("")
        lines[-1] = _fit(f"{lines[-1]} {word}".strip(), characters)
    return lines
