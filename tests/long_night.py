"""Nights of any length in a real repository, written by `git fast-import` in seconds: what a report is made from."""

from __future__ import annotations

import math
import random
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from harness.models import Audit, Experiment, Measurement, Metric, Proposal, Record, Stint, Usage, Verdict

METRIC = Metric(name="loss", resolution=0.0001, noise=0.002)
WHAT = ("learning rate", "warm-up", "weight decay", "batch size", "head dimension", "rotary base", "window", "initial scale")
AGENTS = ("claude", "codex", "tuner")
BEGAN = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)
FILE = "".join(f"CONSTANT_{n} = {n}.5  # tune: {n}..{n + 9}\n" for n in range(100)) + "def train(run):\n    return 'a' * 3\n"

Change = Callable[[Record], Record]


class Import:
    """What `git fast-import` is to read; marks become ids when it has."""

    def __init__(self, path: Path) -> None:
        self.path, self.lines, self.marks = path, list[bytes](), 0

    def blob(self, data: bytes) -> str:
        self.marks += 1
        self.lines.append(b"blob\nmark :%d\ndata %d\n%s\n" % (self.marks, len(data), data))
        return f":{self.marks}"

    def commit(self, ref: str, subject: str, files: dict[str, str], parents: list[str]) -> str:
        self.marks += 1
        links = [f"{'merge' if n else 'from'} {parent}" for n, parent in enumerate(parents)]
        changes = ["deleteall", *(f"M 100644 {mark} {path}" for path, mark in files.items())]
        head = [f"commit {ref}", f"mark :{self.marks}", "committer harness <harness@localhost> 1763676000 +0000"]
        self.lines.append("\n".join([*head, f"data {len(subject.encode())}", subject, *links, *changes, "", ""]).encode())
        return f":{self.marks}"

    def run(self) -> dict[str, str]:
        """Mark -> id."""
        marks = self.path / ".git" / "marks"
        argv = ["git", "fast-import", "--quiet", "--force", f"--export-marks={marks}"]
        subprocess.run(argv, cwd=self.path, input=b"".join(self.lines), check=True)
        return dict(line.split() for line in marks.read_text().splitlines())


def make(
    path: Path, count: int, kept: int = 60, change: Change = lambda record: record, texts: dict[str, str] | None = None
) -> None:
    """A repository with a night of `count` experiments. `change` may replace each record, `texts` what lies beside it."""
    subprocess.run(["git", "init", "-q", "-b", "main", str(path)], check=True)
    merges = {1 + int((count - 1) * (n / kept) ** 2) for n in range(kept)} if kept else set[int]()
    code, values, places = Import(path), list[float](), list[tuple[str, str]]()
    chance, best = random.Random(7), 1.0
    programs = [code.blob(f"# Program {n}\n\nMake the loss smaller.\n{'Simple changes first.' * n}\n".encode()) for n in range(3)]
    lab = code.commit("refs/heads/main", "Start", {"train.py": code.blob(FILE.encode())}, [])
    lab = code.commit("refs/heads/autoresearch/t", "Start", {"train.py": code.blob(FILE.encode())}, [lab])
    for number in range(count + 1):
        best -= 0.03 / (5 + number / 20) if number in merges else 0.0
        values.append(best if number in merges or not number else best + abs(chance.gauss(0, 0.01)) + 0.001)
        line = f"CONSTANT_{number % 100} = {number % 100}"
        blob = code.blob(FILE.replace(f"{line}.5", f"{line}.{number:05d}").encode())
        candidate = code.commit("refs/scratch/c", f"{number}", {"train.py": blob}, [lab]) if number else lab
        places.append((lab, candidate))
        if number in merges:
            lab = code.commit("refs/heads/autoresearch/t", f"keep: {number}", {"train.py": blob}, [lab, candidate])
    ids = code.run()
    records, best = Import(path), values[0]
    for number, (base, candidate) in enumerate(places):
        best = min(best, values[number]) if number in merges else best
        made = record(number, number in merges or not number, values[number], best, ids[base], ids[candidate], chance)
        made = change(made.model_copy(update={"program": ids[programs[min(2, 3 * number // (count + 1))]]}))
        beside = {"curve-1.tsv": curve(values[number], chance), "train-1.log": f"step {number} loss {best:.4f}\n" * 40} | (
            texts or {}
        )
        beside["record.json"] = made.model_dump_json()
        files = {name: records.blob(text.encode()) for name, text in beside.items()}
        records.commit(f"refs/experiments/t/{number:04d}", f"{number:04d}", files, [ids[candidate]])
    records.run()
    for argv in (("update-ref", "-d", "refs/scratch/c"), ("pack-refs", "--all"), ("reset", "-q", "--hard")):
        subprocess.run(["git", *argv], cwd=path, check=True)


def record(number: int, keep: bool, value: float, best: float, base: str, commit: str, chance: random.Random) -> Record:
    """A closed experiment, as a night would have left it."""
    began = BEGAN + timedelta(seconds=340 * number)
    status = "keep" if keep else "crash" if number % 17 == 3 else "invalid" if number % 41 == 5 else "discard"
    ok, gain = status in ("keep", "discard"), (chance.gauss(0, 0.001) + 0.003) if keep else best - value
    run = Measurement(
        status="ok" if ok else "crash" if status == "crash" else "invalid",
        reason="" if ok else "CUDA ran out of memory",
        value=value if ok else None,
        seed=1,
        seconds={"startup": 12.0, "train": 300.0 if ok else 20.0, "evaluate": 11.5},
        cpu_s=310.0,
        peak_memory_mb=40_000 + number % 900,
        figures={"tokens_per_s": 1.5e6 + number, "steps": 900.0},
        hidden_figures={"train_loss": value * 1.1},
        audit=Audit(passed=ok, summary="audit passed, 144 cuts" if ok else "the future changes what is said of the past"),
        hardware={"gpu": "NVIDIA H100", "cpu": "AMD EPYC"},
    )
    chances = min(0.999, max(0.001, 0.5 + 150 * gain)) if ok else None
    figures = {"gain": gain, "gain_sd": 0.001, "sigma": 0.002, "value": value, "value_sd": 0.0012, "runs": 1} if ok else {}
    verdict = Verdict.model_validate({"status": status, "reason": "loss 0.98 against 0.99", "probability": chances, **figures})
    agent = AGENTS[number % 3]
    proposal = Proposal(
        title=f"Raise the {WHAT[number % len(WHAT)]} of block {number % 12} to {number % 7}e-{number % 3}",
        hypothesis=f"The {WHAT[number % len(WHAT)]} is too small for what block {number % 12} does.\n\nEarlier results agree.",
        seconds=60.0 + number % 90,
        agent_version="2.1",
        notebook=f"Block {number % 12} wants more." if number % 60 == 7 else "",
        usage=Usage(requests=9, input=9000, output=2000, usd=0.11, models=["big-1"]) if agent != "tuner" else None,
    )
    return Record(
        experiment=Experiment(id=f"{number:04d}", tag="t", agent=agent if number else "baseline", base=base, commit=commit),
        state="closed",
        task="toy",
        metric=METRIC,
        profile="gpu",
        sandbox="bubblewrap",
        harness="0.1.0",
        program="",
        started=began.isoformat(timespec="seconds"),
        updated=(ended := (began + timedelta(seconds=335)).isoformat(timespec="seconds")),
        stints=[Stint(began=BEGAN.isoformat(timespec="seconds"), until=ended)],
        proposal=proposal if number else None,
        measurements=[run],
        verdict=verdict,
    )


def curve(value: float, chance: random.Random) -> str:
    """A loss that falls towards `value`, with some noise."""
    return "".join(f"{10 * n}\t{value + 4 * math.exp(-n / 14) + chance.gauss(0, 0.02):.5f}\n" for n in range(100))
