"""Where files go, and what can be said of a folder that is not there yet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ftlab_doctor.collect import places


def test_variables_move_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "TRITON_CACHE_DIR", "TRITON_HOME", "FTLAB_RUNS"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places.folders()["hf"] == f"{tmp_path}/.cache/huggingface/hub"
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert places.folders()["hf"] == "/c/huggingface/hub"
    monkeypatch.setenv("HF_HOME", "/h")
    monkeypatch.setenv("TRITON_HOME", "/t")
    found = places.folders()
    assert (found["hf"], found["datasets"], found["triton"]) == ("/h/hub", "/h/datasets", "/t/.triton/cache")  # fmt: skip
    monkeypatch.setenv("HF_HUB_CACHE", "/hub")
    monkeypatch.setenv("TRITON_CACHE_DIR", "/k")
    monkeypatch.setenv("FTLAB_RUNS", "/r")
    found = places.folders()
    assert (found["hf"], found["triton"], found["runs"]) == ("/hub", "/k", "/r")


def test_a_folder_that_is_not_there_is_judged_by_the_one_above(tmp_path: Path) -> None:
    found = places.describe(str(tmp_path / "a/b"))
    assert (found["exists"], found["nearest"], found["refused"]) == (False, str(tmp_path), "")
    assert found["free"] <= found["total"]
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    assert places.describe(str(tmp_path / "f"))["refused"] == "ENOTDIR"


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_closed_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert places.describe(str(tmp_path / "x"))["refused"] == "EACCES"


def test_what_the_kernel_answers_is_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    assert places.describe(str(tmp_path))["refused"] == "EROFS"
