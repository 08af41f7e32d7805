"""When a night ends by itself, and why: what the task's `stop` says, a user's Ctrl-C, and what makes going on useless."""

from __future__ import annotations

import math
import time
from datetime import datetime
from itertools import islice

from harness.ledger import BASELINE
from harness.models import Record, Stop
from harness.night import PAUSES, Night
from harness.spec import moment
from harness.tally import Tally

MAX_VOIDS = 3


def over(night: Night) -> str | None:
    """Why the night is over, or None."""
    night.heed()
    if night.interrupt.soon or night.interrupt.now:
        return "interrupted"
    stop, hours = night.task.stop, (time.monotonic() - night.started) / 3600
    late = by_time(stop, night.began, datetime.now().astimezone(), hours)
    return by_work(stop, night.ledger.tally) or late or by_money(night) or by_target(night) or by_trouble(night)


def by_work(stop: Stop, tally: Tally) -> str | None:
    """Enough experiments, or too long none that was kept; void ones count for nothing, and to take a merge back is no try."""
    if tally.done >= stop.experiments:
        return f"{stop.experiments} experiments are done" if stop.experiments != 1 else "1 experiment is done"
    last = list(islice(tally.verdicts(), stop.plateau or 0))
    if stop.plateau and len(last) == stop.plateau and "keep" not in last:
        return f"the last {stop.plateau} experiments had none to keep; `harness resume --plateau {2 * stop.plateau}` goes on"
    return None


def by_time(stop: Stop, began: datetime, now: datetime, hours: float) -> str | None:
    """The night was long enough, or it is late enough; the hours by a clock that nobody sets, the times with their zone."""
    if stop.hours and hours > stop.hours:
        return f"{stop.hours:g} hours are over"
    return f"it is {stop.at}" if stop.at and now >= moment(stop.at, began) else None


def by_money(night: Night) -> str | None:
    """What the night's agents may cost is spent."""
    most = night.task.stop.cost_usd
    if night.gateway and most and (spent := night.gateway.state().spent_usd) >= most:
        return f"the {most:g} USD of cost_usd are spent ({spent:.4g} USD)"
    return None


def by_target(night: Night) -> str | None:
    """What is believed of the incumbent is as good as was asked for: one lucky run ends no night."""
    metric, target = night.task.metric, night.task.stop.target
    if target is None or (value := night.ledger.incumbent(night.head()).value) is None or metric.gain(target, value) < 0:
        return None
    return f"the target is reached: {metric.name} {metric.shown(value)}, asked for was {target:g}"


def by_trouble(night: Night) -> str | None:
    """Nobody can propose, or nothing can be measured."""
    stranded = not night.ready() and not night.ledger.tally.waiting()
    if stranded and all(night.pause_of(agent).until == math.inf for agent in night.agents):
        why = "; ".join(f"{name}: {pause.reason}" for name, pause in night.paused.items())
        return f"no agent can work: {why}. Mend that, see `harness agents check NAME`, then run `harness resume`"
    last = list(islice(filter(counts, reversed(night.ledger.records())), MAX_VOIDS))
    if len(last) == MAX_VOIDS and all(record.status == "void" for record in last):
        return f"the last {MAX_VOIDS} experiments were void, so something outside the experiments is broken: {_reason(last[0])}"
    return None


def counts(record: Record) -> bool:
    """Whether a verdict says how it goes: that an agent's account is used up says nothing."""
    return bool(record.id != BASELINE and record.verdict) and not (record.proposal and record.proposal.outcome.kind in PAUSES)


def remaining(night: Night) -> int:
    """How many more a night may begin; never less than none."""
    return max(0, night.task.stop.experiments - night.ledger.tally.begun)


def spare(night: Night) -> int:
    """How many more agents may be asked: the variants that wait already come first."""
    return remaining(night) - len(night.ledger.tally.waiting())


def plan(night: Night) -> str:
    """When the night will end, in words."""
    stop, metric = night.task.stop, night.task.metric
    ends = [f"after {stop.experiments} experiment{'s' * (stop.experiments != 1)} in all"]
    ends += [f"after {stop.hours:g} hours"] if stop.hours else []
    ends += [f"on {moment(stop.at, night.began):%A at %H:%M}"] if stop.at else []
    ends += [f"when {stop.cost_usd:g} USD are spent"] if stop.cost_usd else []
    ends += [f"when {stop.plateau} experiments in a row had none to keep"] if stop.plateau else []
    ends += [f"when {metric.name} is {stop.target:g}"] if stop.target is not None else []
    return "ends " + ", ".join(ends)


def _reason(record: Record) -> str:
    return record.verdict.reason if record.verdict else ""
