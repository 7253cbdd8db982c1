"""Many mixed requests: the engine against diffusers' pipeline, one by one and in static batches.

    taskset -c 0 python -m benchmarks.engine [--mix mixed] [--rounds 3] [--size 64] [--requests 24]
        [--threads 1] [--model small] [--cpu-time]

Three mixes: `identical` keys (the best case of static batches), `mixed` steps and samplers, and mixed
guidance besides (`guided`, where the pipeline, which has CFG only, cannot follow, and the engine with one
request at a time is the baseline). Latents are compared before anything is timed; text is encoded beforehand
and latents are not decoded. Goals, for `mixed` at 8 x 8 latents on one thread: at least 2.5 times the
pipeline one by one and 1.4 times static batches; at 32 x 32, where one request fills a core, at least 1.0
times.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from torch import Tensor

from benchmarks import networks, pairing
from guidance.apg import APG
from guidance.asks import Conditions
from guidance.base import Guidance
from guidance.cfg import CFG
from guidance.cfgpp import CFGPP
from guidance.none import NoGuidance
from samplers.loop import run
from samplers.models.sd import StableDiffusion
from samplers.noise import Noise
from samplers.steps import compile_plan
from workers.engine import Engine
from workers.ticket import Outcome, Ticket

SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
}
PROMPTS = ("a red apple, 3d", "tiger face, flat", "slice of pizza", "sunflower, on a blue background")
STATIC_MAX = 8
ENGINE_ROWS = (32, 48)
ONE_BY_ONE, STATIC = "pipeline, one by one", "pipeline, static batches of one key"
GOAL_ONE_BY_ONE, GOAL_STATIC, GOAL_DIFFERENCE = 2.5, 1.4, 1e-5


@dataclass(frozen=True)
class Request:
    seed: int
    prompt: str
    sampler: str
    steps: int
    guidance: Guidance = field(default_factory=lambda: CFG(scale=4.0))


def mixes(count: int) -> dict[str, list[Request]]:
    """The traffic, the same in every run."""
    draw = random.Random(0)
    same = [Request(i, PROMPTS[i % 4], "ddim", 12) for i in range(count)]
    lengths = draw.choices((4, 8, 12, 20), (0.2, 0.3, 0.25, 0.25), k=count)
    steps = [Request(i, PROMPTS[i % 4], draw.choice(list(SCHEDULERS)), n) for i, n in enumerate(lengths)]
    methods = [CFG(scale=4.0), APG(scale=8.0), CFGPP(scale=0.6), NoGuidance(), CFG(scale=4.0, guide_to=0.5)]
    guided = [Request(r.seed, r.prompt, r.sampler, r.steps, methods[r.seed % 5]) for r in steps]
    return {"identical": same, "mixed": steps, "guided": guided}


class Bench:
    """The ways to serve a list of requests; each gives the latents in the order of the requests."""

    def __init__(self, pipeline: Any, model: StableDiffusion, size_px: int) -> None:
        self.pipeline, self.model, self.size_px = pipeline, model, size_px
        self.shape = model.latent_shape(size_px, size_px)
        self.cond = {prompt: Conditions(*model.encode([prompt, ""]).conds) for prompt in PROMPTS}
        config = dict(pipeline.scheduler.config)
        self.schedulers = {
            name: getattr(diffusers, cls).from_config(config) for name, cls in SCHEDULERS.items()
        }

    def with_pipeline(self, requests: Sequence[Request]) -> Tensor:
        """One call for requests of one key."""
        conds = [self.cond[request.prompt] for request in requests]
        self.pipeline.scheduler = self.schedulers[requests[0].sampler]
        return self.pipeline(
            prompt_embeds=torch.stack([cond.positive.data for cond in conds]),
            negative_prompt_embeds=torch.stack([cond.negative.data for cond in conds]),
            width=self.size_px,
            height=self.size_px,
            num_inference_steps=requests[0].steps,
            guidance_scale=requests[0].guidance.model_dump()["scale"],
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
            output_type="latent",
        ).images

    def one_by_one(self, requests: Sequence[Request]) -> list[Tensor]:
        return [self.with_pipeline([request]) for request in requests]

    def static(self, requests: Sequence[Request]) -> list[Tensor]:
        """As a batching server would: the requests of one key together, at most `STATIC_MAX`."""
        keys: dict[Any, list[int]] = {}
        for i, request in enumerate(requests):
            keys.setdefault((request.sampler, request.steps, request.guidance), []).append(i)
        out: dict[int, Tensor] = {}
        for places in keys.values():
            for begin in range(0, len(places), STATIC_MAX):
                chunk = places[begin : begin + STATIC_MAX]
                latents = self.with_pipeline([requests[i] for i in chunk])
                out.update(zip(chunk, latents.split(1), strict=True))
        return [out[i] for i in range(len(requests))]

    def engine(self, requests: Sequence[Request], max_rows: int) -> list[Tensor]:
        engine = Engine({"it": self.model}, max_rows)
        ends: dict[int, Outcome] = {}
        for i, request in enumerate(requests):
            plan = compile_plan(
                request.sampler, request.steps, self.model.family, self.model.scheduler_config
            )
            noise = Noise(request.seed, self.shape, device=self.model.device)
            steps = run(plan, request.guidance, self.cond[request.prompt], noise)
            engine.submit(Ticket("it", steps, lambda outcome, i=i: ends.update({i: outcome})))
        while engine.step():
            pass
        self.stats = engine.stats
        finals = [ends[i].final for i in range(len(requests))]
        if not all(finals):
            raise RuntimeError("a run failed") from next(end.error for end in ends.values() if end.error)
        return [final.latents for final in finals if final]

    def variants(self, requests: Sequence[Request]) -> dict[str, Callable[[], list[Tensor]]]:
        """The baseline first."""
        plain = all(request.guidance == CFG(scale=4.0) for request in requests)
        pipelines: dict[str, Callable[[], list[Tensor]]] = {
            ONE_BY_ONE: lambda: self.one_by_one(requests),
            STATIC: lambda: self.static(requests),
        }
        alone: dict[str, Callable[[], list[Tensor]]] = {
            "engine, one at a time": lambda: [self.engine([one], 16)[0] for one in requests]
        }
        engines: dict[str, Callable[[], list[Tensor]]] = {
            f"engine, {rows} rows": lambda rows=rows: self.engine(requests, rows) for rows in ENGINE_ROWS
        }
        return (pipelines if plain else alone) | engines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mix", choices=["identical", "mixed", "guided"], default="mixed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=64, help="pixels; 64: 8 x 8 latents, 256: 32 x 32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--requests", type=int, default=24)
    parser.add_argument("--model", default=networks.SMALL, help="a Stable Diffusion folder")
    parser.add_argument("--cpu-time", action="store_true", help="for a busy machine, with one thread")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bench = Bench(*networks.load(options.model), options.size)
    requests = mixes(options.requests)[options.mix]
    variants = bench.variants(requests)
    wanted, *others = [call() for call in variants.values()]
    apart = max(
        networks.difference(got, want) for other in others for got, want in zip(other, wanted, strict=True)
    )
    rows, forwards = bench.stats.rows, bench.stats.forwards
    print(f"latents differ by {apart:.2e}; {rows} rows in {forwards} forwards at {ENGINE_ROWS[-1]} rows")
    if apart > GOAL_DIFFERENCE:
        pairing.finish("engine", False, mix=options.mix, difference=apart)
    clock = time.process_time if options.cpu_time else time.perf_counter
    results = pairing.summary(pairing.measure(variants, options.rounds, warm=0, clock=clock))
    pairing.show(f"{options.mix}: {options.requests} requests, latent {bench.shape}", results)
    best = min(row["ratio"] for name, row in results.items() if name.endswith("rows"))
    gains = {name: round(row["ratio"] / best, 3) for name, row in results.items()}
    for name, gain in gains.items():
        print(f"  the engine at its best is {gain:.2f}x {name}")
    goals = {ONE_BY_ONE: 1.0} if options.size > 64 else {ONE_BY_ONE: GOAL_ONE_BY_ONE, STATIC: GOAL_STATIC}
    passed = options.mix != "mixed" or all(gains[name] >= goal for name, goal in goals.items())
    traffic = f"{options.mix}-{bench.shape[1]}x{bench.shape[2]}"
    pairing.finish("engine", passed, traffic=traffic, difference=apart, gains=gains, variants=results)


if __name__ == "__main__":
    main()
