"""What `lodestar compare` does: have a running service make a comparison, and wait for it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from tqdm import tqdm

from app.client import ApiError, Client, NoAnswer
from app.console import value_of
from guidance import REGISTRY

POLL_S = 0.5


class CannotCompare(Exception):
    """No comparison; the message is for a person and says what to do."""


@dataclass(frozen=True, slots=True)
class Made:
    """A comparison that has ended: its report, how many pictures there are, why others are not, its page."""

    report: str
    pictures: int
    failures: list[str]
    page: str


def parse_arm(text: str) -> dict[str, Any]:
    """`method`, `method:scale` or `method:scale,key=value,...` as an arm to ask for. Raises CannotCompare."""
    method, _, rest = text.partition(":")
    if method not in REGISTRY:
        raise CannotCompare(f"arm {text!r}: no guidance method {method!r}; there are: {', '.join(REGISTRY)}")
    values: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        key, value = (key, value) if equals else ("scale", key)
        values[key] = value_of(value)
    guidance = {"method": method, **values}
    try:
        REGISTRY[method].model_validate(guidance)
    except ValidationError as error:
        said = "; ".join(
            f"{'/'.join(map(str, one['loc'])) or method}: {one['msg']}" for one in error.errors()
        )
        raise CannotCompare(f"arm {text!r}: {said}; write it like apg:10 or apg:10,eta=0.5") from None
    return {"label": text, "guidance": guidance}


def compare(
    client: Client,
    prompts: Sequence[str],
    arms: Sequence[Mapping[str, Any]],
    seeds: Sequence[int],
    fields: Mapping[str, Any],
    equal_nfe: bool = False,
) -> Made:
    """Have every cell made. Raises CannotCompare; when it is stopped, what is queued is canceled.

    `fields`: what all cells say besides (model, steps, ...). With `equal_nfe` each arm takes the steps at
    which it costs as many evaluations of the network as the first one, or nearly.
    """
    asked = {
        **fields,
        "prompts": list(prompts),
        "arms": list(arms),
        "seeds": list(seeds),
        "priority": "normal",
    }
    try:
        if equal_nfe:
            told = client.request("POST", "/v1/comparisons/estimate", asked).json()["arms"]
            asked["arms"] = [
                {**arm, "steps": one["matched_steps"]} for arm, one in zip(arms, told, strict=True)
            ]
        state = client.request("POST", "/v1/comparisons", asked).json()
        path = f"/v1/comparisons/{state['id']}"
        try:
            _wait(client, path, len(state["cells"]))
        except BaseException:
            client.request("POST", f"{path}/cancel")
            raise
        state = client.request("GET", path).json()
        made = [cell for cell in state["cells"] if cell["images"]]
        failures = [
            f"{state['arms'][cell['arm']]['label']}, {state['prompts'][cell['prompt']]!r}: {cell['status']}: "
            f"{(cell['error'] or {}).get('message', 'no reason was given')}"
            for cell in state["cells"]
            if not cell["images"]
        ]
        if not made:
            raise CannotCompare("no picture was made: " + "; ".join(dict.fromkeys(failures)))
        report = client.request("GET", f"{path}/export.html").text
    except NoAnswer as error:
        raise CannotCompare(f"the service does not answer: {error}") from error
    except ApiError as error:
        raise CannotCompare(f"the service refused: {_told(error, arms)}") from error
    return Made(report, len(made), failures, state["urls"]["page"])


def _wait(client: Client, path: str, cells: int) -> None:
    with tqdm(total=cells, unit="picture") as bar:
        while True:
            state = client.request("GET", path).json()
            open_cells = sum(state["counts"].get(name, 0) for name in ("queued", "starting", "processing"))
            bar.update(cells - open_cells - bar.n)
            if not open_cells:
                return
            time.sleep(POLL_S)


def _told(error: ApiError, arms: Sequence[Mapping[str, Any]]) -> str:
    """Each thing that is wrong, with the arm as the person wrote it."""
    lines = list[str]()
    for one in error.errors:
        pointer = str(one.get("pointer"))
        parts = pointer.split("/")
        if parts[1:2] == ["arms"] and len(parts) > 2:
            pointer = " ".join([f"arm {arms[int(parts[2])]['label']!r}", *parts[3:]])
        lines.append(f"{pointer}: {one.get('detail')}")
    return "; ".join(lines) or error.detail
