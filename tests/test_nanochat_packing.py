"""Documents into rows, against the plainest program that does the same."""

from __future__ import annotations

import numpy as np
import pytest

from nanochat_train import packing
from nanochat_train.data import Rows
from nanochat_train.packing import BATCH, POOL, Packing, Tokens
from nanochat_train.prepare import SHAPES

BOS = 60_000


def pack(packing: Packing, texts: list[list[int]], bos: int, seq_len: int, most: int | None = None, chunk: int = 700) -> Rows:
    """The rows of documents that come in chunks which end anywhere."""
    stream = np.array([token for ids in texts for token in (bos, *ids)], dtype=np.uint16)
    chunks: list[Tokens] = [stream[start : start + chunk] for start in range(0, len(stream), chunk)]
    return np.concatenate([np.empty((0, seq_len + 1), dtype=np.uint16), *packing(chunks, bos, seq_len, most)])


def best_fit(texts: list[list[int]], bos: int, seq_len: int, most: int | None = None) -> Rows:
    return pack(packing.best_fit, texts, bos, seq_len, most)


def contiguous(texts: list[list[int]], bos: int, seq_len: int, most: int | None = None, chunk: int = 700) -> Rows:
    return pack(packing.contiguous, texts, bos, seq_len, most, chunk)


def documents(count: int, seed: int, longest: int) -> list[list[int]]:
    """Token ids that tell every place of every document from every other, modulo 50,000."""
    lengths = np.random.default_rng(seed).integers(1, longest, count)
    starts = np.cumsum(lengths) - lengths
    return [[int(n) % 50_000 for n in range(start, start + length)] for start, length in zip(starts, lengths, strict=True)]


def oracle(texts: list[list[int]], seq_len: int) -> list[list[int]]:
    """Best fit by looking at every document of the pool, every time."""
    waiting, pool, rows = [[BOS, *ids] for ids in texts], list[list[int]](), list[list[int]]()
    while True:
        row: list[int] = []
        while len(row) < seq_len + 1:
            while len(pool) < POOL and waiting:
                pool, waiting = pool + waiting[:BATCH], waiting[BATCH:]
            if not pool:
                return rows
            room = seq_len + 1 - len(row)
            fits = [ids for ids in pool if len(ids) <= room]
            chosen = max(fits, key=len) if fits else min(pool, key=len)  # the first of several, both
            pool.remove(chosen)
            row += chosen[:room]
        rows.append(row)


@pytest.mark.parametrize(("seq_len", "longest"), [(16, 40), (64, 40), (64, 200), (7, 3)])
def test_best_fit_is_what_it_says(seq_len: int, longest: int) -> None:
    texts = documents(1500, seq_len, longest)
    packed, expected = best_fit(texts, BOS, seq_len), oracle(texts, seq_len)
    assert packed.dtype == np.uint16
    assert packed.tolist() == expected
    assert (packed[:, 0] == BOS).all()
    assert best_fit(texts, BOS, seq_len, 5).tolist() == expected[:5]


def test_the_longest_that_fits_comes_first_and_the_shortest_is_cut() -> None:
    assert best_fit([[1, 1, 1, 1], [2], [3, 3, 3], [4, 4, 4, 4]], 9, 5).tolist() == [[9, 1, 1, 1, 1, 9], [9, 4, 4, 4, 4, 9]]
    assert best_fit([[1] * 9], 9, 5).tolist() == [[9, 1, 1, 1, 1, 1]]
    assert best_fit([[1]], 9, 5).shape == (0, 6)
    assert best_fit([], 9, 5).shape == (0, 6)


def test_rows_are_contiguous_and_do_not_overlap() -> None:
    rows = contiguous([[1, 2, 3], [4, 5, 6, 7]], bos=9, seq_len=2)
    assert rows.tolist() == [[9, 1, 2], [3, 9, 4], [5, 6, 7]]
    assert rows.dtype == np.uint16
    assert contiguous([[1, 2, 3], [4, 5, 6, 7]], 9, 2, 2).tolist() == rows[:2].tolist()
    for chunk in (1, 2, 3, 4):
        assert contiguous([[1, 2, 3], [4, 5, 6, 7]], 9, 2, chunk=chunk).tolist() == rows.tolist()


def test_the_gpu_profile_is_upstreams() -> None:
    shape = SHAPES["gpu"]
    assert (shape.packing, shape.vocab_size, shape.seq_len) == ("best-fit", 8192, 2048)
    assert shape.held_out_rows * shape.seq_len == 40 * 524_288
