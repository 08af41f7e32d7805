"""The engine by itself: what it costs an experiment beside agent and run, and what ten thousand experiments do to it.

    scripts/bench engine [--experiments 10000] [--real 100] [--out docs/benchmarks]

The history is synthetic but written by the engine's own ledger, state by state, in a repository of a task that takes no
time; the first and the last hundred experiments are real ones, with an agent, a sandbox, a referee. Peers, in the same
run: git's own commands for listing as many refs and for writing one commit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import __version__, config, git, upkeep
from harness.beginning import new_record
from harness.ledger import Ledger
from harness.models import Experiment, Measurement, Proposal, Record, Verdict
from harness.state import StateFolder
from harness.steps import EVENT, Step

FILES = {
    "toy/task.yaml": """\
name: toy
program: program.md
editable: [toy/solution.py]
command: [python, toy/solution.py]
outputs: [toy/answer.txt]
evaluate: [python, toy/evaluate.py]
metric: {name: distance, direction: minimize, resolution: 0.0001}
stop: {experiments: 1000000}
""",
    "toy/solution.py": 'X = 5.0\nopen("toy/answer.txt", "w").write(str(X))\n',
    "toy/evaluate.py": """\
import json, pathlib, sys
print(json.dumps({"value": float((pathlib.Path(sys.argv[1]) / "toy/answer.txt").read_text())}))
""",
    "program.md": "Make the number smaller.\n",
    "agents.yaml": """\
fast:
  argv: [sh, -c, 'sed -i "s/^X = .*/X = 9.{seed}/" toy/solution.py; echo "Another X" > notes/EXPERIMENT.md']
""",
}
RECORDER = """\
import sys, time
file = open(sys.argv.pop(1), "a", buffering=1)
def hook(event, args):
    if event == "harness.step":
        file.write(f"{time.perf_counter()} {args[0].name}\\n")
sys.addaudithook(hook)
from harness.cli import main
main()
"""
PROMPT, LOG = "A line of a prompt, as long as they are.\n" * 120, "step 100 loss 2.345 tokens/s 123456\n" * 100
CURVE = "".join(f"{step}\t{3 - step / 100:.5f}\n" for step in range(100))
BUDGETS = {
    "overhead_s": ("harness overhead an experiment, median", 1.0, "s"),
    "overhead_last_s": ("the same in the last hundred of all", 1.0, "s"),
    "state_change_ms": ("one state change, median", 10.0, "ms"),
    "state_change_last_ms": ("the same in the last hundred of all", 10.0, "ms"),
    "log_s": ("`harness log` over all of them", 1.0, "s"),
    "run_start_s": ("start-up of `harness run` on top of them", 2.0, "s"),
    "memory_mb": ("resident memory of a night with all of them", 300.0, "MB"),
    "disk_100_mb": ("disk for a night of a hundred", 5000.0, "MB"),
}
PAGE = """\
# The engine

`scripts/bench engine --experiments {experiments} --real {real}` on {date}: {machine}.

| what | measured | budget |
| --- | ---: | ---: |
{rows}

- Overhead is the time from one experiment's beginning to the next one's, less what agent and candidate took themselves. It
  contains the worktree, both sandboxes' starts, the referee's interpreter, the evaluation and every write. From the first
  hundred to the last hundred of all it grew by a factor of {growth}.
- A state change takes {of_commit} of the time of an empty `git commit` ({git_commit_ms} ms): {state_change_first_ms} ms in
  the first hundred experiments, {state_change_ms} ms over all, {state_change_worst_ms} ms at worst.
- `harness log` takes {of_git} times as long as git's own `for-each-ref` over the same refs ({git_for_each_ref_s} s).
  `harness --help` alone takes {help_s} s, `status` {status_s} s, `show` {show_s} s, `log --json` {log_json_s} s.
- Loose objects were packed {packings} times, {packing_s} s in all. Git directory and state folder take {disk_mb} MB with all
  experiments, {disk_after_gc_mb} MB after `harness gc`.
"""


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description="Measure the engine.")
    parser.add_argument("--experiments", type=int, default=10_000)
    parser.add_argument("--real", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {"XDG_STATE_HOME": f"{scratch}/state", "GIT_CONFIG_GLOBAL": os.devnull, "HOME": scratch}
        found = measure(Path(scratch), args.experiments, args.real)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "engine.json").write_text(json.dumps(found, indent=1) + "\n")
    (args.out / "engine.md").write_text(table(found))
    print(table(found))


def measure(scratch: Path, total: int, real: int) -> dict[str, Any]:
    """All figures, in the units that their names end with."""
    repo = repository(scratch / "repository")
    found: dict[str, Any] = {"experiments": total, "real": real}
    first = night(repo, scratch / "first", real)
    found["disk_100_mb"] = disk_mb(repo)
    changes, packing = synthesize(repo, total - 2 * real)
    found["state_change_first_ms"], found["state_change_ms"] = (statistics.median(part) for part in (changes[:500], changes))
    found["state_change_last_ms"], found["state_change_worst_ms"] = statistics.median(changes[-500:]), max(changes)
    found["packings"], found["packing_s"] = len(packing), sum(packing)
    last = night(repo, scratch / "last", total)
    found["overhead_s"], found["overhead_last_s"] = (statistics.median(night["overheads"]) for night in (first, last))
    found["growth"] = found["overhead_last_s"] / found["overhead_s"]
    found["memory_mb"] = last["memory_mb"]
    found |= commands(repo, total)
    found["disk_mb"] = disk_mb(repo)
    run(repo, "gc", "--keep-days", "0")
    found["disk_after_gc_mb"] = disk_mb(repo)
    machine = f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, {git_version()}"
    return {"harness": __version__, "machine": machine, "date": time.strftime("%Y-%m-%d"), **found}


def repository(path: Path) -> Path:
    """A repository with the task that takes no time."""
    for name, text in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    for command in (("init", "-qb", "main"), ("add", "."), ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "toy")):
        subprocess.run(["git", *command], cwd=path, check=True)
    return path


def night(repo: Path, log: Path, until: int) -> dict[str, Any]:
    """Real experiments until there are `until` in all; seconds of each beside agent and run, and the harness's memory."""
    argv = [sys.executable, "-c", RECORDER, str(log), "run", "toy", "--tag", "t", "--agent", "fast", "--experiments", str(until)]
    child = subprocess.Popen(argv, cwd=repo, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0, f"the night ended with {status}"
    lines = [line.split() for line in log.read_text().splitlines()]
    begun = [float(at) for at, name in lines if name == Step.BEGUN.name]
    spent = [later - earlier for earlier, later in itertools.pairwise(begun)]
    records = [record for record in Ledger(git.open_repo(repo), "t").records() if record.verdict][-len(spent) - 1 : -1]
    own = [(r.proposal.seconds if r.proposal else 0) + sum(m.seconds.get("run", 0) for m in r.measurements) for r in records]
    return {"overheads": [a - b for a, b in zip(spent, own, strict=True)], "memory_mb": usage.ru_maxrss / 1024}


def synthesize(path: Path, count: int) -> tuple[list[float], list[float]]:
    """Write `count` experiments with the ledger itself; milliseconds of every state change, seconds of every packing."""
    repo = git.open_repo(path)
    ledger, task, state = Ledger(repo, "t"), config.load_task(path / "toy/task.yaml"), StateFolder(repo)
    changes, packing, before = [], [], [0.0]

    def hook(event: str, _args: tuple[object, ...]) -> None:
        if event == EVENT:
            changes.append((time.perf_counter() - before[0]) * 1000)
            before[0] = time.perf_counter()

    sys.addaudithook(hook)
    for number in range(len(ledger.records()), len(ledger.records()) + count):
        before[0] = time.perf_counter()
        one(
            ledger,
            new_record(Experiment(id=f"{number:04d}", tag="t", agent="fast", base=ledger_tip(ledger)), task, "none", "0", "0"),
        )
        started = time.perf_counter()
        if upkeep.loose_objects(repo) > upkeep.LOOSE_OBJECTS:
            upkeep.pack(repo, state)
            packing.append(time.perf_counter() - started)
    return changes, packing


def ledger_tip(ledger: Ledger) -> str:
    """The lab branch's commit."""
    tip = ledger.incumbent().experiment
    return git.commit_of(ledger.repo, ledger.lab) if tip.commit else tip.base


def one(ledger: Ledger, record: Record) -> None:
    """One synthetic experiment from its beginning to its end; every fiftieth is kept."""
    number, repo, base = int(record.id), ledger.repo, record.experiment.base
    record = ledger.save(record, Step.BEGUN, {"program.md": PROMPT})
    blob = git.write(repo, f"X = {number}\n".encode())
    proposal = Proposal(title=f"Set X to {number}", hypothesis="It may help. " * 30, files={"toy/solution.py": blob})
    tree = git.tree_with(repo, base, {"toy/solution.py": blob})
    experiment = record.experiment.model_copy(
        update={"commit": git.commit(repo, tree, [base], proposal.title), "tree": tree, "branch": f"exp/t/{record.id}-x"}
    )
    record = record.model_copy(update={"experiment": experiment, "proposal": proposal, "state": "measuring"})
    record = ledger.save(record, Step.PROPOSED, {"prompt.md": f"{PROMPT}{number}", "transcript.txt": f"{LOG}{number}"})
    ledger.open_branch(record)
    figures = {f"figure_{index}": index * 1.5 for index in range(12)}
    measured = Measurement(status="ok", value=1e6 - number, seed=number, seconds={"run": 300.0, "evaluate": 9.0}, figures=figures)
    record = record.model_copy(update={"measurements": [measured]})
    record = ledger.save(record, Step.MEASURED, {"train-1.log": f"{LOG}{number}", "curve-1.tsv": f"0\t{number}\n{CURVE}"})
    status = "keep" if number % 50 == 0 else "discard"
    verdict = Verdict(status=status, reason="distance 4.0 against 5.0: better by 1", gain=0.1, sigma=0.0, value=1.0)
    record = ledger.save(record.model_copy(update={"state": "closed", "verdict": verdict}), Step.CLOSED)
    ledger.merge(record)
    ledger.settle(record)


def commands(repo: Path, total: int) -> dict[str, Any]:
    """Wall seconds of commands on the full history, medians of five, and the peers'."""
    listing = ["git", "for-each-ref", "--format=%(refname) %(subject)", "refs/experiments/t/"]
    commit = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"]
    found = {
        "log_s": median(repo, harness("log")),
        "log_json_s": median(repo, harness("log", "--json")),
        "status_s": median(repo, harness("status")),
        "show_s": median(repo, harness("show", str(total // 2))),
        "help_s": median(repo, harness("--help")),
        "run_start_s": median(repo, harness("run", "toy", "--tag", "t", "--agent", "fast", "--experiments", str(total))),
        "git_for_each_ref_s": median(repo, listing),
        "git_commit_ms": median(repo, commit) * 1000,
    }
    return found


def harness(*args: str) -> list[str]:
    """The command line of the harness."""
    return [sys.executable, "-c", "from harness.cli import main; main()", *args]


def run(repo: Path, *args: str) -> None:
    """A command of the harness that has to succeed."""
    subprocess.run(harness(*args), cwd=repo, check=True, capture_output=True)


def median(repo: Path, argv: list[str]) -> float:
    """Wall seconds of a command, the median of five after one that warms the caches."""
    times = []
    for _ in range(6):
        started = time.perf_counter()
        subprocess.run(argv, cwd=repo, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def disk_mb(repo: Path) -> float:
    """What git directory and state folder take on the disk, in blocks."""
    places = [repo / ".git", Path(os.environ["XDG_STATE_HOME"])]
    return sum(path.lstat().st_blocks * 512 for place in places for path in place.rglob("*")) / 1e6


def git_version() -> str:
    """git's own words."""
    return subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.strip()


def table(found: dict[str, Any]) -> str:
    """The figures for people."""
    rows = [f"| {text} | {found[name]:.3g} {unit} | {budget:g} {unit} |" for name, (text, budget, unit) in BUDGETS.items()]
    shown = {name: f"{value:,.3g}" if isinstance(value, float) else value for name, value in found.items()}
    ratios = {
        "of_git": found["log_s"] / found["git_for_each_ref_s"],
        "of_commit": found["state_change_ms"] / found["git_commit_ms"],
    }
    return PAGE.format_map(shown | {"rows": "\n".join(rows)} | {name: f"{ratio:.2f}" for name, ratio in ratios.items()})


if __name__ == "__main__":
    main()
