"""What a night ends with, and the command that says it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from harness import git
from harness.certificates import Certificate, Certificates, openings
from harness.cli.options import JsonOption, TagOption, emit, latest
from harness.ledger import Ledger
from harness.models import Record, UserError
from harness.report import sealed
from harness.summary import summarise
from harness.summary import text as page


def summary(tag: TagOption = None, as_json: JsonOption = False) -> None:
    """How far a night came, what nearly helped, what it cost and what to do next; a night ends with it."""
    repo = git.open_repo(Path.cwd())
    tell(Ledger(repo, latest(repo, tag)), as_json)


def tell(ledger: Ledger, as_json: bool = False) -> None:
    """Print a night's summary."""
    records = ledger.records()
    found = summarise(records, tip(ledger, records))
    if as_json:
        emit(found.model_dump())
    else:
        typer.echo(page(found, records) + shelf(ledger.repo, records))


def tip(ledger: Ledger, records: list[Record]) -> Record:
    """The incumbent's record; the last kept one of a night whose branch is not here, as after a fetch of its records."""
    try:
        return ledger.incumbent()
    except UserError:
        return max((each for each in records if each.merged or each is records[0]), key=lambda record: record.merge or 0)


def shelf(repo: git.Repo, records: list[Record]) -> str:
    """A line to add: which certificates a night has and how often the test split was opened; empty when there is nothing."""
    first = records[0]
    mine = Certificates(repo, first.experiment.tag).all()
    line = sealed.certificates(mine, openings(repo, first.task, first.profile))
    return f"\n{line}" if line else ""


def show_certificate(certificate: Certificate, as_json: bool) -> None:
    """A certificate, as text or with everything that it holds."""
    if as_json:
        content: dict[str, Any] = certificate.model_dump(mode="json")
        emit({**content, "id": certificate.id, "sentence": sealed.sentence(certificate)})
    else:
        typer.echo(sealed.certificate(certificate))
