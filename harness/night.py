"""What a night works with: the one value that the loop hands from step to step."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness import git
from harness.bench import Bench
from harness.ledger import Ledger
from harness.models import PROGRESS, Measurement, Record, UserError, Verdict
from harness.protocols import Agent
from harness.state import Status, progress_of
from harness.steps import Step, reached


@dataclass
class Interrupt:
    """What the user asked for: `soon` finishes the run in progress, `now` does not even do that."""

    soon: bool = False
    now: bool = False


@dataclass(kw_only=True)
class Night(Bench):
    """A bench with a ledger and agents. `tell` is called with each closed record, `show` with what is going on."""

    ledger: Ledger
    mirror: git.Repo
    agents: list[Agent]
    interrupt: Interrupt
    tell: Callable[[Record], None]
    show: Callable[[Status], None]
    versions: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def check(self, record: Record) -> Measurement | None:
        """The task's check of an experiment's commit: `ok`, or `crash` with the reason; None when it was interrupted."""
        if not self.task.check:
            return Measurement(status="ok")
        assert record.experiment.commit is not None
        work, seconds = self.state.run(self.ledger.tag, f"{record.id}-check"), self.task.budget.check_s
        checked = self.examine(record.experiment.commit, work, self.watch(record, "check", Step.CHECK_GOES_ON, seconds))
        if checked and checked.status == "ok":
            reached(Step.CHECKED)
        return checked

    def watch(
        self, record: Record, phase: str, step: Step, limit_s: float | None = None, work: Path | None = None
    ) -> Callable[[], bool]:
        """`publish` for an experiment."""
        return self.publish(record.id, record.experiment.agent, phase, step, limit_s, work)

    def publish(
        self, what: str, agent: str, phase: str, step: Step, limit_s: float | None = None, work: Path | None = None
    ) -> Callable[[], bool]:
        """A cancel function that also publishes what is going on each time it is asked, the first time with `step`.

        `limit_s` is the time that there is; a referee publishes its own, in the folder `work` of its run.
        """
        started, asked = time.monotonic(), False

        def cancel() -> bool:
            nonlocal asked
            told = progress_of(work / PROGRESS) if work else {}
            numbers = {name: float(value) for name in ("left_s", "loss") if isinstance(value := told.get(name), int | float)}
            elapsed = time.monotonic() - started
            status = Status(
                pid=os.getpid(),
                tag=self.ledger.tag,
                experiment=what,
                agent=agent,
                phase=f"{phase}: {told['phase']}" if "phase" in told else phase,
                elapsed_s=elapsed,
                left_s=numbers.get("left_s", None if limit_s is None else limit_s - elapsed),
                loss=numbers.get("loss"),
            )
            self.state.tell(status)
            self.show(status)
            if not asked:
                reached(step)
            asked = True
            return self.interrupt.now

        return cancel

    def program(self) -> tuple[str, str]:
        """program.md as it stands in the user's work tree now, and its blob id."""
        path = git.root(self.repo) / self.task.program
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read: {error}; the prompt is made from it") from error
        return text, git.write(self.repo, text.encode())

    def close(self, record: Record, verdict: Verdict, texts: dict[str, str] | None = None) -> Record:
        """Write the verdict into the record; the branches follow in `Ledger.settle`."""
        return self.ledger.save(record.model_copy(update={"state": "closed", "verdict": verdict}), Step.CLOSED, texts)
