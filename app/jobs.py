"""The wire types of a job: what is asked, what ran, what came out. Shared by API, queue, clients, workers."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from guidance import AnyGuidance
from guidance.qr.request import Qr
from samplers.cards import steps_from


class JobStatus(StrEnum):
    """`queued -> starting -> processing -> succeeded | failed | canceled`; `expired` from `queued`."""

    QUEUED = "queued"
    STARTING = "starting"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"


RUNNING = frozenset({JobStatus.STARTING, JobStatus.PROCESSING})
TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED, JobStatus.EXPIRED})

Priority = Literal["interactive", "normal", "batch"]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Wire(BaseModel):
    """Base of all wire types: unknown fields are refused, infinities never travel."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


PLAIN = json.JSONEncoder(ensure_ascii=False, default=str)
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""The character as JSON spells it, and not the text of that spelling."""


def whole(value: Any) -> Any:
    """JSON without whole floats: to JSON Schema 25.0 is an integer, and some languages write it so."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [whole(one) for one in value]
        case dict():
            return {name: whole(one) for name, one in value.items()}
        case _:
            return value


class Asked(Wire):
    """Base of what clients send: only what can be carried on is let in, and no `true` or "1" for a number."""

    model_config = ConfigDict(strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _carried(cls, value: Any) -> Any:
        """Refuse what JSON can spell but neither queue nor PNG carries: NUL, and half a surrogate pair."""
        if value is None or isinstance(value, bool | int):
            return value
        try:
            value = whole(value)
            text = PLAIN.encode(value)
            text.encode()
        except UnicodeEncodeError:
            raise PydanticCustomError("text", "text must be valid Unicode, without lone surrogates") from None
        except RecursionError:
            raise PydanticCustomError("depth", "this is nested too deeply") from None
        if NUL.search(text):
            raise PydanticCustomError("text", "text must not hold the character NUL (U+0000)")
        return value


class Edit(Asked):
    """Turn `init_image` into what the prompt says: invert it under `source_prompt`, then sample."""

    source_prompt: str = Field("", description="what init_image shows", examples=["a red apple, 3d"])


class JobSpec(Asked):
    """What a client asks for. Absent values are filled from the model's card: see `Resolved`."""

    model: str | None = Field(None, max_length=100, description="a name of GET /v1/models")
    prompt: str = Field(description="what the picture shows", examples=["a red apple, 3d"])
    negative_prompt: str = ""
    classes: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list[str],
        max_length=64,
        description="other prompts or labels, for a method that chooses among classes; not the prompt itself",
    )
    init_image: str | None = Field(
        None,
        min_length=1,
        description="the picture to start from: a data URL or base64 of a PNG, JPEG or WebP, or "
        "lodestar:jobs/<id>/images/<k>; scaled to cover width x height and cropped at its centre",
    )
    mask: str | None = Field(
        None,
        min_length=1,
        description="which part of init_image is made anew: a picture of its size in the same forms, white "
        "where it is and black where init_image stays",
    )
    strength: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of the steps that change init_image; 0.8 where there is one, 1 inside a mask",
    )
    edit: Edit | None = Field(None, description="edit init_image instead of starting from its noised form")
    qr: Qr | None = Field(None, description="the QR code that the picture shall be, with guidance srpg")
    seeds: list[Seed] | None = Field(None, min_length=1, description="one picture per seed")
    n: int | None = Field(None, ge=1, description="that many seeds are drawn and returned")
    width: int | None = Field(None, ge=8)
    height: int | None = Field(None, ge=8)
    steps: int | None = Field(None, ge=1)
    sampler: str | None = Field(None, max_length=40, description="a name of GET /v1/samplers")
    guidance: AnyGuidance | None = Field(None, description="one of GET /v1/guidance")
    embedded_scale: float | None = Field(
        None,
        ge=0,
        le=100,
        description="what a model with a guidance scale built in (FLUX.1-dev, LCM) is told. Left out, it is "
        "told the scale of guidance cfg and makes one pass; beside it, guidance makes two",
    )
    clip_skip: int | None = Field(
        None, ge=0, le=22, description="last layers of CLIP that are left out, as diffusers counts them"
    )
    metrics: list[str] = Field(default_factory=lambda: ["basic"], max_length=20)
    preview_every: int = Field(0, ge=0, description="a preview each so many steps; 0 for none")
    priority: Priority = "normal"
    delay_s: float = Field(0, ge=0, le=30 * 86_400, description="begin so many seconds later at the earliest")
    deadline_s: float | None = Field(
        None, gt=0, le=30 * 86_400, description="a job that still waits after so many seconds ends as expired"
    )
    webhook: str | None = Field(
        None,
        max_length=2_000,
        description="a URL that is told of its end, by Standard Webhooks' rules",
    )
    on_disconnect: Literal["continue", "cancel"] = Field(
        "continue", description="what becomes of it when a client that waits for it hangs up"
    )
    tags: list[Annotated[str, Field(max_length=64)]] = Field(default_factory=list[str], max_length=16)
    metadata: dict[str, str] = Field(default_factory=dict[str, str], max_length=16)


class Resolved(Wire):
    """Every value that runs: a `JobSpec` with nothing left open. This is what is queued and stored."""

    model: str
    prompt: str
    negative_prompt: str
    classes: list[str] = Field(default_factory=list[str])
    init_image: str | None = Field(None, description="sha256:... of the picture as it was fitted and stored")
    mask: str | None = Field(None, description="sha256:... of the mask, likewise")
    strength: float | None = None
    edit: Edit | None = None
    qr: Qr | None = None
    seeds: list[Seed]
    width: int
    height: int
    steps: int
    sampler: str
    guidance: AnyGuidance
    embedded_scale: float | None = None
    clip_skip: int | None = None
    metrics: list[str]
    preview_every: int
    priority: Priority

    @property
    def skipped(self) -> int:
        """Steps that are left out because the run starts from a picture."""
        return 0 if self.strength is None else self.steps - steps_from(self.steps, self.strength)

    @property
    def steps_run(self) -> int:
        """Steps that one image takes; an edit goes up to the noise and down again."""
        return 2 * self.steps if self.edit is not None else self.steps - self.skipped


Stage = Literal["queued", "loading", "encoding", "denoising", "decoding", "scoring", "storing", "done"]


class Progress(Wire):
    """How far a running job is. `step` counts all its images' denoising steps; before, the model's parts."""

    step: int = 0
    total: int = 0
    stage: Literal["queued", "loading", "encoding", "denoising", "decoding", "scoring", "storing", "done"] = (
        "queued"
    )

    @property
    def fraction(self) -> float:
        """Share done, in [0, 1]."""
        return self.step / self.total if self.total else 0.0


class Nfe(Wire):
    """Evaluations per image, counted where they were made."""

    model: int = 0
    weak: int = 0
    grad: int = 0
    classifier: int = 0
    decode: int = 0
    shared: int = 0
    """Those of `model` and `weak` that another picture of a comparison had made already."""


class Timings(Wire):
    """Where the time of a job went, in milliseconds."""

    queue_ms: float = 0.0
    load_ms: float = 0.0
    encode_ms: float = 0.0
    denoise_ms: float = 0.0
    decode_ms: float = 0.0
    score_ms: float = 0.0
    store_ms: float = 0.0


ReaderVerdict = Literal["read", "unread", "unavailable"]
"""What a reader makes of a QR code: exactly the payload, or not; unavailable where it is not installed."""


class QrReading(Wire):
    """What a finished QR code is read as, and where its modules are wrong."""

    text: str | None = Field(description="what zxing-cpp reads; None where it reads nothing")
    version: int
    mask: int
    module_px: int = Field(description="pixels per module of the picture")
    quiet_zone: int
    wrong: list[tuple[int, int]] = Field(description="row and column of each module that reads wrong")
    readers: dict[str, ReaderVerdict] = Field(
        default_factory=dict[str, ReaderVerdict], description="reader -> whether it reads exactly the payload"
    )


class ImageResult(Wire):
    """One stored picture. `key` is where the storage has it."""

    index: int
    seed: int
    key: str
    width: int
    height: int
    sha256: str
    metrics: dict[str, float] = Field(default_factory=dict[str, float])
    qr: QrReading | None = None
    previews: list[int] = Field(default_factory=list[int], description="steps of which a preview is kept")


class JobResult(Wire):
    """What a worker hands in when a job has succeeded."""

    images: list[ImageResult]
    trace_key: str | None = None
    nfe: Nfe
    timings: Timings
    metrics: dict[str, float] = Field(default_factory=dict[str, float], description="means over the images")
    warnings: list[str] = Field(default_factory=list[str])
    ran: dict[str, Any] = Field(default_factory=dict[str, Any], description="device, dtype, versions")


class JobError(Wire):
    """Why a job failed, for a person: no traceback, no path."""

    code: str
    message: str
    retryable: bool = False


class FailedAttempt(Wire):
    """An attempt that came to nothing."""

    attempt: int
    at_ms: int
    worker: str
    error: JobError


class JobRecord(Wire):
    """A job as the queue keeps it: the truth that answers and events are made from."""

    id: str
    status: JobStatus
    resolved: Resolved
    input: dict[str, Any]
    """The request as it came."""
    tags: list[str] = Field(default_factory=list[str])
    metadata: dict[str, str] = Field(default_factory=dict[str, str])
    seq: int = 0
    """Increases with every visible change; the id of the last event."""
    attempt: int = 0
    max_attempts: int = 3
    worker_id: str | None = None
    cancel_requested: bool = False
    errors: list[FailedAttempt] = Field(default_factory=list[FailedAttempt])
    """Why attempts failed, the first one first."""
    account: str | None = None
    """The API key that it belongs to."""
    created_at_ms: int
    started_at_ms: int | None = None
    completed_at_ms: int | None = None
    expires_at_ms: int | None = None
    webhook: str | None = None
    deadline_at_ms: int | None = None
    """When it expires if it still waits then."""
    progress: Progress = Field(default_factory=Progress)
    result: JobResult | None = None
    error: JobError | None = None
    ahead: int | None = None
    """How many jobs waited before it: of one that was queued just now."""


EventType = Literal[
    "queued", "start", "progress", "preview", "guidance", "image",
    "completed", "failed", "canceled", "expired",
]  # fmt: skip


class JobEvent(Wire):
    """A hint that a job changed: `seq` is the record's after the change."""

    id: str
    seq: int
    type: Literal[
        "queued",
        "start",
        "progress",
        "preview",
        "guidance",
        "image",
        "completed",
        "failed",
        "canceled",
        "expired",
    ]
    data: dict[str, Any] = Field(default_factory=dict[str, Any])
