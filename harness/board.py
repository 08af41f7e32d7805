"""What a night is doing now, for whoever looks: one entry for each agent and each run at work, from any of their threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.models import PROGRESS
from harness.protocols import Cancel
from harness.state import Activity, Status, progress_of
from harness.steps import Step, reached


class Board:
    """Publishes the status of a night each time that somebody at work looks up, which is four times a second."""

    def __init__(self, tag: str, publish: Callable[[Status], None], stop: Cancel, usd: Callable[[], float | None]) -> None:
        """`publish` is called with what is going on, `stop` says whether work is to be cancelled, `usd` what was spent."""
        self._tag, self._publish, self._stop, self._usd = tag, publish, stop, usd
        self._lock, self._entries = threading.Lock(), dict[object, Activity]()

    @contextmanager
    def entry(
        self, what: str, agent: str, phase: str, step: Step, limit_s: float | None = None, work: Path | None = None
    ) -> Iterator[Cancel]:
        """A cancel function that also publishes what is going on each time it is asked, the first time with `step`.

        `limit_s` is the time that there is; a referee publishes its own, in the folder `work` of its run.
        """
        started, asked, key = time.monotonic(), False, object()

        def cancel() -> bool:
            nonlocal asked
            told = progress_of(work / PROGRESS) if work else {}
            numbers = {name: float(value) for name in ("left_s", "loss") if isinstance(value := told.get(name), int | float)}
            elapsed = time.monotonic() - started
            self._put(
                key,
                Activity(
                    experiment=what,
                    phase=f"{phase}: {told['phase']}" if "phase" in told else phase,
                    agent=agent,
                    elapsed_s=elapsed,
                    left_s=numbers.get("left_s", None if limit_s is None else limit_s - elapsed),
                    loss=numbers.get("loss"),
                ),
            )
            if not asked:
                reached(step)
            asked = True
            return self._stop()

        try:
            yield cancel
        finally:
            with self._lock:
                self._entries.pop(key, None)

    def _put(self, key: object, activity: Activity) -> None:
        with self._lock:
            self._entries[key] = activity
            status = Status(pid=os.getpid(), tag=self._tag, activities=list(self._entries.values()), usd=self._usd())
            self._publish(status)
