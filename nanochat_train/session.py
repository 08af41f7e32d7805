"""One training run, seen from outside: serves rows, owns the clock, takes the trained state."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness import caches, sandboxes
from harness.models import Request
from harness.process import Process
from harness.protocols import Exit
from harness.referee import overspent
from nanochat_train import checkpoint
from nanochat_train.channel import WORKER, Channel, Fault, Incoming, Memory, Report, box, device
from nanochat_train.data import Data
from nanochat_train.ring import PAGE, Writer
from nanochat_train.ring import size as ring_size
from nanochat_train.supply import Clock, Order, Supply

CURVE_POINTS = 400
NOTES = 32
LOOK_S = 1.0  # how often it is asked what a run has needed
BURST = 256  # messages handled between two looks at the clock


@dataclass
class Trained:
    """What a training run left: the state's file, and figures for people. `memory` is the last state that came in time.

    `reached` says when it was "imported", was "saving", had "saved" its state and was "dead", by the monotonic clock.
    `compiled` counts the files that it added to its caches before the start, `compiled_late` those after it.
    """

    clock: Clock
    state: Path
    memory: int | None = None
    parameters: int = 0
    reached: dict[str, float] = field(default_factory=dict)
    compiled: int = 0
    compiled_late: int = 0
    late_s: float = 0.0
    exit: Exit | None = None
    error: Fault | None = None
    curve: list[tuple[int, float]] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    last_step: int = 0
    stride: int = 1
    logged: int = 0

    def keep(self, memory: int, parameters: int) -> None:
        """Take over a sealed memory in place of an earlier one."""
        self.release()
        self.memory, self.parameters = memory, parameters

    def release(self) -> None:
        """Let go of the memory."""
        if self.memory is not None:
            os.close(self.memory)
            self.memory = None

    def add_point(self, step: int, loss: float) -> None:
        """Keep every stride-th point, thinning out as the curve grows."""
        if self.logged % self.stride == 0:
            self.curve.append((step, round(loss, 5)))
            if len(self.curve) > CURVE_POINTS:
                self.curve = self.curve[::2]
                self.stride *= 2
        self.logged += 1
        self.last_step = max(self.last_step, step)


class Session:
    """Answers the messages of one training process."""

    def __init__(
        self, trained: Trained, channel: Channel, supply: Supply, before_start: Callable[[], None] = lambda: None
    ) -> None:
        """`before_start` is called once, when the trainer is ready and has seen no row."""
        self.before_start = before_start
        self.trained, self.clock, self.channel, self.supply = trained, trained.clock, channel, supply
        self.handlers = {
            **{"start": self.start, "rows": self.rows, "taken": self.taken},
            **{"log": self.log, "note": self.note, "save": self.save},
            **{"imported": self.reach, "saving": self.reach},
        }

    def drain(self, wait_s: float) -> None:
        """Show rows and handle what has arrived, waiting at most `wait_s` for the first."""
        self.supply.sleep(True)
        if self.supply.advance():
            wait_s = 0.0
        for _ in range(BURST):
            if (incoming := self.channel.receive(wait_s)) is None:
                break
            try:
                self.handle(incoming)
            finally:
                if incoming.fd is not None:
                    os.close(incoming.fd)
            wait_s = 0.0
        self.supply.sleep(False)

    def handle(self, incoming: Incoming) -> None:
        """Dispatch one message."""
        name = incoming.message.get("do")
        if name == "error":
            self.trained.error = Fault("crash", exception(incoming))
        elif isinstance(name, str) and name in self.handlers:
            self.handlers[name](incoming)
        else:
            raise Fault("invalid", "sent a message that the referee does not understand")

    def start(self, incoming: Incoming) -> None:
        """Start the clock, once."""
        if self.clock.started is None:
            self.before_start()
        self.supply.start()
        self.channel.send({"started": True})

    def reach(self, incoming: Incoming) -> None:
        """The run says how far it is; for people."""
        self.trained.reached[str(incoming.message["do"])] = time.monotonic()

    def rows(self, incoming: Incoming) -> None:
        """Show rows that the trainer waits for, or none when they are beyond the budget."""
        if self.clock.started is None:
            raise Fault("invalid", "asked for rows before the start")
        self.supply.advance(incoming.integer("n", 1, self.supply.ring.most))
        self.channel.send({"shown": True})

    def taken(self, incoming: Incoming) -> None:
        """Rows were taken while this process slept."""
        self.supply.advance()

    def log(self, incoming: Incoming) -> None:
        """One point of the curve; a loss that is not finite ends the run."""
        step, loss = incoming.integer("step", 0, 1 << 53), incoming.number("loss")
        if not math.isfinite(loss):
            raise Fault("crash", f"loss is {'NaN' if math.isnan(loss) else 'infinite'} at step {step}")
        self.trained.add_point(step, loss)

    def note(self, incoming: Incoming) -> None:
        """A figure of the candidate's own, bounded."""
        name = incoming.text("name", 64)
        if name in self.trained.notes or len(self.trained.notes) < NOTES:
            self.trained.notes[name] = incoming.text("value", 256)

    def save(self, incoming: Incoming) -> None:
        """Keep a sealed state that came in time; a later one replaces it."""
        came = time.monotonic()
        if incoming.fd is None:
            raise Fault("invalid", "saved nothing")
        if self.clock.started is None:
            return
        if came > self.clock.deadline:
            self.trained.late_s = self.trained.late_s or came - self.clock.deadline
            return
        self.trained.keep(incoming.fd, checkpoint.check(incoming.fd))
        self.trained.reached["saved"] = came
        incoming.fd = None


def train(request: Request, data: Data, trained: Trained, report: Report) -> None:
    """Run the candidate's train(run) in a sandbox until its whole tree is dead; a Fault says why it does not count."""
    try:
        _serve(request, data, trained, report)
        judge_end(trained)
        assert trained.memory is not None
        checkpoint.copy(trained.memory, trained.state)
    finally:
        trained.release()


def _serve(request: Request, data: Data, trained: Trained, report: Report) -> None:
    meta, width = data.meta, data.meta.seq_len + 1
    with Channel() as channel, Memory(ring_size(width), True) as rows, Memory(PAGE, False) as counter:
        order, words = Order(data.rows("train"), request.seed), counter.bytes.view(np.uint64)
        supply = Supply(trained.clock, order, Writer(rows.bytes, width), words, meta.seq_len)
        compiled = caches.private(request, "train")

        def before_start() -> None:
            caches.take(request, compiled)
            trained.compiled = compiled.new()

        session = Session(trained, channel, supply, before_start)
        welcome = {"seed": request.seed, "vocab_size": meta.vocab_size, "seq_len": meta.seq_len, "scale": 1.0}
        channel.send({**welcome, "device": device(request.task.profile), "budget": supply.budget()})
        fds = (channel.theirs.fileno(), rows.fd, counter.fd)
        inside = box(request, "train", (), compiled, *fds)
        argv = [sys.executable, *WORKER, "train", *map(str, fds)]
        sandbox, log = sandboxes.SANDBOXES[request.sandbox](), request.work / "train.log"
        with sandbox.wrap(argv, inside) as launch, Process(launch, log) as process:
            channel.theirs.close()
            try:
                watch(session, process, request, report)
            finally:
                trained.exit = process.kill()
                trained.reached["dead"] = time.monotonic()
                trained.compiled_late = compiled.new() - trained.compiled


def watch(session: Session, process: Process, request: Request, report: Report) -> None:
    """Serve until the process ends; a Fault when it is overdue, or needs more than a run may."""
    clock, grace_s, looked = session.clock, request.task.budget.grace_s, time.monotonic()
    while process.wait(0.02 if session.channel.closed else 0.0) is None:
        session.drain(0.05)
        if time.monotonic() > clock.deadline + (grace_s if clock.started else 0.0):
            late = f"still running {grace_s:g} s after its deadline"
            raise Fault("invalid", late if clock.started else f"did not start within {clock.budget.startup_s:g} s")
        if time.monotonic() - looked > LOOK_S:
            looked = time.monotonic()
            if spent := overspent(request, process):
                raise Fault("invalid", spent)
        curve = session.trained.curve
        loss = curve[-1][1] if curve else None
        report("train" if clock.started else "start", clock.left_s, loss, clock.tokens if clock.started else None)
    for _ in range(4):  # more than a socket holds
        session.drain(0.0)


def judge_end(trained: Trained) -> None:
    """A Fault unless the process ended well and left a state."""
    assert trained.exit is not None
    if trained.exit.exceeded:
        raise Fault("crash", trained.exit.exceeded)
    if trained.error:
        raise trained.error
    if code := trained.exit.code:
        signal = -code if code < 0 else code - 128
        raise Fault("crash", f"killed by signal {signal}" if signal > 0 else f"exit code {code}")
    if trained.memory is None and trained.late_s:
        raise Fault("invalid", f"saved its state {trained.late_s:.1f} s after the deadline")
    if trained.memory is None:
        raise Fault("invalid", "ended without a state that was saved in time: train(run) has to call run.save()")


def exception(incoming: Incoming) -> str:
    """An exception as one line that names the place in train.py."""
    text, line = incoming.text("text", 300), incoming.message.get("line")
    place = f" (nanochat_train/train.py line {line})" if type(line) is int and 0 < line < 1_000_000 else ""
    return f"{incoming.text('kind', 64) or 'exception'}{': ' if text else ''}{text}{place}"
