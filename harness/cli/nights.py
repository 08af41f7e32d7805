"""Commands of a night: run, resume, baseline, replicate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from harness import config, git, gpus, stopping, view
from harness.cli.ending import tell
from harness.cli.options import (
    AgentOption,
    AtOption,
    CostOption,
    CountOption,
    ExperimentArgument,
    FallbackOption,
    HoursOption,
    JsonOption,
    NewTagOption,
    PlateauOption,
    ProfileOption,
    ReviewBaseOption,
    ReviewOption,
    SandboxOption,
    SlotsOption,
    StartOption,
    TagOption,
    TargetOption,
    TaskArgument,
    WorkersOption,
    emit,
    latest,
)
from harness.cli.screen import Screen, interruptible
from harness.measuring import repeat
from harness.models import Record, UserError
from harness.night import Night
from harness.opening import Settings, find_task, open_night
from harness.providers import weaker
from harness.research import advance, research
from harness.state import StateFolder


def run(
    task: TaskArgument = None,
    agent: AgentOption = None,
    tag: NewTagOption = None,
    profile: ProfileOption = None,
    sandbox: SandboxOption = None,
    experiments: CountOption = None,
    hours: HoursOption = None,
    cost_usd: CostOption = None,
    plateau: PlateauOption = None,
    target: TargetOption = None,
    at: AtOption = None,
    fallback: FallbackOption = None,
    workers: WorkersOption = None,
    slots: SlotsOption = None,
    review: ReviewOption = None,
    review_base: ReviewBaseOption = None,
    start: StartOption = None,
) -> None:
    """Start a night, or continue the one with the same tag, until a stop condition or Ctrl-C."""
    repo = git.open_repo(Path.cwd())
    stop = {"experiments": experiments, "hours": hours, "cost_usd": cost_usd, "plateau": plateau, "target": target, "at": at}
    extent = {**stop, "workers": workers, "slots": slots}
    settings = asked(repo, task, tag, profile, sandbox, agent, extent, fallback, start)
    said = {"review": review, "review_base": review_base}
    settings = settings.model_copy(update={name: value for name, value in said.items() if value is not None})
    work(repo, settings)


def resume(
    tag: TagOption = None,
    agent: AgentOption = None,
    experiments: CountOption = None,
    hours: HoursOption = None,
    cost_usd: CostOption = None,
    plateau: PlateauOption = None,
    target: TargetOption = None,
    at: AtOption = None,
    fallback: FallbackOption = None,
    workers: WorkersOption = None,
    slots: SlotsOption = None,
    review: ReviewOption = None,
    review_base: ReviewBaseOption = None,
) -> None:
    """Continue a night after Ctrl-C, a stop condition or a crash, with the options it was started with."""
    repo = git.open_repo(Path.cwd())
    new = {"agents": agent, "experiments": experiments, "hours": hours, "cost_usd": cost_usd, "fallback": fallback}
    new |= {"plateau": plateau, "target": target, "at": at, "workers": workers, "slots": slots, "review": review}
    new["review_base"] = review_base
    settings = remembered(repo, latest(repo, tag))
    settings = settings.model_copy(update={name: value for name, value in new.items() if value is not None})
    work(repo, settings)


def work(repo: git.Repo, settings: Settings) -> None:
    """A whole night."""
    with at_work(repo, settings) as (night, screen):
        screen.say(stopping.plan(night))
        screen.say(f"stopped: {night.conduct(research(night))}")
        tell(night.ledger)


def baseline(
    task: TaskArgument = None,
    tag: NewTagOption = None,
    profile: ProfileOption = None,
    sandbox: SandboxOption = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Measure it with at least this many seeds.")] = 1,
    start: StartOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the unchanged code, and how much two runs of it differ, without starting an agent."""
    repo = git.open_repo(Path.cwd())
    with at_work(repo, asked(repo, task, tag, profile, sandbox, agents=[], start=start)) as (night, _):
        if night.ledger.records()[0].state != "closed":
            night.conduct(advance(night, night.ledger.records()[0]))
        record = night.ledger.records()[0]
        report(night.conduct(repeat(night, record, seeds - len(record.values))), as_json)


def replicate(
    experiment: ExperimentArgument,
    tag: TagOption = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many more runs, each with a fresh seed.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Run an experiment again with fresh seeds and add what comes out to its record; its verdict stays as it is.

    NAME/N, an experiment that `harness import` brought along, becomes one of this night: measured on its tip, judged, merged.
    """
    repo = git.open_repo(Path.cwd())
    settings = remembered(repo, latest(repo, tag))
    if "/" in experiment:
        from harness.cli import imports  # which needs at_work

        measured = imports.measure_imported(repo, settings.tag, experiment)
        return emit(measured.model_dump(mode="json")) if as_json else typer.echo(imports.outcome(measured))
    with at_work(repo, settings.model_copy(update={"agents": []})) as (night, _):
        record = night.ledger.get(experiment)
        if record.state != "closed" or not record.experiment.commit:
            why = "is not finished" if record.state != "closed" else "has no change that could be run"
            raise UserError(f"experiment {record.id} {why}: `harness log --tag {settings.tag}` lists the ones that were measured")
        report(night.conduct(repeat(night, record, seeds)), as_json)


def report(record: Record, as_json: bool) -> None:
    """The runs of an experiment, as text or with everything else that its record holds."""
    if as_json:
        emit(record.model_dump(mode="json"))
    else:
        typer.echo(view.runs(record))


def asked(
    repo: git.Repo,
    task: str | None,
    tag: str | None,
    profile: str | None,
    sandbox: str | None,
    agents: list[str] | None = None,
    extent: Mapping[str, Any] | None = None,
    fallback: str | None = None,
    start: str | None = None,
) -> Settings:
    """The options of the command line, and behind them the user's own defaults and ours. `extent`: how long, how much at once."""
    defaults, path = config.load_defaults(), find_task(git.root(repo), task)
    stops: dict[str, Any] = {"experiments": defaults.experiments, "hours": defaults.hours, "cost_usd": defaults.cost_usd}
    stops |= {name: value for name, value in (extent or {}).items() if value is not None}
    usual = defaults.profile if defaults.profile in config.profiles(path) else None  # a task need not have it
    return Settings(
        task=str(path),
        tag=tag or datetime.now().strftime("%b%d").lower(),
        agents=agents if agents is not None else defaults.agents or ["tuner"],
        profile=profile or usual,
        sandbox=sandbox or defaults.sandbox or "bubblewrap",
        fallback=fallback,
        start=start,
        **stops,
    )


def remembered(repo: git.Repo, tag: str) -> Settings:
    """The options that a night was started with."""
    path = StateFolder(repo).settings(tag)
    if not path.exists():
        raise UserError(f"this machine has no settings of {tag!r}: use `harness run --tag {tag} --agent ...` to continue it")
    settings = Settings.model_validate_json(path.read_text())
    return settings.model_copy(update={"task": str(git.root(repo) / settings.task)})


@contextmanager
def at_work(repo: git.Repo, settings: Settings, again: str = "") -> Iterator[tuple[Night, Screen]]:
    """A night in the foreground, with progress on stderr; interrupted, it ends with exit code 130 and says what continues it."""
    screen = Screen()
    with interruptible(screen) as interrupt:
        with open_night(repo, settings, interrupt, screen.tell, screen.show) as night:
            screen.say(f"autoresearch/{settings.tag}: {night.task.name}, profile {night.task.profile}, {night.sandbox} sandbox")
            for line in gpus.others() if gpus.wanted(night.task) else ():
                screen.say(f"warning: {line}")
            for agent in (*night.agents, *night.fallbacks.values()):
                if weaker(agent.spec):
                    screen.say(f"warning: agent {agent.spec.name} is {weaker(agent.spec)}")
            yield night, screen
    if interrupt.soon:
        screen.say(f"continue with: {again or f'harness resume --tag {settings.tag}'}")
        raise typer.Exit(130)
