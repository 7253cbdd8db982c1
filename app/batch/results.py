"""A batch's output folder: its identity, its pictures, and `results.jsonl`, from which it goes on."""

from __future__ import annotations

import json
import os
import sys
from array import array
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

from app.storage.local import write_whole

BATCH, RESULTS, IMAGES = "batch.json", "results.jsonl", "images"


class BatchError(Exception):
    """The batch cannot run, or go on; the message is for a person and says what to do."""


class Results:
    """`results.jsonl`: one line for a row's outcome, the latest counts. Eight bytes of memory a row."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offsets = array("q")
        self._file = path.open("a+b")
        self._index()

    def _index(self) -> None:
        """Find the lines by row number; the rest of one that was being written when we died is cut off."""
        self._file.seek(0)
        offset = 0
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                self._note(int(json.loads(line)["line"]), offset)
            except (ValueError, KeyError, TypeError):
                self._file.close()
                raise BatchError(
                    f"line {number} of {self._path} is none of ours; repair or remove that file"
                ) from None
            offset += len(line)
        self._file.truncate(offset)

    def _note(self, line: int, offset: int) -> None:
        missing = line + 1 - len(self._offsets)
        if missing > 0:
            self._offsets.extend([-1] * missing)
        self._offsets[line] = offset

    def get(self, line: int) -> dict[str, Any] | None:
        """The outcome of a row, if there is one."""
        if line >= len(self._offsets) or self._offsets[line] < 0:
            return None
        self._file.seek(self._offsets[line])
        return json.loads(self._file.readline())

    def put(self, line: int, outcome: dict[str, Any]) -> None:
        """Add the outcome of a row."""
        offset = self._file.seek(0, os.SEEK_END)
        text = json.dumps({"line": line, **outcome}, default=str)  # a refused row may hold anything
        self._file.write(text.encode() + b"\n")
        self._file.flush()
        self._note(line, offset)

    def tidy(self) -> None:
        """Put the lines in the order of the rows and drop those that no longer count."""
        found = [(line, offset) for line, offset in enumerate(self._offsets) if offset >= 0]
        beside = self._path.with_suffix(".new")
        with beside.open("w+b") as file:
            for line, offset in found:
                self._file.seek(offset)
                self._offsets[line] = file.tell()
                file.write(self._file.readline())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        self._file.close()
        self._file = self._path.open("a+b")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Folder:
    """The output folder of one batch; one process at a time. Raises BatchError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            (path / IMAGES).mkdir(parents=True, exist_ok=True)
            if (path / RESULTS).exists() and not (path / BATCH).exists():
                raise BatchError(f"{path} holds the {RESULTS} of something else; choose another folder")
            self._lock = (path / BATCH).open("a+")
        except OSError as error:
            raise BatchError(f"cannot write into {path}: {error.strerror}") from error
        if not _locked(self._lock.fileno()):
            self._lock.close()
            raise BatchError(f"another run works in {path}; wait for it, or choose another folder")
        try:
            self.id = self._identity()
            self.results = Results(path / RESULTS)
        except BaseException:
            self._lock.close()
            raise

    def _identity(self) -> UUID:
        self._lock.seek(0)
        if text := self._lock.read():
            return _id_in(self.path / BATCH, text)
        identity = uuid4()
        self._lock.write(json.dumps({"id": str(identity)}) + "\n")
        self._lock.flush()
        return identity

    def has(self, outcome: dict[str, Any]) -> bool:
        """Whether the pictures of an outcome are still there."""
        return all((self.path / image["file"]).is_file() for image in outcome["images"])

    def write_image(self, line: int, index: int, png: bytes) -> str:
        """Write a picture, whole or not at all; its path in the folder."""
        file = f"{IMAGES}/{line:06d}-{index}.png"
        write_whole(self.path / file, png)
        return file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.results.close()
        self._lock.close()


def batch_id(path: Path) -> UUID:
    """The identity of the batch whose results lie in `path`. Raises BatchError."""
    try:
        return _id_in(path / BATCH, (path / BATCH).read_text())
    except OSError:
        raise BatchError(f"no batch has written into {path}: there is no {BATCH}") from None


def _id_in(path: Path, text: str) -> UUID:
    try:
        return UUID(json.loads(text)["id"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BatchError(f"{path} is damaged; choose another folder") from None


def _locked(descriptor: int) -> bool:
    """Whether the file is ours alone until it is closed, or this process ends."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
