"""Metadata of made-up packages: needs, installers, damage, leftovers, locks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftlab_doctor.collect import packages

METADATA = "Metadata-Version: 2.1\r\nName: Thing_One\r\nVersion: 1.2\r\nRequires-Python: >=3.9\r\nRequires-Dist: torch>=2\r\nRequires-Dist: pytest; extra == 'dev'\r\n\r\nName: not this one\r\n"


def _install(folder: Path, name: str = "thing_one", record: str = "", metadata: str = METADATA) -> Path:  # fmt: skip
    made = folder / f"{name}-1.2.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text(metadata, newline="")
    (made / "RECORD").write_text(record)
    (made / "INSTALLER").write_text("uv\n")
    (made / "WHEEL").write_text("Wheel-Version: 1.0\nTag: cp311-cp311-linux_x86_64\n")
    return made


def _collect(folder: Path, **python: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "python": {"path": [str(folder)], "platlib": str(folder), "user_site": str(folder / "none"), "prefix": str(folder),
                   "cwd": str(folder), **python},
    }  # fmt: skip
    packages.collect(facts)
    return facts


def test_the_header_alone_is_read(tmp_path: Path) -> None:
    _install(tmp_path)
    (found,) = _collect(tmp_path)["packages"]
    assert found == {
        "name": "Thing_One", "version": "1.2", "location": str(tmp_path), "folder": "thing_one-1.2.dist-info",
        "requires": ["torch>=2"], "installer": "uv", "tags": ["cp311-cp311-linux_x86_64"],
    }  # fmt: skip


def test_a_header_longer_than_a_page(tmp_path: Path) -> None:
    needs = "".join(f"Requires-Dist: package-{i}>=1\n" for i in range(2000))
    _install(tmp_path, metadata=f"Name: long\nVersion: 1\n{needs}\nText\n")
    (found,) = _collect(tmp_path)["packages"]
    assert len(found["requires"]) == 2000


def test_files_that_are_gone_or_of_another_size_are_damage(tmp_path: Path) -> None:
    record = (
        "thing/__init__.py,sha256=x,3\nthing/libx.so.12,sha256=x,10\nthing/liby.so,sha256=x,5\n"
        "thing/doc.txt,sha256=x,9\n\"thing/a,b.json\",sha256=x,2\nthing/version.py,,\nthing/z.json,sha256=x,1\n"
    )  # fmt: skip
    _install(tmp_path, record=record)
    (tmp_path / "thing").mkdir()
    for name, content in (("__init__.py", "abc"), ("liby.so", "1234"), ("a,b.json", "{}"), ("version.py", "1")):  # fmt: skip
        (tmp_path / "thing" / name).write_text(content)
    (found,) = _collect(tmp_path)["packages"]
    assert found["damaged"] == [
        "thing/libx.so.12: missing", "thing/liby.so: 4 bytes, was 5", "thing/z.json: missing",
    ]  # fmt: skip


@pytest.mark.parametrize("metadata", ["", "no header", "Name: only\n\n"])
def test_broken_metadata_is_told_with_the_name_of_the_folder(metadata: str, tmp_path: Path) -> None:
    _install(tmp_path, metadata=metadata)
    (found,) = _collect(tmp_path)["packages"]
    assert found["name"] == "thing_one"
    assert found["broken"]


def test_leftovers_of_an_interrupted_pip(tmp_path: Path) -> None:
    (tmp_path / "~orch").mkdir()
    assert _collect(tmp_path)["leftovers"] == [str(tmp_path / "~orch")]


def test_conda_s_own_list(tmp_path: Path) -> None:
    (tmp_path / "conda-meta").mkdir()
    (tmp_path / "conda-meta/mkl-2024.1.0-h1_2.json").write_text("{}")
    assert _collect(tmp_path)["conda"] == [{"name": "mkl", "version": "2024.1.0", "build": "h1_2"}]


def test_locks_are_found_in_the_folders_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.delenv("FTLAB_LOCK", raising=False)
    (tmp_path / "env.lock").write_text(
        "torch==2.4.1 \\\n    --hash=sha256:x\n# c\nTyper==0.1; python_version > '3'\n"
    )
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert _collect(tmp_path, cwd=str(deep))["locks"][str(tmp_path / "env.lock")] == {"torch": "2.4.1", "typer": "0.1"}  # fmt: skip
