"""The score against values known without it."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest

from nanochat_train.score import Floats, NotFinite, Score, losses, nats, total

BYTES = np.array([1, 2, 3, 0], dtype=np.int64)  # token 3 is special
TARGETS = np.array([[0, 1, 3], [2, 3, 1]], dtype=np.uint16)


def score(logits: Floats, targets: npt.NDArray[np.uint16]) -> Score:
    return total(nats(logits, targets), targets, BYTES)


def test_equal_logits_cost_the_logarithm_of_the_vocabulary() -> None:
    found = score(np.full((2, 3, 4), 7, dtype=np.float32), TARGETS)
    assert found.size == 1 + 2 + 3 + 2
    assert found.bits_per_byte == pytest.approx(4 * math.log2(4) / 8)


def test_logits_need_not_be_normalised() -> None:
    probabilities = np.array([0.5, 0.25, 0.125, 0.125])
    logits = np.broadcast_to(np.log(probabilities) + 1000, (2, 3, 4)).astype(np.float32)
    bits = 1 + 2 + 3 + 2
    assert score(logits, TARGETS).bits_per_byte == pytest.approx(bits / 8, rel=1e-4)


def test_special_tokens_count_neither_bits_nor_bytes() -> None:
    logits = np.zeros((1, 3, 4), dtype=np.float32)
    worse = logits.copy()
    worse[0, 2, 3] = -50
    assert score(logits, TARGETS[:1]) == score(worse, TARGETS[:1])


def test_threads_change_nothing() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(16, 3, 4)).astype(np.float32)
    targets = rng.integers(0, 4, (16, 3)).astype(np.uint16)
    with ThreadPoolExecutor(3) as threads:
        assert (nats(logits, targets, threads) == nats(logits, targets)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    logits = np.zeros((3, 4), dtype=np.float32)
    logits[0, 0] = bad
    with pytest.raises(NotFinite):
        losses(logits, TARGETS[0])
