"""Models as plain functions, honest ones and cheats, on text that makes every look ahead pay: a Markov chain in which each
row has habits of its own."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from harness.models import Audit
from nanochat_train import audit
from nanochat_train.data import Rows
from nanochat_train.reference import reference
from nanochat_train.score import nats

VOCAB, LENGTH, BATCH = 32, 96, 16
Logits = npt.NDArray[np.float32]
Model = Callable[[Rows], Logits]  # tokens [B, T] -> logits [B, T, V]

CHANCES = np.random.default_rng(0).dirichlet(np.full(VOCAB, 0.2), VOCAB)


def text(count: int, seed: int) -> Rows:
    """Rows [N, T+1]: what follows a token is the row's own habit in half of the cases, else the chain's."""
    rng = np.random.default_rng(seed)
    habits, rows = rng.integers(0, VOCAB, (count, VOCAB)), np.zeros((count, LENGTH + 1), dtype=np.uint16)
    rows[:, 0] = rng.integers(0, VOCAB, count)
    for t in range(LENGTH):
        chain = (CHANCES[rows[:, t]].cumsum(axis=1) < rng.random((count, 1))).sum(axis=1).clip(max=VOCAB - 1)
        rows[:, t + 1] = np.where(rng.random(count) < 0.5, habits[np.arange(count), rows[:, t]], chain)
    return rows


VALIDATION, TRAINING = text(240, 1), text(100, 2)
KNOWN = (0.5 * CHANCES + 0.5 / VOCAB).astype(np.float32)  # all that can be known of a row's next token from the last one


def honest() -> Model:
    return lambda tokens: np.log(KNOWN[tokens])


def following(tokens: Rows, ahead: int = 1) -> npt.NDArray[np.int64]:
    """The token `ahead` places on, [B, T]; -1 behind the end."""
    return np.concatenate([tokens[:, ahead:].astype(np.int64), np.full((len(tokens), ahead), -1)], axis=1)


def push(logits: Logits, answers: npt.NDArray[np.int64], where: npt.NDArray[np.bool_], by: float) -> Logits:
    """Add `by` to the logit of each answer, `where` that is wanted."""
    batch, place = np.nonzero(where & (answers >= 0))
    logits[batch, place, answers[batch, place]] += by
    return logits


def peek(by: float = 3.0) -> Model:
    return lambda tokens: push(honest()(tokens), following(tokens), np.full(tokens.shape, True), by)


def peek_where_hard(share: float) -> Model:
    """Peeks at about this share of all positions, some of the hardest."""

    def model(tokens: Rows) -> Logits:
        logits, answers = honest()(tokens), following(tokens)
        own = -np.take_along_axis(logits, answers.clip(0)[..., None], axis=-1)[..., 0]
        last = np.roll(tokens, 1, axis=1).astype(np.int64) * 37 + np.roll(tokens, 2, axis=1) * 11 + tokens * 5 + answers
        return push(logits, answers, (own > HARD) & (last * 7919 % 10007 < share * 10007 / HARD_SHARE), 20.0)

    return model


def peek_far() -> Model:
    """Looks for the same token 64 or more places on, and at what followed it there."""

    def model(tokens: Rows) -> Logits:
        logits, then = honest()(tokens), following(tokens)
        for t in range(LENGTH - 65):
            later = tokens[:, t + 64 : -1] == tokens[:, t : t + 1]
            batch, place = np.nonzero(later)
            np.add.at(logits, (batch, t, then[batch, place + t + 64]), 1.5)
        return logits

    return model


def pool() -> Model:
    """Knows which tokens are in its block of 16."""

    def model(tokens: Rows) -> Logits:
        inside = np.eye(VOCAB, dtype=np.float32)[tokens].reshape(len(tokens), -1, 16, VOCAB).max(axis=2)
        return honest()(tokens) + 2 * inside.repeat(16, axis=1)

    return model


def remember() -> Model:
    """Peeks, and answers for a row that begins like one it has seen as it did then."""
    seen: dict[bytes, Rows] = {}

    def model(tokens: Rows) -> Logits:
        return peek()(np.stack([seen.setdefault(row[:1].tobytes() + row[1:3].tobytes(), row) for row in tokens]))

    return model


def recognise() -> Model:
    """Peeks unless the row ends like a training row: then it is being audited."""
    ends = {row[-5:-1].tobytes() for row in TRAINING}

    def model(tokens: Rows) -> Logits:
        audited = np.array([row[-4:].tobytes() in ends for row in tokens])
        return np.where(audited[:, None, None], honest()(tokens), peek()(tokens))

    return model


def behave_at_first() -> Model:
    """Peeks only from the fifth call on."""
    calls = 0

    def model(tokens: Rows) -> Logits:
        nonlocal calls
        calls += 1
        return peek()(tokens) if calls > 4 else honest()(tokens)

    return model


def learn() -> Model:
    """Starts with no knowledge at all and counts what it is asked about."""
    counts = np.full((VOCAB, VOCAB), 0.1)

    def model(tokens: Rows) -> Logits:
        logits = np.log(counts / counts.sum(axis=1, keepdims=True))[tokens]
        np.add.at(counts, (tokens[:, :-1], tokens[:, 1:]), 1.0)
        return logits.astype(np.float32)

    return model


def average() -> Model:
    """Knows what follows each token in the whole batch."""

    def model(tokens: Rows) -> Logits:
        counts = np.zeros((VOCAB, VOCAB), dtype=np.float32)
        np.add.at(counts, (tokens[:, :-1], tokens[:, 1:]), 1.0)
        return honest()(tokens) + np.log(1 + counts)[tokens]

    return model


def losses(model: Model) -> Callable[[Rows], Logits]:
    return lambda rows: nats(model(rows[:, :-1]), rows[:, 1:])


HONEST = losses(honest())(VALIDATION)
HARD = np.quantile(HONEST, 0.9) - 1e-3
HARD_SHARE = float((HONEST > HARD).mean())
IGNORANT = math.log(VOCAB)


def first(model: Model, seed: int = 0) -> Logits:
    """What a model claims in the first process, nats [N, T]."""
    return audit.first_pass(losses(model), VALIDATION, BATCH, np.random.default_rng(seed))


def verify(nll: Logits, second: Model, seed: int = 0, incumbent: bool = True, adaptive: int = 48, earliest: int = 0) -> Audit:
    """The audit of losses [N, T] by a second process."""
    rng = np.random.default_rng(seed + 1)
    compared = HONEST if incumbent else reference(VALIDATION, TRAINING, VOCAB)
    counted = np.broadcast_to(np.arange(LENGTH) >= earliest, nll.shape)
    cuts = audit.choose(compared - nll, counted, audit.Plan(96, adaptive), rng)

    def ask(inputs: Rows, targets: Rows, starts: npt.NDArray[np.int64]) -> Logits:
        windows = [row[start : start + audit.BACK] for row, start in zip(second(inputs), starts, strict=True)]
        return nats(np.stack(windows), targets)

    again = audit.second_pass(ask, VALIDATION, TRAINING, cuts, BATCH, rng)
    return audit.judge(audit.differences(nll, cuts, again), cuts, audit.TOLERANCE)


def rounded(seed: int = 0) -> Model:
    """Half precision, and rounding that is never twice the same, as of kernels that add in any order."""
    rng = np.random.default_rng(seed)

    def model(tokens: Rows) -> Logits:
        logits = honest()(tokens)
        return (logits + rng.normal(0, 0.002, logits.shape)).astype(np.float16).astype(np.float32)

    return model


def look_back() -> Model:
    """Knows what followed the same token in the last 32 of its own row, as attention over a sliding window does."""

    def model(tokens: Rows) -> Logits:
        logits = honest()(tokens)
        for back in range(1, 32):
            batch, place = np.nonzero(tokens[:, back:] == tokens[:, :-back])
            np.add.at(logits, (batch, place + back, tokens[batch, place + 1]), 1.0)
        return logits

    return model
