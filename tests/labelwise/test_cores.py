"""What a container may use of its machine."""

import os
from pathlib import Path

import pytest

from labelwise import cores


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cores, "_CGROUP", tmp_path)
    return tmp_path


def test_without_a_limit_every_core_of_the_mask_counts(cgroup: Path):
    assert cores.usable_cores() == len(os.sched_getaffinity(0))
    (cgroup / "cpu.max").write_text("max 100000\n")
    assert (cores.core_limit(), cores.usable_cores()) == (None, len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(("quota", "limit", "usable"), [(50_000, 0.5, 1), (100_000, 1.0, 1), (10**9, 10_000.0, None)])
def test_a_containers_limit_counts(cgroup: Path, quota: int, limit: float, usable: int | None):
    (cgroup / "cpu.max").write_text(f"{quota} 100000\n")
    assert cores.core_limit() == limit
    assert cores.usable_cores() == (usable or len(os.sched_getaffinity(0)))


def test_a_limit_of_version_1(cgroup: Path):
    (cgroup / "cpu").mkdir()
    (cgroup / "cpu/cpu.cfs_period_us").write_text("100000\n")
    (cgroup / "cpu/cpu.cfs_quota_us").write_text("150000\n")
    assert cores.core_limit() == 1.5
    (cgroup / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    assert cores.core_limit() is None


def test_memory(cgroup: Path):
    assert cores.memory_limit() is None
    (cgroup / "memory.max").write_text("max\n")
    assert cores.memory_limit() is None
    (cgroup / "memory.max").write_text("536870912\n")
    assert cores.memory_limit() == 512 * 2**20
    assert (cores.memory_of_machine() or 0) > 2**28
