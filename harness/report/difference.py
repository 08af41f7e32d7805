"""A unified diff -> files, hunks and coloured lines, as plain values. Pygments knows the languages; the page sets text only.

A hunk is coloured by itself, its two sides separately, so a string that began above it may have the colours of code.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from harness.report import text

HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
WORD = string.ascii_letters + string.digits + "_."
DIFF_CHARS, DIFF_LINES = 40_000, 500

Line = tuple[str, list[tuple[str, str]]]  # "+", "-" or " ", and (class, text) of each piece; the class "" is plain
# What a page tells apart of Pygments' many kinds: the first letters of its short names.
CLASSES = {"k": "k", "s": "s", "c": "c", "m": "m", "nf": "f", "nc": "f", "nd": "f", "nb": "b", "bp": "b", "ow": "k"}


def read(patch: str) -> list[dict[str, Any]]:
    """Files as {"name": str, "hunks": [{"at": str, "lines": [Line]}]}; the last one says in "more" when lines were left out."""
    files: list[dict[str, Any]] = []
    rows = iter(patch[:DIFF_CHARS].split("\n"))
    count = 0
    for row in rows:
        if row.startswith("diff --git ") or not files:
            files.append({"name": text.code(row.rsplit(" b/", 1)[-1]), "hunks": []})
        elif row.startswith("+++ ") and row != "+++ /dev/null":
            files[-1]["name"] = text.code(row[4:].removeprefix("b/").rstrip("\t"))
        elif found := HUNK.match(row):
            lines = list(_hunk(rows, int(found[1] or 1), int(found[2] or 1)))[: max(0, DIFF_LINES - count)]
            count += len(lines)
            if lines:
                files[-1]["hunks"].append({"at": text.code(row), "lines": _coloured(files[-1]["name"], lines)})
        elif row.startswith("Binary files"):
            files[-1]["hunks"].append({"at": "binary", "lines": []})
    if files and (count >= DIFF_LINES or len(patch) > DIFF_CHARS):
        files[-1]["more"] = True
    return files


def _hunk(rows: Iterator[str], old: int, new: int) -> Iterator[tuple[str, str]]:
    """The lines of a hunk by its own count: what looks like a header inside of it is a line of code."""
    for row in rows:
        sign = row[:1] or " "
        if sign == "\\":
            continue
        old, new = old - (sign in "- "), new - (sign in "+ ")
        yield sign, text.code(row[1:].rstrip("\r"))
        if old <= 0 and new <= 0:
            return


def _coloured(name: str, lines: list[tuple[str, str]]) -> list[Line]:
    sides = {sign: iter(_pieces(name, [code for s, code in lines if s in (sign, " ")])) for sign in "+-"}
    found: list[Line] = []
    for sign, _ in lines:
        pieces = [next(sides[side], []) for side in ("+-" if sign == " " else sign) if side in sides]
        found.append((sign, pieces[0] if pieces else []))
    return _marked(found)


def _pieces(name: str, lines: list[str]) -> list[list[tuple[str, str]]]:
    """Each line as its pieces."""
    rows: list[list[tuple[str, str]]] = [[]]
    for kind, value in _lexer(name).get_tokens("\n".join(lines)):
        for index, part in enumerate(value.split("\n")):
            if index:
                rows.append([])
            if part:
                rows[-1].append((_class(kind), part))
    return rows


@lru_cache(64)
def _lexer(name: str) -> Any:
    from pygments.lexers import TextLexer, get_lexer_for_filename
    from pygments.util import ClassNotFound

    options: dict[str, Any] = {"stripnl": False, "ensurenl": False}
    try:
        return get_lexer_for_filename(name, **options)
    except ClassNotFound:
        return TextLexer(**options)


@lru_cache(256)
def _class(kind: Any) -> str:
    from pygments.token import STANDARD_TYPES

    short = STANDARD_TYPES.get(kind, "")
    return CLASSES.get(short) or CLASSES.get(short[:1], "")


def _marked(lines: list[Line]) -> list[Line]:
    """The same with what differs marked, by a class that ends in "!", where lines took the place of as many others."""
    signs = "".join(sign for sign, _ in lines)
    for found in re.finditer(r"(-+)(\++)", signs):
        if len(found[1]) == len(found[2]):
            for index in range(found.start(1), found.end(1)):
                other = index + len(found[1])
                lines[index], lines[other] = _pair(lines[index], lines[other])
    return lines


def _pair(removed: Line, added: Line) -> tuple[Line, Line]:
    """Two lines with what lies between their common beginning and end marked; as they are when that is nearly everything."""
    one, other = ("".join(part for _, part in pieces) for _, pieces in (removed, added))
    start = _common(one, other)
    end = _common(one[start:][::-1], other[start:][::-1])
    if start + end < 3:
        return removed, added
    start -= len(one[:start]) - len(one[:start].rstrip(WORD))  # whole words: a reader compares numbers, not digits
    end -= len(one[len(one) - end :]) - len(one[len(one) - end :].lstrip(WORD))
    return (removed[0], _cut(removed[1], start, len(one) - end)), (added[0], _cut(added[1], start, len(other) - end))


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with together."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _cut(pieces: list[tuple[str, str]], start: int, end: int) -> list[tuple[str, str]]:
    """Pieces of a line, those from `start` to `end` marked."""
    found, at = [], 0
    for kind, part in pieces:
        first, last = (min(max(edge - at, 0), len(part)) for edge in (start, end))
        cut = ((kind, part[:first]), (f"{kind}!", part[first:last]), (kind, part[last:]))
        found += [(name, text) for name, text in cut if text]
        at += len(part)
    return found
