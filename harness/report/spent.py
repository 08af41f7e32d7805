"""Where the time of a night went. Pure.

Records say what their agents took and what each phase of their runs took, and in which stints a harness worked on them: from when
it was opened until it last wrote to them. Between two stints nobody was at work. What a harness that was killed had begun and not
written down is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from harness.models import Record

TIMED = ("train", "run")  # the phase that a budget is for, as referees name it


@dataclass(frozen=True)
class Spent:
    """Seconds. `active`: the harness was at work; `stopped`: it was not; `phases`: agents' time, then that of runs by phase."""

    active: float
    stopped: float
    phases: dict[str, float]

    @property
    def timed(self) -> float:
        """In the runs' timed phase, over all of them."""
        return sum(self.phases.get(name, 0.0) for name in TIMED)

    @property
    def waiting(self) -> float:
        """What is left of the time at work; 0 where phases overlapped so much that nothing is known of it."""
        return max(0.0, self.active - sum(self.phases.values()))

    @property
    def busy(self) -> float | None:
        """Runs in their timed phase at a time, on average: 0.8 is four fifths of the time."""
        return self.timed / self.active if self.active else None


def spent(records: list[Record]) -> Spent:
    """What a night's records say of its time."""
    found: dict[str, float] = {"agent": 0.0}
    spans = []
    for record in records:
        work = agent_s(record)
        found["agent"] += work
        for run in record.measurements:
            for name, seconds in run.phases.items():
                found[name] = found.get(name, 0.0) + seconds
                work += seconds
        if record.started:
            began = _moment(record.started)  # all that is known of a record without stints
            spans += [(_moment(each.began), _moment(each.until)) for each in record.stints] or [(began, began + work)]
    spans.sort()
    active, stopped, until = 0.0, 0.0, spans[0][0] if spans else 0.0
    for began, ended in spans:
        stopped += max(0.0, began - until)
        active += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return Spent(active, stopped, {name: value for name, value in found.items() if value})


def agent_s(record: Record) -> float:
    """Seconds that an experiment's agent took, earlier tries included."""
    proposal = record.proposal
    return proposal.seconds + sum(each.seconds for each in proposal.tries) if proposal else 0.0


def runs_s(record: Record) -> float:
    """Seconds of all runs of an experiment."""
    return sum(sum(run.phases.values()) for run in record.measurements)


def _moment(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
