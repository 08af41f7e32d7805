"""What a run is given: a budget by the referee's own clock, and training rows in the order of the seed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from harness.models import Budget
from nanochat_train.data import Rows

SAVE_S = 1.0  # of a budget in seconds, kept for the last step and for saving: rows end that much earlier


class Clock:
    """The budget of a run: seconds, or tokens within a limit of seconds. Lives in this process only."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.created = time.monotonic()
        self.started: float | None = None
        self.tokens = 0

    @property
    def deadline(self) -> float:
        """When work stops counting; before the start, when the start is overdue."""
        if self.started is None:
            return self.created + self.budget.startup_s
        return self.started + (self.budget.run_s or self.budget.limit_s)

    @property
    def progress(self) -> float:
        """Share of the budget that is used up, 0 to 1."""
        if self.started is None:
            return 0.0
        by_time = (time.monotonic() - self.started) / self.budget.run_s if self.budget.run_s else 0.0
        by_tokens = self.tokens / self.budget.run_tokens if self.budget.run_tokens else 0.0
        return min(1.0, max(by_time, by_tokens))

    @property
    def left_s(self) -> float:
        """Seconds to the end, estimated from the speed so far where the budget is in tokens."""
        now = time.monotonic()
        left = max(0.0, self.deadline - now)
        if self.started is not None and not self.budget.run_s and self.progress > 0:
            left = min(left, (now - self.started) * (1 - self.progress) / self.progress)
        return left

    def take(self, tokens: int) -> bool:
        """Whether `tokens` more are within the budget; if so they are used."""
        over = self.budget.run_tokens is not None and self.tokens + tokens > self.budget.run_tokens
        kept = min(SAVE_S, self.budget.run_s / 4) if self.budget.run_s else 0.0
        if over or time.monotonic() >= self.deadline - kept:
            return False
        self.tokens += tokens
        return True


class Order:
    """Training rows in the order that the seed gives, epoch after epoch."""

    def __init__(self, rows: Rows, seed: int) -> None:
        self.rows = rows
        self._order = self._indices(seed)

    def take(self, count: int) -> Rows:
        """The next `count` rows."""
        indices = np.fromiter((next(self._order) for _ in range(count)), dtype=np.int64, count=count)
        return self.rows[indices]

    def _indices(self, seed: int) -> Iterator[int]:
        epoch = 0
        while True:
            order: npt.NDArray[np.int64] = np.random.default_rng([seed, epoch]).permutation(len(self.rows))
            yield from order.tolist()
            epoch += 1
