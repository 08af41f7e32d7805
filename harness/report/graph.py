"""A night as a tree of text, in the manner of `git log --graph`: `harness log --graph` prints it."""

from __future__ import annotations

from harness import prompt, view
from harness.ledger import BASELINE
from harness.models import Record

MARKS = {"keep": "*", "discard": "-", "crash": "!", "invalid": "!", "void": "~"}


def graph(records: list[Record], wanted: list[Record], incumbents: dict[str, str]) -> str:
    """What is `wanted` of the records, newest first: what was kept is the trunk, what was not hangs from where it started.

    `incumbents`: commit of the lab branch -> the experiment that is its incumbent. One that did not start from the latest
    incumbent before it, since several were under way, says from which.
    """
    lines, shown, latest, leaf = list[str](), {record.id for record in wanted}, BASELINE, False
    for record in records:
        kept = record.verdict is not None and record.verdict.status == "keep"
        base = incumbents.get(record.ground, latest)
        if record.id in shown:
            lines += ["|/"] if leaf is False and not kept and lines else []
            lines.append(_line(record, kept, "" if base == latest else f" (from {base})"))
            leaf = not kept
        latest = record.id if kept else latest
    return "\n".join(reversed(lines))


def _line(record: Record, kept: bool, more: str) -> str:
    verdict = record.verdict
    status = verdict.status if verdict else record.state
    mark = MARKS.get(status, "?")
    told = f"{record.id} {status:<8}{record.metric.shown(record.value):>10}{view.believed(verdict) if verdict else '':>10}"
    return view.cut(f"{f'{mark}  ' if kept else f'| {mark}'} {told}  {prompt.title(record)}") + more
