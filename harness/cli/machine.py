"""Commands about this machine and its configuration: doctor, gc, schema."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness import __version__, config, git, gpus, limits, preflight, sandboxes, upkeep
from harness import agents as agents_of
from harness.cli.options import JsonOption, TaskArgument, emit
from harness.models import UserError
from harness.opening import find_task, not_ready, secret
from harness.places import settle
from harness.providers import weaker
from harness.state import StateFolder


class Kind(StrEnum):
    """The files that have a schema."""

    TASK = "task"
    AGENTS = "agents"
    CONFIG = "config"
    MEASUREMENT = "measurement"


def doctor(task: TaskArgument = None, as_json: JsonOption = False) -> None:
    """What is missing on this machine, and the command that mends it."""
    checks = examine(task)
    if as_json:
        emit([{"check": name, "problem": problem} for name, problem in checks])
    else:
        for name, problem in checks:
            typer.echo(f"{'ok  ' if problem is None else 'MISSING'} {name}" + (f": {problem}" if problem else ""))
    if any(problem for _, problem in checks):
        raise typer.Exit(1)


def examine(given: str | None = None) -> list[tuple[str, str | None]]:
    """Checks as (what, what is wrong with it or None); `given` names a task where there are several."""
    checks: list[tuple[str, str | None]] = [(f"harness {__version__}, Python {sys.version.split()[0]}", None)]
    checks += confinement()
    checks.append((limits.described(), None))
    checks += graphics()
    try:
        repo = git.open_repo(Path.cwd())
        checks.append((f"git repository {git.root(repo)}", None))
        scratch = StateFolder(repo).path
        for name, spec in config.all_agents(git.root(repo) / "agents.yaml").items():
            there = "" if agents_of.installed(spec) else f" is not installed (optional): {spec.install}"
            checks.append((f"agent {name}{there}" + (f"; {weaker(spec)}" if weaker(spec) else ""), None))
        path = find_task(git.root(repo), given)
        task, _ = settle(config.load_task(path), path, git.root(repo), scratch)
        checks.append((f"task {task.name}, profile {task.profile}", None))
        checks.append(("referee ready to measure", not_ready(task, git.root(repo), scratch)))
    except UserError as error:
        checks.append(("repository and task", str(error)))
    except OSError as error:
        checks.append(
            ("folder for logs and worktrees", f"{error.filename}: {error.strerror}; XDG_STATE_HOME names another place")
        )
    return checks


def confinement() -> list[tuple[str, str | None]]:
    """Each sandbox and whether it works here; it has to only if a night would use it."""
    checks: list[tuple[str, str | None]] = []
    try:
        used = usual()
    except UserError as error:
        checks, used = [("your own defaults", str(error))], "bubblewrap"
    try:
        inside = secret(git.open_repo(Path.cwd()))
    except UserError:
        inside = ()
    for name, kind in sandboxes.SANDBOXES.items():
        problem = kind().problem(inside)
        if name == used:
            checks.append((f"sandbox {name}, which a night uses here unless --sandbox names another", problem))
        elif problem:
            checks.append((f"sandbox {name} cannot be used here (only needed when asked for by name): {problem}", None))
        else:
            checks.append((f"sandbox {name} could be used: {sandboxes.MEANING[name]}", None))
    return checks


def usual() -> str:
    """The sandbox that a night uses here unless it is told otherwise."""
    return config.load_defaults().sandbox or "bubblewrap"


def graphics() -> list[tuple[str, str | None]]:
    """Whether CUDA works in the sandbox that a night would use, which GPUs are not to be used, and who else does."""
    if not gpus.present():
        return [("GPU: none here, the cpu profile is used", None)]
    checks: list[tuple[str, str | None]] = []
    try:
        sandbox = sandboxes.get(usual())
        checks.append((f"GPU: CUDA in the sandbox {sandbox.name}", preflight.preflight(sandbox)))
    except UserError as error:
        checks.append(("GPU: could not be tried", f"{error}"))
    checks += [(f"GPU {each.gpu}", str(each)) for each in gpus.dirty()]
    checks += [(f"warning: {line}", None) for line in gpus.others()]
    if gpus.holders() is None:
        checks.append(("warning: nvidia-smi does not work, so what a run leaves on a GPU goes unnoticed", None))
    return checks


def gc(
    days: Annotated[float, typer.Option("--keep-days", min=0, help="Keep transcripts that are younger than this.")] = 14,
    models: Annotated[
        int, typer.Option("--keep-checkpoints", min=1, help="Keep what so many merges made, the latest of each night.")
    ] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Free disk space: pack git's objects, remove what can be made again. Records, commits and branches always stay."""
    repo = git.open_repo(Path.cwd())
    state = StateFolder(repo)
    found = upkeep.waste(state, days, models)
    problem = ""
    if not dry_run:
        upkeep.remove(found)
        problem = upkeep.pack(repo, state)
    if as_json:
        emit([{"path": str(each.path), "what": each.what, "bytes": each.size} for each in found])
        return
    for each in found:
        typer.echo(f"{each.size / 1e6:9.1f} MB  {each.path}  ({each.what})")
    total = sum(each.size for each in found) / 1e6
    typer.echo(f"{total:9.1f} MB {'would be freed' if dry_run else 'freed'}; git holds {upkeep.git_megabytes(repo):.1f} MB")
    if problem:
        raise UserError(f"git could not pack its objects: {problem}")


def schema(
    kind: Annotated[Kind, typer.Argument(help="task.yaml, agents.yaml, your config.yaml, or a referee's measurement.")],
) -> None:
    """The JSON Schema of a configuration file, for editors that complete and check YAML, or of a measurement."""
    emit(config.schema(kind.value))
