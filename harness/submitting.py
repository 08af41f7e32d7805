"""A person's commit as an experiment: what it changed since it left the lab branch, carried to the tip, measured and judged."""

from __future__ import annotations

from harness import candidate, commits, git
from harness.beginning import draft, tried_before, with_change
from harness.models import Proposal, Record, Task, Verdict
from harness.night import Night
from harness.patterns import editable
from harness.proposal import TEXT_CHARS, TITLE_CHARS, printable
from harness.threeway import on_top
from harness.wishes import Wishes, waiting

PERSON = "person"  # in the place of an agent's name


def begin(night: Night) -> Record | None:
    """The submission that has waited longest, as an experiment on the incumbent; closed at once when it cannot be one.

    Variants of agents wait behind it: one that is the same is the one that is not tried.
    """
    wish = next(iter(waiting(Wishes(night.repo, night.ledger.tag, "submission"), night.ledger.records())), None)
    if wish is None or wish.commit is None:
        return None
    record, text = draft(night, PERSON)
    base, texts = record.experiment.base, {"program.md": text}
    subject, body = commits.message(night.repo, wish.commit)
    proposal = Proposal(title=printable(subject)[:TITLE_CHARS] or "untitled change", hypothesis=printable(body)[:TEXT_CHARS])
    record = record.model_copy(update={"wish": wish, "proposal": proposal})
    files = change(night.repo, night.task, night.start, base, wish.commit)
    if isinstance(files, str) or (twin := tried_before(night, git.tree_with(night.repo, base, files), waiting=False)):
        why = files if isinstance(files, str) else f"the same change was tried as {twin}"
        return night.close(record, Verdict(status="invalid", reason=why), texts)
    return with_change(night, record, files, texts)


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
    made = on_top(repo, tip, commit, fork)
    if made.conflicts:
        return f"it conflicts with what was merged since it left {lab}: rebase it onto its tip"
    if not made.changed:
        return "it changes nothing that the tip of the lab branch does not have"
    merged = git.commit(repo, made.tree, [tip], "A submission\n")
    return candidate.problem(repo, task, start, merged) or made.changed
