"""Commands for what waits for a person: review, accept, reject."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from harness import forges, git, locks, prompt, syncing, view
from harness import review as reviewing
from harness.cli.nights import at_work, remembered
from harness.cli.options import ExperimentArgument, JsonOption, TagOption, emit, latest
from harness.decisions import Pending, decide, pending
from harness.ledger import Ledger, now
from harness.models import Decision, Record, UserError
from harness.research import advance
from harness.stacks import Stacks, marks, names

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it ends in the record, and agents read it.")]
RemoteOption = Annotated[
    str | None, typer.Option("--remote", help="A remote of this repository; the only one, or origin.", show_default=False)
]
Kind = Literal["accept", "reject", "comment"]
KEYS: dict[str, Kind] = {"a": "accept", "r": "reject", "c": "comment"}
ASK = "[a]ccept{with_it}  [r]eject  [c]omment  [s]kip  [q]uit "


def review(
    experiment: Annotated[str | None, typer.Argument(metavar="[ID]", help="Only this one.", show_default=False)] = None,
    tag: TagOption = None,
    push: Annotated[bool, typer.Option("--push", help="Push what waits, as pull requests where the remote has them.")] = False,
    remote: RemoteOption = None,
    as_json: JsonOption = False,
) -> None:
    """Walk through the experiments that wait: evidence and diff, then a key. Without a terminal, list them."""
    repo = git.open_repo(Path.cwd())
    ledger = Ledger(repo, latest(repo, tag))
    if push:
        syncing.publish(link(ledger, remote))
        return
    found = reviewing.waiting(ledger)
    if experiment is not None:
        chosen = ledger.get(experiment)
        if chosen.status != "waiting":
            reviewing.check(ledger, chosen, "comment")
        found = [chosen]
    said = pending(repo, ledger.tag)
    if as_json:
        emit([{**record.model_dump(mode="json"), "stack": stack(ledger, record)} for record in found])
    elif sys.stdin.isatty() and sys.stdout.isatty():
        walk(repo, ledger.tag, [record.id for record in found if record.id not in said])
        finish(repo, ledger.tag)
    elif experiment is not None:
        typer.echo(shown(ledger, found[0]))
    else:
        typer.echo(listing(ledger, found, set(said)))


def walk(repo: git.Repo, tag: str, found: list[str]) -> None:
    """One after the other, until all are seen or the person has enough."""
    if not found:
        typer.echo("nothing waits for review")
    for number, name in enumerate(found, 1):
        ledger = Ledger(repo, tag)  # anew: what was decided before may be carried out by now
        record = ledger.get(name)
        if name in pending(repo, tag) or record.status != "waiting":
            continue
        typer.echo(f"\n{shown(ledger, record)}\n")
        under = names(Stacks(ledger).first(record))
        question = ASK.format(with_it=f" with {under}" if under else "")
        while (key := ask(f"{record.id}, {number} of {len(found)}: {question}")) in KEYS:
            reason = typer.prompt("why", default="", show_default=False)
            try:
                say(ledger, record, KEYS[key], reason, stack=True)
            except UserError as refused:
                typer.echo(str(refused))
                continue
            if KEYS[key] != "comment":
                carry_out(repo, tag)
                break
        if key == "q":
            return


def stack(ledger: Ledger, record: Record) -> dict[str, list[str]]:
    """What a record was built on and is not part of the lab: what has to be accepted first, and what was rejected."""
    stacks = Stacks(ledger)
    return {"first": [each.id for each in stacks.first(record)], "rejected": [each.id for each in stacks.rejected(record)]}


def ask(question: str) -> str:
    """One key of those that mean something."""
    typer.echo(question, nl=False)
    while (key := typer.getchar().lower()) not in (*KEYS, "s", "q", "\x03", "\x04", ""):
        pass
    typer.echo(key if key.isalpha() else "")
    return key if key.isalpha() else "q"


def shown(ledger: Ledger, record: Record) -> str:
    """What there is to look at: evidence, hypothesis, diff, and whether it can be merged as it is."""
    text, experiment = view.full(record, lambda name: ledger.text(record, name)), record.experiment
    assert experiment.commit is not None
    return f"{text}\n\n{git.diff(ledger.repo, experiment.base, experiment.commit).rstrip()}\n\n{standing(ledger, record)}"


def standing(ledger: Ledger, record: Record) -> str:
    """What accepting an experiment would mean now."""
    mark = marks(ledger, record)
    if Stacks(ledger).first(record):
        sound = Stacks(ledger).sound(record)
        return f"{mark}; then would be merged as it was measured" if sound else f"{mark}; then would be measured again on top"
    said, since = (f"{mark}: ", "it") if mark else ("", "what was merged since")
    if files := reviewing.conflicts(ledger, record):
        return f"{said}cannot be merged: {since} changed the same lines of {', '.join(files)}"
    if mark:
        return f"{said}would be measured again without it, and merged when its gain survives that"
    if reviewing.measured(ledger, record):
        return "would be merged as it was measured"
    return "would be measured again, on top of what was merged since, and merged when its gain survives that"


def listing(ledger: Ledger, found: list[Record], said: set[str]) -> str:
    """A line for each experiment that waits."""
    lines = []
    for record in found:
        gain = view.believed(record.verdict) if record.verdict else ""
        name = f"{record.id:<5}{record.metric.shown(record.value):>9}  {gain:>9}  {record.experiment.agent:<10}"
        then = "decided, and not carried out yet" if record.id in said else standing(ledger, record)
        lines += [view.cut(name + prompt.title(record)), f"     {then}"]
    hint = f"`harness review ID --tag {ledger.tag}` shows one; `harness accept ID` and `harness reject ID --reason ...` decide"
    return "\n".join([*lines, "", hint]) if lines else "nothing waits for review"


def sync(tag: TagOption = None, remote: RemoteOption = None) -> None:
    """Take over what people merged or closed on the remote, then bring its branches up to date. Nothing is ever forced."""
    repo = git.open_repo(Path.cwd())
    name = latest(repo, tag)
    syncing.listen(link(Ledger(repo, name), remote))
    finish(repo, name)
    syncing.converge(link(Ledger(repo, name), remote))


def link(ledger: Ledger, remote: str | None) -> syncing.Link:
    """A lab and its forge; what is done is told on stdout."""
    name, forge = forges.get(ledger.repo, remote)
    return syncing.Link(ledger, forge, name, typer.echo)


def accept(
    experiment: ExperimentArgument,
    tag: TagOption = None,
    reason: ReasonOption = "",
    stack: Annotated[bool, typer.Option("--stack", help="And before it what it was built on and waits, too.")] = False,
) -> None:
    """Merge an experiment that waits: as it was measured, or measured again on top of what was merged since."""
    rule(experiment, tag, "accept", reason, stack)


def reject(experiment: ExperimentArgument, tag: TagOption = None, reason: ReasonOption = "") -> None:
    """Do not merge an experiment that waits; the agents are told why. `harness revive` brings its branch back."""
    rule(experiment, tag, "reject", reason)


def rule(experiment: str, tag: str | None, kind: Kind, reason: str, stack: bool = False) -> None:
    """Decide about one experiment, or also about those that it was built on."""
    repo = git.open_repo(Path.cwd())
    ledger = Ledger(repo, latest(repo, tag))
    said, upon = say(ledger, ledger.get(experiment), kind, reason, stack), Stacks(ledger).upon(ledger.get(experiment))
    finish(repo, ledger.tag)
    if pending(repo, ledger.tag):
        return
    ledger = Ledger(repo, ledger.tag)
    for record in said:
        typer.echo(outcome(ledger, ledger.get(record.id)))
    if kind == "reject" and upon:
        typer.echo(f"{names(upon)} built on it, and would be measured again without it: see `harness review`")


def outcome(ledger: Ledger, record: Record) -> str:
    """What a decision came to."""
    if record.review and record.review.again:
        new = ledger.get(record.review.again)
        what = f"{new.verdict.status}: {new.verdict.reason}" if new.verdict else "not finished; `harness resume` goes on with it"
        return f"{record.id} was measured again as {new.id}, on top of what was merged since: {what}"
    words = {"keep": f"merged into autoresearch/{ledger.tag}", "waiting": "still waits, see `harness show`"}
    return f"{record.id} {words.get(record.status, record.status)}"


def say(ledger: Ledger, record: Record, kind: Kind, reason: str, stack: bool = False) -> list[Record]:
    """Note a decision, if it can be carried out; with a `stack`, what waits below is accepted, too. What was decided about."""
    decided = pending(ledger.repo, ledger.tag)
    about = {name: [each.kind for each in found.made if each.kind != "comment"] for name, found in decided.items()}
    reviewing.check(ledger, record, kind)
    if kinds := about.get(record.id):
        raise UserError(f"experiment {record.id} is about to be {kinds[0]}ed: wait until the night at work did that")
    under = [each for each in Stacks(ledger).first(record) if kind == "accept" and not about.get(each.id)]
    if under and not stack:
        raise UserError(
            f"experiment {record.id} was built on {names(under)}, to be accepted first: "
            f"`harness accept {record.id} --stack --tag {ledger.tag}` accepts them and it"
        )
    for each in (*under, record):
        reviewing.check(ledger, each, kind)
        decision = Decision(kind=kind, reason=" ".join(reason.split()), by=git.person(ledger.repo), at=now())
        decide(ledger.repo, ledger.tag, each.id, decision)
    return [*under, record]


def finish(repo: git.Repo, tag: str) -> None:
    """Carry out what was decided, or leave it to the night that is at work on the tag."""
    if not pending(repo, tag):
        return
    if (left := carry_out(repo, tag)) is None:
        typer.echo(f"a night is at work on {tag!r}: it carries that out in a moment")
    elif left:
        settings = remembered(repo, tag).model_copy(update={"agents": []})
        with at_work(repo, settings) as (night, _):
            while not night.interrupt.soon and (record := reviewing.take_up(night)):
                night.conduct(advance(night, record))
        if pending(repo, tag):
            typer.echo(f"decided, and not carried out yet: `harness resume --tag {tag}` goes on")


def carry_out(repo: git.Repo, tag: str) -> list[Pending] | None:
    """Carry out what needs no measurement, and say what does; None when that is for the night that is at work on the tag."""
    try:
        with locks.hold(repo, tag):
            return reviewing.carry_out(Ledger(repo, tag))
    except UserError:
        if not locks.held(repo, tag):
            raise
        return None
