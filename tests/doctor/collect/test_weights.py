"""Folders of models: whole, cloned without Git LFS, cut off, or lacking shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftlab_doctor.collect import weights

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"


def _tensors(path: Path, size: int, *, cut: int = 0) -> None:
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}, "__metadata__": {}}).encode()  # fmt: skip
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size - cut))


def _look(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = weights.describe(str(folder))["model"]
    return found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    _tensors(tmp_path / "model.safetensors", 64)
    return tmp_path


def test_a_whole_model(model: Path) -> None:
    found = _look(model)
    assert (found["pointers"], found["missing"], found["short"]) == ([], [], [])
    assert set(found["files"]) == {"config.json", "model.safetensors"}


def test_a_pointer_of_git_lfs(model: Path) -> None:
    (model / "model.safetensors").write_text(POINTER)
    found = _look(model)
    assert (found["pointers"], found["short"]) == (["model.safetensors"], [])


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 7, b"\xff" * 9, (5).to_bytes(8, "little") + b"{nope"]
)
def test_a_file_that_is_no_safetensors_is_short(model: Path, content: bytes) -> None:
    (model / "model.safetensors").write_bytes(content)
    assert _look(model)["short"] == ["model.safetensors"]


def test_a_download_that_was_cut_off(model: Path) -> None:
    _tensors(model / "model.safetensors", 64, cut=1)
    assert _look(model)["short"] == ["model.safetensors"]


def test_shards_that_the_index_names(model: Path) -> None:
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}))  # fmt: skip
    assert _look(model)["missing"] == ["model-2.safetensors"]
    index.write_text("no json")
    assert _look(model)["pointers"] == [index.name]


@pytest.mark.parametrize("name", ["", "org/model-of-the-hub", "/nowhere"])
def test_what_is_no_folder_is_not_looked_at(name: str) -> None:
    assert weights.describe(name) == {}
