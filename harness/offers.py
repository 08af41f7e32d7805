"""A record that waits -> what a forge shows of it. What candidates wrote is data there: quoted, bounded, mentioning nobody."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from harness import judge
from harness.messages import powerless
from harness.models import Record
from harness.proposal import printable
from harness.protocols import Offer

TITLE, TEXT, CELL = 120, 6000, 300  # characters
JOINER = "\u2060"  # a word joiner, which nobody sees: it parts a sign from its name


def offer(record: Record, remote: str, into: str, mark: str = "", picture: Sequence[str] = ()) -> Offer:
    """What people see of an experiment. `remote` is the forge's name in this repository, `mark` says what it was built on.

    `picture` is Markdown of ours (chart.py).
    """
    experiment, verdict, proposal = record.experiment, record.verdict, record.proposal
    assert experiment.branch is not None
    assert experiment.commit is not None
    assert verdict is not None
    assert proposal is not None
    label = "simplify" if verdict.simpler else verdict.status
    parts = [
        f"<!-- harness experiment {experiment.tag}/{record.id} {experiment.commit} -->",
        f"**{label}**: {quoted(verdict.reason, 2 * CELL)}",
        *(["", f"**{mark}**"] if mark else []),
        "",
        fenced(f"{proposal.title}\n\n{proposal.hypothesis}".strip()),
        "",
        *evidence(record),
        *(["", *picture] if picture else []),
        "",
        "To measure it yourself, from your clone:",
        "",
        fenced(reproduce(record, remote), "sh"),
        "",
        "Merging accepts it at the next `harness sync`, closing rejects it. What is merged after the lab branch went on is "
        "measured again as merged, before the lab takes it.",
    ]
    return Offer(record.id, experiment.branch, experiment.commit, into, headline(record), "\n".join(parts), f"harness: {label}")


def headline(record: Record) -> str:
    """The title on one line, without anything that a forge would make a link or a mention of."""
    title = record.proposal.title if record.proposal else record.id
    return f"{record.experiment.tag}/{record.id}: {unlinked(' '.join(printable(title).split()))[:TITLE]}"


def evidence(record: Record) -> list[str]:
    """The table of evidence, a row for each fact."""
    metric, verdict = record.metric, record.verdict
    assert verdict is not None
    used = max((run.peak_memory_mb for run in record.measurements), default=0.0)
    audits = [run.audit.summary for run in record.measurements if run.audit]
    believed = "" if verdict.gain is None else judge.figure(verdict.gain, "+")
    facts = {
        metric.name: metric.shown(record.value),
        "believed gain": believed + (f" ± {judge.figure(verdict.gain_sd)}" if verdict.gain_sd else ""),
        "probability that it is real": "" if verdict.probability is None else judge.chance(verdict.probability),
        "runs": f"{len(record.values)}, seeds {', '.join(str(run.seed) for run in record.measurements)}",
        "audit": audits[-1] if audits else "",
        "memory": f"{used:.0f} MB" if used else "",
        "code": f"{record.proposal.added:+d} tokens" if record.proposal else "",
        "agent": f"{record.experiment.agent} {record.proposal.agent_version if record.proposal else ''}".strip(),
        "profile, sandbox": f"{record.profile}, {record.sandbox}",
    }
    rows = [f"| {quoted(name)} | {quoted(value)} |" for name, value in facts.items() if value]
    return ["| evidence | |", "| --- | --- |", *rows]


def reproduce(record: Record, remote: str) -> str:
    """One command that measures the experiment's commit."""
    words = ["harness", "measure", "FETCH_HEAD"] + (["--profile", record.profile] if record.profile != "default" else [])
    seed = record.measurements[0].seed if record.measurements else 1
    return f"git fetch {shlex.quote(remote)} {record.experiment.branch} && {shlex.join(words)} --seed {seed}"


def fenced(text: str, language: str = "text") -> str:
    """Text as a block in which a forge sees neither markup nor names; its fence is longer than any in the text."""
    plain = printable(text)[:TEXT]
    longest = max((len(run) for run in re.findall(r"`+", plain)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{plain}\n{fence}"


def quoted(text: str, most: int = CELL) -> str:
    """Text on one line in which every sign of markup stands for itself, and no name is one."""
    line = " ".join(printable(text).split())[:most]
    return unlinked(re.sub(r"([\\`*_{}\[\]<>()#!|~$^&])", r"\\\1", line)).replace("://", f":{JOINER}//")


def unlinked(text: str) -> str:
    """Text in which `@user`, `#12` and `GH-12` are no references, as it looks to people."""
    return powerless(text, JOINER)
