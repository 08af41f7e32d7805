"""The score of a trained state: a fresh sandboxed process answers with logits, this process turns them into bits per byte.

The process sees tokens, never the target of a row's last position, and nothing that it prints is used. Before any
validation row it gets one batch of random ids: what goes wrong there may be told in full.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness import sandboxes
from harness.models import Request
from harness.process import Process
from nanochat_train.channel import CPU_THREADS, WORKER, Channel, Fault, Incoming, Memory, Report, box, device
from nanochat_train.data import Data, Rows
from nanochat_train.score import NotFinite, Score, score
from nanochat_train.session import exception

LOGITS_BYTES = 256 << 20
BATCH_ROWS = 32


class Evaluation:
    """One evaluation process and the memory shared with it."""

    def __init__(self, request: Request, data: Data, channel: Channel, tokens: Memory, logits: Memory) -> None:
        self.channel, self.tokens, self.logits = channel, tokens, logits
        self.seq_len, self.vocab_size = data.meta.seq_len, data.meta.vocab_size
        self.deadline = time.monotonic() + request.task.budget.evaluate_s
        self.limit_s = request.task.budget.evaluate_s
        self.part = "test" if request.split == "test" else "val"
        self.secret = False  # whether it has seen validation tokens

    def answer(self, process: Process, inputs: Rows) -> npt.NDArray[np.float32]:
        """The candidate's logits, a private copy [B, T, V], for inputs [B, T]."""
        self.tokens.put(inputs)
        self.channel.send({"n": len(inputs)})
        reply = self.wait(process)
        if reply.message.get("do") == "shape":
            raise Fault("invalid", self.wrong_shape(reply, len(inputs)))
        self.expect(reply, "scored")
        shape = (len(inputs), self.seq_len, self.vocab_size)
        return self.logits.bytes.view(np.float32)[: int(np.prod(shape))].reshape(shape).copy()

    def wait(self, process: Process) -> Incoming:
        """The process's next message; a Fault when it ends, fails or takes too long instead."""
        while (reply := self.channel.receive(0.1)) is None:
            if time.monotonic() > self.deadline:
                raise Fault("invalid", f"evaluation took more than {self.limit_s:g} s")
            ended = process.wait(0.02 if self.channel.closed else 0.0)
            if ended and (reply := self.channel.receive(0.0)) is None:
                why = f"the evaluation {ended.exceeded}" if ended.exceeded else "the evaluation process ended early"
                raise Fault("crash", why)
            if reply:
                break
        if reply.fd is not None:
            os.close(reply.fd)
            raise Fault("invalid", "sent a file during evaluation")
        return reply

    def expect(self, reply: Incoming, name: str) -> None:
        """A Fault unless the message is the one that is due."""
        if reply.message.get("do") == "error":
            raise Fault("crash", "logits() raised on validation rows" if self.secret else exception(reply))
        if reply.message.get("do") != name:
            raise Fault("invalid", "sent a message that the referee does not understand")

    def wrong_shape(self, reply: Incoming, rows: int) -> str:
        """What was expected, and what came unless that could tell of validation tokens."""
        expected = [rows, self.seq_len, self.vocab_size]
        shape = reply.message.get("shape")
        known = not self.secret and isinstance(shape, list) and all(type(size) is int for size in shape)
        return f"logits have shape {str(shape)[:80] if known else 'unlike'}, expected [B, T, V] = {expected}"


def evaluate(request: Request, data: Data, state: Path, report: Report) -> Score:
    """Score every validation row with the state, in an order that only this process knows."""
    row_bytes = 4 * data.meta.seq_len * data.meta.vocab_size
    batch = max(1, min(BATCH_ROWS, LOGITS_BYTES // row_bytes))
    with Channel() as channel, Memory(2 * batch * data.meta.seq_len, True) as tokens, Memory(batch * row_bytes, False) as logits:
        evaluation = Evaluation(request, data, channel, tokens, logits)
        hello = {"seq_len": data.meta.seq_len, "vocab_size": data.meta.vocab_size, "device": device(request.task.profile)}
        channel.send({**hello, "tokens_bytes": tokens.size, "logits_bytes": logits.size})
        fds = (channel.theirs.fileno(), tokens.fd, logits.fd)
        argv = [sys.executable, *WORKER, "evaluate", *map(str, fds), str(state)]
        inside = box(request, "evaluate", (state,), *fds)
        sandbox, log = sandboxes.get(request.sandbox), request.work / "evaluate.log"
        with sandbox.wrap(argv, inside) as launch, Process(launch, log) as process:
            channel.theirs.close()
            return _score_rows(evaluation, process, data, batch, report)


def _score_rows(evaluation: Evaluation, process: Process, data: Data, batch: int, report: Report) -> Score:
    evaluation.expect(evaluation.wait(process), "ready")
    probe = np.random.default_rng(0).integers(0, data.meta.vocab_size, (batch, data.meta.seq_len), dtype=np.uint16)
    _finite(evaluation.answer(process, probe))
    evaluation.secret = True
    rows, sizes, total = data.rows(evaluation.part), data.token_bytes(), Score()
    order = np.random.default_rng().permutation(len(rows))
    with ThreadPoolExecutor(CPU_THREADS) as threads:
        for first in range(0, len(rows), batch):
            chosen = rows[order[first : first + batch]]
            answer = evaluation.answer(process, chosen[:, :-1])
            try:
                total += score(answer, chosen[:, 1:], sizes, threads)
            except NotFinite as error:
                raise Fault("invalid", str(error)) from None
            report("evaluate", max(0.0, evaluation.deadline - time.monotonic()), None)
    return total


def _finite(logits: npt.NDArray[np.float32]) -> None:
    if np.isnan(logits).any() or not np.isfinite(logits.max(axis=-1)).all():
        raise Fault("invalid", "logits are not finite")
