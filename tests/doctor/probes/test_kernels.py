"""Our kernels are tried where they are installed."""

from __future__ import annotations

import importlib.util

import pytest

from ftlab_doctor.probes import kernels


def test_where_it_is_not_installed_it_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert kernels.main() == {"skipped": "ftlab_kernels is not installed"}
