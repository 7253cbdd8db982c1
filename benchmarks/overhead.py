"""The engine with one request against diffusers' own pipeline loop on the same weights.

    python -m benchmarks.overhead [--rounds 15] [--steps 25] [--threads 1] [--model FOLDER]

For both, text is encoded beforehand and latents are not decoded. Latents are compared before anything is
timed.
Goal: at most 1.03 times the pipeline's time, latents equal to 1e-5.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from benchmarks import networks, pairing
from guidance.asks import Conditions
from guidance.cfg import CFG
from samplers.loop import run
from samplers.noise import Noise
from samplers.steps import compile_plan
from workers.engine import Engine
from workers.ticket import Outcome, Ticket

PROMPT, SCALE, SEED = "a red apple, 3d", 4.0, 1
GOAL_RATIO, GOAL_DIFFERENCE = 1.03, 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default=str(networks.BUILT_IN), help="a Stable Diffusion folder")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pipeline, model = networks.load(options.model)
    cond = Conditions(*model.encode([PROMPT, ""]).conds)
    positive, negative = (one.data[None] for one in (cond.positive, cond.negative))
    engine = Engine({"it": model})
    shape = model.latent_shape(*model.default_size)
    plan = compile_plan("ddim", options.steps, model.family, model.scheduler_config)

    def with_pipeline() -> Tensor:
        return pipeline(
            prompt_embeds=positive,
            negative_prompt_embeds=negative,
            num_inference_steps=options.steps,
            guidance_scale=SCALE,
            generator=torch.Generator().manual_seed(SEED),
            output_type="latent",
        ).images

    def with_engine() -> Tensor:
        ends: list[Outcome] = []
        steps = run(plan, CFG(scale=SCALE), cond, Noise(SEED, shape, device=model.device))
        engine.submit(Ticket("it", steps, ends.append))
        while engine.step():
            pass
        if ends[0].final is None:
            raise RuntimeError("the run failed") from ends[0].error
        return ends[0].final.latents

    apart = networks.difference(with_engine(), with_pipeline())
    print(f"latents differ by {apart:.2e} (relative, float32)")
    if apart > GOAL_DIFFERENCE:
        pairing.finish("overhead", False, difference=apart)
    results = pairing.summary(
        pairing.measure({"diffusers pipeline": with_pipeline, "engine, alone": with_engine}, options.rounds)
    )
    pairing.show(f"one request, {options.steps} steps, CFG, latent {shape}", results)
    ratio = results["engine, alone"]["ratio"]
    pairing.finish("overhead", ratio <= GOAL_RATIO, ratio=ratio, difference=apart, variants=results)


if __name__ == "__main__":
    main()
