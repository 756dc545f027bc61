"""deploy/kubernetes builds, is valid, and its parts mean each other."""

import importlib
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.files import DEPLOY, gateway_environment, kustomization, objects, passes, pod, read

WORKLOADS = [("Deployment", "gateway"), ("StatefulSet", "triton")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would send, with the volume, which is everything."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    folder = tmp_path_factory.mktemp("kubernetes") / "all"
    shutil.copytree(DEPLOY / "kubernetes", folder)
    file = folder / "kustomization.yaml"
    text = file.read_text()
    assert "\n# components: [live-models]" in text
    file.write_text(text.replace("\n# components: [live-models]", "\ncomponents: [live-models, monitoring]"))
    return list(yaml.safe_load_all(passes("kubectl", "kustomize", folder)))


def test_it_builds_with_or_without_the_volume(built: list[dict[str, Any]]) -> None:
    plain = list(yaml.safe_load_all(passes("kubectl", "kustomize", DEPLOY / "kubernetes")))
    (claim,) = [each for each in built if each["kind"] == "PersistentVolumeClaim"]
    assert len(built) == len(plain) + 2  # the volume, and the monitor
    assert {each["metadata"].get("namespace", each["metadata"]["name"]) for each in built} == {"labelwise"}
    for kind, _ in WORKLOADS:
        before, after = (
            next(o for o in each if o["kind"] == kind)["spec"]["template"]["spec"] for each in (plain, built)
        )
        assert "models" not in {volume["name"] for volume in before["volumes"]}
        (volume,) = [volume for volume in after["volumes"] if volume["name"] == "models"]
        assert volume["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"], "readOnly": True}
        (container,) = after["containers"]
        assert {"name": "models", "mountPath": "/models", "readOnly": True} in container["volumeMounts"]
        assert container["image"].startswith("registry.example.org/labelwise-")


def test_kubernetes_knows_every_field(built: list[dict[str, Any]]) -> None:
    try:
        schemas = importlib.import_module("kubernetes_validate")
    except ImportError:
        pytest.skip("kubernetes-validate is not installed: it is 100 MB of schemas")
    for each in built:
        if each["kind"] == "PodMonitor":  # a kind of the Prometheus Operator, which these schemas lack
            continue
        schemas.validate(each, "1.30", strict=True)


@pytest.mark.parametrize(("kind", "name"), WORKLOADS)
def test_pods_may_run_in_a_restricted_namespace(kind: str, name: str) -> None:
    labels = objects()["Namespace", "labelwise"]["metadata"]["labels"]
    assert labels == {"pod-security.kubernetes.io/enforce": "restricted"}
    spec = pod(kind, name)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container["resources"]["limits"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


@pytest.mark.parametrize(("kind", "name"), WORKLOADS)
def test_selectors_find_the_pods(kind: str, name: str) -> None:
    workload = objects()[kind, name]["spec"]
    labels = workload["template"]["metadata"]["labels"]
    assert workload["selector"]["matchLabels"] == labels
    assert objects()["Service", name]["spec"]["selector"] == labels
    assert objects()["PodDisruptionBudget", name]["spec"]["selector"]["matchLabels"] == labels


def test_only_gateways_reach_triton_and_only_prometheus_its_metrics() -> None:
    policy = objects()["NetworkPolicy", "triton"]["spec"]
    labels = {name: objects()[kind, name]["spec"]["template"]["metadata"]["labels"] for kind, name in WORKLOADS}
    assert policy["podSelector"]["matchLabels"] == labels["triton"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert "egress" not in policy
    inference, metrics = policy["ingress"]
    assert inference == {"from": [{"podSelector": {"matchLabels": labels["gateway"]}}], "ports": [{"port": 8001}]}
    assert metrics["ports"] == [{"port": 8002}]
    assert set(metrics["from"][0]) == {"namespaceSelector"}


def test_gateways_are_reached_from_two_namespaces_and_reach_tritons_and_names_alone() -> None:
    policy = objects()["NetworkPolicy", "gateway"]["spec"]
    labels = {name: objects()[kind, name]["spec"]["template"]["metadata"]["labels"] for kind, name in WORKLOADS}
    assert policy["podSelector"]["matchLabels"] == labels["gateway"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    (ingress,) = policy["ingress"]
    assert ingress["ports"] == [{"port": 8000}]
    assert all(set(each) == {"namespaceSelector"} and each["namespaceSelector"] for each in ingress["from"])
    tritons, names = policy["egress"]
    assert tritons == {"to": [{"podSelector": {"matchLabels": labels["triton"]}}], "ports": [{"port": 8001}]}
    assert {each["port"] for each in names["ports"]} == {53}


def test_metrics_of_the_gateway_need_a_key() -> None:
    assert "LABELWISE_PUBLIC_METRICS" not in gateway_environment()
    assert "annotations" not in objects()["Deployment", "gateway"]["spec"]["template"]["metadata"]
    monitor = yaml.safe_load(read("kubernetes/monitoring/gateway.yaml"))["spec"]
    assert monitor["selector"]["matchLabels"] == objects()["Service", "gateway"]["spec"]["selector"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    secret, key = (endpoint["authorization"]["credentials"][name] for name in ("name", "key"))
    component = read("kubernetes/monitoring/kustomization.yaml")
    assert f"create secret generic {secret} --from-file={key}\n" in component


def test_the_gateway_knows_every_triton_that_may_be_started() -> None:
    scaler = objects()["HorizontalPodAutoscaler", "triton"]["spec"]
    service = objects()["StatefulSet", "triton"]["spec"]["serviceName"]
    assert objects()["Service", service]["spec"]["clusterIP"] == "None"
    pods = [f"triton-{number}.{service}:8001" for number in range(scaler["maxReplicas"])]
    assert gateway_environment()["LABELWISE_TRITON_URL"].split(",") == pods
    assert 1 < scaler["minReplicas"] < scaler["maxReplicas"], "one is replaced while another answers"
    assert "replicas" not in objects()["StatefulSet", "triton"]["spec"]  # each apply would undo the autoscaler's work


def test_the_autoscaler_asks_for_what_the_adapter_offers() -> None:
    (metric,) = objects()["HorizontalPodAutoscaler", "triton"]["spec"]["metrics"]
    (rule,) = yaml.safe_load(read("kubernetes/prometheus-adapter.yaml"))["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    assert set(rule["resources"]["overrides"]) == set(re.findall(r'(\w+)!=""', rule["seriesQuery"]))


def test_keys_and_images_are_called_the_same_everywhere() -> None:
    keys = Path(gateway_environment()["LABELWISE_KEYS"])
    spec = pod("Deployment", "gateway")
    (mount,) = [mount for mount in spec["containers"][0]["volumeMounts"] if mount["name"] == "keys"]
    assert Path(mount["mountPath"]) == keys.parent
    secret = next(volume["secret"]["secretName"] for volume in spec["volumes"] if volume["name"] == "keys")
    document = (DEPLOY.parent / "docs/deploy.md").read_text()
    assert f"create secret generic {secret} --from-file={keys.name}\n" in document
    used = {container["image"] for kind, name in WORKLOADS for container in pod(kind, name)["containers"]}
    assert {image["name"] for image in kustomization()["images"]} == used
