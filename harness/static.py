"""What can be said against a candidate's file before it is run: its size, and data carried in Python code. Pure.

A training script that brings trained weights along would win by its file, not by what it does. No test of text can stop
that: numbers can be dressed up as words. These limits bound how much can be carried, and everything is shown in review.

They are multiples of one figure, `limits.literal_kb` (8 by default), and come from 2,500 files of 6 to 64 KB of the standard
library and of installed packages: a window of 4 KB of theirs compresses to 0.38 of its size in the median and to 0.51 in
the 999th of a thousand, base64 to 0.76 and base85 to 0.82; a whole file to 19.4 KB in the 999th of a thousand. Of those
files 4 in a hundred are refused, for their tables or for docstrings of more than 8 KB; of 368 files of PyTorch 4 are.
"""

from __future__ import annotations

import ast
import warnings
import zlib
from collections.abc import Iterator

from harness.spec import Limits

CONSTANTS = 64  # in one collection, for each KiB of `literal_kb`
DIGITS = 512  # in the file
WINDOW = 512  # bytes that are looked at together
DENSE = 0.55  # of the window's size: more than that, compressed, is data
WHOLE = 2560  # bytes of the whole file, compressed
DATA = "data may not be carried in the code"


def problem(name: str, data: bytes, limits: Limits) -> str | None:
    """Why a file may not be an experiment's, with its line, or None. What does not parse is for its run to say."""
    if len(data) > limits.editable_kb << 10:
        return f"{name} is larger than {limits.editable_kb} KiB"
    if not limits.literal_kb or not name.endswith((".py", ".pyi", ".pyx")):
        return None
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(data)
    except (SyntaxError, ValueError):
        tree = ast.Module([], [])
    except (RecursionError, MemoryError):
        return f"{name} is nested too deeply to be read"
    found = _literal(tree, limits.literal_kb) or _carried(data, limits.literal_kb)
    return f"{name}: {found}: {DATA}" if found else None


def _literal(tree: ast.AST, kb: int) -> str | None:
    """A string, a number or a collection that is too large."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and (size := _size(node.value)) > kb << 10:
            return f"a literal of {size:,} bytes at line {node.lineno}"
    for outer in _collections(tree):
        count = sum(isinstance(inner, ast.Constant) for inner in ast.walk(outer))
        if count > CONSTANTS * kb:
            return f"a literal of {count:,} values at line {outer.lineno}"
    return None


def _size(value: object) -> int:
    """Bytes that a constant carries."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes):
        return len(value)
    return (value.bit_length() + 7) // 8 if isinstance(value, int) else 8


def _collections(tree: ast.AST) -> Iterator[ast.expr]:
    """The collections that lie in no other one."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            yield node
        else:
            waiting += ast.iter_child_nodes(node)


def _carried(data: bytes, kb: int) -> str | None:
    """Data in any dress: many small literals, comments, docstrings, names."""
    window, step = WINDOW * kb, WINDOW * kb // 4
    starts = range(0, len(data) - window + 1, step)
    densest, start = max(((len(zlib.compress(data[start : start + window], 9)), start) for start in starts), default=(0, 0))
    if densest > DENSE * window:
        line = data.count(b"\n", 0, start) + 1
        return f"{window:,} bytes from line {line} on are as dense as compressed data"
    if (digits := sum(48 <= byte < 58 for byte in data)) > DIGITS * kb:
        return f"{digits:,} digits, {DIGITS * kb:,} are the most"
    if (size := len(zlib.compress(data, 9))) > WHOLE * kb:
        return f"{size:,} bytes even when compressed, {WHOLE * kb:,} are the most"
    return None
