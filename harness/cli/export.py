"""The command that takes what an experiment made out of the harness."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness import git
from harness.cli.nights import asked, remembered
from harness.cli.options import TagOption, latest
from harness.cli.screen import Screen, interruptible
from harness.export import export as make
from harness.ledger import Ledger
from harness.state import StateFolder


def export(
    experiment: Annotated[
        str | None, typer.Argument(metavar="ID", help="The incumbent when left out.", show_default=False)
    ] = None,
    tag: TagOption = None,
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="A new folder; TAG-ID when left out.")] = None,
    sample: Annotated[
        str | None, typer.Option("--sample", metavar="TEXT", help="Also let the model go on with this text.")
    ] = None,
) -> None:
    """What a kept experiment made, with its code, in a folder of its own, such as a model that is ready to be loaded."""
    repo = git.open_repo(Path.cwd())
    name = latest(repo, tag)
    ledger = Ledger(repo, name)
    record = ledger.get(experiment) if experiment else ledger.incumbent()
    target = (to or Path(f"{name}-{record.id}")).absolute()
    known = StateFolder(repo).settings(name).exists()  # `harness baseline` leaves none
    settings = remembered(repo, name) if known else asked(repo, None, name, record.profile, record.sandbox)
    with interruptible(Screen()) as interrupt:
        said = make(repo, settings, record, target, sample, lambda: interrupt.soon)
    if said is None:
        raise typer.Exit(130)
    typer.echo(said.rstrip() + ("\n" if said.strip() else "") + f"{name}/{record.id} is in {target}")
