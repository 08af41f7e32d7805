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
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness import git, grid, stopping, upkeep
from harness.ablation import ablate
from harness.ledger import Ledger
from harness.models import AgentSpec, Measurement, Record, Request
from harness.night import Interrupt, Night
from harness.opening import Settings, open_night
from harness.protocols import Box, Cancel, Exit
from harness.research import research, room
from harness.state import StateFolder
from harness.steps import EVENT, Step
from harness.wishes import Wishes, takers

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
judge: JUDGE
stop: {experiments: 100}
""",
    "program.md": "Bring every number closer to three.\n",
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


@dataclass(frozen=True)
class Wanted:
    """What a person asks for at a step: an idea, or where `change` sets lines, a submission of that."""

    step: int
    change: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Stage:
    """A repository and a play: the parts by experiment, how long runs take by experiment, the steps at which it is killed.

    `interrupts` are the steps of a Ctrl-C, `hasty` those of two. `worse` are pairs of lines that do each other harm when both are
    changed: their gains are not additive; with `fatal` ones nothing runs. `wanted`: what people ask for while it goes on.
    `asked`: further settings of the night. `tidy`: after each kill and each interrupt somebody frees the disk of all that can go.
    """

    path: Path
    parts: list[Part]
    runs: list[int] = field(default_factory=lambda: [1])
    kills: list[int] = field(default_factory=list)
    interrupts: list[int] = field(default_factory=list)
    hasty: list[int] = field(default_factory=list)
    worse: set[str] = field(default_factory=set)
    fatal: set[str] = field(default_factory=set)
    wanted: list[Wanted] = field(default_factory=list)
    noise: float = 0.0
    judge: str = "bayes"
    tidy: bool = False
    agents: tuple[str, ...] = ("player",)
    asked: dict[str, object] = field(default_factory=dict)
    made: list[tuple[str, int]] = field(default_factory=list)
    merged: list[str] = field(default_factory=list)
    prompts: dict[str, list[str]] = field(default_factory=dict)
    most_waiting: int = 0
    left: list[tuple[str, int, int]] = field(default_factory=list)  # wishes: kind, number, records when it was left
    idle: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, text in FILES.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_text(text.replace("NOISE", str(self.noise)).replace("JUDGE", self.judge))
        (self.path / "agents.yaml").write_text("".join(f"{name}: {{argv: [sh]}}\n" for name in self.agents))
        for words in (("init", "-qb", "main"), ("add", "."), ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "t")):
            subprocess.run(["git", *words], cwd=self.path, check=True)
        self.repo = git.open_repo(self.path)
        self.now, self.changes, self.pending = 0.0, 0, dict[object, float]()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.runner: type[Scorer] = Scorer
        self.known: dict[str, tuple[float, float] | None] = {}
        self.paces: dict[str, tuple[float, float] | None] = {}
        self.steps, self.lock, self.dead, self.night = 0, threading.Lock(), False, None

    def play(
        self,
        workers: int,
        slots: int,
        experiments: int | None = None,
        story: Callable[[Night], Coroutine[Any, Any, str]] = research,
    ) -> str:
        """A night, resumed after each kill and each interrupt; why it ended at last."""
        many = len(self.parts) if experiments is None else experiments
        settings = Settings(task=str(self.path / "toy/task.yaml"), tag="t", agents=list(self.agents), sandbox="none")
        settings = settings.model_copy(update={"experiments": many, "workers": workers, "slots": slots, **self.asked})
        while True:
            self.dead = False
            interrupt = Interrupt()
            try:
                with open_night(self.repo, settings, interrupt, lambda _: None, lambda _: None) as night, watched(self):
                    self.night = night
                    night.history.known |= self.known
                    night.history.paces |= self.paces
                    night.agents, night.runner = [Player(self, each.spec) for each in night.agents], self.runner(self)
                    reason = night.conduct(story(night))
                if not interrupt.soon:
                    return reason
            except Killed:
                pass
            if self.tidy:
                self.free_disk()

    def free_disk(self) -> None:
        """What `harness gc` does, and git's own collection; the next harness has nothing in memory."""
        upkeep.remove(upkeep.waste(StateFolder(self.repo), 0, 1))
        subprocess.run(["git", "gc", "-q", "--prune=now"], cwd=self.path, check=True)
        self.repo = git.open_repo(self.path)

    def ask(self, wanted: Wanted) -> None:
        """What a person does in another process."""
        repo, ada = git.open_repo(self.path), ("Ada", "ada@example.org")
        kind, commit = ("submission" if wanted.change else "idea"), None
        if wanted.change:
            base = git.commit_of(repo, "main")
            text = changed(self.text("main", repo), wanted.change).encode()
            tree = git.tree_with(repo, base, {"toy/solution.py": git.write(repo, text)})
            commit = git.commit(repo, tree, [base], f"Ada's {len(self.left)}\n", ada)
        known = len(Ledger(repo, "t").records())
        wish = Wishes(repo, "t", kind).add("Ada <ada@example.org>", f"try {len(self.left)}", commit)  # type: ignore[arg-type]
        self.left.append((kind, wish.number, known))

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
        for wanted in self.wanted:
            if wanted.step == self.steps and not self.dead:
                self.ask(wanted)
        if self.steps in (*self.interrupts, *self.hasty) and night is not None:
            night.interrupt.soon = True
            night.interrupt.now = self.steps in self.hasty
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
            self._look()
            quiet.set()

    def _look(self) -> None:
        """Now that nothing happens by itself any more: whether a slot is free that somebody waits for."""
        night = self.night
        if night is None or self.dead or night.interrupt.soon or night.ledger.get("0000").state != "closed":
            return
        if self.leased() != len(self.pending) or night.task.check or night.task.guards:  # these take real time
            return
        if night.flight.count("waiting") and night.places._free:
            self.idle.append(f"{night.flight._stages}: a run slot is free")
        if room(night) and not grid.waiting(night.ledger.records()) and stopping.over(night) is None:
            self.idle.append(f"{night.flight._stages}: a worker is free")

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

    def text(self, commit: str, repo: git.Repo | None = None) -> str:
        repo = repo or self.repo
        return git.read(repo, git.files(repo, git.commit_of(repo, commit))["toy/solution.py"]).decode()


def changed(text: str, change: Mapping[str, int | str]) -> str:
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
        if re.search(r"= 9\d", text) or any(not set(pair) & set(re.findall(r"^(\w) = 5$", text, re.M)) for pair in stage.fatal):
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
        elif stage.judge == "greedy":
            assert (record.verdict.gain or 0) > 0 or record.verdict.simpler
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
            siblings += [n for first, n, _ in grid.waiting(records) if first.id == record.id]
            assert siblings == list(range(1, record.variant.k + 1)), "one was lost, or twice"
        for variant in record.variants:
            assert variant.commit or variant.dropped
    check_wishes(stage)
    assert not stage.idle
    agents = [record for record in records if not (record.proposal and record.proposal.reverts)]
    trees = [record.experiment.tree for record in agents if record.experiment.tree]
    assert len(set(trees)) == len(trees), "the same change was measured twice"
    if night_is_over:
        assert [ref for ref in repo.references if ref.startswith("refs/heads/exp/")] == []
        kept = [r.id for r in records[1:] if r.verdict and r.verdict.status == "keep"]
        line = subprocess.run(
            ["git", "log", "--first-parent", "--merges", "--format=%H", "autoresearch/t"], cwd=stage.path, capture_output=True
        )
        assert len(kept) == len(line.stdout.split())


def check_wishes(stage: Stage) -> None:
    """What was asked for went before everything that had not begun by then, once, with its name on all that came of it."""
    records = stage.records
    for record in records:
        if record.variant:
            assert record.wish == records[int(record.variant.of)].wish
    for kind, number, known in stage.left:
        wish = next(each for each in Wishes(stage.repo, "t", kind).all() if each.number == number)  # type: ignore[arg-type]
        taken = [record for record in takers(wish, records) if grid.first(record)]
        before = sum(each[0] == kind for each in stage.left[: stage.left.index((kind, number, known))])
        later = [each for each in records[max(1, known) :] if kind == "submission" or grid.asked(each)]
        later = [each for each in later if not (each.proposal and each.proposal.reverts)]
        assert len(taken) == bool(taken), "it was tried twice"
        place = later.index(taken[0]) if taken else len(later)
        assert place <= before + 1, f"{kind} {number} was left when there were {known} records, and {place} others came first"


def drain(stage: Stage, workers: int, slots: int) -> None:
    """Go on until nothing waits any more that the nights before had left."""
    for _ in range(9):
        waiting = grid.waiting(stage.records)
        left = {each[:2] for each in stage.left} - {(each.wish.kind, each.wish.number) for each in stage.records if each.wish}
        if not waiting and not left:
            return
        stage.play(workers, slots, len(stage.records) - 1 + len(waiting) + len(left))
        check(stage)
    raise AssertionError(f"{waiting} and {left} wait for ever")


async def taking_back(night: Night) -> str:
    """`harness ablate --keep` as the story of a night."""
    await ablate(night, True)
    return "ablated"


__all__ = ["Ledger", "Night", "Part", "Stage", "Wanted", "check", "drain", "taking_back"]
