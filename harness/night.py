"""What a night works with: the one value that the loop hands from step to step."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from harness import git
from harness.bench import Bench
from harness.gateway.client import Gateway
from harness.ledger import Ledger
from harness.models import PROGRESS, Record, UserError, Verdict
from harness.protocols import Agent, Line
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
    gateway: Gateway | None = None
    versions: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def watch(self, record: Record, phase: str, work: Path | None = None) -> Callable[[], bool]:
        """A cancel function that also publishes what is going on each time it is asked; `work` is the folder of a run."""
        started, asked = time.monotonic(), False

        def cancel() -> bool:
            nonlocal asked
            told = progress_of(work / PROGRESS) if work else {}
            numbers = {name: float(value) for name in ("left_s", "loss") if isinstance(value := told.get(name), int | float)}
            elapsed = time.monotonic() - started
            status = Status(
                pid=os.getpid(),
                tag=self.ledger.tag,
                experiment=record.id,
                agent=record.experiment.agent,
                phase=f"{phase}: {told['phase']}" if "phase" in told else phase,
                elapsed_s=elapsed,
                left_s=numbers.get("left_s", self.task.budget.propose_s - elapsed if not work else None),
                loss=numbers.get("loss"),
                usd=self.gateway.latest.spent_usd if self.gateway else None,
            )
            self.state.tell(status)
            self.show(status)
            if not asked:
                reached(Step.RUN_GOES_ON if work else Step.AGENT_AT_WORK)
            asked = True
            return self.interrupt.now

        return cancel

    def line(self, record: Record) -> AbstractContextManager[Line | None]:
        """The way of a proposal's agent to its LLM provider; None when it has none."""
        return self.gateway.line(record.id, record.experiment.agent) if self.gateway else nullcontext()

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
