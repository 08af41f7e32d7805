"""Measurements of incumbent and candidate -> a verdict, or whose run is needed next. Pure functions, no I/O.

A sequential Bayesian test in units of the measured noise (see belief.py and noise.py): a candidate is kept when the
probability that its gain is real is above KEEP, discarded when it is below DISCARD, and run again with the next seed
otherwise. `judge: greedy` keeps whatever scored better, for comparison.

A reason is read by agents and stands in commit messages: what it says of the metric follows from values rounded to the task's
resolution (the Ladder mechanism; Blum and Hardt 2015, arXiv 1502.04585). The exact figures are fields of the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.belief import Experience, Gain, Incumbent, Prior
from harness.models import Measurement, Metric, Record, Task, Verdict
from harness.needs import too_much
from harness.noise import Noise, degrees, noise

KEEP, DISCARD = 0.9, 0.2  # simulated: at 0.1, runs spent on hopeless candidates cost more than they save
LEAST_RUNS, MOST_RUNS = 2, 6  # of a candidate that is kept: one run cannot tell a good change from an erratic one
LEAST = 0.125  # standard deviations of a run: a smaller gain is none
BASELINE_RUNS = 3
CONTROL_EVERY = 25  # candidates on one incumbent for each control run of it
TOKENS_A_SIGMA = 400  # code tokens added for which one more standard deviation of gain is asked
SIMPLER = 30  # tokens of code, about five lines: a change that removes so many may be kept without a gain,
WORSE = 0.75  # unless it loses more than their price, or than this, in standard deviations
REMEMBERED = 500  # closed candidates that the prior is fitted to, and that refine the incumbent

Next = Verdict | Literal["run", "control"]


@dataclass(frozen=True)
class Standing:
    """What is known before a candidate is judged: the noise, the incumbent in its units, and what edits are like."""

    noise: Noise
    incumbent: Incumbent
    prior: Prior
    sign: float
    repeats: int

    def scaled(self, record: Record) -> list[float]:
        """The runs of a record that count, in standard deviations, larger is better."""
        runs = [run for run in record.runs if run.status == "ok" and run.value is not None]
        return [self.sign * self.noise.value(run) / self.noise.sigma for run in runs]

    def gain(self, record: Record) -> Gain:
        """The posterior of a candidate's gain."""
        return self.incumbent.gain(self.scaled(record), self.prior, self.left(record))

    def left(self, record: Record) -> float:
        """The share of the variance of its runs that pairing has left."""
        return self.noise.left(run.seed for run in record.runs if run.status == "ok" and run.value is not None)


def seed(run: int) -> int:
    """The seed of an experiment's n-th run: the same for all, so that seeds can be compared pairwise."""
    return run + 1


def standing(task: Task, incumbent: Record, tip: str, records: Sequence[Record]) -> Standing | None:
    """What all records so far say; None for a metric without noise. `tip` is the incumbent's commit on the lab branch."""
    measured, verdict = noise(records, task.metric), incumbent.verdict
    if not measured.sigma or verdict is None or verdict.value is None:
        return None
    sigma, sign = measured.sigma, -1.0 if task.metric.direction == "minimize" else 1.0
    closed = [(r, r.verdict) for r in records[1:] if r.values and r.verdict and r.verdict.error][-REMEMBERED:]
    learnt = Experience()
    for record, past in closed:
        if record.proposal and record.proposal.reverts:
            continue  # to take a merge back is no edit as agents make them
        learnt = learnt.after((past.observed or 0.0) / sigma, _spread(past.error, past))
    belief = Incumbent(sign * verdict.value / sigma, _spread(verdict.value_sd, verdict) ** 2)
    known = Standing(measured, belief, learnt.prior, sign, degrees(records))
    for record, past in closed:
        if record.ground == tip and past.status == "discard":
            after = known.incumbent.after(known.gain(record), len(record.values), False, known.left(record))
            known = replace(known, incumbent=after)
    return known


def _spread(figure: float | None, verdict: Verdict) -> float:
    """A standard deviation of a verdict's in units of the noise: of what was taken for that then, for it grows with it."""
    return figure / verdict.sigma if figure and verdict.sigma else 1.0


def judge_baseline(task: Task, record: Record) -> Verdict | None:
    """The baseline is kept after one run, so that the first verdict comes soon; None before. One that fails ends the night."""
    if failed := _failure(record.measurements):
        return failed
    if record.value is None:
        return None
    reason = f"baseline {task.metric.name} {task.metric.shown(record.value)}"
    sigma = noise([record], task.metric).sigma
    return Verdict(status="keep", reason=reason, sigma=sigma, value=record.value, value_sd=sigma, runs=len(record.values))


def judge(task: Task, known: Standing | None, incumbent: Record, baseline: Record, candidate: Record) -> Next:
    """The verdict over a candidate, or whose run is needed next. `known` is what `standing` returned."""
    if failed := _failure(candidate.runs) or too_much(task, baseline, candidate):
        return failed
    if candidate.value is None:
        return "run"
    if known is None or task.judge == "greedy":
        return _higher(task, incumbent, candidate)
    found, runs, added = known.gain(candidate), len(candidate.values), _added(candidate)
    real = found.above(LEAST + max(0, added) / TOKENS_A_SIGMA)
    harmless = found.above(-min(WORSE, -added / TOKENS_A_SIGMA)) if added <= -SIMPLER else 0.0
    kept, hopeless = max(real, harmless) > KEEP, max(real, harmless) < DISCARD
    if kept and runs < LEAST_RUNS:
        return "run"
    if kept and known.repeats < BASELINE_RUNS - 1 and runs < MOST_RUNS:  # the noise is hardly more than a guess yet
        return "control"
    if not kept and not hopeless and runs < MOST_RUNS:
        # The run that says most: the incumbent is every later candidate's measure as well.
        return "control" if known.incumbent.variance > known.left(candidate) / runs else "run"
    verdict = _figures(known, found, runs, known.left(candidate))
    value, against = (verdict.value, _believed(known, verdict)) if kept else (candidate.value, _fellow(incumbent, candidate))
    compared = _compared(task.metric, against, value, real > KEEP) + f" over {count(runs, 'seed')}"
    if real > KEEP:
        reason = f"{compared}, real with a probability above {100 * KEEP:g} %"
    elif kept:
        reason = f"{compared}, and {-added} tokens of code less: simpler and not worse beyond noise"
    else:
        reason = compared + _doubt(compared, hopeless, runs) + (f", for {added} tokens of code more" if added > 100 else "")
    judged = {"status": "keep" if kept else "discard", "reason": reason, "probability": real, "simpler": kept and real <= KEEP}
    return verdict.model_copy(update=judged)


def _figures(known: Standing, found: Gain, runs: int, left: float) -> Verdict:
    """What is believed of a candidate, in the metric's unit."""
    sigma, after = known.noise.sigma, known.incumbent.after(found, runs, True, left)
    return Verdict(
        status="discard",
        reason="",
        gain=found.mean * sigma,
        gain_sd=max(found.variance, 0.0) ** 0.5 * sigma,
        sigma=sigma,
        observed=found.observed * sigma,
        error=found.error * sigma,
        value=known.sign * after.mean * sigma,
        value_sd=after.variance**0.5 * sigma,
        runs=runs,
    )


def _believed(known: Standing, kept: Verdict) -> float:
    """What is believed of the incumbent once this candidate is kept: the gain lies between that and the value recorded for it."""
    assert kept.value is not None
    assert kept.gain is not None
    return kept.value - known.sign * kept.gain


def _fellow(incumbent: Record, candidate: Record) -> float | None:
    """What the incumbent scored with the same seeds, as these differ by more than most ideas do; else what is believed of it."""
    seeds = {run.seed for run in candidate.runs if run.value is not None}
    known = {run.seed: run.value for run in incumbent.runs if run.value is not None}
    return sum(known[seed] for seed in seeds) / len(seeds) if seeds <= known.keys() else incumbent.value


def _doubt(compared: str, hopeless: bool, runs: int) -> str:
    """Why what looks better is not kept; of what is worse the figure says it."""
    if not hopeless:
        return f", still undecided after {count(runs, 'run')}"
    return ", not real beyond noise" if "better by" in compared else ""


def _compared(metric: Metric, against: float | None, value: float | None, real: bool = False) -> str:
    """Both values, rounded, and the difference of these; a `real` gain is one, however little of it shows."""
    assert against is not None
    assert value is not None
    visible = metric.gain(metric.rounded(against), metric.rounded(value))
    difference = f"better by {metric.shown(visible)}" if visible > 0 else f"worse by {metric.shown(-visible)}"
    what = f"{metric.name} {metric.shown(value)} against {metric.shown(against)}"
    none = f"better by less than {metric.shown(metric.resolution)}" if real else "no difference"
    return f"{what}: {difference if visible else none}"


def refined(verdict: Verdict, value: float) -> Verdict:
    """The verdict of an incumbent after one more run of it."""
    if not verdict.sigma or verdict.value is None or not verdict.value_sd:
        return verdict
    sigma = verdict.sigma
    after = Incumbent(verdict.value / sigma, (verdict.value_sd / sigma) ** 2).control(value / sigma)
    return verdict.model_copy(update={"value": after.mean * sigma, "value_sd": after.variance**0.5 * sigma})


def control_due(task: Task, incumbent: Record, tip: str, records: Sequence[Record]) -> bool:
    """Whether the incumbent has to run again: for the baseline's other seeds, and every CONTROL_EVERY candidates."""
    if not task.metric.noise or task.judge == "greedy" or incumbent.verdict is None:
        return False
    closed = sum(1 for r in records if r.ground == tip and r.values and r.verdict and r.id != incumbent.id)
    missing = BASELINE_RUNS - 1 - degrees(records)
    extra = len(incumbent.values) - (incumbent.verdict.runs or 1)
    return (missing > 0 and closed > 0) or extra < closed // CONTROL_EVERY


def _higher(task: Task, incumbent: Record, candidate: Record) -> Verdict:
    """Better is kept: for a metric without noise, and for `judge: greedy`."""
    assert incumbent.value is not None
    assert candidate.value is not None
    gain = task.metric.gain(incumbent.value, candidate.value)
    simpler = gain == 0 and _added(candidate) <= -SIMPLER
    reason = _compared(task.metric, incumbent.value, candidate.value)
    reason += f", and {-_added(candidate)} tokens of code less" if simpler else ""
    figures = {"gain": gain, "sigma": 0.0, "value": candidate.value, "runs": len(candidate.values), "simpler": simpler}
    return Verdict.model_validate({"status": "keep" if gain > 0 or simpler else "discard", "reason": reason, **figures})


def _added(candidate: Record) -> int:
    return candidate.proposal.added if candidate.proposal else 0


def _failure(measurements: list[Measurement]) -> Verdict | None:
    for measured in measurements:
        if measured.status != "ok":
            status = "discard" if measured.status == "stopped" else measured.status
            return Verdict(status=status, reason=measured.reason or "no reason was given")
    return None


def figure(value: float, sign: str = "") -> str:
    """Two significant digits, and whole numbers from a hundred on."""
    return f"{value:{sign},.0f}" if abs(value) >= 100 else f"{value:{sign}.2g}"


def chance(probability: float) -> str:
    """A posterior probability for people: none is so sure that it would be 0 % or 100 %."""
    return "> 99 %" if probability >= 0.995 else "< 1 %" if probability < 0.005 else f"{100 * probability:.0f} %"


def count(number: int, what: str) -> str:
    """As in "3 seeds"."""
    return f"{number} {what}" + ("s" if number != 1 else "")
