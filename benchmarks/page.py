"""How long the page takes for a batch of events on a grid of 200 cells.

    python -m benchmarks.page

Needs Chromium (CHROMIUM names another) and no service. A batch tells of a step and its scalars of each cell
that runs: 16, as many as a worker has rows, or all 200. The time is that of applying and rendering, not of
layout and paint. Goal: at most 16 ms for what one worker tells at once.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import threading
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from playwright.sync_api import sync_playwright

from app.web import mount

SCRIPT = (Path(__file__).parent / "page.js").read_text().partition("\n")[2].rstrip().rstrip(";")
GRID = f"([prompts, seeds, arms]) => ({SCRIPT}).grid(prompts, seeds, arms)"
BATCH = f"([step, touched]) => ({SCRIPT}).batch(step, touched)"
GOAL_MS = 16
ROUNDS = 40


def main() -> None:
    """Measure, and end with one JSON line."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    app = FastAPI()
    mount(app)
    with socket.socket() as listener, sync_playwright() as playwright:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        serving.start()
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}/system")
        page.evaluate(GRID, [25, 2, 4])
        medians = dict[int, float]()
        for cells in (16, 200):
            spent = [page.evaluate(BATCH, [step, list(range(cells))])[0] for step in range(1, ROUNDS)]
            medians[cells] = round(statistics.median(spent), 2)
            print(f"{cells} of 200 cells, {2 * cells} events: median {medians[cells]} ms")
        browser.close()
        server.should_exit = True
        serving.join()
    print(json.dumps({"median_ms": medians, "goal_ms": GOAL_MS, "within": medians[16] <= GOAL_MS}))


if __name__ == "__main__":
    main()
