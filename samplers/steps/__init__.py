"""Step rules, one module each: a sampler is a table of scalars, compiled once in float64.

A module gives `SCHEDULER`, the diffusers class whose levels it visits, and `table(schedule)`, its rows.
Adding a sampler is adding a module here, its card in `samplers.cards` and a test.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from samplers.cards import CARDS, Family
from samplers.schedule import schedule
from samplers.steps.row import Plan, Row


def compile_plan(
    sampler: str, steps: int, family: Family, scheduler_config: Mapping[str, Any], skip: int = 0
) -> Plan:
    """The plan of `sampler` in `steps` steps on a model of `family` with this diffusers scheduler config.

    `skip` leaves out that many steps at the noisy end, for a run that starts from a noised picture.
    Cached by content. ValueError says what would work where sampler, family, steps or config do not fit.
    """
    if sampler not in CARDS:
        raise ValueError(f"there is no sampler {sampler!r}; use one of: {', '.join(CARDS)}")
    if family not in CARDS[sampler].families:
        fit = ", ".join(card.name for card in CARDS.values() if family in card.families)
        raise ValueError(f"sampler {sampler!r} does not fit a {family} model; use one of: {fit}")
    most = CARDS[sampler].most_steps
    if most is not None and steps > most:
        raise ValueError(f"sampler {sampler!r} takes at most {most} steps, not {steps}")
    if not 0 <= skip < max(steps, 1):
        raise ValueError(f"of {steps} steps {skip} are left out; at least one must run")
    config = json.dumps(dict(scheduler_config), sort_keys=True, default=list)
    return _compile(sampler, steps, family, config, skip)


@lru_cache(maxsize=256)
def _compile(sampler: str, steps: int, family: Family, config: str, skip: int) -> Plan:
    rule = importlib.import_module(f"{__name__}.{sampler}")
    made = schedule(rule.SCHEDULER, steps, family, json.loads(config))
    if skip:
        made = replace(made, spans=made.spans[skip:])
    return Plan(tuple(rule.table(made)), made.init_scale, skip)


__all__ = ["Plan", "Row", "compile_plan"]
