"""More is asked of whatever lent it: an engine, a pod, a scheduler, or nobody."""

from __future__ import annotations

from typing import Any

import pytest

from ftlab_doctor import starting
from ftlab_doctor.host import Host

DOCKER, PODMAN = {"files": {"/.dockerenv": True}}, {"files": {"/run/.containerenv": True}}
POD = {"env": {"KUBERNETES_SERVICE_HOST": "<ip1>"}}
SLURM = {"env": {"SLURM_JOB_ID": "7"}}


@pytest.mark.parametrize(
    ("facts", "what", "words"),
    [
        (DOCKER, "memory", "docker run --memory=32g"),
        (PODMAN, "shm", "podman run --shm-size=8g ...  # or --ipc=host"),
        (POD, "shm", "emptyDir of medium Memory"),
        (POD, "cpu", "resources.limits.cpu"),
        (SLURM, "memory", "sbatch --mem=32G"),
    ],
)
def test_by_kind(facts: dict[str, Any], what: str, words: str) -> None:
    fix = starting.more(Host(facts), what)
    assert fix
    assert words in fix.cmd
    assert fix.where == "host"


@pytest.mark.parametrize(("facts", "what"), [({}, "memory"), (SLURM, "shm"), (POD, "memlock")])
def test_where_nobody_lent_it(facts: dict[str, Any], what: str) -> None:
    assert starting.more(Host(facts), what) is None
