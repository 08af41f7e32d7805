"""A night as one screen of text: lines that are never wider, and never more, than they may be. Pure; cli/watch.py draws it.

Whatever agents and candidates wrote is shown as the characters that it is made of: nothing in it is a command to a terminal or
markup, and nothing takes more room than it seems to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from rich.text import Text

from harness import judge, view
from harness.cells import bar, clock, fit, in_ascii, plain, rule, sides
from harness.live import Closed, Live, Work
from harness.panels import panels
from harness.summary import duration

COLOURS = {"keep": "green", "discard": "dim", "crash": "red", "invalid": "magenta", "void": "blue", "waiting": "yellow"}
TALL, ROOMY = 20, 15  # lines from which experiments have two each, and from which the header has all of its own
LEAST_PLOT, MOST_PLOT = 6, 22
LEAST_BAR, MOST_BAR = 6, 44
LEAST_TITLE = 9
WIDE = 140  # columns from which a verdict has its reason beside it


def frame(live: Live, width: int, height: int, foot: str = "", ascii_only: bool = False) -> list[Text]:
    """At most `height` lines of at most `width` cells; with `foot` the last one says that and what time it is."""
    head = _header(live, width)[: 2 if height < ROOMY else 9]
    end = [sides(Text(foot, "dim"), Text(f"{datetime.now():%H:%M:%S}", "dim"), width)] if foot else []
    room = max(0, height - len(head) - len(end))
    works = _works(live, width, height >= TALL, max(1, room // 2)) if live.running else []
    room -= len(works)
    verdicts = live.history.latest
    wanted = min(len(verdicts) * (1 if width >= WIDE else 2), max(4, 2 * room // 5)) + 1 if verdicts else 0
    tall = min(MOST_PLOT, room - wanted)
    pictures = panels(live, width, tall, ascii_only) if tall >= LEAST_PLOT else []
    room -= len(pictures)
    told = _verdicts(verdicts, width, room) if verdicts and room > 1 else []
    gap = [Text()] * (room - len(told)) if foot else []
    lines = [fit(line, width) for line in (*head, *works, *pictures, *told, *gap, *end)][:height]
    return [in_ascii(line) for line in lines] if ascii_only else lines


def _header(live: Live, width: int) -> list[Text]:
    """What is watched and how it stands, the most important first."""
    known, shown = live.history, live.history.metric.shown
    name = Text.assemble((plain(live.tag), "bold"), (f"  {plain(known.task)}, profile {plain(known.profile)}", "dim"))
    lines = [sides(name, _state(live), width)]
    value = Text(f"{plain(known.metric.name)} {shown(known.baseline) if known.baseline is not None else 'is not measured yet'}")
    if known.baseline is not None and known.best.value is not None and known.kept:
        gain = known.metric.gain(known.baseline, known.best.value)
        value.append(" → ").append(shown(known.best.value), "bold green").append(f"  better by {judge.figure(gain)}", "green")
        value.append(f"  {known.best.id} {plain(known.best.title)}", "dim")
    lines += [Text(f"stopped: {plain(live.reason)}", "yellow")] if live.reason else []
    lines += (
        [Text(f"it could not say why; `harness resume --tag {live.tag}` goes on", "yellow")] if live.state == "killed" else []
    )
    lines += [value]
    counts = Text("  ").join(Text(f"{count} {status}", COLOURS.get(status, "")) for status, count in known.counts.items())
    lines += [counts if known.counts else Text("no verdict yet", "dim")]
    return [*lines, _progress(live, width), Text()]


def _state(live: Live) -> Text:
    when = datetime.fromisoformat(live.since).astimezone() if live.since else None
    if live.state == "running":
        since = f" for {duration((datetime.now().astimezone() - when).total_seconds())}" if when else ""
        return Text(f"● at work{since}", "green")
    if live.state == "killed" and when:
        return Text(f"● killed {when:%b %d %H:%M:%S}", "bold red")
    return Text(f"● ended {when:%b %d %H:%M}" if when else "● not running", "yellow")


def _progress(live: Live, width: int) -> Text:
    """How much of the night is over, and what is left of time and money."""
    stop, done = live.stop, live.history.done
    told = [f"{done} of {stop.experiments}" if stop else f"{done} experiments"]
    if live.running:
        told += [f"about {duration(live.eta_s)} left"] if live.eta_s is not None else []
        told += [f"ends in {duration(live.left_s)}"] if live.left_s is not None else []
    if live.usd is not None:
        told += [f"{view.dollars(live.usd)}{f' of {stop.cost_usd:g}' if stop and stop.cost_usd else ''} USD"]
    words = Text("  " + " · ".join(told))
    share = min(1.0, done / stop.experiments) if stop and stop.experiments else None
    room = min(MOST_BAR, width - words.cell_len)
    return bar(share, room, "green").append_text(words) if share is not None and room >= LEAST_BAR else Text(words.plain.strip())


def _works(live: Live, width: int, double: bool, most: int) -> list[Text]:
    """The experiments under way, in one line or two each, runs first; and the run slots that are free."""
    free = live.slots - sum(work.run for work in live.now)
    end = [Text(f"  {judge.count(free, 'run slot')} free", "dim")] if free > 0 else []
    double = double and 2 * len(live.now) + len(end) <= most
    shown = live.now[: max(1, (most - len(end)) // (2 if double else 1))]
    names = max((Text(plain(work.phase)).cell_len for work in shown if work.share is not None), default=0)
    lines = [line for work in shown for line in (_doubly(work, width, names) if double else [_singly(work, width)])]
    more = len(live.now) - len(shown)
    return [*lines, *([Text(f"  and {more} more", "dim")] if more else end)][: max(1, most)]


def _doubly(work: Work, width: int, names: int) -> list[Text]:
    who = Text.assemble(_mark(work), (plain(work.experiment), "bold"), f" {plain(work.agent)}  ", plain(work.title))
    return [who, Text("  ").append_text(_course(work, width - 2, names if work.share is not None and width >= WIDE // 2 else 0))]


def _singly(work: Work, width: int) -> Text:
    line = Text.assemble(_mark(work), (plain(work.experiment), "bold"), " ")
    line.append_text(_course(work, min(width - line.cell_len, 48)))
    return line.append(f"  {plain(work.title or work.agent)}", "dim") if width - line.cell_len > LEAST_TITLE else line


def _mark(work: Work) -> tuple[str, str]:
    return ("● ", "green") if work.run else ("○ ", "yellow" if work.elapsed_s else "dim")


def _course(work: Work, width: int, names: int = 0) -> Text:
    """The phase of an experiment, a bar of its time, what is left of that, the loss: as much of it as there is room for."""
    phase = Text(plain(work.phase), "cyan" if work.run else "")
    phase.append(" " * (names - phase.cell_len))
    facts = [clock(work.elapsed_s)] if work.elapsed_s and work.limited else []
    if work.left_s is not None:
        facts += [f"at most {clock(work.left_s)} more" if work.limited else f"{clock(work.left_s)} left"]
    facts += [f"loss {work.loss:.4g}"] if work.loss is not None and math.isfinite(work.loss) else []
    least = LEAST_BAR + 2 if work.share is not None else 0
    while facts and phase.cell_len + least + sum(2 + len(each) for each in facts) > width:
        facts.pop()
    words = "".join(f"  {each}" for each in facts)
    room = min(MOST_BAR, width - phase.cell_len - len(words) - 2)
    if work.share is not None and room >= LEAST_BAR:
        phase.append("  ").append_text(bar(work.share, room, "cyan" if work.run else "yellow"))
    return phase.append(words)


def _verdicts(latest: Sequence[Closed], width: int, room: int) -> list[Text]:
    """The last verdicts, as many as there is room for, with their reasons where that is."""
    beside = width >= WIDE
    each = 1 if beside or room - 1 < 2 * min(2, len(latest)) else 2
    shown = latest[: (room - 1) // each]
    values = max((len(closed.shown) for closed in shown), default=0)
    gains = max((len(closed.believed) for closed in shown), default=0)
    lines = [rule(Text("last verdicts"), width)]
    for closed in shown:
        line = Text.assemble((f"{closed.id} ", "bold"), (f"{closed.status:<8}", COLOURS.get(closed.status, "")))
        line.append(f" {closed.shown:>{values}}  ")
        if width >= 56:
            line.append(f"{closed.believed:>{gains}}  ")
        if width >= 72:
            line.append(f"{plain(closed.agent):<9.9} ", "dim")
        line.append(plain(closed.title))
        if beside:
            line.truncate(width // 2, pad=True)
            lines += [line.append(f"  {plain(closed.reason)}", "dim")]
        else:
            lines += [line, Text(f"     {plain(closed.reason)}", "dim")][:each]
    return lines
