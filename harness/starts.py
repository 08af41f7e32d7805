"""Where a night begins: HEAD as it is, or with its editable files replaced by another start that the task ships."""

from __future__ import annotations

from pathlib import Path

from harness import git
from harness.config import place
from harness.models import Task, UserError
from harness.patterns import editable


def begin(repo: git.Repo, task: Task, file: Path, name: str, head: str, tag: str) -> str:
    """The lab's first commit: `head`, or a commit on top of it in which the start's files stand in place of the editable ones.

    `file` is the task.yaml, for errors. No ref names the new commit yet.
    """
    known, blobs = git.files(repo, head), dict[str, str | None]()
    for target, source in replaced(task, file, name).items():
        where = place(file, task.profile, "starts", name, target)
        if not editable(task.editable, target):
            raise UserError(f"{where}: {target} is not an editable file of the task, so no start can replace it")
        if source not in known:
            raise UserError(f"{where}: {source} is not in commit {head[:10]}: commit it, or correct the name")
        blobs[target] = known[source]
    if not blobs:
        return head
    what = ", ".join(f"{target} is {source}" for target, source in task.starts[name].items())
    message = f"Start from {name}\n\nFor autoresearch/{tag}, on top of {head[:10]}: {what}.\n"
    return git.commit(repo, git.tree_with(repo, head, blobs), [head], message)


def check_same(repo: git.Repo, task: Task, file: Path, name: str, start: str, tag: str) -> None:
    """A UserError unless the lab whose first commit is `start` was begun with the start `name`."""
    files, wanted = git.files(repo, start), replaced(task, file, name)
    fitting = [
        other for other, each in task.starts.items() if each and all(files.get(a) == files.get(b) for a, b in each.items())
    ]
    if name not in fitting and (wanted or fitting):
        begun = f"with --start {fitting[0]}" if fitting else "with the files as they were"
        raise UserError(f"{tag!r} was begun {begun}: leave --start out to continue it, or choose another --tag")


def replaced(task: Task, file: Path, name: str) -> dict[str, str]:
    """What a start replaces, editable file -> the file that takes its place; a UserError when the task has no such start."""
    if name not in task.starts:
        known = f"it has: {', '.join(task.starts)}" if task.starts else "it has none, so leave --start out"
        raise UserError(f"{file} has no start {name!r}; {known}")
    return task.starts[name]
