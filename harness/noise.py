"""How much two runs of the same code differ, measured from every repeat so far. Pure, no I/O.

All experiments use the same seeds, so what a seed does to every one of them alike is no noise between them: it is
measured (never assumed) as an effect of the seed, and taken off. What is left decides.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean

from harness.models import Measurement, Metric, Record

GUESS_RUNS = 4  # degrees of freedom that the task's own guess counts for
GUESS_PAIRS = 12  # pairs of runs that the guess "seeds have nothing in common" counts for


@dataclass(frozen=True)
class Noise:
    """Standard deviation of one run, what each seed adds to every run, and the share of variance that this leaves."""

    sigma: float
    effects: dict[int, float] = field(default_factory=dict)
    left: float = 1.0

    def value(self, run: Measurement) -> float:
        """A run's metric without what its seed is known to add."""
        assert run.value is not None
        return run.value - self.effects.get(run.seed, 0.0)


def noise(records: Iterable[Record], metric: Metric) -> Noise:
    """Pooled over every commit with repeats; `metric.noise` is a first guess, and 0 there means that there is none."""
    if not metric.noise:
        return Noise(0.0)
    repeats = [runs for record in records for runs in counted(record) if len(runs) > 1]
    squares, degrees, by_seed = 0.0, 0, defaultdict[int, list[float]](list)
    for runs in repeats:
        mean = fmean(value for _, value in runs)
        squares += sum((value - mean) ** 2 for _, value in runs)
        degrees += len(runs) - 1
        for seed, value in runs:
            by_seed[seed].append((value - mean) * math.sqrt(len(runs) / (len(runs) - 1)))
    sigma = math.sqrt((GUESS_RUNS * metric.noise**2 + squares) / (GUESS_RUNS + degrees))
    return _paired(sigma, by_seed)


def _paired(sigma: float, by_seed: dict[int, list[float]]) -> Noise:
    """Seed effects by shrinkage, where runs of the same seed go together more than chance would have it."""
    products, pairs = 0.0, 0
    for residuals in by_seed.values():
        total = sum(residuals)
        products += total**2 - sum(value**2 for value in residuals)
        pairs += len(residuals) * (len(residuals) - 1)
    common = max(0.0, products / 2 / sigma**2 / (pairs / 2 + GUESS_PAIRS)) if pairs else 0.0
    common = min(common, 0.95)
    if common < 0.1:
        return Noise(sigma)
    effects = {seed: sum(found) / (len(found) + (1 - common) / common) for seed, found in by_seed.items()}
    return Noise(sigma, effects, 1.0 - common)


def counted(record: Record) -> list[list[tuple[int, float]]]:
    """(seed, value) of the runs that count, for each commit that an experiment ran."""
    found: dict[str, list[tuple[int, float]]] = {}
    for run in record.measurements:
        if run.status == "ok" and run.value is not None:
            found.setdefault(run.commit, []).append((run.seed, run.value))
    return list(found.values())


def degrees(records: Iterable[Record]) -> int:
    """How many repeats the measured noise rests on."""
    return sum(len(runs) - 1 for record in records for runs in counted(record))
