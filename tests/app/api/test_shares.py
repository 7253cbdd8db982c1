"""What belongs to a key: its share of the service, its limits as a whole, and its list."""

from __future__ import annotations

import pytest

from app.keys import KeyStore, Limits
from app.queue.redis import RedisQueue
from tests.app.api.test_auth import Login, login, made, store  # noqa: F401
from tests.app.api.test_jobs import APPLE

COMPARISON = {
    "prompts": ["a", "b"],
    "seeds": [1],
    "arms": [{"guidance": {"method": "cfg", "scale": 2}}, {"guidance": {"method": "none"}}],
}
"""Four cells."""


async def weighed(store: KeyStore, weight: int) -> str:  # noqa: F811
    return (await store.create("ann", ["read", "write"], Limits(), weight))[1]


async def accounts(queue: RedisQueue, count: int) -> list[str]:
    """Whose the next `count` jobs are, in the order in which a worker gets them."""
    found: list[str] = []
    for _ in range(count):
        (claim,) = await queue.claim("w", ["emoji"], 1)
        record = await queue.get(claim.id)
        assert record is not None
        found.append(record.account or "")
    return found


async def test_keys_take_turns_by_their_weights(login: Login, store: KeyStore, queue: RedisQueue) -> None:  # noqa: F811
    one, three = await weighed(store, 1), await weighed(store, 3)
    for _ in range(9):
        for token in (one, three):
            async with login(token) as http:
                assert (await http.post("/v1/jobs", json=APPLE)).status_code == 202
    order = await accounts(queue, 12)
    assert sum(three.split("_")[1] == account for account in order) == pytest.approx(9, abs=1)


async def test_many_batches_of_a_key_get_no_more_than_its_share(
    login: Login, store: KeyStore, queue: RedisQueue  # noqa: F811
) -> None:  # fmt: skip
    ann, bob = await weighed(store, 1), await weighed(store, 1)
    for token, batches in (
        (ann, [["a", "b"], ["c", "d"], ["e", "f"]]),
        (bob, [["g", "h", "i", "j", "k", "l"]]),
    ):
        async with login(token) as http:
            for prompts in batches:
                assert (await http.post("/v1/batches", json={"jobs": prompts})).status_code == 202
    order = await accounts(queue, 6)
    assert sum(ann.split("_")[1] == account for account in order) == pytest.approx(3, abs=1)


async def test_a_comparison_finds_room_for_all_its_cells_or_for_none(login: Login, store: KeyStore) -> None:  # noqa: F811
    for limits in ({"per_minute": 5}, {"max_open": 5}, {"pixel_steps": 5 * 64 * 64 * 25}):
        async with login(await made(store, **limits)) as http:
            for _ in range(2):
                assert (await http.post("/v1/jobs", json=APPLE)).status_code == 202
            refused = await http.post("/v1/comparisons", json=COMPARISON)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
            assert int(refused.headers["retry-after"]) >= 1
            assert len((await http.get("/v1/jobs")).json()["data"]) == 2
            assert (await http.get("/v1/comparisons")).json()["data"] == []
            assert (await http.post("/v1/jobs", json=APPLE)).status_code == 202, (
                "what was refused costs nothing"
            )


async def test_a_comparison_that_a_key_may_never_make_says_so(login: Login, store: KeyStore) -> None:  # noqa: F811
    for limits in ({"per_minute": 3}, {"max_open": 3}, {"pixel_steps": 3 * 64 * 64 * 25}):
        async with login(await made(store, **limits)) as http:
            refused = await http.post("/v1/comparisons", json=COMPARISON)
            assert refused.status_code == 422
            assert f"may use {next(iter(limits.values()))}" in refused.json()["detail"]
            assert (await http.get("/v1/jobs")).json()["data"] == []


async def test_a_list_after_somebody_elses_job_is_as_after_none(login: Login, store: KeyStore) -> None:  # noqa: F811
    async with login(await made(store)) as http:
        theirs = (await http.post("/v1/jobs", json=APPLE)).json()["id"]
        assert (await http.get("/v1/jobs", params={"after": theirs})).status_code == 200
    async with login(await made(store)) as http:
        unknown = "01M8BE1NP5XSNKAX2H891ZCJ01"
        answers = [await http.get("/v1/jobs", params={"after": one}) for one in (theirs, unknown)]
        assert [answer.status_code for answer in answers] == [422, 422]
        first, second = (
            answer.json()["detail"].replace(one, "")
            for answer, one in zip(answers, (theirs, unknown), strict=True)
        )
        assert first == second
