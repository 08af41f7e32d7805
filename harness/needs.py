"""What the runs of a candidate may need, by what the baseline's needed. Pure."""

from __future__ import annotations

from harness.models import Record, Task, Verdict


def too_much(task: Task, baseline: Record, candidate: Record) -> Verdict | None:
    """A budget in data would make compute free, and memory is always; these keep a larger model from winning by it."""
    for factor, unit, status, field in (
        (task.budget.cpu_factor, "CPU seconds", "invalid", "cpu_s"),
        (task.limits.peak_memory_factor, "MB of memory", "discard", "peak_memory_mb"),
    ):
        used = max((float(getattr(run, field)) for run in candidate.runs), default=0.0)
        if factor and (allowed := _needed(baseline, field)) and used > factor * allowed:
            reason = f"needed {used:.1f} {unit}, the limit is {factor:g} x the baseline's {allowed:.1f}"
            return Verdict.model_validate({"status": status, "reason": reason})
    return None


def cpu_limit(task: Task, baseline: Record) -> float | None:
    """CPU seconds beyond which a run of a candidate is invalid, by the baseline's runs so far; None where there is no limit."""
    factor, needed = task.budget.cpu_factor, _needed(baseline, "cpu_s")
    return factor * needed if factor and needed else None


def _needed(baseline: Record, field: str) -> float:
    """What the baseline's runs needed on average; 0 where nothing is known of it."""
    spent = [float(getattr(run, field)) for run in baseline.measurements if getattr(run, field)]
    return sum(spent) / len(spent) if spent else 0.0
