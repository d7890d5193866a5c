"""Versions are read without importing what they belong to."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ftlab import versions


def test_installed_and_missing() -> None:
    found = versions.installed(["numpy", "no-such-package"])
    assert re.match(r"\d+\.\d+", str(found["numpy"]))
    assert found["no-such-package"] is None
    assert versions.ours()[0].isdigit()
    assert versions.python() == sys.version.split()[0]


def test_cuda_of_torch_is_what_torch_says() -> None:
    code = (
        "import sys; from ftlab import versions; cuda = versions.torch_cuda();"
        "assert 'torch' not in sys.modules; import torch; assert torch.version.cuda == cuda, cuda"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


@pytest.mark.parametrize(
    ("text", "cuda"),
    [
        ("cuda: Optional[str] = '12.1'\n", "12.1"),
        ('cuda = "13.0"\n', "13.0"),
        ("cuda: Optional[str] = None\n", None),
        ("", None),
    ],
)
def test_cuda_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, cuda: str | None
) -> None:
    monkeypatch.setattr(versions, "package_folder", lambda name: tmp_path)
    assert versions.torch_cuda() is None
    (tmp_path / "version.py").write_text(f"__version__ = '1'\n{text}hip = '9.9'\n")
    assert versions.torch_cuda() == cuda


def test_source_hash_sees_every_byte_and_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "package_folder", lambda name: tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "sub" / "b.py").write_text("2")
    first = versions.source_sha256("x")
    (tmp_path / "notes.txt").write_text("no source")
    assert versions.source_sha256("x") == first
    (tmp_path / "sub" / "b.py").rename(tmp_path / "c.py")
    assert versions.source_sha256("x") != first


def test_an_absent_package_has_no_source() -> None:
    assert versions.package_folder("no_such_package") is None
    assert versions.package_folder("") is None
    assert versions.source_sha256("no_such_package") is None
