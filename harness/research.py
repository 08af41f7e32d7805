"""A night: propose, commit, measure, judge, merge or delete, until told to stop.

Every step begins and ends with a record in git, so the same loop also continues a night that was killed anywhere.
"""

from __future__ import annotations

import shutil
import time

from harness import __version__, git, judge, prompt
from harness.ledger import BASELINE, author, new_record
from harness.models import Experiment, Measurement, Record, Request, UserError, Verdict
from harness.night import Night
from harness.proposal import curve, describe, nothing_changed, slug, take
from harness.protocols import Agent, Exit
from harness.workspace import Harvest, agent_box, worktree

MAX_VOIDS = 3


def research(night: Night) -> str:
    """The whole night; the reason why it ended."""
    for record in night.ledger.unsettled():
        if not night.interrupt.soon:
            advance(night, record)
    while not (reason := over(night)):
        agent = night.agents[(len(night.ledger.ids()) - 1) % len(night.agents)]
        advance(night, begin(night, agent))
    return reason


def over(night: Night) -> str | None:
    """Why the night is over, or None."""
    records = [record for record in night.ledger.records() if record.id != BASELINE]
    statuses = [record.verdict.status for record in records if record.verdict]
    stop = night.task.stop
    if night.interrupt.soon or night.interrupt.now:
        return "interrupted"
    if len(statuses) - statuses.count("void") >= stop.experiments:
        return f"{stop.experiments} experiments are done"
    if stop.hours and time.monotonic() - night.started > stop.hours * 3600:
        return f"{stop.hours:g} hours are over"
    if statuses[-MAX_VOIDS:] == ["void"] * MAX_VOIDS:
        last = records[-1].verdict
        return (
            f"the last {MAX_VOIDS} experiments were void, so something outside the experiments is broken: {last and last.reason}"
        )
    return None


def begin(night: Night, agent: Agent) -> Record:
    """The next experiment, opened on the incumbent."""
    number = f"{int(night.ledger.ids()[-1]) + 1:04d}"
    base = git.resolve(night.repo, night.ledger.lab)
    assert base is not None
    experiment = Experiment(id=number, tag=night.ledger.tag, agent=agent.spec.name, base=base)
    return night.ledger.save(new_record(experiment, night.task, night.sandbox, __version__, night.program()[1]))


def begin_baseline(night: Night, commit: str) -> None:
    """Open experiment 0000 on `commit` and make the lab branch there."""
    experiment = Experiment(id=BASELINE, tag=night.ledger.tag, agent="baseline", base=commit, commit=commit)
    text, blob = night.program()
    record = new_record(experiment, night.task, night.sandbox, __version__, blob).model_copy(update={"state": "measuring"})
    night.ledger.save(record, program__md=text)
    git.swap(night.repo, night.ledger.lab, commit, None)


def advance(night: Night, record: Record) -> None:
    """Take one experiment from whatever state it is in to its end, or to where an interrupt stops it."""
    if record.state == "proposing":
        record = propose(night, record)
    if record.state == "measuring":
        record = measure(night, record)
    if record.state == "closed":
        night.ledger.settle(record)
        night.tell(record)


def propose(night: Night, record: Record) -> Record:
    """Let the agent work in a worktree and take what it left; unchanged when the user interrupted it."""
    agent = next((agent for agent in night.agents if agent.spec.name == record.experiment.agent), night.agents[0])
    record = record.model_copy(update={"experiment": record.experiment.model_copy(update={"agent": agent.spec.name})})
    text, blob = night.program()
    base, tag = record.experiment.base, night.ledger.tag
    git.fetch(night.view, night.repo, night.ledger.lab)
    records = [known for known in night.ledger.records() if known.id != record.id]
    asked = prompt.render(night.task, text, records, night.ledger.incumbent(), record.id)
    editable, known = night.editable, set(git.files(night.repo, base))
    with worktree(night.view, f"{tag}-{record.id}", night.state.worktree(tag, record.id), base) as folder:
        prompt.write_lab(folder, night.task, night.ledger, records)
        home = night.state.home(tag, agent.spec.name)
        box = agent_box(folder, night.state.view, editable, home, night.hidden, {"HARNESS_FILE": editable[0]})
        cancel = night.watch(record, "propose")
        log, seconds = night.state.log(tag, record.id), night.task.budget.propose_s
        ended = agent.propose(asked, box, log, judge.seed(record.id, 0), seconds, lambda: cancel() or night.interrupt.soon)
        if ended.cancelled:
            return record
        found, refused = take(folder, editable, known, prompt.notebook(records))
    record = record.model_copy(update={"program": blob})
    return accept(night, record, agent, ended, found, refused, asked)


def accept(night: Night, record: Record, agent: Agent, ended: Exit, found: Harvest | None, refused: str, asked: str) -> Record:
    """Turn a harvest into a commit on a branch of its own, or into a verdict that says why there is none."""
    proposal = describe(ended, found, refused, night.versions.get(agent.spec.name, ""), agent.spec.ok_exit_codes)
    blobs = git.files(night.repo, record.experiment.base)
    files = {name: git.write(night.repo, data) for name, data in (found.files if found else {}).items()}
    changed = {name: blob for name, blob in files.items() if blobs.get(name) != blob}
    proposal = proposal.model_copy(update={"files": changed})
    notes = {"prompt__md": asked, "proposal__md": f"{proposal.title}\n\n{proposal.hypothesis}\n", "transcript__txt": ended.tail}
    record = record.model_copy(update={"proposal": proposal})
    if refused:
        return close(night, record, Verdict(status="invalid", reason=refused), **notes)
    if not changed:
        return close(night, record, nothing_changed(ended, agent.spec.ok_exit_codes), **notes)
    tree = git.tree_with(night.repo, record.experiment.base, changed)
    if twin := tried_before(night, tree):
        return close(night, record, Verdict(status="invalid", reason=f"the same change was tried as {twin}"), **notes)
    message = f"{proposal.title}\n\n{proposal.hypothesis}".rstrip() + f"\n\nExperiment: {night.ledger.tag}/{record.id}\n"
    message += f"Agent: {author(record)[0]}\n"
    commit = git.commit(night.repo, tree, [record.experiment.base], message, author(record))
    branch = f"exp/{night.ledger.tag}/{record.id}-{slug(proposal.title)}"
    experiment = record.experiment.model_copy(update={"commit": commit, "branch": branch})
    return night.ledger.save(record.model_copy(update={"experiment": experiment, "state": "measuring"}), **notes)


def tried_before(night: Night, tree: str) -> str | None:
    """The id of an experiment that had this very tree."""
    for record in night.ledger.records():
        void = record.verdict is not None and record.verdict.status == "void"  # then the idea was never tried
        if record.experiment.commit and not void and git.tree(night.repo, record.experiment.commit) == tree:
            return record.id
    return None


def measure(night: Night, record: Record) -> Record:
    """Run the candidate until the judge has a verdict; the record as it was when the user interrupted a run."""
    night.ledger.open_branch(record)
    while (verdict := decide(night, record)) is None:
        if (measured := run_once(night, record)) is None:
            return record
        if measured.status == "void" and record.id == BASELINE:
            raise UserError(measured.reason)
        record = record.model_copy(update={"measurements": [*record.measurements, measured]})
        record = night.ledger.save(record, train__log=measured.log_tail, curve__tsv=curve(measured))
        if night.interrupt.soon and decide(night, record) is None:
            return record
    if record.id == BASELINE and verdict.status != "keep":
        raise UserError(f"the baseline does not run ({verdict.status}: {verdict.reason}): repair the task, then use a new --tag")
    return close(night, record, verdict)


def decide(night: Night, record: Record) -> Verdict | None:
    """What the judge says; the noise is pooled over everything measured so far."""
    if record.id == BASELINE:
        return judge.judge_baseline(night.task, record)
    records = night.ledger.records()
    noise = judge.sigma(records, night.task.metric)
    return judge.judge(night.task, night.ledger.incumbent(), records[0], record, noise)


def run_once(night: Night, record: Record) -> Measurement | None:
    """One run of a commit, from an exported tree of its own; None when it was interrupted."""
    commit, number = record.experiment.commit, len(record.measurements)
    assert commit is not None
    work = night.state.run(night.ledger.tag, record.id, number)
    git.export(night.repo, commit, work / "tree")
    request = Request(
        task=night.task,
        tree=work / "tree",
        work=work,
        commit=commit,
        seed=judge.seed(record.id, number),
        sandbox=night.sandbox,
        hidden=list(night.hidden),
    )
    measured = night.runner.measure(request, night.watch(record, f"run {number + 1}", request.progress))
    if measured is None or measured.status != "void":
        shutil.rmtree(work, ignore_errors=True)
    return measured


def close(night: Night, record: Record, verdict: Verdict, **attachments: str) -> Record:
    """Write the verdict into the record; the branches follow in `Ledger.settle`."""
    return night.ledger.save(record.model_copy(update={"state": "closed", "verdict": verdict}), **attachments)
