"""Pieces of a line of a terminal, measured in its cells: what is hostile is made plain, what is long is cut. Pure."""

from __future__ import annotations

import unicodedata

from rich.text import Text

IN_ASCII = str.maketrans("…━╸─│┤└●○·→", "~=>-||`*o->")


def plain(text: str) -> str:
    """Text whose characters all have a place of their own: what is invisible, or moves others, is seen as a sign of itself."""
    shown, marks = "", 0
    for char in unicodedata.normalize("NFC", text):
        kind = unicodedata.category(char)
        marks = marks + 1 if kind[0] == "M" else 0
        if "\x00" <= char < " ":
            shown += chr(0x2400 + ord(char))
        elif kind[0] == "C" or kind in ("Zl", "Zp") or "\U0001f1e6" <= char <= "\U0001f1ff":
            shown += "\ufffd"
        elif marks < 2 and not ("\ufe00" <= char <= "\ufe0f" or "\U0001f3fb" <= char <= "\U0001f3ff"):
            shown += char
    return shown


def bar(share: float, width: int, style: str) -> Text:
    """A bar of `width` cells that says without colours, too, how far it is."""
    halves = round(share * 2 * width)
    return Text.assemble(("━" * (halves // 2) + "╸" * (halves % 2), style), ("─" * (width - (halves + 1) // 2), "dim"))


def rule(title: Text, width: int) -> Text:
    """A line across the screen, or a part of it, with a title."""
    line = Text.assemble(("── ", "dim"), title, " ")
    return line.append("─" * max(0, width - line.cell_len), "dim")


def sides(left: Text, right: Text, width: int) -> Text:
    """Two texts at the ends of a line; where both do not fit, the left one is cut."""
    left = left.copy()
    left.truncate(max(0, width - right.cell_len - 2), overflow="ellipsis")
    return left.append(" " * max(2, width - left.cell_len - right.cell_len)).append_text(right)


def clock(seconds: float) -> str:
    """Seconds as a clock shows them: 0:07, 12:30, 7:59:00."""
    whole = max(0, int(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"


def fit(line: Text, width: int) -> Text:
    """A line that is no wider than it may be, and is never wrapped."""
    line = line.copy()
    line.truncate(width, overflow="ellipsis")
    line.no_wrap = True
    return line


def in_ascii(line: Text) -> Text:
    """The same for a terminal that knows no other characters, in as many cells."""
    line = line.copy()
    line.plain = "".join(c if c.isascii() else "?" * Text(c).cell_len for c in line.plain.translate(IN_ASCII))
    return line
