"""What a night works with: the one value that the loop hands from step to step."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from harness import git, gpus, steering
from harness.bench import Bench
from harness.board import Board
from harness.early import History
from harness.gateway.client import Gateway
from harness.gateway.control import State
from harness.ledger import BASELINE, Ledger
from harness.models import Measurement, Outcome, Place, Record, Review, Verdict
from harness.protocols import Agent, Cancel, Line
from harness.scheduling import Flight, Pool, aside, conduct
from harness.shelf import Shelf
from harness.stacks import Stacks
from harness.state import Status
from harness.steps import Step, reached

T = TypeVar("T")
LEAVE_S = 20.0  # that an agent has to notice that its provider will answer nothing for long
PATIENCE_S = 120.0  # the gateway itself holds a request back for so long
LOOK_S = 0.1  # how often somebody asks whether the user wants to stop
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
    """A bench with a ledger and agents. `tell` is called with each closed record, `show` with what is going on.

    `workers` are the slots in which agents propose, `places` those in which runs are made, `flight` what is under way,
    `guarded` the commits that passed all guards.
    """

    ledger: Ledger
    mirror: git.Repo
    agents: list[Agent]
    interrupt: Interrupt
    tell: Callable[[Record], None]
    show: Callable[[Status], None]
    workers: Pool[int]
    places: Pool[Place]
    flight: Flight = field(default_factory=Flight)
    controlling: asyncio.Lock = field(default_factory=asyncio.Lock)
    history: History = field(default_factory=History)
    gateway: Gateway | None = None
    fallbacks: dict[str, Agent] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    paused: dict[str, Pause] = field(default_factory=dict)
    guarded: set[str] = field(default_factory=set)
    programs: dict[Path, str] = field(default_factory=dict)
    barred_since: dict[str, float] = field(default_factory=dict)
    shelves: dict[int, Shelf] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    began: datetime = field(default_factory=lambda: datetime.now().astimezone())

    @cached_property
    def board(self) -> Board:
        """Where what is going on is published."""

        def publish(status: Status) -> None:
            self.state.tell(status)
            self.show(status)

        status = Status(
            pid=os.getpid(),
            tag=self.ledger.tag,
            began=self.began.isoformat(timespec="seconds"),
            workers=len(self.workers.slots),
            slots=len(self.places.slots),
            stop=self.task.stop,
        )
        spent = lambda: self.gateway.latest.spent_usd if self.gateway else None  # noqa: E731
        return Board(status, publish, lambda: self.interrupt.now, spent)

    async def check(self, record: Record) -> Measurement | None:
        """The task's check of the commit that is judged: `ok`, or `crash` with the reason; None when it was interrupted."""
        if not self.task.check:
            return Measurement(status="ok")
        assert record.judged is not None
        work, seconds = self.state.run(self.ledger.tag, f"{record.id}-check"), self.task.budget.check_s
        async with self.quiet_place(int(bool(record.measurements))) as place:
            if place is None:
                return None
            self.export(record.judged, work / "tree")
            with self.watch(record, "check", Step.CHECK_GOES_ON, seconds) as cancel:
                checked = await aside(lambda stop: self.checked(work, lambda: cancel() or stop(), cpus=place.cpus))
        if checked and checked.status == "ok":
            reached(Step.CHECKED)
        return checked

    @asynccontextmanager
    async def quiet_place(self, urgency: int) -> AsyncIterator[Place | None]:
        """Where a check or a guard, which only needs the CPU, disturbs no run; None when nothing begins any more.

        Beside runs on GPUs that is anywhere and at once. Without a GPU it is a run slot: while it is at work, nobody is on the
        clock on the same cores.
        """
        if gpus.wanted(self.task):
            yield Place()
            return
        async with self.places.lease(urgency) as place:
            yield place

    def watch(
        self, record: Record, phase: str, step: Step, limit_s: float | None = None, work: Path | None = None
    ) -> AbstractContextManager[Cancel]:
        """An entry on the board for an experiment."""
        return self.board.entry(record.id, record.experiment.agent, phase, step, limit_s, work)

    def line(self, record: Record) -> AbstractContextManager[Line | None]:
        """The way of a proposal's agent to its LLM provider; None when it has none."""
        return self.gateway.line(record.id, record.experiment.agent) if self.gateway else nullcontext()

    def trouble(self, line: Line | None) -> Outcome | None:
        """What kept the agent from its provider on a line that is closed now."""
        if not line or not self.gateway or not self.gateway.closed.trouble:
            return None
        return Outcome(kind=self.gateway.closed.trouble, reason=self.gateway.closed.reason)

    def barred(self, agent: str) -> Outcome | None:
        """Why an agent at work may be ended: for a while its provider has refused everything, and will do so for longer."""
        state = self.gateway.latest if self.gateway else State()
        wait, found = state.waiting.get(agent), None
        if agent in state.refused:
            found = Outcome(kind="auth", reason=state.refused[agent])
        elif wait and (wait.until is None or wait.until - time.time() > PATIENCE_S):
            found = Outcome(kind="quota", reason=wait.reason)
        if found is None:
            self.barred_since.pop(agent, None)
            return None
        return found if time.monotonic() - self.barred_since.setdefault(agent, time.monotonic()) > LEAVE_S else None

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
        text = steering.program(git.root(self.repo) / (other or self.task.program), self.programs)
        return text, git.write(self.repo, text.encode())

    def lose(self, place: Place) -> bool:
        """Whether a place's GPU is out of use now: then no other run is made there. A UserError when it was the last one."""
        if not place.gpus or not {gpus.EVERY, *place.gpus} & {each.gpu for each in gpus.dirty()}:
            return False
        self.places.retire(place)
        if not self.places.slots:
            gpus.pool(place.gpus)
        return True

    def conduct(self, story: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the loop to its end, one that begins nothing more as soon as the user wants to stop."""

        async def heeding() -> T:
            watch = asyncio.create_task(self._heed_interrupts())
            try:
                return await story
            finally:
                watch.cancel()

        return conduct(heeding(), 2 * (len(self.workers.slots) + len(self.places.slots)) + 4)

    async def _heed_interrupts(self) -> None:
        while not self.interrupt.soon:
            await asyncio.sleep(LOOK_S)
        self.workers.close()
        self.places.close()

    def head(self, record: Record | None = None) -> str:
        """The incumbent's commit, which the search goes on from: the lab's tip, or a winner that waits (`review_base: winner`).

        What was accepted, or takes a merge back, is about the tip alone.
        """
        about_tip = record and (record.again_of or (record.proposal and record.proposal.reverts))
        if about_tip or (self.task.merge, self.task.review_base) != ("review", "winner"):
            return self.ledger.tip()
        return Stacks(self.ledger).head()

    def close(self, record: Record, verdict: Verdict, texts: dict[str, str] | None = None) -> Record:
        """Write the verdict into the record; the branches follow in `Ledger.settle`. In review, what is kept waits."""
        update: dict[str, object] = {"state": "closed", "verdict": verdict}
        if self.task.merge == "review" and verdict.status == "keep" and record.id != BASELINE and not record.again_of:
            update["review"] = Review()
        return self.ledger.save(record.model_copy(update=update), Step.CLOSED, texts)
