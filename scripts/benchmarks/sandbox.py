"""What a sandbox costs: from the call to the end of a command that does nothing, its tree dead and its files taken back.

    scripts/bench sandbox [--runs 40] [--out docs/benchmarks]

Peers, in turn with ours in the same run: the bare command, and bubblewrap with nothing but a read-only root.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import __version__, sandboxes
from harness.process import inner_env, run
from harness.protocols import Box

BUDGET_MS = 150.0
TRUE = "/usr/bin/true"
BARE = ("bwrap", "--ro-bind", "/", "/", "--unshare-all", "--die-with-parent", TRUE)
PAGE = """\
# Sandboxes

`scripts/bench sandbox --runs {runs}` on {date}: {machine}. Milliseconds, medians of {runs} runs in turn.

| what | median | 90 % | times the bare command |
| --- | ---: | ---: | ---: |
{rows}

The budget is {budget:g} ms for set-up and tear-down together. A sandbox that can be used here is measured for an agent's box:
a worktree of {files} files, read-only but for one folder, and a private home.
"""


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description="Measure the sandboxes.")
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(Path(scratch), args.runs)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "sandbox.json").write_text(json.dumps(found, indent=1) + "\n")
    (args.out / "sandbox.md").write_text(page(found))
    print(page(found))


def measure(scratch: Path, runs: int) -> dict[str, Any]:
    """Milliseconds of every run by what was run."""
    scratch.chmod(0o755)
    tree, home = scratch / "tree", scratch / "home"
    for number in range(100):
        (tree / f"folder-{number % 5}").mkdir(parents=True, exist_ok=True)
        (tree / f"folder-{number % 5}" / f"file-{number}").write_text("text\n")
    home.mkdir()
    box = Box(cwd=tree, readable=(tree,), writable=(tree / "folder-0",), env=inner_env(), home=home)
    what: dict[str, Callable[[], object]] = {"the bare command": lambda: subprocess.run([TRUE], check=True)}
    if shutil.which("bwrap"):
        what["bwrap, read-only root"] = lambda: subprocess.run(BARE, check=True)
    for name, kind in sandboxes.SANDBOXES.items():
        if kind().problem() is None:
            what[f"sandbox {name}"] = lambda name=name: confined(name, box, scratch / "log")  # type: ignore[misc]
    times: dict[str, list[float]] = {name: [] for name in what}
    for _ in range(runs + 2):
        for name, action in what.items():
            started = time.perf_counter()
            action()
            times[name].append((time.perf_counter() - started) * 1000)
    machine = f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, uid {os.getuid()}"
    facts = {"harness": __version__, "machine": machine, "date": time.strftime("%Y-%m-%d"), "runs": runs, "files": 100}
    return {**facts, "ms": {name: [round(value, 2) for value in values[2:]] for name, values in times.items()}}


def confined(name: str, box: Box, log: Path) -> None:
    """One command in a sandbox, from the call to the end."""
    with sandboxes.SANDBOXES[name]().wrap([TRUE], box) as launch:
        ended = run(launch, log, 20)
    if ended.code:
        sys.exit(f"sandbox {name}: {ended.tail}")


def page(found: dict[str, Any]) -> str:
    """The figures for people."""
    bare = statistics.median(found["ms"]["the bare command"])
    rows = []
    for name, ms in found["ms"].items():
        median, most = statistics.median(ms), statistics.quantiles(ms, n=10)[-1]
        rows.append(f"| {name} | {median:.1f} | {most:.1f} | {median / bare:.1f} |")
    return PAGE.format_map({**found, "rows": "\n".join(rows), "budget": BUDGET_MS})


if __name__ == "__main__":
    main()
