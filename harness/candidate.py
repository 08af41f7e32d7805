"""What is run of a commit: the trusted files of the lab's first commit, with the commit's editable ones in their place."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from harness import git, static
from harness.models import Task
from harness.patterns import editable


def problem(repo: git.Repo, task: Task, start: str, commit: str) -> str | None:
    """Why the editable files of a commit cannot be measured beside the trusted ones of `start`, or None.

    Files that are as in `start` were the user's own and are taken as they are.
    """
    before, after = git.entries(repo, start), git.entries(repo, commit)
    frozen = {name for name in before if not editable(task.editable, name)}
    between = {str(folder) for name in frozen for folder in PurePosixPath(name).parents}
    own = {name: entry for name, entry in after.items() if editable(task.editable, name) and entry != before.get(name)}
    if gone := [name for name in task.editable if name in before and name not in after]:
        return f"{gone[0]} is gone"
    for name, (blob, mode) in own.items():
        if mode == git.LINK:
            return f"{name} is a link"
        if name in between or not frozen.isdisjoint(map(str, PurePosixPath(name).parents)):
            return f"{name} takes the place of another file"
        if found := static.problem(name, git.read(repo, blob), task.limits):
            return found
    return None


def strays(repo: git.Repo, task: Task, start: str, commit: str) -> list[str]:
    """The files that a commit changed, added or deleted against `start` and that no experiment may change."""
    before, after = git.entries(repo, start), git.entries(repo, commit)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return sorted(name for name in changed if not editable(task.editable, name))


def export(repo: git.Repo, task: Task, start: str, commit: str, folder: Path) -> None:
    """Write what is run of a commit that has no `problem` into an empty folder."""
    git.export(repo, start, folder, lambda name: not editable(task.editable, name))
    git.export(repo, commit, folder, lambda name: editable(task.editable, name))
