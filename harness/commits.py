"""Facts about commits that others made: where they left a branch, what they changed, who wrote them and why."""

from __future__ import annotations

from harness import git
from harness.git import Commit, Repo


def fork(repo: Repo, one: str, other: str) -> str | None:
    """The last commit that two have in common, or None."""
    found = repo.merge_base(one, other)
    return str(found) if found else None


def changed(repo: Repo, old: str, new: str) -> list[str]:
    """The files and links that differ between two commits, modes included."""
    before, after = git.entries(repo, old), git.entries(repo, new)
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def descends(repo: Repo, commit: str, ancestor: str) -> bool:
    """Whether `ancestor` lies in the history of a commit, or is it."""
    return commit == ancestor or bool(repo.descendant_of(commit, ancestor))


def held_by(repo: Repo, tip: str, commit: str) -> str | None:
    """The commit on a branch's first-parent line by which it holds `commit`: a merge of it, itself, or a copy of its tree."""
    tree, base, now = git.tree(repo, commit), git.parents(repo, commit)[:1], tip
    while [now] != base:
        first, *others = git.parents(repo, now) or [""]
        if now == commit or commit in others or git.tree(repo, now) == tree:
            return now
        if not first:
            return None
        now = first
    return None


def author(repo: Repo, commit: str) -> str:
    """Who wrote a commit, as "Name <address>", fit to be written again."""
    found = _commit(repo, commit).author
    name, address = (" ".join(part.replace("<", "").replace(">", "").split()) for part in (found.name, found.email))
    return f"{name or 'somebody'} <{address or 'somebody@localhost'}>"


def message(repo: Repo, commit: str) -> tuple[str, str]:
    """Subject and body of a commit's message."""
    subject, _, body = _commit(repo, commit).message.strip().partition("\n")
    return subject, body.strip()


def _commit(repo: Repo, name: str) -> Commit:
    found = repo[name]
    assert isinstance(found, Commit)
    return found
