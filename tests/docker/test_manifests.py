"""The manifests are valid YAML and name what the program has: keys, settings, commands."""

from pathlib import Path

import yaml

from app.jobs import JobStatus
from app.queue.keys import Key, Keys
from app.settings import Settings

FOLDER = Path(__file__).parents[2] / "docker" / "k8s"


def test_manifests_name_what_there_is() -> None:
    found = [one for path in FOLDER.glob("*.yaml") for one in yaml.safe_load_all(path.read_text())]
    by_kind = {one["kind"]: one for one in found}
    keys = Keys(Settings().redis_prefix)
    watched = {trigger["metadata"]["listName"] for trigger in by_kind["ScaledObject"]["spec"]["triggers"]}
    assert watched == {keys(Key.STATUS, JobStatus.QUEUED), keys(Key.LEASES)}
    target = by_kind["ScaledObject"]["spec"]["scaleTargetRef"]["name"]
    assert target == by_kind["Deployment"]["metadata"]["name"]
    pod = by_kind["Deployment"]["spec"]["template"]["spec"]
    env = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    settings = {name.removeprefix("LODESTAR_").lower() for name in env if name.startswith("LODESTAR_")}
    assert settings <= set(Settings.model_fields)
    assert pod["terminationGracePeriodSeconds"] > float(env["LODESTAR_DRAIN_S"] or 0)
