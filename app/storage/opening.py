"""The storage that the settings name."""

from __future__ import annotations

from app.settings import Settings
from app.storage.base import Storage
from app.storage.local import LocalStorage


def open_storage(settings: Settings) -> Storage:
    """`s3://bucket/prefix`, or a directory in `data_dir`. ValueError says what is missing."""
    if settings.storage_url is None:
        return LocalStorage(settings.data_dir)
    try:
        from app.storage.s3 import S3Storage
    except ImportError as error:
        install = "pip install 'lodestar-diffusion[s3]'"
        raise ValueError(f"an s3:// storage needs one more package: {install}") from error
    return S3Storage(settings.storage_url)
