"""A trusted guess at how surprising each token is, for choosing what to audit where no incumbent's values are at hand.

A mixture of counts, as old as compression: how often the token follows the last two tokens, the last one, or anything, in
training rows, and how often it followed the last one earlier in its own row. Only differences to it matter: where a model
is much better than all of these, it is worth asking how it knew. Without the row's own counts every repeated name would
look like a peek.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nanochat_train.data import Rows

TOKENS = 4_000_000  # of training text; more changes little
TABLE_BITS = 23
SHARES = (0.3, 0.3, 0.3, 0.1)  # two tokens, one token, own row, any

Ints = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]


def reference(rows: Rows, train: Rows, vocab_size: int) -> npt.NDArray[np.float32]:
    """Nats of the targets of rows [N, T+1], float32 [N, T]."""
    sample = np.asarray(train[: max(1, TOKENS // train.shape[1])], dtype=np.int64)
    asked = np.asarray(rows, dtype=np.int64)
    pairs, wanted = _chain(sample, 2, vocab_size), _chain(asked, 2, vocab_size)
    one = _share(_count(pairs, wanted), _count(sample[:, :-1], asked[:, :-1]))
    two = np.zeros_like(one)
    triples = _count(_chain(sample, 3, vocab_size), _chain(asked, 3, vocab_size))
    two[:, 1:] = _share(triples, _count(pairs, wanted[:, :-1]))
    numbers = np.arange(len(asked))[:, None]
    own = _share(_earlier(numbers * vocab_size**2 + wanted), _earlier(numbers * vocab_size + asked[:, :-1]))
    anything = (_count(sample, asked[:, 1:]) + 1) / (sample.size + vocab_size)
    mixed = sum(share * part for share, part in zip(SHARES, (two, one, own, anything), strict=True))
    return (-np.log(mixed)).astype(np.float32)


def _chain(rows: Ints, length: int, vocab_size: int) -> Ints:
    """A number for each run of `length` tokens: [N, T+1] -> [N, T+2-length]."""
    chained = rows[:, : rows.shape[1] - length + 1]
    for offset in range(1, length):
        chained = chained * vocab_size + rows[:, offset : rows.shape[1] - length + 1 + offset]
    return chained


def _count(keys: Ints, asked: Ints) -> Ints:
    """How often each of `asked` is among `keys`, by a table that now and then takes two keys for one."""
    counts: Ints = np.bincount(_place(keys).reshape(-1), minlength=1 << TABLE_BITS)
    return counts[_place(asked)]


def _place(keys: Ints) -> Ints:
    """Fibonacci hashing: the high bits of a product."""
    return (keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(64 - TABLE_BITS)).astype(np.int64)


def _earlier(keys: Ints) -> Ints:
    """How often each key occurs before its own place, read row by row."""
    flat = keys.reshape(-1)
    order = np.argsort(flat, kind="stable")
    ordered = flat[order]
    first = np.searchsorted(ordered, ordered)
    found = np.empty_like(flat)
    found[order] = np.arange(len(flat)) - first
    return found.reshape(keys.shape)


def _share(part: Ints, whole: Ints) -> Shares:
    return part / np.maximum(whole, 1)
