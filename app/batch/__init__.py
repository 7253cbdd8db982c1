"""Large offline work straight through the queue: rows in, pictures and `results.jsonl` out."""

from app.batch.client import BatchClient
from app.batch.results import BatchError
from app.batch.rows import BadRow, Row, read_jsonl
from app.batch.run import Tally

__all__ = ["BadRow", "BatchClient", "BatchError", "Row", "Tally", "read_jsonl"]
