"""The examples in openapi.json, as a running service answers: `python -m docs.examples [--url http://...]`.

Without --url it starts a service of its own, which makes a few small pictures with the built-in model.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
from pathlib import Path
from typing import Any

import httpx

from docs.pictures import as_is, started

FILE = Path(__file__).resolve().parent.parent / "app" / "api" / "examples.json"
CFG = {"method": "cfg", "scale": 4}
VOTER = {"voter": "voter-0001"}
ASKED: dict[str, Any] = {
    "POST /v1/jobs": {
        "prompt": "a red apple, 3d",
        "seeds": [1],
        "steps": 10,
        "guidance": {"method": "apg", "scale": 6},
    },
    "POST /v1/estimate": {"prompt": "a red apple, 3d", "n": 2, "guidance": CFG},
    "POST /v1/batches": {
        "axes": {"prompt": ["a cat, 3d", "a dog, 3d"], "steps": [5, 10]},
        "defaults": {"seeds": [1]},
    },
    "POST /v1/comparisons": {
        "title": "Saturation at the same seed",
        "prompts": ["a red apple, 3d"],
        "seeds": [1, 2],
        "steps": 10,
        "metrics": ["basic", "clip"],
        "arms": [{"guidance": CFG}, {"label": "CFG++", "guidance": {"method": "cfgpp", "scale": 0.6}}],
    },
    "POST /v1/images/generations": {"prompt": "a red apple, 3d", "n": 1, "size": "64x64", "steps": 5},
    "POST /sdapi/v1/txt2img": {"prompt": "a red apple, 3d", "steps": 5, "cfg_scale": 4, "seed": 1},
    "POST /sdapi/v1/options": {"sd_model_checkpoint": "emoji"},
    "POST /models/{model}": {
        "inputs": "a red apple, 3d",
        "parameters": {"num_inference_steps": 5, "guidance_scale": 4, "seed": 1},
    },
    "PATCH /v1/comparisons/{id}": {"title": "Apples"},
    "POST /v1/comparisons/{id}/ballots": VOTER,
    "POST /v1/comparisons/{id}/ballots/{ticket}/vote": {"choice": "left", "reveal": True},
}
KEPT = ("GET /v1/session", "POST /v1/session", "GET /v1/comparisons/{id}/calibration")
"""Written by hand, since they take a key, or more pictures than an example is worth."""
LISTS = ("guidance", "models", "samplers", "metrics", "queue/dead", "workers")


def main() -> None:
    """Record all examples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", help="a running service; without it, one is started")
    url = parser.parse_args().url
    with started() if url is None else as_is(url) as where:
        found = Recorder(where).record()
    before = json.loads(FILE.read_text())
    found |= {operation: before[operation] for operation in KEPT}
    FILE.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(found)} operations in {FILE}")


class Recorder:
    """Asks everything once; `found` maps an operation to its example request and response."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=120)
        self.found: dict[str, dict[str, Any]] = {}

    def record(self) -> dict[str, dict[str, Any]]:
        """All examples, in the words of no machine in particular."""
        job = self.ask("POST /v1/jobs", headers={"Prefer": "wait=60"})["id"]
        comparison = self.ask("POST /v1/comparisons")["id"]
        cells = self._http.get(f"/v1/comparisons/{comparison}").json()["cells"]
        for cell in cells:
            self._http.get(f"/v1/jobs/{cell['job']}", params={"wait": 60})
        self._of_jobs(job)
        self._of_comparisons(comparison)
        batch = self.ask("POST /v1/batches")["id"]
        self.ask("GET /v1/batches/{id}", id=batch)
        self.ask("POST /v1/batches/{id}/cancel", id=batch)
        for name in LISTS:
            self.ask(f"GET /v1/{name}")
        self.ask("GET /v1/guidance/{method}", method="cfg")
        self.ask("GET /v1/models/{id}", id="emoji")
        for path in ("/v1/queue", "/healthz", "/readyz"):
            self.ask(f"GET {path}")
        for name in ("progress", "samplers", "schedulers", "sd-models", "options"):
            self.ask(f"GET /sdapi/v1/{name}")
        for name in ("txt2img", "interrupt", "options"):
            self.ask(f"POST /sdapi/v1/{name}")
        self.ask("POST /v1/images/generations")
        self.ask("POST /models/{model}", model="emoji")
        self.found["POST /"] = self.found["POST /models/{model}"]
        return self.found

    def _of_jobs(self, job: str) -> None:
        self.ask("POST /v1/estimate")
        self.ask("GET /v1/jobs")
        self.found["PUT /v1/jobs/{id}"] = self.found["POST /v1/jobs"]
        self.ask("GET /v1/jobs/{id}", id=job)
        self.ask("GET /v1/jobs/{id}/trace", id=job)
        self.ask("GET /v1/jobs/{id}/deliveries", id=job)
        self.ask("POST /v1/jobs/{id}/retry", id=job)
        self.ask("POST /v1/jobs/{id}/cancel", id=job)
        self._http.get(f"/v1/jobs/{job}", params={"wait": 60})
        self.ask("DELETE /v1/jobs/{id}", id=job)

    def _of_comparisons(self, comparison: str) -> None:
        self.ask("GET /v1/comparisons")
        estimated = self.found["POST /v1/comparisons"]["request"]
        self.ask("POST /v1/comparisons/estimate", body=estimated)
        self.ask("GET /v1/comparisons/{id}", id=comparison)
        self.ask("PATCH /v1/comparisons/{id}", id=comparison)
        ballot = self.ask("POST /v1/comparisons/{id}/ballots", id=comparison)
        places = {"id": comparison, "ticket": ballot["ticket"]}
        self.ask("POST /v1/comparisons/{id}/ballots/{ticket}/vote", **places)
        self.ask("GET /v1/comparisons/{id}/results", id=comparison)
        self.ask("GET /v1/comparisons/{id}/disputed", id=comparison)
        self.ask("GET /v1/comparisons/{id}/distribution", id=comparison)
        self.ask("POST /v1/comparisons/{id}/retry", id=comparison)
        self.ask("POST /v1/comparisons/{id}/cancel", id=comparison)
        for cell in self._http.get(f"/v1/comparisons/{comparison}").json()["cells"]:
            self._http.get(f"/v1/jobs/{cell['job']}", params={"wait": 60})
        self.ask("DELETE /v1/comparisons/{id}", id=comparison)

    def ask(self, operation: str, body: Any = None, headers: Any = None, **places: str) -> Any:
        """Ask once, and keep what was said on both sides."""
        method, path = operation.split(" ")
        body = body or ASKED.get(operation)
        answer = self._http.request(method, path.format(**places), json=body, headers=headers)
        assert answer.is_success, f"{operation}: {answer.text}"
        kept = self.found.setdefault(operation, {})
        if body is not None:
            kept["request"] = body
        if "json" in answer.headers["content-type"]:
            kept["response"] = shortened(json.loads(self._nowhere(answer.text)))
            return answer.json()
        return None

    def _nowhere(self, text: str) -> str:
        """The text without this machine's name and address."""
        text = text.replace(self._url, "http://127.0.0.1:8000").replace(platform.node(), "gpu-1")
        return re.sub(r'"pid": ?\d+', '"pid": 4242', text)


def shortened(value: Any) -> Any:
    """The first of many, and the beginning of pictures: an example shows the shape."""
    match value:
        case dict():
            return {
                name: dict([*one.items()][:2]) if name == "takes" else shortened(one)
                for name, one in value.items()
            }
        case [dict() as first, *_] if "allowed" not in first and "index" not in first:
            return [shortened(first)]
        case list():
            return [shortened(one) for one in value[:2]]
        case str() if len(value) > 400:
            return f"{value[:32]}..."
        case _:
            return value


if __name__ == "__main__":
    main()
