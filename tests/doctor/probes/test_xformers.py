"""xformers is tried where it is installed, on a GPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest

from ftlab_doctor.probes import xformers


def test_where_it_is_not_installed_it_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert xformers.main() == {"skipped": "xformers is not installed"}


def test_without_a_gpu_it_is_skipped(
    monkeypatch: pytest.MonkeyPatch, torch_sees: Callable[[int], None]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    torch_sees(0)
    assert "no GPU" in str(xformers.main()["skipped"])
