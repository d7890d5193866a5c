"""What wheels say of themselves, from made-up files of a site-packages."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ftlab_doctor.collect import builds


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for name in ("torch/lib", "xformers", "bitsandbytes", "triton/backends/nvidia/bin"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def _collect(site: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {"packages": [{"name": "torch", "version": "2", "location": str(site)}]}
    builds.collect(facts)
    found: dict[str, Any] = facts["builds"]
    return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("__version__ = '2.4.1+cu121'\ncuda: Optional[str] = '12.1'\nhip: Optional[str] = None\n", {"version": "2.4.1+cu121", "cuda": "12.1"}),
        ("__version__ = '2.4.1+cpu'\ncuda: Optional[str] = None\n", {"version": "2.4.1+cpu"}),
        ("__version__ = '2.5.0+rocm6.2'\ncuda = None\nhip = '6.2.41133'\n", {"version": "2.5.0+rocm6.2", "hip": "6.2.41133"}),
    ],
)  # fmt: skip
def test_torch(site: Path, text: str, found: dict[str, str]) -> None:
    (site / "torch/version.py").write_text(text)
    assert _collect(site)["torch"] == found | {"libtorch_cuda": False}


def test_xformers_says_what_it_was_built_for(site: Path) -> None:
    file = site / "xformers/cpp_lib.json"
    file.write_text(json.dumps({"version": {"torch": "2.4.1+cu121", "cuda": 1201}, "env": {"TORCH_CUDA_ARCH_LIST": "7.0"}}))  # fmt: skip
    assert _collect(site)["xformers"] == {"torch": "2.4.1+cu121", "cuda": 1201, "arch_list": "7.0"}
    file.write_text("{")
    assert "broken" in _collect(site)["xformers"]


def test_the_libraries_of_bitsandbytes_are_numbers(site: Path) -> None:
    for name in ("libbitsandbytes_cuda121.so", "libbitsandbytes_cuda128.so", "libbitsandbytes_cpu.so"):  # fmt: skip
        (site / "bitsandbytes" / name).write_bytes(b"no ELF")
    assert _collect(site)["bitsandbytes"] == {"binaries": {"121": [], "128": []}}


def test_ptxas_is_asked(site: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TRITON_PTXAS_PATH", raising=False)
    ptxas = site / "triton/backends/nvidia/bin/ptxas"
    ptxas.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 12.4, V12.4.99'\n")
    ptxas.chmod(0o755)
    assert _collect(site)["triton"] == {"ptxas": "12.4"}
    ptxas.write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setenv("TRITON_PTXAS_PATH", str(tmp_path / "none"))
    found = _collect(site)["triton"]
    assert found["ptxas"].startswith("does not run")
    assert found["override"] == "does not run"


def test_nothing_installed_is_nothing_said(tmp_path: Path) -> None:
    assert _collect(tmp_path) == {}
    assert os.listdir(tmp_path) == []
