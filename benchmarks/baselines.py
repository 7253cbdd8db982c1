"""Two servers that people write around a diffusers pipeline, for `benchmarks.serving`.

    python -m benchmarks.baselines fastapi|litserve PORT [--model FOLDER]

`fastapi`: one pipeline behind a lock. `litserve`: LitServe, which collects up to 8 requests; the pipeline
takes those of one sampler, step count and scale in one call. Both answer `POST /predict` with a PNG.
"""

import argparse
import io
import threading
from collections.abc import Sequence
from typing import Any

import diffusers
import torch
import uvicorn
from diffusers import StableDiffusionPipeline
from fastapi import FastAPI
from fastapi.responses import Response
from pydantic import BaseModel

from benchmarks import networks

SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
}


class Ask(BaseModel):
    """One picture."""

    prompt: str
    seed: int
    steps: int
    sampler: str
    scale: float


class Painter:
    """The pipeline."""

    def __init__(self, folder: str) -> None:
        torch.set_num_threads(1)
        options: dict[str, Any] = {"use_safetensors": True, "safety_checker": None}
        self.pipeline: Any = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, **options)
        self.pipeline.set_progress_bar_config(disable=True)
        config = dict(self.pipeline.scheduler.config)
        self.schedulers = {
            name: getattr(diffusers, kind).from_config(config) for name, kind in SCHEDULERS.items()
        }

    def paint(self, asks: Sequence[Ask]) -> list[bytes]:
        """PNGs, in the order of the asks: one call for each group that a pipeline can take at once."""
        groups: dict[tuple[str, int, float], list[int]] = {}
        for i, ask in enumerate(asks):
            groups.setdefault((ask.sampler, ask.steps, ask.scale), []).append(i)
        out: dict[int, bytes] = {}
        for (sampler, steps, scale), places in groups.items():
            self.pipeline.scheduler = self.schedulers[sampler]
            images = self.pipeline(
                [asks[i].prompt for i in places],
                num_inference_steps=steps,
                guidance_scale=scale,
                generator=[torch.Generator().manual_seed(asks[i].seed) for i in places],
            ).images
            out.update({i: _png(image) for i, image in zip(places, images, strict=True)})
        return [out[i] for i in range(len(asks))]


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def fastapi_app(folder: str) -> FastAPI:
    """One request at a time."""
    app, painter, lock = FastAPI(), Painter(folder), threading.Lock()

    @app.post("/predict")
    def predict(ask: Ask) -> Response:
        with lock:
            return Response(painter.paint([ask])[0], media_type="image/png")

    @app.get("/health")
    def health() -> str:
        return "ok"

    return app


def serve_fastapi(folder: str, port: int) -> None:
    uvicorn.run(fastapi_app(folder), port=port, log_level="warning")


def serve_litserve(folder: str, port: int) -> None:
    from benchmarks import batching  # the other needs no LitServe

    batching.serve_litserve(folder, port)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("server", choices=["fastapi", "litserve"])
    parser.add_argument("port", type=int)
    parser.add_argument("--model", default=str(networks.BUILT_IN))
    options = parser.parse_args()
    {"fastapi": serve_fastapi, "litserve": serve_litserve}[options.server](options.model, options.port)
