"""Records as text for people: the table, one experiment in full, upstream's results.tsv. Pure; cli.py prints it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from harness import grid, judge, outline, prompt
from harness.ledger import BASELINE
from harness.models import Measurement, Metric, Record, Usage, Verdict
from harness.outline import Outline
from harness.state import Activity, Status

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 100
LOGS = {"train": "the training log", "referee": "the referee's output"}


def table(records: list[Record], night: list[Record] | None = None) -> str:
    """A line for each experiment, and a last one that counts those of the whole `night`."""
    paid = any(usage(record) for record in records)
    lines = [f"{'id':<5}{'status':<9}{'metric':>9}  {'gain':>9}  " + (f"{'USD':>7}  " if paid else "") + f"{'agent':<10}title"]
    for record in records:
        cost = f"{dollars(used.usd) if (used := usage(record)) else '':>7}  " if paid else ""
        status = record.status if record.verdict else record.state
        gain = believed(record.verdict) if record.verdict else ""
        value = record.metric.shown(record.value)
        name = f"{record.id:<5}{status:<9}{value:>9}  {gain:>9}  {cost}{record.experiment.agent:<10}"
        which = f"[{record.variant.told}] " if record.variant else ""
        lines.append(cut(name + which + prompt.title(record)))
    return "\n".join([*lines, "", summary(night or records)])


def believed(verdict: Verdict) -> str:
    """A gain as what is believed of it; a tenth of the noise is nothing."""
    if verdict.gain is None:
        return ""
    return "~0" if verdict.sigma and abs(verdict.gain) < verdict.sigma / 10 else judge.figure(verdict.gain, "+")


def cut(line: str) -> str:
    """A line of a table, as wide as tables are."""
    return line if len(line) <= WIDTH else line[: WIDTH - 1].rstrip() + "…"


def usage(record: Record) -> Usage | None:
    """What an experiment's agent used at its LLM provider."""
    return record.proposal.usage if record.proposal else None


def dollars(usd: float | None) -> str:
    """An amount with two figures at least; a question mark for what nobody knows."""
    if usd is None:
        return "?"
    return f"{usd:.2f}" if usd >= 0.1 or not usd else f"{usd:.2g}" if usd >= 0.0001 else "<0.0001"


def summary(records: list[Record]) -> str:
    """How far the night came, honestly: a gain within the noise is not called one. And what its models cost."""
    return told(list(map(outline.outline, records)))


def told(night: list[Outline]) -> str:
    """The same of records that were counted before."""
    return _progress(night) + _costs(night)


def _costs(night: list[Outline]) -> str:
    """What the night's models cost by list price, in all and for each merged gain; empty when nobody used one."""
    found = [each.usd for each in night if each.paid]
    if not found:
        return ""
    spent = sum(usd or 0.0 for usd in found)
    kept = sum(each.merged and each.id != BASELINE for each in night)
    text = f"; {dollars(spent)} USD" + (f", {dollars(spent / kept)} USD a merged gain" if kept else "")
    return text + (", and more for models of unknown price" if None in found else "")


def _progress(night: list[Outline]) -> str:
    """How far the night came."""
    if not night or night[0].value is None:
        return "no baseline yet"
    metric, first = night[0].record.metric, night[0].value
    ended = [each for each in night if each.ended and each.id != BASELINE]
    kept = sorted((each for each in ended if each.merged and each.value is not None), key=lambda each: each.merge)
    text = f"{outline.counts(each.status for each in ended)}; {metric.name} {metric.shown(first)}"
    if not kept and any(each.reviewed for each in night):
        return f"{text}: nothing is merged yet, see `harness review`"
    if not kept or kept[-1].value is None:
        return f"{text}: nothing was better than the baseline by more than the noise"
    return f"{text} -> {metric.shown(kept[-1].value)} with {len(kept)} merged"


def tsv(records: list[Record], metric: str) -> str:
    """results.tsv in upstream's columns; the value of what has none is 0, as there."""
    rows = [f"commit\t{metric}\tmemory_gb\tstatus\tdescription"]
    for record in records:
        memory = max((m.peak_memory_mb for m in record.measurements), default=0.0) / 1024
        commit, status = (
            (record.experiment.commit or record.experiment.base)[:7],
            record.verdict.status if record.verdict else "open",
        )
        rows.append(f"{commit}\t{record.metric.rounded(record.value or 0.0):.6f}\t{memory:.1f}\t{status}\t{prompt.title(record)}")
    return "\n".join(rows)


def full(record: Record, text: Callable[[str], str], night: Sequence[Record] = ()) -> str:
    """One experiment with its evidence; `text` reads what lies beside the record, `night` are all records or its siblings."""
    experiment, proposal, verdict = record.experiment, record.proposal, record.verdict
    lines = [f"{experiment.tag}/{record.id}  {prompt.title(record)}", ""]
    lines += [f"verdict   {verdict.status}: {verdict.reason}"] if verdict else [f"state     {record.state}"]
    lines += [f"again     of {record.again_of}, on top of what was merged since"] if record.again_of else []
    lines += record.review.told() if record.review else []
    lines += [f"agent     {experiment.agent} {proposal.agent_version if proposal else ''}".rstrip()]
    lines += [f"asked by  {' '.join(record.wish.by.split())}, {record.wish.kind} {record.wish.number}"] if record.wish else []
    lines += [f"asked for {' '.join((record.nudge.kind, *record.nudge.of))}, being stuck"] if record.nudge else []
    lines += [f"variant   {line}" for line in grid.told(record, night)]
    lines += [f"base      {experiment.base[:10]}   candidate {(experiment.commit or '-')[:10]}   program {record.program[:10]}"]
    lines += [f"times     {record.started} to {record.updated}; proposing took {proposal.seconds if proposal else 0:.1f} s"]
    if used := usage(record):
        tokens = f"{used.input} input, {used.cached} cached, {used.written} cache-written, {used.output} output tokens"
        lines += [f"models    {', '.join(used.models) or 'none'}; {used.requests} requests, {tokens}"]
        lines += [f"cost      {dollars(used.usd)} USD by list price; first request after {used.first_s or 0:.1f} s" + extra(used)]
    lines += [f"sandbox   {record.sandbox}   profile {record.profile}   harness {record.harness}"]
    if proposal and proposal.network == "provider":
        lines += ["network   weaker: the agent held its own login, and reached its provider past the gateway"]
    for each in proposal.tries if proposal else []:
        what, why = (each.verdict.status, each.verdict.reason) if each.verdict else (each.outcome.kind, each.outcome.reason)
        lines += [f"tried     {what}: {why}; {each.seconds:.1f} s, then the agent was asked again"]
    for number, run in enumerate(record.measurements, 1):
        seconds = ", ".join(f"{name} {value:.1f} s" for name, value in run.seconds.items())
        lines += ["", f"run       seed {run.seed}: {run.status} {record.metric.shown(run.value)}   {run.reason}".rstrip()]
        lines += [f"          {seconds}; CPU {run.cpu_s:.1f} s, memory {run.peak_memory_mb:.0f} MB; limits: {run.limits or '-'}"]
        lines += [f"          {', '.join(f'{name} {value:g}' for name, value in run.figures.items())}"] if run.figures else []
        lines += [f"          {line}" for line in evidence(run)]
        curve = [float(line.split("\t")[1]) for line in text(f"curve-{number}.tsv").splitlines()]
        lines += [f"          loss {sparkline(curve)}"] if curve else []
    if proposal:
        lines += ["", proposal.hypothesis or "(no hypothesis was written)"]
        lines += ["", f"dropped   {', '.join(proposal.dropped)}"] if proposal.dropped else []
    for name in ("train", "referee") if record.measurements and record.measurements[-1].status != "ok" else ():
        if log := text(f"{name}-{len(record.measurements)}.log"):
            lines += ["", f"the end of {LOGS[name]}:", log.rstrip()[-2000:]]
    for kind in ("check", "guard"):
        if failed := text(f"{kind}.log"):
            lines += ["", f"the end of the {kind}'s output:", failed.rstrip()[-2000:]]
    return "\n".join(lines)


def extra(used: Usage) -> str:
    """What was unusual about an agent's requests."""
    told = [f"{used.retries} repeated by the gateway"] if used.retries else []
    told += [f"{used.estimated} cut off, their tokens estimated"] if used.estimated else []
    return "".join(f"; {part}" for part in told)


def evidence(run: Measurement) -> list[str]:
    """What a measurement says of its evaluation, its audit and its machine."""
    lines = [", ".join(f"{name} {value:g}" for name, value in run.hidden_figures.items())] if run.hidden_figures else []
    if run.audit:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in run.audit.figures.items())
        lines += [f"{run.audit.summary if run.audit.passed else 'audit failed'}: {figures}"]
    if run.hardware:
        lines += [", ".join(f"{name} {value}" for name, value in run.hardware.items())]
    return lines


def runs(record: Record) -> str:
    """The runs of an experiment, and what they say together."""
    shown = record.metric.shown
    lines = [f"seed {run.seed:<6}{run.status:<9}{shown(run.value):>9}  {run.reason}".rstrip() for run in record.measurements]
    values = record.values
    if len(values) > 1:
        noise = statistics.stdev(values)
        lines += [f"mean of {len(values)} runs {shown(record.value)}, standard deviation of a run {judge.figure(noise)}"]
    return "\n".join(lines)


def measured(run: Measurement, metric: Metric) -> str:
    """One measurement by itself."""
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in run.seconds.items())
    lines = [f"{metric.name} {metric.shown(run.value)}" if run.status == "ok" else f"{run.status}: {run.reason}"]
    lines += [
        f"seed {run.seed}, {seconds}; CPU {run.cpu_s:.1f} s, memory {run.peak_memory_mb:.0f} MB; limits: {run.limits or '-'}"
    ]
    lines += [", ".join(f"{name} {value:g}" for name, value in run.figures.items())] if run.figures else []
    lines += evidence(run)
    lines += [f"loss {sparkline([loss for _, loss in run.curve])}"] if run.curve else []
    for name, log in (("train", run.log_tail), ("referee", run.referee_tail)) if run.status != "ok" else ():
        lines += [f"the end of {LOGS[name]}:", log.rstrip()[-2000:]] if log else []
    return "\n".join(lines)


def sparkline(values: list[float], width: int = 60) -> str:
    """A curve as one line of block characters."""
    picked = [values[i * len(values) // width] for i in range(width)] if len(values) > width else values
    low, high = min(picked), max(picked)
    span = (high - low) or 1.0
    drawn = "".join(BARS[min(7, int((value - low) / span * 8))] for value in picked)
    return f"{drawn} {picked[0]:.3f} -> {picked[-1]:.3f}"


def progress(status: Status) -> list[str]:
    """What is going on, a line for each agent and each run at work."""
    *lines, last = [activity(each) for each in status.activities] or ["between two steps"]
    return [*lines, last + (f", {dollars(status.usd)} USD so far" if status.usd else "")]


def activity(now: Activity) -> str:
    """One agent or one run at work."""
    parts = [f"{now.experiment} {now.agent}: {now.phase}", f"{now.elapsed_s:.0f} s"]
    parts += [f"{now.left_s:.0f} s left"] if now.left_s is not None else []
    parts += [f"loss {now.loss:.4f}"] if now.loss is not None else []
    return ", ".join(parts)
