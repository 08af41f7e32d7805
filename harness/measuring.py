"""The second half of an experiment: timed runs of a commit until the judge has a verdict."""

from __future__ import annotations

from harness import judge
from harness.ledger import BASELINE
from harness.models import Measurement, Record, UserError, Verdict
from harness.night import Night
from harness.repairing import conclude
from harness.steps import Step


def measure(night: Night, record: Record) -> Record:
    """Run the candidate until the judge has a verdict; the record as it was when the user interrupted a run."""
    night.ledger.open_branch(record)
    while (verdict := decide(night, record)) is None:
        if (measured := run_once(night, record)) is None:
            return record
        if measured.status == "void" and record.id == BASELINE:
            raise UserError(measured.reason)
        record = add(night, record, measured)
        if night.interrupt.soon and decide(night, record) is None:
            return record
    if record.id == BASELINE and verdict.status != "keep":
        raise UserError(f"the baseline does not run ({verdict.status}: {verdict.reason}): repair the task, then use a new --tag")
    return conclude(night, record, verdict)


def repeat(night: Night, record: Record, times: int) -> Record:
    """Measure a closed experiment again with fresh seeds; the verdict stays, the record's mean and the noise are refined."""
    for _ in range(times):
        measured = None if night.interrupt.soon else run_once(night, record)
        if measured is None:
            break
        if measured.status == "void":
            raise UserError(f"the run says nothing about experiment {record.id}: {measured.reason}")
        record = add(night, record, measured)
    return record


def add(night: Night, record: Record, measured: Measurement) -> Record:
    """Write a measurement into the record, its log and its curve beside it."""
    record = record.model_copy(update={"measurements": [*record.measurements, measured.facts()]})
    number = len(record.measurements)
    curve = "".join(f"{step}\t{loss:.5f}\n" for step, loss in measured.curve)
    return night.ledger.save(record, Step.MEASURED, {f"train-{number}.log": measured.log_tail, f"curve-{number}.tsv": curve})


def decide(night: Night, record: Record) -> Verdict | None:
    """What the judge says; the noise is pooled over everything measured so far."""
    if record.id == BASELINE:
        return judge.judge_baseline(night.task, record)
    records = night.ledger.records()
    noise = judge.sigma(records, night.task.metric)
    return judge.judge(night.task, night.ledger.incumbent(), records[0], record, noise)


def run_once(night: Night, record: Record) -> Measurement | None:
    """One more run of an experiment's commit, with the next seed; None when it was interrupted."""
    commit, number = record.experiment.commit, len(record.measurements)
    assert commit is not None
    work = night.state.run(night.ledger.tag, f"{record.id}-{number}")
    return night.run(commit, judge.seed(record.id, number), work, night.watch(record, f"run {number + 1}", work))
