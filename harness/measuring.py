"""The second half of an experiment: timed runs of a commit until the judge has a verdict."""

from __future__ import annotations

from harness import guards, judge, merging, needs, repairing, stuck
from harness.early import Watcher
from harness.ledger import BASELINE
from harness.models import Against, Measurement, Record, Task, UserError, Verdict
from harness.night import Night
from harness.scheduling import aside
from harness.spec import DEFAULT_REFEREE
from harness.steps import Step

SCREEN, CONFIRM = 0, 1  # how urgent a run is: what is promising already is sooner merged, and its branch less often stale


async def measure(night: Night, record: Record) -> Record:
    """Run candidate or incumbent until the judge has a verdict; the record as it was when the user interrupted a run."""
    night.ledger.open_branch(record)
    while True:
        if not record.runs:  # a check that was passed is not stored: it is made again after a kill
            if (checked := await night.check(record)) is None or (checked.status == "ok" and night.interrupt.soon):
                return record
            if checked.status != "ok":
                if (rival := in_place(night, record, refused(checked))) is None:
                    return refuse(night, record, checked)
                record = rival
        verdict = decide(night, record)
        stale = merging.stale(night, record, verdict)
        if moved := (merging.join(night, record) if stale else None) or in_place(night, record, verdict):
            record = moved
            if record.state == "closed":
                return record
            continue
        if stale and isinstance(verdict, Verdict):
            return merging.send_back(night, record, "the texts of both changes conflict")
        if isinstance(verdict, Verdict) and guards.due(night, record, verdict):
            if (vetoed := await guards.veto(night, record, verdict)) is None:
                return record
            if not vetoed:  # somebody else may have merged meanwhile
                continue
            return conclude(night, record, *vetoed)
        if isinstance(verdict, Verdict):
            return conclude(night, record, verdict)
        if verdict == "control" and not stale and await control(night, record.ground):
            continue
        if (measured := await run_once(night, record, CONFIRM if record.measurements else SCREEN)) is None:
            return record
        if measured.status == "void" and record.id == BASELINE:
            raise UserError(measured.reason)
        record = add(night, record, measured)


def conclude(night: Night, record: Record, verdict: Verdict, texts: dict[str, str] | None = None) -> Record:
    """Carry a verdict into the record: it closes it, or sends the experiment back to its agent."""
    if record.id == BASELINE and verdict.status != "keep":
        raise UserError(f"the baseline does not run ({verdict.status}: {verdict.reason}): repair the task, then use a new --tag")
    verdict = merging.named(record, verdict)
    if record.experiment.joined or (record.experiment.onto and verdict.status == "discard"):
        return merging.conclude(night, record, verdict, decide(night, merging.compared(night, record, None)), texts)
    return repairing.conclude(night, record, verdict, texts)


def refuse(night: Night, record: Record, checked: Measurement) -> Record:
    """Close an experiment whose candidate failed the task's check, with the end of the check's output beside its record."""
    if record.id == BASELINE:
        raise UserError(f"the unchanged code cannot be measured, {checked.reason}: repair it or the task, then use a new --tag")
    return conclude(night, record, refused(checked), {"check.log": checked.log_tail})


def refused(checked: Measurement) -> Verdict:
    """The verdict over a candidate that failed the task's check."""
    return Verdict.model_validate({"status": checked.status, "reason": checked.reason})


def in_place(night: Night, record: Record, verdict: judge.Next) -> Record | None:
    """A restart that does not go together with what was merged since its base, as what could take the place of that: compared
    with the incumbent of now as it is. None where its runs call that hopeless, and for every other candidate.
    """
    if not stuck.restarted(record) or not isinstance(verdict, Verdict):
        return None
    refuted = record.experiment.joined and verdict.status not in ("keep", "void")
    if not refuted and not merging.stale(night, record, verdict):
        return None
    rival = merging.compared(night, record, night.head(record))
    return rival if merging.promising(decide(night, rival)) else None


async def repeat(night: Night, record: Record, times: int) -> Record:
    """Measure a closed experiment again with fresh seeds; the verdict stays, the record's mean and the noise are refined."""
    for _ in range(times):
        if (measured := await run_once(night, record, CONFIRM)) is None:
            break
        if measured.status == "void":
            raise UserError(f"the run says nothing about experiment {record.id}: {measured.reason}")
        record = add(night, record, measured)
    forget(night)
    return record


async def control(night: Night, commit: str) -> bool:
    """Run the incumbent at a commit once more; whether that said anything. A failure is seen in its record and ends nothing.

    Where somebody else has that done already, it is done when they are: it is everybody's incumbent.
    """
    if night.controlling.locked():
        async with night.controlling:
            return True
    async with night.controlling:
        incumbent = night.ledger.incumbent(commit)
        measured = await run_once(night, incumbent, CONFIRM)
        if measured is not None:
            add(night, night.ledger.get(incumbent.id), measured)
        return measured is not None and measured.status == "ok"


async def control_if_due(night: Night) -> None:
    """Keep the bar honest: the judge says when the incumbent's own value has to be measured again."""
    while not night.interrupt.soon and judge.control_due(*_standing(night, head := night.head())):
        if not await control(night, head):
            return


def forget(night: Night) -> None:
    """Remove the values of each item, except of the incumbent's commit and of those that may take its place."""
    candidates = {experiment for experiment in night.flight if night.ledger.get(experiment).state != "closed"}
    night.state.forget_items(night.ledger.tag, candidates | {night.ledger.incumbent(night.head()).id})


def add(night: Night, record: Record, measured: Measurement) -> Record:
    """Write a measurement into the record, its log and its curve beside it."""
    update: dict[str, object] = {"measurements": [*record.measurements, measured.facts()]}
    if record.verdict and measured.value is not None:
        update["verdict"] = judge.refined(record.verdict, measured.value)
    record = record.model_copy(update=update)
    return night.ledger.save(record, Step.MEASURED, measured.texts(str(len(record.measurements))))


def decide(night: Night, record: Record) -> judge.Next:
    """What the judge says, by everything measured so far, against the incumbent that the candidate is compared with."""
    if record.id == BASELINE:
        return judge.judge_baseline(night.task, record) or "run"
    if not record.runs:
        return "run"
    task, incumbent, commit, records = _standing(night, record.ground)
    return judge.judge(task, judge.standing(task, incumbent, commit, records), incumbent, records[0], record)


def _standing(night: Night, commit: str) -> tuple[Task, Record, str, list[Record]]:
    return night.task, night.ledger.incumbent(commit), commit, night.ledger.records()


async def run_once(night: Night, record: Record, urgency: int) -> Measurement | None:
    """One more run of what is judged, with the next seed, in the next free place; None when it was interrupted.

    One that broke its GPU is made again on another one, while there is one.
    """
    commit, number, seed = record.judged, len(record.measurements), judge.seed(len(record.runs))
    assert commit is not None
    async with night.places.lease(urgency) as place:
        if place is None or night.interrupt.soon:
            return None
        if record.state != "closed":
            night.flight.enter(record.id, "running")
        work = night.state.run(night.ledger.tag, f"{record.id}-{number}")
        request = night.request(commit, seed, work, against(night), place=place)
        if record.id != BASELINE and record.state != "closed":
            request = request.model_copy(update={"cpu_s": needs.cpu_limit(night.task, night.ledger.get(BASELINE))})
        watcher, budget = watch(night, record), night.task.budget
        limit_s = (budget.run_s or budget.limit_s) if night.task.referee == DEFAULT_REFEREE else None  # others publish their own
        with night.watch(record, f"run {number + 1}", Step.RUN_GOES_ON, limit_s, work) as cancel:
            measured = await aside(
                lambda stop: night.runner.measure(request, lambda: cancel() or stop() or bool(watcher and watcher.look(work)))
            )
        measured = watcher.result(request, measured) if watcher else measured
        measured = night.taken(request, measured, night.state.left(night.ledger.tag, record.id, record.state == "closed"))
        broken = night.lose(place)
    if broken and measured and measured.status == "void":
        again = await run_once(night, record, urgency)
        told = {"dirty": measured.hardware.get("dirty", measured.reason)}
        return again and again.model_copy(update={"hardware": {**again.hardware, **told}})
    return measured


def watch(night: Night, record: Record) -> Watcher | None:
    """Who ends the first run of a candidate when it is hopeless. What is promising is run to the end, and so is what is only made
    to know what a merge is worth: it is expected to lose.
    """
    if record.id == BASELINE or record.measurements or (record.proposal and record.proposal.reverts):
        return None
    return night.history.watcher(night.ledger, record, night.ledger.incumbent(record.ground), night.task.budget.run_s)


def against(night: Night) -> Against:
    """What the referee may compare a run of this night with."""
    items = night.state.items(night.ledger.tag, night.ledger.incumbent(night.head()).id)
    return Against(baseline=night.ledger.records()[0].measurements, items=items if items.is_file() else None)
