"""Euler on the probability-flow ODE, `dx/dsigma = (x - R) / sigma` in VE coordinates.

Source: arXiv 2206.00364, algorithm 1 without the second-order correction; diffusers 0.42
`EulerDiscreteScheduler`. It is DDIM's update at Euler's levels.
"""

from samplers.steps.ddim import table

SCHEDULER = "EulerDiscreteScheduler"

__all__ = ["SCHEDULER", "table"]
