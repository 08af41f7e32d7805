"""The command that makes the report."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from harness import git, view
from harness.cli.options import TagOption, latest
from harness.folders import replace
from harness.ledger import Ledger
from harness.models import UserError

OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Where to write it; report-TAG.html when left out.", show_default=False),
]
OpenOption = Annotated[bool, typer.Option("--open", help="Show it in your browser.")]


def report(tag: TagOption = None, out: OutOption = None, show: OpenOption = False) -> None:
    """The night as one HTML file: progress, every experiment with its evidence, time, cost, agents; needs no network."""
    from harness.report.page import page  # templates and languages take longer to load than most commands take

    repo = git.open_repo(Path.cwd())
    ledger = Ledger(repo, latest(repo, tag))
    path = out or Path(f"report-{ledger.tag}.html")
    html = page(ledger)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UserError(f"{path} cannot be written: name a file in a folder that exists, as in --out report.html")
    replace(path, html)
    typer.echo(f"{path} ({len(html.encode()) / 1e6:.1f} MB) shows: {view.summary(ledger.records())}")
    if show and not webbrowser.open(path.absolute().as_uri()):
        raise UserError(f"no browser was found on this machine: open {path.absolute()} by hand, or send it to another one")
