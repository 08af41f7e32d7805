"""The command that asks of each merge whether it is still needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness import git, judge, view
from harness.ablation import Left
from harness.ablation import ablate as work_on
from harness.cli.nights import at_work, remembered
from harness.cli.options import JsonOption, TagOption, emit, latest
from harness.models import Metric


def ablate(
    tag: TagOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Take back what is not needed any more, as merges of their own.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Which merges of the lab branch still help: its tip is measured without each of them, where that applies cleanly.

    Interrupted, it continues where it was; what was measured at this tip is not measured again.
    """
    repo = git.open_repo(Path.cwd())
    name = latest(repo, tag)
    again = f"harness ablate --tag {name}" + (" --keep" if keep else "")
    with at_work(repo, remembered(repo, name).model_copy(update={"agents": []}), again) as (night, _):
        found = night.conduct(work_on(night, keep))
        if as_json:
            emit([each.model_dump() for each in found])
        else:
            typer.echo(table(found, night.task.metric) or f"nothing was merged into autoresearch/{name} yet")


def table(found: list[Left], metric: Metric) -> str:
    """A line for each merge: what it is worth now, over how many runs, and how much code it is."""
    lines = [f"{'merge':<7}{'worth':>20}{'runs':>6}{'tokens':>8}  what follows"]
    for each in found:
        worth = "" if each.worth is None else judge.figure(each.worth, "+") if each.worth else "0"
        worth += f" +- {judge.figure(each.worth_sd)}" if each.worth_sd else ""
        lines.append(f"{each.id:<7}{worth:>20}{each.runs or '':>6}{each.tokens or '':>8}  {each.says}")
        lines.append(view.cut(f"       {each.title}"))
    return "\n".join([*lines, "", f"worth: what {metric.name} would lose without it, by all runs"]) if found else ""
