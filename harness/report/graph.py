"""A night as a tree of text, in the manner of `git log --graph`: `harness log --graph` prints it."""

from __future__ import annotations

from harness import prompt, view
from harness.ledger import BASELINE
from harness.models import Record

MARKS = {"keep": "*", "discard": "-", "crash": "!", "invalid": "!", "void": "~"}
MARKS |= {"rejected": "-", "accepted": "-"}  # by a person; what was accepted is merged as another experiment


def graph(records: list[Record], wanted: list[Record], incumbents: dict[str, str]) -> str:
    """What is `wanted` of the records, newest first: what was merged is the trunk, what was not hangs from where it started.

    `incumbents`: commit of the lab branch -> the experiment that is its incumbent. One that did not start from the latest
    incumbent before it, since several were under way, says from which.
    """
    lines, shown, latest, leaf = list[str](), {record.id for record in wanted}, BASELINE, False
    for record in records:
        base = incumbents.get(record.ground, latest)
        if record.id in shown:
            kept = record.merged
            lines += ["|/"] if leaf is False and not kept and lines else []
            lines.append(_line(record, kept, "" if base == latest else f" (from {base})"))
            leaf = not kept
        latest = record.id if record.merged else latest
    return "\n".join(reversed(lines))


def _line(record: Record, kept: bool, more: str) -> str:
    verdict = record.verdict
    status = record.status if verdict else record.state
    mark = MARKS.get(status, "?")
    told = f"{record.id} {status:<8}{record.metric.shown(record.value):>10}{view.believed(verdict) if verdict else '':>10}"
    return view.cut(f"{f'{mark}  ' if kept else f'| {mark}'} {told}  {prompt.title(record)}") + more
