"""Euler on a rectified flow, `x_s = x_t + (s - t) * v` with `v = (x_t - R) / t`.

With `renoise` it is the bridge form of CFG++, `(1 - s) * denoised + s * eps(R)`. Source: arXiv 2209.03003;
diffusers 0.42 `FlowMatchEulerDiscreteScheduler`. It is DDIM's update at the flow's levels.
"""

from samplers.steps.ddim import table

SCHEDULER = "FlowMatchEulerDiscreteScheduler"

__all__ = ["SCHEDULER", "table"]
