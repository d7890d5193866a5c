"""Limits of control groups, of both versions, wherever on the way up they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftlab_doctor.collect import cgroup

GIB = 1 << 30


def _limits(root: Path, own: str, **files: str) -> dict[str, int]:
    for path, content in files.items():
        file = root / path.replace("__", "/").replace("_max", ".max")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    (root / "own").write_text(own)
    return cgroup.limits(str(root), str(root / "own"))


def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    found = _limits(tmp_path, "0::/\n", memory_max=f"{4 * GIB}\n", cpu_max="150000 100000\n", pids_max="max\n")  # fmt: skip
    assert found == {"memory": 4 * GIB, "cpu": 1500, "pids": -1}


def test_the_least_of_all_groups_above_counts(tmp_path: Path) -> None:
    """A job of Slurm: the step has no limit, its job has one, the slice has a larger one."""
    found = _limits(
        tmp_path, "0::/system.slice/job_7/step_0\n",
        system_slice__x="", **{"system.slice__memory_max": f"{64 * GIB}", "system.slice__job_7__memory_max": f"{8 * GIB}",
                               "system.slice__job_7__step_0__memory_max": "max", "system.slice__job_7__pids_max": "100"},
    )  # fmt: skip
    assert (found["memory"], found["pids"], found["cpu"]) == (8 * GIB, 100, -1)


def test_version_one(tmp_path: Path) -> None:
    own = "11:memory:/slurm/job_7\n10:cpu,cpuacct:/slurm/job_7\n9:pids:/\n0::/\n"
    group = tmp_path / "memory/slurm/job_7"
    group.mkdir(parents=True)
    (tmp_path / "memory/memory.limit_in_bytes").write_text(str((1 << 63) - 4096))  # no limit
    (group / "memory.limit_in_bytes").write_text(str(2 * GIB))
    cpu = tmp_path / "cpu,cpuacct/slurm/job_7"
    cpu.mkdir(parents=True)
    (cpu / "cpu.cfs_quota_us").write_text("400000\n")
    (cpu / "cpu.cfs_period_us").write_text("100000\n")
    assert _limits(tmp_path, own) == {"memory": 2 * GIB, "cpu": 4000, "pids": -1}


@pytest.mark.parametrize("own", ["", "rubbish", "0::/../../etc\n", "0::/gone/away\n"])
def test_without_groups_there_is_no_limit(tmp_path: Path, own: str) -> None:
    assert _limits(tmp_path, own) == {"memory": -1, "cpu": -1, "pids": -1}


@pytest.mark.parametrize("content", ["max 100000", "100000 0", "", "x y"])
def test_a_quota_that_is_none(tmp_path: Path, content: str) -> None:
    assert _limits(tmp_path, "0::/\n", cpu_max=content)["cpu"] == -1
