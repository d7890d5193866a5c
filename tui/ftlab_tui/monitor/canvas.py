"""Dots in character cells: curves as braille, half blocks or plain ASCII, with a colour per cell.

A cell shows 2 x 4 dots as braille, 1 x 2 as half blocks, 1 x 1 as ASCII. Coordinates are dots from
the top left. Pure Python, no terminal.
"""

from __future__ import annotations

from collections.abc import Sequence

MARKERS = {"braille": (2, 4), "block": (1, 2), "ascii": (1, 1)}  # dots of a cell: (across, down)
_BRAILLE = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # [row][column] -> bit
# [column][first row][last row] -> the bits of an upright stroke inside a cell
_STROKES = [
    [[sum(_BRAILLE[row][column] for row in range(top, end + 1)) for end in range(4)]
     for top in range(4)]
    for column in range(2)
]  # fmt: skip
_BLOCKS = " ▀▄█"
NO_COLOUR = -1


class Canvas:
    """A grid of cells to draw curves on."""

    def __init__(self, columns: int, rows: int, marker: str = "braille") -> None:
        self.columns, self.rows, self.marker = max(0, columns), max(0, rows), marker
        self.across, self.down = MARKERS[marker]
        self.width, self.height = self.columns * self.across, self.rows * self.down
        self._bits = [0] * (self.columns * self.rows)
        self._colours = [NO_COLOUR] * (self.columns * self.rows)

    def dot(self, x: int, y: int, colour: int) -> None:
        """Set one dot; outside is nothing."""
        if not (0 <= x < self.width and 0 <= y < self.height):
            return
        cell = (y // self.down) * self.columns + x // self.across
        row, column = y % self.down, x % self.across
        self._bits[cell] |= _BRAILLE[row][column] if self.marker == "braille" else 1 << row
        self._colours[cell] = colour

    def line(self, x0: int, y0: int, x1: int, y1: int, colour: int) -> None:
        """A straight line, both ends included; what lies outside is cut off."""
        dx, dy = abs(x1 - x0), abs(y1 - y0)
        steps = max(dx, dy)
        if steps == 0:
            self.dot(x0, y0, colour)
            return
        if dx == 0:  # most of a noisy curve is upright
            self.upright(x0, min(y0, y1), max(y0, y1), colour)
            return
        for k in range(steps + 1):
            self.dot(x0 + (x1 - x0) * k // steps, y0 + (y1 - y0) * k // steps, colour)

    def upright(self, x: int, top: int, bottom: int, colour: int) -> None:
        """A stroke from `top` down to `bottom`, cell by cell rather than dot by dot."""
        top, bottom = max(0, top), min(self.height - 1, bottom)
        if not 0 <= x < self.width or top > bottom:
            return
        if self.marker != "braille":
            for y in range(top, bottom + 1):
                self.dot(x, y, colour)
            return
        strokes = _STROKES[x % 2]
        first, last = top // 4, bottom // 4
        cell = first * self.columns + x // 2
        for row in range(first, last + 1):
            upper = top % 4 if row == first else 0
            lower = bottom % 4 if row == last else 3
            self._bits[cell] |= strokes[upper][lower]
            self._colours[cell] = colour
            cell += self.columns

    def curve(self, points: Sequence[tuple[int, int, int]], colour: int) -> None:
        """Join points (x, top, bottom): an upright stroke each, and a line to the next."""
        before: tuple[int, int, int] | None = None
        for x, top, bottom in points:
            self.line(x, top, x, bottom, colour)
            if before is not None:
                x0, top0, bottom0 = before
                if top > bottom0:
                    self.line(x0, bottom0, x, top, colour)
                elif bottom < top0:
                    self.line(x0, top0, x, bottom, colour)
                elif x > x0 + 1:
                    self.line(x0, (top0 + bottom0) // 2, x, (top + bottom) // 2, colour)
            before = x, top, bottom

    def is_blank(self, column: int, row: int) -> bool:
        """Whether a cell has no dot."""
        return not self._bits[row * self.columns + column]

    def row(self, number: int) -> list[tuple[str, int]]:
        """The characters of a row with the colour of each."""
        start = number * self.columns
        cells = slice(start, start + self.columns)
        made = zip(self._bits[cells], self._colours[cells], strict=True)
        return [(self._character(bits), colour) for bits, colour in made]

    def _character(self, bits: int) -> str:
        if self.marker == "braille":
            return chr(0x2800 + bits) if bits else " "
        return _BLOCKS[bits] if self.marker == "block" else " *"[bits]
