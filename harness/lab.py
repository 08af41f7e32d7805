"""The folders lab/ and notes/ of a worktree: what an agent may know of the history, as plain files.

As in the prompt, agents see the metric rounded to the task's resolution, and training's own logs; nothing else about a score.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import git, grid, imports
from harness.ledger import BASELINE, Ledger
from harness.misses import near_misses
from harness.models import Record, Task
from harness.patterns import editable_files
from harness.prompt import LISTED, history, notebook, reason, title
from harness.shelf import Shelf
from harness.stacks import Stacks, names

DETAILED = 60  # experiments in folders of their own
KEPT = 20  # and so many of the last kept ones, and of the nearest misses, however old
FILES = 200
LOG_CHARS = 6000
PATCH_CHARS = 20_000
PEOPLE, PEOPLE_CHARS = 10, 1000  # lines of what people said of an experiment, and characters of each


@contextmanager
def shown(folder: Path, shelf: Shelf, task: Task, ledger: Ledger, records: list[Record]) -> Iterator[None]:
    """Make lab/ and notes/ in a worktree; what is known of single experiments comes from the shelf of its worker."""
    lab = folder / "lab"
    for made in (lab, folder / "notes"):
        made.mkdir(exist_ok=True)  # the user's repository may have such a folder
    (folder / "notes" / "NOTEBOOK.md").write_text(notebook(records), "utf-8")
    (lab / "history.tsv").write_text(history(task, records), "utf-8")
    facts = {"metric": task.metric.model_dump(exclude={"noise"}), "profile": task.profile}
    facts |= {"editable": task.editable, "inputs": task.inputs}
    (lab / "task.json").write_text(json.dumps(facts, indent=1) + "\n")
    near = near_misses(records)
    (lab / "near-misses.tsv").write_text(history(task, sorted(near, key=lambda each: each.id)), "utf-8")
    for brought in imports.histories(ledger.repo, ledger.tag):
        _write_imported(lab / "imported" / brought.name, ledger, brought)
    kept = [record for record in records if record.merged]
    told = {each.id: each for each in (*kept[-KEPT:], *near[:KEPT], *records[:1], *records[-DETAILED:])}
    families = grid.families(records)
    pages = {name: _page(task, ledger, record, families.get(name, [])) for name, record in told.items()}
    wanted = {name: (ledger.state(name), page) for name, page in pages.items()}

    def fill(name: str, place: Path) -> None:
        (place / "experiment.md").write_text(pages[name], "utf-8")
        _write_experiment(place, task, ledger, told[name])

    with shelf.lent(lab / "experiments", wanted, fill):
        yield


def _write_imported(folder: Path, ledger: Ledger, brought: imports.History) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.tsv").write_text(imports.table(brought, LISTED), "utf-8")
    for row in [row for row in brought.rows if row.commit][-DETAILED:]:
        (folder / f"{row.number}.patch").write_text(imports.patch(ledger.repo, row)[:PATCH_CHARS], "utf-8")


def said(record: Record) -> list[str]:
    """What people said of an experiment, a line each, bounded. Who they are is nothing to an agent."""
    made = record.review.decisions if record.review else []
    words = {"accept": "a person accepted it", "reject": "a person rejected it", "comment": "a comment on it"}
    return [
        " ".join(f"{words[each.kind]}: {each.reason or 'without a reason'}".split())[:PEOPLE_CHARS] for each in made[-PEOPLE:]
    ]


def _page(task: Task, ledger: Ledger, record: Record, siblings: list[Record]) -> str:
    """experiment.md: what was tried and what became of it, which may change with its siblings and by people's decisions."""
    proposal, verdict = record.proposal, record.verdict
    text = f"{title(record)}\n\n{proposal.hypothesis if proposal else ''}\n\n"
    text += f"verdict: {verdict.status}: {reason(verdict)}\n" if verdict else "verdict: none yet\n"
    if len(siblings) > 1:
        text += f"variants of this idea:\n\n{history(task, siblings)}\n"
    text += "".join(f"{line}\n" for line in said(record))
    if record.status == "waiting" and (gone := Stacks(ledger).rejected(record)):
        text += f"it was built on {names(gone)}, which a person rejected\n"
    return text


def _write_experiment(folder: Path, task: Task, ledger: Ledger, record: Record) -> None:
    if record.measurements:
        last = record.measurements[-1]
        number = len(record.measurements)
        (folder / "train.log").write_text(ledger.text(record, f"train-{number}.log")[-LOG_CHARS:], "utf-8")
        (folder / "curve.tsv").write_text("step\tloss\n" + ledger.text(record, f"curve-{number}.tsv"), "utf-8")
        figures = {**last.figures, "peak_memory_mb": last.peak_memory_mb, **last.notes}
        (folder / "figures.tsv").write_text("".join(f"{name}\t{value}\n" for name, value in figures.items()), "utf-8")
    for name in ("check.log", "guard.log"):
        if failed := ledger.text(record, name):
            (folder / name).write_text(failed, "utf-8")
    if commit := record.experiment.commit:
        if record.id != BASELINE:
            (folder / "diff.patch").write_text(git.diff(ledger.repo, record.experiment.base, commit), "utf-8")
        for name, blob in _measured(task, ledger, record).items():
            if blob is not None:
                (folder / "files" / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / "files" / name).write_bytes(git.read(ledger.repo, blob))


def _measured(task: Task, ledger: Ledger, record: Record) -> dict[str, str | None]:
    """The changed files as they were measured, or all editable ones of the baseline."""
    blobs = git.files(ledger.repo, record.judged) if record.judged else {}
    names = record.proposal.files if record.proposal else editable_files(task.editable, blobs)[:FILES]
    return {name: blobs.get(name) for name in names}
