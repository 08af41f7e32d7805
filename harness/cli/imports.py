"""The command that brings an upstream history along, and what measures a piece of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness import candidate, git, imports, prompt
from harness.beginning import draft, with_change
from harness.cli.nights import at_work, remembered
from harness.cli.options import JsonOption, TagOption, emit, latest
from harness.ledger import now
from harness.models import Proposal, Record, UserError
from harness.night import Night
from harness.research import advance
from harness.threeway import Combined, on_top


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
        tip = night.head()
        made = on_top(repo, tip, row.commit, parents[0]) if len(parents) == 1 else Combined()
        if why := "is a merge or a first commit" if len(parents) != 1 else untriable(night, made):
            raise UserError(f"{name} cannot be tried on autoresearch/{tag}, it {why}: port it by hand, see docs/migrate.md")
        story = f"Imported from {history.source}, where it was reported as {row.status}. Unverified there, measured here."
        proposal = Proposal(title=row.title[:100] or name, hypothesis=story)
        record, text = draft(night, "imported")
        record = record.model_copy(update={"proposal": proposal})
        record = with_change(night, record, made.changed, {"program.md": text})
        night.conduct(advance(night, record))
        return night.ledger.get(record.id)


def untriable(night: Night, made: Combined) -> str:
    """Why an imported change, on top of the tip, cannot be an experiment; empty when it can."""
    if made.conflicts:
        return "does not merge into it"
    commit = git.commit(night.repo, made.tree, [night.head()], "A change to look at\n")
    return "changes nothing" if not made.changed else candidate.problem(night.repo, night.task, night.start, commit) or ""


def outcome(record: Record) -> str:
    """What became of it, on a line."""
    why = f"{record.verdict.status}: {record.verdict.reason}" if record.verdict else "not finished; `harness resume` goes on"
    return f"{record.id} {prompt.title(record)}: {why}"
