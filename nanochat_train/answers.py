"""One evaluation process, seen from outside: started in its sandbox, asked batch by batch, never believed.

It sees tokens and the checkpoint. Before any validation row it gets one batch of random ids: what goes wrong there may be
told in full, what goes wrong later may not.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness import caches, sandboxes
from harness.models import Request
from harness.process import Process
from nanochat_train.channel import WORKER, Channel, Fault, Incoming, Memory, box, device
from nanochat_train.data import Data, Rows
from nanochat_train.session import exception

LOGITS_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30}  # of one batch: beside the process on a CPU, in a GPU's memory on a GPU
BATCH_ROWS = 32

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Form:
    """What is asked for: logits [B, width, V] from a start in each row on, or with `claims` the process's own losses [B, T]."""

    batch: int
    seq_len: int
    vocab_size: int
    width: int
    claims: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the answer for a row."""
        return (self.seq_len,) if self.claims else (self.width, self.vocab_size)

    @property
    def columns(self) -> int:
        """Tokens that the process gets of a row. Only who states its own losses has to know the last target."""
        return self.seq_len + self.claims


def batch_rows(data: Data, profile: str) -> int:
    """Rows of one batch, by the memory that their logits take in float32."""
    return max(1, min(BATCH_ROWS, LOGITS_BYTES[device(profile)] // (4 * data.meta.seq_len * data.meta.vocab_size)))


class Examinee:
    """An evaluation process and the memory shared with it."""

    def __init__(self, request: Request, form: Form, channel: Channel, tokens: Memory, answers: Memory) -> None:
        """Nothing of the candidate's runs before `begin`."""
        self.form, self.channel, self.tokens, self.answers = form, channel, tokens, answers
        self.device, self.limit_s = device(request.task.profile), request.task.budget.evaluate_s
        self.deadline = 0.0
        self.secret = False  # whether it has seen validation tokens
        self.process: Process | None = None

    @property
    def left_s(self) -> float:
        """Seconds before it is ended."""
        return max(0.0, self.deadline - time.monotonic())

    def begin(self) -> None:
        """Load the candidate's module and its state, and answer a batch of random ids: the time of the process starts.

        Whatever goes wrong here may be told in full.
        """
        self.deadline = time.monotonic() + self.limit_s
        form = self.form
        told = {"seq_len": form.seq_len, "vocab_size": form.vocab_size, "width": form.width, "claims": form.claims}
        sizes = {"tokens_bytes": self.tokens.size, "answer_bytes": self.answers.size}
        self.channel.send({**told, **sizes, "device": self.device})
        self.expect(self.wait(), "ready")
        rng = np.random.default_rng(0)
        found = self.ask(rng.integers(0, form.vocab_size, (form.batch, form.columns), dtype=np.uint16))
        largest = found if form.claims else found.max(axis=-1)
        if np.isnan(found).any() or not np.isfinite(largest).all():
            raise Fault("invalid", "logits are not finite")
        self.secret = True

    def ask(self, rows: Rows, starts: Ints | None = None) -> Floats:
        """The answers for rows [B, form.columns], a private copy: logits from `starts` [B] on, or losses."""
        self.tokens.put(rows)
        self.channel.send({"n": len(rows), "starts": [0] * len(rows) if starts is None else starts.tolist()})
        reply = self.wait()
        if reply.message.get("do") == "shape":
            raise Fault("invalid", self.wrong_shape(reply, len(rows)))
        self.expect(reply, "scored")
        shape = (len(rows), *self.form.shape)
        return self.answers.bytes.view(np.float32)[: int(np.prod(shape))].reshape(shape).copy()

    def wait(self) -> Incoming:
        """The process's next message; a Fault when it ends, fails or takes too long instead."""
        assert self.process is not None
        while (reply := self.channel.receive(0.1)) is None:
            if not self.left_s:
                raise Fault("invalid", f"evaluation took more than {self.limit_s:g} s")
            ended = self.process.wait(0.02 if self.channel.closed else 0.0)
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
        expected = [rows, self.form.seq_len, self.form.vocab_size]
        shape = reply.message.get("shape")
        known = not self.secret and isinstance(shape, list) and all(type(size) is int for size in shape)
        return f"logits have shape {str(shape)[:80] if known else 'unlike'}, expected [B, T, V] = {expected}"


@contextmanager
def examinee(request: Request, form: Form, state: Path, name: str) -> Iterator[Examinee]:
    """A fresh process that may read `state`; its whole tree is dead afterwards. Its log is `name`.log."""
    answer_bytes = 4 * form.batch * int(np.prod(form.shape))
    with Channel() as channel, Memory(2 * form.batch * form.columns, True) as tokens, Memory(answer_bytes, False) as answers:
        asked = Examinee(request, form, channel, tokens, answers)
        fds = (channel.theirs.fileno(), tokens.fd, answers.fd)
        # What training had compiled when it started, and so before it learnt anything; each process has its own copy.
        compiled = caches.private(request, name, request.left_caches if request.left_caches.is_dir() else None)
        argv = [sys.executable, *WORKER, "evaluate", *map(str, fds), str(state)]
        inside = box(request, "evaluate", (state,), compiled, *fds)
        with sandboxes.SANDBOXES[request.sandbox]().wrap(argv, inside) as launch:  # in which it has just been trained
            with Process(launch, request.work / f"{name}.log") as asked.process:
                channel.theirs.close()
                yield asked
