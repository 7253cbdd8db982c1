"""What a request becomes before it is queued; the API's own tests are in tests/app/api."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.admission import Refused, resolve
from app.catalogue import Catalogue, load_catalogue
from app.jobs import JobSpec, Resolved
from app.settings import Settings
from guidance.gfcg import GFCG


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue(Path("models/hub.toml"))


@pytest.fixture
def dit(tmp_path: Path) -> Catalogue:
    """A class-conditional model's JSON, which is all that is read of it here."""
    index = {"_class_name": "DiTPipeline", "id2label": {"0": "tench, Tinca tinca", "1": "goldfish"}}
    configs = {"transformer": {"num_embeds_ada_norm": 1000, "patch_size": 2}, "vae": {}}
    for part, config in configs.items():
        (tmp_path / "dit" / part).mkdir(parents=True)
        (tmp_path / "dit" / part / "config.json").write_text(json.dumps(config))
    (tmp_path / "dit" / "model_index.json").write_text(json.dumps(index))
    entry = '[[models]]\nid = "dit"\nsource = "dit"\nextras = ["classifier"]\nmin_size_px = 8\n'
    (tmp_path / "models.toml").write_text(entry)
    return load_catalogue(tmp_path / "models.toml")


def test_layers_of_clip_are_left_out_where_there_are_any(catalogue: Catalogue, dit: Catalogue) -> None:
    assert resolve(JobSpec(model="sdxl", prompt="a", clip_skip=1), catalogue, Settings()).clip_skip == 1
    card = catalogue.models["sdxl"].model_copy(update={"options": {"clip_skip": 2}})
    told = Catalogue(models={"sdxl": card})
    assert resolve(JobSpec(prompt="a"), told, Settings()).clip_skip == 2
    assert resolve(JobSpec(prompt="a", clip_skip=0), told, Settings()).clip_skip == 0
    with pytest.raises(
        Refused, match="clip_skip leaves out layers of CLIP, by which this model reads no prompts"
    ):
        resolve(JobSpec(prompt="1", clip_skip=1), dit, Settings())


@pytest.mark.parametrize("prompt", ["goldfish", "Tinca tinca", "999", " 7 "])
def test_a_class_is_a_name_or_a_number(dit: Catalogue, prompt: str) -> None:
    assert resolve(JobSpec(prompt=prompt), dit, Settings()).prompt == prompt


@pytest.mark.parametrize(
    ("changes", "pointer", "says", "allowed"),
    [
        ({"prompt": "goldfisch"}, "/prompt", "no class 'goldfisch'; did you mean 'goldfish'?", ["goldfish"]),
        ({"prompt": "1000"}, "/prompt", "its number below 1000", {"minimum": 0, "maximum": 999}),
        ({"negative_prompt": "blurry"}, "/negative_prompt", "no class 'blurry'", None),
        (
            {"classes": ["tench", "tensh"], "guidance": GFCG()},
            "/classes/1",
            "did you mean 'tench'?",
            ["tench"],
        ),
    ],
)
def test_what_is_no_class_is_refused_with_what_is_near(
    dit: Catalogue, changes: dict[str, Any], pointer: str, says: str, allowed: Any
) -> None:
    with pytest.raises(Refused) as caught:
        resolve(JobSpec.model_validate({"prompt": "goldfish", **changes}), dit, Settings())
    (refusal,) = caught.value.refusals
    assert refusal.pointer == pointer
    assert says in refusal.detail
    assert allowed is None or refusal.allowed == allowed


@pytest.mark.parametrize(("asked", "told"), [(None, 3.5), (7.0, 7.0), (0.0, 0.0)])
def test_a_built_in_scale_is_resolved(catalogue: Catalogue, asked: float | None, told: float) -> None:
    spec = JobSpec(model="flux-dev", prompt="an apple", embedded_scale=asked)
    resolved = resolve(spec, catalogue, Settings())
    assert resolved.embedded_scale == told
    assert (resolved.guidance.method, resolved.sampler, resolved.steps) == ("none", "flow_euler", 28)


def test_cfgs_scale_is_what_a_network_with_one_built_in_is_told(catalogue: Catalogue) -> None:
    """One pass; two are asked for by giving both scales."""
    cfg = {"method": "cfg", "scale": 6}

    def resolved(**fields: object) -> Resolved:
        asked = {"model": "flux-dev", "prompt": "an apple", "guidance": cfg} | fields
        return resolve(JobSpec.model_validate(asked), catalogue, Settings())

    one, two = resolved(), resolved(embedded_scale=3.5, negative_prompt="pears")
    assert (one.guidance.method, one.embedded_scale) == ("none", 6)
    assert (two.guidance.method, two.embedded_scale, two.negative_prompt) == ("cfg", 3.5, "pears")
    assert resolved(guidance={"method": "apg", "scale": 4}).embedded_scale == 3.5
    assert resolved(model="flux-schnell").guidance.method == "cfg"
    for fields, pointer in (
        ({"negative_prompt": "pears"}, "/negative_prompt"),
        ({"guidance": cfg | {"rescale": 0.5}}, "/guidance"),
    ):
        with pytest.raises(Refused, match="give embedded_scale too for two passes") as caught:
            resolved(**fields)
        assert [one.pointer for one in caught.value.refusals] == [pointer]


@pytest.mark.parametrize(
    ("model", "guidance", "resolved"),
    [
        ("sdxl", {"method": "apg"}, {"scale": 15, "norm_threshold": 15, "momentum": -0.5}),
        ("sdxl", {"method": "apg", "scale": 8}, {"scale": 8, "norm_threshold": 15}),
        ("dit-xl-256", {"method": "apg"}, {"scale": 4, "norm_threshold": 5}),
        ("sd35-medium", {"method": "cfg"}, {"scale": 4}),
        ("sd35-medium", {"method": "cfg", "scale": 7.5}, {"scale": 7.5}),
        ("sdxl", {"method": "cfg"}, {"scale": 5}),
        ("sd15", {"method": "adaptive"}, {"scale": 7.5}),
        ("sd35-medium", {"method": "adaptive"}, {"scale": 4}),
    ],
)
def test_what_is_left_open_is_usual_for_the_model(
    catalogue: Catalogue, model: str, guidance: dict[str, Any], resolved: dict[str, float]
) -> None:
    spec = JobSpec.model_validate({"model": model, "prompt": "an apple", "guidance": guidance})
    found = resolve(spec, catalogue, Settings()).guidance.model_dump()
    assert {name: found[name] for name in resolved} == resolved


def test_a_built_in_scale_is_refused_where_there_is_none(catalogue: Catalogue) -> None:
    with pytest.raises(Refused) as caught:
        resolve(JobSpec(model="flux-schnell", prompt="an apple", embedded_scale=3), catalogue, Settings())
    (refusal,) = caught.value.refusals
    assert refusal.pointer == "/embedded_scale"
    assert "a guidance scale built in, which this one has not" in refusal.detail
    assert resolve(JobSpec(model="sdxl", prompt="an apple"), catalogue, Settings()).embedded_scale is None
