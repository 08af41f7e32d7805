"""Bits per byte from logits: pure functions, in the referee's process."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


class NotFinite(ValueError):
    """Logits that hold NaN or infinity, or no finite loss."""


@dataclass(frozen=True)
class Score:
    """Nats and raw bytes of the tokens scored so far; scores add up."""

    nats: float = 0.0
    size: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(self.nats + other.nats, self.size + other.size)

    @property
    def bits_per_byte(self) -> float:
        """The metric."""
        return self.nats / (math.log(2) * self.size)


def losses(logits: Floats, targets: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Cross entropy in nats, [T], of logits [T, V] that need not be normalised: the softmax is ours, in float32."""
    with np.errstate(invalid="ignore", over="ignore"):
        return _losses(logits, targets)


def _losses(logits: Floats, targets: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    picked = np.take_along_axis(shifted, targets.astype(np.int64)[:, None], axis=-1)[:, 0]
    result: Floats = np.log(np.exp(shifted).sum(axis=-1)) - picked
    if not np.isfinite(result).all():
        raise NotFinite("logits are not finite")
    return result


def score_row(logits: Floats, targets: npt.NDArray[np.uint16], token_bytes: npt.NDArray[np.int64]) -> Score:
    """The score of one row. Special tokens have no bytes: neither their nats nor their bytes count."""
    sizes = token_bytes[targets]
    nats = losses(logits, targets).astype(np.float64)
    return Score(float(nats[sizes > 0].sum()), int(sizes.sum()))


def score(
    logits: Floats, targets: npt.NDArray[np.uint16], token_bytes: npt.NDArray[np.int64], threads: Executor | None = None
) -> Score:
    """The score of logits [B, T, V] against targets [B, T]; the same with any number of threads."""
    rows = (threads.map if threads else map)(score_row, logits, targets, repeat(token_bytes))
    return sum(rows, Score())
