"""What people at a forge are told of an experiment beside its own record: where it stands, its siblings, what became of it."""

from __future__ import annotations

from pathlib import Path

from harness import git, offers, review
from harness.chart import picture
from harness.ledger import Ledger
from harness.models import Decision, Record
from harness.offers import Around, quoted
from harness.opening import Settings
from harness.protocols import Offer
from harness.stacks import Stacks, names
from harness.state import StateFolder


def offer(ledger: Ledger, remote: str, into: str, record: Record) -> Offer:
    """What the forge named `remote` is to show of a record whose branch would be merged `into` the lab branch."""
    told = note(ledger, record)
    around = Around(
        remote=remote,
        into=into,
        task=task(ledger),
        standing=standing(ledger, record),
        siblings=offers.siblings(record, ledger.records()),
        picture=picture(ledger, record),
        notes=(told,) if told else (),
    )
    return offers.offer(record, around)


def task(ledger: Ledger) -> str:
    """The folder or file of the night's task, as seen from the repository's root; empty where this machine does not know it."""
    path = StateFolder(ledger.repo).settings(ledger.tag)
    if not path.exists():
        return ""
    found = Path(Settings.model_validate_json(path.read_text()).task)
    found = found.parent if found.name == "task.yaml" else found
    top = git.root(ledger.repo)
    return str(found.relative_to(top)) if found.is_relative_to(top) else ""


def standing(ledger: Ledger, record: Record) -> str:
    """Where a record stands among others, or what became of it, as Markdown; empty where there is nothing to say."""
    return stacked(ledger, record) if record.status == "waiting" else decided(ledger, record)


def note(ledger: Ledger, record: Record) -> str:
    """What somebody who read the text before has to be told: the ground is gone, or the lab goes on without what was seen."""
    if record.status == "waiting":
        gone = Stacks(ledger).rejected(record)
        said = (
            f"**Rejected: {names(gone)}, which this was built on.** If this is merged, only its own change is taken, once it is "
        )
        return f"{said}measured again without {names(gone)}." if gone else ""
    ruling = record.review.ruling if record.review else None
    return decided(ledger, record) if record.status != "keep" or (ruling and beside(ruling)) else ""


def stacked(ledger: Ledger, record: Record) -> str:
    """What it was built on and is not part of the lab, and what merging it means therefore."""
    stacks = Stacks(ledger)
    below, first, gone = stacks.below(record), stacks.first(record), stacks.rejected(record)
    if not first and not gone:
        return ""
    words = {"waiting": "waits, too", "rejected": "was rejected", "accepted": "is measured again"}
    under = ", and on ".join(f"{each.id}, which {words.get(each.status, each.status)}" for each in below)
    said = f"**Built on {under}.** The branch holds that as well; its own change is commit {record.experiment.commit}."
    if gone and not first and (files := review.conflicts(ledger, record)):
        lines = quoted(", ".join(files))
        return f"{said} It is to the same lines of {lines}, so it cannot be taken without {names(gone)}: close this."
    said += f" Merging this accepts {names(first)} with it." if first else ""
    return said + (f" Without {names(gone)} it is measured again before the lab takes it." if gone else "")


def decided(ledger: Ledger, record: Record) -> str:
    """What a person said, and what followed from that."""
    ruling = record.review.ruling if record.review else None
    if ruling is None:
        return ""
    by, _, _ = ruling.by.partition(" <")
    reason = beside(ruling) if ruling.merged else ruling.reason
    said = f"**{ruling.kind.capitalize()}ed by {quoted(by)}**{': ' if reason else ''}{quoted(reason)}"
    if record.review and record.review.again:
        new = ledger.get(record.review.again)
        came = f": {new.verdict.status}, {quoted(new.verdict.reason)}" if new.verdict else ""
        return f"{said}\n\nIt was measured again as {new.id}, on top of what was merged since{came}."
    return said if record.merged else f"{said}\n\nThe lab goes on without it; the experiment and its evidence stay on record."


def beside(ruling: Decision) -> str:
    """What a forge says of a merge there beyond that it was made, see `Answer`."""
    return ruling.reason.partition("; ")[2] if ruling.merged else ""
