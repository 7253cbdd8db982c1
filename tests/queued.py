"""Jobs to queue, and what workers say of them."""

from typing import Any

from app.jobs import JobError, JobResult, Nfe, Resolved, Timings
from app.queue.base import NewJob
from guidance.none import NoGuidance

RESULT = JobResult(images=[], nfe=Nfe(model=4), timings=Timings())
CRASH = JobError(code="internal_error", message="it broke", retryable=True)
REFUSAL = JobError(code="invalid_request", message="it cannot be done")


def new_job(job_id: str, *, rows: int = 1, **changes: Any) -> NewJob:
    """A job of `rows` rows; `model`, `priority` and the prompt go into the request, the rest is NewJob's."""
    request = {name: changes.pop(name) for name in ("model", "priority", "prompt") if name in changes}
    resolved = Resolved(
        **{
            "model": "toy",
            "prompt": "high",
            "negative_prompt": "",
            "seeds": list(range(rows)),
            "width": 32,
            "height": 32,
            "steps": 4,
            "sampler": "ddim",
            "guidance": NoGuidance(),
            "metrics": [],
            "preview_every": 0,
            "priority": "normal",
        }
        | request
    )
    return NewJob(job_id, resolved, {"n": rows} | request, **{"group": "32x32"} | changes)
