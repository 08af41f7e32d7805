"""Which documents train, which validate, and which are the sealed test: decided by content, so that no two parts share one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.models import UserError
from nanochat_train.data import Part
from nanochat_train.pool import in_order
from nanochat_train.texts import Piece, digest, documents

HELD_OUT_SHARE = 0.05  # of a corpus of your own, in each of validation and test
LEAST = 3  # different documents

Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Split:
    """The digests of held-out documents. `first`: of a source with a held-out file, how many of its documents validate."""

    val: frozenset[int]
    test: frozenset[int]
    first: int | None = None

    def part(self, key: int, number: int | None = None) -> Part | None:
        """The part of a document, by its digest and, in a held-out file, its number there; None for a copy that is left out."""
        if number is not None and self.first is not None:
            return "val" if number < self.first else None if key in self.val else "test"
        held: Part | None = "val" if key in self.val else "test" if key in self.test else None
        return "train" if held is None else held if self.first is None else None

    def save(self, folder: Path) -> None:
        """Write the split to a folder; `split.json` comes last."""
        for name in ("val", "test"):
            np.save(folder / f"{name}-keys.npy", np.array(sorted(getattr(self, name)), dtype=np.uint64))
        written = folder / "split.json.new"
        written.write_text(json.dumps(self.first))
        written.rename(folder / "split.json")

    @classmethod
    def load(cls, folder: Path) -> Split:
        """Read what `save` wrote; FileNotFoundError where it did not come to its end."""
        first = json.loads((folder / "split.json").read_text())
        val, test = (frozenset(np.load(folder / f"{name}-keys.npy", allow_pickle=False).tolist()) for name in ("val", "test"))
        return cls(val, test, first)


@dataclass(frozen=True)
class Survey:
    """The different documents of a piece or of several, by ascending digest, with their characters; `total` counts copies too."""

    keys: Keys
    sizes: npt.NDArray[np.int64]
    total: int


def survey(piece: Piece) -> Survey:
    """All documents of a piece."""
    keys, sizes = list[int](), list[int]()
    for text in documents(piece):
        keys.append(digest(text))
        sizes.append(len(text))
    distinct, first = np.unique(np.array(keys, dtype=np.uint64), return_index=True)
    return Survey(distinct, np.array(sizes, dtype=np.int64)[first], sum(sizes))


def by_hash(pieces: Sequence[Piece], most: int, source: str) -> Split:
    """Hold out the documents with the lowest digests: a share of all characters in each part, at most about `most`.

    Only as many digests are kept at a time as could be held out, so memory does not grow with the corpus.
    """
    found = Survey(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64), 0)
    for each in in_order(survey, pieces):
        found = _lowest(found, each, 3 * most)
    if len(found.keys) < LEAST:
        raise UserError(f"{source} holds {len(found.keys)} different documents: at least three are needed")
    size = min(int(found.total * HELD_OUT_SHARE), most)
    ends = np.cumsum(found.sizes)
    first = int(np.searchsorted(ends, max(size, 1))) + 1
    second = int(np.searchsorted(ends, ends[first - 1] + max(size, 1))) + 1
    return Split(frozenset(found.keys[:first].tolist()), frozenset(found.keys[first:second].tolist()))


def by_file(held: Piece) -> Split:
    """Hold out a file, as the publisher of a corpus did: its first half validates, the second is the test."""
    keys = [digest(text) for text in documents(held)]
    val = frozenset(keys[: len(keys) // 2])
    return Split(val, frozenset(keys[len(keys) // 2 :]) - val, len(keys) // 2)


def _lowest(one: Survey, other: Survey, characters: int) -> Survey:
    """The documents of both with the lowest digests, of so many characters in sum and two more."""
    keys, first = np.unique(np.concatenate([one.keys, other.keys]), return_index=True)
    sizes = np.concatenate([one.sizes, other.sizes])[first]
    kept = int(np.searchsorted(np.cumsum(sizes), characters)) + 3
    return Survey(keys[:kept], sizes[:kept], one.total + other.total)
