"""The picture that a job starts from: read from the request, checked, fitted, and put beside its results.

The queue's record and the answers hold its digest only. Nothing is fetched from anywhere: a picture comes
with the request, or is one that this service made.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
from io import BytesIO

from PIL import Image, ImageOps

from app.admission import Refusal, Refused
from app.jobs import JobSpec, Resolved
from app.queue.base import JobQueue
from app.storage.base import Storage, init_key

MAX_PIXELS = 32_000_000
FORMATS = ("PNG", "JPEG", "WEBP")
OURS = re.compile(r"lodestar:jobs/([0-9A-Za-z-]{26,36})/images/([0-9]{1,4})")
DATA_URL = re.compile(r"data:image/(?:png|jpeg|webp);base64,")
FORMS = (
    "a data URL (data:image/png;base64,...), the base64 of a PNG, JPEG or WebP, or "
    "lodestar:jobs/<id>/images/<k> for a picture of an earlier job"
)


async def take(
    job_id: str,
    spec: JobSpec,
    resolved: Resolved,
    queue: JobQueue,
    storage: Storage,
    account: str | None = None,
) -> tuple[JobSpec, Resolved]:
    """Store `spec.init_image`, fitted to the job's size; both with its digest in its place.

    With an `account`, pictures of its own jobs alone can be named. Raises Refused where it is no picture;
    OSError where nothing can be stored.
    """
    asked = spec.init_image
    if asked is None:
        return spec, resolved
    if ours := OURS.fullmatch(asked):
        data = await _made_here(ours[1], int(ours[2]), queue, storage, account)
    else:
        data = await asyncio.to_thread(read, asked)
    fitted = await asyncio.to_thread(fit, data, resolved.width, resolved.height)
    reference = f"sha256:{hashlib.sha256(fitted).hexdigest()}"
    await storage.put(init_key(job_id, reference), fitted)
    given = {"init_image": reference}
    return spec.model_copy(update=given), resolved.model_copy(update=given)


async def _made_here(
    job_id: str, index: int, queue: JobQueue, storage: Storage, account: str | None
) -> bytes:
    record = await queue.get(job_id)
    if record is not None and account not in (None, record.account):
        record = None
    images = record.result.images if record and record.result else []
    data = await storage.get(images[index].key) if index < len(images) else None
    if data is None:
        raise _refused(f"there is no picture {index} of a job {job_id!r} here; it may have expired")
    return data


def read(text: str) -> bytes:
    """The bytes of a data URL or of bare base64. Raises Refused."""
    if re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE):
        raise _refused(f"pictures are not fetched from addresses; init_image takes {FORMS}")
    try:
        return base64.b64decode(DATA_URL.sub("", text, count=1), validate=True)
    except (binascii.Error, ValueError):
        raise _refused(f"this is no base64; init_image takes {FORMS}") from None


def fit(data: bytes, width: int, height: int) -> bytes:
    """A picture as a PNG of this size: upright, on white, scaled to cover it and cropped at the centre.

    Raises Refused where it is no picture, or too large a one.
    """
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _refused(f"the picture has more than {MAX_PIXELS} pixels; send a smaller one")
            if image.mode.startswith(("I", "F")):
                raise _refused("the picture has more than 8 bits per channel; send one with 8")
            upright = ImageOps.exif_transpose(image)
            fitted = ImageOps.fit(_on_white(upright), (width, height), Image.Resampling.LANCZOS)
    except Refused:
        raise
    except Exception as error:  # Pillow raises many kinds for what is damaged or unpacks to too much
        raise _refused(f"this is no PNG, JPEG or WebP, or a damaged one; init_image takes {FORMS}") from error
    out = BytesIO()
    fitted.save(out, "PNG", compress_level=4)
    return out.getvalue()


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _refused(detail: str) -> Refused:
    return Refused([Refusal("/init_image", detail)])
