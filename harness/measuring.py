"""The second half of an experiment: timed runs of a commit until the judge has a verdict."""

from __future__ import annotations

from harness import judge, refs
from harness.ledger import BASELINE, evidence
from harness.models import Against, Measurement, Record, Task, UserError, Verdict
from harness.night import Night
from harness.repairing import conclude
from harness.steps import Step


def measure(night: Night, record: Record) -> Record:
    """Run candidate or incumbent until the judge has a verdict; the record as it was when the user interrupted a run."""
    night.ledger.open_branch(record)
    if not record.measurements:  # a check that was passed is not stored: it is made again after a kill
        if (checked := night.check(record)) is None or (checked.status == "ok" and night.interrupt.soon):
            return record
        if checked.status != "ok":
            return refuse(night, record, checked)
    while not isinstance(verdict := decide(night, record), Verdict):
        if verdict == "control" and control(night):
            continue
        if (measured := None if night.interrupt.soon and record.measurements else run_once(night, record)) is None:
            return record
        if measured.status == "void" and record.id == BASELINE:
            raise UserError(measured.reason)
        record = add(night, record, measured)
    if record.id == BASELINE and verdict.status != "keep":
        raise UserError(f"the baseline does not run ({verdict.status}: {verdict.reason}): repair the task, then use a new --tag")
    return conclude(night, record, verdict)


def refuse(night: Night, record: Record, checked: Measurement) -> Record:
    """Close an experiment whose candidate failed the task's check, with the end of the check's output beside its record."""
    if record.id == BASELINE:
        raise UserError(f"the unchanged code cannot be measured, {checked.reason}: repair it or the task, then use a new --tag")
    verdict = Verdict.model_validate({"status": checked.status, "reason": checked.reason})
    return conclude(night, record, verdict, {"check.log": checked.log_tail})


def repeat(night: Night, record: Record, times: int) -> Record:
    """Measure a closed experiment again with fresh seeds; the verdict stays, the record's mean and the noise are refined."""
    for _ in range(times):
        measured = None if night.interrupt.soon else run_once(night, record)
        if measured is None:
            break
        if measured.status == "void":
            raise UserError(f"the run says nothing about experiment {record.id}: {measured.reason}")
        record = add(night, record, measured)
    forget(night)
    return record


def control(night: Night) -> bool:
    """Run the incumbent once more; whether that said anything. One that fails now is seen in its record and ends nothing."""
    incumbent = night.ledger.incumbent()
    measured = None if night.interrupt.soon else run_once(night, incumbent)
    if measured is not None:
        add(night, incumbent, measured)
    return measured is not None and measured.status == "ok"


def control_if_due(night: Night) -> None:
    """Keep the bar honest: the judge says when the incumbent's own value has to be measured again."""
    while not night.interrupt.soon and judge.control_due(*_standing(night)):
        if not control(night):
            return


def forget(night: Night) -> None:
    """Remove the values of each item that belong to any other commit than the incumbent's."""
    night.state.forget_items(night.ledger.tag, night.ledger.incumbent().id)


def add(night: Night, record: Record, measured: Measurement) -> Record:
    """Write a measurement into the record, its log and its curve beside it."""
    update: dict[str, object] = {"measurements": [*record.measurements, measured.facts()]}
    if record.verdict and measured.value is not None:
        update["verdict"] = judge.refined(record.verdict, measured.value)
    record = record.model_copy(update=update)
    return night.ledger.save(record, Step.MEASURED, evidence(str(len(record.measurements)), measured))


def decide(night: Night, record: Record) -> judge.Next:
    """What the judge says, by everything measured so far."""
    if record.id == BASELINE:
        return judge.judge_baseline(night.task, record) or "run"
    if not record.measurements:
        return "run"
    task, incumbent, tip, records = _standing(night)
    return judge.judge(task, judge.standing(task, incumbent, tip, records), incumbent, records[0], record)


def _standing(night: Night) -> tuple[Task, Record, str, list[Record]]:
    tip = refs.resolve(night.repo, night.ledger.lab)
    assert tip is not None
    return night.task, night.ledger.incumbent(), tip, night.ledger.records()


def run_once(night: Night, record: Record) -> Measurement | None:
    """One more run of an experiment's commit, with the next seed; None when it was interrupted."""
    commit, number = record.experiment.commit, len(record.measurements)
    assert commit is not None
    work = night.state.run(night.ledger.tag, f"{record.id}-{number}")
    cancel = night.watch(record, f"run {number + 1}", Step.RUN_GOES_ON, work=work)
    items = night.state.items(night.ledger.tag, record.id)
    return night.run(commit, judge.seed(number), work, cancel, against(night), items)


def against(night: Night) -> Against:
    """What the referee may compare a run of this night with."""
    items = night.state.items(night.ledger.tag, night.ledger.incumbent().id)
    return Against(baseline=night.ledger.records()[0].measurements, items=items if items.is_file() else None)
