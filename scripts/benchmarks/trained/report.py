"""The page of the benchmark of train.py."""

from __future__ import annotations

import math
import statistics
from typing import Any

PAGE = """\
# The baseline

What `nanochat_train/train.py` is worth before any agent has touched it, in validation bits per byte (lower is better), on the
cpu profile's data: half of its training documents to train on, the other half to score. *Contiguous*: documents cut wherever a
row of 128 tokens ends, as the cpu profile scores. *Packed*: upstream's best fit, in which every row begins with a document; at
this length it shows little but their heads.

Deltas are paired by seed; the standard error is theirs.
{ideas}{upstream}{gpu}"""
IDEAS = """
## Each idea

`scripts/bench train --tokens {budget}` on {date}: {machine}.
A delta above zero is what would be lost by leaving an idea out, or by putting one more in. An idea stays where it pays here, or
costs nothing here and paid on a GPU elsewhere (NorMuon, the softcap); another comes in only if it pays here.

| train.py | seeds | contiguous | delta | packed | delta | CPU seconds |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
{rows}

The seeds of `best` have a standard deviation of {noise:.4f}. CPU seconds are of a busy machine: compare them roughly.
"""
UPSTREAM = """
## Beside upstream

`scripts/bench train --upstream DIR` on {date}: {machine}.
karpathy/autoresearch at 228791f, moved to a CPU as `scripts/benchmarks/trained/upstream.py` says: SDPA, its own learning rates,
the same rows, {budget:g} CPU seconds a run, nothing compiled on either side. Deltas are to upstream's better batch size.

| train.py | seeds | parameters | tokens | contiguous | delta | packed | delta |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{rows}

`best, no bigrams` and `plain` have the number of parameters of upstream's; the table of bigrams adds parameters and hardly any
computation. Tokens in a CPU second vary with what else the machine's processor does; the files took turns, seed by seed.
"""

GPU = """
## Beside upstream, on a GPU

`scripts/bench train --upstream DIR --gpu` on {date}: {machine}.
Each file in its own size and compiled, upstream with FlexAttention in place of the kernel that it downloads; {budget:g} seconds
a run.
Total: seconds from the first import of the file to its saved state, compilation included. MFU: six operations for each token and
each parameter of a matrix that it is multiplied with, attention's own products left out, of what the GPU can do in bfloat16.

| train.py | seeds | parameters | tokens | contiguous | delta | packed | delta | total | tokens/s | MFU |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{rows}
"""
NO_GPU = """
## On a GPU

Not measured: none was at hand. `scripts/bench train --upstream DIR --gpu --seconds 90 --seeds 2` does it where there is one.
"""


PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "4090": 165e12}
"""Dense bfloat16 operations per second, by NVIDIA's data sheets; the H100's is that of the SXM module."""


def page(found: dict[str, Any]) -> str:
    """The figures for people."""
    gpu = _upstream(found.get("gpu"), GPU) or NO_GPU
    return PAGE.format(ideas=_ideas(found.get("ideas")), upstream=_upstream(found.get("upstream"), UPSTREAM), gpu=gpu)


def delta(runs: list[dict[str, Any]], base: list[dict[str, Any]], key: str) -> str:
    """The mean difference to the same seeds of another file, with its standard error."""
    known = {run["seed"]: run[key] for run in base}
    differences = [run[key] - known[run["seed"]] for run in runs if run["seed"] in known]
    if not differences or runs is base:
        return ""
    error = f" ± {statistics.stdev(differences) / math.sqrt(len(differences)):.4f}" if len(differences) > 1 else ""
    return f"{statistics.mean(differences):+.4f}{error}"


def mean(runs: list[dict[str, Any]], key: str) -> float:
    """Over all seeds."""
    return statistics.mean(run[key] for run in runs)


def _ideas(part: dict[str, Any] | None) -> str:
    if not part or not part["runs"].get("best"):
        return ""
    base, lines = part["runs"]["best"], []
    for name, runs in part["runs"].items():
        bits = [f"{mean(runs, key):.4f} | {delta(runs, base, key)}" for key in ("contiguous", "packed")]
        lines.append(f"| {name} | {len(runs)} | {' | '.join(bits)} | {mean(runs, 'seconds'):.1f} |")
    values = [run["contiguous"] for run in base]
    noise = statistics.stdev(values) if len(values) > 1 else math.nan
    return IDEAS.format(**part, noise=noise, rows="\n".join(lines))


def _upstream(part: dict[str, Any] | None, form: str) -> str:
    if not part or not part["runs"]:
        return ""
    theirs = [runs for name, runs in part["runs"].items() if name.startswith("upstream")] or list(part["runs"].values())
    lines, base = [], min(theirs, key=lambda runs: mean(runs, "contiguous"))
    for name, runs in part["runs"].items():
        counts = f"{len(runs)} | {mean(runs, 'parameters'):,.0f} | {mean(runs, 'tokens'):,.0f}"
        bits = " | ".join(f"{mean(runs, key):.4f} | {delta(runs, base, key)}" for key in ("contiguous", "packed"))
        lines.append(f"| {name} | {counts} | {bits} |" + (_speed(runs, part["machine"]) if form is GPU else ""))
    return form.format(**part, rows="\n".join(lines))


def _speed(runs: list[dict[str, Any]], machine: str) -> str:
    """What a GPU did: the total, tokens a second of the budget, and their share of what the GPU can do where that is known."""
    pace = mean(runs, "tokens") / mean(runs, "seconds")
    peak = next((each for name, each in PEAK.items() if name in machine), None)
    share = f"{6 * mean(runs, 'matrices') * pace / peak:.1%}" if peak else "-"
    return f" {mean(runs, 'total_s'):.0f} | {pace:,.0f} | {share} |"
