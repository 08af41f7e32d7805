"""The score of a trained state, and its audit: two fresh processes, one after the other, that share only the checkpoint.

The first answers for every row, in an order that only this process knows. On a CPU it answers with logits, which become
losses here. On a GPU a split's logits are hundreds of gigabytes, so it only claims a loss for each token. Either way the
second process, which never sees what the first could have peeked at, is asked for logits at some places, and what it can
repeat there decides whether the first is believed (see audit.py). A claim that is too good fails like a look ahead.
"""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.models import Audit, Request
from nanochat_train import audit
from nanochat_train.answers import Examinee, Form, batch_rows, examinee
from nanochat_train.audit import Cuts, Floats, Ints
from nanochat_train.channel import Fault, Report, device
from nanochat_train.data import Data, Rows
from nanochat_train.reference import reference
from nanochat_train.score import NotFinite, Score, nats, total

THREADS = 16  # for the softmax, at most; their number changes no result


@dataclass(frozen=True)
class Evaluated:
    """A score with its audit, which may have failed. `nll`: nats of each token, [N, T]. `checkpoint`: SHA-256 of the state."""

    score: Score
    audit: Audit
    nll: Floats
    checkpoint: str
    seconds: dict[str, float]


def evaluate(request: Request, data: Data, state: Path, report: Report, claims: bool | None = None) -> Evaluated:
    """Score every row of the request's split and audit the score. By default a GPU makes claims, a CPU gives logits."""
    rows, sizes = data.rows("test" if request.split == "test" else "val"), data.token_bytes()
    counted = sizes[rows[:, 1:]] > 0
    claims = device(request.task.profile) == "cuda" if claims is None else claims
    rng = np.random.default_rng()  # seeded by the system: nobody knows order and cuts beforehand
    before, started = digest(state), time.monotonic()
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as threads:
        exam = Exam(request, data, state, report, rows, rng, threads)
        with ExitStack() as stack:
            second = exam.ready("audit", audit.width(data.meta.seq_len))
            early = None if request.sandbox == "uid" else stack.enter_context(second)  # uid lends a tree to one at a time
            with exam.ready("evaluate", data.meta.seq_len, claims) as first:
                first.begin()
                loaded = time.monotonic()
                nll = exam.score(first)
            scored = time.monotonic()
            cuts = audit.choose(comparison(request, data, rows) - nll, counted, audit.PLANS[request.task.profile], rng)
            again = exam.repeat(early or stack.enter_context(second), cuts)
    if digest(state) != before:
        raise Fault("invalid", "the checkpoint was changed while it was scored")
    score = total(nll, rows[:, 1:], sizes)
    found = audit.judge(audit.differences(nll, cuts, again), cuts, audit.tolerance(request.against.baseline))
    certified = Score(score.nats + found.figures["mean"] * int(counted.sum()), score.size)
    found = found.model_copy(update={"figures": {**found.figures, "certified": certified.bits_per_byte}})
    return Evaluated(score, found, nll, before, seconds(started, loaded, scored))


def seconds(started: float, loaded: float, scored: float) -> dict[str, float]:
    """How long evaluation and audit took; `load`, until the first process was ready, is a part of the former."""
    return {"evaluate.load": loaded - started, "evaluate": scored - started, "audit": time.monotonic() - scored}


@dataclass(frozen=True)
class Exam:
    """What both processes have in common."""

    request: Request
    data: Data
    state: Path
    report: Report
    rows: Rows
    rng: np.random.Generator
    threads: Executor

    def ready(self, name: str, width: int, claims: bool = False) -> AbstractContextManager[Examinee]:
        """A process that waits for its `begin`, with nothing of the candidate's in it."""
        batch = batch_rows(self.data, self.request.task.profile)
        form = Form(batch, self.data.meta.seq_len, self.data.meta.vocab_size, width, claims)
        return examinee(self.request, form, self.state, name)

    def score(self, asked: Examinee) -> Floats:
        """Process A: nats of every token, [N, T]."""
        form = asked.form

        def ask(rows: Rows) -> Floats:
            self.report("evaluate", asked.left_s, None)
            answer = asked.ask(rows[:, : form.columns])
            return answer if form.claims else self.nats(answer, rows[:, 1:])

        found = audit.first_pass(ask, self.rows, form.batch, self.rng)
        if not np.isfinite(found).all():
            raise Fault("invalid", "losses are not finite")
        return found

    def repeat(self, asked: Examinee, cuts: Cuts) -> Floats:
        """Process B: nats at the places that are compared, [K, W]."""
        asked.begin()

        def ask(inputs: Rows, targets: Rows, starts: Ints) -> Floats:
            self.report("audit", asked.left_s, None)
            return self.nats(asked.ask(inputs, starts), targets)

        return audit.second_pass(ask, self.rows, self.data.rows("train"), cuts, asked.form.batch, self.rng)

    def nats(self, logits: Floats, targets: Rows) -> Floats:
        """Losses [B, W] of logits [B, W, V]; a Fault where they are not finite."""
        try:
            return nats(logits, targets, self.threads)
        except NotFinite as error:
            raise Fault("invalid", str(error)) from None


def comparison(request: Request, data: Data, rows: Rows) -> Floats:
    """What to measure gains by, nats [N, T]: the incumbent's values where there are any for these rows, else counts of ours."""
    path, shape = request.against.items, (len(rows), data.meta.seq_len)
    if path is not None and request.split == "validation":
        try:
            found = np.load(path, allow_pickle=False)
            if found.dtype == np.float32 and found.size == np.prod(shape) and np.isfinite(found).all():
                return np.asarray(found.reshape(shape))
        except (OSError, ValueError, EOFError):
            pass  # another machine, or removed to save space
    return reference(rows, data.rows("train"), data.meta.vocab_size)


def digest(state: Path) -> str:
    """SHA-256 of a file."""
    with state.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
