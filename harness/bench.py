"""What a measurement needs: a task on this machine, ready to be run. A night is a bench with agents and a memory."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from harness import git
from harness.models import Measurement, Request, Split, Task
from harness.protocols import Cancel, Runner
from harness.state import StateFolder
from harness.steps import Step, reached
from harness.workspace import link_inputs


@dataclass(kw_only=True)
class Bench:
    """`readable` is what sandboxes have to show of the world outside git, `hidden` what none may show."""

    repo: git.Repo
    task: Task
    state: StateFolder
    runner: Runner
    sandbox: str
    readable: tuple[Path, ...]
    hidden: tuple[Path, ...]

    def run(self, commit: str, seed: int, work: Path, cancel: Cancel, split: Split = "validation") -> Measurement | None:
        """One run of a commit, from an exported tree of its own in the empty folder `work`; None when it was cancelled.

        The folder is kept when the measurement is void, for whoever looks for the cause; `harness gc` removes it.
        """
        git.export(self.repo, commit, work / "tree")
        link_inputs(work / "tree", self.task.inputs, git.root(self.repo))
        reached(Step.EXPORTED)
        request = Request(
            task=self.task,
            tree=work / "tree",
            work=work,
            commit=commit,
            seed=seed,
            sandbox=self.sandbox,
            split=split,
            hidden=list(self.hidden),
            readable=list(self.readable),
        )
        reached(Step.RUN_STARTED)
        measured = self.runner.measure(request, cancel)
        reached(Step.RUN_ENDED)
        if measured is None or measured.status != "void":
            shutil.rmtree(work, ignore_errors=True)
        return measured
