"""Sizes, counts and durations in words."""

from __future__ import annotations

import pytest

from ftlab.planning import words


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (200 << 20, "200 MiB"),
     (int(23.6 * 2**30), "23.6 GiB"), (3 << 40, "3.0 TiB")],
)  # fmt: skip
def test_size(count: int, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(950, "950"), (12400, "12,400"), (135.1e6, "135.1 M"), (7.6e9, "7.6 B"),
                        (2e12, "2.0 T")],
)  # fmt: skip
def test_number(count: float, text: str) -> None:
    assert words.number(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(40, "40 s"), (89, "89 s"), (720, "12 min"), (12600, "3.5 h"),
                          (180000, "2.1 days"), (300000, "3.5 days")],
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


def test_rows() -> None:
    assert words.rows(1) == "1 row"
    assert words.rows(1200) == "1,200 rows"
    assert words.rows(1, True) == "1 pair"
    assert words.rows(2, True) == "2 pairs"
