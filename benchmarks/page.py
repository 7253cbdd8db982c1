"""How long the page takes for a batch of events on a grid of 200 cells.

    python -m benchmarks.page

Needs Chromium (CHROMIUM names another) and no service. The page is the real one, with all that stands
below its grid; the comparison and its events are made here. A batch tells of a step and its scalars of 16
cells, as many as a worker has rows, or of all 200; of a preview of all; that all begin; that all are made,
after which 200 pictures are drawn. The page spreads a large batch over frames. Printed is the script's own
time on its thread, which a busy machine does not lengthen, and in how many frames it was spent: medians over
the rounds. Goal: 16 ms a frame.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import statistics
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Response
from PIL import Image
from playwright.sync_api import CDPSession, Page, sync_playwright

from app.web import mount

TOLD = (Path(__file__).parent / "page.js").read_text()
"""Have the browser run this before the page's own code."""
PROMPTS, SEEDS, ARMS = 25, 2, 4
CELLS = PROMPTS * SEEDS * ARMS
GOAL_MS = 16
ROUNDS = 12

Event = tuple[str, dict[str, Any]]


def snapshot(prompts: int = PROMPTS, seeds: int = SEEDS, arms: int = ARMS) -> dict[str, Any]:
    """`GET /v1/comparisons/grid` of a comparison whose cells all wait."""
    return {
        "id": "grid",
        "title": "grid",
        "model": "emoji",
        "prompts": [f"prompt {number}" for number in range(prompts)],
        "seeds": list(range(seeds)),
        "arms": [
            {"label": f"arm {number}", "steps": 50, "sampler": "ddim", "guidance": {"method": "cfg"}}
            for number in range(arms)
        ],
        "width": 64,
        "height": 64,
        "qr": None,
        "metrics": [],
        "cells": [
            cell(
                index, "queued", prompt=index // (seeds * arms), seed=index // arms % seeds, arm=index % arms
            )
            for index in range(prompts * seeds * arms)
        ],
        "last_event_id": "0",
    }


def cell(index: int, status: str, **more: Any) -> dict[str, Any]:
    """What the service tells of a cell."""
    none = {"images": [], "metrics": {}, "warnings": [], "nfe": None, "timings": None, "error": None}
    return {"index": index, "job": f"{index}", "status": status, **none, **more}


def steps(cells: Iterable[int], step: int) -> list[Event]:
    """What a worker tells after a step of these cells."""
    told: list[Event] = []
    for index in cells:
        progress = {"step": step, "total": 50, "fraction": step / 50, "stage": "denoising"}
        row = {"index": 0, "step": step, "sigma": 1.0, "guidance_norm": float(step)}
        told += [("progress", {"cell": index, **progress}), ("guidance", {"cell": index, "rows": [row]})]
    return told


def previews(step: int) -> list[Event]:
    """A preview of every cell."""
    url = "/v1/jobs/{}/images/0/preview?step={}"
    return [
        ("preview", {"cell": index, "index": 0, "step": step, "url": url.format(index, step)})
        for index in range(CELLS)
    ]


def states(name: str, status: str, **more: Any) -> list[Event]:
    """Every cell in another state."""
    return [(name, {"cell": index, **cell(index, status, **more)}) for index in range(CELLS)]


def made(round_: int) -> list[Event]:
    """Every cell with its picture."""
    image = {"url": f"/v1/jobs/0/images/0?{round_}", "width": 64, "height": 64, "previews": [], "metrics": {}}
    cost = {"nfe": {"model": 100, "weak": 0}, "timings": {"denoise_ms": 1.0}}
    return states("completed", "succeeded", images=[image], **cost)


BATCHES: dict[str, Callable[[int], list[Event]]] = {
    "a step of 16 cells": lambda step: steps(range(16), step),
    "a step of all": lambda step: steps(range(CELLS), step),
    "previews of all": previews,
    "all begin": lambda step: states("queued" if step % 2 else "start", "queued" if step % 2 else "starting"),
    "all are made": lambda step: made(step) if step % 2 else states("queued", "queued"),
}


def served() -> FastAPI:
    """The page, and as much of a service as it asks for."""
    app = FastAPI()
    mount(app)
    picture = io.BytesIO()
    Image.effect_noise((64, 64), 80).convert("RGB").save(picture, "PNG")
    norm = {"guidance_norm": {"label": "norm", "log": False}}
    method = {"id": "cfg", "title": "CFG", "traces": norm, "defaults": {}}
    answers = {
        "/v1/session": {"name": None},
        "/v1/comparisons/grid": snapshot(),
        "/v1/guidance": {"data": [method]},
        **{f"/v1/{name}": {"data": []} for name in ("samplers", "models", "metrics")},
    }
    for path, answer in answers.items():
        app.get(path)(lambda answer=json.dumps(answer): Response(answer, media_type="application/json"))
    app.get("/v1/jobs/{job}/trace")(lambda: {"images": []})
    app.get("/v1/jobs/{rest:path}")(lambda: Response(picture.getvalue(), media_type="image/png"))
    return app


def main() -> None:
    """Measure, and end with one JSON line."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with socket.socket() as listener, sync_playwright() as playwright:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(served(), log_level="error"))
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        serving.start()
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.add_init_script(TOLD)
        clock = page.context.new_cdp_session(page)
        clock.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}/compare/grid")
        page.locator("table.grid").wait_for()
        spent = {name: measured(page, clock, name) for name in BATCHES}
        browser.close()
        server.should_exit = True
        serving.join()
    within = all(one["frame_ms"] <= GOAL_MS for one in spent.values())
    print(json.dumps({"cells": CELLS, "script": spent, "goal_ms": GOAL_MS, "within": within}))


def measured(page: Page, clock: CDPSession, name: str) -> dict[str, float]:
    """Script of a batch in ms, its frames, and their mean; the first two rounds warm up."""
    batches, frames = list[float](), list[int]()
    for number in range(1, ROUNDS + 1):
        before = script_ms(clock)
        told = page.evaluate("(events) => tell(events)", BATCHES[name](number))
        batches.append(script_ms(clock) - before)
        frames.append(told["frames"])
    batch = statistics.median(batches[2:])
    frame = statistics.median(batch / count for batch, count in zip(batches[2:], frames[2:], strict=True))
    count = statistics.median(frames[2:])
    print(f"{name}: {batch:.1f} ms of script in {count:g} frames, {frame:.1f} ms a frame", flush=True)
    return {"batch_ms": round(batch, 1), "frames": count, "frame_ms": round(frame, 1)}


def script_ms(clock: CDPSession) -> float:
    """All script of the page so far, in milliseconds of its thread."""
    told = clock.send("Performance.getMetrics")["metrics"]
    return next(one["value"] for one in told if one["name"] == "ScriptDuration") * 1e3


if __name__ == "__main__":
    main()
