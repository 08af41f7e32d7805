"""The command that brings an upstream history along, and what measures a piece of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness import git, imports, prompt
from harness.cli.nights import at_work, remembered
from harness.cli.options import JsonOption, TagOption, emit, latest
from harness.ledger import now
from harness.models import Proposal, Record, UserError
from harness.ontop import on_top
from harness.research import advance
from harness.review import opened


def bring(
    results: Annotated[Path | None, typer.Option("--results", metavar="FILE", help="Upstream's results.tsv.")] = None,
    branch: Annotated[str | None, typer.Option("--branch", help="The branch that it tells of, as autoresearch/mar5.")] = None,
    tag: TagOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring a history of upstream's along for a night: agents read it, as unverified. Without options, list what there is."""
    repo = git.open_repo(Path.cwd())
    night = latest(repo, tag)
    if (results is None) != (branch is None):
        raise UserError("give both, as in `harness import --results results.tsv --branch autoresearch/mar5`")
    if results and branch:
        tip = git.commit_of(repo, branch)
        metric, rows = imports.read_table(repo, results)
        name = branch.rpartition("/")[2]
        if not git.valid_name(f"{imports.ALL}{night}/{name}"):
            raise UserError(f"{branch} cannot be named here: give a branch, not an expression")
        history = imports.History(name=name, metric=metric, source=branch, at=now(), by=git.person(repo), rows=rows)
        imports.bring(repo, night, history, tip, results.read_bytes())
    found = imports.histories(repo, night)
    if as_json:
        emit([history.model_dump(mode="json") for history in found])
        return
    for history in found:
        there = sum(row.commit is not None for row in history.rows)
        typer.echo(
            f"{history.name}: {len(history.rows)} experiments of {history.source}, unverified; {there} of their commits are here"
        )
    best = [f"{history.name}/{row.number}" for history in found for row in history.rows if row.status == "keep" and row.commit]
    typer.echo(f"`harness replicate {best[-1]} --tag {night}` measures one" if best else "nothing to measure was brought along")


def measure_imported(repo: git.Repo, tag: str, name: str) -> Record:
    """An imported change as an experiment like any other: on the night's tip, measured, judged, and merged if it is better."""
    history, row = imports.find(repo, tag, name)
    assert row.commit is not None
    parents = git.parents(repo, row.commit)
    with at_work(repo, remembered(repo, tag).model_copy(update={"agents": []})) as (night, _):
        tip = git.commit_of(repo, night.ledger.lab)
        made = on_top(repo, tip, row.commit, parents[0]) if len(parents) == 1 else None
        if made is None or made.conflicts or not made.changed:
            why = (
                "is a merge or a first commit"
                if made is None
                else "does not merge into it"
                if made.conflicts
                else "changes nothing"
            )
            raise UserError(f"{name} cannot be tried on autoresearch/{tag}, it {why}: port it by hand, see docs/migrate.md")
        story = f"Imported from {history.source}, where it was reported as {row.status}. Unverified there, measured here."
        proposal = Proposal(title=row.title[:100] or name, hypothesis=story, files=made.changed)
        record = opened(night, proposal, "imported", tip, made.tree, night.program()[1])
        night.conduct(advance(night, record))
        return night.ledger.get(record.id)


def outcome(record: Record) -> str:
    """What became of it, on a line."""
    why = f"{record.verdict.status}: {record.verdict.reason}" if record.verdict else "not finished; `harness resume` goes on"
    return f"{record.id} {prompt.title(record)}: {why}"
