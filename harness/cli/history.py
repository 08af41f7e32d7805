"""Commands that read the history of a night, and the one that brings a branch of it back."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, get_args

import typer

from harness import git, prompt, refs, view
from harness.certificates import Certificates, number_of, openings
from harness.cli.ending import shelf, show_certificate
from harness.cli.options import ExperimentArgument, JsonOption, TagOption, current, emit, latest
from harness.ledger import Ledger
from harness.live import Live
from harness.models import Record, Status, UserError
from harness.reader import Reader
from harness.report.lineage import lineage
from harness.stacks import marks

OPEN = "open"  # an experiment without a verdict


def status(tag: TagOption = None, as_json: JsonOption = False) -> None:
    """What is running now."""
    repo = git.open_repo(Path.cwd())
    name = current(repo, tag)
    reader = Reader(repo, name)
    live, records = reader.look(), reader.ledger.records()
    if as_json:
        opened = len(openings(repo, records[0].task, records[0].profile))
        emit({**live.model_dump(mode="json"), "test_split_opened": opened})
        return
    typer.echo("\n".join(f"{name}: {line}" for line in (view.progress(live.told) if live.told else [at_rest(live)])))
    typer.echo(live.summary + shelf(repo, records))


def at_rest(live: Live) -> str:
    """What is known of a night that says nothing now."""
    if live.running:
        return "has just begun"
    reason = f" since {local(live.since)}: {live.reason}" if live.state == "ended" else ""
    return f"not running{reason}" if live.state != "killed" else f"not running: killed at {local(live.since)}"


def local(time: str) -> str:
    """A time of a status by the clock on the wall."""
    return f"{datetime.fromisoformat(time).astimezone():%Y-%m-%d %H:%M}"


def log(
    tag: TagOption = None,
    status: Annotated[
        list[str] | None, typer.Option("--status", help="Only these: keep, discard, crash, invalid, void, open.")
    ] = None,
    agent: Annotated[list[str] | None, typer.Option("--agent", help="Only those of these agents.")] = None,
    grep: Annotated[
        str | None, typer.Option("--grep", metavar="TEXT", help="Only those whose id, title or hypothesis has it.")
    ] = None,
    last: Annotated[int | None, typer.Option("--last", min=1, help="Only so many, the latest.")] = None,
    tsv: Annotated[bool, typer.Option("--tsv", help="results.tsv, in the columns of karpathy/autoresearch.")] = False,
    graph: Annotated[bool, typer.Option("--graph", help="As a tree: what was kept, and what was tried on it.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw it: progress.png, .svg or .pdf.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The history of a night, a line for each experiment."""
    repo = git.open_repo(Path.cwd())
    ledger = Ledger(repo, latest(repo, tag))
    records = ledger.records()
    shown = chosen(records, status or [], agent or [], grep or "")[-(last or 0) :]
    if plot:
        from harness.report.progress import plot as draw  # the drawing library takes longer to load than all of the harness

        draw(records, plot, list(reversed(lineage(ledger, records, refs.resolve(repo, ledger.lab)).merge)))
        typer.echo(f"{plot} shows: {view.summary(records)}")
    elif as_json:
        emit([record.model_dump(mode="json") for record in shown])
    elif graph:
        from harness.report.graph import graph as tree

        typer.echo(tree(records, shown, lineage(ledger, records, refs.resolve(repo, ledger.lab)).incumbent))
    elif tsv:
        typer.echo(view.tsv(shown, records[0].metric.name))
    else:
        typer.echo(view.table(shown, records) + shelf(repo, records))


def chosen(records: list[Record], statuses: list[str], agents: list[str], text: str) -> list[Record]:
    """The records that were asked for; an empty choice leaves out nothing."""
    if unknown := set(statuses) - {*get_args(Status), OPEN}:
        raise UserError(
            f"--status {sorted(unknown)[0]}: there is no such status; choose from {', '.join(get_args(Status))}, {OPEN}"
        )
    known = {record.experiment.agent for record in records}
    if absent := set(agents) - known:
        raise UserError(f"--agent {sorted(absent)[0]}: no experiment of this night is its; there are {', '.join(sorted(known))}")

    def wanted(record: Record) -> bool:
        status, proposal = record.verdict.status if record.verdict else OPEN, record.proposal
        words = f"{record.id} {prompt.title(record)} {proposal.hypothesis if proposal else ''}".casefold()
        by = (not statuses or status in statuses) and (not agents or record.experiment.agent in agents)
        return by and text.casefold() in words

    return list(filter(wanted, records))


def show(experiment: ExperimentArgument, tag: TagOption = None, as_json: JsonOption = False) -> None:
    """One experiment with its evidence: verdict, runs, curve, hypothesis; or a certificate, such as c1."""
    repo = git.open_repo(Path.cwd())
    ledger = Ledger(repo, latest(repo, tag))
    if number_of(experiment) is not None:
        show_certificate(Certificates(repo, ledger.tag).get(experiment), as_json)
        return
    record = ledger.get(experiment)
    if as_json:
        emit(record.model_dump(mode="json"))
    else:
        typer.echo(view.full(record, lambda name: ledger.text(record, name), ledger.records() if record.variant else ()))
        if record.status == "waiting" and (mark := marks(ledger, record)):
            typer.echo(f"\n{mark}: see `harness review {record.id}`")


def diff(experiment: ExperimentArgument, tag: TagOption = None) -> None:
    """What one experiment changed, as a patch against the code it started from."""
    repo = git.open_repo(Path.cwd())
    found = Ledger(repo, latest(repo, tag)).get(experiment).experiment
    if found.commit is None or found.commit == found.base:
        raise UserError(f"experiment {found.id} has no change: `harness show {found.id} --tag {found.tag}` says why")
    typer.echo(git.diff(repo, found.base, found.commit), nl=False)


def revive(experiment: ExperimentArgument, tag: TagOption = None) -> None:
    """Make the branch of a closed experiment again, to look at it, build on it or push it."""
    repo = git.open_repo(Path.cwd())
    ledger = Ledger(repo, latest(repo, tag))
    branch = ledger.revive(ledger.get(experiment))
    typer.echo(f"{branch}: `git log -p -1 {branch}` shows it, `git branch -D {branch}` removes it again")
