"""Ends first runs that curves.py or pace.py call hopeless, and remembers what whole runs looked like at that point."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from harness import curves, pace
from harness.ledger import Ledger
from harness.models import PROGRESS, Measurement, Metric, Record, Request
from harness.state import progress_of

REMEMBERED = 300  # whole runs that the rules are learnt from
DATA = "tokens"  # what a run has seen of its data: in its progress, and in the figures of its measurement
SPARED = {
    "loss": "spared",
    "pace": "spared_slow",
}  # figures of runs that went on to their end though a rule would have ended them


@dataclass
class Watcher:
    """Looks at one run while it is at work; `reason` says why it is to be ended. A run that is `spared` is only looked at.

    `bar` is the incumbent's value, `data` what it saw of its data, None where that is not known or no matter.
    """

    metric: Metric
    rule: curves.Rule | None
    slow: pace.Rule | None
    bar: float
    data: float | None
    spared: bool
    watch: curves.Watch = field(default_factory=curves.Watch)
    seen: pace.Watch | None = None
    reason: str = ""
    status: str = "stopped"
    decided: set[str] = field(default_factory=set)
    would: set[str] = field(default_factory=set)

    def look(self, work: Path) -> bool:
        """Whether the run is to be ended now, by what its referee has published."""
        told = progress_of(work / PROGRESS)
        left, loss, data = (_number(told.get(name)) for name in ("left_s", "loss", DATA))
        if left is not None and loss is not None and not math.isfinite(loss):
            self.status, self.reason = "crash", "its loss is no number any more"
        elif left is not None and not self.reason:
            if loss is not None:
                self.watch.add(time.monotonic(), left, loss)
            if data is not None and self.seen:
                self.seen.add(left, data)
            self._decide("pace", self._slow)
            self._decide("loss", self._lost)
        return bool(self.reason)

    def _decide(self, rule: str, ask: Callable[[], str | None]) -> None:
        """Take a rule's word, once: None while it has none, a reason, or nothing when the run may go on."""
        if rule in self.decided or (reason := ask()) is None:
            return
        self.decided.add(rule)
        if reason:
            self.would.add(rule)
            self.reason = "" if self.spared else self.reason or reason

    def _lost(self) -> str | None:
        if (early := self.watch.early()) is None:
            return None
        if not self.rule or not self.rule.hopeless(early, self.bar, self.metric.direction):
            return ""
        return (
            f"stopped at {curves.AT:.0%} of the run: with a loss of {early:.4g} there, no run came near the incumbent "
            f"(ranks correlate by {self.rule.correlation:.2f})"
        )

    def _slow(self) -> str | None:
        if not self.seen or not self.data or (expected := self.seen.expected()) is None:
            return None
        if not self.slow or (share := expected / self.data) >= pace.FLOOR:
            return ""
        return (
            f"stopped at {pace.AT:.0%} of the run: at its speed it would have seen {share:.0%} of the incumbent's data, and all "
            f"{self.slow.slow} runs that saw less than {pace.SLOW:.0%} were clearly worse"
        )

    def result(self, request: Request, measured: Measurement | None) -> Measurement | None:
        """What is known of a run: of one that was ended its curve, in thousandths of the run; a spared one is noted as such."""
        if measured is not None:
            spared = {SPARED[rule]: 1.0 for rule in sorted(self.would)}
            return measured.model_copy(update={"hidden_figures": {**measured.hidden_figures, **spared}}) if spared else measured
        if not self.reason:
            return None
        curve = [(round(1000 * share), loss) for share, loss in self.watch.points]
        known = {"reason": self.reason, "seed": request.seed, "profile": request.task.profile, "sandbox": request.sandbox}
        figures = {DATA: self.seen.points[-1][1]} if self.seen and self.seen.points else {}
        return Measurement.model_validate({"status": self.status, "curve": curve, "figures": figures, **known})


@dataclass
class History:
    """The night's whole first runs: by record the loss at curves.AT and the score, and the share of their incumbents' data that
    they saw and the gain. Each record is read once.
    """

    known: dict[str, tuple[float, float] | None] = field(default_factory=dict)
    paces: dict[str, tuple[float, float] | None] = field(default_factory=dict)
    incumbents: dict[str, str] = field(default_factory=dict)

    def watcher(self, ledger: Ledger, record: Record, incumbent: Record, budget_s: float | None) -> Watcher:
        """A watcher for the first run of a candidate; `budget_s` are the seconds of a run, None where it has another budget."""
        for past in ledger.records()[-REMEMBERED:]:
            if past.id not in self.known and past.verdict:
                self.known[past.id] = self._look(ledger, past)
                self.paces[past.id] = self._pace(ledger, past)
        losses, paces = ([point for point in list(each.values())[-REMEMBERED:] if point] for each in (self.known, self.paces))
        assert incumbent.value is not None
        return Watcher(
            metric=record.metric,
            rule=curves.learn(losses),
            slow=pace.learn(paces),
            bar=incumbent.value,
            data=saw(incumbent),
            spared=int(record.id) % curves.SPARED == 0,
            seen=pace.Watch(budget_s) if budget_s else None,
        )

    @staticmethod
    def _look(ledger: Ledger, record: Record) -> tuple[float, float] | None:
        first = next(iter(record.measurements), None)
        if first is None or first.status != "ok" or first.value is None:
            return None
        rows = [line.split("\t") for line in ledger.text(record, "curve-1.tsv").splitlines()]
        early = curves.whole([(int(step), float(loss)) for step, loss in rows])
        return None if early is None else (early, first.value)

    def _pace(self, ledger: Ledger, record: Record) -> tuple[float, float] | None:
        first = next(iter(record.measurements), None)
        if first is None or first.status != "ok" or first.value is None or DATA not in first.figures:
            return None
        base = record.experiment.base
        if base not in self.incumbents:  # to find one takes a look at many records
            self.incumbents[base] = ledger.incumbent(base).id
        incumbent = ledger.get(self.incumbents[base])
        if incumbent.value is None or not (data := saw(incumbent)):
            return None
        return first.figures[DATA] / data, record.metric.gain(incumbent.value, first.value)


def saw(record: Record) -> float | None:
    """The data that an experiment's runs saw, on average; None where they do not say."""
    found = [run.figures[DATA] for run in record.runs if run.status == "ok" and DATA in run.figures]
    return fmean(found) if found else None


def _number(told: object) -> float | None:
    return told if isinstance(told, int | float) else None
