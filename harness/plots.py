"""Curves in a terminal: eight dots a character in braille, or one in plain ASCII. Pure; columns and rows are characters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

BRAILLE, DOTS = 0x2800, ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
EVERY = 3  # of a dotted line one dot in so many columns is drawn

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """Points in the order of x, and how they are drawn: joined, as a dotted line, or each for itself. `style` is a colour."""

    points: Points
    style: str
    kind: str = "joined"


@dataclass(frozen=True)
class Range:
    """What a picture shows; what lies outside of it is not drawn."""

    left: float
    right: float
    low: float
    high: float


def bounds(lines: Sequence[Points], after: float = -math.inf) -> Range | None:
    """The range of some points; the height is that of those whose x is not before `after`."""
    xs = [x for points in lines for x, _ in points]
    if not xs:
        return None
    left, right = min(xs), max(xs)
    heights = [y for points in lines for x, y in points if x >= after] or [y for points in lines for _, y in points]
    low, high = min(heights), max(heights)
    room = 0.04 * (high - low) or abs(high) / 100 or 1.0
    return Range(left, right, low - room, high + room)


def plot(lines: Sequence[Line], shown: Range, columns: int, rows: int, ascii_only: bool = False) -> list[list[tuple[str, str]]]:
    """Rows of (character, style); where lines meet in a character, the later line has it."""
    width, height = (columns, rows) if ascii_only else (2 * columns, 4 * rows)
    cells: dict[tuple[int, int], tuple[int, str, str]] = {}
    for line in lines:
        mark = "." if line.kind == "dotted" else "*"
        for x, y in _dots(line, shown, width, height):
            place, bit = ((x, y), 0) if ascii_only else ((x // 2, y // 4), DOTS[y % 4][x % 2])
            bits, _, style = cells.get(place, (0, "", line.style))
            kept = bits if style == line.style or line.kind == "points" else 0
            cells[place] = kept | bit, mark, line.style
    text = [[(" ", "")] * columns for _ in range(rows)]
    for (x, y), (bits, mark, style) in cells.items():
        text[y][x] = mark if ascii_only else chr(BRAILLE + bits), style
    return text


def _dots(line: Line, shown: Range, width: int, height: int) -> set[tuple[int, int]]:
    """The dots of a line, counted from the upper left corner."""

    def column(x: float) -> float:
        return (x - shown.left) / ((shown.right - shown.left) or 1.0) * (width - 1)

    def row(y: float) -> int:
        return round((shown.high - y) / ((shown.high - shown.low) or 1.0) * (height - 1))

    places = [(column(x), y) for x, y in line.points]
    if line.kind == "points" or len(places) < 2:
        size = 2 if len(places) < width // 2 else 1  # where there is room, a point is four dots
        dots = {(round(x) + n % size, row(y) + n // size) for x, y in places for n in range(size**2)}
        return {(x, y) for x, y in dots if 0 <= x < width and 0 <= y < height}
    found, before = set[tuple[int, int]](), None
    for x, y in _sampled(places, width):
        here = row(y)
        if line.kind == "joined":
            start = here if before is None else before + (here > before) - (here < before)
            found |= {(x, each) for each in range(max(0, min(start, here)), min(height - 1, max(start, here)) + 1)}
        elif x % EVERY == 0 and 0 <= here < height:
            found.add((x, here))
        before = here
    return found


def _sampled(places: Sequence[tuple[float, float]], width: int) -> list[tuple[int, float]]:
    """The value at each column between the first point and the last one, on straight lines from one to the next."""
    found, index = [], 0
    for x in range(max(0, round(places[0][0])), min(width - 1, round(places[-1][0])) + 1):
        while index < len(places) - 2 and places[index + 1][0] < x:
            index += 1
        (x0, y0), (x1, y1) = places[index], places[index + 1]
        share = min(1.0, max(0.0, (x - x0) / (x1 - x0))) if x1 > x0 else 1.0
        found.append((x, y0 + share * (y1 - y0)))
    return found
