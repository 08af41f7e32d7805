"""What a check costs a run that is on the clock beside it, and what beginning the next run early would save.

    scripts/bench overlap [--tokens 40000] [--rounds 3] [--out docs/benchmarks]

On the cpu profile, by turns: a run alone, and one beside which the task's check is made again and again. Both go the way of real
ones: exported, in sandboxes, on all cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import __version__, git, once
from harness.bench import Bench
from harness.opening import Settings
from nanochat_train.referee import ready

PAGE = """\
# Beside a timed window

`scripts/bench overlap {options}` on {date}: {machine}.
The cpu profile, {rounds} runs each by turns, {tokens} tokens a run; medians.

| a run | startup s | of it import s | train s | CPU s | tokens/s | checks beside it |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
{rows}

One check by itself takes {check_s:.1f} s, {check_cpu_s:.1f} CPU s.

**Checks wait, where there is no GPU.** A check beside a run takes its cores: training took {slower:.2f} times as long, for
{more:.2f} times the CPU seconds. A budget in tokens, as the cpu profile's, does not mind; within one in seconds, which a
task of your own may have, the run would have done so much less. Where both keep the cores busy, nothing is won by making them
at the same time, either. So the check of the next candidate, and a guard, are made in a run slot, on its cores: with one slot
never beside a run.
On the gpu profile they are made at once, beside the run of another candidate: they use the CPU alone. An agent may run the
check itself, at any time: whoever gives a machine without a GPU more than one worker lets them.

**The next run does not begin early.** While one is evaluated, the next one's imports could be made: {import_s:.1f} s of the
{total_s:.0f} s that a run of this size took in all, under the load above. On a GPU it would be the 1 to 2 CPU seconds of torch
([overhead.md](overhead.md)), and what a candidate compiles, of more than 300 s. It is not done:

- What begins is the candidate's own code. In the sandbox and on the GPU on which the other's model is evaluated, it can take
  memory until that evaluation fails, and nobody would know whose fault it was. What it will need cannot be known beforehand.
- A GPU whose run left a process behind is leased no more (`harness/gpus.py`). One of the next run would look like that.
- Without a GPU, it would take the cores of an evaluation that keeps them busy, and win nothing.

What is done instead is within one run: the second process of an evaluation imports while the first one scores.
"""


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description="Measure what a check costs the run beside it.")
    parser.add_argument("--tokens", type=int, default=40000, help="the budget of a run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    asked = parser.parse_args()
    ready("cpu")
    with tempfile.TemporaryDirectory(prefix="harness-overlap-") as folder:
        Path(folder).chmod(0o711)
        os.environ["XDG_STATE_HOME"] = folder
        settings = Settings(task="nanochat_train/task.yaml", tag="overlap", agents=[], profile="cpu")
        prepared = once.prepare(git.open_repo(Path.cwd()), settings, None)
        budget = prepared.bench.task.budget.model_copy(update={"run_tokens": asked.tokens})
        bench = replace(prepared.bench, task=prepared.bench.task.model_copy(update={"budget": budget}))
        alone, beside = [], []
        for _ in range(asked.rounds):
            alone.append(measured(bench, prepared.commit, False))
            beside.append(measured(bench, prepared.commit, True))
        check = [checked(bench, prepared.commit) for _ in range(asked.rounds)]
    found = {"alone": medians(alone), "beside": medians(beside), "check": medians(check)}
    result = {"version": __version__, "machine": machine(), "rounds": asked.rounds, "tokens": asked.tokens, **found}
    (asked.out / "overlap.json").write_text(json.dumps(result, indent=1) + "\n")
    (asked.out / "overlap.md").write_text(page(found, asked))


def measured(bench: Bench, commit: str, beside: bool) -> dict[str, float]:
    """One run, with or without checks beside it until its training is over."""
    done, count = threading.Event(), 0

    def check() -> None:
        nonlocal count
        while not done.is_set():
            bench.examine(commit, bench.state.run("overlap", "check"), done.is_set)
            count += 1

    other = threading.Thread(target=check)
    if beside:
        other.start()
    try:
        found = bench.run(commit, 1, bench.state.run("overlap", "0000"), lambda: False)
    finally:
        done.set()
        if beside:
            other.join()
    assert found is not None
    if found.status != "ok":
        sys.exit(f"the run is {found.status}: {found.reason}")
    figures = {"cpu_s": found.cpu_s, "tokens_per_s": found.figures["tokens_per_s"], "checks": float(count)}
    return {**found.seconds, **figures}


def checked(bench: Bench, commit: str) -> dict[str, float]:
    """One check by itself."""
    begun = time.monotonic()
    found = bench.examine(commit, bench.state.run("overlap", "check"), lambda: False)
    assert found is not None
    assert found.status == "ok", found.reason
    return {"wall_s": time.monotonic() - begun, "cpu_s": found.cpu_s}


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    """Of each figure."""
    return {name: round(statistics.median(row.get(name, 0.0) for row in rows), 2) for name in rows[0]}


def page(found: dict[str, dict[str, float]], asked: argparse.Namespace) -> str:
    """The page for people."""
    rows = []
    for name, each in (("alone", found["alone"]), ("with checks beside it", found["beside"])):
        cells = [f"{each[key]:.1f}" for key in ("startup", "import", "train", "cpu_s")]
        rows.append(f"| {name} | {' | '.join(cells)} | {each['tokens_per_s']:,.0f} | {each['checks']:.0f} |")
    options = f"--tokens {asked.tokens} --rounds {asked.rounds}"
    facts: dict[str, Any] = {"options": options, "date": time.strftime("%Y-%m-%d"), "machine": machine()}
    facts |= {"rounds": asked.rounds, "tokens": f"{asked.tokens:,}", "rows": "\n".join(rows)}
    facts |= {"check_s": found["check"]["wall_s"], "check_cpu_s": found["check"]["cpu_s"]}
    facts |= {"slower": found["beside"]["train"] / found["alone"]["train"]}
    facts |= {"more": found["beside"]["cpu_s"] / found["alone"]["cpu_s"]}
    facts |= {"import_s": found["alone"]["import"], "total_s": found["alone"]["total"]}
    return PAGE.format(**facts)


def machine() -> str:
    """What it was measured on."""
    cpus = len(os.sched_getaffinity(0))
    return f"{cpus} cores, Linux {platform.release()}, Python {platform.python_version()}, a load of {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
