"""The picture that a job starts from, and its mask: read, checked, fitted, and put beside the job's results.

The queue's record and the answers hold its digest only. Nothing is fetched from anywhere: a picture comes
with the request, or is one that this service made.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from io import BytesIO
from typing import Literal

from PIL import Image, ImageOps

from app.admission import Refusal, Refused
from app.jobs import JobSpec, Resolved
from app.queue.base import JobQueue
from app.storage.base import Storage, init_key

MAX_PIXELS = 32_000_000
Name = Literal["init_image", "mask"]
FORMATS = ("PNG", "JPEG", "WEBP")
OURS = re.compile(r"lodestar:jobs/([0-9A-Za-z-]{26,36})/(?:images/([0-9]{1,4})|(init_image|mask))")
DATA_URL = re.compile(r"data:image/(?:png|jpeg|webp);base64,")
FORMS = (
    "a data URL (data:image/png;base64,...), the base64 of a PNG, JPEG or WebP, or "
    "lodestar:jobs/<id>/images/<k> for a picture of an earlier job (.../init_image, .../mask: its beginning)"
)


async def take(
    job_id: str,
    spec: JobSpec,
    resolved: Resolved,
    queue: JobQueue,
    storage: Storage,
    account: str | None = None,
) -> tuple[JobSpec, Resolved]:
    """Store `spec.init_image` and `spec.mask`, fitted to the job's size; both with digests in their places.

    With an `account`, pictures of its own jobs alone can be named. Raises Refused where one is no picture;
    OSError where nothing can be stored.
    """
    if spec.init_image is None:
        return spec, resolved
    size = resolved.width, resolved.height
    fitted = await fetch(spec.init_image, spec.mask, size, queue, storage, account)
    given = digests(fitted)
    for name, png in fitted.items():
        await storage.put(init_key(job_id, given[name]), png)
    return spec.model_copy(update=given), resolved.model_copy(update=given)


async def fetch(
    asked: str,
    mask: str | None,
    size: tuple[int, int],
    queue: JobQueue,
    storage: Storage,
    account: str | None = None,
) -> dict[Name, bytes]:
    """The picture that `asked` holds or names and its mask, fitted to this size. Raises Refused."""
    picture = await _data(asked, "init_image", queue, storage, account)
    fitted: dict[Name, bytes] = {"init_image": await asyncio.to_thread(fit, picture, *size)}
    if mask is not None:
        data = await _data(mask, "mask", queue, storage, account)
        fitted["mask"] = await asyncio.to_thread(fit_mask, data, picture, *size)
    return fitted


def digests(fitted: Mapping[Name, bytes]) -> dict[str, str]:
    """What stands for these pictures in a request that was taken in."""
    return {name: f"sha256:{hashlib.sha256(png).hexdigest()}" for name, png in fitted.items()}


async def _data(asked: str, name: Name, queue: JobQueue, storage: Storage, account: str | None) -> bytes:
    """The bytes that a request's field `name` holds or names."""
    if ours := OURS.fullmatch(asked):
        return await _made_here(name, ours, queue, storage, account)
    return await asyncio.to_thread(read, asked, name)


async def _made_here(
    name: Name, ours: re.Match[str], queue: JobQueue, storage: Storage, account: str | None
) -> bytes:
    """A picture of the job in this name, by its index, or what the job began with."""
    job_id, index, began = ours.groups()
    record = await queue.get(job_id)
    if record is not None and account not in (None, record.account):
        record = None
    key = None
    if record is not None and began is not None:
        reference = record.resolved.mask if began == "mask" else record.resolved.init_image
        key = init_key(job_id, reference) if reference else None
    elif record is not None and index is not None and record.result is not None:
        images = record.result.images
        key = images[int(index)].key if int(index) < len(images) else None
    data = await storage.get(key) if key else None
    if data is None:
        what = f"{began} of a job" if index is None else f"picture {index} of a job"
        raise _refused(f"there is no {what} {job_id!r} here; it may have expired", name)
    return data


def read(text: str, name: Name = "init_image") -> bytes:
    """The bytes of a data URL or of bare base64. Raises Refused."""
    if re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE):
        raise _refused(f"pictures are not fetched from addresses; {name} takes {FORMS}", name)
    try:
        return base64.b64decode(DATA_URL.sub("", text, count=1), validate=True)
    except (binascii.Error, ValueError):
        raise _refused(f"this is no base64; {name} takes {FORMS}", name) from None


def fit(data: bytes, width: int, height: int) -> bytes:
    """A picture as a PNG of this size: upright, on white, scaled to cover it and cropped at the centre.

    Raises Refused where it is no picture, or too large a one.
    """
    return _png(_fitted(_on_white(_upright(data, "init_image")), width, height))


def fit_mask(data: bytes, picture: bytes, width: int, height: int) -> bytes:
    """The mask of `picture`, fitted as that is: a PNG of this size, white where it is made anew, else black.

    Raises Refused where it is no picture, or none of one size with the other, or nowhere white.
    """
    mask, size = _upright(data, "mask"), _upright(picture, "init_image").size
    if mask.size != size:
        sizes = f"the mask is {mask.width}x{mask.height} and init_image {size[0]}x{size[1]}"
        raise _refused(f"{sizes}; send them in one size", "mask")
    if mask.has_transparency_data and mask.convert("RGBA").getchannel("A").getextrema()[0] != 255:
        raise _refused("the mask is transparent in places; send one in black and white", "mask")
    fitted = _fitted(mask.convert("L"), width, height).point([0] * 128 + [255] * 128)
    if not fitted.getbbox():
        detail = "the mask is nowhere white, so nothing would change; white is made anew, black stays"
        raise _refused(detail, "mask")
    return _png(fitted)


def _upright(data: bytes, name: Name) -> Image.Image:
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _refused(f"the picture has more than {MAX_PIXELS} pixels; send a smaller one", name)
            if image.mode.startswith(("I", "F")):
                raise _refused("the picture has more than 8 bits per channel; send one with 8", name)
            return ImageOps.exif_transpose(image)
    except Refused:
        raise
    except Exception as error:  # Pillow raises many kinds for what is damaged or unpacks to too much
        detail = f"this is no PNG, JPEG or WebP, or a damaged one; {name} takes {FORMS}"
        raise _refused(detail, name) from error


def _fitted(image: Image.Image, width: int, height: int) -> Image.Image:
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)


def _png(image: Image.Image) -> bytes:
    out = BytesIO()
    image.save(out, "PNG", compress_level=4)
    return out.getvalue()


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _refused(detail: str, name: Name) -> Refused:
    return Refused([Refusal(f"/{name}", detail)])
