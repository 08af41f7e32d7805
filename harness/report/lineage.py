"""Who was the incumbent when, and what was merged: read from the lab branch, which alone decides it."""

from __future__ import annotations

from dataclasses import dataclass

from harness import git
from harness.ledger import BASELINE, Ledger
from harness.models import Record


@dataclass(frozen=True)
class Lineage:
    """What the lab branch says: incumbents by their commit on it, and the merges of kept experiments, the last one first."""

    incumbent: dict[str, str]
    merge: dict[str, str]


def lineage(ledger: Ledger, records: list[Record], tip: str | None) -> Lineage:
    """The first-parent line from `tip` down to the baseline."""
    by_commit = {record.experiment.commit: record.id for record in records if record.id != BASELINE}
    # What a forge merged in its own way, as one commit, is known by its tree; see Ledger.incumbent.
    by_tree = {ledger.tree(record): record.id for record in records if record.review and record.merged}
    start = records[0].experiment.base if records else None
    found, merges = {start: BASELINE} if start else {}, dict[str, str]()
    while tip and tip != start:
        first, others = next(iter(above := git.parents(ledger.repo, tip)), None), above[1:]
        name = next((by_commit[other] for other in others if other in by_commit), None)
        if name := name or (by_tree.get(git.tree(ledger.repo, tip)) if by_tree else None):
            found[tip], merges[name] = name, tip
        tip = first
    return Lineage(found, merges)
