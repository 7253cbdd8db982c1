"""What pydantic finds wrong with a request, in the words of an admission refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.admission import Refusal
from guidance import REGISTRY


def explain(item: Mapping[str, Any]) -> Refusal:
    """One pydantic error: where, why, and what would be allowed."""
    path = [str(part) for part in item["loc"] if part not in ("body", "query", "path", "header")]
    context = dict(item.get("ctx", {}))
    detail, allowed = str(item["msg"]), None
    match item["type"]:
        case "union_tag_invalid":
            allowed = list(REGISTRY)
            detail = f"there is no guidance method {context['tag']!r}; use one of: {', '.join(allowed)}"
            path.append("method")
        case "union_tag_not_found":
            allowed = list(REGISTRY)
            detail = f"guidance needs a method: one of {', '.join(allowed)}"
            path.append("method")
        case "int_type" if isinstance(item.get("input"), float):
            detail = f"Input should be a whole number, and {item['input']} is not"
        case "extra_forbidden":
            detail = f"there is no field {path[-1]!r} here"
        case _:
            allowed = {key: value for key, value in context.items() if key != "error"} or None
    # A discriminated union puts its tag into the path; the request has no such level.
    for at, part in enumerate(path[:-2]):
        if part == "guidance" and path[at + 1] in REGISTRY:
            del path[at + 1]
    return Refusal("".join(f"/{part}" for part in path), detail, allowed)
