"""Ends first runs that curves.py calls hopeless, and remembers what whole runs looked like at that point."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

from harness import curves
from harness.ledger import Ledger
from harness.models import PROGRESS, Measurement, Metric, Record, Request
from harness.state import progress_of

REMEMBERED = 300  # whole runs that the rule is learnt from
SPARED = "spared"  # the figure of a run that was made to its end although the rule would have ended it


@dataclass
class Watcher:
    """Looks at one run while it is at work; `verdict` says why it is to be ended. A run that is `spared` is only looked at."""

    metric: Metric
    rule: curves.Rule | None
    bar: float
    spared: bool
    watch: curves.Watch = field(default_factory=curves.Watch)
    reason: str = ""
    status: str = "stopped"
    decided: bool = False

    def look(self, work: Path) -> bool:
        """Whether the run is to be ended now, by what its referee has published."""
        told = progress_of(work / PROGRESS)
        left, loss = told.get("left_s"), told.get("loss")
        if not isinstance(left, int | float) or not isinstance(loss, int | float) or self.decided:
            return bool(self.reason) and not self.spared
        self.watch.add(time.monotonic(), left, loss)
        if not math.isfinite(loss):
            self.decided, self.spared, self.status, self.reason = True, False, "crash", "its loss is no number any more"
        elif (early := self.watch.early()) is not None:
            self.decided = True
            if self.rule and self.rule.hopeless(early, self.bar, self.metric.direction):
                self.reason = (
                    f"stopped at {curves.AT:.0%} of the run: with a loss of {early:.4g} there, no run came near the incumbent "
                    f"(ranks correlate by {self.rule.correlation:.2f})"
                )
        return bool(self.reason) and not self.spared

    def result(self, request: Request, measured: Measurement | None) -> Measurement | None:
        """What is known of a run: of one that was ended its curve, in thousandths of the run; a spared one is noted as such."""
        if measured is not None:
            figures = {**measured.hidden_figures, SPARED: 1.0}
            return measured.model_copy(update={"hidden_figures": figures}) if self.reason else measured
        if not self.reason or self.spared:
            return None
        curve = [(round(1000 * share), loss) for share, loss in self.watch.points if math.isfinite(loss)]
        known = {"reason": self.reason, "seed": request.seed, "profile": request.task.profile, "sandbox": request.sandbox}
        return Measurement.model_validate({"status": self.status, "curve": curve, **known})


@dataclass
class History:
    """The loss at curves.AT and the score of the night's whole first runs; each record is read once."""

    known: dict[str, tuple[float, float] | None] = field(default_factory=dict)

    def watcher(self, ledger: Ledger, record: Record, incumbent: Record) -> Watcher:
        """A watcher for the first run of a candidate."""
        for past in ledger.records()[-REMEMBERED:]:
            if past.id not in self.known and past.verdict:
                self.known[past.id] = self._look(ledger, past)
        whole = [point for point in list(self.known.values())[-REMEMBERED:] if point]
        assert incumbent.value is not None
        return Watcher(record.metric, curves.learn(whole), incumbent.value, int(record.id) % curves.SPARED == 0)

    @staticmethod
    def _look(ledger: Ledger, record: Record) -> tuple[float, float] | None:
        first = next(iter(record.measurements), None)
        if first is None or first.status != "ok" or first.value is None:
            return None
        rows = [line.split("\t") for line in ledger.text(record, "curve-1.tsv").splitlines()]
        early = curves.whole([(int(step), float(loss)) for step, loss in rows])
        return None if early is None else (early, first.value)
