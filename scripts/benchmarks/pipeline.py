"""How busy the run slots are when agents are half as fast as runs, with two agents a slot: what the loop itself costs them.

    scripts/bench pipeline [--run-s 10] [--rounds 8] [--slots 1 8] [--sandbox bubblewrap] [--out docs/benchmarks]

Agents and runs sleep, so any machine has as many GPUs as are asked for. All else is real: worktrees, sandboxes, the task's
check, referees, records, merges. Every tenth change is an improvement, so candidates go stale as they do in a night.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import __version__, git
from harness.ledger import Ledger
from harness.steps import Step

FILES = {
    "toy/task.yaml": """\
name: toy
program: program.md
editable: [toy/solution.py]
command: [python, toy/solution.py]
outputs: [toy/answer.txt]
evaluate: [python, toy/evaluate.py]
check: [python, -c, pass]
metric: {name: distance, direction: minimize, resolution: 0.0001}
budget: {propose_s: 600, run_s: 600}
stop: {experiments: 1000000}
""",
    "toy/solution.py": 'import time\nX = 5.0\ntime.sleep(RUN_S)\nopen("toy/answer.txt", "w").write(str(X))\n',
    "toy/evaluate.py": """\
import json, pathlib, sys
print(json.dumps({"value": float((pathlib.Path(sys.argv[1]) / "toy/answer.txt").read_text())}))
""",
    "program.md": "Make the number smaller.\n",
    "agents.yaml": """\
slow:
  argv:
  - sh
  - -c
  - |
    sleep PROPOSE_S
    test $(( {seed} % 10 )) = 0 && X=4.$(( 99999 - {seed} )) || X=9.{seed}
    sed -i "s/^X = .*/X = $X/" toy/solution.py; echo "Another X" > notes/EXPERIMENT.md
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
PAGE = """\
# The pipeline

`scripts/bench pipeline --run-s {run_s:g} --rounds {rounds}` on {date}: {machine}, load {load:.1f}, sandbox {sandbox}.

A proposal takes twice as long as a run, and there are two workers for each run slot, so that they only just keep it busy.

| run slots | workers | experiments | slots busy | lost a run | of it between runs | with {long:g} s runs | CPU an experiment |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{rows}

- *Busy*: the share of the time in which a slot had a referee at work, after the first run in each and until the last proposal
  began. *Lost a run*: the slot's time in which the candidate itself did not run. It contains the referee's interpreter, the
  sandbox and the evaluation; what lies *between runs* is the loop's: records, exports, the judge, and waiting for a proposal.
- *CPU* is that of the harness with agents and referees; they only sleep.
- A load above the number of cores is other work on the machine: sandboxes and referees then start slowly, which is lost time.
- Longer runs lose the same seconds, so the share for runs of {long:g} s follows: {long:g} / ({long:g} + lost).
"""
LONG = 300.0


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description="Measure how busy run slots are.")
    parser.add_argument("--run-s", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--sandbox", default="bubblewrap")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    args = parser.parse_args()
    found: dict[str, Any] = {"run_s": args.run_s, "rounds": args.rounds, "sandbox": args.sandbox, "harness": __version__}
    found |= {"date": time.strftime("%Y-%m-%d"), "load": os.getloadavg()[0], "long": LONG}
    found["machine"] = f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    found["nights"] = []
    for slots in args.slots:
        with tempfile.TemporaryDirectory() as scratch:
            os.environ |= {"XDG_STATE_HOME": f"{scratch}/state", "GIT_CONFIG_GLOBAL": os.devnull, "HOME": scratch}
            found["nights"].append(night(Path(scratch), slots, args.run_s, args.rounds, args.sandbox))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "pipeline.json").write_text(json.dumps(found, indent=1) + "\n")
    (args.out / "pipeline.md").write_text(page := PAGE.format(rows="\n".join(map(row, found["nights"])), **found))
    print(page)


def night(scratch: Path, slots: int, run_s: float, rounds: int, sandbox: str) -> dict[str, Any]:
    """A night of `rounds` experiments for each slot, and what its steps say."""
    repo, log = repository(scratch / "repository", run_s), scratch / "steps"
    count = slots * rounds
    argv = [sys.executable, "-c", RECORDER, str(log), "run", "toy", "--tag", "t", "--agent", "slow", "--sandbox", sandbox]
    argv += ["--experiments", str(count), "--workers", str(2 * slots), "--slots", str(slots)]
    said = (scratch / "said").open("w+")
    child = subprocess.Popen(argv, cwd=repo, stdout=subprocess.DEVNULL, stderr=said)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit((scratch / "said").read_text()[-2000:])
    events = [(float(at), name) for at, name in (line.split() for line in log.read_text().splitlines())]
    records = Ledger(git.open_repo(repo), "t").records()
    own = [run.seconds["run"] for record in records[1:] for run in record.measurements]
    ended = [at for at, name in events if name == Step.RUN_ENDED.name]
    start, end = ended[slots], max(at for at, name in events if name == Step.BEGUN.name)
    busy, runs = at_work(events, start, end), sum(start < at <= end for at in ended)
    between = (slots * (end - start) - busy) / runs
    return {
        "slots": slots,
        "workers": 2 * slots,
        "experiments": count,
        "runs": runs,
        "window_s": end - start,
        "busy": busy / slots / (end - start),
        "lost_s": slots * (end - start) / runs - sum(own) / len(own),
        "between_s": between,
        "cpu_s": (usage.ru_utime + usage.ru_stime) / count,
        "verdicts": {name: sum(r.verdict.status == name for r in records[1:] if r.verdict) for name in ("keep", "discard")},
    }


def at_work(events: list[tuple[float, str]], start: float, end: float) -> float:
    """Seconds between `start` and `end` in which runs were made, each run counted."""
    changes = {Step.RUN_STARTED.name: 1, Step.RUN_ENDED.name: -1}
    total, running, before = 0.0, 0, start
    for at, name in [*events, (end, "")]:
        now = min(max(at, start), end)
        total, before = total + running * (now - before), now
        running += changes.get(name, 0)
    return total


def repository(path: Path, run_s: float) -> Path:
    """A repository with the task that sleeps."""
    for name, text in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text.replace("RUN_S", str(run_s)).replace("PROPOSE_S", str(2 * run_s)))
    for command in (("init", "-qb", "main"), ("add", "."), ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "toy")):
        subprocess.run(["git", *command], cwd=path, check=True)
    return path


def row(found: dict[str, Any]) -> str:
    """A night as a row of the table."""
    share = LONG / (LONG + found["lost_s"])
    return (
        f"| {found['slots']} | {found['workers']} | {found['experiments']} | {found['busy']:.1%} | {found['lost_s']:.2f} s | "
        f"{found['between_s']:.2f} s | {share:.1%} | {found['cpu_s']:.2f} s |"
    )


if __name__ == "__main__":
    main()
