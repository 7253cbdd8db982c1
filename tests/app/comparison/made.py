"""A comparison as it is when its pictures are made, without having made them."""

import numpy as np

from app.catalogue import load_catalogue
from app.comparison.cells import Cell
from app.comparison.spec import Comparison, ComparisonSpec, cell_job, plan
from app.comparison.store import Ballot, Choice, Vote
from app.jobs import ImageResult, JobRecord, JobResult, JobStatus, Nfe, Timings
from app.queue.records import fresh_record
from app.settings import Settings
from app.storage.png import encode_png

CATALOGUE, SETTINGS = load_catalogue(), Settings()
PNG = encode_png(np.zeros((8, 8, 3), "uint8"), {"prompt": "secret", "guidance": {"method": "apg"}})
ARMS = [
    {"label": "cfg:4", "guidance": {"method": "cfg", "scale": 4}},
    {"label": "apg:10,eta=0.5", "guidance": {"method": "apg", "scale": 10, "eta": 0.5}},
    {"label": "plain", "guidance": {"method": "none"}},
]


def comparison(prompts: list[str], seeds: list[int], arms: int = 2) -> Comparison:
    asked = {"model": "toy", "prompts": prompts, "seeds": seeds, "arms": ARMS[:arms], "steps": 4}
    return plan(ComparisonSpec.model_validate(asked), CATALOGUE, SETTINGS, 0)


def result(index: int, nfe: int, metrics: dict[str, float]) -> JobResult:
    image = ImageResult(
        index=0, seed=index, key=f"{index}.png", width=8, height=8, sha256="0", metrics=metrics
    )
    return JobResult(images=[image], nfe=Nfe(model=nfe), timings=Timings(denoise_ms=100), metrics=metrics)


def made(found: Comparison, effect: float = 1.0) -> list[Cell]:
    """Every cell succeeded; `saturation` is the prompt's number, plus `effect` in the second arm."""
    return [
        Cell(
            place,
            record(found, place.index).model_copy(
                update={
                    "status": JobStatus.SUCCEEDED,
                    "result": result(
                        place.index,
                        8 + place.arm,
                        {"saturation": place.prompt + place.arm * effect, "odd": 1.0},
                    ),
                }
            ),
        )
        for place in found.places
    ]


def record(found: Comparison, index: int) -> JobRecord:
    return fresh_record(cell_job(found, found.places[index], CATALOGUE, SETTINGS), 0, 0, 3)


def vote(number: int, choice: Choice, left: int = 0, right: int = 1, **changes: object) -> Vote:
    told = {"ticket": str(number), "prompt": 0, "seed": 0, "left": left, "right": right, "voter": "somebody"}
    ballot = Ballot.model_validate(told | {"repeats": None, "issued_at_ms": number} | changes)
    return Vote(ballot=ballot, choice=choice, question="?", voted_at_ms=number)
