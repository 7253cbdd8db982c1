"""Logs: lines for people, or with LODESTAR_LOG=json an object per line, with the ids of what it speaks of."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from app.settings import Settings

REQUEST: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request that is answered here."""
JOB: ContextVar[str | None] = ContextVar("job_id", default=None)
"""The job that is made or run here."""


class Json(logging.Formatter):
    """One object a record: time, level, logger, message; `request_id`, `job_id`, `error`, `fields` if any."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": REQUEST.get(),
            "job_id": JOB.get(),
            **getattr(record, "fields", {}),
            "error": self.formatException(record.exc_info) if record.exc_info else None,
        }
        return json.dumps({name: value for name, value in told.items() if value is not None}, default=str)


def configure(settings: Settings, text: str) -> None:
    """Log as the settings say; `text` is the format for people."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json() if settings.log == "json" else logging.Formatter(text))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])


def speaker(settings: Settings) -> Callable[[str], None]:
    """How a command tells how it gets on: on standard output, in the form that the logs have."""
    if settings.log == "text":
        return lambda line: print(line, flush=True)
    form = Json()

    def say(line: str) -> None:
        record = logging.LogRecord("lodestar", logging.INFO, "", 0, line.strip(), None, None)
        print(form.format(record), flush=True)

    return say
