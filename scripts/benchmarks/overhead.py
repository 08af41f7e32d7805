"""What a run costs beside its training, by phases, cold and warm; and what importing torch costs, beside a fork.

    scripts/bench overhead [--profile cpu] [--tokens 200000 | --seconds 300] [--runs 3] [--out docs/benchmarks]

Each run goes the way of a real one: exported, trained and scored in sandboxes, with the caches of the run before as if that
had been kept. Two candidates take turns: train.py as it is, and a small model that is compiled before its clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import __version__, caches, git, once
from harness.opening import Settings
from nanochat_train.referee import ready

COMPILED = '''"""A model of two matrices that is compiled before the clock starts."""

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn


class Model(nn.Module):
    def __init__(self, vocab_size, dim=64):
        super().__init__()
        self.embed, self.head = nn.Embedding(vocab_size, dim), nn.Linear(dim, vocab_size, bias=False)
        self.up, self.down = nn.Linear(dim, 4 * dim, bias=False), nn.Linear(4 * dim, dim, bias=False)

    def forward(self, tokens):
        x = self.embed(tokens)
        return self.head(x + self.down(F.gelu(self.up(x))))


def train(run):
    torch.manual_seed(run.seed)
    model = Model(run.vocab_size).to(run.device)
    loss_of = torch.compile(lambda ids: F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()))

    def step(rows):
        loss = loss_of(torch.from_numpy(rows.astype("int64")).to(run.device))
        for weight, slope in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters()))):
            weight.data -= 0.5 * slope

    for _ in range(2):
        step(run.warmup_rows(16))
    run.start()
    while (rows := run.next_rows(16)) is not None:
        step(rows)
    run.save(model.state_dict())


def load(path):
    state = load_file(path)
    model = Model(*state["embed.weight"].shape)
    model.load_state_dict(state)
    return model.eval()


def logits(model, tokens):
    return model.to(tokens.device)(tokens)
'''
Runs = dict[str, list[dict[str, Any]]]
IMPORTS = {
    "an empty Python": "pass",
    "numpy": "import numpy",
    "torch": "import torch",
    "torch, left without tidying up": "import os, torch; os._exit(0)",
    "torch and an optimiser": "import torch; torch.optim.AdamW([torch.nn.Parameter(torch.ones(2, 2))])",
}
FORK = """
import os, time, torch
begun = time.monotonic()
for _ in range(10):
    if not (pid := os.fork()):
        torch.ones(2)
        os._exit(0)
    os.waitpid(pid, 0)
print((time.monotonic() - begun) / 10)
"""
PAGE = """\
# Beside the training

`{command}` on {date}: {machine}.
Seconds by phase. `import` is the part of the start-up before `train(run)` is called; `save` and `exit` are parts of training,
from `run.save()` until the whole tree is dead; `load` is the part of the evaluation until its first process is ready for rows.
`harness` is what the run took beside its referee's own total: files, the referee's start.

{runs}

A cache is filled by the run before, as a kept experiment's would be; `compiled` counts the files that a run added to its own.
Where `train.py` compiles nothing, both are the same. In the timed window nothing else of that run is started;
for what others may do meanwhile, see [overlap.md](overlap.md).

## Importing torch

The least of {tries} tries each, outside any sandbox; CPU seconds depend less on what else the machine does.

| what | CPU s | wall s |
| --- | ---: | ---: |
{imports}
| a fork of a process that has imported torch |  | {fork:.3f} |

**No warm parent.** A fork of a process that has imported torch would save an import for each of a run's three processes. But a
sandbox is made for one candidate's tree, so the parent would have to be inside it and could not be shared; one outside could
not be confined afterwards by bubblewrap, whose mounts and namespaces come before the program. And a parent that lives on between
candidates is a place to leave something in. What is done instead: workers leave without tidying up torch, and the second
evaluation process imports while the first one scores.
"""


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description="Measure what a run costs beside its training.")
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--tokens", type=int, help="the budget of a run; by default the profile's own")
    parser.add_argument("--seconds", type=float, help="the budget of a run instead")
    parser.add_argument("--runs", type=int, default=3, help="of each candidate")
    parser.add_argument("--tries", type=int, default=5, help="of each import")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    asked = parser.parse_args()
    ready(asked.profile)
    with tempfile.TemporaryDirectory(prefix="harness-overhead-") as folder:
        Path(folder).chmod(0o711)
        os.environ["XDG_STATE_HOME"] = folder
        small = Path(folder) / "train.py"
        small.write_text(COMPILED)
        found = {"train.py": runs(None, asked), "small, compiled": runs(str(small), asked)}
    imports = {name: least(code, asked.tries) for name, code in IMPORTS.items()}
    fork = float(subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True).stdout)
    result = {"version": __version__, "machine": machine(), "runs": found, "imports": imports, "fork_s": fork}
    (asked.out / "overhead.json").write_text(json.dumps(result, indent=1) + "\n")
    command = " ".join(["scripts/bench overhead", *sys.argv[1:]])
    (asked.out / "overhead.md").write_text(page(found, imports, fork, command, asked.tries))


def runs(what: str | None, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs of a train.py, the first one with empty caches: seconds by phase, CPU seconds, files compiled."""
    settings = Settings(task="nanochat_train/task.yaml", tag="overhead", agents=[], profile=asked.profile)
    prepared = once.prepare(git.open_repo(Path.cwd()), settings, what)
    bench, found = prepared.bench, []
    budget: dict[str, float | None] = {"run_s": asked.seconds} if asked.seconds else {"run_s": None, "run_tokens": asked.tokens}
    if asked.seconds or asked.tokens:
        bench = replace(bench, task=bench.task.model_copy(update={"budget": bench.task.budget.model_copy(update=budget)}))
    assert bench.caches is not None
    for number in range(asked.runs):
        left, begun = bench.state.left("overhead", "0000"), time.monotonic()
        measured = bench.run(prepared.commit, 1, bench.state.run("overhead", "0000"), lambda: False, left=left)
        wall = time.monotonic() - begun
        assert measured is not None
        if measured.status != "ok":
            sys.exit(f"the run is {measured.status}: {measured.reason}")
        caches.fill(bench.caches, bench.state.compiled("overhead", "0000"))
        seconds = {**measured.seconds, "harness": wall - measured.seconds["total"]}
        compiled = int(measured.figures.get("compiled_files", 0))
        found.append({"cold": number == 0, "seconds": seconds, "cpu_s": measured.cpu_s, "compiled": compiled})
    return found


def least(code: str, tries: int) -> dict[str, float]:
    """The least CPU and wall seconds of a Python program."""
    cpu, wall = [], []
    for _ in range(tries):
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run([sys.executable, "-c", code], check=True)
        wall.append(time.monotonic() - begun)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {"cpu_s": round(min(cpu), 3), "wall_s": round(min(wall), 3)}


def page(found: Runs, imports: dict[str, dict[str, float]], fork: float, command: str, tries: int) -> str:
    """The page for people."""
    names = (
        "startup",
        "startup.import",
        "train",
        "train.save",
        "train.exit",
        "evaluate",
        "evaluate.load",
        "audit",
        "total",
        "harness",
    )
    head = ("candidate", "caches", *(name.split(".")[-1] for name in names), "total/train", "CPU s", "compiled")
    lines = [f"| {' | '.join(head)} |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    for candidate, measured in found.items():
        for each in measured:
            seconds = each["seconds"]
            cells = " | ".join(f"{seconds.get(name, 0.0):.1f}" for name in names)
            ratio = seconds["total"] / seconds["train"]
            warmth = "empty" if each["cold"] else "of the run before"
            lines.append(f"| {candidate} | {warmth} | {cells} | {ratio:.3f} | {each['cpu_s']:.1f} | {each['compiled']} |")
    rows = [f"| {name} | {each['cpu_s']:.2f} | {each['wall_s']:.2f} |" for name, each in imports.items()]
    date = time.strftime("%Y-%m-%d")
    return PAGE.format(
        command=command, date=date, machine=machine(), runs="\n".join(lines), imports="\n".join(rows), fork=fork, tries=tries
    )


def machine() -> str:
    """What it was measured on."""
    python, load = platform.python_version(), f"a load of {os.getloadavg()[0]:.1f}"
    return f"{os.cpu_count()} cores ({caches.processor()}), Linux {platform.release()}, Python {python}, {load}"


if __name__ == "__main__":
    main()
