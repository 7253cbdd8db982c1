"""The `webuiapi` package, pointed at the service."""

import json
from typing import Any

import httpx
import pytest
import webuiapi

from app.client import Client
from tests.e2e.serving import Serving

pytestmark = pytest.mark.timeout(500)


@pytest.fixture
def ui(service: Serving) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(baseurl=f"{service.url()}/sdapi/v1", steps=4)


def test_pictures_and_what_is_said_of_them(ui: webuiapi.WebUIApi) -> None:
    made = ui.txt2img(
        prompt="high", seed=7, batch_size=2, cfg_scale=3, width=64, height=64, sampler_name="Euler a"
    )
    assert [image.size for image in made.images] == [(64, 64)] * 2
    assert made.info["all_seeds"] == [7, 8]
    assert (made.info["sampler_name"], made.info["cfg_scale"]) == ("Euler ancestral", 3)
    assert json.loads(made.images[1].info["lodestar"])["seeds"] == [8]
    assert made.info["lodestar"]["nfe"]["model"] == 8


def test_a_script_names_the_guidance_and_override_settings_the_model(ui: webuiapi.WebUIApi) -> None:
    made = ui.txt2img(
        prompt="high",
        width=64,
        height=64,
        sampler_name="DDIM",
        override_settings={"sd_model_checkpoint": "slow"},
        alwayson_scripts={"lodestar": {"args": [{"method": "apg", "scale": 10}]}},
    )
    assert made.info["lodestar"]["guidance"]["method"] == "apg"
    assert made.info["sd_model_name"] == "slow"


def test_the_lists_hold_what_a_request_takes(ui: webuiapi.WebUIApi) -> None:
    assert "Euler ancestral" in ui.util_get_sampler_names()
    assert ui.util_get_scheduler_names() == ["automatic"]
    assert {"slow", "toy"} <= set(ui.util_get_model_names())
    assert ui.util_get_current_model() == "toy"
    ui.util_set_model("toy")
    assert "override_settings" in ui.set_options({"sd_model_checkpoint": "slow"})["detail"]


def test_progress_and_interrupt(ui: webuiapi.WebUIApi, service: Serving) -> None:
    ui.util_wait_for_ready(check_interval=0)
    with Client(service.url()) as client:
        job = client.submit("high", model="slow", steps=50, tags=["sdapi"])
        for event in client.stream(job):
            if event.progress is not None and event.progress.step:
                break
        told = ui.get_progress()
        assert 0 < told["progress"] < 1
        assert told["state"]["job_count"] == 1
        ui.interrupt()
        assert client.wait(job).status == "canceled"
    assert ui.get_progress()["progress"] == 0


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"enable_hr": True}, "/enable_hr"),
        ({"styles": ["neon"]}, "/styles"),
        ({"restore_faces": True}, "/restore_faces"),
        ({"scheduler": "karras"}, "/scheduler"),
        ({"sampler_name": "LMS"}, "/sampler_name"),
        ({"cfg_scale": 1e6}, "/cfg_scale"),
        ({"width": 65}, "/width"),
        ({"batch_size": 4, "n_iter": 5}, "/batch_size"),
        (
            {"override_settings": {"CLIP_stop_at_last_layers": 2}},
            "/override_settings/CLIP_stop_at_last_layers",
        ),
        ({"override_settings": {"sd_model_checkpoint": "x.safetensors"}}, "/override_settings"),
        ({"alwayson_scripts": {"ControlNet": {"args": []}}}, "/alwayson_scripts/ControlNet"),
        ({"alwayson_scripts": {"lodestar": {"args": [{"method": "nope"}]}}}, "/alwayson_scripts/method"),
    ],
)
def test_a_feature_that_is_not_here_is_refused(
    ui: webuiapi.WebUIApi, service: Serving, asked: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(RuntimeError) as refused:
        ui.txt2img(**{"prompt": "high", "width": 64, "height": 64, **asked})
    status, text = refused.value.args
    assert status == 422
    assert pointer in [error["pointer"] for error in json.loads(text)["errors"]]
    depth = httpx.get(f"{service.url()}/v1/queue", trust_env=False).json()
    assert depth["queued"] == 0
