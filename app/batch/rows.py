"""The rows of a batch: read one at a time, filled up with defaults, named, and admitted as the API does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO
from uuid import UUID, uuid5

from pydantic import ValidationError

from app.admission import Refusal, Refused, resolve
from app.catalogue import Catalogue
from app.faults import explain
from app.jobs import JobSpec, Resolved
from app.settings import Settings
from guidance import Guidance


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that is no request at all."""

    reason: str


Asking = JobSpec | Mapping[str, Any] | str | BadRow
"""A request, or a prompt alone."""
Row = Asking | None
"""None is a blank line: it counts as a line and asks for nothing."""

EXAMPLE = '{"prompt": "a red apple, 3d", "seeds": [1]}'


def read_jsonl(file: BinaryIO, max_bytes: int = 1_000_000) -> Iterator[Row]:
    """The rows of a JSON Lines file: an object as in `POST /v1/jobs`, or a string that is the prompt.

    No more than `max_bytes` of a line are ever held.
    """
    while line := file.readline(max_bytes + 1):
        if len(line) > max_bytes:
            while line and not line.endswith(b"\n"):
                line = file.readline(max_bytes)
            yield BadRow(f"the line is longer than {max_bytes} bytes")
        elif line.strip():
            yield _parse(line)
        else:
            yield None


def _parse(line: bytes) -> Row:
    try:
        found = json.loads(line, parse_constant=no_number)
    except UnicodeDecodeError:
        return BadRow("the line is not UTF-8")
    except (ValueError, RecursionError) as error:
        return BadRow(f"the line is not valid JSON ({error}); it should look like {EXAMPLE}")
    return found if isinstance(found, dict | str) else BadRow(f"the line should be an object, like {EXAMPLE}")


def no_number(name: str) -> float:
    """Refuse NaN and its like, which Python would read and JSON has not. Raises ValueError."""
    raise ValueError(f"{name} is no JSON")


def asked(row: Asking, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The request of a row, as JSON; what it does not say comes from `defaults`. Raises Refused."""
    match row:
        case BadRow(reason):
            raise Refused([Refusal("", reason)])
        case str():
            own: dict[str, Any] = {"prompt": row}
        case JobSpec():
            own = row.model_dump(mode="json", exclude_unset=True) | {"guidance": row.guidance}
            if row.guidance is None:
                del own["guidance"]
        case _:
            own = dict(row)
    if "n" in own or "seeds" in own:
        defaults = {name: value for name, value in defaults.items() if name not in ("n", "seeds")}
    request = {**defaults, **own}
    if isinstance(guidance := request.get("guidance"), Guidance):
        request["guidance"] = guidance.model_dump(mode="json")
    return request


def job_id(batch: UUID, line: int, request: Mapping[str, Any]) -> str:
    """The id of a row's job: the same row at the same line of the same batch is the same job."""
    try:
        text = json.dumps(request, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise Refused([Refusal("", f"the row cannot be written as JSON: {error}")]) from None
    return str(uuid5(batch, f"{line}:{text}"))


def admit(request: Mapping[str, Any], catalogue: Catalogue, settings: Settings) -> tuple[JobSpec, Resolved]:
    """The request, checked as the API checks it. Raises Refused with all that is wrong."""
    try:
        spec = JobSpec.model_validate(request)
    except ValidationError as error:
        raise Refused([explain(item) for item in error.errors()]) from None
    return spec, resolve(spec, catalogue, settings)
