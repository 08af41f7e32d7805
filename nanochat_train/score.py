"""Bits per byte from logits: pure functions, in the referee's process."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


class NotFinite(ValueError):
    """Logits that hold NaN or infinity, or no finite loss."""


@dataclass(frozen=True)
class Score:
    """Nats and raw bytes of the tokens that were scored."""

    nats: float
    size: int

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


def nats(logits: Floats, targets: npt.NDArray[np.uint16], threads: Executor | None = None) -> Floats:
    """Losses [B, T] of logits [B, T, V]; the same with any number of threads."""
    return np.stack(list((threads.map if threads else map)(losses, logits, targets)))


def total(nll: Floats, targets: npt.NDArray[np.uint16], token_bytes: npt.NDArray[np.int64]) -> Score:
    """The score of losses [N, T]. Special tokens have no bytes: neither their nats nor their bytes count."""
    sizes = token_bytes[targets]
    return Score(float(nll[sizes > 0].sum(dtype=np.float64)), int(sizes.sum()))
