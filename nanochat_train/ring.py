"""Training rows from the referee to the trainer without a copy or a question: a ring in shared memory.

Two memfds that nobody can resize. The first holds a page of words and the rows, and only the referee can write it. The
second holds one word that the trainer writes: how many rows it has taken. With M rows as the most of one call, rows go to
slots 0..2M-1 in turn, and slots 0..M-1 are written once more behind the last, so that n <= M rows that follow each other
are one array wherever they begin, and what the trainer holds is not overwritten while M more are shown to it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

PAGE = 4096
CALL_BYTES = 4 << 20  # of rows in one call: two million tokens
PUBLISHED, STARTED, ASLEEP = range(3)  # words of the referee's page: rows shown, start of the clock in ns, who to wake

Rows = npt.NDArray[np.uint16]
Words = npt.NDArray[np.uint64]
_lock = threading.Lock()


def most_rows(width: int) -> int:
    """M for rows of `width` tokens."""
    return max(1, CALL_BYTES // (2 * width))


def size(width: int) -> int:
    """Bytes of the first memory."""
    return PAGE + 3 * most_rows(width) * 2 * width


def views(memory: npt.NDArray[Any], width: int) -> tuple[Words, Rows]:
    """The referee's words, and the slots [3M, width], of the first memory given as bytes."""
    return memory[:PAGE].view(np.uint64), memory[PAGE : size(width)].view(np.uint16).reshape(-1, width)


def window(slots: Rows, first: int, count: int) -> Rows:
    """Rows number first..first+count-1, count <= M, as one array."""
    place = first % (2 * len(slots) // 3)
    return slots[place : place + count]


def fence() -> None:
    """What this process stored before is seen before what it stores after, and read likewise, on any processor."""
    for _ in range(2):  # a release, then an acquire
        with _lock:
            pass


class Writer:
    """The referee's end: shows rows in order. `published` is this process's own count and never read back."""

    def __init__(self, memory: npt.NDArray[Any], width: int) -> None:
        memory[:] = 0  # its pages exist from now on
        self.words, self.slots = views(memory, width)
        self.most = len(self.slots) // 3
        self.published = 0

    def publish(self, upto: int, fill: Callable[[Rows], None]) -> None:
        """Let `fill` write the rows up to number `upto`, then show them."""
        while self.published < upto:
            first = self.published % (2 * self.most)
            last = min(first + upto - self.published, 2 * self.most)
            fill(self.slots[first:last])
            again = min(last, self.most)
            if first < again:
                self.slots[2 * self.most + first : 2 * self.most + again] = self.slots[first:again]
            self.published += last - first
        fence()
        self.words[PUBLISHED] = self.published
