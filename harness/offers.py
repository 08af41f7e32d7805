"""A record that waits -> what a forge shows of it. What candidates wrote is data there: quoted, bounded, mentioning nobody."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness import grid, judge
from harness.messages import powerless
from harness.models import Record
from harness.proposal import printable
from harness.protocols import Offer

TITLE, TEXT, CELL = 120, 6000, 300  # characters
CHOICE = (
    "Merging accepts it and closing rejects it; the next `harness sync` takes that over. If the lab branch went on meanwhile, "
    "what was merged is measured again first, and the lab does not take it when its gain is gone."
)
JOINER = "\u2060"  # a word joiner, which nobody sees: it parts a sign from its name


@dataclass(frozen=True)
class Around:
    """What is shown beside an experiment's own record. `remote` is the forge's name in this repository, `task` its folder.

    `standing` says where it stands among others, `siblings` and `picture` (chart.py) are lines: all three Markdown of ours.
    """

    remote: str
    into: str
    task: str = ""
    standing: str = ""
    siblings: Sequence[str] = ()
    picture: Sequence[str] = ()
    notes: tuple[str, ...] = ()


def offer(record: Record, around: Around) -> Offer:
    """What people see of an experiment: the commit that was judged, the idea, the evidence, and what they can do."""
    experiment, verdict, proposal = record.experiment, record.verdict, record.proposal
    assert experiment.branch is not None
    assert record.judged is not None
    assert verdict is not None
    assert proposal is not None
    label = "simplify" if verdict.simpler else verdict.status
    parts = [
        f"<!-- harness experiment {experiment.tag}/{record.id} {record.judged} -->",
        f"**{label}**: {quoted(verdict.reason, 2 * CELL)}",
        *(["", around.standing] if around.standing else []),
        "",
        fenced(unlinked(printable(f"{proposal.title}\n\n{proposal.hypothesis}".strip())[:TEXT])),
        "",
        *evidence(record),
        *(["", *around.siblings] if around.siblings else []),
        *(["", *around.picture] if around.picture else []),
        "",
        "To measure it yourself, in your clone:",
        "",
        fenced(printable(reproduce(record, around)), "sh"),
        *(["", CHOICE] if record.status in ("waiting", "keep") else []),
    ]
    news = "\n".join([around.standing, *around.siblings])
    title, text = headline(record), "\n".join(parts)
    return Offer(record.id, experiment.branch, record.judged, around.into, title, text, f"harness: {label}", news, around.notes)


def siblings(record: Record, records: Iterable[Record]) -> list[str]:
    """The variants of one proposal as a table, a row each, and how many are still to be tried; empty where there is only one."""
    if record.variant is None:
        return []
    family = sorted(grid.family(records, record), key=lambda each: each.variant.n if each.variant else 0)
    rows = []
    for each in family:
        name = f"**{each.id}, this one**" if each.id == record.id else f"{each.id} {quoted(plain(each), CELL // 3)}"
        rows.append(f"| {name} | {fate(each)} | {each.metric.shown(each.value) if each.values else ''} |")
    left = record.variant.k - len(family)
    rows += [f"| {left} more | to be tried | |"] if left else []
    return [f"| variants of this idea | verdict | {quoted(record.metric.name)} |", "| --- | --- | --- |", *rows]


def fate(record: Record) -> str:
    """What became of a sibling, in a few words."""
    again = record.review.again if record.review else None
    words = {"open": "under way", "waiting": "keep, waits", "keep": "keep, merged", "rejected": "keep, rejected by a person"}
    return f"keep, measured again as {again}" if record.status == "accepted" else words.get(record.status, record.status)


def plain(record: Record) -> str:
    """The title on one line."""
    return " ".join(printable(record.proposal.title if record.proposal else record.id).split())


def headline(record: Record) -> str:
    """The title on one line, without anything that a forge would make a link or a mention of."""
    return f"{record.experiment.tag}/{record.id}: {unlinked(plain(record))[:TITLE]}"


def evidence(record: Record) -> list[str]:
    """The table of evidence, a row for each fact."""
    metric, verdict = record.metric, record.verdict
    assert verdict is not None
    used = max((run.peak_memory_mb for run in record.measurements), default=0.0)
    audits = [run.audit.summary for run in record.measurements if run.audit]
    seeds = [str(run.seed) for run in record.runs]
    believed = "" if verdict.gain is None else judge.figure(verdict.gain, "+")
    facts = {
        metric.name: metric.shown(record.value),
        "believed gain": believed + (f" ± {judge.figure(verdict.gain_sd)}" if verdict.gain_sd else ""),
        "probability that it is real": "" if verdict.probability is None else judge.chance(verdict.probability),
        "runs": f"{len(record.values)}, seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}",
        "audit": audits[-1] if audits else "",
        "memory": f"{used:.0f} MB" if used else "",
        "code": f"{record.proposal.added:+d} tokens" if record.proposal else "",
        **origin(record),
        "profile, sandbox": f"{record.profile}, {record.sandbox}",
    }
    rows = [f"| {quoted(name)} | {quoted(value)} |" for name, value in facts.items() if value]
    return ["| evidence | |", "| --- | --- |", *rows]


def origin(record: Record) -> dict[str, str]:
    """Who made the change, and whose idea it was; people by their names, without their addresses."""
    agent = f"{record.experiment.agent} {record.proposal.agent_version if record.proposal else ''}".strip()
    by = record.wish.by.partition(" <")[0] if record.wish else ""
    if record.submitted:
        return {"submitted by": by}
    return {"agent": agent, "idea": f"{record.wish.text} ({by})"} if record.wish else {"agent": agent}


def reproduce(record: Record, around: Around) -> str:
    """One command that measures the experiment's commit."""
    words = ["harness", "measure", "FETCH_HEAD"] + (["--task", around.task] if around.task else [])
    words += ["--profile", record.profile] if record.profile != "default" else []
    seed = record.runs[0].seed if record.runs else 1
    return f"git fetch {shlex.quote(around.remote)} {record.experiment.branch} && {shlex.join(words)} --seed {seed}"


def fenced(text: str, language: str = "text") -> str:
    """Text as a block in which a forge sees no markup; its fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def quoted(text: str, most: int = CELL) -> str:
    """Text on one line in which every sign of markup stands for itself, and no name is one."""
    line = " ".join(printable(text).split())[:most]
    return unlinked(re.sub(r"([\\`*_{}\[\]<>()#!|~$^&])", r"\\\1", line)).replace("://", f":{JOINER}//")


def unlinked(text: str) -> str:
    """Text in which `@user`, `#12` and `GH-12` are no references, as it looks to people."""
    return powerless(text, JOINER)
