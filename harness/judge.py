"""Measurements of incumbent and candidate -> a verdict. Pure functions, no I/O; every reason is a sentence.

A candidate is kept when it is better than the incumbent by more than two standard deviations of a single run, pooled
over every commit that was measured more than once and never below the task's own prior. Reasons are for agents and commit
messages: what they say of the metric follows from its rounded values.
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
    noise, shown = sigma([record], task.metric), task.metric.shown
    seeds = _count(len(record.values), "seed")
    reason = f"baseline {task.metric.name} {shown(record.value)} over {seeds}, standard deviation {shown(noise)}"
    return Verdict(status="keep", reason=reason, sigma=noise, value=record.value)


def judge(task: Task, incumbent: Record, baseline: Record, candidate: Record, noise: float) -> Verdict | None:
    """The verdict over a candidate, or None when it has to be run first. `noise` is what `sigma` returned."""
    if failed := _failure(candidate.measurements) or _too_much_compute(task, baseline, candidate):
        return failed
    if candidate.value is None or incumbent.value is None:
        return None
    metric, bar = task.metric, MARGIN * noise
    gain = metric.gain(incumbent.value, candidate.value)
    what = f"{metric.name} {metric.shown(candidate.value)} against {metric.shown(incumbent.value)}"
    figures = {"gain": gain, "sigma": noise, "value": candidate.value}
    visible = metric.gain(metric.rounded(incumbent.value), metric.rounded(candidate.value))  # agents read this: no digit more
    margin = f"more than the {metric.shown(bar)} asked for" if noise else "on a metric without noise"
    if gain > bar:
        return Verdict(status="keep", reason=f"{what}: better by {metric.shown(visible)}, {margin}", **figures)
    if visible > 0:
        return Verdict(status="discard", reason=f"{what}: better by {metric.shown(visible)}, not {margin}", **figures)
    why = f"worse by {metric.shown(-visible)}" if visible else "no difference"
    return Verdict(status="discard", reason=f"{what}: {why}", **figures)


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


def figure(value: float, sign: str = "") -> str:
    """Two significant digits, and whole numbers from a hundred on."""
    return f"{value:{sign},.0f}" if abs(value) >= 100 else f"{value:{sign}.2g}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number != 1 else "")
