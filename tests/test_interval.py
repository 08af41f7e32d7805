"""Student's t against published tables, and intervals against sampling."""

from __future__ import annotations

import random
import statistics

import pytest

from harness.interval import paired, student, welch

# Two-sided 95 % and 99 % quantiles as every table of Student's t has them.
TABLE = {1: (12.706, 63.657), 2: (4.303, 9.925), 4: (2.776, 4.604), 8: (2.306, 3.355), 30: (2.042, 2.750), 1000: (1.962, 2.581)}


@pytest.mark.parametrize("degrees", TABLE)
def test_quantiles_are_those_of_the_table(degrees: int) -> None:
    assert (round(student(degrees), 3), round(student(degrees, 0.99), 3)) == TABLE[degrees]


def test_quantiles_between_two_degrees_lie_between_theirs() -> None:
    assert student(5) < student(4.5) < student(4)


def test_paired_by_hand() -> None:
    """mean 2, standard deviation 1, three differences: 4.303 / sqrt(3) to either side."""
    found = paired([1.0, 2.0, 3.0])
    assert (found.difference, round(found.low, 3), round(found.high, 3)) == (2.0, -0.484, 4.484)


def test_welch_by_hand() -> None:
    """Variances 1 and 4 over 3 values each: spread sqrt(5 / 3), degrees of freedom 25 / 9 / (1 / 18 + 16 / 18) = 2.941."""
    found = welch([9.0, 10.0, 11.0], [1.0, 3.0, 5.0])
    assert found.difference == 7.0
    assert found.high - found.difference == pytest.approx(student(25 / 9 / (17 / 18)) * (5 / 3) ** 0.5)


def test_values_without_noise_have_an_interval_without_width() -> None:
    assert (paired([0.5, 0.5]).low, paired([0.5, 0.5]).high) == (0.5, 0.5)
    assert (welch([2.0, 2.0], [1.0, 1.0]).low, welch([2.0, 2.0], [1.0, 1.0]).high) == (1.0, 1.0)


@pytest.mark.parametrize("kind", ["paired", "welch"])
def test_nineteen_of_twenty_intervals_hold_the_truth(kind: str) -> None:
    """Five runs a side, as a certificate has; pairing pays because a seed moves both sides."""
    rng, held, widths = random.Random(1), 0, []
    for _ in range(600):
        seeds = [rng.gauss(0, 1) for _ in range(5)]
        one, other = [seed + rng.gauss(1, 0.3) for seed in seeds], [seed + rng.gauss(0, 0.3) for seed in seeds]
        if kind == "welch":
            other = [rng.gauss(0, 1.044) for _ in seeds]
        found = paired([a - b for a, b in zip(one, other, strict=True)]) if kind == "paired" else welch(one, other)
        held += found.low <= 1 <= found.high
        widths.append(found.high - found.low)
    assert 0.925 < held / 600 < 0.975
    assert statistics.fmean(widths) < 1.2 if kind == "paired" else statistics.fmean(widths) > 2
