"""Versions in the order of PEP 440, and specifiers; what cannot be read is None, never a guess."""

from __future__ import annotations

import itertools

import pytest

from ftlab_doctor import versions

ORDER = ["1.0.dev1", "1.0a1", "1.0b2", "1.0rc1", "1.0", "1.0.post1", "1.0.1", "1.2", "1.10", "2"]


def test_order() -> None:
    keys = [versions.key(text) for text in ORDER]
    for (a, first), (b, second) in itertools.combinations(zip(ORDER, keys, strict=True), 2):
        assert first is not None
        assert second is not None
        assert first < second, (a, b)


@pytest.mark.parametrize(
    ("version", "specifier", "verdict"),
    [
        ("2.4.1+cu121", "==2.4.1", True),
        ("2.4.1+cu121", "==2.4.1+cu118", False),
        ("2.4.1", ">=2.4,<3", True),
        ("2.10.0", "<2.9", False),
        ("2.4.1", "!=2.4.*", False),
        ("2.4.1", "==2.4.*", True),
        ("1.4.5", "~=1.4.2", True),
        ("1.5.0", "~=1.4.2", False),
        ("0.0.28.post1", ">=0.0.28", True),
        ("2.0", "", True),
        ("abc", ">=1", None),
        ("1.0", ">=x.y", None),
        ("1.0", "whatever", None),
    ],
)
def test_specifiers(version: str, specifier: str, verdict: bool | None) -> None:
    assert versions.satisfies(version, specifier) is verdict


def test_pieces() -> None:
    assert versions.release("2.4.1+cu121") == (2, 4, 1)
    assert versions.release("none") == ()
    assert versions.minor("12.1.105") == "12.1"
    assert versions.local("2.4.1+cu121") == "cu121"
