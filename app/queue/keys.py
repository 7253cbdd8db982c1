"""Every Redis key, once. Python builds them with `Keys`; the scripts get the same names from `prelude`.

All keys share one hash tag, `{<prefix>}`, so any set of them may be touched in one atomic step, on a cluster
too, and a job is reached by its id alone.
"""

from __future__ import annotations

from enum import StrEnum
from typing import get_args

from app.jobs import JobStatus, Priority


class Key(StrEnum):
    """What follows the tag. A name that ends in a colon takes one more part, said in brackets."""

    JOB = "job:"
    """[id] hash: the record."""
    STATUS = "status:"
    """[status] zset: the ids of that status, by time of creation in microseconds; together, all ids."""
    TAG = "tag:"
    """[tag] zset, likewise."""
    LINE = "line:"
    """[priority:model] zset: waiting ids by when they began to, in microseconds; to be watched."""
    TALLY = "tally"
    """hash: what has happened since the queue began: `status:model` of ended jobs, `takeover:model`."""
    WAITING = "waiting:"
    """[model:group] zset: waiting ids by fair score."""
    GROUPS = "groups:"
    """[model] zset: its groups, each with the score of its first job."""
    DELAYED = "delayed"
    """zset: ids that wait for a moment, by that moment in milliseconds."""
    DEADLINES = "deadlines"
    """zset: waiting ids that will expire, by that moment in milliseconds."""
    LEASES = "leases"
    """zset: ids in a worker's hands, by the end of the lease in milliseconds."""
    HELD = "held"
    """hash: worker -> number of jobs it holds."""
    ALONE = "alone"
    """hash: worker -> the suspect job that it runs with no other beside it."""
    RESERVED = "reserved:"
    """[id] string: the worker that empties itself to run this suspect."""
    BELL = "bell:"
    """[model] list: wakes idle workers; a hint only."""
    MODELS = "models"
    """hash: model -> open jobs."""
    CLIENTS = "clients"
    """hash: client -> open jobs."""
    API_KEYS = "api-keys"
    """hash: id of an API key -> the key, with a digest of its secret."""
    SESSION = "session:"
    """[digest] string: id of the API key with which a browser signed in, until it expires."""
    ACCOUNT = "account:"
    """[id of an API key] zset: its jobs, by time of creation."""
    OPEN = "open"
    """hash: id of an API key -> its open jobs."""
    RATE = "rate:"
    """[id of an API key] string: when its jobs of the last minute will be forgotten, in milliseconds."""
    BUDGET = "budget:"
    """[id of an API key] string: when its pixel-steps of the last day will be."""
    FAIR = "fair"
    """hash: `priority:client` -> score of the last such job while the client has open ones."""
    CLOCK = "clock"
    """string: virtual time, the score of the last job taken."""
    PACE = "pace"
    """hash: completions in the current window and the rate of the one before."""
    IDEMPOTENCY = "idempotency:"
    """[client:key] string: the id it made."""
    EXPIRY = "expiry"
    """zset: ended ids by the moment they are forgotten, in milliseconds."""
    LITTER = "litter"
    """set of `id:created` of forgotten jobs whose files may still lie in the storage."""
    DEAD = "dead"
    """stream: dead letters, capped."""
    EVENTS = "events:"
    """[id] channel: hints that the record changed."""
    WEBHOOKS = "webhooks"
    """zset: ended ids whose end is to be told, by the moment of the next try in milliseconds."""
    DELIVERIES = "deliveries:"
    """[id] list: the last tries to tell of it."""
    BLOB = "blob:"
    """[name] string: short-lived bytes."""
    WORKER = "worker:"
    """[id] string: a worker's card, until it expires."""
    WORKERS = "workers"
    """set of worker ids."""


class Keys:
    """Full key names under one prefix."""

    def __init__(self, prefix: str) -> None:
        self.root = f"{{{prefix}}}:"

    def __call__(self, key: Key, rest: str = "") -> str:
        return f"{self.root}{key}{rest}"


def prelude() -> str:
    """The same names as Lua locals: each `Key`, each status in the table `S`, and the PRIORITIES."""
    names = "".join(f"local {key.name} = KEYS[1] .. '{key}'\n" for key in Key)
    statuses = ", ".join(f"{status.name} = '{status}'" for status in JobStatus)
    priorities = ", ".join(f"'{priority}'" for priority in get_args(Priority))
    return f"{names}local S = {{{statuses}}}\nlocal PRIORITIES = {{{priorities}}}\n"
