"""What a night works with: the one value that the loop hands from step to step."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from harness import git
from harness.bench import Bench
from harness.gateway.client import Gateway
from harness.ledger import Ledger
from harness.models import PROGRESS, Measurement, Outcome, Record, UserError, Verdict
from harness.protocols import Agent, Line
from harness.state import Status, progress_of
from harness.steps import Step, reached

PATIENCE_S = 120.0  # the gateway itself holds a request back for so long
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
    fallbacks: dict[str, Agent] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    paused: dict[str, Pause] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    began: datetime = field(default_factory=lambda: datetime.now().astimezone())

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
                usd=self.gateway.latest.spent_usd if self.gateway else None,
            )
            self.state.tell(status)
            self.show(status)
            if not asked:
                reached(step)
            asked = True
            return self.interrupt.now

        return cancel

    def line(self, record: Record) -> AbstractContextManager[Line | None]:
        """The way of a proposal's agent to its LLM provider; None when it has none."""
        return self.gateway.line(record.id, record.experiment.agent) if self.gateway else nullcontext()

    def trouble(self, line: Line | None) -> Outcome | None:
        """What kept the agent from its provider on a line that is closed now."""
        if not line or not self.gateway or not self.gateway.closed.trouble:
            return None
        return Outcome(kind=self.gateway.closed.trouble, reason=self.gateway.closed.reason)

    def pause(self, agent: str, outcome: Outcome) -> None:
        """Ask an agent no more, or not for a while, when its account is what stops it."""
        if outcome.kind in PAUSES:
            self.paused[agent] = Pause(time.monotonic() + PAUSES[outcome.kind], outcome.reason)

    def heed(self) -> None:
        """Learn from the gateway who has to wait for a new quota, and whose key was refused."""
        if not self.gateway:
            return
        state = self.gateway.state()
        for name, wait in state.waiting.items():
            seconds = math.inf if wait.until is None else wait.until - time.time()
            if seconds > PATIENCE_S:
                self.paused[name] = Pause(time.monotonic() + seconds, wait.reason)
        self.paused |= {name: Pause(math.inf, reason) for name, reason in state.refused.items()}

    def able(self, agent: Agent) -> Agent | None:
        """The agent, if it may be asked now, or else the one that proposes in its place."""
        fallback = self.fallbacks.get(agent.spec.name)
        found = [each for each in (agent, fallback) if each and self.pause_of(each).until <= time.monotonic()]
        return found[0] if found else None

    def pause_of(self, agent: Agent) -> Pause:
        """Until when an agent is not asked."""
        return self.paused.get(agent.spec.name, NEVER)

    def ready(self) -> list[Agent]:
        """The agents that may be asked now, in their order, or those in their place."""
        return [found for each in self.agents if (found := self.able(each))]

    def agent(self, name: str) -> Agent:
        """The agent of that name; the first one when the night has it no more."""
        known = [*self.agents, *self.fallbacks.values()]
        return next((agent for agent in known if agent.spec.name == name), self.agents[0])

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
