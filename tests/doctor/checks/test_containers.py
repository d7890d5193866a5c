"""Engines: rootless, with podman, with settings of another kind; and pods."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('docker-a100', {'commands': {'docker info': {'out': 'no json'}}}, 'docker.daemon', 'warn', 'not running'),
    ('docker-a100', {'commands': {'docker info': {'rc': None, 'out': '', 'error': 'no answer'}}}, 'docker.daemon', 'warn', 'does not answer'),
    ('docker-a100', {'files': {'/etc/nvidia-container-runtime/config.toml': '  no-cgroups = true'}}, 'docker.no-cgroups', 'fail', 'root'),
    ('docker-a100', {}, 'docker.no-cgroups', 'ok', ''),
    ('docker-a100', {'programs': {'podman': '/usr/bin/podman'}}, 'podman.cdi', 'skip', 'Docker is asked'),
    ('ubuntu-t4', {'programs': {'podman': '/usr/bin/podman', 'nvidia-ctk': '/usr/bin/nvidia-ctk'}}, 'podman.cdi', 'warn', 'no CDI file'),
    ('ubuntu-t4', {'places': {'shm': {'total': 536870912}}}, 'container.shm', 'warn', '512 MB'),
    ('in-docker-a100', {'places': {'shm': {'total': 536870912}}}, 'container.shm', 'warn', '512 MB'),
    ('in-docker-a100', {'env': {'NVIDIA_DRIVER_CAPABILITIES': 'all'}}, 'container.capabilities', 'ok', 'all'),
    ('in-docker-a100', {'env': {'NVIDIA_REQUIRE_CUDA': 'cuda>=12.8', 'NVIDIA_DISABLE_REQUIRE': '1'}}, 'container.require', 'ok', ''),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_a_container(name: str, patch: dict[str, Any], check: str, status: str, words: str) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
