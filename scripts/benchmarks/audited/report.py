"""The figures of the audit's benchmark as a page."""

from __future__ import annotations

import statistics
from typing import Any

from nanochat_train import audit

PAGE = """\
# The causality audit

`scripts/bench audit --audits {audits} --models {models} --tokens {tokens}` on {date}: {machine}.

Profile cpu: {rows} rows of {seq_len} tokens, {cuts} cuts an audit ({uniform} uniform, {adaptive} adaptive). Losses and d in nats
a token, scores in bits per byte. d is the loss of a fresh process that never saw what stands behind a cut, minus the one that
is audited. Rejected is what has any |d| above {tolerance} nat, or a mean over the uniform cuts of more than {mean} nat and three
standard errors.

## Honest variants: {rejected} of {total} audits rejected

Models: {models}, trained on {tokens} tokens each. Fresh cuts, batches and weights for each audit, in one process without a
sandbox; and once by real processes, as in a measurement.

| variant | audits | rejected | largest d, median | 90 % | most | real: score | real: largest d |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{honest}

## Cheats: each by real processes

Certified: the claimed score plus the mean of d over the uniform cuts, that is what the second process bears out.
The honest score of the same weights is {true:.4f}.

| cheat | claimed | certified | largest d | verdict |
| --- | ---: | ---: | ---: | --- |
{cheats}

## Cost

Seconds by real processes, medians of {runs} runs on a machine that did other work beside it: scoring {evaluate:.1f}, audit
{audit:.1f} ({share:.0f} % on top). The second process is started beside the first and waits, with nothing of the candidate's in
it. The gpu profile takes 4096 cuts of 10,240 rows and was not measured: there was no GPU.

## What it does not see

- A look ahead so weak that no prediction moves by more than {tolerance} nat and the mean stays below three standard errors: at
  most 0.004 nat a token with {uniform} uniform cuts (0.002 bits per byte, an eighth of the noise of a run), and {mean} nat with
  the 2731 of the gpu profile (0.00015 bits per byte, below the resolution).
- Few large looks ahead that neither kind of cut meets: each adaptive cut is drawn by lot or because the gain there is among
  the largest, so what is likely to be missed is worth less than the noise.
- What the first process tells the second by traces outside every sandbox, such as which files the machine has cached. Files,
  sockets, keys and shared memory are closed to it; this is not.
- Knowledge of the held-out text inside train.py itself, which is not a look ahead.
"""


def page(found: dict[str, Any]) -> str:
    """The figures for people."""
    plan, honest, cheats = audit.PLANS["cpu"], [], []
    for name, each in found["honest"].items():
        d, real = each["largest"], each["real"]
        shown = [f"{value:.5f}" for value in (statistics.median(d), statistics.quantiles(d, n=10)[-1], max(d))]
        once = ["-", "-"] if real["claimed"] is None else [f"{real['claimed']:.4f}", f"{real['largest']:.5f}"]
        honest.append(f"| {' | '.join([name, str(len(d)), str(each['rejected']), *shown, *once])} |")
    for name, each in found["cheats"].items():
        figures = [f"{each[key]:.4f}" if each[key] is not None else "-" for key in ("claimed", "certified", "largest")]
        cheats.append(f"| {' | '.join([name, *figures, each['verdict'].split(':')[0]])} |")
    medians = {name: statistics.median(each[name] for each in found["seconds"]) for name in ("evaluate", "audit")}
    return PAGE.format_map(
        {
            **found,
            **medians,
            **{"honest": "\n".join(honest), "cheats": "\n".join(cheats), "runs": len(found["seconds"])},
            **{"cuts": plan.uniform + plan.adaptive, "uniform": plan.uniform, "adaptive": plan.adaptive},
            **{"tolerance": audit.TOLERANCE, "mean": audit.MEAN, "share": 100 * medians["audit"] / medians["evaluate"]},
            "rejected": sum(each["rejected"] for each in found["honest"].values()),
            "total": sum(len(each["largest"]) + (each["real"]["claimed"] is not None) for each in found["honest"].values()),
        }
    )
