"""Comparisons over HTTP, on a real queue. The worker here hands in pictures that are made already."""

import asyncio
import base64
import csv
import io
import json
import zipfile
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from app.costs import Cost
from app.jobs import JobError, JobResult
from app.queue.base import Beat, WorkerCard
from app.queue.redis import RedisQueue
from app.settings import Settings
from app.storage.arrays import array_bytes
from app.storage.base import features_key, job_prefix
from app.storage.local import LocalStorage
from app.storage.png import encode_png, read_png
from tests.app.api.test_events import parse
from tests.app.comparison.made import ARMS, PNG, result

ASKED: dict[str, Any] = {
    "model": "toy",
    "prompts": ["high", "low"],
    "seeds": [1],
    "arms": ARMS[:2],
    "steps": 4,
}


@pytest.fixture
async def worker(settings: Settings, redis_url: str, redis_prefix: str) -> AsyncIterator["Worker"]:
    queue = RedisQueue(redis_url, redis_prefix)
    yield Worker(queue, LocalStorage(settings.data_dir))
    await queue.close()


class Worker:
    """Takes all jobs at once and ends each as told."""

    def __init__(self, queue: RedisQueue, storage: LocalStorage) -> None:
        self.queue, self.storage = queue, storage

    async def work(self, failing: int | None = None) -> None:
        claims = await self.queue.claim("w", ["toy"], 100)
        while more := await self.queue.claim("w", ["toy"], 100):
            claims += more
        for number, claim in enumerate(claims):
            if number == failing:
                await self.queue.fail("w", claim.id, JobError(code="not_finite", message="it broke"))
                continue
            done = result(number, 4 * (1 + (claim.resolved.guidance.method != "none")), {"saturation": 0.5})
            prefix = job_prefix(claim.id, claim.created_at_ms)
            key = f"{prefix}0.png"
            await self.storage.put(key, PNG)
            await self.storage.put(features_key(key, "clip"), array_bytes(np.eye(4)[number % 4]))
            trace = {"images": [{"index": 0, "seed": 1, "rows": [{"step": 0, "guidance_norm": 2.5}]}]}
            await self.storage.put(f"{prefix}trace.json", json.dumps(trace).encode())
            image = done.images[0].model_copy(update={"key": key})
            ran = {"scorers": {"clip": {"name": "toy/scorer", "sha256": "ab" * 32}}}
            told = {"images": [image], "trace_key": f"{prefix}trace.json", "ran": ran}
            assert await self.queue.finish("w", claim.id, JobResult.model_validate(dict(done) | told))


async def create(api: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await api.post("/v1/comparisons", json=ASKED | changes)
    assert answer.is_success, answer.text
    return answer.json()


async def test_the_same_request_is_the_same_comparison(api: httpx.AsyncClient) -> None:
    first = await api.post("/v1/comparisons", json=ASKED)
    again = await api.post("/v1/comparisons", json=ASKED | {"title": "another name"})
    assert (first.status_code, again.status_code) == (202, 200)
    made = first.json()
    assert again.json()["id"] == made["id"]
    assert first.headers["location"] == made["urls"]["self"]
    assert made["counts"] == {"queued": 4}
    assert [arm["label"] for arm in made["arms"]] == ["cfg:4", "apg:10,eta=0.5"]
    jobs = (await api.get("/v1/jobs", params={"tag": f"comparison:{made['id']}"})).json()["data"]
    assert len(jobs) == 4
    assert {job["resolved"]["seeds"][0] for job in jobs} == {1}
    await asyncio.sleep(0.005)  # no two in a millisecond
    other = await create(api, seeds=[2])
    assert other["id"] != made["id"]
    listed = (await api.get("/v1/comparisons", params={"search": "APG high"})).json()
    assert {one["id"] for one in listed["data"]} == {made["id"], other["id"]}
    assert (await api.get("/v1/comparisons", params={"search": "panda"})).json()["data"] == []
    (latest, first), at = (one["id"] for one in listed["data"]), listed["data"][0]["created_at"]
    for filters, wanted in (({"created_from": at}, latest), ({"created_before": at}, first)):
        told = (await api.get("/v1/comparisons", params={"search": "APG high", **filters})).json()
        assert [one["id"] for one in told["data"]] == [wanted]


async def test_what_cannot_run_is_refused_by_its_place_and_nothing_is_queued(api: httpx.AsyncClient) -> None:
    wrong = [
        ARMS[0],
        {"guidance": {"method": "fkc", "scale": 2}},
        {"guidance": {"method": "cfg"}, "steps": 999},
    ]
    answer = await api.post("/v1/comparisons", json=ASKED | {"arms": wrong, "width": 4096})
    assert answer.status_code == 422
    assert {"/arms/1/guidance/method", "/arms/2/steps", "/width"} <= {
        one["pointer"] for one in answer.json()["errors"]
    }
    typed = await api.post(
        "/v1/comparisons", json=ASKED | {"arms": [{"guidance": {"method": "cfg", "scale": "x"}}]}
    )
    assert typed.json()["errors"][0]["pointer"] == "/arms/0/guidance/scale"
    twice = await api.post("/v1/comparisons", json=ASKED | {"prompts": ["a", "a"], "arms": [ARMS[0]] * 2})
    assert {one["pointer"] for one in twice.json()["errors"]} == {"/prompts/1", "/arms/1"}
    full = await api.post("/v1/comparisons", json=ASKED | {"seeds": list(range(15))})
    assert (full.status_code, full.json()["error"]["code"]) == (503, "queue_full")
    assert (await api.get("/v1/queue")).json()["queued"] == 0
    assert (await api.get("/v1/comparisons")).json()["data"] == []


async def test_a_failed_cell_says_why_and_is_made_again(api: httpx.AsyncClient, worker: Worker) -> None:
    made = await create(api)
    url = f"/v1/comparisons/{made['id']}"
    await worker.work(failing=2)
    state = (await api.get(url)).json()
    assert state["counts"] == {"succeeded": 3, "failed": 1}
    assert state["status"] == "failed"
    (failed,) = [cell for cell in state["cells"] if cell["status"] == "failed"]
    assert failed["error"]["message"] == "it broke"
    again = (await api.post(f"{url}/retry", params={"cell": failed["index"]})).json()
    assert again["cells"][failed["index"]]["status"] == "queued"
    await worker.work()
    assert (await api.get(url)).json()["status"] == "succeeded"


@pytest.mark.parametrize("cell", ["4", "-1", "1_0", " 1", "+1", "1.0", "", "9" * 30])
async def test_only_cells_that_there_are_can_be_made_again(api: httpx.AsyncClient, cell: str) -> None:
    made = await create(api)
    answer = await api.post(f"/v1/comparisons/{made['id']}/retry", params={"cell": cell})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith("/cell")


async def test_cancel_delete_and_what_becomes_of_the_pictures(api: httpx.AsyncClient, worker: Worker) -> None:
    made = await create(api)
    url = f"/v1/comparisons/{made['id']}"
    assert (await api.delete(url)).status_code == 409
    canceled = (await api.post(f"{url}/cancel")).json()
    assert (canceled["status"], canceled["counts"]) == ("canceled", {"canceled": 4})
    assert (await api.delete(url)).json()["deleted"]
    assert (await api.get(url)).status_code == 404
    assert (await api.get("/v1/jobs")).json()["data"] == []
    assert (await api.get("/v1/comparisons/..%2f..%2fetc")).status_code == 404


async def test_one_stream_tells_of_all_cells_and_loses_nothing(
    live: httpx.AsyncClient, worker: Worker
) -> None:
    made = await create(live)
    url, lines = f"/v1/comparisons/{made['id']}/events", list[str]()
    async with live.stream("GET", url) as stream:
        async for line in stream.aiter_lines():
            lines.append(line)
            if line == "event: snapshot":
                claims = await worker.queue.claim("w", ["toy"], 100)
                await worker.queue.beat(
                    "w", [Beat(claims[0].id, events=[("preview", {"index": 0, "step": 1})])]
                )
                await worker.queue.release("w", [claim.id for claim in claims])
                await worker.work(failing=1)
    told = parse("\n".join(lines))
    assert [told[0]["event"], told[-1]["event"]] == ["snapshot", "done"]
    assert told[0]["id"] == made["last_event_id"]
    ids = [int(event["id"]) for event in told]
    assert ids == sorted(ids)
    (preview,) = [event["data"] for event in told if event["event"] == "preview"]
    assert preview["url"].endswith("/images/0/preview?step=1")
    ended = {
        event["data"]["cell"]: event["data"] for event in told if event["event"] in ("completed", "failed")
    }
    assert sorted(ended) == [0, 1, 2, 3]
    assert sum(cell["status"] == "failed" for cell in ended.values()) == 1
    late = parse((await live.get(url, headers={"Last-Event-ID": made["last_event_id"]})).text)
    assert [event["event"] for event in late] == ["snapshot", "done"]
    assert late[0]["data"]["counts"] == {"succeeded": 3, "failed": 1}
    again = parse((await live.get(url, params={"after": told[-1]["id"]})).text)
    assert [event["event"] for event in again] == ["done"]


async def test_arms_are_compared_as_sets_by_what_the_scorer_saw(
    api: httpx.AsyncClient, worker: Worker
) -> None:
    made = await create(api, seeds=[1, 2], metrics=["basic", "clip"])
    url = f"/v1/comparisons/{made['id']}"
    before = (await api.get(f"{url}/distribution")).json()["spaces"]
    assert [one["unavailable"] for one in before] == [
        "no picture is made yet",
        "not measured: ask for the metric 'lpips'",
    ]
    await worker.work()
    clip = (await api.get(f"{url}/distribution")).json()["spaces"][0]
    assert (clip["name"], clip["unavailable"]) == ("clip", None)
    assert clip["scorer"] == {"name": "toy/scorer", "sha256": "ab" * 32}
    assert clip["least"] == {"kid": 50, "fd": 50}
    assert [(one["pictures"], one["prompts"], one["diversity"]) for one in clip["arms"]] == [(4, 2, 1.0)] * 2
    assert (clip["apart"][1]["pairs"], clip["apart"][1]["moved"], clip["apart"][1]["kid"]) == (4, 1.0, None)
    everything = (await api.get(f"{url}/export.json")).json()
    assert everything["distribution"]["spaces"][0] == clip
    assert "The pictures as sets: CLIP features" in (await api.get(f"{url}/export.html")).text
    assert (await api.get("/v1/comparisons/none/distribution")).status_code == 404


async def test_exports_hold_everything(api: httpx.AsyncClient, worker: Worker) -> None:
    made = await create(api, prompts=["=1+1", "ünï"])
    url = f"/v1/comparisons/{made['id']}"
    await worker.work()
    rows = list(csv.DictReader(io.StringIO((await api.get(f"{url}/export.csv")).text)))
    assert {row["scorers"] for row in rows} == {f"clip: toy/scorer {'ab' * 32}"}
    assert [row["prompt"] for row in rows] == ["'=1+1", "'=1+1", "ünï", "ünï"]
    assert {row["saturation"] for row in rows} == {"0.5"}
    traces = (await api.get(f"{url}/export.csv", params={"of": "traces"})).text
    assert traces.splitlines()[1].endswith(",0,2.5")
    told = (await api.get(f"{url}/export.json")).json()
    assert [cell["prompt"] for cell in told["cells"]] == ["=1+1", "=1+1", "ünï", "ünï"]
    assert told["results"]["metrics"][0]["differences"][1]["mean"] == 0
    with zipfile.ZipFile(io.BytesIO((await api.get(f"{url}/export.zip")).content)) as file:
        assert sum(name.startswith("images/") for name in file.namelist()) == 4
        assert read_png(file.read(file.namelist()[0]))["prompt"] == "secret"
        assert "ünï" in file.read("report.html").decode()
    sheet = Image.open(io.BytesIO((await api.get(f"{url}/export.png")).content))
    assert sheet.width > 2 * 256
    assert sheet.height > 2 * 256
    html = await api.get(f"{url}/export.html")
    assert html.headers["content-security-policy"].endswith("sandbox")
    assert html.text.count("data:image/png") == 4


async def test_voting_is_blind_until_the_vote_is_cast(api: httpx.AsyncClient, worker: Worker) -> None:
    made = await create(api)
    url = f"/v1/comparisons/{made['id']}"
    voter = {"voter": "somebody-1"}
    assert (await api.post(f"{url}/ballots", json=voter)).json()["ticket"] is None  # nothing is made yet
    await worker.work()
    seen = list[str]()
    for choice in ("left", "both_bad"):
        ballot = await api.post(f"{url}/ballots", json=voter)
        seen.append(ballot.text + str(ballot.headers))
        for image in ballot.json()["images"]:
            picture = await api.get(image)
            assert picture.headers["cache-control"] == "no-store"
            seen.append(picture.content.decode("latin-1") + str(picture.headers))
        vote = await api.post(f"{url}/ballots/{ballot.json()['ticket']}/vote", json={"choice": choice})
        seen.append(vote.text + str(vote.headers))
    jobs = [cell["job"] for cell in made["cells"]]
    for secret in ("cfg", "apg", "eta", "secret", "lodestar\0", *jobs):
        assert not any(secret in text for text in seen), secret
    told = (await api.get(f"{url}/results")).json()["votes"]
    assert (told["n"], told["voters"], told["pairs"][0]["both_bad"]) == (2, 1, 1)
    assert (await api.get(f"{url}/results", params={"voter": "nobody"})).json()["votes"]["n"] == 0
    disputed = (await api.get(f"{url}/disputed")).json()
    assert (disputed["by"], disputed["rows"]) == ("scores", [])  # which are alike
    assert "Votes stay blind until the 30" in disputed["text"]
    assert "somebody-1" not in (await api.get(f"{url}/export.json")).text


async def test_a_pair_is_looked_at_before_it_is_voted_on(api: httpx.AsyncClient, worker: Worker) -> None:
    made = await create(api, look_s=0.4)
    url = f"/v1/comparisons/{made['id']}"
    assert made["look_s"] == 0.4
    await worker.work()
    ballot = (await api.post(f"{url}/ballots", json={"voter": "somebody-1"})).json()
    assert ballot["look_s"] == 0.4
    vote = f"{url}/ballots/{ballot['ticket']}/vote"
    early = await api.post(vote, json={"choice": "left"})
    assert (early.status_code, early.json()["error"]["code"]) == (409, "looked_too_briefly")
    assert early.headers["retry-after"] == "1"
    assert (await api.post(vote, json={"choice": "skip"})).status_code == 200
    assert (await api.patch(url, json={"look_s": 0})).status_code == 409  # a skip is a vote that was cast
    await asyncio.sleep(0.4)
    assert (await api.post(vote, json={"choice": "left"})).status_code == 200
    assert (await api.get(f"{url}/results")).json()["votes"]["n"] == 1


async def test_the_table_of_votes_has_its_head_before_the_first(
    api: httpx.AsyncClient, worker: Worker
) -> None:
    made = await create(api)
    url = f"/v1/comparisons/{made['id']}"
    await worker.work()
    assert (await api.patch(url, json={"look_s": 2.5})).json()["look_s"] == 2.5
    empty = (await api.get(f"{url}/export.csv", params={"of": "votes"})).text
    await api.patch(url, json={"look_s": 0})
    ballot = (await api.post(f"{url}/ballots", json={"voter": "somebody-1"})).json()
    await api.post(f"{url}/ballots/{ballot['ticket']}/vote", json={"choice": "left"})
    lines = (await api.get(f"{url}/export.csv", params={"of": "votes"})).text.splitlines()
    assert empty.splitlines() == lines[:1]
    assert len(lines) == 2


async def test_a_vote_may_be_changed_until_its_arms_are_told(api: httpx.AsyncClient, worker: Worker) -> None:
    made = await create(api, prompts=["high"])
    url = f"/v1/comparisons/{made['id']}"
    await worker.work()
    ballot = (await api.post(f"{url}/ballots", json={"voter": "somebody-1"})).json()
    vote = f"{url}/ballots/{ballot['ticket']}/vote"
    await api.post(vote, json={"choice": "tie"})
    told = (await api.post(vote, json={"choice": "left", "reveal": True})).json()
    assert {told["left"], told["right"]} == {"cfg:4", "apg:10,eta=0.5"}
    assert (await api.post(vote, json={"choice": "left"})).status_code == 200
    assert (await api.post(vote, json={"choice": "right"})).status_code == 409
    pair = (await api.get(f"{url}/results")).json()["votes"]["pairs"][0]
    assert (pair["wins_a"] + pair["wins_b"], pair["ties"]) == (1, 0)
    assert (await api.patch(url, json={"question": "Which is nicer?"})).status_code == 409
    assert (await api.patch(url, json={"title": "new"})).json()["title"] == "new"
    assert (await api.post(f"{url}/ballots/nothing/vote", json={"choice": "tie"})).status_code == 404


async def test_classes_go_to_the_arms_that_use_them(api: httpx.AsyncClient) -> None:
    arms = [{"guidance": {"method": "cfg"}}, {"guidance": {"method": "gfcg"}}]
    made = await api.post("/v1/comparisons", json=ASKED | {"arms": arms, "classes": ["middle"]})
    assert made.status_code == 202, made.text
    jobs = (await api.get("/v1/jobs")).json()["data"]
    found = {job["resolved"]["guidance"]["method"]: job["resolved"]["classes"] for job in jobs}
    assert found == {"cfg": [], "gfcg": ["middle"]}
    unused = await api.post("/v1/comparisons", json=ASKED | {"arms": arms[:1], "classes": ["middle"]})
    assert unused.status_code == 422
    assert "does not use classes" in unused.json()["detail"]


async def test_every_cell_starts_from_one_picture_also_when_it_is_made_again(
    api: httpx.AsyncClient, settings: Settings
) -> None:
    start = base64.b64encode(PNG).decode()
    made = await create(api, init_image=start, strength=0.5)
    url = f"/v1/comparisons/{made['id']}"
    assert made["init_image"].startswith("sha256:")
    pictures = {(await api.get(f"/v1/jobs/{cell['job']}/init_image")).content for cell in made["cells"]}
    assert len(pictures) == 1
    assert {
        (await api.get(f"/v1/jobs/{cell['job']}")).json()["resolved"]["strength"] for cell in made["cells"]
    } == {0.5}
    assert (await api.post("/v1/comparisons/estimate", json=ASKED | {"init_image": start})).json()["arms"][0][
        "nfe"
    ] < 2 * ASKED["steps"]
    named = f"lodestar:jobs/{made['cells'][0]['job']}/init_image"
    assert (await create(api, init_image=named, strength=0.5))["id"] == made["id"]
    assert (await create(api, strength=None))["id"] != made["id"]
    await api.post(f"{url}/cancel")
    await api.delete(f"/v1/jobs/{made['cells'][1]['job']}")
    again = (await api.post(f"{url}/retry")).json()
    assert (await api.get(f"/v1/jobs/{again['cells'][1]['job']}/init_image")).content in pictures
    await api.post(f"{url}/cancel")
    await api.delete(url)
    assert not list(settings.data_dir.rglob("start.png"))
    twice = await api.post(
        "/v1/comparisons",
        json=ASKED | {"init_image": start, "seeds": [1, 2], "edit": {"source_prompt": "low"}},
    )
    assert "/seeds" in {one["pointer"] for one in twice.json()["errors"]}
    none = await api.post("/v1/comparisons", json=ASKED | {"init_image": "https://elsewhere.test/a.png"})
    assert (none.status_code, none.json()["errors"][0]["pointer"]) == (422, "/init_image")


async def test_all_cells_are_made_anew_inside_the_same_mask(
    api: httpx.AsyncClient, settings: Settings
) -> None:
    start = base64.b64encode(PNG).decode()
    mask = base64.b64encode(encode_png(np.eye(8, dtype="uint8")[..., None].repeat(3, 2) * 255, {})).decode()
    made = await create(api, init_image=start, mask=mask)
    assert made["mask"].startswith("sha256:")
    assert made["strength"] == 1
    jobs = [cell["job"] for cell in made["cells"]]
    masks = {(await api.get(f"/v1/jobs/{job}/mask")).content for job in jobs}
    assert len(masks) == 1
    assert {(await api.get(f"/v1/jobs/{job}")).json()["resolved"]["mask"] for job in jobs} == {made["mask"]}
    whole = await create(api, init_image=start, strength=1)
    assert whole["id"] != made["id"]
    assert whole["mask"] is None
    named = {name: f"lodestar:jobs/{jobs[0]}/{name}" for name in ("init_image", "mask")}
    assert (await create(api, **named))["id"] == made["id"]
    await api.post(f"/v1/comparisons/{made['id']}/cancel")
    await api.delete(f"/v1/jobs/{jobs[1]}")
    again = (await api.post(f"/v1/comparisons/{made['id']}/retry")).json()
    assert (await api.get(f"/v1/jobs/{again['cells'][1]['job']}/mask")).content in masks
    await api.post(f"/v1/comparisons/{made['id']}/cancel")
    await api.delete(f"/v1/comparisons/{made['id']}")
    assert not list(settings.data_dir.rglob("mask.png"))


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"mask": "AAAA"}, "give it in init_image"),
        ({"init_image": base64.b64encode(PNG).decode(), "mask": "no base64!"}, "mask takes a data URL"),
        (dict.fromkeys(("init_image", "mask"), base64.b64encode(PNG).decode()), "nowhere white"),
        ({"init_image": "AAAA", "mask": "AAAA", "edit": {}}, "edit or mask, not both"),
        (
            {"init_image": base64.b64encode(PNG).decode(), "mask": f"lodestar:jobs/{'0' * 26}/mask"},
            "there is no mask of a job",
        ),
    ],
)
async def test_a_mask_that_is_none_is_refused(
    api: httpx.AsyncClient, changes: dict[str, Any], detail: str
) -> None:
    answer = await api.post("/v1/comparisons", json=ASKED | changes)
    assert answer.status_code == 422
    errors = {one["pointer"]: one["detail"] for one in answer.json()["errors"]}
    assert detail in errors["/mask"]
    assert (await api.get("/v1/comparisons")).json()["data"] == []


async def test_a_qr_code_is_that_of_all_arms(api: httpx.AsyncClient) -> None:
    arms = [{"guidance": {"method": "srpg"}}, {"guidance": {"method": "srpg", "scanning_scale": 100}}]
    made = await create(api, arms=arms, qr={"data": "https://lodestar.dev"})
    assert (made["qr"]["version"], made["width"], made["height"]) == (5, 630, 630)
    (qr,) = {json.dumps(job["resolved"]["qr"]) for job in (await api.get("/v1/jobs")).json()["data"]}
    assert json.loads(qr) == made["qr"]
    mixed = await api.post("/v1/comparisons", json=ASKED | {"arms": [arms[0], ARMS[0]], "qr": {"data": "x"}})
    assert [one["pointer"] for one in mixed.json()["errors"]] == ["/arms/1/guidance/method"]
    missing = await api.post("/v1/comparisons", json=ASKED | {"arms": arms})
    assert [one["pointer"] for one in missing.json()["errors"]] == ["/qr"]


async def test_an_estimate_tells_the_time_that_the_workers_measured(
    api: httpx.AsyncClient, queue: RedisQueue
) -> None:
    cost = Cost("toy", 64, 64, "cfg", evaluations=2, busy_ms=10, step_ms=30, image_ms=20, image_bytes=5_000)
    for name in "ab":
        card = WorkerCard(name, "host", 1, "cpu", ["toy"], 0, max_rows=16, left_ms=0, costs=[cost])
        await queue.announce(card)
    told = (await api.post("/v1/comparisons/estimate", json=ASKED | {"arms": ARMS})).json()
    assert (told["pictures"], told["compute_matched"]) == (6, False)
    assert [arm["matched_steps"] for arm in told["arms"]] == [4, 4, 8]
    assert told["disk"] == {"bytes": 6 * 5_000, "measured": True}
    # two arms of 4 steps at 10 ms, one at 5 ms, and 20 ms a picture; two prompts, two workers
    assert told["seconds"] == pytest.approx((2 * (40 + 40 + 20) + 6 * 20) / 2 / 1e3)


async def test_an_estimate_tells_how_each_prompt_is_read(api: httpx.AsyncClient) -> None:
    long = "a red apple on a very long wooden table " * 5
    url, asked = "/v1/comparisons/estimate", ASKED | {"prompts": ["a red apple, 3d", long]}
    emoji = (await api.post(url, json=asked | {"model": "emoji"})).json()["prompts"]
    assert [(one["tokens"], one["at_once"], one["pieces"]) for one in emoji] == [(6, 30, 1), (70, 30, 3)]
    toy = (await api.post(url, json=asked | {"prompts": ["word " * 75 + "more"]})).json()["prompts"]
    assert toy == [{"tokens": 76, "at_once": 75, "pieces": 1, "cut": "more"}]


async def test_an_estimate_tells_no_time_while_nothing_was_measured(api: httpx.AsyncClient) -> None:
    told = (await api.post("/v1/comparisons/estimate", json=ASKED)).json()
    assert (told["nfe"], told["seconds"]) == (32, None)
    assert told["disk"] == {"bytes": 4 * 64 * 64 * 3, "measured": False}
