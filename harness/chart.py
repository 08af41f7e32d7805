"""A picture of the evidence as text: a chart of Mermaid's, which forges draw themselves in the body of a pull request.

So there is no file to host, and a private repository shows it as well. The syntax is that of `xychart-beta`
(https://mermaid.js.org/syntax/xyChart), which has no legend: the words above the chart say what is what. Nothing that a candidate
wrote is in it but numbers, bounded in number and size.
"""

from __future__ import annotations

import math
import re

from harness.ledger import Ledger
from harness.merges import merges
from harness.models import Record
from harness.stacks import Stacks, names

POINTS = 40  # of a curve
INCUMBENTS = 12  # of a row of them
LATE = 0.25  # the share of a run after which a curve is shown: what comes before would make the rest flat
MOST = 1e9
COLOURS = "#0969da, #cf7a00"  # readable on white and on black
NAMES = ("blue", "orange")


def picture(ledger: Ledger, record: Record) -> list[str]:
    """Lines of Markdown: the training loss of a candidate and of what it had to beat, or else the metric so far; maybe none."""
    incumbent = ledger.incumbent(record.ground)
    curves = [resampled(ledger.text(each, "curve-1.tsv")) for each in (record, incumbent)]
    if all(curves):
        words = f"Training loss: {NAMES[0]} {record.id}, {NAMES[1]} {incumbent.id}, which it had to beat."
        return [words, "", *chart('"share of the run, %"', 100 * LATE, 100, "loss", curves)]
    under = Stacks(ledger).below(record)
    line = [ledger.get("0000"), *(each for _, each in reversed(merges(ledger, ledger.tip()))), *under]
    shown = [each for each in ({each.id: each for each in (*line, incumbent, record)}).values() if each.value is not None]
    values = [fit(each.metric.rounded(each.value or 0.0)) for each in shown][-INCUMBENTS:]
    if len(values) < 2:
        return []
    axis = "[" + ", ".join(f'"{each.id}"' for each in shown[-INCUMBENTS:]) + "]"
    built = f", of {names(under)}, which it was built on," if under else ""
    words = f"{label(record.metric.name)} of what was merged so far{built} and, last, of {record.id}."
    return [words, "", *chart(axis, None, None, label(record.metric.name), [values])]


def chart(axis: str, low: float | None, high: float | None, name: str, lines: list[list[float]]) -> list[str]:
    """The block, its values all finite; `axis` is its x-axis, from `low` to `high` where that is numbers."""
    every = [value for line in lines for value in line]
    margin = 0.05 * (max(every) - min(every)) or 0.05 * abs(max(every)) or 1.0
    span = "" if low is None or high is None else f" {low:g} --> {high:g}"
    return [
        "```mermaid",
        f'%%{{init: {{"themeVariables": {{"xyChart": {{"plotColorPalette": "{COLOURS}"}}}}}}}}%%',
        "xychart-beta",
        f"  x-axis {axis}{span}",
        f'  y-axis "{name}" {number(min(every) - margin)} --> {number(max(every) + margin)}',
        *(f"  line [{', '.join(number(value) for value in line)}]" for line in lines),
        "```",
    ]


def resampled(curve: str) -> list[float]:
    """The losses of a `step<TAB>loss` curve at POINTS moments of the later part of the run; empty where it has too few."""
    rows = [line.split("\t") for line in curve.splitlines()]
    found = [(float(step), fit(float(loss))) for step, loss in rows if math.isfinite(float(loss))]
    if len(found) < 4:
        return []
    first, last, out, at = found[0][0], found[-1][0], list[float](), 0
    for index in range(POINTS):
        step = first + (last - first) * (LATE + (1 - LATE) * index / (POINTS - 1))
        while at + 2 < len(found) and found[at + 1][0] < step:
            at += 1
        (one, before), (other, after) = found[at], found[at + 1]
        share = min(1.0, max(0.0, (step - one) / (other - one))) if other > one else 1.0
        out.append(before + share * (after - before))
    return out


def fit(value: float) -> float:
    """A number that a chart can bear."""
    return max(-MOST, min(MOST, value))


def number(value: float) -> str:
    """Six digits without an exponent, which the grammar does not know."""
    digits = 6 if not value else min(15, max(0, 5 - math.floor(math.log10(abs(value)))))
    return f"{value:.{digits}f}"


def label(name: str) -> str:
    """A name that cannot end the text it stands in, nor the line."""
    return re.sub(r"[^\w .%/-]", " ", name)[:40].strip() or "metric"
