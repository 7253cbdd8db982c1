"""Examples for openapi.json: what a service was asked and answered, as `docs.examples` records it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("examples.json")
JSON = "application/json"


def add_examples(schema: dict[str, Any]) -> None:
    """Put them where they belong: a request beside its body, an answer beside each that succeeds."""
    for operation, said in json.loads(FILE.read_text()).items():
        method, path = operation.split(" ")
        told = schema["paths"][path][method.lower()]
        if "request" in said:
            told["requestBody"]["content"][JSON]["example"] = said["request"]
        if "response" in said:
            for status, answer in told["responses"].items():
                if status.startswith("2"):
                    answer["content"][JSON]["example"] = said["response"]
