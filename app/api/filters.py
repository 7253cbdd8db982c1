"""What lists are asked for: words, and a time of creation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query
from pydantic import AwareDatetime, BeforeValidator

MOMENT = r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)"


@dataclass(frozen=True, slots=True)
class Sought:
    """All of `words`, made at `created_ms` (from, before)."""

    words: list[str]
    created_ms: tuple[int | None, int | None]

    def has(self, created_ms: int) -> bool:
        """Whether something was made in that time."""
        begin, end = self.created_ms
        return (begin is None or created_ms >= begin) and (end is None or created_ms < end)

    def reads(self, *texts: str | None) -> bool:
        """Whether all the words stand in these texts."""
        text = " ".join(one for one in texts if one).casefold()
        return all(word in text for word in self.words)


def moment(value: object) -> object:
    """A time as RFC 3339 has it, with its offset: no number of seconds."""
    if isinstance(value, str) and not re.fullmatch(MOMENT, value):
        raise ValueError(f"must be a time like 2026-01-31T12:00:00Z, and {value!r} is none")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(moment)]


async def sought(
    search: Annotated[str, Query(max_length=200, description="words of title, prompt, model, method")] = "",
    created_from: Annotated[Moment | None, Query(description="made then or later")] = None,
    created_before: Annotated[Moment | None, Query(description="made before")] = None,
) -> Sought:
    """The filters that lists share."""
    begin, end = (
        None if one is None else round(one.timestamp() * 1e3) for one in (created_from, created_before)
    )
    return Sought(search.casefold().split(), (begin, end))


Filters = Annotated[Sought, Depends(sought)]
