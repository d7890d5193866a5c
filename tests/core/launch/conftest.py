"""An imitated engine for the launcher's tests."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An imitated engine that DOCKER_HOST names; see fake_engine.py."""
    pytest.importorskip("docker")
    path = Path(__file__).with_name("fake_engine.py")
    spec = importlib.util.spec_from_file_location("fake_engine", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with (
        tempfile.TemporaryDirectory() as folder,  # a socket's path must be short
        module.Engine(Path(folder) / "s") as made,
    ):
        monkeypatch.setenv("DOCKER_HOST", made.address)
        monkeypatch.setenv("HF_HOME", str(Path(folder) / "hub"))
        monkeypatch.delenv("FTLAB_IMAGE", raising=False)
        yield made
