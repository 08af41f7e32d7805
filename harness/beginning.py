"""How an experiment begins: with an agent that is to propose something, or with a change that is known already."""

from __future__ import annotations

from harness import __version__, git
from harness.ledger import now
from harness.messages import author, candidate_message
from harness.models import Experiment, Record, Task
from harness.night import Night
from harness.proposal import added, slug
from harness.steps import Step, reached


def draft(night: Night, agent: str, program: str = "", base: str = "") -> tuple[Record, str]:
    """A record of the next experiment, on the incumbent or another `base`, and the program in force. Nothing is written yet."""
    number = int(night.ledger.records()[-1].id) + 1
    text, blob = night.program(program)
    experiment = Experiment(id=f"{number:04d}", tag=night.ledger.tag, agent=agent, base=base or night.head())
    return new_record(experiment, night.task, night.sandbox, __version__, blob), text


def with_change(night: Night, record: Record, files: dict[str, str | None], texts: dict[str, str]) -> Record:
    """Make the candidate's commit of its proposal and of changed `files`, as in Proposal.files; now it can be measured."""
    proposal, base = record.proposal, record.experiment.base
    assert proposal is not None
    tree = git.tree_with(night.repo, base, files)
    proposal = proposal.model_copy(update={"files": files, "added": added(night.repo, git.files(night.repo, base), files)})
    record = record.model_copy(update={"proposal": proposal})
    commit = git.commit(night.repo, tree, [base], candidate_message(record), author(record))
    reached(Step.CANDIDATE_WRITTEN)
    branch = f"exp/{night.ledger.tag}/{record.id}-{slug(proposal.title)}"
    experiment = record.experiment.model_copy(update={"commit": commit, "tree": tree, "branch": branch})
    record = record.model_copy(update={"experiment": experiment, "state": "measuring"})
    texts = {**texts, "proposal.md": f"{proposal.title}\n\n{proposal.hypothesis}\n"}
    return night.ledger.save(record, Step.PROPOSED, texts)


def tried_before(night: Night, tree: str, waiting: bool = True) -> str | None:
    """The id of an experiment that had this very tree, or a try that did, or, with `waiting`, a variant that is to be tried."""
    tally = night.ledger.tally
    if (twin := tally.tried(tree)) or not waiting:
        return twin
    pending = ((first.id, each.commit) for first, _, each in tally.waiting())
    return next((first for first, commit in pending if commit and git.tree(night.repo, commit) == tree), None)


def new_record(experiment: Experiment, task: Task, sandbox: str, harness: str, program: str) -> Record:
    """A record at the start of its life."""
    return Record(
        experiment=experiment,
        state="proposing",
        task=task.name,
        metric=task.metric,
        profile=task.profile,
        sandbox=sandbox,
        harness=harness,
        program=program,
        started=now(),
        updated=now(),
    )
