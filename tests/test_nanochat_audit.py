"""The causality audit against models as plain functions: honest ones pass, and each cheat wins without it and not with it.

The text is a Markov chain in which each row has habits of its own, so that every look ahead pays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from harness.models import Audit, Measurement
from nanochat_train import audit
from nanochat_train.data import Rows
from nanochat_train.reference import reference
from nanochat_train.score import nats

VOCAB, LENGTH, BATCH = 32, 96, 16
PLAN = audit.Plan(uniform=96, adaptive=48)
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


CHEATS: list[tuple[str, Callable[[], Model], float, str]] = [
    ("peeks at the next token", peek, HONEST.mean(), "off by one"),
    ("peeks a little", lambda: peek(0.02), HONEST.mean(), "a weak look ahead"),
    ("peeks where it is hard", lambda: peek_where_hard(0.005), HONEST.mean(), "off by one"),
    ("peeks far ahead", peek_far, HONEST.mean(), "look far ahead"),
    ("pools blocks", pool, HONEST.mean(), "off by one"),
    ("remembers rows", remember, HONEST.mean(), "off by one"),
    ("recognises the audit", recognise, HONEST.mean(), "fresh process"),
    ("behaves at first", behave_at_first, HONEST.mean(), "off by one"),
    ("learns while it is asked", learn, IGNORANT, "change between calls"),
    ("uses the batch", average, HONEST.mean(), "statistics of the batch"),
]


@pytest.mark.parametrize("incumbent", [True, False], ids=["incumbent", "counts"])
@pytest.mark.parametrize(("make", "true", "cause"), [cheat[1:] for cheat in CHEATS], ids=[cheat[0] for cheat in CHEATS])
def test_a_cheat_would_win_and_is_rejected(make: Callable[[], Model], true: float, cause: str, incumbent: bool) -> None:
    claimed = first(make())
    assert claimed.mean() < true - 0.002
    found = verify(claimed, make(), incumbent=incumbent)
    assert not found.passed
    assert cause in found.summary


def test_in_the_same_process_a_memory_of_rows_would_pass() -> None:
    model = remember()
    claimed = first(model)
    assert verify(claimed, model, earliest=3).passed
    assert not verify(claimed, remember(), earliest=3).passed


def test_few_peeks_at_the_hardest_tokens_are_found_by_the_adaptive_cuts_only() -> None:
    rare = first(peek_where_hard(0.0005))
    assert 1 < (rare < HONEST - 1).sum() < 20
    assert sum(verify(rare, peek_where_hard(0.0005), seed, adaptive=0).passed for seed in range(20)) > 10
    assert not any(verify(rare, peek_where_hard(0.0005), seed).passed for seed in range(20))


def test_few_peeks_below_a_crowd_of_honest_large_gains_are_found_by_lot() -> None:
    rng = np.random.default_rng(5)
    gains = np.zeros((2000, 96), dtype=np.float32)
    gains[np.arange(200), rng.integers(0, 96, 200)] = 5.0
    peeked = rng.choice(np.arange(200, 2000), 30, replace=False)
    gains[peeked, rng.integers(0, 96, 30)] = 4.0
    cuts = audit.choose(gains, np.full(gains.shape, True), audit.Plan(20, 60), rng)
    caught = np.isin(cuts.rows[~cuts.uniform], peeked)
    assert 1 <= caught.sum() <= 15
    assert not caught[:30].any()  # the thirty largest gains are others


@pytest.mark.parametrize(("by", "share"), [(0.02, 1.0), (2.0, 0.01)])
def test_a_lie_about_the_losses_is_rejected(by: float, share: float) -> None:
    lie = HONEST - by * (np.random.default_rng(9).random(HONEST.shape) < share)
    assert lie.mean() < HONEST.mean() - 0.01
    assert not verify(lie, honest()).passed
    assert verify(HONEST, honest()).passed


def rounded() -> Model:
    """Half precision, and rounding that is never twice the same, as of kernels that add in any order."""
    rng = np.random.default_rng()

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


@pytest.mark.parametrize("make", [honest, rounded, look_back])
def test_honest_models_pass_with_any_cuts(make: Callable[[], Model]) -> None:
    claimed = first(make())
    assert claimed.mean() < HONEST.mean() + 0.001
    assert all(verify(claimed, make(), seed).passed for seed in range(20))


def test_no_row_is_cut_twice_and_special_tokens_never() -> None:
    counted = np.random.default_rng(3).random(HONEST.shape) < 0.5
    counted[7] = False
    for seed in range(5):
        cuts = audit.choose(HONEST, counted, audit.Plan(96, 48), np.random.default_rng(seed))
        assert len(cuts) == 144
        assert cuts.uniform.sum() == 96
        assert len(set(cuts.rows)) == len(cuts)
        assert counted[cuts.rows, cuts.positions].all()


@pytest.mark.parametrize("rows", [1, 2, 50, 145])
def test_a_small_split_gets_as_many_cuts_as_it_has_rows(rows: int) -> None:
    cuts = audit.choose(HONEST[:rows], np.full((rows, LENGTH), True), audit.Plan(96, 48), np.random.default_rng(0))
    assert len(cuts) == min(rows, 144)
    assert cuts.uniform.sum() == pytest.approx(len(cuts) * 2 / 3, abs=1)


def test_uniform_cuts_are_uniform() -> None:
    counted = np.full(HONEST.shape, True)
    drawn = [audit.choose(HONEST, counted, audit.Plan(96, 48), np.random.default_rng(seed)) for seed in range(100)]
    positions = np.concatenate([cuts.positions[cuts.uniform] for cuts in drawn])
    hit = np.bincount(positions, minlength=LENGTH)
    assert (np.abs(hit - 100) < 50).all()  # five standard deviations


def test_the_second_process_gets_nothing_of_what_stood_behind_a_cut() -> None:
    rng = np.random.default_rng(0)
    cuts = audit.choose(HONEST, np.full(HONEST.shape, True), audit.Plan(96, 48), rng)
    found = audit.probes(VALIDATION, cuts, TRAINING + 1000, rng)
    behind = np.arange(LENGTH) > cuts.positions[:, None]
    assert found.dtype == np.uint16
    assert (found[behind] >= 1000).all()
    assert (found[~behind] == VALIDATION[cuts.rows, :-1][~behind]).all()


def test_the_baseline_shows_how_much_rounding_is_honest() -> None:
    def run(largest: float, passed: bool = True) -> Measurement:
        return Measurement(status="ok", audit=Audit(passed=passed, summary="", figures={"largest": largest}))

    assert audit.tolerance([]) == 0.05
    assert audit.tolerance([run(0.001), Measurement(status="ok")]) == 0.05
    assert audit.tolerance([run(0.02), run(0.03), run(9.0, passed=False)]) == pytest.approx(0.15)


def test_a_reason_tells_no_figure_of_a_token() -> None:
    found = verify(first(peek()), peek())
    said = found.summary.replace("tokens 0 to t only.", "")
    assert re.findall(r"[\d.]+", said) == [re.findall(r"\d+", said)[0], "144"]


def test_counts_know_what_training_rows_and_the_row_itself_tell() -> None:
    train = np.array([[1, 2, 3, 1, 2, 3, 1, 2, 3, 4]] * 20, dtype=np.uint16)
    asked = np.array([[1, 2, 3, 1, 2, 9, 9, 9, 9, 9]], dtype=np.uint16)
    known, certain, rare, new, _, repeated, *_ = reference(asked, train, 16)[0][[0, 1, 2, 4, 5, 6, 7]]
    assert certain == pytest.approx(-math.log(0.3 + 0.3 + 0.1 * 61 / 216), rel=1e-4)
    assert known > certain
    assert new > 5 > repeated
    assert np.isfinite(rare)
