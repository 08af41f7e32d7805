"""What a night works with: the one value that the loop hands from step to step."""

from __future__ import annotations

import math
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
from harness.models import PROGRESS, Outcome, Record, UserError, Verdict
from harness.protocols import Agent, Line
from harness.state import Status, progress_of
from harness.steps import Step, reached

PAUSES = {"auth": math.inf, "quota": 1800.0}  # seconds that an agent is not asked after such an outcome


@dataclass
class Interrupt:
    """What the user asked for: `soon` finishes the run in progress, `now` does not even do that."""

    soon: bool = False
    now: bool = False


@dataclass(frozen=True)
class Pause:
    """Until when, by the monotonic clock, an agent is not asked, and why."""

    until: float
    reason: str


NEVER = Pause(-math.inf, "")


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
    paused: dict[str, Pause] = field(default_factory=dict)
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

    def pause(self, agent: str, outcome: Outcome) -> None:
        """Ask an agent no more, or not for a while, when its account is what stops it."""
        if outcome.kind in PAUSES:
            self.paused[agent] = Pause(time.monotonic() + PAUSES[outcome.kind], outcome.reason)

    def ready(self) -> list[Agent]:
        """The agents that may be asked now, in their order."""
        return [each for each in self.agents if self.paused.get(each.spec.name, NEVER).until <= time.monotonic()]

    def program(self, other: str = "") -> tuple[str, str]:
        """The task's program, or an `other` one, as it stands in the user's work tree now, and its blob id."""
        path = git.root(self.repo) / (other or self.task.program)
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read: {error}; the prompt is made from it") from error
        return text, git.write(self.repo, text.encode())

    def close(self, record: Record, verdict: Verdict, texts: dict[str, str] | None = None) -> Record:
        """Write the verdict into the record; the branches follow in `Ledger.settle`."""
        return self.ledger.save(record.model_copy(update={"state": "closed", "verdict": verdict}), Step.CLOSED, texts)
