"""LinearAG from the fit to the picture: what is kept, what a request gets, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.__main__ import cli
from app.admission import Refused, resolve
from app.catalogue import Catalogue, load_catalogue
from app.fits import Key, fitted, keep
from app.jobs import JobSpec, Resolved
from app.settings import Settings
from guidance.adaptive import Adaptive
from samplers import load, sample

COEFFICIENTS = ((), (0.5, 0.25, 0.25))
LINEAR = {"method": "adaptive", "variant": "linear", "scale": 2.0}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


def asked(**fields: Any) -> JobSpec:
    given = {"model": "toy", "prompt": "high", "steps": 4, "guidance": LINEAR} | fields
    return JobSpec.model_validate(given)


def refusal(spec: JobSpec, catalogue: Catalogue, settings: Settings) -> tuple[str, str]:
    with pytest.raises(Refused) as caught:
        resolve(spec, catalogue, settings)
    (one,) = caught.value.refusals
    return one.pointer, one.detail


def test_without_a_fit_a_request_is_told_the_command(catalogue: Catalogue, settings: Settings) -> None:
    pointer, detail = refusal(asked(), catalogue, settings)
    assert pointer == "/guidance/variant"
    command = "lodestar guidance fit-linear-ag --model toy --sampler ddim --steps 4 --scale 2"
    assert detail.endswith(command)


def test_a_fit_is_of_one_model_sampler_step_count_and_scale(catalogue: Catalogue, settings: Settings) -> None:
    key = Key("toy", "ddim", 4, 2.0)
    keep(settings.data_dir, key, COEFFICIENTS, {})
    found = resolve(asked(), catalogue, settings).guidance
    assert isinstance(found, Adaptive)
    assert found.coefficients == COEFFICIENTS
    assert Resolved.model_validate_json(resolve(asked(), catalogue, settings).model_dump_json())
    for other in (
        {"model": "emoji"},
        {"sampler": "euler"},
        {"steps": 5},
        {"guidance": LINEAR | {"scale": 3}},
    ):
        assert refusal(asked(**other), catalogue, settings)[0] == "/guidance/variant"
    keep(settings.data_dir, key, ((), (1.0, 0.0, 0.0)), {})
    assert fitted(found, key, settings.data_dir).coefficients[1] == (1.0, 0.0, 0.0), "the last one holds"


@pytest.mark.parametrize(
    ("fields", "pointer", "why"),
    [
        ({"negative_prompt": "low"}, "/negative_prompt", "empty negative prompt"),
        ({"sampler": "heun"}, "/guidance/method", "first-order sampler"),
        (
            {"steps": 8, "guidance": LINEAR | {"coefficients": COEFFICIENTS}},
            "/guidance/coefficients",
            "2 guided steps, and 8 steps have 4",
        ),
    ],
)
def test_what_a_fit_does_not_hold_for_is_refused(
    catalogue: Catalogue, settings: Settings, fields: dict[str, Any], pointer: str, why: str
) -> None:
    keep(settings.data_dir, Key("toy", "ddim", 4, 2.0), COEFFICIENTS, {})
    keep(settings.data_dir, Key("toy", "heun", 4, 2.0), COEFFICIENTS, {})
    told = refusal(asked(**fields), catalogue, settings)
    assert told[0] == pointer
    assert why in told[1]


def test_a_sampler_that_is_none_is_no_path(catalogue: Catalogue, settings: Settings) -> None:
    assert refusal(asked(sampler="../../etc/x"), catalogue, settings)[0] == "/sampler"


def test_fitted_on_the_command_line_it_samples_for_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LODESTAR_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("LODESTAR_TORCH_THREADS", "1")
    (tmp_path / "prompts.txt").write_text("high\nlow\n")
    fit = "guidance fit-linear-ag --model toy --steps 8 --images 8 --prompts"
    made = CliRunner().invoke(cli, [*fit.split(), str(tmp_path / "prompts.txt")])
    assert made.exit_code == 0, made.output
    assert "10 evaluations an image; CFG takes 16" in made.stdout
    measured = json.loads((tmp_path / "linear_ag" / "toy" / "ddim-8-2.json").read_text())["measured"]
    assert measured["explained"] > 0.999 > measured["copied"]
    assert measured["error"] < 1.1 * measured["half_error"] < measured["unguided_error"]
    picture = "generate high --local --model toy --steps 8 --seed 3 --guidance adaptive --scale 2 -o"
    done = CliRunner().invoke(cli, [*picture.split(), str(tmp_path / "a.png"), "--set", "variant=linear"])
    assert done.exit_code == 0, done.output
    assert "nfe 10 " in done.stdout


def test_a_library_call_takes_the_coefficients(catalogue: Catalogue, settings: Settings) -> None:
    guidance = Adaptive(variant="linear", scale=2.0, coefficients=COEFFICIENTS)
    assert sample(load("toy"), "high", guidance=guidance, sampler="ddim", steps=4).nfe[0].model == 5
