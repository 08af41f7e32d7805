"""What is believed of a candidate's true gain and of the incumbent's true value, after each run. Pure, no I/O.

The gain's prior is a mixture: a point mass at 0 (most edits change nothing), and an exponential on either side. One run
is the truth plus normal noise. Both together have a posterior in closed form: on each side a truncated normal
distribution (an exponential times a normal one; Greene, Econometric Analysis, on truncated moments). The incumbent is a
normal distribution, and every run of a candidate says something about it too: the two are updated together, and the
result is matched by a normal distribution again (assumed-density filtering; Minka 2001).

Everything is in units of the standard deviation of one run, and larger gains are better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

FAR = 35.0  # beyond so many standard deviations the error function underflows; its asymptote is exact enough
FEWEST = 20.0  # edits that the prior counts for when it is fitted again
LEAST = 0.03  # however long nothing was better, the next idea has this chance


@dataclass(frozen=True)
class Prior:
    """What edits are like before they are run: shares that add up to 1, and mean sizes of gains and losses."""

    better: float = 0.10
    neutral: float = 0.40
    worse: float = 0.50
    gain: float = 3.0
    loss: float = 5.0

    def sides(self, observed: float, error: float) -> tuple[Side, Side, Side]:
        """The posterior of the gain: its better, neutral and worse part, after a mean gain with a standard error."""
        up, down = _tail(observed, error, self.gain), _tail(-observed, error, self.loss)
        flat = -0.5 * (observed / error) ** 2 - math.log(error * math.sqrt(2 * math.pi))
        logs = [math.log(self.better) + up[0], _log(self.neutral) + flat, _log(self.worse) + down[0]]
        most = max(logs)
        weights = [math.exp(value - most) for value in logs]
        total = sum(weights)
        better, neutral, worse = (weight / total for weight in weights)
        return (
            Side(better, up[1], up[2], observed - error**2 / self.gain, error, 1.0),
            Side(neutral, 0.0, 0.0, 0.0, 0.0, 0.0),
            Side(worse, -down[1], down[2], -observed - error**2 / self.loss, error, -1.0),
        )


@dataclass(frozen=True)
class Experience:
    """What edits were like so far, and so the prior for the next: updated by each candidate (online expectation
    maximisation; Cappe and Moulines 2009).

    The first prior counts as FEWEST candidates, and the share of better ones never falls below LEAST. `better` and
    `worse` are expected counts, `gains` and `losses` expected sums.
    """

    prior: Prior = Prior()
    seen: int = 0
    better: float = 0.0
    worse: float = 0.0
    gains: float = 0.0
    losses: float = 0.0

    def after(self, observed: float, error: float) -> Experience:
        """With one more closed candidate: its mean gain as observed, and the standard error of that."""
        up, _, down = self.prior.sides(observed, error)
        seen, better, worse = self.seen + 1, self.better + up.share, self.worse + down.share
        gains, losses = self.gains + up.share * up.mean, self.losses - down.share * down.mean
        first, total = Prior(), FEWEST + seen
        good = max(LEAST, (FEWEST * first.better + better) / total)
        bad = min((FEWEST * first.worse + worse) / total, 1.0 - good)
        gain = (FEWEST * first.better * first.gain + gains) / (FEWEST * first.better + better)
        loss = (FEWEST * first.worse * first.loss + losses) / (FEWEST * first.worse + worse)
        prior = Prior(good, 1.0 - good - bad, bad, max(1.0, gain), max(1.0, loss))
        return Experience(prior, seen, better, worse, gains, losses)


@dataclass(frozen=True)
class Side:
    """One part of a posterior: its probability, mean and variance, and the normal distribution that it is the tail of."""

    share: float
    mean: float
    variance: float
    centre: float
    error: float
    sign: float

    def above(self, least: float) -> float:
        """The probability that the gain lies here and above `least`."""
        if not self.sign:
            return self.share if least < 0 else 0.0
        start = max(0.0, self.sign * least)
        beyond = math.exp(_log_upper((start - self.centre) / self.error) - _log_upper(-self.centre / self.error))
        if self.sign > 0:
            return self.share * beyond
        return self.share * (1.0 - beyond) if least < 0 else 0.0


@dataclass(frozen=True)
class Gain:
    """The posterior of a candidate's gain over the incumbent."""

    sides: tuple[Side, Side, Side]
    observed: float
    error: float

    @property
    def mean(self) -> float:
        """Its mean."""
        return sum(side.share * side.mean for side in self.sides)

    @property
    def variance(self) -> float:
        """Its variance."""
        return sum(side.share * (side.variance + side.mean**2) for side in self.sides) - self.mean**2

    def above(self, least: float) -> float:
        """The probability that the gain is larger than `least`."""
        return sum(side.above(least) for side in self.sides)


@dataclass(frozen=True)
class Incumbent:
    """What is believed of the incumbent's true value: mean, where larger is better, and variance."""

    mean: float
    variance: float

    @classmethod
    def measured(cls, values: list[float]) -> Incumbent:
        """Known from its own runs alone."""
        return cls(sum(values) / len(values), 1.0 / len(values))

    def control(self, value: float) -> Incumbent:
        """After one more run of its own."""
        share = self.variance / (self.variance + 1.0)
        return Incumbent(self.mean + share * (value - self.mean), self.variance * (1.0 - share))

    def gain(self, values: list[float], prior: Prior, left: float = 1.0) -> Gain:
        """What runs of a candidate say of its gain; `left` is the share of a run's variance that pairing has left."""
        observed = sum(values) / len(values) - self.mean
        error = math.sqrt(self.variance + left / len(values))
        return Gain(prior.sides(observed, error), observed, error)

    def after(self, found: Gain, runs: int, kept: bool, left: float = 1.0) -> Incumbent:
        """What a closed candidate taught about the incumbent, or of itself as the next one where it was kept."""
        share = self.variance / (self.variance + left / runs)
        rest = self.variance * (1.0 - share)
        mean = self.mean + share * (found.observed - found.mean)
        if not kept:
            return Incumbent(mean, rest + share**2 * found.variance)
        return replace(self, mean=mean + found.mean, variance=rest + (1.0 - share) ** 2 * found.variance)


def _tail(observed: float, error: float, size: float) -> tuple[float, float, float]:
    """Log evidence, mean and variance of an exponential prior of mean `size` after a normal observation."""
    centre = observed - error**2 / size
    ratio = centre / error
    evidence = -math.log(size) + 0.5 * (error / size) ** 2 - observed / size + _log_upper(-ratio)
    hazard = math.exp(-0.5 * ratio**2 - 0.5 * math.log(2 * math.pi) - _log_upper(-ratio))
    mean = max(0.0, centre + error * hazard)
    return evidence, mean, max(0.0, error**2 * (1.0 - hazard * (ratio + hazard)))


def _log_upper(x: float) -> float:
    """log P(Z > x) of a standard normal Z."""
    if x < FAR:
        return math.log(0.5 * math.erfc(x / math.sqrt(2.0)))
    return -0.5 * x * x - math.log(x * math.sqrt(2 * math.pi)) + math.log1p(-1.0 / x**2)


def _log(share: float) -> float:
    return math.log(share) if share > 0 else -math.inf
