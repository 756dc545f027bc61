"""`from labelwise import Tagger` is what a user types; importing labelwise alone loads nothing that takes time."""

import subprocess
import sys

import pytest

import labelwise
from serving import client
from tests.conftest import ROOT


def run(program: str) -> list[str]:
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return answer.stdout.split()


def test_importing_labelwise_is_light() -> None:
    heavy = '{"numpy", "PIL", "pydantic", "httpx", "tritonclient", "grpc", "onnxruntime", "serving", "typer"}'
    assert run(f"import sys, labelwise; print(*{heavy} & {{*sys.modules}})") == []


def test_the_client_is_there_when_it_is_used() -> None:
    assert run("from labelwise import Tagger; print(Tagger.__module__)") == ["serving.client.tagger"]


def test_every_public_name_is_there() -> None:
    assert {*client.__all__, "LabelwiseError", "__version__"} == {*labelwise.__all__} <= {*dir(labelwise)}
    for name in client.__all__:
        assert getattr(labelwise, name) is getattr(client, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'labelwise' has no attribute 'Tager'"):
        labelwise.Tager  # noqa: B018
