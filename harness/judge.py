"""Measurements of incumbent and candidate -> a verdict. Pure functions, no I/O; every reason is a sentence.

A candidate is kept when it is better than the incumbent by more than two standard deviations of a single run, pooled
over every commit that was measured more than once and never below the task's own prior.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.models import Measurement, Metric, Record, Task, Verdict

BASELINE_SEEDS = 3
MARGIN = 2.0


def baseline_runs(metric: Metric) -> int:
    """How many seeds the baseline needs: one tells everything about a metric without noise."""
    return BASELINE_SEEDS if metric.noise else 1


def seed(experiment: str, run: int) -> int:
    """The seed of a run: fresh for every experiment, and the same again when a night is resumed."""
    return 100 * int(experiment) + run + 1


def sigma(records: Iterable[Record], metric: Metric) -> float:
    """Standard deviation of one run: pooled over all commits with repeats, floored at the prior `metric.noise`."""
    squares, degrees = 0.0, 0
    for values in (record.values for record in records if len(record.measurements) > 1):
        mean = sum(values) / len(values) if values else 0.0
        squares += sum((value - mean) ** 2 for value in values)
        degrees += max(0, len(values) - 1)
    return max(metric.noise, (squares / degrees) ** 0.5 if degrees else 0.0)


def judge_baseline(task: Task, record: Record) -> Verdict | None:
    """None while the baseline needs another run; a baseline that fails ends the night."""
    if failed := _failure(record.measurements):
        return failed
    if len(record.values) < baseline_runs(task.metric):
        return None
    noise, shown = sigma([record], task.metric), task.metric.shown(record.value)
    spread = difference(task.metric, noise)
    reason = f"baseline {task.metric.name} {shown} over {_count(len(record.values), 'seed')}, standard deviation {spread}"
    return Verdict(status="keep", reason=reason, sigma=noise, value=record.value)


def judge(task: Task, incumbent: Record, baseline: Record, candidate: Record, noise: float) -> Verdict | None:
    """The verdict over a candidate, or None when it has to be run first. `noise` is what `sigma` returned."""
    if failed := _failure(candidate.measurements) or _too_much_compute(task, baseline, candidate):
        return failed
    if candidate.value is None or incumbent.value is None:
        return None
    gain = task.metric.gain(incumbent.value, candidate.value)
    kept = gain > MARGIN * noise
    reason = _reason(task.metric, incumbent.value, candidate.value, noise, kept)
    return Verdict(status="keep" if kept else "discard", reason=reason, gain=gain, sigma=noise, value=candidate.value)


def _reason(metric: Metric, incumbent: float, candidate: float, noise: float, kept: bool) -> str:
    """The verdict in words that follow from rounded values: the reason reaches agents, and a finer gain would tell them more."""
    text = f"{metric.name} {metric.shown(candidate)} against {metric.shown(incumbent)}"
    gain, spread = metric.gain(metric.rounded(incumbent), metric.rounded(candidate)), metric.rounded(noise)
    if kept:
        margin = f"{gain / spread:.1f} standard deviations of a run" if spread else "on a metric without noise"
        better = f"by {difference(metric, gain)}" if gain > 0 else "by less than is shown"
        return f"{text}: better {better}, " + (margin if spread or not noise else "more than the noise")
    if gain > 0:
        return f"{text}: better by {difference(metric, gain)}, but {difference(metric, MARGIN * noise)} is needed"
    return f"{text}: " + (f"worse by {difference(metric, -gain)}" if gain else "no difference")


def _failure(measurements: list[Measurement]) -> Verdict | None:
    for measured in measurements:
        if measured.status != "ok":
            return Verdict(status=measured.status, reason=measured.reason or "no reason was given")
    return None


def _too_much_compute(task: Task, baseline: Record, candidate: Record) -> Verdict | None:
    """A budget in data would make compute free; this keeps a larger model from winning by it."""
    factor, used = task.budget.cpu_factor, max((m.cpu_s for m in candidate.measurements), default=0.0)
    spent = [m.cpu_s for m in baseline.measurements if m.cpu_s]
    if not factor or not spent or used <= factor * (allowed := sum(spent) / len(spent)):
        return None
    return Verdict(
        status="invalid", reason=f"needed {used:.1f} CPU seconds, the limit is {factor:g} x the baseline's {allowed:.1f}"
    )


def difference(metric: Metric, value: float) -> str:
    """A difference of two values of the metric as agents may see it: never finer than the metric itself."""
    return metric.shown(value) if metric.resolution else figure(value)


def figure(value: float, sign: str = "") -> str:
    """Two significant digits, and whole numbers from a hundred on."""
    return f"{value:{sign},.0f}" if abs(value) >= 100 else f"{value:{sign}.2g}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number != 1 else "")
