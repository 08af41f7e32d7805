"""How good the night's result really is: tip against baseline, with fresh seeds, on data that decided nothing.

The best of many is flattered by the very data that it was chosen on, and by its lucky seeds. So both are measured anew, with
seeds that nothing has used, on the task's sealed test split. Each look at that split makes it a little less sealed (Blum and
Hardt, "The Ladder", 2015), so a look is a record before it begins, and what is known is not measured twice.
"""

from __future__ import annotations

import random

from harness import __version__, git, interval, locks, refs
from harness.certificates import SIDES, Certificate, Certificates, Result, Side, openings
from harness.ledger import BASELINE, now
from harness.models import Against, Measurement, Split, Task, UserError
from harness.night import Night
from harness.steps import Step

SEEDS = range(10_000_000, 2**31)  # far above those that experiments get
OPENING = ".certify"  # in the place of a tag


def certify(night: Night, count: int) -> Certificate:
    """The certificate of the lab branch's tip over at least `count` seeds; still open when the user interrupted it."""
    shelf = Certificates(night.repo, night.ledger.tag)
    certificate = current(night, shelf, count) or begin(night, shelf, count)
    while side := next_side(certificate):
        measured = None if night.interrupt.soon else run(night, certificate, side)
        if measured is None:
            return certificate
        certificate = shelf.add(certificate, side, measured)
    if certificate.state == "closed":
        return certificate
    return shelf.save(certificate.model_copy(update={"state": "closed", "result": conclude(certificate)}), Step.CERTIFIED)


def current(night: Night, shelf: Certificates, count: int) -> Certificate | None:
    """The one that was interrupted, or the last one when it answers what is asked: a split is not opened twice for one thing."""
    last = next(reversed(shelf.all()), None)
    if last is None or last.state == "open":
        return last
    same = last.tip == refs.resolve(night.repo, night.ledger.lab) and last.split == split(night.task)
    return last if same and len(last.seeds) >= count else None


def begin(night: Night, shelf: Certificates, count: int) -> Certificate:
    """The record of what is about to be measured, who asked for it, and of how many looks at the test split this is."""
    tag, task, kept = night.ledger.tag, night.task, night.ledger.incumbent()
    baseline, tip = night.ledger.get(BASELINE), refs.resolve(night.repo, night.ledger.lab)
    if tip is None or kept.id == BASELINE:
        raise UserError(f"nothing was merged into autoresearch/{tag} yet, so there is nothing to compare with its baseline")
    used = {run.seed for record in night.ledger.records() for run in record.measurements}
    used |= {seed for each in shelf.all() for seed in each.seeds}
    seeds = [seed for seed in random.SystemRandom().sample(SEEDS, count + len(used)) if seed not in used][:count]
    sealed = split(task) == "test"
    with locks.hold(night.repo, OPENING):
        certificate = Certificate(
            tag=tag,
            number=max((each.number for each in shelf.all()), default=0) + 1,
            opening=len(openings(night.repo, task.name, task.profile)) + 1 if sealed else 0,
            split=split(task),
            by=git.person(night.repo),
            task=task.name,
            metric=task.metric,
            profile=task.profile,
            sandbox=night.sandbox,
            harness=__version__,
            baseline=baseline.experiment.base,
            tip=tip,
            seeds=seeds,
            started=now(),
            updated=now(),
        )
        return shelf.save(certificate, Step.OPENED)


def split(task: Task) -> Split:
    """What a certificate of the task is measured on."""
    return "test" if task.test_split else "validation"


def next_side(certificate: Certificate) -> Side | None:
    """Whose turn it is, by turns, so that a machine that slows down slows both; None when all runs are made."""
    baseline, tip = (len(certificate.measurements[side]) for side in SIDES)
    if baseline == tip == len(certificate.seeds):
        return None
    return "baseline" if baseline == tip else "tip"


def run(night: Night, certificate: Certificate, side: Side) -> Measurement | None:
    """One more run of a side, with its next seed; None when it was interrupted."""
    number, commits = len(certificate.measurements[side]), {"baseline": certificate.baseline, "tip": certificate.tip}
    work = night.state.run(certificate.tag, f"{certificate.id}-{side}-{number}")
    runs, what = night.ledger.get(BASELINE).measurements, f"run {number + 1} of {len(certificate.seeds)}"
    with night.board.entry(certificate.id, side, what, Step.RUN_GOES_ON, work=work) as cancel:
        measured = night.run(
            commits[side], certificate.seeds[number], work, cancel, Against(baseline=runs), split=certificate.split, cold=True
        )
    again = f"`harness certify --tag {certificate.tag}` goes on with certificate {certificate.id}"
    if measured and measured.status == "void":
        raise UserError(f"the run says nothing about the {side}: {measured.reason}; when that is mended, {again}")
    if measured and measured.split != certificate.split:
        raise UserError(
            f"the referee of {certificate.tag!r} was asked for the {certificate.split} split and measured on {measured.split}: "
            f"its trusted files are those of the night's first commit, which have no such split, so it cannot be certified"
        )
    return measured


def conclude(certificate: Certificate) -> Result | None:
    """What the runs say together; None when too few of a side ended well."""
    before, after, metric = certificate.values("baseline"), certificate.values("tip"), certificate.metric
    if len(before) < 2 or len(after) < 2:
        return None
    if paired := before.keys() == after.keys():
        found = interval.paired([metric.gain(before[seed], after[seed]) for seed in before])
    else:
        samples = [list(before.values()), list(after.values())]
        found = interval.welch(*(samples if metric.direction == "minimize" else reversed(samples)))
    return Result(
        baseline=sum(before.values()) / len(before),
        tip=sum(after.values()) / len(after),
        gain=found.difference,
        low=found.low,
        high=found.high,
        method="paired t" if paired else "Welch's t",
    )
