"""Blind votes: a ballot is an opaque ticket for two pictures. Nothing here tells which arms they are."""

from __future__ import annotations

import asyncio
import re
import time
from math import ceil
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, Field

from app.api.comparisons import Found, cells_of
from app.api.deps import Index, Lodestar, digits
from app.api.errors import Problem
from app.comparison.ballots import draw
from app.comparison.disputed import Disputed, disputed
from app.comparison.results import Results, results
from app.comparison.store import Ballot, Choice, Comparisons, Vote
from app.jobs import Asked
from app.storage.png import bare_png

router = APIRouter(prefix="/v1/comparisons", tags=["comparisons"])

Side = Annotated[int, Field(ge=1, le=2), BeforeValidator(digits)]
PNG: dict[int | str, Any] = {200: {"content": {"image/png": {}}}}


class Voter(Asked):
    """Who votes: an id that the client made and keeps. It tells voters apart, it proves nothing."""

    voter: str = Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")


class VoteSpec(Asked):
    """A vote. `skip` leaves the pair out. With `reveal` the answer tells the arms, and the vote stays."""

    choice: Choice
    reveal: bool = False


class BallotAnswer(BaseModel):
    """A pair to look at; `ticket` is None when this voter has seen all that can be shown now.

    A vote is taken `look_s` seconds after both pictures are there; skipping always is.
    """

    object: Literal["ballot"] = "ballot"
    ticket: str | None
    question: str
    prompt: str
    images: list[str]
    look_s: float
    voted: int
    planned: int


class VoteAnswer(BaseModel):
    """The vote as recorded. `left` and `right` are None unless it asked to reveal them."""

    object: Literal["vote"] = "vote"
    ticket: str
    choice: Choice
    left: str | None = None
    right: str | None = None


async def ballot(lodestar: Lodestar, found: Found, ticket: Annotated[str, Path(max_length=64)]) -> Ballot:
    """The ballot in the path, or 404."""
    known = re.fullmatch(r"[A-Za-z0-9_-]+", ticket) and await Comparisons(lodestar.storage).ballot(
        found, ticket
    )
    if not known:
        raise Problem(404, f"there is no ballot {ticket!r} here; ask for one", code="ballot_not_found")
    return known


Shown = Annotated[Ballot, Depends(ballot)]


@router.post("/{id}/ballots")
async def create_ballot(voter: Voter, lodestar: Lodestar, request: Request, found: Found) -> BallotAnswer:
    """The next pair for this voter, the same one until it is voted on. Sides and order are the server's."""
    store = Comparisons(lodestar.storage)
    cells, ballots, votes = (
        await cells_of(lodestar, found),
        await store.ballots(found),
        await store.votes(found),
    )
    shown = draw(found, cells, ballots, votes, voter.voter, round(time.time() * 1e3))
    if shown is not None and shown not in ballots:
        await store.save_ballot(found, shown)
    url = f"{str(request.base_url).rstrip('/')}/v1/comparisons/{found.id}/ballots"
    return BallotAnswer(
        ticket=shown.ticket if shown else None,
        question=found.question,
        prompt=found.prompts[shown.prompt] if shown else "",
        images=[f"{url}/{shown.ticket}/{side}.png" for side in (1, 2)] if shown else [],
        look_s=found.look_s,
        voted=sum(vote.ballot.voter == voter.voter and vote.choice != "skip" for vote in votes),
        planned=found.votes_planned,
    )


@router.get("/{id}/ballots/{ticket}/{side}.png", response_class=Response, responses=PNG)
async def get_ballot_image(lodestar: Lodestar, found: Found, shown: Shown, side: Side) -> Response:
    """Picture 1 (left) or 2 (right) of a ballot, without the request that made it."""
    arm = shown.left if side == 1 else shown.right
    at = (shown.prompt, shown.seed, arm)
    job_id = next(one.job_id for one in found.places if (one.prompt, one.seed, one.arm) == at)
    record = await lodestar.queue.get(job_id)
    images = record.result.images if record and record.result else []
    data = await lodestar.storage.get(images[0].key) if images else None
    if data is None:
        raise Problem(410, "this picture is no longer stored", code="image_gone")
    return Response(
        await asyncio.to_thread(bare_png, data), media_type="image/png", headers={"Cache-Control": "no-store"}
    )


@router.post("/{id}/ballots/{ticket}/vote")
async def cast_vote(spec: VoteSpec, lodestar: Lodestar, found: Found, shown: Shown) -> VoteAnswer:
    """Vote on a ballot. Voting again replaces the vote, unless its arms were revealed."""
    now_ms = round(time.time() * 1e3)
    if spec.choice != "skip" and now_ms < shown.issued_at_ms + found.look_s * 1e3:
        left_s = ceil(found.look_s - (now_ms - shown.issued_at_ms) / 1e3)
        raise Problem(
            409,
            f"this comparison's pairs are looked at for {found.look_s:g} s; vote in {left_s} s",
            code="looked_too_briefly",
            headers={"Retry-After": str(left_s)},
        )
    store = Comparisons(lodestar.storage)
    before = await store.vote(found, shown.ticket)
    if before is not None and before.revealed and before.choice != spec.choice:
        detail = "the arms of this ballot were revealed: its vote stays as it is"
        raise Problem(409, detail, code="vote_revealed")
    vote = Vote(
        ballot=shown,
        choice=spec.choice,
        question=found.question,
        revealed=spec.reveal or (before is not None and before.revealed),
        voted_at_ms=now_ms,
    )
    await store.save_vote(found, vote)
    return VoteAnswer(
        ticket=shown.ticket,
        choice=spec.choice,
        left=found.arms[shown.left].label if spec.reveal else None,
        right=found.arms[shown.right].label if spec.reveal else None,
    )


@router.get("/{id}/results")
async def get_results(
    lodestar: Lodestar,
    found: Found,
    voter: Annotated[str | None, Query(max_length=64, description="this voter's votes alone")] = None,
    question: Annotated[str | None, Query(max_length=200, description="votes on this question alone")] = None,
    prompt: Annotated[Index | None, Query(description="votes on this prompt alone, by index")] = None,
) -> Results:
    """Means, paired differences with intervals, cost, and what the votes say."""
    votes = [
        vote
        for vote in await Comparisons(lodestar.storage).votes(found)
        if (voter is None or vote.ballot.voter == voter)
        and (question is None or vote.question == question)
        and (prompt is None or vote.ballot.prompt == prompt)
    ]
    return await asyncio.to_thread(results, found, await cells_of(lodestar, found), votes)


@router.get("/{id}/disputed")
async def get_disputed(lodestar: Lodestar, found: Found) -> Disputed:
    """The rows where voters prefer opposite arms; until all planned votes are cast, where scores part."""
    votes = await Comparisons(lodestar.storage).votes(found)
    return await asyncio.to_thread(disputed, found, await cells_of(lodestar, found), votes)
