"""Text of agents, logs and code -> text that a page can show: bounded, and without anything that moves or hides other text.

A page sets such text as text, never as HTML; what is taken away here are the characters that deceive a reader all the same.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise

from harness import prompt
from harness.models import Record
from harness.proposal import printable

ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
LINE_CHARS = 400
LEAST_WIDTH = 50  # characters; nobody breaks lines for being longer than fewer
ITEM = re.compile(r"\s*(?:[-*+•]|\d+[.)])\s")
MARKED = re.compile(rf"{ITEM.pattern}|\s*(?:[>|#]|[-=_*]{{3}})")  # what begins something of its own
ENDS = re.compile(r"\s*[#|]|.*  $")  # a heading, a row of a table, a break that Markdown knows
CODE = re.compile(r"\t| {4}")


def plain(text: str, limit: int) -> str:
    """Prose without escape sequences, control characters and marks that turn the direction of reading; `limit` characters."""
    text = ESCAPE.sub("", text[: 2 * limit])
    text = text if text.replace("\n", "").replace("\t", "").isprintable() else printable(text)
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def prose(text: str, limit: int) -> str:
    """The same for a text that a page wraps itself: lines that were broken only because they were full are joined again.

    A line was full where the next one's first word would have made it the longest of its paragraph. Lists, quotes, tables, code
    and lines that were meant to be short keep their breaks.
    """
    found: list[str] = []
    for block in re.split(r"(\n(?:[ \t]*\n)+|^```.*?^```[^\n]*$)", plain(text, limit), flags=re.DOTALL | re.MULTILINE):
        found.append(block if not block.strip() or block.startswith("```") else _joined(block))
    return "".join(found)


def _joined(paragraph: str) -> str:
    """A paragraph with its full lines joined; an item of a list goes on in lines that are indented, or not marked."""
    lines = paragraph.split("\n")
    width, found = max(map(len, lines)), lines[:1]
    for before, each in pairwise(lines):
        words = each.split()
        full = width >= LEAST_WIDTH and words and len(before.rstrip()) + 1 + len(words[0]) > width
        if full and not MARKED.match(each) and not ENDS.match(before) and not (CODE.match(each) and not ITEM.match(found[-1])):
            found[-1] = f"{found[-1].rstrip()} {each.strip()}"
        else:
            found.append(each)
    return "\n".join(found)


def line(text: str, limit: int) -> str:
    """The same on one line."""
    return " ".join(plain(text, limit).split())


def title(record: Record, limit: int = 160) -> str:
    """A proposal's title; an arrow made of two signs would be broken between them at the end of a line."""
    return line(prompt.title(record), limit).replace("->", "→")


def log(text: str, limit: int) -> str:
    """The end of a log; of a line that was rewritten in place, such as a progress bar, what stood there last."""
    kept = []
    for each in text[-limit:].strip("\n").split("\n"):
        shown = plain(each.rstrip("\r").rsplit("\r", 1)[-1], limit)
        kept.append(shown if len(shown) <= LINE_CHARS else f"{shown[:LINE_CHARS]}… (+{len(shown) - LINE_CHARS:,} characters)")
    return "\n".join(kept)


def code(text: str) -> str:
    """A line of code: what cannot be seen is spelt out, since it is part of what was changed (Boucher and Anderson 2021)."""
    shown = "".join(c if c.isprintable() or c == "\t" else f"<U+{ord(c):04X}>" for c in text[: LINE_CHARS + 1])
    return shown if len(text) <= LINE_CHARS else f"{shown[:LINE_CHARS]}… (+{len(text) - LINE_CHARS:,} characters)"


def number(value: float | None, digits: int = 6) -> float | None:
    """A number as JSON may hold it; None for what is none."""
    return float(f"{value:.{digits}g}") if value is not None and math.isfinite(value) else None


def percent(share: float, digits: int = 0) -> str:
    """A share of one."""
    return f"{100 * share:.{digits}f} %"


def signed(figure: str) -> str:
    """A figure with a minus sign that is as wide as its plus."""
    return figure.replace("-", "\N{MINUS SIGN}")
