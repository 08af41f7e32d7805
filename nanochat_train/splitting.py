"""Which documents train, which validate, and which are the sealed test: decided by content, so that no two parts share one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.models import UserError
from nanochat_train.data import Part
from nanochat_train.pool import in_order
from nanochat_train.progress import Bar
from nanochat_train.texts import Piece, digest, documents

HELD_OUT_SHARE = 0.05  # of a corpus of your own, in each of validation and test
LEAST = 3  # different documents

Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Split:
    """The digests of held-out documents.

    Of a source with a held-out file, `first` says how many of its documents validate, `starts` with which document each of
    its pieces begins.
    """

    val: frozenset[int]
    test: frozenset[int]
    first: int | None = None
    starts: tuple[int, ...] = ()

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
        written.write_text(json.dumps({"first": self.first, "starts": self.starts}))
        written.rename(folder / "split.json")

    @classmethod
    def load(cls, folder: Path) -> Split:
        """Read what `save` wrote; FileNotFoundError where it did not come to its end."""
        stored = json.loads((folder / "split.json").read_text())
        val, test = (frozenset(np.load(folder / f"{name}-keys.npy", allow_pickle=False).tolist()) for name in ("val", "test"))
        return cls(val, test, stored["first"], tuple(stored["starts"]))


@dataclass(frozen=True)
class Survey:
    """The digests of documents, and their characters."""

    keys: Keys
    sizes: npt.NDArray[np.int64]


def survey(piece: Piece) -> Survey:
    """All documents of a piece, in order."""
    found = [(digest(text), len(text)) for text in documents(piece)]
    return Survey(np.array([key for key, _ in found], dtype=np.uint64), np.array([size for _, size in found], dtype=np.int64))


def by_hash(pieces: Sequence[Piece], most: int, source: str) -> Split:
    """Hold out the documents with the lowest digests: a share of all characters in each part, at most about `most`.

    Only as many digests are kept at a time as could be held out, so memory does not grow with the corpus.
    """
    found, total = survey(()), 0
    for each in _surveyed(pieces):
        found, total = _lowest(found, each, 3 * most), total + int(each.sizes.sum())
    if len(found.keys) < LEAST:
        raise UserError(f"{source} holds {len(found.keys)} different documents: at least three are needed")
    ends = np.cumsum(found.sizes)
    if ends[-1] < 3 * most:
        total = int(ends[-1])  # these are all documents, each once
    size = min(int(total * HELD_OUT_SHARE), most)
    first = int(np.searchsorted(ends, max(size, 1))) + 1
    second = int(np.searchsorted(ends, ends[first - 1] + max(size, 1))) + 1
    return Split(frozenset(found.keys[:first].tolist()), frozenset(found.keys[first:second].tolist()))


def by_file(held: Sequence[Piece]) -> Split:
    """Hold out the pieces of a file, as the publisher of a corpus did: its first half validates, the second is the test."""
    keys, starts = list[int](), list[int]()
    for each in _surveyed(held):
        starts.append(len(keys))
        keys += each.keys.tolist()
    first = len(keys) // 2
    val = frozenset(keys[:first])
    return Split(val, frozenset(keys[first:]) - val, first, tuple(starts))


def _surveyed(pieces: Sequence[Piece]) -> Iterator[Survey]:
    sizes = [sum(span.size for span in piece) for piece in pieces]
    with Bar("survey", sum(sizes)) as bar:
        for size, found in zip(sizes, in_order(survey, pieces), strict=True):
            bar.advance(size)
            yield found


def _lowest(one: Survey, other: Survey, characters: int) -> Survey:
    """The different documents of both with the lowest digests, of so many characters in sum and two more; ascending."""
    keys, first = np.unique(np.concatenate([one.keys, other.keys]), return_index=True)
    sizes = np.concatenate([one.sizes, other.sizes])[first]
    kept = int(np.searchsorted(np.cumsum(sizes), characters)) + 3
    return Survey(keys[:kept], sizes[:kept])
