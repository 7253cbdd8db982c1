"""What a client is told when its job fails."""

from __future__ import annotations

import torch

from app.jobs import JobError
from workers.shelf import ModelUnavailable


def explain(error: Exception) -> JobError:
    """What the client is told: no traceback, no path. Errors that another try may cure are retryable."""
    match error:
        case ModelUnavailable():
            return JobError(code="model_unavailable", message=str(error), retryable=True)
        case FloatingPointError():
            return JobError(code="not_finite", message=str(error))
        case torch.OutOfMemoryError():
            message = "the worker's memory does not hold one image of this size; use a smaller one"
            return JobError(code="out_of_memory", message=message)
        case OSError():
            return JobError(
                code="storage_unavailable", message="the result could not be stored", retryable=True
            )
        case ValueError():
            return JobError(code="invalid_request", message=str(error))
        case _:
            message = f"the worker failed unexpectedly ({type(error).__name__}); its log says why"
            return JobError(code="internal_error", message=message, retryable=True)
