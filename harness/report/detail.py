"""One experiment as the page shows it when somebody opens it: facts, runs, curve, logs and diff, as plain values."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from harness import git, judge, view
from harness.ledger import BASELINE, Ledger
from harness.models import Measurement, Record, Try, Verdict
from harness.report import difference, text
from harness.report.lineage import Lineage
from harness.report.spent import agent_s, runs_s
from harness.summary import duration

FULL = 1000  # experiments with diff, curve and logs: some KB and milliseconds each, the others a tenth of that
EARLIER = "before it was joined with what was merged meanwhile"
LOG_CHARS, CURVE_POINTS, FACTS, REASON_CHARS = 4000, 160, 40, 2000


def chosen(records: list[Record], most: int = FULL) -> set[str]:
    """Which are shown with everything when there are too many: kept ones, merged or not, then near misses, then the latest."""

    def importance(index: int) -> tuple[bool, float, int]:
        verdict = records[index].verdict
        near = (verdict.probability or 0.0) if verdict else 0.0
        return bool(verdict and verdict.status == "keep"), near if near > 0.2 else 0.0, index

    return {records[index].id for index in heapq.nlargest(most, range(len(records)), key=importance)}


def details(ledger: Ledger, records: list[Record], line: Lineage) -> list[dict[str, Any]]:
    """Every experiment in the order of `records`."""
    full = chosen(records)
    return [whole(ledger, record, line) if record.id in full else lean(record, line) | {"lean": True} for record in records]


def whole(ledger: Ledger, record: Record, line: Lineage) -> dict[str, Any]:
    """One experiment with everything."""
    return lean(record, line) | rich(ledger, record)


def lean(record: Record, line: Lineage) -> dict[str, Any]:
    """What the record itself says."""
    experiment, proposal, verdict = record.experiment, record.proposal, record.verdict
    return {
        "id": record.id,
        "hypothesis": text.prose(proposal.hypothesis, 8000) if proposal else "",
        "reason": text.line(verdict.reason, REASON_CHARS) if verdict else f"still {record.state}",
        "incumbent": line.incumbent.get(record.ground, "") if record.id != BASELINE else "",
        "merge": line.merge.get(record.id, "")[:10],
        "commit": (experiment.commit or "")[:10] if experiment.commit != experiment.base else "",
        "facts": [[name, text.line(value, 400)] for name, value in facts(record) if value],
        "runs": [_run(record, run) for run in record.measurements[:12]],
        "evidence": _evidence(record.measurements[-1]) if record.measurements else [],
    }


def facts(record: Record) -> list[tuple[str, str]]:
    """Labels and what is to be said; empty texts are left out."""
    proposal, verdict, used = record.proposal, record.verdict, view.usage(record)
    found = [("Gain", _gain(record, verdict))] if verdict else []
    if verdict and verdict.probability is not None:
        found += [("Real", f"probability {judge.chance(verdict.probability)}")]
    name = " ".join(filter(None, (record.experiment.agent, proposal.agent_version if proposal else "")))
    found += [("Review", told) for told in record.review.told()] if record.review else []
    found += [("Agent", f"{name}, {duration(agent_s(record))}")]
    if used:
        tokens = f"{used.input + used.cached + used.written:,} tokens in, {used.output:,} out"
        found += [("Models", f"{', '.join(used.models) or 'none'}: {used.requests} requests, {tokens}")]
        found += [("Cost", f"{view.dollars(used.usd)} USD by list price{view.extra(used)}")]
    if proposal:
        found += [("Code", f"{proposal.added:+,} tokens" if proposal.added else "")]
        found += [("Asked again", _again(each)) for each in proposal.tries[:FACTS]]
        found += [("Dropped", ", ".join(proposal.dropped[:FACTS]))]
    found += [("Variant", record.variant.told if record.variant else "")]
    found += [("Started", record.started.replace("T", " ")[:16]), ("Base", record.experiment.base[:10])]
    found += [("Asked for", " ".join((record.nudge.kind, *record.nudge.of)) + ", being stuck" if record.nudge else "")]
    if onto := record.experiment.onto:
        found += [("Joined", f"with {onto[:10]}, merged meanwhile") if record.experiment.joined else ("In place of", onto[:10])]
    return [*found, ("Sandbox", f"{record.sandbox}, profile {record.profile}, harness {record.harness}")]


def _again(each: Try) -> str:
    what, why = (each.verdict.status, each.verdict.reason) if each.verdict else (each.outcome.kind, each.outcome.reason)
    return f"after {duration(each.seconds)}: {what}: {why}"


def _gain(record: Record, verdict: Verdict) -> str:
    if verdict.gain is None:
        return ""
    spread = f" ± {record.metric.shown(2 * verdict.gain_sd)} (two standard deviations)" if verdict.gain_sd else ""
    return f"{text.signed(record.metric.shown(verdict.gain))}{spread}, over {verdict.runs} run{'s' * (verdict.runs != 1)}"


def _run(record: Record, run: Measurement) -> dict[str, Any]:
    return {
        "seed": str(run.seed),
        "status": run.status,
        "value": record.metric.shown(run.value),
        "reason": text.line(run.reason or ("" if run in record.runs else EARLIER), 400),
        "time": ", ".join(f"{text.line(name, 30)} {duration(value)}" for name, value in list(run.phases.items())[:8]),
        "cpu": duration(run.cpu_s),
        "memory": f"{run.peak_memory_mb:,.0f} MB",
        "audit": {"passed": run.audit.passed, "summary": text.line(run.audit.summary, 400)} if run.audit else None,
    }


def _evidence(run: Measurement) -> list[Any]:
    """Tables of the last run: (heading, rows of name and value)."""
    tables: list[tuple[str, Mapping[str, float | str]]] = [
        ("Figures of the run", run.figures),
        ("Figures of the evaluation", run.hidden_figures),
        ("Figures of the audit", run.audit.figures if run.audit else {}),
        ("The candidate's own notes", run.notes),
        ("Machine", {**run.hardware, **run.versions}),
    ]
    said = {"limits": run.limits, "checkpoint": run.checkpoint[:16], "measured by": run.trusted[:16]}
    tables.append(("Conditions", {name: value for name, value in said.items() if value}))
    return [[heading, [[text.line(n, 60), _shown(v)] for n, v in list(rows.items())[:FACTS]]] for heading, rows in tables if rows]


def _shown(value: float | str) -> str:
    return text.line(value, 200) if isinstance(value, str) else f"{value:,.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:.6g}"


def rich(ledger: Ledger, record: Record) -> dict[str, Any]:
    """What lies beside the record in git: diff, curve and the ends of logs."""
    experiment, found = record.experiment, dict[str, Any]()
    if experiment.commit and experiment.commit != experiment.base:
        found["diff"] = difference.read(git.diff(ledger.repo, experiment.base, experiment.commit))
    found["curve"] = curve(ledger.text(record, "curve-1.tsv"))
    found["logs"] = logs(record, lambda name: ledger.text(record, name))
    return {name: value for name, value in found.items() if value}


def logs(record: Record, read: Callable[[str], str]) -> list[list[str]]:
    """(heading, end of the log) of the last run; the referee's where it failed, and the check's where that is why."""
    last = len(record.measurements)
    names = {"Output of the check": "check.log"} | ({"End of the training log": f"train-{last}.log"} if last else {})
    if last and record.measurements[-1].status != "ok":
        names["End of the referee's output"] = f"referee-{last}.log"
    return [[heading, shown] for heading, name in names.items() if (shown := text.log(read(name), LOG_CHARS))]


def curve(table: str) -> list[list[float]]:
    """Two columns, steps and losses; a long one as the means of CURVE_POINTS neighbours."""
    points = []
    for row in table.splitlines():
        step, _, loss = row.partition("\t")
        try:
            point = float(step), float(loss)
        except ValueError:
            continue
        if all(map(math.isfinite, point)):
            points.append(point)
    size = -(-len(points) // CURVE_POINTS) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    means = [[sum(p[i] for p in group) / len(group) for group in groups] for i in (0, 1)]
    return [[float(f"{value:.5g}") for value in column] for column in means] if len(groups) > 1 else []


def _title(record: Record) -> str:
    if record.proposal is None and record.state != "closed" and record.id != BASELINE:
        return "(being written)"
    return text.title(record, 200) or "(no title)"


class Cells(NamedTuple):
    """What the table and the picture have of one experiment."""

    id: str
    status: str
    agent: str
    title: str
    value: float | None
    shown: str
    gain: float | None
    believed: str
    probability: float | None
    chance: str
    seconds: float
    usd: float | None
    runs: int
    words: str


def cells(record: Record) -> Cells:
    """A row of the table."""
    verdict, proposal, used, value = record.verdict, record.proposal, view.usage(record), record.value
    share = verdict.probability if verdict else None
    return Cells(
        id=record.id,
        status=record.status,
        agent=text.line(record.experiment.agent, 60),
        title=_title(record),
        value=text.number(value, 9),
        shown=record.metric.shown(text.number(value, 12)),
        gain=text.number(verdict.gain) if verdict else None,
        believed=text.signed(view.believed(verdict)) if verdict else "",
        probability=text.number(share, 3),
        chance=judge.chance(share) if share is not None else "",
        seconds=round(agent_s(record) + runs_s(record), 1),
        usd=text.number(used.usd, 3) if used else None,
        runs=len(record.measurements),
        words=text.line(proposal.hypothesis, 300) if proposal else "",
    )


def columns(found: list[Cells]) -> dict[str, list[Any]]:
    """Rows of the table as a column for each field, since that compresses and unpacks best."""
    return {name: list(column) for name, column in zip(Cells._fields, zip(*found, strict=True), strict=True)}
