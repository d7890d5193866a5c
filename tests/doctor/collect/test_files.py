"""Small files of a made-up system: settings that bar the module, Secure Boot, .wslconfig."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftlab_doctor.collect import files


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("blacklist nvidia\n", "blacklist nvidia"), ("alias nvidia off\n", "alias nvidia off"), ("install nvidia /bin/false\n", "install nvidia /bin/false"),
        ("blacklist nvidia_drm\nblacklist nouveau\n", ""), ("# blacklist nvidia\n", ""), ("options nvidia NVreg_X=1\nalias nvidia-current nvidia\n", ""),
    ],
)  # fmt: skip
def test_what_bars_the_module(tmp_path: Path, content: str, found: str) -> None:
    (tmp_path / "a.conf").write_text(content)
    said = files._barred((str(tmp_path / "*.conf"),), str(tmp_path / "cmdline"))
    assert said == (f"{tmp_path}/a.conf: {found}" if found else False)


@pytest.mark.parametrize(
    ("line", "bars"),
    [
        ("quiet modprobe.blacklist=nvidia,nouveau splash", True),
        ("module_blacklist=nouveau,nvidia", True),
        ("modprobe.blacklist=nouveau", False),
        ("root=/dev/nvidia quiet", False),
    ],
)
def test_the_kernel_s_command_line(tmp_path: Path, line: str, bars: bool) -> None:
    (tmp_path / "cmdline").write_text(line)
    said = files._barred((str(tmp_path / "*.conf"),), str(tmp_path / "cmdline"))
    assert bool(said) == bars
    assert not said or str(said).startswith(f"{tmp_path}/cmdline: ")


@pytest.mark.parametrize(("raw", "said"), [(b"\6\0\0\0\1", "1"), (b"\6\0\0\0\0", "0"), (b"", True)])
def test_secure_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes, said: object
) -> None:
    (tmp_path / "SecureBoot-1").write_bytes(raw)
    monkeypatch.setattr(files, "SECURE_BOOT", str(tmp_path / "SecureBoot-*"))
    facts: dict[str, Any] = {}
    files._secure_boot(facts)
    assert facts["files"]["SecureBoot"] == said


def test_this_machine() -> None:
    facts: dict[str, Any] = {}
    files.collect(facts)
    assert " / " in facts["files"]["/proc/mounts"]
    assert facts["files"]["/proc/sys/vm/overcommit_memory"].strip() in ("0", "1", "2")
    assert set(facts["listings"]) >= set(files.LIST)
    assert all(isinstance(value, (str, bool)) for value in facts["files"].values())
