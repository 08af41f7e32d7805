"""The command that takes experiments onto a branch of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness import git, once, picking, prompt, view
from harness.cli.nights import remembered
from harness.cli.once import done
from harness.cli.options import TagOption, latest
from harness.cli.screen import Screen, interruptible
from harness.ledger import Ledger
from harness.models import UserError
from harness.state import MEASURE


def pick(
    experiments: Annotated[list[str], typer.Argument(metavar="ID...", help="Experiments, kept or not, in any order.")],
    onto: Annotated[str, typer.Option("--onto", metavar="BRANCH", help="A branch of yours that is not checked out.")],
    tag: TagOption = None,
    measure: Annotated[bool, typer.Option("--measure", help="Run the combination first; one that fails is not picked.")] = False,
) -> None:
    """Cherry-pick experiments onto a branch, all or none: conflicts are told before anything is touched."""
    repo = git.open_repo(Path.cwd())
    ledger = Ledger(repo, latest(repo, tag))
    chosen = {record.id: record for record in map(ledger.get, experiments)}
    picked = picking.plan(ledger, list(chosen.values()), onto)
    if measure:
        run(repo, ledger.tag, picked.after)
    picking.carry_out(repo, onto, picked)
    for name, commit in picked.made.items():
        typer.echo(f"{name} {commit[:10]} {prompt.title(chosen[name])}")
    for name in picked.there:
        typer.echo(f"{name} is in {onto} already")


def run(repo: git.Repo, tag: str, commit: str) -> None:
    """One measured run of a combination, under the night's own task and profile."""
    screen = Screen()
    settings = remembered(repo, tag).model_copy(update={"agents": [], "tag": MEASURE})
    with interruptible(screen) as interrupt:
        found = once.prepare(repo, settings, commit)
        checked = done(found.check(lambda: interrupt.soon))
        measured = done(found.measure(1, lambda: interrupt.soon)) if checked.status == "ok" else checked
    typer.echo(view.measured(measured, found.bench.task.metric))
    if measured.status != "ok":
        raise UserError("the combination does not run, so nothing was picked")
