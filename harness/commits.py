"""What people committed, as far as an experiment can take it over: the change since it left the lab branch, carried to a tip."""

from __future__ import annotations

from harness import git, threeway
from harness.git import Commit, Repo


def fork(repo: Repo, one: str, other: str) -> str | None:
    """The last commit that two have in common, or None."""
    found = repo.merge_base(one, other)
    return str(found) if found else None


def changed(repo: Repo, old: str, new: str) -> list[str]:
    """The files and links that differ between two commits, modes included."""
    before, after = git.entries(repo, old), git.entries(repo, new)
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def carried(repo: Repo, ancestor: str, tip: str, commit: str) -> dict[str, str | None] | None:
    """What `commit` changed since `ancestor`, done to `tip`: path -> blob (None: deleted), or None where the texts conflict."""
    if (tree := threeway.merge(repo, ancestor, tip, commit)) is None:
        return None
    joined = git.commit(repo, tree, [tip], "Carried to the tip\n")
    after = git.files(repo, joined)
    return {name: after.get(name) for name in changed(repo, tip, joined)}


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
