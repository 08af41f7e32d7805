"""What a measurement needs: a task on this machine, ready to be run. A night is a bench with agents and a memory."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness import __version__, candidate, git, limits, sandboxes, trees
from harness.artefacts import take
from harness.models import Against, Guard, Measurement, Place, Request, Split, Task
from harness.process import inner_env, python, run
from harness.protocols import Box, Cancel, Exit, Runner
from harness.state import Left, StateFolder
from harness.steps import Step, reached
from harness.workspace import link_inputs


@dataclass(kw_only=True)
class Bench:
    """`readable` is what sandboxes have to show of the world outside git, `hidden` what none may show.

    `caches` is the master of what runs compile, None where the task has none.
    `start` is the lab's first commit, whose files are the trusted ones; `trusted` says what measures, as trusted.digest does.
    """

    repo: git.Repo
    task: Task
    start: str
    trusted: str
    state: StateFolder
    runner: Runner
    sandbox: str
    readable: tuple[Path, ...]
    hidden: tuple[Path, ...]
    caches: Path | None = None

    def run(
        self,
        commit: str,
        seed: int,
        work: Path,
        cancel: Cancel,
        against: Against | None = None,
        left: Left | None = None,
        split: Split = "validation",
        cold: bool = False,
    ) -> Measurement | None:
        """One run of a commit, from a tree of its own in the empty folder `work`; None when it was cancelled."""
        request = self.request(commit, seed, work, against, split, cold=cold)
        return self.taken(request, self.runner.measure(request, cancel), left)

    def request(
        self,
        commit: str,
        seed: int,
        work: Path,
        against: Against | None = None,
        split: Split = "validation",
        place: Place | None = None,
        cold: bool = False,
    ) -> Request:
        """What a runner is asked: to measure a commit, whose files are now in the empty folder `work`.

        A `cold` run finds nothing in its caches.
        """
        self.export(commit, work / "tree")
        reached(Step.EXPORTED)
        request = Request(
            task=self.task,
            tree=work / "tree",
            work=work,
            commit=commit,
            seed=seed,
            sandbox=self.sandbox,
            split=split,
            against=against or Against(),
            place=place or Place(),
            hidden=list(self.hidden),
            readable=list(self.readable),
            caches=None if cold else self.caches,
        )
        reached(Step.RUN_STARTED)
        return request

    def taken(self, request: Request, measured: Measurement | None, left: Left | None = None) -> Measurement | None:
        """What a runner answered, with what it is known by; what the run left beside it goes to `left`.

        The folder is kept when the measurement is void, for whoever looks for the cause; `harness gc` removes it.
        """
        reached(Step.RUN_ENDED)
        if left and measured and measured.status == "ok":
            measured = move(request, left, measured)
        if measured is None or measured.status != "void":
            trees.remove(request.work)
        known = {"trusted": self.trusted, "harness": __version__, "commit": request.commit}
        return measured and measured.model_copy(update=known)

    def examine(self, commit: str, work: Path, cancel: Cancel) -> Measurement | None:
        """The task's `check` of a commit in the empty folder `work`: `ok`, or `crash` with the reason; None when cancelled."""
        self.export(commit, work / "tree")
        return self.checked(work, cancel)

    def checked(self, work: Path, cancel: Cancel, guard: Guard | None = None, cpus: Sequence[int] = ()) -> Measurement | None:
        """The task's `check`, or a guard, of the files in work/tree, on some cores or on all."""
        command, limit_s = (guard.run, guard.limit_s) if guard else (self.task.check, self.task.budget.check_s)
        env = inner_env(self.task.python)
        if self.task.python:
            del env["PYTHONPATH"]  # the harness and what it needs are nothing to another interpreter
        box = Box(
            cwd=work / "tree",
            readable=(work / "tree", *self.readable),
            hidden=self.hidden,
            env=env,
            limits=limits.settle(self.task.limits, "check"),
            role="check",
        )
        with sandboxes.SANDBOXES[self.sandbox]().wrap(python(command, self.task.python), box) as launch:
            ended = run(replace(launch, argv=(*pinned(cpus), *launch.argv)), work / "check.log", limit_s, cancel)
        trees.remove(work)
        if ended.cancelled:
            return None
        reason = _failure(ended, f"guard {guard.name}" if guard else "check")
        return Measurement(
            status="crash" if reason else "ok",
            reason=reason,
            profile=self.task.profile,
            sandbox=self.sandbox,
            limits=ended.limits,
            seconds={"check": ended.seconds},
            cpu_s=ended.cpu_s,
            peak_memory_mb=ended.peak_memory_mb,
            log_tail=ended.tail[-4096:],
            harness=__version__,
            trusted=self.trusted,
        )

    def export(self, commit: str, tree: Path) -> None:
        """What is run of a commit, with the task's inputs in their places."""
        candidate.export(self.repo, self.task, self.start, commit, tree)
        link_inputs(tree, self.task.inputs, git.root(self.repo))


def pinned(cpus: Sequence[int]) -> tuple[str, ...]:
    """What a command begins with that is to stay on some cores; nothing for all of them, and where the machine cannot."""
    taskset = shutil.which("taskset")
    return (taskset, "--cpu-list", ",".join(map(str, cpus))) if cpus and taskset else ()


def move(request: Request, left: Left, measured: Measurement) -> Measurement:
    """Take what a run that counts left out of its folder; the measurement with the hashes of what it made."""
    if request.items.is_file():
        request.items.chmod(0o600)
        request.items.replace(left.items)
    if left.caches and request.left_caches.is_dir():
        trees.remove(left.caches)
        left.caches.parent.mkdir(parents=True, exist_ok=True)
        request.left_caches.rename(left.caches)
    if not request.artefacts.is_dir():
        return measured
    return measured.model_copy(update={"artefacts": take(request.artefacts, left.artefacts)})


def _failure(ended: Exit, what: str) -> str:
    """What the end of a check says against the candidate; empty when it passed."""
    if ended.exceeded:
        return f"the {what} {ended.exceeded}"
    if ended.timed_out:
        return f"the {what} took longer than {ended.seconds:.0f} s"
    last = next((line.strip() for line in reversed(ended.tail.splitlines()) if line.strip()), f"exit code {ended.code}")
    return f"the {what} failed: {last[:400]}" if ended.code else ""
