"""Early stops: a first run whose learning curve says at two fifths of its way that it cannot win is ended there. Pure.

Whether curves say so at all is learnt from the night itself: the loss at that point of every run that was made to its end,
against the score that it came to. The rule is off until there are thirty such runs and their ranks go together (Spearman
1904); then a run is ended when the score that a straight line through them promises is out of the incumbent's reach by three
times the line's own error. Every tenth run that would be ended is not: without these the line would be drawn through
survivors only, and nobody would know what it costs. (Learning-curve extrapolation: Domhan et al. 2015.)
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

AT, WINDOW = 0.4, 0.05  # the share of a run at which it is looked at, and the share before that whose losses are averaged
FEWEST = 30
TOGETHER = 0.7
SURE = 3.0
SPARED = 10


@dataclass(frozen=True)
class Rule:
    """A straight line from the loss at AT to the score, the standard deviation of scores around it, and how ranks correlate."""

    slope: float
    intercept: float
    spread: float
    correlation: float

    def hopeless(self, loss: float, bar: float, direction: Literal["minimize", "maximize"]) -> bool:
        """Whether a run with this loss at AT cannot be expected to come to `bar`."""
        promised = self.slope * loss + self.intercept
        short = promised - bar if direction == "minimize" else bar - promised
        return short > SURE * self.spread


@dataclass
class Watch:
    """The curve of a run at work, as (share of the run, loss)."""

    points: list[tuple[float, float]] = field(default_factory=list)
    began: float | None = None

    def add(self, now: float, left_s: float, loss: float) -> None:
        """What the referee says `now`, by a clock in seconds; runs are as far as their time says."""
        self.began = now if self.began is None else self.began
        total = now - self.began + left_s
        self.points.append(((now - self.began) / total if total > 0 else 1.0, loss))

    def early(self) -> float | None:
        """The loss at AT, once the run is that far."""
        return at(self.points) if self.points and self.points[-1][0] >= AT else None


def at(points: Sequence[tuple[float, float]]) -> float | None:
    """The mean loss just before AT, or the last one before it; None where a curve has none there, or one that is no number."""
    before = [(share, loss) for share, loss in points if share <= AT]
    found = [loss for share, loss in before if share > AT - WINDOW] or [loss for _, loss in before[-1:]]
    return statistics.fmean(found) if found and all(map(math.isfinite, found)) else None


def whole(curve: Sequence[tuple[int, float]]) -> float | None:
    """The loss at AT of a run that was made to its end, by (step, loss)."""
    return at([(step / curve[-1][0], loss) for step, loss in curve]) if curve and curve[-1][0] > 0 else None


def learn(history: Sequence[tuple[float, float]]) -> Rule | None:
    """The rule that (loss at AT, score) of whole runs allow; None while they are few or do not go together."""
    if len(history) < FEWEST:
        return None
    losses, scores = [loss for loss, _ in history], [score for _, score in history]
    if len(set(losses)) < 3 or len(set(scores)) < 3:
        return None
    correlation = statistics.correlation(ranks(losses), ranks(scores))
    if abs(correlation) < TOGETHER:
        return None
    slope, intercept = statistics.linear_regression(losses, scores)
    squares = sum((score - slope * loss - intercept) ** 2 for loss, score in history)
    return Rule(slope, intercept, math.sqrt(squares / (len(history) - 2)), correlation)


def ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value, ties sharing the mean of theirs."""
    order = sorted(values)
    first = {value: index for index, value in reversed(list(enumerate(order)))}
    last = {value: index for index, value in enumerate(order)}
    return [(first[value] + last[value]) / 2 for value in values]
