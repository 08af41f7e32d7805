"""Documents, as token ids, into rows of T+1 tokens, uint16 [N, T+1]. No row holds what another row is asked to predict.

A packing takes token ids in chunks of any length, uint16, BOS before each document, and yields rows in blocks; neither
holds more than a chunk and a pool of documents. With `most` it ends after that many rows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, pairwise

import numpy as np
import numpy.typing as npt

from nanochat_train.data import Rows

POOL = 1000  # documents to choose from
BATCH = 128  # documents that join the pool at a time
BLOCK = 512  # rows that are yielded at a time

Tokens = npt.NDArray[np.uint16]
Packing = Callable[[Iterable[Tokens], int, int, int | None], Iterator[Rows]]


def contiguous(chunks: Iterable[Tokens], bos: int, seq_len: int, most: int | None = None) -> Iterator[Rows]:
    """Documents cut wherever a row ends; the rest that fills no row is dropped."""
    rest, count = np.empty(0, dtype=np.uint16), 0
    for chunk in chunks:
        stream = np.concatenate([rest, chunk])
        rows = stream[: len(stream) // (seq_len + 1) * (seq_len + 1)].reshape(-1, seq_len + 1)
        rest = stream[rows.size :]
        rows = rows if most is None else rows[: most - count]
        count += len(rows)
        yield rows
        if count == most:
            return


def best_fit(chunks: Iterable[Tokens], bos: int, seq_len: int, most: int | None = None) -> Iterator[Rows]:
    """Every row begins with BOS: the longest document of a pool that still fits, and so on; where none fits, the shortest, cut.

    The packing of karpathy/autoresearch (prepare.py, make_dataloader) and of nanochat, whose published scores are of rows
    made this way. Theirs goes on with the next epoch when documents run out; here the pool is emptied.
    """
    pool, count = _Pool(_documents(chunks, bos), seq_len + 1), 0
    while most is None or count < most:
        block = np.empty((BLOCK if most is None else min(BLOCK, most - count), seq_len + 1), dtype=np.uint16)
        filled = next((n for n, row in enumerate(block) if not _fill(row, pool)), len(block))
        count += filled
        yield block[:filled]
        if filled < len(block):
            return


PACKINGS: dict[str, Packing] = {"contiguous": contiguous, "best-fit": best_fit}


def _documents(chunks: Iterable[Tokens], bos: int) -> Iterator[Tokens]:
    """Each document with its BOS."""
    rest = np.empty(0, dtype=np.uint16)
    for chunk in chunks:
        tokens = np.concatenate([rest, chunk])
        starts = np.flatnonzero(tokens == bos).tolist()
        for start, stop in pairwise(starts):
            yield tokens[start:stop]
        rest = tokens[starts[-1] :] if starts else tokens
    if len(rest):
        yield rest


def _fill(row: Tokens, pool: _Pool) -> bool:
    """Fill one row; False when the documents that are left do not."""
    end, width = 0, len(row)
    while end < width:
        if (document := pool.take(width - end)) is None:
            return False
        kept = document[: width - end]
        row[end : end + len(kept)] = kept
        end += len(kept)
    return True


class _Pool:
    """Documents to choose from, by their length; of the same length the one that came first."""

    def __init__(self, documents: Iterable[Tokens], width: int) -> None:
        self._source = iter(documents)
        self._width = width
        self._keys: list[tuple[int, int]] = []  # (length, -number), sorted
        self._documents: dict[int, Tokens] = {}
        self._count = 0

    def take(self, room: int) -> Tokens | None:
        """The longest that fits into `room` tokens, else the shortest; None when there is none left."""
        keys = self._keys
        while len(keys) < POOL and (batch := list(islice(self._source, BATCH))):
            for document in batch:
                keys.append((len(document), -self._count))
                # A copy, as a view would keep its whole chunk in memory; and no more of it than a row can show.
                self._documents[-self._count] = document[: self._width].copy()
                self._count += 1
            keys.sort()
        if not keys:
            return None
        fitting = bisect_right(keys, (room, 0)) or bisect_right(keys, (keys[0][0], 0))
        return self._documents.pop(keys.pop(fitting - 1)[1])
