"""What a night is doing now, for whoever looks: one entry for each agent and each run at work, from any of their threads."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from harness.models import PROGRESS
from harness.protocols import Cancel
from harness.state import Activity, Status, progress_of
from harness.steps import Step, reached

CURVE_POINTS = 200


@dataclass
class Course:
    """How far something at work is, by what is published of it. `curve` holds (share of its phase's time, loss), thinned out."""

    phase: str = ""
    began: float = field(default_factory=time.monotonic)
    told: float | None = None
    curve: list[tuple[float, float]] = field(default_factory=list)
    stride: int = 1
    seen: int = 0

    def share(self, phase: str, left_s: float | None) -> float | None:
        """How much of the time that a phase has is over, from the moment at which it was first heard of."""
        if phase != self.phase:
            self.phase, self.began = phase, time.monotonic()
        if left_s is None:
            return None
        spent = time.monotonic() - self.began
        return min(1.0, spent / (spent + max(0.0, left_s))) if spent + left_s > 0 else 1.0

    def add(self, share: float, loss: float) -> None:
        """One more loss, unless it is the one that was published a moment before."""
        if loss == self.told or not math.isfinite(loss):
            return
        self.told = loss
        if self.seen % self.stride == 0:
            self.curve.append((round(share, 4), float(f"{loss:.5g}")))
            if len(self.curve) > CURVE_POINTS:
                self.curve, self.stride = self.curve[::2], 2 * self.stride
        self.seen += 1


class Board:
    """Publishes the status of a night each time that somebody at work looks up, which is four times a second."""

    def __init__(self, status: Status, publish: Callable[[Status], None], stop: Cancel, usd: Callable[[], float | None]) -> None:
        """`publish` is called with `status` and what is going on, `stop` says whether work is to be cancelled, `usd` what was
        spent."""
        self._status, self._publish, self._stop, self._usd = status, publish, stop, usd
        self._lock, self._entries = threading.Lock(), dict[object, Activity]()

    @contextmanager
    def entry(
        self, what: str, agent: str, phase: str, step: Step, limit_s: float | None = None, work: Path | None = None
    ) -> Iterator[Cancel]:
        """A cancel function that also publishes what is going on each time it is asked, the first time with `step`.

        `limit_s` is the time that there is; a referee publishes its own, in the folder `work` of its run.
        """
        started, asked, key, course = time.monotonic(), False, object(), Course()

        def cancel() -> bool:
            nonlocal asked
            told = progress_of(work / PROGRESS) if work else {}
            numbers = {name: float(value) for name in ("left_s", "loss") if isinstance(value := told.get(name), int | float)}
            elapsed, loss = time.monotonic() - started, numbers.get("loss")
            left_s = numbers.get("left_s", None if limit_s is None else limit_s - elapsed)
            now = f"{phase}: {told['phase']}" if "phase" in told else phase
            share = course.share(now, left_s)
            if loss is not None and share is not None:
                course.add(share, loss)
            self._put(
                key,
                Activity(
                    experiment=what,
                    phase=now,
                    agent=agent,
                    elapsed_s=elapsed,
                    left_s=left_s,
                    loss=loss,
                    share=share,
                    curve=course.curve,
                ),
            )
            if not asked:
                reached(step)
            asked = True
            return self._stop()

        try:
            yield cancel
        finally:
            with suppress(OSError):  # a disk that is full is no news here, and what ended the work may be on its way up
                self._put(key, None)

    def end(self, reason: str) -> None:
        """The night is over, and why; what is said first stands."""
        with self._lock, suppress(OSError):
            if not self._status.ended:
                self._status = self._status.model_copy(update={"ended": reason})
                self._tell()

    def _put(self, key: object, activity: Activity | None) -> None:
        with self._lock:
            if activity:
                self._entries[key] = activity
            else:
                self._entries.pop(key, None)
            self._tell()

    def _tell(self) -> None:
        now = {"activities": list(self._entries.values()), "usd": self._usd(), "updated": datetime.now(UTC).isoformat()}
        self._publish(self._status.model_copy(update=now))
