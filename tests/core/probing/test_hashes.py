"""Hashes of large files: right, remembered, and renewed when the file changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from ftlab.errors import FtlabError
from ftlab.probing import hashes, remember


def test_a_file_is_read_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"abc" * 1000)
    expected = hashlib.sha256(b"abc" * 1000).hexdigest()
    assert hashes.file_sha256(path) == expected
    monkeypatch.setattr(hashes, "_read_through", lambda *_: "read again")
    assert hashes.file_sha256(path) == expected
    assert hashes.file_sha256(path, cache=False) == "read again"
    os.utime(path, ns=(1, 1))
    assert hashes.file_sha256(path) == "read again"


def test_a_hub_blob_is_not_read(tmp_path: Path) -> None:
    name = "0123456789abcdef" * 4
    blob = tmp_path / "blobs" / name
    blob.parent.mkdir()
    blob.write_bytes(b"anything")
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    assert hashes.file_sha256(link) == name


def test_many_files_by_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_text(name)
    together = hashes.files_sha256([tmp_path / "b", tmp_path / "a"])
    assert together == hashes.files_sha256([tmp_path / "a", tmp_path / "b"])
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("a", "b")}
    assert together == hashes.named_sha256(digests)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FtlabError, match="gone"):
        hashes.file_sha256(tmp_path / "none")


def test_remembering_survives_a_broken_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTLAB_CACHE", str(tmp_path / "cache"))
    key = remember.key("a", 1)
    assert remember.load("kind", key) is None
    remember.save("kind", key, {"x": [1]})
    assert remember.load("kind", key) == {"x": [1]}
    assert remember.load("other", key) is None
    assert remember.key("a", 2) != key
    for file in (tmp_path / "cache" / "facts").iterdir():
        file.write_text("{broken")
    assert remember.load("kind", key) is None
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FTLAB_CACHE", str(tmp_path / "file"))
    remember.save("kind", key, 1)
    assert remember.load("kind", key) is None
