"""LinearAG's coefficients as `lodestar guidance fit-linear-ag` keeps them: a file for each fit.

Admission reads them and puts them into the job, so workers need no files, and a job runs as it was accepted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from guidance.adaptive import Adaptive
from guidance.linear import Coefficients

FOLDER = "linear_ag"


class Key(NamedTuple):
    """What a fit holds for, besides an empty negative prompt."""

    model: str
    sampler: str
    steps: int
    scale: float

    @property
    def command(self) -> str:
        """What a person types to make it."""
        return (
            f"lodestar guidance fit-linear-ag --model {self.model} --sampler {self.sampler} "
            f"--steps {self.steps} --scale {self.scale:.12g}"
        )


def keep(data_dir: Path, key: Key, coefficients: Coefficients, measured: dict[str, Any]) -> Path:
    """Write a fit, in place of an earlier one."""
    path = _path(data_dir, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps({**key._asdict(), "coefficients": coefficients, "measured": measured}))
    beside.replace(path)
    return path


def fitted(guidance: Adaptive, key: Key, data_dir: Path) -> Adaptive:
    """LinearAG with the coefficients fitted for `key`. LookupError names the command where there are none."""
    path = _path(data_dir, key)
    if not path.is_file():
        raise LookupError(
            f"LinearAG has not been fitted to {key.model} with {key.sampler}, {key.steps} steps and scale "
            f"{key.scale:g}; fit it with: {key.command}"
        )
    kept = json.loads(path.read_text())["coefficients"]
    return Adaptive.model_validate(guidance.model_dump() | {"coefficients": kept})


def _path(data_dir: Path, key: Key) -> Path:
    return data_dir / FOLDER / key.model / f"{key.sampler}-{key.steps}-{key.scale:.12g}.json"
