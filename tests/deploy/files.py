"""What deploy/ says, read as those who use it would."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.polling import PATIENCE

DEPLOY = ROOT / "deploy"
DOCUMENT = (ROOT / "docs/deploy.md").read_text()


def read(name: str) -> str:
    return (DEPLOY / name).read_text()


def dockerfile(name: str) -> list[tuple[str, str]]:
    """Its instructions, each with what follows it in one line."""
    text = re.sub(r"^\s*#.*\n", "", read(name), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def health_command(name: str, port: int) -> list[str]:
    """That of an image's HEALTHCHECK, asking `port` of this machine instead of the image's own."""
    (check,) = (rest for word, rest in dockerfile(name) if word == "HEALTHCHECK")
    python, *arguments = json.loads(check.partition("CMD ")[2])
    assert python.startswith("python")
    (program,) = arguments[1:]
    assert "8000" in program
    return [arguments[0], program.replace("8000", str(port))]


def compose() -> dict[str, dict[str, Any]]:
    """The services of both files together, which say nothing twice but environments and volumes."""
    services: dict[str, dict[str, Any]] = {}
    for name in ("compose.yaml", "compose.triton.yaml"):
        for service, said in yaml.safe_load(read(name))["services"].items():
            before = services.setdefault(service, {})
            for key, value in said.items():
                merged = {"environment": lambda b, v: b | v, "volumes": lambda b, v: b + v}.get(key)
                assert key not in before or merged, f"{service}.{key} is said twice"
                before[key] = merged(before[key], value) if merged and key in before else value
    return services


def seconds(duration: str) -> float:
    assert duration.endswith("s"), duration
    return float(duration.removesuffix("s"))


def kustomization() -> dict[str, Any]:
    return dict(yaml.safe_load(read("kubernetes/kustomization.yaml")))


def objects() -> dict[tuple[str, str], dict[str, Any]]:
    """By kind and name, as they are written."""
    found = [o for name in kustomization()["resources"] for o in yaml.safe_load_all(read(f"kubernetes/{name}"))]
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def pod(kind: str, name: str) -> dict[str, Any]:
    return dict(objects()[kind, name]["spec"]["template"]["spec"])


def gateway_environment() -> dict[str, str]:
    """That of the gateway on Kubernetes; its pod's own variables are numbers of cores."""
    (generated,) = kustomization()["configMapGenerator"]
    (container,) = pod("Deployment", "gateway")["containers"]
    literals = dict(literal.split("=", 1) for literal in generated["literals"])
    return literals | {variable["name"]: "2" for variable in container["env"]}


def queries() -> dict[str, str]:
    """Every PromQL expression of alerts, dashboard and autoscaler, by where it stands."""
    groups = yaml.safe_load(read("prometheus/alerts.yaml"))["groups"]
    found = {f"alert {rule['alert']}": rule["expr"] for group in groups for rule in group["rules"]}
    for panel in json.loads(read("prometheus/dashboard.json"))["panels"]:
        for target in panel["targets"]:
            found[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    (rule,) = yaml.safe_load(read("kubernetes/prometheus-adapter.yaml"))["rules"]["custom"]
    matchers = rule["metricsQuery"].replace("<<.LabelMatchers>>", 'pod="triton-0"')
    return found | {"autoscaler": matchers.replace("<<.GroupBy>>", "pod")}


def passes(*command: str | Path, **options: Any) -> str:
    words = list(map(str, command))
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False, **options)
    if done.returncode:
        pytest.fail(f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout
