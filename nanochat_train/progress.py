"""One line on stderr that says how far a long step is: redrawn on a terminal, now and then a new one elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Block = TypeVar("Block", bound=npt.NDArray[np.generic])

WIDTH = 24
DRAWN_S, LOGGED_S = 0.2, 30.0


class Bar:
    """The progress of one step, `total` units of it; use as a context manager. Nothing is shown of what takes a moment."""

    def __init__(self, label: str, total: float, unit: str = "MB", scale: float = 1e6) -> None:
        self.label, self.total, self.unit, self.scale = label, total, unit, scale
        self.done = 0.0
        self._terminal = sys.stderr.isatty()
        self._began = self._shown = time.monotonic()
        self._drawn = False

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._drawn:
            self._write(kind is None)
            if self._terminal:
                print(file=sys.stderr)

    def advance(self, amount: float) -> None:
        """So much more is done; less than nothing where something has to be done again."""
        self.done += amount
        if time.monotonic() - self._shown >= (DRAWN_S if self._terminal else LOGGED_S):
            self._write()

    def over(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """The same blocks, counted by their elements."""
        for block in blocks:
            yield block
            self.advance(block.size)

    def say(self, note: str) -> None:
        """Something that a person should know of, on a line of its own."""
        print(("\r\x1b[K" if self._terminal and self._drawn else "") + f"{self.label}: {note}", file=sys.stderr, flush=True)

    def _write(self, finished: bool = False) -> None:
        self._shown, self._drawn = time.monotonic(), True
        seconds = max(self._shown - self._began, 1e-9)
        share = 1.0 if finished else min(1.0, self.done / self.total) if self.total else 0.0
        bar = "#" * int(share * WIDTH)
        left = f", {_duration(seconds * (1 - share) / share)} left" if 0 < share < 1 else f", {_duration(seconds)}"
        amount = f"{self.done / self.scale:,.0f} of {self.total / self.scale:,.0f} {self.unit}"
        line = f"{self.label} [{bar:{WIDTH}}] {amount}, {self.done / seconds / self.scale:,.1f} {self.unit}/s{left}"
        if self._terminal:
            print("\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1], end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"
