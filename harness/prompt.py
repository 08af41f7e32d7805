"""program.md + the lab's facts + its history -> the agent's prompt. The folder lab/ beside it is made in lab.py.

Agents see the metric rounded to the task's resolution, and training's own logs in full; nothing else about a score.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from string import Template

from harness import grid, judge, outline
from harness.ledger import BASELINE
from harness.models import Metric, Record, Task, Verdict
from harness.noise import noise as measured_noise
from harness.patterns import VARIANTS, is_glob

TEMPLATE = Path(__file__).with_name("prompt.md")
RECENT, LISTED = 12, 2000  # experiments in the prompt, and as rows of history.tsv
NOTEBOOK_CHARS = 32_000
COLUMNS = ("id", "commit", "metric", "memory_gb", "status", "agent", "title", "variant_of")
SEVERAL = """\
3. Only where one value would say little, or parts have to be tried alone and together: up to {most} variants of your idea,
   beside your change or in its place. Each is a folder with the files that differ from the code of now, as in
   `{folder}/1/{name}`, and an `EXPERIMENT.md` of its own. Each costs runs like any experiment: leave none that teaches nothing.
"""


def render(task: Task, program: str, records: list[Record], incumbent: Record, experiment: str, variants: int = 0) -> str:
    """The prompt for one proposal, which may leave so many `variants`; a placeholder without a value is our bug: a KeyError."""
    metric, baseline = task.metric, next(record for record in records if record.id == BASELINE)
    return Template(TEMPLATE.read_text("utf-8")).substitute(
        program=program.strip(),
        metric=metric.name,
        direction="lower" if metric.direction == "minimize" else "higher",
        incumbent=metric.shown(incumbent.value),
        incumbent_id=incumbent.id,
        baseline=metric.shown(baseline.value),
        bar=bar(metric, measured_noise(records, metric).sigma),
        budget=budget(task),
        propose_s=f"{task.budget.propose_s:g}",
        editable=editable(task),
        check=tests(task),
        inputs="".join(f"- `{path}`: input data, read-only, outside git.\n" for path in task.inputs),
        papers="- `lab/papers/`: what the researcher collected for you to read, read-only.\n" if task.papers else "",
        id=experiment,
        counts=counts(records),
        under_way=under_way(records),
        recent="\n".join(recent(task, records)),
        variants=several(task, variants) if variants else "",
        people=people(records, task.review_base == "winner"),
    )


def tests(task: Task) -> str:
    """What a change has to pass besides the judge, in words."""
    told = f"Check your change with `{shlex.join(task.check)}`: what fails it is not run.\n\n" if task.check else ""
    guards = ", ".join(f"`{shlex.join(guard.run)}`" for guard in task.guards)
    return told + (f"A better change is kept only if these succeed on it, too: {guards}.\n\n" if guards else "")


def bar(metric: Metric, noise: float) -> str:
    """What it takes to be kept, in words."""
    if not noise:
        return "at all"
    sure = f"with a probability above {100 * judge.KEEP:g} %"
    return f"{sure}: one run is off by {metric.shown(noise)} or so, and a close call is run again with other seeds"


def editable(task: Task) -> str:
    """What may be changed in words."""
    names = ", ".join(f"`{name}`" for name in task.editable)
    return names + (" (you may add and delete files that match)" if any(map(is_glob, task.editable)) else "")


def budget(task: Task) -> str:
    """The budget of a run in words."""
    if task.budget.run_tokens:
        return f"{task.budget.run_tokens:,} tokens of data"
    return f"{task.budget.run_s:g} seconds" if task.budget.run_s else "none"


def counts(records: list[Record]) -> str:
    """How many experiments ended how, in words."""
    return outline.counts(record.status for record in records if record.verdict and record.id != BASELINE)


def under_way(records: list[Record]) -> str:
    """What others are trying at this moment, as a line of the prompt; empty where nobody does."""
    found = [record for record in records if not record.verdict and record.id != BASELINE]
    told = [f"{record.id} {title(record)}" if record.proposal else f"{record.id}, which is being written" for record in found]
    return f"- Under way by others, so try something else: {'; '.join(told)}.\n" if told else ""


def history(task: Task, records: list[Record]) -> str:
    """history.tsv: a row for the baseline and each of the last experiments; open ones have the status `open`."""
    rows = ["\t".join(COLUMNS)]
    rows += ["\t".join(row(task, record)) for record in (*records[:1], *records[1:][-LISTED:])]
    return "\n".join(rows) + "\n"


def recent(task: Task, records: list[Record]) -> list[str]:
    """The last experiments, a line each; variants of one idea stand together, where the first of them would."""
    lines, shown = [], set[str]()
    for record in records[-RECENT:]:
        siblings = grid.family(records, record)
        if len(siblings) > 1 and record.id not in shown:
            lines.append(f"- {len(siblings)} variants of one idea:")
        lines += [f"{'  ' * (len(siblings) > 1)}- {line(task, each)}" for each in siblings if each.id not in shown]
        shown |= {each.id for each in siblings}
    return lines


def several(task: Task, most: int) -> str:
    """How an agent leaves variants."""
    single = len(task.editable) == 1 and not is_glob(task.editable[0])
    name = Path(task.editable[0]).name if single else task.editable[0]
    return SEVERAL.format(most=most, folder=VARIANTS, name=name)


def row(task: Task, record: Record) -> tuple[str, ...]:
    """One experiment as the columns of history.tsv."""
    memory = max((m.peak_memory_mb for m in record.measurements), default=0.0) / 1024
    return (
        record.id,
        (record.experiment.commit or "-")[:10],
        task.metric.shown(record.value),
        f"{memory:.2f}",
        record.status,
        record.experiment.agent,
        title(record),
        record.variant.of if record.variant else "-",
    )


def title(record: Record) -> str:
    """The proposal's title on one line."""
    text = record.proposal.title if record.proposal else ("baseline" if record.id == BASELINE else "-")
    return " ".join(text.split())


def notebook(records: list[Record]) -> str:
    """NOTEBOOK.md as the agents wrote it together, its oldest parts cut when it grows too long."""
    parts = [
        f"## {r.id} ({r.experiment.agent})\n\n{r.proposal.notebook}\n" for r in records if r.proposal and r.proposal.notebook
    ]
    return "\n".join(parts)[-NOTEBOOK_CHARS:]


def people(records: list[Record], stacked: bool) -> str:
    """What the words of review mean, where there are any."""
    where = "your worktree begins from the newest of them" if stacked else "so it is not in your worktree"
    meanings = {
        "waiting": f"kept, and no person has looked at it yet, {where}",
        "rejected": "kept by the harness, but a person did not want it merged; `experiment.md` has the reason",
        "accepted": "by a person, and measured again under a number of its own, together with what was merged since",
    }
    present = {record.status for record in records}
    found = [f"`{word}`: {meaning}." for word, meaning in meanings.items() if word in present]
    return "- In the history, " + " ".join(found) + "\n" if found else ""


def line(task: Task, record: Record) -> str:
    """An experiment as a list of the prompt names it."""
    return f"{record.id} {record.status} {task.metric.shown(record.value)} {title(record)}"


def reason(verdict: Verdict) -> str:
    """A reason as an agent may read it: bounded, on one line. What broke outside may have come across a score."""
    return "something outside the experiment failed" if verdict.status == "void" else " ".join(verdict.reason.split())[:400]
