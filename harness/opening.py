"""Opens a night: everything that has to be true before the first experiment, or one sentence about what is not."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, get_args

from harness import agents, caches, config, git, locks, mirror, preflight, refs, sandboxes, slots, starts, static, trees, trusted
from harness.agents import programs
from harness.bench import Bench
from harness.certificates import ALL
from harness.config import place
from harness.folders import replace
from harness.ledger import BASELINE, Ledger, checked_out, now
from harness.models import AgentSpec, Record, Stop, Task, UserError, Value, WishKind
from harness.night import Interrupt, Night
from harness.places import check_names, settle
from harness.process import PACKAGE, clean_env, python, run
from harness.protocols import Launch, Sandbox
from harness.providers import open_gateway
from harness.research import begin_baseline, make_lab
from harness.runners.local import LocalRunner
from harness.scheduling import Pool
from harness.spec import DEFAULT_REFEREE
from harness.state import StateFolder, Status
from harness.workspace import link_inputs


class Settings(Value):
    """What the user asked for on the command line; kept, so that `harness resume` needs none of it again."""

    task: str
    tag: str
    agents: list[str]
    profile: str | None = None
    start: str | None = None
    sandbox: str = "bubblewrap"
    experiments: int | None = None
    hours: float | None = None
    cost_usd: float | None = None
    plateau: int | None = None
    target: float | None = None
    at: str | None = None
    fallback: str | None = None
    workers: int | None = None
    slots: int | None = None
    review: bool | None = None
    review_base: Literal["tip", "winner"] | None = None


def find_task(top: Path, given: str | None) -> Path:
    """The task.yaml: the given file or folder, or the only one in a folder of the repository's root."""
    if given:
        path = Path(given).resolve()
        return path / "task.yaml" if path.is_dir() else path
    found = sorted([*top.glob("task.yaml"), *top.glob("*/task.yaml")])
    if len(found) == 1:
        return found[0]
    names = ", ".join(str(path.parent.relative_to(top)) for path in found) or "none"
    raise UserError(f"name the task to work on, as in `harness run FOLDER`: {top} has {names}")


def load_task(settings: Settings) -> Task:
    """The task with the command line's stop conditions, workers and run slots."""
    task = config.load_task(Path(settings.task), settings.profile)
    asked = {name: value for name in Stop.model_fields if (value := getattr(settings, name, None)) is not None}
    stop = Stop(**{**task.stop.model_dump(), **asked})
    merge = None if settings.review is None else "review" if settings.review else "auto"
    given = {
        "stop": stop,
        "workers": settings.workers,
        "slots": settings.slots,
        "merge": merge,
        "review_base": settings.review_base,
    }
    task = task.model_copy(update={name: value for name, value in given.items() if value is not None})
    if settings.review_base == "winner" and task.merge == "auto":
        raise UserError("--review-base is for nights in which what is kept waits for a person: add --review, or leave it out")
    return task


@contextmanager
def open_night(
    repo: git.Repo, settings: Settings, interrupt: Interrupt, tell: Callable[[Record], None], show: Callable[[Status], None]
) -> Iterator[Night]:
    """A night ready to be run, alone on its tag. What a killed harness left is cleared away or will be continued."""
    task, state, ledger = load_task(settings), StateFolder(repo), Ledger(repo, check_tag(settings.tag), now())
    registry = git.root(repo) / "agents.yaml"
    known = config.all_agents(registry) if settings.agents else {}
    specs = [config.find_agent(known, name, registry) for name in settings.agents]
    sandbox = sandboxes.get(settings.sandbox, secret(repo))
    chosen = [agents.get(spec, sandbox) for spec in specs]
    stand_ins = {spec.name: settings.fallback or spec.fallback for spec in specs if settings.fallback or spec.fallback}
    fallbacks = {name: agents.get(config.find_agent(known, other, registry), sandbox) for name, other in stand_ins.items()}
    specs = list({agent.spec.name: agent.spec for agent in (*chosen, *fallbacks.values())}.values())
    with locks.hold(repo, settings.tag), ExitStack() as stack:
        locks.break_stale(repo, [ledger.lab, ledger.ref("*"), f"refs/heads/exp/{settings.tag}/*", f"{ALL}{settings.tag}/*"])
        locks.break_stale(repo, [f"refs/{kind}s/{settings.tag}/*" for kind in get_args(WishKind)])
        start = check_repository(repo, ledger, task, settings)
        state.clear(settings.tag)
        stack.callback(trees.remove, state.shelves(settings.tag))
        bench = open_bench(repo, task, state, settings, sandbox, start)
        check_comparable(ledger, bench)
        if settings.agents:
            check_room(bench, Path(settings.task))
        night = Night(
            **vars(bench),
            ledger=ledger,
            mirror=mirror.open_mirror(state.mirror, settings.tag),
            agents=chosen,
            fallbacks=fallbacks,
            interrupt=interrupt,
            tell=tell,
            show=show,
            workers=Pool(range(1, task.workers + 1)),
            places=Pool(slots.places(task)),
            versions={spec.name: version(spec) for spec in specs},
            gateway=stack.enter_context(open_gateway(state, settings.tag, task, specs, sandbox, ledger.records())),
        )
        if settings.agents:
            task_here = os.path.relpath(settings.task, git.root(repo))  # so that any work tree can resume it
            replace(state.settings(settings.tag), settings.model_copy(update={"task": task_here}).model_dump_json())
        if not ledger.records():
            begin_baseline(night, start)
        elif refs.resolve(repo, ledger.lab) is None:
            make_lab(night, start)
        try:
            yield night
            night.board.end("interrupted" if interrupt.soon else "done")
        except Exception as error:
            night.board.end(f"ended by an error: {error}")
            raise
        finally:
            git.ensure(repo)  # a collection that began before the last ref moved may have deleted what it names


def secret(repo: git.Repo) -> tuple[Path, ...]:
    """The folders of a repository that no sandbox may show."""
    return tuple(dict.fromkeys((git.root(repo), git.common(repo))))


def open_bench(repo: git.Repo, task: Task, state: StateFolder, settings: Settings, sandbox: Sandbox, start: str) -> Bench:
    """A task that is ready to be measured, by the trusted files of the commit `start`."""
    check_names(task, Path(settings.task), list(git.files(repo, start)), start)
    files = state.trusted(repo, start, settings.tag)
    digest = trusted.digest(repo, task, start, files)
    task, readable = settle(task, Path(settings.task), git.root(repo), state.path)
    link_inputs(files, task.inputs, git.root(repo))
    if problem := not_ready(task, files, state.path) or preflight.problem(task, sandbox):
        raise UserError(problem)
    return Bench(
        repo=repo,
        task=task,
        start=start,
        trusted=digest,
        state=state,
        runner=LocalRunner(files),
        sandbox=sandbox.name,
        readable=readable,
        hidden=(*hidden_paths(task, files, state.path), state.secret, state.models, state.caches),
        caches=state.caches / caches.key(task, digest, sandbox.name) if task.caches else None,
    )


def check_tag(tag: str) -> str:
    """The tag, if it can be part of a ref and of a file name."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", tag) or not git.valid_name(f"refs/heads/{tag}"):
        raise UserError(f"{tag!r} cannot be a tag: use letters, digits, '-', '_' and '.', as in --tag nov21")
    return tag


def check_repository(repo: git.Repo, ledger: Ledger, task: Task, settings: Settings) -> str:
    """The lab's first commit: the baseline's, or for a new tag HEAD or the start on it. Errors for what would fail later."""
    if refs.checked_out(repo, ledger.lab):
        raise checked_out(ledger.tag)
    known = ledger.records()
    lab = refs.resolve(repo, ledger.lab)
    if not known and lab is not None:
        raise UserError(f"the branch autoresearch/{ledger.tag} exists but has no records: choose another --tag")
    if known and lab is None and any(record.verdict and record.experiment.branch for record in known):
        raise UserError(f"the branch autoresearch/{ledger.tag} is gone, its records are not: choose another --tag")
    start = known[0].experiment.base if known else git.head(repo)
    if settings.start and known:
        starts.check_same(repo, task, Path(settings.task), settings.start, start, ledger.tag)
    elif settings.start:
        start = starts.begin(repo, task, Path(settings.task), settings.start, start, ledger.tag)
    if known and (profile := known[0].profile) != task.profile:
        raise UserError(
            f"{ledger.tag!r} was started with --profile {profile}, whose numbers do not compare with {task.profile!r}: "
            f"add --profile {profile}, or choose another --tag"
        )
    return start


def check_comparable(ledger: Ledger, bench: Bench) -> None:
    """A UserError when the baseline was measured by something else, so that no further number compares with it."""
    runs = ledger.get(BASELINE).measurements if ledger.records() else []
    if runs and (what := trusted.changed(bench.trusted, runs[0])):
        raise UserError(
            f"{ledger.tag!r} cannot go on, its numbers would not compare: {what}; put that back, or begin a new baseline where "
            f"it ended, with `git switch --detach autoresearch/{ledger.tag}` and `harness run --tag NEW`"
        )


def check_room(bench: Bench, file: Path) -> None:
    """A UserError when an editable file is itself beyond the limits of one, so that no change of it could be taken."""
    blobs = git.files(bench.repo, bench.start)
    for index, name in enumerate(bench.task.editable):
        if name in blobs and (found := static.problem(name, git.read(bench.repo, blobs[name]), bench.task.limits)):
            where = place(file, bench.task.profile, "editable", str(index))
            raise UserError(f"{where}: no change of it could be taken: {found}; raise limits.editable_kb or limits.literal_kb")


def not_ready(task: Task, folder: Path, scratch: Path) -> str | None:
    """What has to be prepared before the task's referee can measure anything, in its own words; None when nothing."""
    if task.referee == DEFAULT_REFEREE:
        return None  # it needs nothing, and asking takes as long as starting an interpreter
    argv = (*python(task.referee), "--ready", task.profile)
    ended = run(Launch(argv, clean_env(PYTHONPATH=str(PACKAGE.parent)), folder), scratch / "ready.log", 120)
    lines = ended.tail.strip().splitlines()
    return (lines[-1] if lines else f"`{' '.join(argv)}` failed with exit code {ended.code}") if ended.code else None


def hidden_paths(task: Task, trusted: Path, scratch: Path) -> tuple[Path, ...]:
    """What no sandbox may see, as the task's `hidden` command prints it, one path a line."""
    if not task.hidden:
        return ()
    log = scratch / "hidden.log"
    ended = run(Launch(tuple(python(task.hidden)), clean_env(PYTHONPATH=str(PACKAGE.parent)), trusted), log, 120)
    if ended.code:
        raise UserError(f"the task's `hidden` command failed: {ended.tail.strip()[-300:]}")
    return tuple(Path(line) for line in log.read_text().splitlines() if line.startswith("/"))


def version(spec: AgentSpec) -> str:
    """What an agent's CLI says of its version, on one line; empty when it has no command for that or it fails."""
    if not spec.version_cmd:
        return ""
    program = programs.find(spec.version_cmd[0])
    if program is None:
        return ""
    path = os.pathsep.join([*map(str, program.search), os.environ.get("PATH", "")])
    launch = Launch((str(program.path), *spec.version_cmd[1:]), clean_env(PATH=path), Path("/"))
    ended = run(launch, Path(os.devnull), 30)
    told = [line.strip() for line in ended.tail.splitlines() if re.search(r"\d\.\d", line)]
    return next((line for line in told if re.fullmatch(r".{0,40}\d+\.\d+\.\d+.{0,20}", line)), told[0] if told else "")[:60]
