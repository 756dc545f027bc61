"""The key file: what it stores, who may read it, and that it can change under a running gateway."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labelwise.errors import LabelwiseError
from serving.gateway.access.keys import KeyRing, add_key, read_keys, revoke_key
from tests.conftest import ROOT
from tests.polling import until


@pytest.fixture
def always_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.gateway.access.keys._SECONDS_BETWEEN_LOOKS", 0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "labelwise.keys"


def name_in(ring: KeyRing, key: str) -> str | None:
    found = ring.find(key)
    return found and found.name


def test_only_a_hash_is_stored_and_for_the_owner_alone(file: Path) -> None:
    key = add_key(file, "ci")
    assert key.startswith("lw_")
    assert len(key) == 46  # 256 bits in base64
    assert key not in file.read_text()
    assert key.removeprefix("lw_") not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [entry.name for entry in read_keys(file)] == ["ci"]
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]  # nothing left aside


def test_several_keys_each_with_its_name(file: Path) -> None:
    keys = {name: add_key(file, name) for name in ("ci", "phone", "backup.2")}
    ring = KeyRing(file)
    assert {name: name_in(ring, key) for name, key in keys.items()} == {name: name for name in keys}
    wrong = ["", "lw_", keys["ci"][:-1], keys["ci"] + "A", keys["ci"].upper(), " " + keys["ci"], "ü", "\udcff"]
    assert [name_in(ring, key) for key in wrong] == [None] * len(wrong)


def test_what_a_key_may(file: Path) -> None:
    add_key(file, "tags")
    both, teaches = add_key(file, "both", ["feedback", "teach"]), add_key(file, "teaches", ["teach"])
    file.write_text(file.read_text() + f"by-hand sha256:{'0' * 64} may=feedback\n")
    assert [key.may for key in read_keys(file)] == [(), ("teach", "feedback"), ("teach",), ("feedback",)]
    assert [key.made for key in read_keys(file)][-1] == ""
    ring = KeyRing(file)
    assert [found.may for key in (both, teaches) if (found := ring.find(key))] == [("teach", "feedback"), ("teach",)]


def test_keys_that_are_made_at_once_are_all_kept(file: Path) -> None:
    names = [f"ci-{number}" for number in range(16)]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(add_key, [file] * len(names), names))
    assert {key.name for key in read_keys(file)} == set(names)


def test_what_an_operator_wrote_stays(file: Path) -> None:
    file.write_text("# keys of the photo team\n\n")
    file.chmod(0o640)
    add_key(file, "ci")
    add_key(file, "phone")
    revoke_key(file, "ci")
    lines = file.read_text().splitlines()
    assert lines[:2] == ["# keys of the photo team", ""]
    assert [line.split()[0] for line in lines[2:]] == ["phone"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.usefixtures("always_looking")
def test_a_changed_file_takes_effect_without_a_restart(file: Path) -> None:
    first = add_key(file, "first")
    ring = KeyRing(file)
    second = add_key(file, "second")
    until(lambda: name_in(ring, second) == "second")
    revoke_key(file, "first")
    until(lambda: name_in(ring, first) is None)
    assert name_in(ring, second) == "second"


@pytest.mark.usefixtures("always_looking")
def test_removed_or_broken_keys_are_not_valid(file: Path) -> None:
    first, second = add_key(file, "first"), add_key(file, "second")
    ring = KeyRing(file)
    whole = file.read_text()
    file.write_text(whole.replace("first sha256:", "first sha257:"))
    until(lambda: name_in(ring, first) is None)
    assert name_in(ring, second) == "second"
    file.unlink()
    until(lambda: name_in(ring, second) is None)
    if hasattr(os, "mkfifo"):
        os.mkfifo(file)  # opening it to read would wait for a writer, and the event loop with it
        until(lambda: name_in(ring, second) is None)
        file.unlink()
    file.write_text(whole)
    until(lambda: name_in(ring, first) == "first")
    file.write_text(whole + "#" * 2**20)  # to read without end would take all memory
    until(lambda: name_in(ring, first) is None)
    file.write_text(whole)
    until(lambda: name_in(ring, first) == "first")


WRONG_ENDS = [f"ci sha256:{'0' * 64} {end}" for end in ("may=", "may=tag", "2026-11-29 may=teach,", "may=teach 2026")]


@pytest.mark.parametrize(
    "line", ["ci", "ci secret", "ci sha256:12", "ci sha256:" + "g" * 64, "c i sha256:" + "0" * 64, *WRONG_ENDS]
)
def test_a_broken_file_is_refused_with_the_line(file: Path, line: str) -> None:
    add_key(file, "fine")
    with file.open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(LabelwiseError, match="line 2"):
        KeyRing(file)


def test_wrong_names(file: Path) -> None:
    add_key(file, "ci")
    before = file.read_text()
    for name in ("", "a b", "a\nb", "#a", "ü", "x" * 65):
        with pytest.raises(LabelwiseError, match="name"):
            add_key(file, name)
    with pytest.raises(LabelwiseError, match="already has a key named ci"):
        add_key(file, "ci")
    with pytest.raises(LabelwiseError, match="may teach or feedback besides tagging, not 'tag'"):
        add_key(file, "cd", ["teach", "tag"])
    with pytest.raises(LabelwiseError, match="no key named cd"):
        revoke_key(file, "cd")
    assert file.read_text() == before


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(LabelwiseError, match="Cannot write"):
        add_key(tmp_path / "nowhere" / "labelwise.keys", "ci")


def test_the_command_line(file: Path) -> None:
    def keys(*arguments: str, code: int = 0) -> tuple[str, str]:
        command = [sys.executable, "-m", "labelwise", "keys", *arguments]
        environment = os.environ | {"LABELWISE_KEYS": str(file)}
        result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
        assert result.returncode == code, result.stderr
        return result.stdout, result.stderr

    key, advice = keys("add", "ci")
    assert name_in(KeyRing(file), key.strip()) == "ci"
    assert f"--keys {file}" in advice
    keys("add", "teacher", "--may", "teach", "--may", "feedback")
    assert [line.split()[::2] for line in keys("list")[0].splitlines()] == [["ci"], ["teacher", "may", "feedback"]]
    keys("revoke", "teacher")
    assert keys("revoke", "ci")[0] == "Revoked ci.\n"
    assert keys("list")[0] == ""
    assert len(keys("revoke", "ci", code=1)[1].splitlines()) == 1
