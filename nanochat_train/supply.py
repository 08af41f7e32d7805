"""What a run is given: a budget by the referee's own clock, and training rows in the order of the seed, shown in time."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from harness.models import Budget
from nanochat_train.channel import Fault
from nanochat_train.ring import ASLEEP, STARTED, Rows, Words, Writer, fence

AHEAD = 4  # calls
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

    @property
    def open(self) -> bool:
        """Whether rows are still shown."""
        return self.started is not None and time.monotonic() < self.deadline - self.kept_s

    @property
    def kept_s(self) -> float:
        """Seconds between the end of the rows and the deadline."""
        return min(SAVE_S, self.budget.run_s / 4) if self.budget.run_s else 0.0


class Order:
    """Training rows in the order that the seed gives, epoch after epoch."""

    def __init__(self, rows: Rows, seed: int) -> None:
        self.rows, self.seed = rows, seed
        self.epochs = 0
        self._left = self._epoch()

    def fill(self, slots: Rows) -> None:
        """Write the next len(slots) rows to `slots`."""
        while len(self._left) < len(slots):
            self._left = np.concatenate([self._left, self._epoch()])
        indices, self._left = self._left[: len(slots)], self._left[len(slots) :]
        np.take(self.rows, indices, axis=0, out=slots, mode="clip")  # without a mode it would copy through a buffer

    def _epoch(self) -> npt.NDArray[np.int64]:
        order: npt.NDArray[np.int64] = np.random.default_rng([self.seed, self.epochs]).permutation(len(self.rows))
        self.epochs += 1
        return order


class Supply:
    """Fills the ring ahead of the trainer, within the budget, and checks the one number that the trainer writes.

    Beyond what the trainer has taken it is shown at most AHEAD times its largest call, and never more than the budget in
    tokens. So the count of what it took is short of what it read by no more than that, whatever it writes.
    """

    def __init__(self, clock: Clock, order: Order, ring: Writer, counter: Words, seq_len: int) -> None:
        self.clock, self.order, self.ring, self.counter, self.seq_len = clock, order, ring, counter, seq_len
        tokens = clock.budget.run_tokens
        self.limit = None if tokens is None else tokens // seq_len
        self.taken = self.batch = 0

    def start(self) -> None:
        """Start the clock, once, and show when that was."""
        if self.clock.started is None:
            self.clock.started = time.monotonic()
            self.ring.words[STARTED] = int(self.clock.started * 1e9)

    def budget(self) -> dict[str, float | None]:
        """What the trainer is told of the budget: all of it, and how far there are rows."""
        run_s = self.clock.budget.run_s
        told = {"run_s": run_s, "run_tokens": self.clock.budget.run_tokens, "rows": self.limit}
        return {**told, "rows_s": run_s - self.clock.kept_s if run_s else None}

    def advance(self, wanted: int = 0) -> bool:
        """Show rows ahead of what was taken, `wanted` at least where the budget has them; whether there were new ones."""
        taken = int(self.counter[0])
        if taken < self.taken:
            raise Fault("invalid", f"set its row counter back from {self.taken} to {taken}")
        if taken > self.ring.published:
            raise Fault("invalid", f"set its row counter to {taken} when it had been given {self.ring.published} rows")
        self.taken, self.clock.tokens = taken, taken * self.seq_len
        self.batch = max(self.batch, wanted)
        upto = taken + min(AHEAD * self.batch, self.ring.most)
        upto = upto if self.limit is None else min(upto, self.limit)
        if upto <= self.ring.published or not self.clock.open:
            return False
        self.ring.publish(upto, self.order.fill)
        return True

    def sleep(self, asleep: bool) -> None:
        """Ask to be woken when rows are taken, or not to be."""
        self.ring.words[ASLEEP] = int(asleep)
        fence()
