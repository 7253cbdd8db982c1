"""What the endpoints in other services' shapes share: their words for ours, in requests and in refusals."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from app.admission import Refusal, Refused
from app.catalogue import Catalogue
from app.faults import explain
from app.jobs import JobSpec
from guidance import Guidance
from guidance.cfg import CFG
from samplers.cards import CARDS

SAMPLERS = {card.title.casefold(): card.name for card in CARDS.values()} | {
    "euler a": "euler_a",
    "dpm++ 2m": "dpmpp_2m",
    "dpm++ 2s a": "dpmpp_2s_a",
    "ddimscheduler": "ddim",
    "eulerdiscretescheduler": "euler",
    "eulerancestraldiscretescheduler": "euler_a",
    "dpmsolvermultistepscheduler": "dpmpp_2m",
    "unipcmultistepscheduler": "unipc",
    "heundiscretescheduler": "heun",
    "flowmatcheulerdiscretescheduler": "flow_euler",
}
"""What A1111 and diffusers call our samplers, without regard to case."""


@contextmanager
def in_words_of(names: Mapping[str, str]) -> Generator[None]:
    """Refusals inside the block name the client's own fields: `names` maps ours to theirs."""
    try:
        yield
    except Refused as refused:
        raise Refused([_renamed(refusal, names) for refusal in refused.refusals]) from None
    except ValidationError as error:
        found = [_renamed(explain(item), names) for item in error.errors()]
        said = [replace(one, detail=f"{one.pointer.strip('/')}: {one.detail}") for one in found]
        raise Refused(said) from None


def _renamed(refusal: Refusal, names: Mapping[str, str]) -> Refusal:
    """The longest of our names that the pointer begins with gives way to theirs."""
    for ours in sorted(names, key=len, reverse=True):
        if refusal.pointer == f"/{ours}" or refusal.pointer.startswith(f"/{ours}/"):
            rest = refusal.pointer.removeprefix(f"/{ours}")
            return replace(refusal, pointer=f"/{names[ours]}{rest}")
    return refusal


def spec_of(fields: Mapping[str, Any]) -> JobSpec:
    """A specification of those fields that say something. Raises ValidationError."""
    return JobSpec.model_validate({name: value for name, value in fields.items() if value is not None})


def scaled(
    guidance: Guidance | None, scale: float | None, model: str | None, catalogue: Catalogue
) -> Guidance | dict[str, Any] | None:
    """The guidance with a scale that is said beside it; of the model's own method where none is named.

    Raises Refused where the two disagree. Whether the method takes that scale is left to `spec_of`.
    """
    if scale is None:
        return guidance
    if guidance is None:
        card = catalogue.models.get(model or "", catalogue.default)
        guidance = card.guidance or CFG.model_validate({})
    elif "scale" in guidance.model_fields_set and getattr(guidance, "scale", scale) != scale:
        raise Refused([Refusal("/guidance/scale", "guidance and the request's own scale disagree; give one")])
    said = guidance.model_dump(mode="json", exclude_unset=True)
    return {**said, "method": guidance.method, "scale": scale}


def sampler_named(name: str | None) -> str | None:
    """Our name of a sampler that has another elsewhere; an unknown one stays as it is."""
    return name if name is None else SAMPLERS.get(name.strip().casefold(), name)
