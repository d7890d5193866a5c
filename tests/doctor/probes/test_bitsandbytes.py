"""bitsandbytes is tried where it is installed."""

from __future__ import annotations

import importlib.util

import pytest

from ftlab_doctor.probes import bitsandbytes


def test_where_it_is_not_installed_it_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert bitsandbytes.main() == {"skipped": "bitsandbytes is not installed"}
