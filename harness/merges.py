"""What was merged into the lab branch, read from it: merges of experiments, and the single commits that forges make of them."""

from __future__ import annotations

from collections.abc import Iterable

from harness import git
from harness.ledger import BASELINE, Ledger
from harness.models import Record


def merges(ledger: Ledger, tip: str | None, records: Iterable[Record] | None = None) -> list[tuple[str, Record]]:
    """The commits on the first-parent line from `tip` to the baseline by which experiments came in, the last one first.

    A pull request that was squashed or rebased has no second parent: its record names the commit that people made of it, or else
    it is known by the tree that was measured. `records` are all of the night, the ledger's own when left out.
    """
    records = list(ledger.records() if records is None else records)
    merged = [record for record in records if record.merged and record.id != BASELINE]
    by_commit = {record.experiment.commit: record for record in merged}
    reviewed = [record for record in merged if record.review]
    made = {each.merged: record for record in reviewed for each in (record.review.decisions if record.review else [])}
    by_tree = {ledger.tree(record): record for record in reviewed}
    first = records[0].experiment.base if records else None
    found, seen, commit = list[tuple[str, Record]](), set[str](), tip
    while commit and commit != first:
        parents = git.parents(ledger.repo, commit)
        above, others = next(iter(parents), None), parents[1:]
        tree = git.tree(ledger.repo, commit)
        record = next((by_commit[other] for other in others if other in by_commit), None)
        if record is None and above and tree != git.tree(ledger.repo, above):  # without a change it only takes in what others did
            record = made.get(commit) or by_tree.get(tree)
        if record and record.id not in seen:
            found.append((commit, record))
            seen.add(record.id)
        commit = above
    return found
