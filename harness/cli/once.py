"""Commands that run something once, beside any night: check, measure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness import git, once, view
from harness.cli.nights import asked
from harness.cli.options import JsonOption, ProfileOption, SandboxOption, emit
from harness.cli.screen import Screen, interruptible
from harness.models import Measurement
from harness.state import MEASURE

WhatArgument = Annotated[
    str | None, typer.Argument(metavar="FILE|COMMIT", help="By default the editable files as they are.", show_default=False)
]
TaskOption = Annotated[str | None, typer.Option("--task", help="A task.yaml or its folder.")]


def check(
    what: WhatArgument = None,
    task: TaskOption = None,
    profile: ProfileOption = None,
    sandbox: SandboxOption = None,
    as_json: JsonOption = False,
) -> None:
    """The task's quick test of a file, of a commit, or of your work tree, and the limits of size: what precedes a run."""
    screen = Screen()
    with interruptible(screen) as interrupt:
        found = ready(what, task, profile, sandbox, screen)
        checked = done(found.check(lambda: interrupt.soon))
    if as_json:
        emit(checked.model_dump(mode="json"))
    elif checked.status == "ok":
        seconds = f"in {checked.seconds['check']:.1f} s" if checked.seconds else "(the task has no check of its own)"
        typer.echo(f"passed {seconds}")
    else:
        typer.echo(f"{checked.status}: {checked.reason}\n{checked.log_tail.rstrip()[-2000:]}")
    if checked.status != "ok":
        raise typer.Exit(1)


def measure(
    what: WhatArgument = None,
    task: TaskOption = None,
    profile: ProfileOption = None,
    sandbox: SandboxOption = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The seed of the run.")] = 1,
    no_check: Annotated[bool, typer.Option("--no-check", help="Leave the task's check out.")] = False,
    as_json: JsonOption = False,
) -> None:
    """One measured run without an agent, of a file, of a commit, or of the editable files in your work tree.

    The rest of the tree, the referee included, is that of the last commit. Nothing is recorded.
    """
    screen = Screen()
    with interruptible(screen) as interrupt:
        found = ready(what, task, profile, sandbox, screen)
        measured = Measurement(status="ok") if no_check else done(found.check(lambda: interrupt.soon))
        if measured.status == "ok":
            measured = done(found.measure(seed, lambda: interrupt.soon))
    if as_json:
        emit(measured.model_dump(mode="json"))
    else:
        typer.echo(view.measured(measured, found.bench.task.metric))
    if measured.status != "ok":
        raise typer.Exit(1)


def ready(what: str | None, task: str | None, profile: str | None, sandbox: str | None, screen: Screen) -> once.Once:
    """What was asked for, ready to be run; says what of it will not be."""
    repo = git.open_repo(Path.cwd())
    found = once.prepare(repo, asked(repo, task, MEASURE, profile, sandbox), what)
    if found.strays:
        more = f" and {len(found.strays) - 1} more" if len(found.strays) > 1 else ""
        screen.say(f"warning: {what} differs in {found.strays[0]}{more}, which no experiment may change: those are HEAD's here")
    return found


def done(measured: Measurement | None) -> Measurement:
    """A measurement that was not interrupted."""
    if measured is None:
        raise typer.Exit(130)
    return measured
