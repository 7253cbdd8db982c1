"""The `openai` package, pointed at the service."""

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from app.storage.png import read_png
from tests.e2e.serving import Serving

pytestmark = pytest.mark.timeout(500)


@pytest.fixture
def client(service: Serving) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url()}/v1", api_key="not-needed", max_retries=0) as client:
        yield client


def test_pictures_come_as_bytes_with_our_fields_beside(client: openai.OpenAI) -> None:
    made = client.images.generate(
        prompt="high",
        model="toy",
        n=2,
        size="64x72",
        extra_body={"seed": 5, "steps": 4, "guidance": {"method": "apg"}, "guidance_scale": 3},
    )
    assert made.data is not None
    requests = [read_png(base64.b64decode(image.b64_json or "")) for image in made.data]
    assert [request["seeds"] for request in requests] == [[5], [6]]
    assert (requests[0]["guidance"]["method"], requests[0]["guidance"]["scale"]) == ("apg", 3)
    assert (made.size, made.output_format) == ("64x72", "png")
    extra: dict[str, Any] = made.model_extra or {}
    assert extra["nfe"]["model"] == 8
    assert extra["guidance"]["method"] == "apg"
    assert {image.model_extra["seed"] for image in made.data if image.model_extra} == {5, 6}


def test_pictures_come_as_urls(client: openai.OpenAI) -> None:
    made = client.images.generate(
        prompt="high", response_format="url", output_format="webp", extra_body={"steps": 1, "user": "ann"}
    )
    assert made.data is not None
    got = httpx.get(made.data[0].url or "", trust_env=False)
    assert got.headers["content-type"] == "image/webp"


def test_a_stream_shows_previews_and_then_the_picture(client: openai.OpenAI) -> None:
    events = list(
        client.images.generate(
            prompt="high", model="slow", stream=True, partial_images=2, extra_body={"steps": 9, "seed": 3}
        )
    )
    *parts, last = events
    assert [part.type for part in parts] == ["image_generation.partial_image"] * len(parts)
    assert 1 <= len(parts) <= 2
    assert all(base64.b64decode(part.b64_json).startswith(b"\x89PNG") for part in parts)
    assert last.type == "image_generation.completed"
    assert read_png(base64.b64decode(last.b64_json))["seeds"] == [3]
    assert last.usage.total_tokens == 0


@pytest.mark.parametrize(
    ("asked", "param", "says"),
    [
        ({"size": "33x70000"}, "size", "height"),
        ({"n": 99}, "n", "at most 16"),
        ({"model": "dall-e-3"}, "model", "there is no model"),
        ({"quality": "hd"}, "quality", "auto"),
        (
            {"extra_body": {"guidance": {"method": "cfgpp"}, "guidance_scale": 7}},
            "guidance_scale",
            "equal to 5",
        ),
        ({"extra_body": {"num_inference_steps": 9999}}, "num_inference_steps", "at most 200"),
        ({"extra_body": {"style": "vivid"}}, "style", "no field"),
    ],
)
def test_what_cannot_run_is_refused_in_openais_words(
    client: openai.OpenAI, asked: dict[str, Any], param: str, says: str
) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.images.generate(prompt="high", **asked)
    assert refused.value.param == param
    assert says in str(refused.value)


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert {"toy", "slow"} <= {model.id for model in client.models.list()}


def test_a_stream_that_nobody_reads_any_more_ends_its_job(service: Serving) -> None:
    asked = {"prompt": "high", "model": "slow", "steps": 200, "seed": 9, "stream": True, "partial_images": 1}
    with httpx.Client(base_url=service.url(), trust_env=False, timeout=100) as http:
        with http.stream("POST", "/v1/images/generations", json=asked) as answer:
            assert answer.status_code == 200
            (job,) = [
                job
                for job in http.get("/v1/jobs", params={"limit": 1}).json()["data"]
                if job["resolved"]["seeds"] == [9]
            ]
        assert http.get(f"/v1/jobs/{job['id']}", params={"wait": 60}).json()["status"] == "canceled"
