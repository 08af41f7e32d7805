"""The real CLIs of agents.yaml against a scripted provider, in the sandbox and through the gateway: what becomes of each.

    scripts/bench agents [--cli claude ...] [--behaviour success ...] [--out docs/benchmarks]

The CLIs are those that `scripts/install-agents` installs. Cells that are not asked for stay as they were in the results.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import tempfile
import time
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any, get_args

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/agents")]

from clis import CLIS, equip, night, record  # noqa: E402
from conftest import make_lab  # noqa: E402
from provider import Behaviour, Provider  # noqa: E402

from harness.agents.programs import installed_here  # noqa: E402
from harness.outcome import Select, select  # noqa: E402

PROPOSE_S = {"hang": 20}
OFTEN = 90
# Where a CLI that prints JSON lines tells its tokens: which lines (all of them count), the list in a line whose items do, and
# the paths of input, cached, output; whether the first includes the second.
TOLD: dict[str, tuple[dict[str, Any], str, str, str, str, bool]] = {
    "claude": ({"type": "result"}, "", "usage.input_tokens", "usage.cache_read_input_tokens", "usage.output_tokens", False),
    "codex": ({"type": "turn.completed"}, "", "usage.input_tokens", "usage.cached_input_tokens", "usage.output_tokens", True),
    "gemini": ({"type": "result"}, "", "stats.input_tokens", "stats.cached", "stats.output_tokens", True),
    "opencode": ({"type": "step_finish"}, "", "part.tokens.input", "part.tokens.cache.read", "part.tokens.output", False),
    "qwen": ({"type": "result"}, "", "usage.input_tokens", "usage.cache_read_input_tokens", "usage.output_tokens", True),
    "pi": ({"type": "agent_end"}, "messages", "usage.input", "usage.cacheRead", "usage.output", False),
}
AIDER = re.compile(r"Tokens: ([\d.]+)(k?) sent, (?:([\d.]+)(k?) cache hit, )?([\d.]+)(k?) received")
PAGE = """\
# Coding agents

`scripts/bench agents` on {date}: {machine}. Each cell is a night of one experiment on a task of a few lines: the CLI itself, in
bubblewrap and through the gateway, against a scripted provider that behaves as the column says. What the record says came of
it, and the seconds that the agent was at work.

{table}

- `success`: reads the file, changes it with the CLI's own tool; `rename`: by a new file renamed over it, in a shell where there
  is one; `other`: a file that it may not change; `idle`: nothing. `auth`: 401; `quota`: a used up account; `rate_limited`: 429
  for ever, `rate_limited_once`: 429 once; `overloaded`: 529 or 503; `context`: 400, too long; `dropped`: every answer breaks off;
  `hang`: no answer (the proposal had {hang} s, everywhere else {often} s).
- `timeout` where a provider is busy means that the CLI was still trying again by itself.
- An empty cell was not measured in that run; `tests/agents/test_matrix.py` says what each may be.

## Versions, and tokens as the gateway and as the CLI count them

| agent | version | first request, s | metered: input, cached, output | told by the CLI |
| --- | --- | ---: | ---: | ---: |
{versions}

Input is without what was read from a cache. aider rounds, and counts what was cached as sent; opencode leaves out the request
that makes a title; mini tells its steps and their price, no tokens.
"""


def main() -> None:
    """Measure what was asked for, and write both files after each cell."""
    parser = argparse.ArgumentParser(description="Run the real CLIs against the scripted provider.")
    parser.add_argument("--cli", nargs="*", choices=CLIS, default=CLIS)
    parser.add_argument("--behaviour", nargs="*", choices=get_args(Behaviour), default=list(get_args(Behaviour)))
    parser.add_argument("--out", type=Path, default=ROOT / "docs/benchmarks")
    args = parser.parse_args()
    results = args.out / "agents.json"
    found: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    for behaviour in args.behaviour:
        for name in (name for name in args.cli if (installed_here() / "bin" / name).exists()):
            cell = measure(name, behaviour)
            print(f"{name:<10}{behaviour:<20}{cell['outcome']:<14}{cell['seconds']:6.1f} s", flush=True)
            found.setdefault(name, {})[behaviour] = cell
            results.write_text(json.dumps(found, indent=1) + "\n")
            (args.out / "agents.md").write_text(page(found))


def measure(name: str, behaviour: Behaviour) -> dict[str, Any]:
    """One night of one experiment."""
    with tempfile.TemporaryDirectory() as scratch, Provider(behaviour, retry_after=0.3).serving() as provider:
        lab = make_lab(Path(scratch))
        lab.edit("toy/task.yaml", "propose_s: 20", f"propose_s: {PROPOSE_S.get(behaviour, OFTEN)}")
        if behaviour == "quota":
            lab.edit("toy/task.yaml", "experiments: 4", "experiments: 4, hours: 0.003")  # else it waits for the next quota
        equip(lab, provider, name, retry={"times": 0})
        began = time.monotonic()
        done = night(lab, name)
        try:
            told = record(lab)
        except Exception:
            sys.exit(f"{name}, {behaviour}: the night made no experiment:\n{done.stderr}")
        proposal = told["proposal"]
        transcript = (lab.state / "logs/t/0001.log").read_text("utf-8", "replace")
        return {
            "outcome": proposal["outcome"]["kind"],
            "reason": proposal["outcome"]["reason"],
            "seconds": proposal["seconds"],
            "night_s": round(time.monotonic() - began, 1),
            "exit_code": proposal["exit_code"],
            "version": proposal["agent_version"],
            "usage": proposal["usage"],
            "told": tokens(name, transcript),
            "requests": len(provider.asked),
            "date": date.today().isoformat(),
        }


def tokens(name: str, transcript: str) -> list[int] | None:
    """Input without cached, cached, output, as the CLI told them in all; None where it does not."""
    if name == "aider":
        said = AIDER.findall(transcript)
        sums = [sum(int(float(each[i] or 0) * (1000 if each[i + 1] else 1)) for each in said) for i in (0, 2, 4)]
        return sums if said else None
    if name not in TOLD:
        return None
    where, items, *paths, included = TOLD[name]
    found = []
    for line in transcript.splitlines():
        with suppress(ValueError, TypeError):
            event = json.loads(line)
            if all(select(Select(take=path), event) == wanted for path, wanted in where.items()):
                found += [numbers(item, paths) for item in (event[items] if items else [event])]
    counted = [each for each in found if each]
    total = [sum(each[i] for each in counted) for i in range(3)]
    return [total[0] - total[1] if included else total[0], *total[1:]] if counted else None


def numbers(event: Any, paths: list[str]) -> list[int]:
    """What lies at the paths; empty where something is missing, as in what a user said."""
    with suppress(ValueError, TypeError):
        return [int(select(Select(take=path), event) or "") for path in paths]
    return []


def page(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    columns = [each for each in get_args(Behaviour) if any(each in cells for cells in found.values())]
    rows = ["| agent | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    for name in (name for name in CLIS if name in found):
        cells = [found[name].get(each) for each in columns]
        rows.append(f"| {name} | " + " | ".join(f"{c['outcome']} {c['seconds']:.0f}" if c else "" for c in cells) + " |")
    good = {name: cells["success"] for name, cells in found.items() if "success" in cells}
    lines = []
    for name in (name for name in CLIS if name in good):
        usage, told = good[name]["usage"] or {}, good[name]["told"]
        metered = ", ".join(str(usage.get(each)) for each in ("input", "cached", "output"))
        shown = ", ".join(map(str, told)) if told else "-"
        lines.append(f"| {name} | {good[name]['version']} | {usage.get('first_s') or 0:.1f} | {metered} | {shown} |")
    cpus = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    day = max(cell["date"] for cells in found.values() for cell in cells.values())
    facts = {"date": day, "machine": cpus, "hang": PROPOSE_S["hang"], "often": OFTEN}
    return PAGE.format(table="\n".join(rows), versions="\n".join(lines), **facts)


if __name__ == "__main__":
    main()
