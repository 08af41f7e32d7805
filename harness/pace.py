"""Early stops: a first run that takes in its data so slowly that it will see a small part of what the incumbent saw. Pure.

A larger, slower model may win all the same, so being slow is no reason by itself. It is one when the night shows it: the rule
is off until there are thirty whole runs, and among them five that saw less than half of their incumbents' data. All of these must
have lost, and so clearly that one which is better than their mean by three of their standard deviations would lose as well (a
prediction interval; 2 % of Student's t with four degrees of freedom lie beyond). Then a run is ended at a quarter of its way that
at its speed will see less than a quarter of the incumbent's data: half of what those saw that it is compared with.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.curves import FEWEST

AT, WINDOW = 0.25, 0.05  # the share of a run at which it is looked at, and the share before that by which its speed is told
SLOW = 0.5  # of the incumbent's data: the runs that are learnt from
FLOOR = 0.25  # of the incumbent's data: what will see more is never ended
FEWEST_SLOW = 5
SURE = 3.0


@dataclass(frozen=True)
class Rule:
    """How many whole runs were slow, all of which lost."""

    slow: int


@dataclass
class Watch:
    """What a run at work has seen of its data, as (seconds, data); `budget_s` are the seconds that it has."""

    budget_s: float
    points: list[tuple[float, float]] = field(default_factory=list)

    def add(self, left_s: float, data: float) -> None:
        """What the referee says: the seconds left, and all data so far."""
        self.points.append((self.budget_s - left_s, data))

    def expected(self) -> float | None:
        """What the run will have seen at its end, at the speed that it has once it is as far as AT; None before."""
        if not self.points or self.points[-1][0] < AT * self.budget_s:
            return None
        now, data = self.points[-1]
        began = max(now - WINDOW * self.budget_s, 0.0)
        before, had = next((point for point in self.points if point[0] >= began and point[0] < now), (0.0, 0.0))
        return data + (data - had) / (now - before) * (self.budget_s - now)


def learn(history: Sequence[tuple[float, float]]) -> Rule | None:
    """The rule that (share of the incumbent's data, gain) of whole runs allow; None where slow ones are few or may win."""
    gains = [gain for share, gain in history if share < SLOW]
    if len(history) < FEWEST or len(gains) < FEWEST_SLOW or max(gains) >= 0:
        return None
    reach = SURE * statistics.stdev(gains) * math.sqrt(1 + 1 / len(gains))
    return Rule(len(gains)) if statistics.fmean(gains) + reach < 0 else None
