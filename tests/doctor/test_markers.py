"""Requirements and markers, as wheels write them."""

from __future__ import annotations

import pytest

from ftlab_doctor import markers

HERE = {"python_version": "3.11", "sys_platform": "linux", "platform_machine": "x86_64"}


@pytest.mark.parametrize(
    ("line", "name", "specifier", "marker"),
    [
        ("torch (>=2.0)", "torch", ">=2.0", ""),
        ("Fsspec[http]<=2026.6,>=2023.1", "fsspec", "<=2026.6,>=2023.1", ""),
        ("typing_extensions>=4 ; python_version < '3.13'", "typing-extensions", ">=4", "python_version < '3.13'"),
        ("x @ https://example.org/x.whl", "x", "", ""),
    ],
)  # fmt: skip
def test_requirements(line: str, name: str, specifier: str, marker: str) -> None:
    assert markers.parse(line) == (name, specifier, marker)


def test_what_is_no_requirement() -> None:
    assert markers.parse("") is None
    assert markers.parse("==2") is None


@pytest.mark.parametrize(
    ("marker", "verdict"),
    [
        ("", True),
        ("python_version < '3.13'", True),
        ("python_version >= '3.9' and sys_platform == 'win32'", False),
        ("sys_platform == 'win32' or (python_version > '3.8' and platform_machine != 'arm64')", True),
        ("extra == 'dev'", False),
        ("'linux' in sys_platform", True),
        ("sys_platform not in 'win32 darwin'", True),
        ("unknown_name == '1'", None),
        ("python_version <", None),
        ("(python_version < '3'", None),
        ("§", None),
    ],
)  # fmt: skip
def test_markers(marker: str, verdict: bool | None) -> None:
    assert markers.applies(marker, HERE) is verdict
