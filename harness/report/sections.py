"""The parts of the report that are HTML from the start, as plain values for its template."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from harness import git, judge, view
from harness.ledger import BASELINE, Ledger
from harness.models import Record
from harness.report import ideas, standing, text
from harness.report.progress import Kept, Picture
from harness.report.spent import Spent
from harness.summary import duration

PROGRAM_CHARS, PROGRAMS, LISTED = 20_000, 30, 60


def drawn(picture: Picture) -> dict[str, Any]:
    """The progress picture, less what the table has: [number, value, standard deviation, gain, best since] of the kept ones."""

    def point(kept: Kept, since: int) -> list[float | None]:
        return [kept.number, text.number(kept.value, 9), text.number(kept.sigma), text.number(kept.gain), since]

    edges = [text.number(edge, 9) for edge in picture.view]
    return {
        "view": edges,
        "lower": picture.metric.direction == "minimize",
        "kept": list(map(point, picture.kept, picture.since())),
    }


def when(records: list[Record]) -> str:
    """The days of the night."""
    times = [datetime.fromisoformat(record.started) for record in (records[0], records[-1]) if record.started]
    return " to ".join(dict.fromkeys(f"{time.day} {time:%B %Y}" for time in times))


def merged(record: Record, gain: float) -> dict[str, str]:
    """A line of what was kept, with what it changed."""
    metric, simpler = record.metric, "simpler" if record.verdict and record.verdict.simpler else ""
    fell = (metric.direction == "minimize") == (gain >= 0)
    change = ("\N{MINUS SIGN}" if fell else "+") + metric.shown(abs(gain))
    return _named(record) | {"value": metric.shown(record.value), "change": change, "simpler": simpler}


def near(record: Record) -> dict[str, str]:
    """A line of what was not merged, and what is believed of it."""
    assert record.verdict is not None
    chance = record.verdict.probability
    found = {"value": record.metric.shown(record.value), "gain": text.signed(view.believed(record.verdict))}
    return (
        _named(record) | found | {"chance": judge.chance(chance) if chance is not None else "", "runs": str(record.verdict.runs)}
    )


def _named(record: Record) -> dict[str, str]:
    return {"id": record.id, "title": text.title(record), "agent": text.line(record.experiment.agent, 60)}


def shares(time: Spent) -> list[tuple[str, str, float]]:
    """(what, how long, share of all that is listed in percent), in the order of an experiment."""
    parts = [(text.line(name, 40), seconds) for name, seconds in time.phases.items()]
    if time.waiting > 1:
        parts.append(("waiting, worktrees, judging", time.waiting))
    whole = sum(seconds for _, seconds in parts) or 1.0
    return [(name, duration(seconds), round(100 * seconds / whole, 1)) for name, seconds in parts]


def agents(records: list[Record], gains: dict[str, float]) -> list[dict[str, Any]]:
    """What each agent achieved."""
    found = standing.standings(records, gains, lambda record: record.experiment.agent)
    return [_achieved(each, text.line(each.name, 60), records) for each in found]


def programs(ledger: Ledger, records: list[Record], gains: dict[str, float]) -> list[dict[str, Any]]:
    """What each version of the program achieved, and how it differs from the one before."""
    rows, before = [], ""
    for number, each in enumerate(standing.standings(records, gains, lambda record: record.program), 1):
        now = _program(ledger, each.name)
        changes = [(sign, text.code(line)) for sign, line in standing.changes(before, now)] if number > 1 else []
        rows.append(_achieved(each, f"version {number}", records) | {"text": now, "changes": changes, "blob": each.name[:10]})
        before = now
    return rows[-PROGRAMS:]


def _achieved(found: standing.Standing, name: str, records: list[Record]) -> dict[str, Any]:
    metric, best, count = records[0].metric, dict(found.hits), sum(found.counts.values())
    hits = [{"id": r.id, "title": text.title(r, 80), "gain": metric.shown(best[r.id])} for r in records if r.id in best]
    return {
        "name": name,
        "blob": "",
        "first": found.first,
        "last": found.last,
        "count": count,
        "kept": len(found.gains),
        "rate": text.percent(found.rate, 1) if found.rate is not None else "",
        "failed": sum(found.counts.get(status, 0) for status in ("crash", "invalid", "void")),
        "gain": metric.shown(found.gain) if found.gains else "",
        "usd": view.dollars(found.usd) if found.usd != 0 else "",
        "usd_each": view.dollars(found.usd / len(found.gains)) if found.usd and found.gains else "",
        "agent_s": duration(found.agent_s / max(1, count)),
        "hits": sorted(hits, key=lambda hit: -best[hit["id"]]),
    }


def _program(ledger: Ledger, blob: str) -> str:
    """A version of the program; empty when the repository has it no more."""
    try:
        return text.plain(git.read(ledger.repo, blob).decode("utf-8", "replace"), PROGRAM_CHARS)
    except (KeyError, ValueError, AssertionError):
        return ""


def groups(records: list[Record]) -> list[dict[str, Any]]:
    """Discarded ideas, by what they are about."""
    found, others = ideas.grouped([record for record in records if record.id != BASELINE])
    if others:
        found = [*found, ideas.Group("on their own", others)]
    return [
        {
            "name": text.line(group.name, 60),
            "count": len(group.records),
            "best": near(group.records[0]),
            "ideas": [near(record) for record in group.records[:LISTED]],
        }
        for group in found
    ]


def conditions(baseline: Record) -> list[tuple[str, str]]:
    """What all of it was measured on and by."""
    run = next(iter(baseline.measurements), None)
    found = [("profile", baseline.profile), ("sandbox", baseline.sandbox), ("harness", baseline.harness)]
    found += [(name, value) for name, value in (run.hardware if run else {}).items() if name in ("cpu", "cores", "gpu", "driver")]
    return [(text.line(name, 40), text.line(value, 120)) for name, value in found if value]
