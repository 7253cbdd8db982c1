"""Pictures that jobs start from: through the real API, and by a real worker."""

from __future__ import annotations

import base64
import warnings
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from app.admission import Refused
from app.api.main import create_app
from app.init_image import fit, fit_mask, read
from app.queue.base import JobQueue
from app.settings import Settings
from app.storage.local import LocalStorage
from tests.workers.serving import working

CATALOGUE = '[[models]]\nid = "toy"\nsource = "toy"\nmin_size_px = 16\nwidth = 32\nheight = 32\n'
ASK = {"prompt": "high", "guidance": {"method": "cfg", "scale": 2}, "steps": 10, "seeds": [1]}


@pytest.fixture
def settings(redis_url: str, redis_prefix: str, tmp_path: Path) -> Settings:
    (tmp_path / "models.toml").write_text(CATALOGUE)
    return Settings(
        redis_url=redis_url, redis_prefix=redis_prefix, data_dir=tmp_path / "data", device="cpu",
        catalogue=tmp_path / "models.toml", torch_threads=1, beat_ms=20, max_queued=3,
    )  # fmt: skip


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://lodestar.test") as client:
            yield client


@pytest.fixture
def stored(settings: Settings) -> Callable[[], list[Path]]:
    return lambda: sorted(settings.data_dir.rglob("init/*.png"))


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def stripes(size: tuple[int, int] = (32, 32)) -> Image.Image:
    return Image.linear_gradient("L").resize(size).convert("RGB")


def pixels(data: bytes) -> np.ndarray:
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).astype(float)


async def finished(api: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = await api.post("/v1/jobs", json=ASK | body, headers={"Prefer": "wait=60"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "succeeded", answer.text
    return answer.json()


async def test_a_picture_is_changed_by_the_steps_that_strength_leaves(
    api: httpx.AsyncClient, settings: Settings, queue: JobQueue
) -> None:
    source = encoded(stripes())
    async with working(settings, queue, LocalStorage(settings.data_dir)):
        weak = await finished(api, {"init_image": text(source), "strength": 0.2})
        strong = await finished(api, {"init_image": f"data:image/png;base64,{text(source)}"})
        again = await finished(
            api, {"init_image": f"lodestar:jobs/{weak['id']}/images/0", "strength": 0.2, "seeds": [1, 2]}
        )
    assert weak["nfe"]["model"] == 2 * 2
    assert strong["nfe"]["model"] == 2 * 8
    assert (weak["progress"]["step"], weak["progress"]["total"]) == (2, 2)
    assert strong["resolved"]["strength"] == 0.8
    reference = weak["resolved"]["init_image"]
    assert reference.startswith("sha256:")
    assert weak["input"]["init_image"] == reference == strong["resolved"]["init_image"]
    assert len(again["images"]) == 2
    kept = await api.get(f"/v1/jobs/{weak['id']}/init_image")
    assert np.array_equal(pixels(kept.content), pixels(source))
    was = await api.get(weak["images"][0]["url"])
    began = await api.get(f"/v1/jobs/{again['id']}/init_image")
    assert np.array_equal(pixels(began.content), pixels(was.content))
    grid = pixels(source)
    far = [
        np.abs(pixels((await api.get(job["images"][0]["url"])).content) - grid).mean()
        for job in (weak, strong)
    ]
    assert far[0] < far[1]


async def test_an_edit_goes_there_and_back_and_counts_both(
    api: httpx.AsyncClient, settings: Settings, queue: JobQueue
) -> None:
    async with working(settings, queue, LocalStorage(settings.data_dir)):
        plain = {"guidance": {"method": "none"}, "steps": 30}
        source = await finished(api, plain | {"width": 64, "height": 64})
        init = {"init_image": f"lodestar:jobs/{source['id']}/images/0", "width": 64, "height": 64}
        same = await finished(api, plain | init | {"edit": {"source_prompt": "high"}})
        other = await finished(
            api,
            init | {"prompt": "low", "edit": {"source_prompt": "high"}, "guidance": None, "preview_every": 3},
        )
    assert same["nfe"]["model"] == 60
    assert (same["progress"]["step"], same["progress"]["total"]) == (60, 60)
    assert other["resolved"]["guidance"]["method"] == "cfgpp"
    assert other["nfe"]["model"] == 2 * 2 * 10
    trace = (await api.get(other["urls"]["trace"])).json()
    rows = trace["images"][0]["rows"]
    assert [row["step"] for row in rows] == list(range(20))
    sigmas = [row["sigma"] for row in rows]
    assert sigmas[:10] == sorted(sigmas[:10])
    assert sigmas[10:] == sorted(sigmas[10:], reverse=True)
    before, kept, changed = [
        pixels((await api.get(job["images"][0]["url"])).content) for job in (source, same, other)
    ]
    assert np.abs(kept - before).mean() < 0.25 * np.abs(changed - before).mean()


async def test_inside_a_mask_alone_the_picture_is_made_anew(
    api: httpx.AsyncClient, settings: Settings, queue: JobQueue, stored: Callable[[], list[Path]]
) -> None:
    mask = Image.new("L", (32, 32))
    mask.paste(255, (16, 0, 32, 32))
    asked = {"init_image": text(encoded(stripes())), "mask": text(encoded(mask))}
    async with working(settings, queue, LocalStorage(settings.data_dir)):
        job = await finished(api, asked)
        again = await finished(api, asked | {"strength": 0.5})
    assert job["resolved"]["strength"] == 1.0
    assert (job["nfe"]["model"], again["nfe"]["model"]) == (2 * 10, 2 * 5)
    assert job["resolved"]["mask"] == job["input"]["mask"] != job["resolved"]["init_image"]
    kept = pixels((await api.get(f"/v1/jobs/{job['id']}/mask")).content)
    assert np.array_equal(kept, pixels(encoded(mask)))
    far = np.abs(pixels((await api.get(job["images"][0]["url"])).content) - pixels(encoded(stripes())))
    assert far[:, :16].mean() < 0.2 * far[:, 16:].mean()
    assert len(stored()) == 4
    assert (await api.delete(job["urls"]["self"])).status_code == 200
    assert len(stored()) == 2


async def test_a_picture_goes_with_its_job(api: httpx.AsyncClient, stored: Callable[[], list[Path]]) -> None:
    job = (await api.post("/v1/jobs", json=ASK | {"init_image": text(encoded(stripes()))})).json()
    assert len(stored()) == 1
    assert (await api.post(job["urls"]["self"] + "/cancel")).status_code == 202
    assert (await api.delete(job["urls"]["self"])).status_code == 200
    assert stored() == []


async def test_nothing_is_stored_for_a_job_that_is_not_kept(
    api: httpx.AsyncClient, stored: Callable[[], list[Path]]
) -> None:
    body = ASK | {"init_image": text(encoded(stripes()))}
    first = await api.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})
    again = await api.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})
    assert again.json()["id"] == first.json()["id"]
    other = body | {"init_image": text(encoded(Image.new("RGB", (32, 32))))}
    refused = await api.post("/v1/jobs", json=other, headers={"Idempotency-Key": "k"})
    assert refused.status_code == 422
    assert len(stored()) == 1
    for _ in range(2):
        assert (await api.post("/v1/jobs", json=body)).status_code == 202
    assert (await api.post("/v1/jobs", json=body)).status_code == 503
    assert len(stored()) == 3


def bomb() -> bytes:
    return encoded(Image.new("1", (6000, 6000)))


def flat(grey: int, mode: str = "L", side: int = 32) -> str:
    return text(encoded(Image.new(mode, (side, side), grey if mode == "L" else (grey, 128))))


@pytest.mark.parametrize(
    ("change", "pointer", "says"),
    [
        ({"init_image": "https://example.org/a.png"}, "/init_image", "not fetched from addresses"),
        ({"init_image": "file:///etc/passwd"}, "/init_image", "not fetched from addresses"),
        ({"init_image": "no base64!"}, "/init_image", "data URL"),
        ({"init_image": "data:image/svg+xml;base64,AAAA"}, "/init_image", "data URL"),
        ({"init_image": text(b"GIF89a" + bytes(50))}, "/init_image", "no PNG, JPEG or WebP"),
        ({"init_image": text(encoded(stripes())[:60])}, "/init_image", "damaged"),
        ({"init_image": text(bomb())}, "/init_image", "more than 32000000 pixels"),
        ({"init_image": text(encoded(Image.new("I;16", (32, 32))))}, "/init_image", "more than 8 bits"),
        ({"init_image": "lodestar:jobs/01M8BE1NP5XSNKAX2H891ZCJ01/images/0"}, "/init_image", "no picture 0"),
        ({"init_image": "lodestar:jobs/../images/0"}, "/init_image", "data URL"),
        ({"init_image": "AAAA", "strength": 0.01}, "/strength", "less than one step"),
        ({"init_image": "AAAA", "strength": 0}, "/strength", "greater than 0"),
        ({"init_image": "AAAA", "strength": 0.5, "edit": {}}, "/strength", "edit or strength, not both"),
        ({"init_image": "AAAA", "edit": {}, "seeds": [1, 2]}, "/seeds", "ask for one"),
        ({"init_image": "AAAA", "edit": {}, "sampler": "dpmpp_2m"}, "/sampler", "cannot be run backwards"),
        ({"init_image": "AAAA", "edit": {}, "guidance": {"method": "apg"}}, "/guidance/method", "memory"),
        ({"init_image": "AAAA", "edit": {"source_prompt": "y" * 9000}}, "/edit/source_prompt", "4000"),
        (
            {"init_image": "AAAA", "guidance": {"method": "fkc"}, "sampler": "sde"},
            "/guidance/method",
            "pure noise",
        ),
        ({"strength": 0.5}, "/strength", "give it in init_image"),
        ({"mask": "AAAA"}, "/mask", "give it in init_image"),
        ({"init_image": "AAAA", "mask": "AAAA", "edit": {}}, "/mask", "edit or mask, not both"),
        ({"init_image": text(encoded(stripes())), "mask": "http://10.0.0.1/"}, "/mask", "not fetched"),
        ({"init_image": text(encoded(stripes())), "mask": "no base64!"}, "/mask", "mask takes a data URL"),
        ({"init_image": text(encoded(stripes())), "mask": text(bomb())}, "/mask", "more than 32000000"),
        ({"init_image": text(encoded(stripes())), "mask": text(b"GIF89a")}, "/mask", "no PNG, JPEG or WebP"),
        ({"init_image": text(encoded(stripes())), "mask": flat(0)}, "/mask", "nowhere white"),
        ({"init_image": text(encoded(stripes())), "mask": flat(255, side=31)}, "/mask", "31x31 and init"),
        ({"init_image": text(encoded(stripes())), "mask": flat(255, "LA")}, "/mask", "transparent in places"),
        (
            {"init_image": text(encoded(stripes())), "mask": text(encoded(Image.new("I;16", (32, 32))))},
            "/mask",
            "more than 8 bits",
        ),
        ({"edit": {"source_prompt": "a cat"}}, "/edit", "give it in init_image"),
    ],
)
async def test_what_is_no_picture_or_no_way_to_start_is_refused_by_name(
    api: httpx.AsyncClient,
    stored: Callable[[], list[Path]],
    change: dict[str, Any],
    pointer: str,
    says: str,
) -> None:
    answer = await api.post("/v1/jobs", json=ASK | change)
    problem = answer.json()
    assert answer.status_code == 422, answer.text
    assert pointer in [error["pointer"] for error in problem["errors"]]
    assert says in problem["detail"]
    assert (await api.get("/v1/queue")).json()["queued"] == 0
    assert stored() == []


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_pictures_are_fitted_upright_and_on_white(format: str) -> None:
    wide = Image.new("RGB", (60, 20), "red")
    wide.paste((0, 0, 255), (0, 0, 20, 20))
    wide.paste((0, 0, 255), (40, 0, 60, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    options = {"quality": 100} if format != "PNG" else {}
    fitted = pixels(fit(encoded(wide, format, exif=exif, **options), 16, 16))
    assert fitted.shape == (16, 16, 3)
    assert np.allclose(fitted[1:-1], (255, 0, 0), atol=12), "the middle third, as its sides are cropped"
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert np.all(pixels(fit(encoded(clear), 8, 8)) == 255)


def test_a_mask_is_fitted_as_its_picture_and_has_no_greys() -> None:
    picture, mask = Image.new("RGB", (64, 32)), Image.linear_gradient("L").rotate(90).resize((64, 32))
    fitted = pixels(fit_mask(encoded(mask), encoded(picture), 16, 16))[..., 0]
    assert set(np.unique(fitted)) == {0, 255}
    assert (fitted[:, :7] == fitted[0, 0]).all(), "its middle is the picture's"
    assert fitted[0, 0] != fitted[0, -1]


def test_a_text_chunk_that_unpacks_to_too_much_is_refused() -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("a", "0" * 70_000_000, zip=True)
    with warnings.catch_warnings(), pytest.raises(Refused, match="no PNG, JPEG or WebP"):
        fit(encoded(stripes(), pnginfo=info), 8, 8)


def test_base64_is_read_with_and_without_its_head() -> None:
    assert read("data:image/webp;base64,AAEC") == read("AAEC") == b"\0\1\2"
