"""Changes of experiments onto a branch of the user's: all of them in memory first, then one compare-and-swap of the branch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness import git, refs
from harness.commits import descends
from harness.ledger import Ledger
from harness.messages import author
from harness.models import Record, UserError
from harness.threeway import on_top

OURS = ("autoresearch/", "exp/")


@dataclass(frozen=True)
class Pick:
    """The branch's tip before and after, the new commits as experiment -> commit, and the experiments that it has already."""

    before: str
    after: str
    made: dict[str, str] = field(default_factory=dict)
    there: list[str] = field(default_factory=list)


def check_branch(repo: git.Repo, branch: str, chosen: Sequence[Record]) -> str:
    """The commit of a branch that may be moved; a UserError for any other one."""
    tip = refs.resolve(repo, f"refs/heads/{branch}")
    if branch.startswith(OURS):
        raise UserError(f"{branch} is the harness's own: name a branch of yours, as made by `git branch NAME`")
    if tip is None:
        raise UserError(f"there is no branch {branch!r}: make it with `git branch {branch}`")
    if refs.checked_out(repo, f"refs/heads/{branch}"):
        commits = " ".join((record.experiment.commit or "")[:10] for record in chosen)
        raise UserError(f"{branch} is checked out, and your work tree is not touched: run `git cherry-pick {commits}` there")
    return tip


def plan(ledger: Ledger, chosen: Sequence[Record], branch: str) -> Pick:
    """Every change on top of the branch and of those before it; a UserError that names all conflicts. No ref moves.

    An experiment is numbered when it begins, and what it builds on was there by then: the order of the numbers is the order
    of what depends on what.
    """
    ordered = sorted(chosen, key=lambda record: int(record.id))
    for record in ordered:
        if record.experiment.commit in (None, record.experiment.base):
            raise UserError(f"experiment {record.id} has no change that could be picked: `harness show {record.id}` says why")
    before = now = check_branch(ledger.repo, branch, ordered)
    made, there, trouble = dict[str, str](), list[str](), list[str]()
    for record in ordered:
        commit, base = record.experiment.commit or "", record.experiment.base
        found = on_top(ledger.repo, now, commit, base)
        if found.conflicts:
            trouble.append(f"{record.id} in {', '.join(found.conflicts)}{missing(ledger, record, ordered, before)}")
        elif found.tree == git.tree(ledger.repo, now):
            there.append(record.id)
        else:
            now = made[record.id] = git.commit(ledger.repo, found.tree, [now], message(ledger, record), author(record))
    if trouble:
        raise UserError(f"nothing was picked, these do not merge into {branch}: {'; '.join(trouble)}")
    return Pick(before, now, made, there)


def missing(ledger: Ledger, record: Record, chosen: Sequence[Record], branch: str) -> str:
    """What an experiment builds on and neither the branch has nor is picked, as the end of a sentence."""
    names = []
    for other in ledger.records():
        commit = other.experiment.commit
        if other in chosen or not commit or commit == other.experiment.base:
            continue
        if descends(ledger.repo, record.experiment.base, commit) and not descends(ledger.repo, branch, commit):
            names.append(other.id)
    return f" (it builds on {', '.join(names)}: pick those as well)" if names else ""


def message(ledger: Ledger, record: Record) -> str:
    """The experiment's own message, and where it comes from, as git says it."""
    commit = record.experiment.commit or ""
    text = str(ledger.repo[commit].peel(git.Commit).message).rstrip()
    return f"{text}\n(cherry picked from commit {commit})\n"


def carry_out(repo: git.Repo, branch: str, picked: Pick) -> None:
    """Move the branch, unless somebody moved it meanwhile."""
    if picked.made:
        refs.swap(repo, f"refs/heads/{branch}", picked.after, picked.before)
