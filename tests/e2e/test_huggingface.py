"""`huggingface_hub.InferenceClient`, pointed at the service."""

import json

import httpx
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from tests.e2e.serving import Serving

pytestmark = pytest.mark.timeout(500)


def test_a_picture_of_the_default_model(service: Serving) -> None:
    client = InferenceClient(base_url=service.url())
    image = client.text_to_image(
        "high",
        seed=4,
        num_inference_steps=3,
        guidance_scale=2.5,
        width=64,
        height=72,
        scheduler="EulerDiscreteScheduler",
        extra_body={"guidance": {"method": "apg"}},
    )
    request = json.loads(image.info["lodestar"])
    assert image.size == (64, 72)
    assert (request["model"], request["seeds"], request["sampler"]) == ("toy", [4], "euler")
    assert (request["guidance"]["method"], request["guidance"]["scale"]) == ("apg", 2.5)


def test_a_named_model_and_where_the_picture_is_kept(service: Serving) -> None:
    image = InferenceClient(model=f"{service.url()}/models/slow").text_to_image("high", num_inference_steps=1)
    assert json.loads(image.info["lodestar"])["model"] == "slow"
    with httpx.Client(base_url=service.url(), trust_env=False) as http:
        answer = http.post("/models/toy", json={"inputs": "high"}, headers={"Accept": "image/webp"})
        assert answer.headers["content-type"] == "image/webp"
        assert http.get(answer.headers["content-location"]).content.startswith(b"\x89PNG")


def test_what_cannot_run_is_refused_in_their_words(service: Serving) -> None:
    with pytest.raises(HfHubHTTPError) as refused:
        InferenceClient(base_url=service.url()).text_to_image("high", num_inference_steps=9999, width=65)
    pointers = [error["pointer"] for error in refused.value.response.json()["errors"]]
    assert refused.value.response.status_code == 422
    assert pointers == ["/parameters/width", "/parameters/num_inference_steps"]
    with pytest.raises(HfHubHTTPError, match="404"):
        InferenceClient(model=f"{service.url()}/models/nope").text_to_image("high")
