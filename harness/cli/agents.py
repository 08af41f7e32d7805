"""`harness agents`: what agents there are, and whether one works here."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer

from harness import agents as installed_agents
from harness import config, git, logins, trial
from harness.agents import start
from harness.cli.options import JsonOption, SandboxOption, complete_agent, emit, known_tags
from harness.ledger import Ledger
from harness.models import AgentSpec, Record, UserError
from harness.opening import secret, version
from harness.providers import weaker
from harness.state import StateFolder

app = typer.Typer(help="The agents of agents.yaml: which are installed, have a key, and work.")
ASKED_AT_ONCE = 4
LINE = 300  # characters of a line of a CLI's output that are shown; some print all that they know on each


@app.callback(invoke_without_command=True)
def agents(context: typer.Context, as_json: JsonOption = False) -> None:
    """The entries of agents.yaml: installed version, where the key comes from, the last failure, how to get the others."""
    if context.invoked_subcommand:
        return
    repo = git.open_repo(Path.cwd())
    specs = config.all_agents(git.root(repo) / "agents.yaml")
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        versions = pool.map(version, specs.values())
    failed = failures(repo)
    found = [described(spec, told, failed.get(spec.name)) for spec, told in zip(specs.values(), versions, strict=True)]
    if as_json:
        emit(found)
        return
    name, model, key = (max((len(each[column]) for each in found), default=0) + 2 for column in ("name", "model", "key"))
    for each in found:
        state = (each["version"] or "ready") if each["installed"] else f"not installed: {each['install'] or 'see agents.yaml'}"
        typer.echo(f"{each['name']:<{name}}{each['model'] or '-':<{model}}{each['key']:<{key}}{state}")
        if each["weaker"]:
            typer.echo(f"{'':<{name}}{each['weaker']}")
        if each["last_failure"]:
            typer.echo(f"{'':<{name}}last failure, {each['last_failure']['experiment']}: {each['last_failure']['reason']}")


def described(spec: AgentSpec, told: str, failed: Record | None) -> dict[str, Any]:
    """One entry as `harness agents --json` shows it."""
    failure = None
    if failed and failed.proposal:
        reason = failed.proposal.outcome.reason
        failure = {"experiment": f"{failed.experiment.tag}/{failed.id}", "kind": failed.proposal.outcome.kind, "reason": reason}
    return {
        "name": spec.name,
        "installed": installed_agents.installed(spec),
        "version": told,
        "model": spec.model,
        "key": trial.key_state(spec),
        "weaker": weaker(spec),
        "last_failure": failure,
        "install": spec.install,
    }


def failures(repo: git.Repo) -> dict[str, Record]:
    """The last experiment of each agent, of any night, that came to nothing by a failure of the agent or of its provider."""
    records = [record for tag in known_tags(repo) for record in Ledger(repo, tag).records()]
    bad = [each for each in records if each.proposal and each.proposal.outcome.kind not in ("changed", "unchanged")]
    return {record.experiment.agent: record for record in sorted(bad, key=lambda record: record.updated)}


@app.command()
def login(name: Annotated[str, typer.Argument(help="An entry of agents.yaml.", autocompletion=complete_agent)]) -> None:
    """Log an agent in that holds its own login (`network: provider`): start its CLI's command for that, at this terminal."""
    registry = git.root(git.open_repo(Path.cwd())) / "agents.yaml"
    spec = config.find_agent(config.all_agents(registry), name, registry)
    if not spec.login or not spec.login.command:
        why = "its entry names no `login.command`" if spec.login else f"it has none of its own ({trial.key_state(spec)})"
        raise UserError(f"agent {name!r} cannot be logged in: {why}; see docs/agents.md")
    with logins.lent(spec, lambda: True) as home:
        if home is None:
            raise UserError(f"a proposal of agent {name!r} is using its login: wait for the end of it")
        argv, env = start.login(spec, home)
        typer.echo(f"{' '.join(argv)}, with HOME={home}; then try `harness agents check {name}`", err=True)
        os.chdir(home)
        os.execve(argv[0], argv, env)


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="An entry of agents.yaml.", autocompletion=complete_agent)],
    sandbox: SandboxOption = None,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="How long it may take.")] = 180,
    as_json: JsonOption = False,
) -> None:
    """Have an agent make one small edit in a scratch repository, as in a night, and say what is wrong. Costs a few requests."""
    repo = git.open_repo(Path.cwd())
    registry = git.root(repo) / "agents.yaml"
    spec = config.find_agent(config.all_agents(registry), name, registry)
    used = sandbox or config.load_defaults().sandbox or "bubblewrap"
    tried = trial.attempt(spec, StateFolder(repo), used, secret(repo), seconds, lambda: False)
    about = f"{name} {version(spec)}".strip() + f", {trial.key_state(spec)}, in the sandbox {used}"
    label = [(weaker(spec), None)] if weaker(spec) else []
    checks = [(about, None), *label, *trial.findings(spec, tried)]
    good = tried.outcome.kind == "changed"
    if as_json:
        emit({"name": name, "ok": good, "checks": [{"check": what, "problem": problem} for what, problem in checks]})
    else:
        for what, problem in checks:
            typer.echo(f"{'ok  ' if problem is None else 'WRONG'} {what}" + (f": {problem}" if problem else ""))
        if not good and tried.tail.strip():
            typer.echo("the end of what it printed:\n" + "\n".join(line[:LINE] for line in tried.tail.strip().splitlines()[-15:]))
    if not good:
        raise typer.Exit(1)
