"""Progress on stderr, and what Ctrl-C means."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from harness import view
from harness.models import Record
from harness.night import Interrupt
from harness.state import Status


class Screen:
    """Progress on stderr: a line for each change of phase, and on a terminal one line that is rewritten."""

    def __init__(self) -> None:
        """Nothing is printed yet."""
        self.terminal, self.shown = sys.stderr.isatty(), 0.0
        self.last: set[tuple[str, str]] = set()

    def say(self, text: str) -> None:
        """A line of its own."""
        print(("\r\033[K" if self.terminal else "") + text, file=sys.stderr, flush=True)

    def show(self, status: Status) -> None:
        """What is going on; off a terminal only when a phase changes."""
        now = {(each.experiment, each.phase): each for each in status.activities}
        new = [each for name, each in now.items() if name not in self.last]
        if self.terminal and (new or time.monotonic() - self.shown > 0.5):
            line = " | ".join(view.progress(status))[: shutil.get_terminal_size().columns - 1]
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
            self.shown = time.monotonic()
        elif not self.terminal:
            for each in new:
                self.say(view.activity(each))
        self.last = set(now)

    def tell(self, record: Record) -> None:
        """A closed experiment."""
        verdict = record.verdict
        title = record.proposal.title if record.proposal else record.experiment.agent
        for run in record.measurements:
            if "dirty" in run.hardware:
                self.say(run.hardware["dirty"])
            if "shared" in run.hardware:
                self.say(f"warning: a run of {record.id} shared {run.hardware['shared']}: what was measured may have suffered")
        self.say(f"{record.id} {verdict.status if verdict else ''}: {title}: {verdict.reason if verdict else ''}")


@contextmanager
def interruptible(screen: Screen) -> Iterator[Interrupt]:
    """Ctrl-C once: soon; twice, or SIGTERM: now."""
    interrupt = Interrupt()

    def handle(number: int, _frame: object) -> None:
        interrupt.now = interrupt.soon or number == signal.SIGTERM
        interrupt.soon = True
        screen.say("stopping now" if interrupt.now else "stopping after the run in progress; Ctrl-C again stops now")

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
