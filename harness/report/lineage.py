"""Who was the incumbent when, and what was merged: read from the lab branch, which alone decides it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.ledger import BASELINE, Ledger
from harness.merges import merges
from harness.models import Record


@dataclass(frozen=True)
class Lineage:
    """What the lab branch says: incumbents by their commit on it, and the merges of kept experiments, the last one first."""

    incumbent: dict[str, str]
    merge: dict[str, str]


def lineage(ledger: Ledger, records: list[Record], tip: str | None) -> Lineage:
    """The first-parent line from `tip` down to the baseline."""
    start = records[0].experiment.base if records else None
    waited = {
        record.judged: record.id for record in records if record.review and record.judged
    }  # others may have begun from them
    merged = merges(ledger, tip, records)
    incumbents = {**waited, **({start: BASELINE} if start else {}), **{commit: record.id for commit, record in merged}}
    return Lineage(incumbents, {record.id: commit for commit, record in merged})
