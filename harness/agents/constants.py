"""The constants that a file declares for tuning, and the edit of nothing but their literals.

A constant is declared by a comment behind a literal at the top level of the file, with an optional explanation:

    MATRIX_LR = 0.02  # tune: 0.005..0.08 log - learning rate of the matrices
    DEPTH = 4         # tune: 2..8 step 1
    DROPOUT = 0.1     # tune: 0..1
    HEADS = 2         # tune: {1, 2, 4}
    WIDTH = 640       # tune gpu: 384..1024 step 128

A range is one of whole numbers when its bounds and the constant are. With the name of a profile of the task the constant is
tuned under that profile only.
"""

from __future__ import annotations

import ast
import io
import random
import re
import tokenize
from dataclasses import dataclass
from typing import Any

Value = bool | int | float | str | tuple[Any, ...] | None
NUMBER = r"[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
RULE = re.compile(r"#\s*tune(?:\s+([\w.-]+))?:\s*(.*)")
RANGE = re.compile(rf"({NUMBER})\s*\.\.\s*({NUMBER})(?:\s+(log)|\s+step\s+({NUMBER}))?")


@dataclass(frozen=True)
class Constant:
    """A declared constant: its value, where its literal stands in the file (byte offsets) and what it may become."""

    name: str
    value: Value
    start: int
    end: int
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    choices: tuple[Value, ...] = ()
    about: str = ""

    @property
    def whole(self) -> bool:
        """Whether the range is one of whole numbers."""
        return type(self.value) is int and all(part.is_integer() for part in (self.low, self.high, self.step or 1.0))

    def tidy(self, value: float) -> Value:
        """The number as it will be written: within the range, on its steps, three significant digits at most."""
        if self.step:
            value = self.low + round((value - self.low) / self.step) * self.step
        if self.whole:
            return int(min(max(round(value), self.low), self.high))
        return min(max(float(f"{value:{'.12g' if self.step else '.3g'}}"), self.low), self.high)

    def allows(self, value: Value) -> bool:
        """Whether the value is one of the choices or a number within the range, of the range's kind."""
        if self.choices:
            return value in self.choices
        kind = int if self.whole else int | float
        return isinstance(value, kind) and not isinstance(value, bool) and self.low <= value <= self.high

    def neighbour(self, up: bool) -> Value:
        """The next sensible value in one direction: next choice, double or half, or a quarter of the range."""
        if self.choices:
            index = self.choices.index(self.value) + (1 if up else -1) if self.value in self.choices else 0
            return self.choices[min(max(index, 0), len(self.choices) - 1)]
        assert isinstance(self.value, int | float)
        if self.log:
            return self.tidy(self.value * (2.0 if up else 0.5))
        distance = max((self.high - self.low) / 4, self.step or 0.0, 1.0 if self.whole else 0.0)
        return self.tidy(self.value + (distance if up else -distance))

    def anywhere(self, rng: random.Random) -> Value:
        """A value of the whole range by chance."""
        if self.choices:
            return rng.choice(self.choices)
        if self.log:
            return self.tidy(self.low * (self.high / self.low) ** rng.random())
        return self.tidy(rng.uniform(self.low, self.high))


def literals(data: bytes) -> dict[str, tuple[Value, ast.expr]]:
    """Every top-level `NAME = literal` of a Python file, with its place; SyntaxError or ValueError if it is not Python."""
    found: dict[str, tuple[Value, ast.expr]] = {}
    for node in ast.parse(data).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if len(targets) == 1 and isinstance(targets[0], ast.Name) and isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            try:
                found[targets[0].id] = (ast.literal_eval(node.value), node.value)
            except (ValueError, TypeError):
                found.pop(targets[0].id, None)  # a computed value is nobody's to tune
    return found


def declared(data: bytes, profile: str = "default") -> list[Constant]:
    """A file's constants that are tunable under a profile, in its order. What says `tune:` and cannot be used is reported."""
    found = literals(data)  # first: what the parser accepts, the tokenizer does too
    comments: dict[int, str] = {}
    for token in tokenize.tokenize(io.BytesIO(data).readline):
        match = RULE.match(token.string) if token.type == tokenize.COMMENT else None
        if match and match[1] in (None, profile):
            comments[token.start[0]] = match[2].strip()
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    constants = []
    for name, (value, node) in found.items():
        if (rule := comments.pop(node.end_lineno or 0, None)) is None:
            continue
        place = (starts[node.lineno - 1] + node.col_offset, starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0))
        try:
            constants.append(_constant(name, value, place, rule))
        except (ValueError, SyntaxError) as error:
            print(f"line {node.lineno}: {name} is not tuned: {error}")
    for line_number in comments:
        print(f"line {line_number}: nothing is tuned here: a constant is NAME = literal at the top level of the file")
    return constants


def _constant(name: str, value: Value, place: tuple[int, int], comment: str) -> Constant:
    rule, _, about = comment.partition(" - ")
    rule = rule.strip()
    if rule.startswith("{") and rule.endswith("}"):
        choices = tuple(ast.literal_eval(f"[{rule[1:-1]}]"))
        if len(choices) < 2:
            raise ValueError(f"{rule} offers no choice")
        return Constant(name, value, *place, choices=choices, about=about)
    if not (match := RANGE.fullmatch(rule)):
        raise ValueError(f"{rule!r} is neither LOW..HIGH, LOW..HIGH log, LOW..HIGH step S nor {{A, B}}")
    low, high, step = float(match[1]), float(match[2]), float(match[4] or 0) or None
    log = match[3] is not None
    if low >= high or (log and low <= 0) or (step or 1) < 0 or isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} and {rule!r} are no number with a range from low to high")
    if step:
        high = low + int((high - low) / step + 1e-9) * step
    return Constant(name, value, *place, low=low, high=high, step=step, log=log, about=about)


def edited(data: bytes, constants: list[Constant], values: dict[str, Value]) -> bytes:
    """`data` with the literals of `values` replaced and every other byte as it was."""
    for constant in sorted(constants, key=lambda constant: -constant.start):
        if constant.name in values and values[constant.name] != constant.value:
            data = data[: constant.start] + repr(values[constant.name]).encode() + data[constant.end :]
    return data
