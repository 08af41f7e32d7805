"""Options that several commands share, and what they mean when they are left out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from harness import config, git, locks, refs
from harness.models import UserError
from harness.spec import clock


def complete_tag(incomplete: str) -> list[str]:
    """Tags for shell completion."""
    return [tag for tag in known_tags(git.open_repo(Path.cwd())) if tag.startswith(incomplete)]


def complete_agent(incomplete: str) -> list[str]:
    """Names of agents.yaml for shell completion."""
    names = config.all_agents(git.root(git.open_repo(Path.cwd())) / "agents.yaml")
    return [name for name in names if name.startswith(incomplete)]


TagOption = Annotated[
    str | None, typer.Option("--tag", help="Name of the night; the latest one when left out.", autocompletion=complete_tag)
]
NewTagOption = Annotated[
    str | None, typer.Option("--tag", help="Name of the night; today's date when left out.", autocompletion=complete_tag)
]
AgentOption = Annotated[
    list[str] | None,
    typer.Option("--agent", help="An entry of agents.yaml; several take turns.", autocompletion=complete_agent),
]
CountOption = Annotated[int | None, typer.Option("--experiments", min=0, help="Stop when the night has this many in all.")]


def finite(number: float | None) -> float | None:
    """A number; `nan` and `inf`, which Python takes for numbers too, are errors of usage."""
    if number is not None and not math.isfinite(number):
        raise typer.BadParameter("a finite number is expected")
    return number


HoursOption = Annotated[float | None, typer.Option("--hours", min=0.001, callback=finite, help="Stop after this time.")]
CostOption = Annotated[
    float | None, typer.Option("--cost-usd", min=0.001, callback=finite, help="Stop when the agents' models have cost this.")
]


def clock_time(text: str | None) -> str | None:
    """A time of day; anything else is an error of usage."""
    try:
        if text is not None:
            clock(text)
    except ValueError:
        raise typer.BadParameter("write hours and minutes, as in 07:30") from None
    return text


PlateauOption = Annotated[int | None, typer.Option("--plateau", min=1, help="Stop when the last N experiments had none to keep.")]
TargetOption = Annotated[
    float | None, typer.Option("--target", callback=finite, help="Stop when the incumbent's value is believed to be this good.")
]
AtOption = Annotated[
    str | None, typer.Option("--at", metavar="HH:MM", callback=clock_time, help="Stop when the clock next shows this.")
]
FallbackOption = Annotated[
    str | None,
    typer.Option("--fallback", help="Who proposes while an agent waits for a new quota.", autocompletion=complete_agent),
]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, help="How many agents propose at the same time.")]
SlotsOption = Annotated[
    int | None, typer.Option("--slots", min=1, help="Runs at the same time, each on a GPU or an equal share of the cores.")
]
ReviewOption = Annotated[
    bool | None,
    typer.Option("--review/--merge", help="What is kept waits for `harness review`; or is merged at once.", show_default=False),
]
ReviewBaseOption = Annotated[
    Literal["tip", "winner"] | None,
    typer.Option(help="In review, the search goes on from the lab's tip, or from the newest winner.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TaskArgument = Annotated[
    str | None, typer.Argument(help="A task.yaml or its folder; found by itself when there is one.", show_default=False)
]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", help="A profile of the task; by default gpu or cpu, by what is there.")
]
StartOption = Annotated[
    str | None, typer.Option("--start", help="One of the task's starts for a new night; by default the files as they are.")
]
SandboxOption = Annotated[
    str | None,
    typer.Option("--sandbox", help="bubblewrap; uid (weaker, for containers as root); none (agents then have all your rights)."),
]
ExperimentArgument = Annotated[str, typer.Argument(metavar="ID", help="The number of an experiment, as `harness log` shows it.")]


def known_tags(repo: git.Repo) -> list[str]:
    """The tags that have records, sorted by name."""
    return sorted({ref.split("/")[2] for ref in refs.below(repo, "refs/experiments/")})


def latest(repo: git.Repo, tag: str | None) -> str:
    """The tag asked for, or the one worked on last."""
    known = known_tags(repo)
    if tag is not None and tag not in known:
        raise UserError(
            f"there is no night {tag!r} here; " + (f"there are: {', '.join(known)}" if known else "start one: `harness run`")
        )
    if tag is None and not known:
        raise UserError("there is no night here yet: start one with `harness run`")
    return tag or next((name for name in reversed(locks.tags(repo)) if name in known), known[-1])


def current(repo: git.Repo, tag: str | None) -> str:
    """The tag asked for, or one that is worked on now, or the one worked on last."""
    at_work = [name for name in known_tags(repo) if tag is None and locks.held(repo, name)]
    return at_work[-1] if at_work else latest(repo, tag)


def emit(value: Any) -> None:
    """A value as JSON on stdout."""
    typer.echo(json.dumps(value, indent=1))
