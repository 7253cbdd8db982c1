"""What this server offers: guidance methods, samplers, models, metrics."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Literal, get_args

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from app.api.deps import Lodestar, service
from app.api.errors import Problem
from app.catalogue import Catalogue, ModelCard
from app.scores import METRIC_CARDS
from guidance import REGISTRY, Guidance
from guidance.asks import Level, Step
from guidance.qr.request import left_open
from samplers.cards import CARDS, Family, problems

LOADING = {"source", "revision", "device", "scheduler", "without", "loras", "options"}
router = APIRouter(prefix="/v1", tags=["catalogue"], dependencies=[Depends(service)])

LEVEL = Level(alpha=0.5**0.5, sigma=0.5**0.5, timestep=0)
SOME_STEPS = [Step(index, 100, LEVEL, LEVEL) for index in range(100)]
"""Over these the catalogue counts what a method costs, per step, at most."""


class Listed(BaseModel):
    """A whole list."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]


@router.get("/guidance")
async def list_guidance(lodestar: Lodestar) -> Listed:
    """All guidance methods, each with its paper, schema, defaults, cost, needs and traces."""
    return Listed(data=[_method(method, lodestar.catalogue) for method in REGISTRY.values()])


@router.get("/guidance/{method}")
async def get_guidance(lodestar: Lodestar, method: str) -> dict[str, Any]:
    """One guidance method."""
    if method not in REGISTRY:
        raise Problem(404, f"there is no guidance method {method!r}; there are: {', '.join(REGISTRY)}")
    return _method(REGISTRY[method], lodestar.catalogue)


@router.get("/samplers")
async def list_samplers() -> Listed:
    """All samplers, with the model families they fit."""
    return Listed(data=[{"id": card.name, "object": "sampler", **asdict(card)} for card in CARDS.values()])


@router.get("/metrics")
async def list_metrics() -> Listed:
    """What can be measured on a picture."""
    return Listed(
        data=[{"id": card.name, "object": "metric", **asdict(card)} for card in METRIC_CARDS.values()]
    )


@router.get("/models")
async def list_models(lodestar: Lodestar) -> Listed:
    """All models; the first is the default."""
    return Listed(data=[_model(card) for card in lodestar.catalogue.models.values()])


@router.get("/models/{id}")
async def get_model(lodestar: Lodestar, id: str) -> dict[str, Any]:
    """One model, with the methods and samplers it takes, and the labels where its prompts are classes."""
    card = known_model(lodestar.catalogue, id)
    labels = {} if card.labels is None else {"labels": dict(card.labels.names)}
    return _model(card) | labels


def known_model(catalogue: Catalogue, id: str) -> ModelCard:
    """The card of the model in a path, or 404."""
    if id not in catalogue.models:
        names = ", ".join(catalogue.models)
        raise Problem(404, f"there is no model {id!r} here; there are: {names}", code="model_not_found")
    return catalogue.models[id]


def fits(guidance: Guidance, card: ModelCard) -> list[str]:
    """The samplers with which this guidance runs on this model."""
    return [
        sampler.name
        for sampler in CARDS.values()
        if not problems(guidance, sampler, card.family, card.extras)
    ]


def _default(method: type[Guidance]) -> Guidance | None:
    """The method with its defaults; None where it has parameters without one."""
    if any(field.is_required() for field in method.model_fields.values()):
        return None
    return method.model_validate({})


def _defaults_by_family(default: Guidance | None) -> dict[str, dict[str, Any]]:
    """What a request that leaves all open gets: by the model's family, or its pipeline where that differs."""
    if default is None:
        return {}
    kinds = dict.fromkeys((*get_args(Family), *default.usual))
    return {kind: default.suited(kind).model_dump(mode="json") for kind in kinds}


def _method(method: type[Guidance], catalogue: Catalogue) -> dict[str, Any]:
    name = method.model_fields["method"].default
    default = _default(method)
    needs = default.requires() if default else method.needs
    return {
        "id": name,
        "object": "guidance",
        "method": name,
        "title": method.title,
        "summary": method.summary,
        "description": (method.__doc__ or "").strip(),
        "paper": {**asdict(method.paper), "url": f"https://arxiv.org/abs/{method.paper.arxiv}"},
        "fidelity": asdict(method.fidelity),
        "schema": method.model_json_schema(),
        "defaults": default.model_dump(mode="json") if default else {"method": name},
        "defaults_by_family": _defaults_by_family(default),
        "presets": method.presets,
        "evaluations_per_step": math.ceil(default.nfe(SOME_STEPS) / len(SOME_STEPS)) if default else None,
        "needs": [need for need, needed in asdict(needs).items() if needed],
        "traces": {key: asdict(trace) for key, trace in method.traces.items()},
        "models": {card.id: fits(default, card) for card in catalogue.models.values() if default is not None},
    }


def _model(card: ModelCard) -> dict[str, Any]:
    """A card without where it comes from and how it is loaded: that is the server's own business."""
    shown = card.model_dump(mode="json", exclude=LOADING)
    matrix = {name: fits(one, card) for name, cls in REGISTRY.items() if (one := _default(cls)) is not None}
    qr = asdict(left_open(card.cell_px, card.extras))
    return {"object": "model", "owned_by": "lodestar", **shown, "takes": matrix, "qr": qr}
