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
    """Standard deviation of one run, what each seed adds to every run, and the share of a run's variance that this leaves."""

    sigma: float
    effects: dict[int, float] = field(default_factory=dict)
    shares: dict[int, float] = field(default_factory=dict)

    def value(self, run: Measurement) -> float:
        """A run's metric without what its seed is known to add."""
        assert run.value is not None
        return run.value - self.effects.get(run.seed, 0.0)

    def left(self, seeds: Iterable[int]) -> float:
        """The share of the variance that is left of a mean over runs with these seeds: 1 where nothing is known of them."""
        return fmean(self.shares.get(seed, 1.0) for seed in seeds)


def noise(records: Iterable[Record], metric: Metric) -> Noise:
    """Pooled over every commit with repeats; `metric.noise` is a first guess, and 0 there means that there is none."""
    if not metric.noise:
        return Noise(0.0)
    squares, degrees, by_seed = 0.0, 0, defaultdict[int, list[float]](list)
    for record in records:
        for runs in counted(record):
            if len(runs) < 2:
                continue
            mean = fmean(value for _, value in runs)
            squares += sum((value - mean) ** 2 for _, value in runs)
            degrees += len(runs) - 1
            for seed, value in _scaled(runs[1:] if record.proposal else runs):
                by_seed[seed].append(value)
    sigma = math.sqrt((GUESS_RUNS * metric.noise**2 + squares) / (GUESS_RUNS + degrees))
    return _paired(sigma, by_seed)


def _scaled(runs: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """(seed, deviation from the mean), with the variance of a run; none of a single run."""
    if len(runs) < 2:
        return []
    mean, scale = fmean(value for _, value in runs), math.sqrt(len(runs) / (len(runs) - 1))
    return [(seed, (value - mean) * scale) for seed, value in runs]


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
    known = {seed: (1 - common) / (len(found) * common + 1 - common) for seed, found in by_seed.items()}
    effects = {seed: (1 - known[seed]) * fmean(found) for seed, found in by_seed.items()}
    return Noise(sigma, effects, {seed: 1 - common * (1 - share) for seed, share in known.items()})


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
