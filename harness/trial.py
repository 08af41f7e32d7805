"""Tries an agent: one small edit in a scratch repository, in the real sandbox and through the real gateway."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from harness import agents, git, limits, logins, mirror, outcome, sandboxes
from harness.gateway import credentials
from harness.harvest import Unusable, harvest, snapshot
from harness.models import AgentSpec, Limits, Metric, Outcome, Task, Usage, UserError
from harness.protocols import Cancel
from harness.providers import open_gateway
from harness.state import StateFolder
from harness.workspace import agent_box, worktree

FILE = "answer.py"
OLD, NEW = "X = 5.0  # tune: 0..8", "X = 4.0  # tune: 0..8"
PROMPT = f"In the file `{FILE}`, replace the line\n\n{OLD}\n\nby\n\n{NEW}\n\nChange nothing else, then stop.\n"
HISTORY = "id\tcommit\tmetric\tmemory_gb\tstatus\tagent\ttitle\n0000\t-\t2.0\t0\tkeep\tbaseline\tbaseline\n"
TASK = Task(name="check", program="-", editable=[FILE], metric=Metric(name="-"))
FACTS = json.dumps({"metric": TASK.metric.model_dump(exclude={"noise"}), "profile": TASK.profile})
EXPERIMENT = "0001"
MOST_BYTES = 64 << 10


@dataclass(frozen=True)
class Trial:
    """What came of it. `requests` are those that arrived at the gateway, as (path, status)."""

    outcome: Outcome
    seconds: float
    exit_code: int
    requests: list[tuple[str, int]] = field(default_factory=list)
    usage: Usage | None = None
    text: str = ""
    tail: str = ""


def attempt(spec: AgentSpec, state: StateFolder, sandbox: str, secret: tuple[Path, ...], seconds: float, cancel: Cancel) -> Trial:
    """Have the agent make the edit. A UserError when it cannot even be started."""
    confined = sandboxes.get(sandbox, secret)
    agent, tag = agents.get(spec, confined), f".check-{os.getpid()}"
    scratch = state.run(tag, spec.name)
    log, journal = scratch / "transcript.log", state.path / "logs" / tag / "gateway.log"
    try:
        view = mirror.open_mirror(scratch / "mirror.git", "check")
        commit = git.commit(view, git.tree_of(view, {FILE: f"{OLD}\nprint(X)\n".encode()}), [], "An answer\n")
        with (
            open_gateway(state, tag, TASK, [spec], confined, []) as gateway,
            worktree(view, "check-0001", scratch / "work", commit) as work,
        ):
            for name, text in {"lab/history.tsv": HISTORY, "lab/task.json": FACTS, "notes/NOTEBOOK.md": ""}.items():
                (work / name).parent.mkdir(exist_ok=True)
                (work / name).write_text(text)
            (scratch / "home").mkdir()
            before = snapshot(work, [FILE], MOST_BYTES)
            with (
                logins.home_of(spec, scratch / "home", lambda: True) as home,
                gateway.line(EXPERIMENT, spec.name) if gateway else nullcontext() as line,
            ):
                if home is None:
                    raise UserError(f"a proposal of agent {spec.name!r} is using its login: wait for the end of it")
                box = agent_box(work, [FILE], home, (scratch / "mirror.git",), (), {"HARNESS_FILE": FILE}, "")
                box = replace(box, limits=limits.settle(Limits(), "agent"), gateway=line)
                ended = agent.propose(PROMPT, box, log, 1, seconds, cancel)
            usage = gateway.usage(EXPERIMENT) if gateway else None
            try:
                changed = FILE in harvest(work, [FILE], MOST_BYTES, before, "").files
            except Unusable as refused:
                raise UserError(f"agent {spec.name!r} left something that cannot be taken: {refused}") from None
            said = outcome.read(spec.output, log, ended.tail)
        told = outcome.outcome(spec, ended, said, changed)
        return Trial(told, ended.seconds, ended.code, arrived(journal), usage, said.text, ended.tail)
    finally:
        for folder in (scratch.parent, journal.parent, state.path / "gateway" / tag):
            shutil.rmtree(folder, ignore_errors=True)


def arrived(journal: Path) -> list[tuple[str, int]]:
    """The requests that the gateway's log tells of, as (path, status)."""
    try:
        lines = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    except (OSError, ValueError):
        return []
    return [(line["path"], line["status"]) for line in lines if isinstance(line, dict) and "path" in line]


def findings(spec: AgentSpec, trial: Trial) -> list[tuple[str, str | None]]:
    """What was found as (what, what is wrong with it or None), in the order in which things happened."""
    found: list[tuple[str, str | None]] = []
    if spec.network == "provider":
        passed = sorted({path.rpartition(":")[0] for path, status in trial.requests if status == 200})
        turned = sorted({path for path, status in trial.requests if status != 200})
        nobody = "it asked none of its `hosts`: see that it respects HTTPS_PROXY"
        found.append((f"connected to {', '.join(passed) or 'nobody'}", None if passed else nobody))
        if turned:
            found.append((f"not connected to {', '.join(turned)}: `hosts` names what it may reach", None))
    if spec.provider:
        answers = [status for _, status in trial.requests]
        what = f"{len(answers)} requests arrived at the gateway, {answers.count(200)} of them were answered"
        nobody = "it asked nobody, or somebody else: its entry has to lead it to {base_url}, by an option, a variable or a file"
        found.append((what, None if answers else nobody))
        if trial.usage and trial.usage.requests:
            usd = "unknown" if trial.usage.usd is None else f"${trial.usage.usd:.4f}"
            cost = f"{trial.usage.input + trial.usage.cached + trial.usage.written} tokens in, {trial.usage.output} out, {usd}"
            found.append((f"{', '.join(trial.usage.models)}: {cost}", None))
    edited = trial.outcome.kind == "changed"
    found.append((f"a change of {FILE}", None if edited else trial.outcome.reason))
    found.append((f"ended after {trial.seconds:.1f} s with exit code {trial.exit_code}", None))
    return found


def key_state(spec: AgentSpec) -> str:
    """Where the key of an agent comes from, or since when it is logged in, or that it is not; never the key."""
    if spec.login:
        renewed = logins.since(spec)
        return f"login of {date.fromtimestamp(renewed)}" if renewed else f"no login: run `harness agents login {spec.name}`"
    if spec.provider is None or not (spec.provider.variables or spec.provider.key_cmd):
        return "no key needed"
    source = credentials.source(spec.provider, os.environ)
    return f"key from {source}" if source else f"no key: set {' or '.join(spec.provider.variables)}"
