"""Commands for people at the edges of a night: an idea for its agents, and a commit of one's own."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from harness import commits, git, locks, submitting
from harness.cli.nights import at_work, remembered
from harness.cli.options import JsonOption, NewTagOption, TagOption, emit, known_tags, latest
from harness.ledger import Ledger
from harness.models import Record, UserError, Wish
from harness.opening import check_tag, load_task
from harness.research import carry
from harness.wishes import MOST_CHARS, Wishes, takers, title, waiting

TextArgument = Annotated[
    str | None, typer.Argument(metavar="TEXT", help="What should be tried, in your words.", show_default=False)
]
BranchArgument = Annotated[
    str | None, typer.Argument(metavar="BRANCH|COMMIT", help="Its change since it left the lab branch.", show_default=False)
]
ListOption = Annotated[bool, typer.Option("--list", help="List all, and what became of them.")]
DropOption = Annotated[int | None, typer.Option("--drop", metavar="N", min=1, help="Withdraw one that was not taken yet.")]


def idea(
    text: TextArgument = None,
    tag: NewTagOption = None,
    listing: ListOption = False,
    drop: DropOption = None,
    as_json: JsonOption = False,
) -> None:
    """Leave an idea for the agents of a night, before it begins or while it runs: the next prompt offers it, with your name."""
    repo = git.open_repo(Path.cwd())
    name = check_tag(tag) if tag else latest(repo, None) if known_tags(repo) else datetime.now().strftime("%b%d").lower()
    wishes, records = Wishes(repo, name, "idea"), Ledger(repo, name).records()
    if text is not None:
        if not 0 < len(text.strip()) <= MOST_CHARS:
            how = "say it shorter" if text.strip() else 'write it in quotes, as in `harness idea "try ..."`'
            raise UserError(f"an idea has 1 to {MOST_CHARS:,} characters, this one has {len(text.strip()):,}: {how}")
        wish = wishes.add(git.person(repo), text.strip())
        when = "the next agent is asked to try it" if locks.held(repo, name) else f"it waits for `harness run --tag {name}`"
        typer.echo(f"idea {wish.number} of {name}: {when}; `harness idea --drop {wish.number} --tag {name}` withdraws it")
    elif drop is not None:
        typer.echo(f"dropped idea {drop} of {name}: {title(wishes.drop(drop, records))}")
    else:
        listed(wishes.all(), records, as_json, f"no ideas wait for {name}: leave one with `harness idea 'try ...' --tag {name}`")


def submit(
    branch: BranchArgument = None,
    tag: TagOption = None,
    listing: ListOption = False,
    drop: DropOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have a commit of yours measured and judged like any other: by the night that runs, before its next proposal, or now."""
    repo = git.open_repo(Path.cwd())
    name = latest(repo, tag)
    ledger, wishes = Ledger(repo, name), Wishes(repo, name, "submission")
    if branch is None:
        if drop is not None:
            typer.echo(f"dropped submission {drop} of {name}: {title(wishes.drop(drop, ledger.records()))}")
        else:
            listed(wishes.all(), ledger.records(), as_json, f"nothing was submitted to {name}")
        return
    wish = leave(repo, ledger, wishes, branch)
    if locks.held(repo, name):
        typer.echo(f"submission {wish.number} of {name}: the night that runs takes it up before its next proposal")
        return
    with at_work(repo, remembered(repo, name).model_copy(update={"agents": []})) as (night, _):
        while not night.interrupt.soon and (record := submitting.begin(night)):
            night.conduct(carry(night, record))
        for record in takers(wish, night.ledger.records()):
            typer.echo(_became(record))


def leave(repo: git.Repo, ledger: Ledger, wishes: Wishes, branch: str) -> Wish:
    """Put a commit into the queue; a UserError says why it could not be an experiment now."""
    commit, records = git.commit_of(repo, branch), ledger.records()
    task, start = load_task(remembered(repo, ledger.tag)), records[0].experiment.base
    found = submitting.change(repo, task, start, ledger.tip(), commit)
    if isinstance(found, str):
        raise UserError(f"{branch} cannot be submitted to autoresearch/{ledger.tag}: {found}")
    if again := [wish for wish in waiting(wishes, records) if wish.commit == commit]:
        raise UserError(f"{branch} waits already, as submission {again[0].number}: `harness submit --list --tag {ledger.tag}`")
    if twin := next((each.id for each in records if each.experiment.tree == git.tree_with(repo, ledger.tip(), found)), None):
        raise UserError(f"the code of {branch} was tried already, as experiment {twin}: `harness replicate {twin}` runs it again")
    return wishes.add(commits.author(repo, commit), commits.message(repo, commit)[0], commit)


def listed(wishes: list[Wish], records: list[Record], as_json: bool, nothing: str) -> None:
    """All wishes, each with what became of it."""
    found = [(wish, takers(wish, records)) for wish in wishes]
    if as_json:
        emit([{**wish.model_dump(), "experiments": [record.id for record in taken]} for wish, taken in found])
        return
    lines = []
    for wish, taken in found:
        state = "dropped" if wish.dropped else _became(taken[-1]) if taken else "waits"
        lines.append(f"{wish.number:<4}{title(wish)}\n    {' '.join(wish.by.split())}, {wish.asked}: {state}")
    typer.echo("\n".join(lines) or nothing)


def _became(record: Record) -> str:
    verdict = record.verdict
    return f"experiment {record.id}, " + (f"{verdict.status}: {' '.join(verdict.reason.split())}" if verdict else "under way")
