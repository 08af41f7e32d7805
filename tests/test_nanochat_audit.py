"""The causality audit against models as plain functions: honest ones pass, and each cheat wins without it and not with it."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable

import numpy as np
import pytest
from functions import (
    HONEST,
    IGNORANT,
    LENGTH,
    TRAINING,
    VALIDATION,
    Model,
    average,
    behave_at_first,
    first,
    honest,
    learn,
    look_back,
    peek,
    peek_far,
    peek_where_hard,
    pool,
    recognise,
    remember,
    rounded,
    verify,
)

from harness.models import Audit, Measurement
from nanochat_train import audit
from nanochat_train.reference import reference

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


SEEDS = itertools.count(100)


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


@pytest.mark.parametrize("make", [honest, lambda: rounded(next(SEEDS)), look_back], ids=["honest", "rounded", "look_back"])
def test_honest_models_pass_with_any_cuts(make: Callable[[], Model]) -> None:
    """Three standard errors are exceeded once in 370 audits of a model that is never twice the same: hence the seeds."""
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
