"""The command line. Thin: it reads options, calls the engine, and is the only place that prints for people.

Exit codes: 0 success, 1 the user's error in one sentence, 2 usage, 3 our bug with a traceback in a file, 130 interrupted.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from harness import __version__, config, git, sandboxes, view
from harness.ledger import Ledger
from harness.models import Record, UserError
from harness.night import Interrupt
from harness.opening import Settings, find_task, not_ready, open_night
from harness.research import research
from harness.state import StateFolder, Status

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Nights of measured experiments."
)

TagOption = Annotated[str | None, typer.Option("--tag", help="Name of the night; the latest one when left out.")]
AgentOption = Annotated[list[str] | None, typer.Option("--agent", help="An entry of agents.yaml; several take turns.")]
CountOption = Annotated[int | None, typer.Option("--experiments", min=0, help="Stop when the night has this many in all.")]
HoursOption = Annotated[float | None, typer.Option("--hours", min=0.001, help="Stop after this time.")]


@app.command()
def run(
    task: Annotated[str | None, typer.Argument(help="A task.yaml or its folder; found by itself when there is one.")] = None,
    agent: AgentOption = None,
    tag: TagOption = None,
    profile: Annotated[str | None, typer.Option(help="A profile of the task; by default gpu or cpu, by what is there.")] = None,
    sandbox: Annotated[str, typer.Option(help="bubblewrap, or none (agents then have all your rights).")] = "bubblewrap",
    experiments: CountOption = None,
    hours: HoursOption = None,
) -> None:
    """Start a night, or continue the one with the same tag, until a stop condition or Ctrl-C."""
    repo = git.open_repo(Path.cwd())
    settings = Settings(
        task=str(find_task(git.root(repo), task)),
        tag=tag or datetime.now().strftime("%b%d").lower(),
        agents=agent or ["tuner"],
        profile=profile,
        sandbox=sandbox,
        experiments=experiments,
        hours=hours,
    )
    spend(repo, settings)


@app.command()
def resume(tag: TagOption = None, agent: AgentOption = None, experiments: CountOption = None, hours: HoursOption = None) -> None:
    """Continue a night after Ctrl-C, a stop condition or a crash, with the options it was started with."""
    repo = git.open_repo(Path.cwd())
    name = latest(repo, tag)
    path = StateFolder(repo).path / f"{name}.json"
    if not path.exists():
        raise UserError(f"this machine has no settings of {name!r}: use `harness run --tag {name} --agent ...` to continue it")
    settings = Settings.model_validate_json(path.read_text())
    new = {"agents": agent, "experiments": experiments, "hours": hours}
    spend(repo, settings.model_copy(update={name: value for name, value in new.items() if value is not None}))


def spend(repo: git.Repo, settings: Settings) -> None:
    """Run a night in the foreground, with Ctrl-C and progress on stderr."""
    interrupt, screen = Interrupt(), Screen()
    previous = handle_signals(interrupt, screen)
    try:
        with open_night(repo, settings, interrupt, screen.tell, screen.show) as night:
            (night.state.path / f"{settings.tag}.json").write_text(settings.model_dump_json())
            screen.say(f"autoresearch/{settings.tag}: {night.task.name}, profile {night.task.profile}, {night.sandbox} sandbox")
            reason = research(night)
            screen.say(f"stopped: {reason}")
            typer.echo(view.summary(night.ledger.records()))
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if interrupt.soon or interrupt.now:
        screen.say(f"continue with: harness resume --tag {settings.tag}")
        raise typer.Exit(130)


@app.command()
def status(tag: TagOption = None) -> None:
    """What is running now."""
    repo = git.open_repo(Path.cwd())
    name = latest(repo, tag)
    told = StateFolder(repo).told(name)
    typer.echo(f"{name}: {view.progress(told, time.time() - told.started)}" if told else f"{name}: not running")
    typer.echo(view.summary(Ledger(repo, name).records()))


@app.command()
def log(tag: TagOption = None, tsv: Annotated[bool, typer.Option("--tsv", help="results.tsv columns.")] = False) -> None:
    """The history of a night, a line for each experiment."""
    repo = git.open_repo(Path.cwd())
    records = Ledger(repo, latest(repo, tag)).records()
    typer.echo(view.tsv(records) if tsv else view.table(records))


@app.command()
def show(experiment: str, tag: TagOption = None) -> None:
    """One experiment with its evidence: verdict, runs, curve, hypothesis."""
    repo = git.open_repo(Path.cwd())
    typer.echo(view.full(Ledger(repo, latest(repo, tag)).get(experiment)))


@app.command()
def diff(experiment: str, tag: TagOption = None) -> None:
    """What one experiment changed, as a patch against the code it started from."""
    repo = git.open_repo(Path.cwd())
    found = Ledger(repo, latest(repo, tag)).get(experiment).experiment
    if found.commit is None or found.commit == found.base:
        raise UserError(f"experiment {found.id} has no change: `harness show {found.id} --tag {found.tag}` says why")
    typer.echo(git.diff(repo, found.base, found.commit), nl=False)


@app.command()
def doctor() -> None:
    """What is missing on this machine, and the command that mends it."""
    problems = 0
    for name, problem in examine():
        typer.echo(f"{'ok  ' if problem is None else 'MISSING'} {name}" + (f": {problem}" if problem else ""))
        problems += problem is not None
    if problems:
        raise typer.Exit(1)


def examine() -> list[tuple[str, str | None]]:
    """Checks as (what, what is wrong with it or None)."""
    checks: list[tuple[str, str | None]] = [(f"harness {__version__}, Python {sys.version.split()[0]}", None)]
    checks.append(("sandbox bubblewrap", sandboxes.SANDBOXES["bubblewrap"]().problem()))
    gpu = any(Path("/dev").glob("nvidia[0-9]*"))
    checks.append((f"GPU: {'found' if gpu else 'none here, the cpu profile is used'}", None))
    try:
        repo = git.open_repo(Path.cwd())
        checks.append((f"git repository {git.root(repo)}", None))
        task = config.load_task(find_task(git.root(repo), None))
        checks.append((f"task {task.name}, profile {task.profile}", None))
        checks.append(("referee ready to measure", not_ready(task, git.root(repo), StateFolder(repo).path)))
        for name, spec in config.load_agents(git.root(repo) / "agents.yaml").items():
            there = spec.argv[0].startswith("{") or shutil.which(spec.argv[0])
            checks.append((f"agent {name}" + ("" if there else f" is not installed (optional): {spec.install}"), None))
    except UserError as error:
        checks.append(("repository and task", str(error)))
    return checks


def latest(repo: git.Repo, tag: str | None) -> str:
    """The tag asked for, or the one worked on last."""
    known = sorted({ref.split("/")[2] for ref in git.refs(repo, "refs/experiments/")})
    if tag is not None and tag not in known:
        raise UserError(
            f"there is no night {tag!r} here; " + (f"there are: {', '.join(known)}" if known else "start one: `harness run`")
        )
    if tag is None and not known:
        raise UserError("there is no night here yet: start one with `harness run`")
    return tag or next((name for name in reversed(StateFolder(repo).tags()) if name in known), known[-1])


class Screen:
    """Progress on stderr: a line for each change of phase, and on a terminal one line that is rewritten."""

    def __init__(self) -> None:
        """Nothing is printed yet."""
        self.terminal, self.last, self.shown = sys.stderr.isatty(), ("", ""), 0.0

    def say(self, text: str) -> None:
        """A line of its own."""
        print(("\r\033[K" if self.terminal else "") + text, file=sys.stderr, flush=True)

    def show(self, status: Status) -> None:
        """What is going on; off a terminal only when the phase changes."""
        changed = (status.experiment, status.phase) != self.last
        if self.terminal and (changed or time.monotonic() - self.shown > 0.5):
            line = view.progress(status, time.time() - status.started)[: shutil.get_terminal_size().columns - 1]
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
            self.shown = time.monotonic()
        elif changed and not self.terminal:
            self.say(view.progress(status, time.time() - status.started))
        self.last = (status.experiment, status.phase)

    def tell(self, record: Record) -> None:
        """A closed experiment."""
        verdict = record.verdict
        title = record.proposal.title if record.proposal else "baseline"
        self.say(f"{record.id} {verdict.status if verdict else ''}: {title}: {verdict.reason if verdict else ''}")


def handle_signals(interrupt: Interrupt, screen: Screen) -> dict[int, Any]:
    """Ctrl-C once: soon; twice, or SIGTERM: now. Returns the handlers that were there."""

    def handle(number: int, _frame: object) -> None:
        interrupt.now = interrupt.soon or number == signal.SIGTERM
        interrupt.soon = True
        screen.say("stopping now" if interrupt.now else "stopping after the run in progress; Ctrl-C again stops now")

    return {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}


def main() -> None:
    """The entry point: errors become exit codes here and nowhere else."""
    os.umask(0o022)  # what a sandbox may read has to be readable by its uid; the state folder itself is closed
    try:
        app()
    except UserError as error:
        print(f"harness: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception:
        with tempfile.NamedTemporaryFile("w", prefix="harness-bug-", suffix=".txt", delete=False) as file:
            traceback.print_exc(file=file)
        print(f"harness: this is a bug of ours; the traceback is in {file.name}", file=sys.stderr)
        sys.exit(3)
