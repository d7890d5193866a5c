"""Dots in cells."""

from __future__ import annotations

import random

import pytest

from ftlab_tui.monitor.canvas import MARKERS, Canvas


def text(canvas: Canvas) -> list[str]:
    return ["".join(c for c, _ in canvas.row(row)) for row in range(canvas.rows)]


def test_braille_of_corners_and_a_diagonal() -> None:
    canvas = Canvas(2, 1)
    for x, y in ((0, 0), (1, 3), (3, 0)):
        canvas.dot(x, y, 0)
    assert text(canvas) == ["⢁⠈"]
    canvas = Canvas(2, 1)
    canvas.line(0, 3, 3, 0, 1)
    assert text(canvas) == ["⡠⠊"]
    assert canvas.row(0)[0][1] == 1


def test_blocks_and_ascii() -> None:
    canvas = Canvas(3, 1, "block")
    canvas.line(0, 0, 0, 1, 0)
    canvas.dot(1, 1, 0)
    assert text(canvas) == ["█▄ "]
    canvas = Canvas(3, 2, "ascii")
    canvas.line(0, 0, 2, 1, 0)
    assert "".join(text(canvas)).count("*") == 3


def test_curves_have_no_holes() -> None:
    canvas = Canvas(10, 4)
    canvas.curve([(0, 15, 15), (10, 0, 3), (19, 15, 15)], 0)
    assert all(any(row[x][0] != " " for row in map(canvas.row, range(4))) for x in range(10))


@pytest.mark.parametrize("marker", MARKERS)
def test_anything_outside_is_cut_off(marker: str) -> None:
    chance = random.Random(1)
    canvas = Canvas(7, 3, marker)
    for _ in range(300):
        a, b, c, d = (chance.randint(-40, 40) for _ in range(4))
        canvas.line(a, b, c, d, 0)
    assert [len(row) for row in text(canvas)] == [7, 7, 7]
    assert Canvas(0, 0, marker).rows == 0
