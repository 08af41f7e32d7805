"""Nights in one process and in milliseconds, whose order of events is written beforehand: agents and runs take virtual time.

Everything but the two seams is real: git, the records, the loop, the judge. An agent here changes lines of a file as its part
says, a runner scores the file as it stands in the tree that it was given. Both are done when all others that are at work need
longer. The harness can be killed at any step: what it had not written by then is lost.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness import git
from harness.ledger import Ledger
from harness.models import AgentSpec, Measurement, Record, Request
from harness.night import Interrupt, Night
from harness.opening import Settings, open_night
from harness.protocols import Box, Cancel, Exit
from harness.research import research
from harness.steps import EVENT, Step

NAMES = "ABCDEF"
LOOK_S = 0.002
HOPS = 5  # rounds of the loop in which nothing happens: then nothing will
START = "\n\n\n\n".join(f"{name} = 5" for name in NAMES) + "\n"
FILES = {
    "toy/solution.py": START,
    "toy/task.yaml": """\
name: toy
program: program.md
editable: [toy/solution.py]
command: [python, toy/solution.py]
evaluate: ["true"]
metric: {name: distance, direction: minimize, resolution: 0.001, noise: NOISE}
stop: {experiments: 100}
""",
    "program.md": "Bring every number closer to three.\n",
    "agents.yaml": "player: {argv: [sh]}\n",
}


class Killed(BaseException):
    """The harness died here."""


@dataclass(frozen=True)
class Part:
    """What an agent does in one experiment: lines to set, how long it takes, and what it does when it is asked again.

    `variants` are the lines that it sets in other versions of the file.
    """

    change: Mapping[str, int | str]
    takes: int = 1
    again: Mapping[str, int | str] = field(default_factory=dict)
    variants: tuple[Mapping[str, int], ...] = ()


@dataclass
class Stage:
    """A repository and a play: the parts by experiment, how long runs take by experiment, the steps at which it is killed.

    `worse` are pairs of lines that do each other harm when both are changed: their gains are not additive.
    `asked`: further settings of the night.
    """

    path: Path
    parts: list[Part]
    runs: list[int] = field(default_factory=lambda: [1])
    kills: list[int] = field(default_factory=list)
    interrupts: list[int] = field(default_factory=list)
    worse: set[str] = field(default_factory=set)
    noise: float = 0.0
    asked: dict[str, object] = field(default_factory=dict)
    made: list[tuple[str, int]] = field(default_factory=list)
    merged: list[str] = field(default_factory=list)
    prompts: dict[str, list[str]] = field(default_factory=dict)
    most_waiting: int = 0

    def __post_init__(self) -> None:
        for name, text in FILES.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_text(text.replace("NOISE", str(self.noise)))
        for words in (("init", "-qb", "main"), ("add", "."), ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "t")):
            subprocess.run(["git", *words], cwd=self.path, check=True)
        self.repo = git.open_repo(self.path)
        self.now, self.changes, self.pending = 0.0, 0, dict[object, float]()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.runner: type[Scorer] = Scorer
        self.known: dict[str, tuple[float, float] | None] = {}
        self.paces: dict[str, tuple[float, float] | None] = {}
        self.steps, self.lock, self.dead, self.night = 0, threading.Lock(), False, None

    def play(self, workers: int, slots: int, experiments: int | None = None) -> str:
        """A night, resumed after each kill and each interrupt; why it ended at last."""
        many = len(self.parts) if experiments is None else experiments
        settings = Settings(task=str(self.path / "toy/task.yaml"), tag="t", agents=["player"], sandbox="none")
        settings = settings.model_copy(update={"experiments": many, "workers": workers, "slots": slots, **self.asked})
        while True:
            self.dead = False
            interrupt = Interrupt()
            try:
                with open_night(self.repo, settings, interrupt, lambda _: None, lambda _: None) as night, watched(self):
                    self.night = night
                    night.history.known |= self.known
                    night.history.paces |= self.paces
                    night.agents, night.runner = [Player(self, night.agents[0].spec)], self.runner(self)
                    reason = night.conduct(research(night))
            except Killed:
                continue
            if reason != "interrupted":
                return reason

    def reached(self, step: Step) -> None:
        """A step of the harness: where it may be killed, or interrupted."""
        night = self.night
        with suppress(RuntimeError):  # in a thread, or before the loop
            self.loop = asyncio.get_running_loop()
        if night is not None:
            self.most_waiting = max(self.most_waiting, night.flight.count("waiting"))
        if step is Step.MERGED and night is not None:
            self.merged.append(night.ledger.tip())
        self.steps += 1
        if self.steps in self.interrupts and night is not None:
            night.interrupt.soon = True
        if self.steps in self.kills:
            self.dead = True
        if self.dead:
            raise Killed

    def work(self, takes: float, cancel: Cancel) -> bool:
        """Be at work for some virtual time; False when that was cancelled."""
        me = object()
        with self.lock:
            self.pending[me], self.changes = self.now + takes, self.changes + 1
        try:
            while not self._next(me):
                if cancel() or self.dead:
                    return False
                time.sleep(LOOK_S)
            return not cancel()
        finally:
            with self.lock:
                self.now, self.changes = max(self.now, self.pending.pop(me)), self.changes + 1

    def _next(self, me: object) -> bool:
        """Whether this work is the first to be done, everybody who has a slot is at work, and the loop has nothing else to do."""
        with self.lock:
            before = self.changes
            if min(self.pending, key=lambda each: self.pending[each]) is not me or self.leased() != len(self.pending):
                return False
        quiet = threading.Event()
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self._hop, HOPS, quiet)
        return quiet.wait(5) and self.changes == before and self.leased() == len(self.pending)

    def _hop(self, left: int, quiet: threading.Event) -> None:
        if left and self.loop:
            self.loop.call_soon(self._hop, left - 1, quiet)
        else:
            quiet.set()

    def leased(self) -> int:
        assert self.night is not None
        return sum(len(pool.slots) - len(pool._free) for pool in (self.night.workers, self.night.places))

    def value(self, text: str, seed: int) -> float:
        """The score of a file: the distance of all its numbers from three, and what they do to each other."""
        numbers = {name: int(number) for name, number in re.findall(r"^(\w) = (-?\d+)", text, re.MULTILINE)}
        harm = sum(4 for pair in self.worse if all(numbers[name] != 5 for name in pair))
        dice = int(hashlib.sha256(f"{text} {seed}".encode()).hexdigest()[:8], 16) / 2**32 - 0.5
        return sum(abs(number - 3) for number in numbers.values()) + harm + 3.46 * self.noise * dice

    @property
    def records(self) -> list[Record]:
        return Ledger(self.repo, "t").records()

    def beside(self, record: Record, name: str) -> str:
        ledger = Ledger(self.repo, "t")
        return ledger.text(ledger.get(record.id), name)

    def text(self, commit: str) -> str:
        return git.read(self.repo, git.files(self.repo, git.commit_of(self.repo, commit))["toy/solution.py"]).decode()


def changed(text: str, change: dict[str, int]) -> str:
    """A file with other numbers in some of its lines."""
    for name, number in change.items():
        text = re.sub(rf"^{name} = .*$", f"{name} = {number}", text, flags=re.MULTILINE)
    return text


class Player:
    """An agent that plays its part."""

    def __init__(self, stage: Stage, spec: AgentSpec) -> None:
        self.stage, self.spec = stage, spec

    def propose(self, prompt: str, box: Box, log: Path, seed: int, deadline_s: float, cancel: Cancel, session: str = "") -> Exit:
        part = self.stage.parts[(seed - 1) % len(self.stage.parts)]
        self.stage.prompts.setdefault(f"{seed:04}", []).append(prompt)
        done = self.stage.work(part.takes, cancel)
        anew = "# Make your idea anew" in prompt
        file = box.cwd / "toy/solution.py"
        text = file.read_text()
        file.write_text(changed(text, (part.again if anew else part.change) if done else {}))
        for number, change in enumerate(part.variants if (box.cwd / "variants").exists() else (), 1):
            (box.cwd / f"variants/{number}").mkdir()
            (box.cwd / f"variants/{number}/solution.py").write_text(changed(text, change))
        (box.cwd / "notes/EXPERIMENT.md").write_text(f"Play {seed}{' anew' if anew else ''}\n")
        return Exit(0, 0.0, 0.0, 0.0, "", cancelled=not done)


class Scorer:
    """A runner that scores; numbers above 90 crash."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def measure(self, request: Request, cancel: Cancel) -> Measurement | None:
        stage, night = self.stage, self.stage.night
        assert night is not None
        known = {(run.commit, run.seed) for record in night.ledger.records() for run in record.measurements}
        assert (request.commit, request.seed) not in known, "it is known what this run says"
        stage.made.append((request.commit, request.seed))
        text = (request.tree / "toy/solution.py").read_text()
        if not stage.work(stage.runs[len(stage.made) % len(stage.runs)], cancel):
            return None
        if re.search(r"= 9\d", text):
            return Measurement(status="crash", reason="a number is too large", seed=request.seed)
        return Measurement(status="ok", value=stage.value(text, request.seed), seed=request.seed)


WATCHING: list[Stage] = []


def hook(event: str, args: tuple[Any, ...]) -> None:
    if event == EVENT and WATCHING:
        WATCHING[-1].reached(args[0])


sys.addaudithook(hook)


@contextmanager
def watched(stage: Stage) -> Iterator[None]:
    """The steps of the harness are told to a stage."""
    WATCHING.append(stage)
    try:
        yield
    finally:
        WATCHING.remove(stage)
        stage.night = None


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def check(stage: Stage, night_is_over: bool = True) -> None:
    """What is true of every night, whatever happened in it."""
    repo, records = stage.repo, stage.records
    ledger = Ledger(repo, "t")
    candidates = {record.experiment.commit: record for record in records}
    tip = ledger.tip()
    while parents := git.parents(repo, tip)[1:] and git.parents(repo, tip):
        record = candidates[parents[1]]
        assert record.verdict is not None
        assert record.verdict.status == "keep"
        assert git.tree(repo, record.ground) == git.tree(repo, parents[0])
        assert record.judged is not None
        assert git.tree(repo, tip) == git.tree(repo, record.judged), "a tree was merged that was not measured"
        assert any(run.commit == record.judged and run.status == "ok" for run in record.measurements)
        assert 0 < record.verdict.runs <= len(record.values)  # control runs come later
        if not stage.noise:
            gain = stage.value(stage.text(parents[0]), 0) - stage.value(stage.text(tip), 0)
            assert gain > 0 or (gain == 0 and record.verdict.simpler)
        else:
            assert (record.verdict.probability or 0) > 0.9 or record.verdict.simpler
        tip = parents[0]
    assert tip == records[0].experiment.base
    for record in records:
        made = [(run.commit, run.seed) for run in record.measurements]
        assert len(set(made)) == len(made)
        if night_is_over:
            assert record.state == "closed"
            assert record.verdict is not None
    for record in records:
        if record.variant and record.variant.of == record.id:
            siblings = [each.variant.n for each in records if each.variant and each.variant.of == record.id]
            assert siblings == list(range(1, (record.variant.k if night_is_over else len(siblings)) + 1)), (
                "one was lost, or twice"
            )
        for variant in record.variants:
            assert variant.commit or variant.dropped
    trees = [record.experiment.tree for record in records if record.experiment.tree]
    assert len(set(trees)) == len(trees), "the same change was measured twice"
    if night_is_over:
        assert [ref for ref in repo.references if ref.startswith("refs/heads/exp/")] == []
        kept = [r.id for r in records[1:] if r.verdict and r.verdict.status == "keep"]
        line = subprocess.run(
            ["git", "log", "--first-parent", "--merges", "--format=%H", "autoresearch/t"], cwd=stage.path, capture_output=True
        )
        assert len(kept) == len(line.stdout.split())


__all__ = ["Ledger", "Night", "Part", "Stage", "check"]
