"""A person's commit as an experiment: what it changed since it left the lab branch, carried to the tip, measured and judged."""

from __future__ import annotations

from harness import __version__, candidate, commits, git
from harness.ledger import author, new_record
from harness.models import Experiment, Proposal, Record, Task, Verdict
from harness.night import Night
from harness.patterns import editable
from harness.proposal import TEXT_CHARS, TITLE_CHARS, printable, slug
from harness.proposing import added, candidate_message, tried_before
from harness.steps import Step
from harness.wishes import Wishes, waiting

PERSON = "person"  # in the place of an agent's name


def begin(night: Night) -> Record | None:
    """The submission that has waited longest, as an experiment on the incumbent; closed at once when it cannot be one."""
    wish = next(iter(waiting(Wishes(night.repo, night.ledger.tag, "submission"), night.ledger.records())), None)
    if wish is None or wish.commit is None:
        return None
    base, number = night.ledger.tip(), int(night.ledger.records()[-1].id) + 1
    experiment = Experiment(id=f"{number:04d}", tag=night.ledger.tag, agent=PERSON, base=base)
    text, blob = night.program()
    record = new_record(experiment, night.task, night.sandbox, __version__, blob).model_copy(update={"wish": wish})
    subject, body = commits.message(night.repo, wish.commit)
    proposal = Proposal(title=printable(subject)[:TITLE_CHARS] or "untitled change", hypothesis=printable(body)[:TEXT_CHARS])
    files = change(night.repo, night.task, night.start, base, wish.commit)
    if isinstance(files, str) or (twin := tried_before(night, git.tree_with(night.repo, base, files))):
        why = files if isinstance(files, str) else f"the same change was tried as {twin}"
        closed = {"state": "closed", "proposal": proposal, "verdict": Verdict(status="invalid", reason=why)}
        return night.ledger.save(record.model_copy(update=closed), Step.CLOSED, {"program.md": text})
    return opened(night, record.model_copy(update={"proposal": proposal}), files, text)


def opened(night: Night, record: Record, files: dict[str, str | None], program: str) -> Record:
    """A new experiment that nobody has to propose any more, ready to be measured."""
    proposal, base = record.proposal, record.experiment.base
    assert proposal is not None
    more = {"files": files, "added": added(night, git.files(night.repo, base), files)}
    record = record.model_copy(update={"proposal": proposal.model_copy(update=more), "state": "measuring"})
    tree = git.tree_with(night.repo, base, files)
    commit = git.commit(night.repo, tree, [base], candidate_message(record), author(record))
    branch = f"exp/{night.ledger.tag}/{record.id}-{slug(proposal.title)}"
    experiment = record.experiment.model_copy(update={"commit": commit, "tree": tree, "branch": branch})
    texts = {"program.md": program, "proposal.md": f"{proposal.title}\n\n{proposal.hypothesis}\n"}
    return night.ledger.save(record.model_copy(update={"experiment": experiment}), Step.PROPOSED, texts)


def change(repo: git.Repo, task: Task, start: str, tip: str, commit: str) -> dict[str, str | None] | str:
    """What a person's commit does to the incumbent at `tip`, as in Proposal.files, or why it cannot be an experiment.

    `start` is the night's first commit, whose files are the trusted ones.
    """
    lab = "the lab branch"
    if (fork := commits.fork(repo, tip, commit)) is None:
        return f"it has no commit in common with {lab}: begin a branch there"
    names = commits.changed(repo, fork, commit)
    if strays := [name for name in names if not editable(task.editable, name)]:
        more = f" and {len(strays) - 1} more" if len(strays) > 1 else ""
        return f"it changes {strays[0]}{more}, and an experiment may change only {', '.join(task.editable)}"
    if refused := candidate.problem(repo, task, start, commit):
        return refused
    if (files := commits.carried(repo, fork, tip, commit)) is None:
        return f"it conflicts with what was merged since it left {lab}: rebase it onto its tip"
    if not files:
        return "it changes nothing that the tip of the lab branch does not have"
    merged = git.commit(repo, git.tree_with(repo, tip, files), [tip], "A submission\n")
    return candidate.problem(repo, task, start, merged) or files
