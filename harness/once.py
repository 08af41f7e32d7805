"""One check or one run of a file, a commit or the work tree, beside any night. Nothing is recorded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness import candidate, git, sandboxes
from harness.bench import Bench
from harness.harvest import Unusable, read_file
from harness.models import Measurement, Task, UserError
from harness.opening import Settings, load_task, open_bench, secret
from harness.patterns import editable_files
from harness.protocols import Cancel
from harness.state import MEASURE, StateFolder


@dataclass(frozen=True)
class Once:
    """A commit that may be run; `strays` are files that it changes and that are run as HEAD has them."""

    bench: Bench
    commit: str
    strays: list[str]

    def check(self, cancel: Cancel) -> Measurement | None:
        """The task's check, passed when the task has none; None when it was cancelled."""
        if not self.bench.task.check:
            return Measurement(status="ok")
        return self.bench.examine(self.commit, self._work(), cancel)

    def measure(self, seed: int, cancel: Cancel) -> Measurement | None:
        """One run; None when it was cancelled."""
        return self.bench.run(self.commit, seed, self._work(), cancel)

    def _work(self) -> Path:
        return self.bench.state.run(MEASURE, str(os.getpid()))


def prepare(repo: git.Repo, settings: Settings, what: str | None) -> Once:
    """Everything that has to be true before a run; a UserError says what is not, the static limits included."""
    task, state = load_task(settings), StateFolder(repo)
    start = git.head(repo)
    bench = open_bench(repo, task, state, settings, sandboxes.get(settings.sandbox, secret(repo)), start)
    try:
        commit = snapshot(repo, task, what)
        if refused := candidate.problem(repo, task, start, commit):
            raise Unusable(refused)
    except Unusable as refused:
        raise UserError(f"{refused}, so it cannot be measured: repair it, or name a commit") from None
    return Once(bench, commit, candidate.strays(repo, task, start, commit))


def snapshot(repo: git.Repo, task: Task, what: str | None) -> str:
    """A commit of what is to be measured: a file in place of the editable one, a commit itself, or the work tree's files.

    Files of a glob that were deleted are; new ones count when git knows them.
    """
    top, names = git.root(repo), editable_files(task.editable, list(git.files(repo, git.head(repo))))
    most = task.limits.editable_kb << 10
    if what is None:
        gone = [name for name in names if name not in task.editable and not (top / name).exists()]
        taken = {name: None if name in gone else read_file(top, name, most) for name in names}
    elif (path := Path(what)).is_file():
        inside = str(path.resolve().relative_to(top)) if path.resolve().is_relative_to(top) else ""
        if inside not in names and len(names) != 1:
            raise UserError(f"{what} could stand for any of {', '.join(names)}: give the path of one of them, or a commit")
        taken = {inside if inside in names else names[0]: read_file(path.parent.resolve(), path.name, most)}
    else:
        return git.commit_of(repo, what)
    blobs = {name: None if data is None else git.write(repo, data) for name, data in taken.items()}
    tree = git.tree_with(repo, git.head(repo), blobs)
    return git.commit(repo, tree, [git.head(repo)], "harness measure\n")
