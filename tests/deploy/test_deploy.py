"""deploy/ fits what it deploys: settings, ports, probes, times, models, and a Triton started by its own script."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import typer
import yaml
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from commands import app
from labelwise.errors import LabelwiseError
from serving.gateway.supervisor import _CLOSE_WITHIN
from serving.local_triton.install import find_triton
from serving.settings import Settings, load_settings
from tests.conftest import ROOT, free_port, running_gateway
from tests.deploy.files import (
    DEPLOY,
    DOCUMENT,
    compose,
    dockerfile,
    gateway_environment,
    health_command,
    objects,
    passes,
    pod,
    queries,
    read,
    seconds,
)
from tests.polling import PATIENCE, until
from tests.serving.publishing import copy_to_change, publish_next
from tests.test_imports import STAGES

PHOTO = (ROOT / "tests/assets/photos/sea-narwhals.jpg").read_bytes()
PROJECT = (ROOT / "pyproject.toml").read_text()
END = Settings.model_fields["shutdown_timeout"].default + _CLOSE_WITHIN
IMAGES = ("gateway.Dockerfile", "triton.Dockerfile")


def said(name: str, word: str) -> list[str]:
    return [rest for found, rest in dockerfile(name) if found == word]


def test_every_variable_is_a_setting() -> None:
    text = DOCUMENT + "".join(file.read_text() for file in DEPLOY.rglob("*") if file.is_file())
    named = set(re.findall(r"\bLABELWISE_([A-Z_]+)", text))
    assert named >= {"ENGINE", "KEYS", "TRITON_URL"}
    assert {name.lower() for name in named} <= set(Settings.model_fields)


@pytest.mark.parametrize("where", ["image", "compose", "kubernetes"])
def test_the_settings_are_accepted_as_they_are_written(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = dict(re.findall(r"\b(LABELWISE_[A-Z_]+)=(\S+)", "".join(said("gateway.Dockerfile", "ENV"))))
    added = {"image": {}, "compose": compose()["gateway"]["environment"], "kubernetes": gateway_environment()}[where]
    for name, value in (image | added).items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert (settings.host, settings.repository) == ("0.0.0.0", Path("/models"))
    assert settings.triton_load == bool(settings.triton_url) == (where != "image")
    assert (settings.keys is not None) == (where != "image"), "nobody is served without a key unless somebody says so"


def test_the_command_line_is_ours() -> None:
    assert said("gateway.Dockerfile", "ENTRYPOINT") == ['["labelwise"]']
    assert '\nlabelwise = "commands:main"\n' in PROJECT
    commands = typer.main.get_command(app).commands
    (command,) = map(json.loads, said("gateway.Dockerfile", "CMD"))
    assert command[0] in commands
    named = set(re.findall(r"(?:gateway|labelwise) keys (\w+)", DOCUMENT))
    assert named == {"add", "list", "revoke"} & set(commands["keys"].commands)


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_made_of_what_is_sent_to_its_build(image: str) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert all((ROOT / name).exists() for name in sent)
    sources = {part for rest in said(image, "COPY") if "--from" not in rest for part in rest.split()[:-1]}
    assert {source for source in sources if not source.startswith("--")} <= {*sent, "."}
    (listed,) = re.findall(r"^include = \[(.*)\]", PROJECT, flags=re.MULTILINE)
    packages = set(re.findall(r'"(\w+)', listed))
    assert packages == set(STAGES)
    assert packages | {"pyproject.toml", "README.md"} <= sent
    assert not sent & {"tests", "benchmarks", "docs", ".git", ".venv", "runs", "data", "labelwise.keys"}


def pinned(file: Path) -> dict[tuple[str, str], str]:
    """(package, version) -> its marker, and fails where a package has no hash."""
    text = file.read_text().replace("\\\n", " ")
    entries = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = {}
    for entry in entries:
        match = re.match(r"([\w.-]+)==(\S+?)(?: ; (.*?))?(?:\s+--hash=|\s*$)", entry)
        assert match, entry
        found[match[1], match[2]] = match[3] or ""
    if file.parent == DEPLOY:
        assert all("--hash=sha256:" in entry for entry in entries)
    return found


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("requirements.txt", {"fastapi", "opentelemetry-sdk", "onnx", "setuptools"}),
        ("triton-requirements.txt", {"pillow", "numpy"}),
    ],
)
def test_images_install_the_locked_versions_by_hash(name: str, needed: set[str]) -> None:
    """If they do not: `make lock`, which writes these files after constraints.txt."""
    locked, installed = set(pinned(ROOT / "constraints.txt")), set(pinned(DEPLOY / name))
    assert needed <= {package for package, _ in installed}
    assert installed - {each for each in installed if each[0] == "setuptools"} <= locked
    assert any(f"deploy/{name}" in rest for image in IMAGES for rest in said(image, "COPY"))


def test_the_gateway_s_requirements_hold_every_dependency() -> None:
    installed = {package for package, _ in pinned(DEPLOY / "requirements.txt")}
    (listed,) = re.findall(r"^dependencies = \[\n(.*?)^\]", PROJECT, flags=re.MULTILINE | re.DOTALL)
    needed = {name.lower() for name in re.findall(r'^\s*"([\w.-]+)', listed, flags=re.MULTILINE)}
    assert len(needed) > 10
    assert needed <= installed


def test_base_images_are_named_by_what_they_hold() -> None:
    """Triton's digest could not be looked up, and docs/deploy.md says so."""
    for image, argument in (("gateway.Dockerfile", "PYTHON"), ("triton.Dockerfile", "TRITON")):
        (default,) = (rest for rest in said(image, "ARG") if rest.startswith(f"{argument}="))
        assert {rest.partition(" ")[0] for rest in said(image, "FROM")} == {f"${{{argument}}}"}
        assert argument == "TRITON" or re.search(r"@sha256:[0-9a-f]{64}$", default)
    assert re.search(r":v[\d.]+@sha256:[0-9a-f]{64}$", compose()["prometheus"]["image"])


def test_every_place_names_the_same_version() -> None:
    (version,) = re.findall(r'^version = "(.+)"', PROJECT, flags=re.MULTILINE)
    tags = re.findall(r"newTag: ([\d.]+)", (DEPLOY / "kubernetes/kustomization.yaml").read_text())
    newest = re.findall(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[0]
    assert {*tags, newest} == {version}
    assert len(tags) == 2


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_says_what_it_is_and_is_not_root(image: str) -> None:
    label = " ".join(said(image, "LABEL"))
    for field in ("version", "license"):
        (value,) = re.findall(rf'^{field} = "(.+)"', PROJECT, flags=re.MULTILINE)
        assert re.search(rf'org\.opencontainers\.image\.{field}s?="{re.escape(value)}"', label)
    (user,) = said(image, "USER")
    kind, name = {"g": ("Deployment", "gateway"), "t": ("StatefulSet", "triton")}[image[0]]
    security = pod(kind, name)["securityContext"]
    assert user == f"{security['runAsUser']}:{security['runAsGroup']}"
    assert security["runAsUser"] > 0


def test_ports_are_those_that_are_listened_on() -> None:
    port = str(Settings.model_fields["port"].default)
    assert said("gateway.Dockerfile", "EXPOSE") == [port]
    assert compose()["gateway"]["ports"] == [f"{port}:{port}"]
    (container,) = pod("Deployment", "gateway")["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": int(port)}]
    (triton,) = pod("StatefulSet", "triton")["containers"]
    ports = {each["name"]: each["containerPort"] for each in triton["ports"]}
    fields = Settings.model_fields
    assert ports == {"grpc": fields["triton_grpc_port"].default, "metrics": fields["triton_metrics_port"].default}
    assert said("triton.Dockerfile", "EXPOSE") == [" ".join(map(str, ports.values()))]
    assert {each["name"]: each["port"] for each in objects()["Service", "triton"]["spec"]["ports"]} == ports
    assert f'targets: ["triton:{ports["metrics"]}"]' in read("prometheus/triton.yaml")
    assert f'targets: ["gateway:{port}"]' in read("prometheus/prometheus.yaml")


def test_probes_are_answered(gateway_url: str) -> None:
    (container,) = pod("Deployment", "gateway")["containers"]
    probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")]
    for probe in probes:
        assert probe["port"] == "http"
        assert httpx.get(gateway_url + probe["path"]).status_code == 200
    assert httpx.get(f"{gateway_url}/metrics").status_code == 200  # where annotations and Prometheus look by themselves


def test_the_health_check_tells_life_from_death(gateway_url: str) -> None:
    port = httpx.URL(gateway_url).port
    assert port
    passes(sys.executable, *health_command("gateway.Dockerfile", port))
    dead = subprocess.run([sys.executable, *health_command("gateway.Dockerfile", free_port())], capture_output=True)
    assert dead.returncode == 1


def test_what_was_accepted_has_the_time_to_end() -> None:
    assert seconds(compose()["gateway"]["stop_grace_period"]) == END
    gateway = pod("Deployment", "gateway")
    (container,) = gateway["containers"]
    word, pause = container["lifecycle"]["preStop"]["exec"]["command"]
    assert word == "sleep"
    assert gateway["terminationGracePeriodSeconds"] == END + float(pause)
    (within,) = re.findall(r"--exit-timeout-secs=(\d+)", read("triton.sh"))
    assert int(within) >= Settings.model_fields["request_timeout"].default
    assert int(within) < seconds(compose()["triton"]["stop_grace_period"])
    assert int(within) < pod("StatefulSet", "triton")["terminationGracePeriodSeconds"]
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > Settings.model_fields["start_timeout"].default


def test_memory_is_enough_for_what_is_accepted() -> None:
    fields = Settings.model_fields
    most = fields["max_pending_bytes"].default + 18 * fields["max_decoding_pixels"].default + 200 * 2**20
    assert most < 3 * 2**30
    assert compose()["gateway"]["mem_limit"] == "3g"
    assert pod("Deployment", "gateway")["containers"][0]["resources"]["limits"]["memory"] == "3Gi"


def test_compose_confines_every_service_and_shows_only_the_gateway() -> None:
    services = compose()
    assert set(services) == {"gateway", "triton", "prometheus"}
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert re.fullmatch(r"\dg", service["mem_limit"]), name
    outward = {port for name in ("triton", "prometheus") for port in services[name].get("ports", [])}
    assert all(port.startswith("127.0.0.1:") for port in outward)
    assert services["triton"]["networks"] == ["back"]
    assert compose()["gateway"]["environment"]["LABELWISE_TRITON_URL"] == "triton:8001"
    assert re.search(r"^  back:\n    internal: true", read("compose.yaml"), flags=re.MULTILINE)
    for name in ("gateway", "triton"):
        assert "${MODELS:-../model_repository}:/models:ro" in services[name]["volumes"]
        assert said(f"{name}.Dockerfile", "COPY")[-1].endswith("model_repository /models")


def test_compose_for_teaching_mounts_volumes_that_the_user_may_write() -> None:
    (gateway,) = yaml.safe_load(read("compose.teach.yaml"))["services"].values()
    chosen = {name.removeprefix("LABELWISE_").lower(): value for name, value in gateway["environment"].items()}
    settings = Settings.model_validate(chosen)
    assert settings.teach
    assert gateway["volumes"] == ["${MODELS:-models}:/models", f"feedback:{settings.feedback.parent}"]
    image = read("gateway.Dockerfile")
    assert "COPY --chown=10001:10001 model_repository /models" in image
    assert f"/keys {settings.feedback.parent}\n" in image  # made for the user
    photos = Settings.model_fields["max_teach_body"].default  # /tmp is memory
    assert (3 + 2.1) * 2**30 + photos < int(gateway["mem_limit"][0]) * 2**30


def compose_command() -> list[str]:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and not subprocess.run([*command, "version"], capture_output=True).returncode:
            return command
    pytest.skip("no Docker Compose here")


@pytest.mark.parametrize("more", [[], ["compose.triton.yaml"], ["compose.teach.yaml"]])
def test_compose_itself_accepts_the_files(more: list[str]) -> None:
    command = compose_command()
    chosen = [argument for name in ("compose.yaml", *more) for argument in ("-f", str(DEPLOY / name))]
    answer = passes(*command, *chosen, "--profile", "monitoring", "config", "--format", "json")
    services = {"gateway", "prometheus", *(["triton"] if "compose.triton.yaml" in more else [])}
    assert set(json.loads(answer)["services"]) == services


def test_every_file_the_document_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", DOCUMENT)
    links += [f"../{path}" for path in re.findall(r"(?<![/\w])deploy/[\w./]+\w", DOCUMENT) if "scrape.key" not in path]
    assert len(links) > 8
    assert not [link for link in links if not (ROOT / "docs" / link).exists()]


@contextmanager
def started_triton(repository: Path, folder: Path) -> Iterator[dict[str, int]]:
    """A Triton started by deploy/triton.sh, as its image does; what follows is what a wheel needs beyond an image."""
    try:
        install = find_triton()
    except LabelwiseError as error:
        pytest.skip(str(error))
    (folder / "models").symlink_to(repository)  # the Python backend knows no spaces in paths
    (folder / "backends").mkdir()
    ports = {name: free_port() for name in ("grpc", "http", "metrics")}
    command = ["sh", str(DEPLOY / "triton.sh"), *(f"--{name}-port={port}" for name, port in ports.items())]
    if not install.has_onnxruntime:
        command += ["--model-config-name=python"]
    command += [f"--backend-directory={install.lay_out_backends(folder / 'backends')}"]
    path = f"{install.binary.parent}{os.pathsep}{install.environment()['PATH']}"
    environment = install.environment() | {"PATH": path, "MODELS": str(folder / "models")}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        until(lambda: process.poll() is not None or is_healthy(ports))
        assert process.poll() is None, (folder / "log").read_text()
        yield ports
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0


def is_healthy(ports: dict[str, int]) -> bool:
    """What the image and the cluster ask; both ask the same."""
    check = health_command("triton.Dockerfile", ports["http"])
    (container,) = pod("StatefulSet", "triton")["containers"]
    _, *probe = container["readinessProbe"]["exec"]["command"]
    assert [part.replace("8000", str(ports["http"])) for part in probe] == check
    return subprocess.run([sys.executable, *check], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def triton_ports(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    with started_triton(repository, tmp_path_factory.mktemp("triton")) as ports:
        yield ports


def test_a_broken_version_neither_ends_triton_nor_makes_it_unready(repository: Path, tmp_path: Path) -> None:
    """At its start, that of a tagger beside the one that is whole; and while it runs, a newer one of that."""
    copy = copy_to_change(repository, tmp_path / "repository")
    publish_next(copy, name="other", broken=True)
    (tmp_path / "triton").mkdir()
    with (
        started_triton(copy, tmp_path / "triton") as ports,
        grpc.InferenceServerClient(f"127.0.0.1:{ports['grpc']}") as client,
    ):
        assert not client.is_model_ready("other_model")
        publish_next(copy, broken=True)
        with pytest.raises(InferenceServerException):
            client.load_model("scenes")
        assert client.is_model_ready("scenes_model", "1")
        assert client.is_server_ready()
        assert is_healthy(ports)
        client.unload_model("scenes_model")
        until(lambda: not client.is_model_ready("scenes_model", "1"))
        assert client.is_server_ready()
        assert not is_healthy(ports)  # no model is left to serve


def test_triton_keeps_to_itself_what_the_gateway_has_no_use_for(triton_ports: dict[str, int]) -> None:
    with grpc.InferenceServerClient(f"127.0.0.1:{triton_ports['grpc']}") as client:
        names = {model.name: model.state for model in client.get_model_repository_index().models}
        assert names == dict.fromkeys(["scenes", "scenes_decode", "scenes_model"], "READY")
        for ask in (client.get_trace_settings, client.get_log_settings, client.get_system_shared_memory_status):
            with pytest.raises(InferenceServerException, match="restricted"):
                ask()


def test_the_gateway_of_kubernetes_serves_through_the_tritons_that_are_there(triton_ports: dict[str, int]) -> None:
    settings = {name.removeprefix("LABELWISE_"): value for name, value in gateway_environment().items()}
    names = settings["TRITON_URL"].split(",")
    ours = f"127.0.0.1:{triton_ports['grpc']}"
    settings |= {"TRITON_URL": ",".join([ours, *names[1:]])}  # the others' names do not resolve here
    del settings["KEYS"]
    with running_gateway(**{name.lower(): value for name, value in settings.items()}) as (url, _):
        assert httpx.get(f"{url}/v2/health/ready").status_code == 200
        answer = httpx.post(f"{url}/v1/tag", content=PHOTO)
        assert [tag["label"] for tag in answer.json()["tags"]] == ["sea"]
    metrics = httpx.get(f"http://127.0.0.1:{triton_ports['metrics']}/metrics").text
    for name in re.findall(r"nv_\w+", queries()["autoscaler"]):
        assert re.search(rf'^{name}{{model="scenes_model",version="1"}} [1-9]', metrics, flags=re.MULTILINE)
