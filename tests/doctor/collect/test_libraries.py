"""Folders of libraries: links followed, uninteresting names left out, LD_LIBRARY_PATH in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftlab_doctor.collect import libraries


def test_links_are_followed_and_only_what_matters_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, away = tmp_path / "here", tmp_path / "away"
    for folder in (here, away):
        folder.mkdir()
    (here / "libcuda.so.535.1").touch()
    (here / "libcuda.so.1").symlink_to("libcuda.so.535.1")
    (away / "libcudnn.so.9.1").touch()
    (here / "libcudnn.so.9").symlink_to(away / "libcudnn.so.9.1")
    (here / "libreadline.so.8").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", f":{here}:{tmp_path}/none")
    facts: dict[str, Any] = {"python": {"prefix": str(tmp_path)}, "packages": []}
    libraries.collect(facts)
    assert facts["libraries"]["dirs"][str(here)] == {
        "libcuda.so.1": "libcuda.so.535.1",
        "libcuda.so.535.1": "libcuda.so.535.1",
        "libcudnn.so.9": str(away / "libcudnn.so.9.1"),
    }
    assert str(tmp_path / "none") not in facts["libraries"]["dirs"]


def test_torch_s_own_folders_are_listed_whole(tmp_path: Path) -> None:
    for name in ("torch/lib/libother.so", "nvidia/cudnn/lib/libcudnn.so.9"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    package = {"name": "torch", "location": str(tmp_path)}
    facts: dict[str, Any] = {"python": {"prefix": "/nowhere"}, "packages": [package, package]}
    libraries.collect(facts)
    assert facts["libraries"]["dirs"][f"{tmp_path}/torch/lib"] == {"libother.so": "libother.so"}
    assert f"{tmp_path}/nvidia/cudnn/lib" in facts["libraries"]["dirs"]
