"""How an experiment begins: with an agent that is to propose something, or with a change that is known already."""

from __future__ import annotations

from harness import __version__, git, grid
from harness.ledger import new_record
from harness.messages import author, candidate_message
from harness.models import Experiment, Record
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
    for record in night.ledger.records():
        void = record.verdict is not None and record.verdict.status == "void"  # then the idea was never tried
        earlier = [each.tree for each in record.proposal.tries] if record.proposal else []
        if (tree in (record.experiment.tree, joined_tree(night, record)) and not void) or tree in earlier:
            return record.id
    pending = grid.waiting(night.ledger.records()) if waiting else []
    return next((first.id for first, _, each in pending if each.commit and git.tree(night.repo, each.commit) == tree), None)


def joined_tree(night: Night, record: Record) -> str | None:
    """The tree by which a stale candidate was joined with a later incumbent."""
    return git.tree(night.repo, record.experiment.joined) if record.experiment.joined else None
