"""How sure a difference of two means is: Student's t, without a statistics library. Pure.

With the same seeds on both sides the differences of a seed are one sample (Student, "The probable error of a mean", 1908);
otherwise Welch's test allows two variances ("The generalization of Student's problem", 1947), with the degrees of freedom of
Satterthwaite (1946).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
STEPS = 400  # of Simpson's rule: more than twelve digits for the densities at hand


@dataclass(frozen=True)
class Interval:
    """A difference of means with its confidence interval, in the unit of the values."""

    difference: float
    low: float
    high: float


def paired(differences: Sequence[float]) -> Interval:
    """The mean of at least two differences, each of one seed."""
    spread = statistics.stdev(differences) / math.sqrt(len(differences))
    return _around(statistics.fmean(differences), spread, len(differences) - 1)


def welch(one: Sequence[float], other: Sequence[float]) -> Interval:
    """mean(one) - mean(other) of two samples, each of at least two values."""
    parts = [(statistics.variance(values) / len(values), len(values) - 1) for values in (one, other)]
    total = sum(variance for variance, _ in parts)
    inverse = sum((variance / total) ** 2 / degrees for variance, degrees in parts) if total else 1.0
    return _around(statistics.fmean(one) - statistics.fmean(other), math.sqrt(total), 1 / inverse)


def student(degrees: float, confidence: float = CONFIDENCE) -> float:
    """The two-sided quantile of Student's t with at least one, possibly fractional, degree of freedom."""
    low, high = 0.0, 1.0
    while _central(high, degrees) < confidence:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _central(middle, degrees) < confidence else (low, middle)
    return high


def _around(middle: float, spread: float, degrees: float) -> Interval:
    reach = student(degrees) * spread
    return Interval(middle, middle - reach, middle + reach)


def _central(limit: float, degrees: float) -> float:
    """The probability of -limit < t < limit: with t = sqrt(degrees) * tan(angle), cos(angle)**(degrees - 1) integrated."""
    constant = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)
    width = math.atan(limit / math.sqrt(degrees)) / STEPS
    heights: list[float] = [math.cos(width * step) ** (degrees - 1) for step in range(STEPS + 1)]
    return 2 * constant * width / 3 * (heights[0] + heights[-1] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2]))
