"""What a measurement needs: a task on this machine, ready to be run. A night is a bench with agents and a memory."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from harness import git
from harness.models import Against, Measurement, Request, Task
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

    def run(
        self, commit: str, seed: int, work: Path, cancel: Cancel, against: Against | None = None, items: Path | None = None
    ) -> Measurement | None:
        """One run of a commit, from an exported tree of its own in the empty folder `work`; None when it was cancelled.

        What the referee leaves of each item's value goes to `items`.

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
            against=against or Against(),
            hidden=list(self.hidden),
            readable=list(self.readable),
        )
        reached(Step.RUN_STARTED)
        measured = self.runner.measure(request, cancel)
        reached(Step.RUN_ENDED)
        if items and measured and measured.status == "ok" and request.items.is_file():
            request.items.chmod(0o600)
            request.items.replace(items)
        if measured is None or measured.status != "void":
            shutil.rmtree(work, ignore_errors=True)
        return measured
