"""Comparisons, ballots and votes in the storage: votes cannot be made again, so they do not lie in the queue.

Each is one small object that is written whole, so that several servers may write at once.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Literal, TypeVar

from pydantic import Field

from app.comparison.spec import Comparison
from app.init_image import Name
from app.jobs import Wire
from app.storage.base import Storage

Choice = Literal["left", "right", "tie", "both_bad", "skip"]
T = TypeVar("T", bound=Wire)
STARTS: dict[Name, str] = {"init_image": "start.png", "mask": "mask.png"}


class Ballot(Wire):
    """A pair shown to a voter: two arms on one prompt and seed, `left` and `right` as drawn."""

    ticket: str
    prompt: int
    seed: int
    left: int
    right: int
    voter: str
    repeats: str | None = Field(description="the ticket that it shows again, sides swapped")
    issued_at_ms: int


class Vote(Wire):
    """What a voter said to a ballot; voting again on the same ticket replaces it."""

    ballot: Ballot
    choice: Choice
    question: str
    revealed: bool = Field(False, description="the voter was told the arms: this vote stays")
    voted_at_ms: int


class Comparisons:
    """All of them, in one storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def save(self, comparison: Comparison) -> None:
        """Keep it, in the place of what was kept under its id."""
        await self._put(f"comparisons/{comparison.id}.json", comparison)

    async def get(self, comparison_id: str) -> Comparison | None:
        """The comparison, or None."""
        data = await self._storage.get(f"comparisons/{comparison_id}.json")
        return Comparison.model_validate_json(data) if data is not None else None

    async def list(self) -> list[Comparison]:
        """All, newest first."""
        found = await self._all("comparisons/", Comparison)
        return sorted(found, key=lambda one: one.created_at_ms, reverse=True)

    async def delete(self, comparison: Comparison) -> None:
        """Forget it, its votes and what it starts from; its jobs are the queue's business."""
        for kind in ("ballots", "votes", "starts"):
            await self._storage.delete_prefix(f"{kind}/{comparison.id}/")
        await self._storage.delete(f"comparisons/{comparison.id}.json")

    async def save_start(self, comparison: Comparison, pictures: Mapping[Name, bytes]) -> None:
        """Keep the picture that its cells start from and its mask, for those that are made again."""
        for name, png in pictures.items():
            await self._storage.put(f"starts/{comparison.id}/{STARTS[name]}", png)

    async def start(self, comparison: Comparison) -> dict[str, bytes]:
        """What its cells start from: digest -> picture."""
        found = dict[str, bytes]()
        for name, file in STARTS.items():
            reference = getattr(comparison.shared, name)
            if reference and (png := await self._storage.get(f"starts/{comparison.id}/{file}")) is not None:
                found[reference] = png
        return found

    async def save_ballot(self, comparison: Comparison, ballot: Ballot) -> None:
        """Remember what a ticket stands for."""
        await self._put(f"ballots/{comparison.id}/{ballot.ticket}.json", ballot)

    async def ballot(self, comparison: Comparison, ticket: str) -> Ballot | None:
        """What a ticket stands for."""
        data = await self._storage.get(f"ballots/{comparison.id}/{ticket}.json")
        return Ballot.model_validate_json(data) if data is not None else None

    async def ballots(self, comparison: Comparison) -> builtins.list[Ballot]:
        """All ballots that were issued, oldest first."""
        found = await self._all(f"ballots/{comparison.id}/", Ballot)
        return sorted(found, key=lambda ballot: ballot.issued_at_ms)

    async def save_vote(self, comparison: Comparison, vote: Vote) -> None:
        """Keep a vote, in the place of an earlier one on the same ticket."""
        await self._put(f"votes/{comparison.id}/{vote.ballot.ticket}.json", vote)

    async def vote(self, comparison: Comparison, ticket: str) -> Vote | None:
        """The vote on a ticket."""
        data = await self._storage.get(f"votes/{comparison.id}/{ticket}.json")
        return Vote.model_validate_json(data) if data is not None else None

    async def votes(self, comparison: Comparison) -> builtins.list[Vote]:
        """All votes, oldest first."""
        found = await self._all(f"votes/{comparison.id}/", Vote)
        return sorted(found, key=lambda vote: vote.voted_at_ms)

    async def _put(self, key: str, what: Wire) -> None:
        await self._storage.put(key, what.model_dump_json().encode())

    async def _all(self, prefix: str, kind: type[T]) -> builtins.list[T]:
        found = await self._storage.get_prefix(prefix)
        return [kind.model_validate_json(data) for data in found.values()]
