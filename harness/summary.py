"""The night in a page: how far it came, by what, what nearly helped, what it cost, and what to do next. Pure, no I/O."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from datetime import datetime

from harness import judge, prompt, view
from harness.ledger import BASELINE
from harness.misses import near_misses
from harness.models import Record, Value
from harness.proposal import printable

SURE = 1.959964  # standard deviations of a normal distribution to either side that hold 95 % of it
NEAR = 5  # near misses that are listed


class Listed(Value):
    """One experiment in a summary: what is believed of its gain, in the metric's unit, and the probability that it is real."""

    id: str
    agent: str
    title: str
    value: float | None
    gain: float | None
    gain_sd: float | None
    probability: float | None
    runs: int
    simpler: bool


class Summary(Value):
    """A night. `gain` is that of the tip over the baseline, `low` to `high` its 95 % interval as the records support it, both in
    the metric's unit; they are missing where nothing is known of the noise. `seconds` by phase, summed over all experiments.
    `nudges`: what agents were asked for when nothing had been kept for a while -> how many tried it, and how many were kept.
    """

    tag: str
    metric: str
    direction: str
    baseline: float | None
    tip: float | None
    tip_id: str
    gain: float | None
    low: float | None
    high: float | None
    counts: dict[str, int]
    kept: list[Listed]
    near_misses: list[Listed]
    usd: float | None
    usd_a_keep: float | None
    nudges: dict[str, list[int]]
    seconds: dict[str, float]
    started: str
    updated: str
    next: dict[str, str]


def summarise(records: list[Record], tip: Record) -> Summary:
    """What the records of a night, the baseline's first, say; `tip` is the incumbent's."""
    first, metric = records[0], records[0].metric
    kept = [r for r in records if r.merged and r.id != BASELINE]
    gain = metric.gain(first.value, tip.value) if first.value is not None and tip.value is not None else None
    reach = _reach(first, tip)
    usage = [used.usd for record in records if (used := view.usage(record))]
    usd = sum(each or 0.0 for each in usage) if usage else None
    return Summary(
        tag=first.experiment.tag,
        metric=metric.name,
        direction=metric.direction,
        baseline=first.value,
        tip=tip.value,
        tip_id=tip.id,
        gain=gain,
        low=None if gain is None or reach is None else gain - reach,
        high=None if gain is None or reach is None else gain + reach,
        counts=dict(sorted(Counter(r.status for r in records[1:]).items())),
        kept=[_listed(record) for record in kept],
        near_misses=[_listed(record) for record in near_misses(records)[:NEAR]],
        usd=usd,
        usd_a_keep=usd / len(kept) if usd is not None and kept else None,
        nudges=nudges(records),
        seconds=_seconds(records),
        started=first.started,
        updated=max(record.updated for record in records),
        next=_next(records, kept),
    )


def _reach(first: Record, tip: Record) -> float | None:
    """Half the width of the gain's interval, by what is believed of both values; None where no noise is known."""
    if tip.id == first.id:
        return None
    sides = [record.verdict.value_sd if record.verdict else None for record in (first, tip)]
    known = [side for side in sides if side is not None]
    return SURE * math.hypot(*known) if len(known) == len(sides) and any(known) else None


def _listed(record: Record) -> Listed:
    verdict = record.verdict
    assert verdict is not None
    return Listed(
        id=record.id,
        agent=record.experiment.agent,
        title=printable(prompt.title(record)),
        value=record.value,
        gain=verdict.gain,
        gain_sd=verdict.gain_sd,
        probability=verdict.probability,
        runs=len(record.values),
        simpler=verdict.simpler,
    )


def _seconds(records: list[Record]) -> dict[str, float]:
    """Where the time went, as far as records know it: agents' work, and each phase of the runs."""
    spent: defaultdict[str, float] = defaultdict(float)
    for record in records:
        if record.proposal:
            spent["propose"] += record.proposal.seconds + sum(each.seconds for each in record.proposal.tries)
        for run in record.measurements:
            for name, seconds in run.phases.items():
                spent[name] += seconds
    return {name: round(seconds, 1) for name, seconds in spent.items()}


def nudges(records: list[Record]) -> dict[str, list[int]]:
    """By what agents were asked for when nothing had been kept for a while: how many tried it, and how many were kept.

    Variants of one proposal are one, which is kept when one of them is.
    """
    ended: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for record in records:
        if record.nudge and record.verdict and record.verdict.status != "void":
            ended[record.nudge.kind, record.variant.of if record.variant else record.id].append(record.verdict.status)
    found: dict[str, list[int]] = {}
    for (kind, _), statuses in ended.items():
        tried, kept = found.get(kind, [0, 0])
        found[kind] = [tried + 1, kept + ("keep" in statuses)]
    return found


def _next(records: list[Record], kept: list[Record]) -> dict[str, str]:
    """Commands that are worth a thought now, and what for."""
    tag = f"--tag {records[0].experiment.tag}"
    found = {}
    if any(record.status == "waiting" for record in records):
        found[f"harness review {tag}"] = "what waits for you, with its evidence"
    if kept:
        found[f"git log --first-parent autoresearch/{records[0].experiment.tag}"] = "what was merged, with its evidence"
        found[f"harness certify {tag}"] = "how good it really is: fresh seeds, sealed data where the task has any"
    if len(kept) > 1:
        found[f"harness ablate {tag}"] = "which of the merges still help"
    if near := near_misses(records):
        found[f"harness replicate {near[0].id} {tag} --seeds 3"] = "whether the nearest miss is one"
    if bad := [r for r in records[1:] if r.verdict and r.verdict.status in ("crash", "invalid", "void")]:
        found[f"harness show {bad[-1].id} {tag}"] = "why the last one failed that did"
    if not kept and len(records) > 1:
        found[f"harness log {tag}"] = "what was tried; what the program says decides what agents try next"
    found[f"harness resume {tag}"] = "go on; see its --help for when to stop"
    return found


def text(found: Summary, records: list[Record]) -> str:
    """A summary for people."""
    shown = records[0].metric.shown
    lines = [view.summary(records), ""]
    lines += ["result    " + _result(found, records)]
    for label, some in (("kept", found.kept), ("near", found.near_misses)):
        rows = [_row(each, shown(each.value)) for each in some]
        lines += [f"{label if not index else '':<10}{row}" for index, row in enumerate(rows)]
    if found.nudges:
        lines += [f"stuck     {helped(found.nudges)}"]
    if found.usd is not None:
        lines += [f"cost      {view.dollars(found.usd)} USD by list price" + _a_keep(found)]
    lines += [f"time      {_time(found)}"] if found.seconds else []
    width = max(map(len, found.next))
    rows = [f"{command:<{width}}  {what}" for command, what in found.next.items()]
    lines += [f"{'next' if not index else '':<10}{row}" for index, row in enumerate(rows)]
    return "\n".join(lines)


def helped(nudges: dict[str, list[int]]) -> str:
    """What agents were asked for when nothing had been kept for a while, and how often that helped."""
    names = {"nothing": "nothing special"}
    return "; ".join(f"{names.get(kind, kind)} {tried} tried, {kept} kept" for kind, (tried, kept) in nudges.items())


def _result(found: Summary, records: list[Record]) -> str:
    shown = records[0].metric.shown
    if found.baseline is None or found.gain is None:
        return "no baseline yet"
    text = f"{found.metric} {shown(found.baseline)} -> {shown(found.tip)}"
    if not found.kept:
        return f"{text}: nothing was merged"
    text += f": {'worse' if found.gain < 0 else 'better'} by {judge.figure(abs(found.gain))}"
    if found.low is None or found.high is None:
        return text
    return f"{text}, 95 % interval {judge.figure(found.low)} to {judge.figure(found.high)} by all runs so far"


def _row(each: Listed, value: str) -> str:
    gain = "" if each.gain is None else judge.figure(each.gain, "+")
    spread = f" +- {judge.figure(each.gain_sd)}" if each.gain_sd else ""
    sure = "simpler" if each.simpler else "" if each.probability is None else f"{judge.chance(each.probability)} real"
    return view.cut(f"{each.id}  {value}  {gain + spread:<18} {sure:<11}  {each.agent}: {each.title}")


def _a_keep(found: Summary) -> str:
    return "" if found.usd_a_keep is None else f", {view.dollars(found.usd_a_keep)} USD for each that was kept"


def _time(found: Summary) -> str:
    """Seconds as people say them, the longest phase first, and from when to when."""
    phases = sorted(found.seconds.items(), key=lambda each: -each[1])
    parts = ", ".join(f"{'agents' if name == 'propose' else name} {duration(seconds)}" for name, seconds in phases)
    whole = (datetime.fromisoformat(found.updated) - datetime.fromisoformat(found.started)).total_seconds()
    return f"{parts}; {duration(whole)} from first to last"


def duration(seconds: float) -> str:
    """As people say it: 7.4 h, 12 min, 3.2 s."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 100 else f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
