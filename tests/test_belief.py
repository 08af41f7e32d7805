"""The mathematics of the judge, against numerical integration, and against its own assumptions played many times."""

from __future__ import annotations

import random
import statistics
from functools import reduce

import numpy as np
import pytest

from harness.belief import Experience, Gain, Incumbent, Prior

GRID = np.linspace(-80, 80, 320_001)


def integrated(prior: Prior, observed: float, error: float, least: float) -> tuple[float, float, float]:
    """Mean, variance and P(gain > least) by brute force."""
    up = np.where(GRID > 0, prior.better / prior.gain * np.exp(-GRID / prior.gain), 0)
    down = np.where(GRID < 0, prior.worse / prior.loss * np.exp(GRID / prior.loss), 0)
    step, shift = GRID[1] - GRID[0], 0.5 * min(observed**2, 900) / error**2
    weights = (up + down) * np.exp(-0.5 * ((observed - GRID) / error) ** 2 + shift) * step
    flat = prior.neutral * np.exp(-0.5 * (observed / error) ** 2 + shift)
    total = weights.sum() + flat
    mean = (weights * GRID).sum() / total
    above = (weights[least < GRID].sum() + (flat if least < 0 else 0)) / total
    return mean, (weights * GRID**2).sum() / total - mean**2, above


@pytest.mark.parametrize(("observed", "error"), [(0.5, 1.1), (3.0, 1.2), (-4.0, 0.7), (8.0, 0.4), (20.0, 1.0), (-25.0, 2.0)])
@pytest.mark.parametrize("least", [0.125, -0.75, 2.0])
def test_the_posterior_is_what_integration_gives(observed: float, error: float, least: float) -> None:
    prior = Prior()
    found = Gain(prior.sides(observed, error), observed, error)
    mean, variance, above = integrated(prior, observed, error, least)
    assert found.mean == pytest.approx(mean, abs=1e-3)
    assert found.variance == pytest.approx(variance, abs=2e-3)
    assert found.above(least) == pytest.approx(above, abs=1e-3)


@pytest.mark.parametrize("observed", [-1e6, -300.0, 300.0, 1e6])
def test_the_absurdly_far_is_decided_without_a_fault(observed: float) -> None:
    found = Gain(Prior().sides(observed, 1.0), observed, 1.0)
    assert found.above(0.125) == pytest.approx(1.0 if observed > 0 else 0.0)
    assert found.mean == pytest.approx(observed, rel=0.01)


def test_what_runs_teach_of_the_incumbent_is_right_on_average() -> None:
    """Many incumbents and candidates drawn from the prior: the belief is off by as much as it says, and no way in particular."""
    rng, prior, errors, said = random.Random(3), Prior(), [], []
    for _ in range(4000):
        truth = rng.gauss(0, 1) * 0.6
        known = Incumbent(0.0, 0.36)
        for _ in range(3):
            side = rng.random()
            gain = rng.expovariate(1 / prior.gain) if side < prior.better else 0.0
            gain = -rng.expovariate(1 / prior.loss) if side > prior.better + prior.neutral else gain
            known = known.after(known.gain([truth + gain + rng.gauss(0, 1)], prior), 1, kept=False)
        errors.append(known.mean - truth)
        said.append(known.variance)
    assert abs(statistics.fmean(errors)) < 0.05
    assert statistics.fmean(error**2 for error in errors) == pytest.approx(statistics.fmean(said), rel=0.1)
    assert statistics.fmean(said) < 0.30


def test_a_kept_candidate_is_known_by_both_its_runs_and_the_incumbents() -> None:
    before = Incumbent(0.0, 1 / 3)
    found = before.gain([6.0, 6.2], Prior())
    after = before.after(found, 2, kept=True)
    assert after.mean == pytest.approx(6.1, abs=0.3)
    assert after.variance < 0.55


def test_the_prior_follows_the_history_and_never_gives_up() -> None:
    rng = random.Random(5)
    lucky = [(rng.expovariate(1 / 6) + rng.gauss(0, 1), 1.0) for _ in range(200)]
    barren = [(-rng.expovariate(1 / 2) + rng.gauss(0, 1), 1.0) for _ in range(300)]
    hopeful, sober = (reduce(lambda known, seen: known.after(*seen), past, Experience()).prior for past in (lucky, barren))
    assert hopeful.better > 0.5
    assert hopeful.gain > 4
    assert 0.03 <= sober.better < 0.1
    assert sober.loss < 3.5
    for fitted in (hopeful, sober):
        assert fitted.better + fitted.neutral + fitted.worse == pytest.approx(1.0)
