"""Documents, as token ids, into rows of T+1 tokens, uint16 [N, T+1]. No row holds what another row is asked to predict."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable
from itertools import chain, islice

import numpy as np

from nanochat_train.data import Rows

POOL = 1000  # documents to choose from
BATCH = 128  # documents that join the pool at a time

Documents = Iterable[list[int]]


def contiguous(documents: Documents, bos: int, seq_len: int, most: int | None = None) -> Rows:
    """BOS before each document, documents cut wherever a row ends; the rest that fills no row is dropped."""
    tokens = chain.from_iterable((bos, *ids) for ids in documents)
    stream = np.fromiter(islice(tokens, most and most * (seq_len + 1)), dtype=np.uint16)
    count = len(stream) // (seq_len + 1)
    return stream[: count * (seq_len + 1)].reshape(count, seq_len + 1)


def best_fit(documents: Documents, bos: int, seq_len: int, most: int | None = None) -> Rows:
    """Every row begins with BOS: the longest document of a pool that still fits, and so on; where none fits, the shortest, cut.

    The packing of karpathy/autoresearch (prepare.py, make_dataloader) and of nanochat, whose published scores are of rows
    made this way. Theirs goes on with the next epoch when documents run out; here the pool is emptied.
    """
    pool, rows = _Pool(documents), list[Rows]()
    while (most is None or len(rows) < most) and (row := _row(pool, bos, seq_len + 1)) is not None:
        rows.append(row)
    return np.stack(rows) if rows else np.empty((0, seq_len + 1), dtype=np.uint16)


PACKINGS: dict[str, Callable[[Documents, int, int, int | None], Rows]] = {"contiguous": contiguous, "best-fit": best_fit}


def _row(pool: _Pool, bos: int, width: int) -> Rows | None:
    """The next row, or None when the documents that are left do not fill one."""
    row, end = np.empty(width, dtype=np.uint16), 0
    while end < width:
        if (ids := pool.take(width - end)) is None:
            return None
        row[end] = bos
        kept = ids[: width - end - 1]
        row[end + 1 : end + 1 + len(kept)] = kept
        end += 1 + len(kept)
    return row


class _Pool:
    """Documents to choose from, by their length with BOS; of the same length the one that came first."""

    def __init__(self, documents: Documents) -> None:
        self._source = iter(documents)
        self._keys: list[tuple[int, int]] = []  # (length, -number), sorted
        self._documents: dict[int, list[int]] = {}
        self._count = 0

    def take(self, room: int) -> list[int] | None:
        """The longest that fits into `room` tokens, else the shortest; None when there is none left."""
        while len(self._keys) < POOL and (batch := list(islice(self._source, BATCH))):
            for ids in batch:
                insort(self._keys, (len(ids) + 1, -self._count))
                self._documents[self._count] = ids
                self._count += 1
        if not self._keys:
            return None
        fitting = bisect_right(self._keys, (room, 0)) or bisect_right(self._keys, (self._keys[0][0], 0))
        return self._documents.pop(-self._keys.pop(fitting - 1)[1])
