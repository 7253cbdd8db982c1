"""Every type that travels as JSON comes out of it as it went in."""

from __future__ import annotations

import importlib
import json
import pkgutil
import types
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

import app
import guidance

ELSEWHERE = {"app.catalogue", "app.settings"}
"""Read from files and the environment; they do not travel."""
BASES = {"Guidance", "Limited", "Wire", "Asked", "Lenient"}

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | TEXT


def wire_types() -> Iterator[type[BaseModel]]:
    for package in (app, guidance):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    found, rest = set[type[BaseModel]](), [BaseModel]
    while rest:
        below = set(rest.pop().__subclasses__()) - found
        found |= below
        rest += below
    for one in sorted(found, key=lambda one: (one.__module__, one.__qualname__)):
        ours = one.__module__.partition(".")[0] in ("app", "guidance")
        if ours and one.__module__ not in ELSEWHERE and one.__name__ not in BASES:
            yield one


def values(kind: Any, limits: dict[str, Any] | None = None) -> st.SearchStrategy[Any]:
    """Values of an annotation, within the limits that it states."""
    limits = limits or {}
    origin, args = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return instances(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    sizes = {"min_size": limits.get("min_length", 0), "max_size": min(limits.get("max_length", 3), 3)}
    match origin or kind:
        case _ if origin is Annotated:
            base, *metadata = args
            return values(base, limits | stated(metadata))
        case _ if origin in (Union, types.UnionType):
            return st.one_of([values(arg, limits) for arg in args])
        case _ if origin is Literal:
            return st.sampled_from(args)
        case _ if kind is Any:
            return SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(TEXT, SCALARS, max_size=2)
        case types.NoneType:
            return st.none()
        case t if t is bool:
            return st.booleans()
        case t if t is int:
            low = max(limits.get("ge", -(2**40)), limits.get("gt", -(2**41)) + 1)
            return st.integers(low, min(limits.get("le", 2**40), limits.get("lt", 2**41) - 1))
        case t if t is float:
            low, high = limits.get("ge", limits.get("gt", -1e6)), limits.get("le", limits.get("lt", 1e6))
            open_ends = {"exclude_min": "gt" in limits, "exclude_max": "lt" in limits}
            return st.floats(low, high, **open_ends)
        case t if t is str:
            return st.from_regex(limits["pattern"], fullmatch=True) if "pattern" in limits else text(limits)
        case t if t is datetime:
            return st.datetimes(timezones=st.just(UTC))
        case t if t is Path:
            return TEXT.map(Path)
        case t if t is list:
            return st.lists(values(args[0]), **sizes)
        case t if t is tuple:
            return st.tuples(*map(values, args)) if ... not in args else st.lists(values(args[0])).map(tuple)
        case t if t is dict:
            return st.dictionaries(values(args[0]), values(args[1]), max_size=sizes["max_size"])
        case _:
            raise TypeError(f"how is a {kind} made?")


def text(limits: dict[str, Any]) -> st.SearchStrategy[str]:
    least = limits.get("min_length", 0)
    return (
        TEXT.map(lambda said: said[: limits.get("max_length")])
        if not least
        else TEXT.map(lambda said: said.ljust(least, "x"))
    )


def stated(metadata: list[Any]) -> dict[str, Any]:
    """The bounds among the metadata of an annotation."""
    found = dict[str, Any]()
    for one in metadata:
        if isinstance(one, FieldInfo):
            found |= stated(one.metadata)
        for name in ("ge", "gt", "le", "lt", "min_length", "max_length", "pattern"):
            if getattr(one, name, None) is not None:
                found[name] = getattr(one, name)
    return found


@st.composite
def instances(draw: st.DrawFn, kind: type[BaseModel]) -> BaseModel:
    given = dict[str, Any]()
    for name, field in kind.model_fields.items():
        if field.is_required() or draw(st.booleans()):
            given[name] = draw(values(field.annotation, stated(field.metadata)))
    try:
        return kind.model_validate(given)
    except ValidationError:
        assume(False)
        raise


@pytest.mark.parametrize("kind", list(wire_types()), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
@given(data=st.data())
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_wire_type_survives_its_json(kind: type[BaseModel], data: st.DataObject) -> None:
    thing = data.draw(instances(kind))
    text = thing.model_dump_json()
    assert kind.model_validate_json(text) == thing
    assert kind.model_validate(json.loads(text)) == thing
