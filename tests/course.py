"""A place to measure train.py files on: real sandboxes, real processes, a corpus of a few files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.models import Budget, Measurement, Metric, Request, Task
from nanochat_train import data, referee
from nanochat_train.channel import Fault
from nanochat_train.data import Data
from nanochat_train.hidden import hidden
from nanochat_train.prepare import prepare
from nanochat_train.session import Trained, train
from nanochat_train.supply import Clock

ROOT = Path(__file__).resolve().parents[1]
FILES = shutil.ignore_patterns("__pycache__", "train.py")

# A table of which token follows which. It trains without torch, which takes seconds to import; `train` is in one piece, so
# that tests can put lines between its steps.
HONEST = """
import fcntl, json, mmap, os, sys, time
import numpy as np
from safetensors.numpy import save
from nanochat_train import feed

def hand_over(run, state):
    memory = os.memfd_create("state", os.MFD_ALLOW_SEALING)
    os.write(memory, state)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, feed.SEALED)
    feed.send(run._sock, {"do": "save"}, memory)

def train(run):
    counts = np.full((run.vocab_size, run.vocab_size), 0.1, dtype=np.float32)
    step = 0
    run.start()
    while (rows := run.next_rows(8)) is not None:
        np.add.at(counts, (rows[:, :-1], rows[:, 1:]), 1)
        step += 1
        run.log(step, 5.0)
    run.note("seen", int(counts.sum()))
    hand_over(run, save({"table": np.log(counts)}))

def load(path):
    from safetensors.torch import load_file
    return load_file(path)["table"]

def logits(model, tokens):
    return model[tokens]
"""


def changed(*edits: tuple[str, str]) -> str:
    """HONEST with the first place of each text replaced."""
    source = HONEST
    for old, new in edits:
        assert old in source
        source = source.replace(old, new, 1)
    return source


@dataclass
class Ran:
    """How a training run ended: what it left, and the fault if it does not count."""

    trained: Trained
    status: str
    reason: str
    state: bytes

    @property
    def notes(self) -> dict[str, str]:
        return self.trained.notes


@dataclass
class Course:
    """Measures candidates on prepared data."""

    scratch: Path

    @property
    def data(self) -> Data:
        return data.load("cpu")

    def request(self, source: str | None, seed: int = 0, sandbox: str = "bubblewrap", **budget: float | None) -> Request:
        """A request to measure a train.py, by default on 8,192 tokens."""
        work = self.scratch / str(len(list(self.scratch.iterdir())))
        shutil.copytree(ROOT / "nanochat_train", work / "tree/nanochat_train", ignore=FILES)
        if source is not None:
            (work / "tree/nanochat_train/train.py").write_text(source)
        limits = Budget.model_validate({"run_s": None, "run_tokens": 8192, "limit_s": 60, "grace_s": 1, **budget})
        editable, metric = ["nanochat_train/train.py"], Metric(name="m")
        task = Task(name="t", program="p", editable=editable, metric=metric, budget=limits, profile="cpu")
        return Request(task=task, tree=work / "tree", work=work, commit="0" * 40, seed=seed, sandbox=sandbox, hidden=hidden())

    def train(self, source: str | None, seed: int = 0, sandbox: str = "bubblewrap", **budget: float | None) -> Ran:
        """Only train."""
        request = self.request(source, seed, sandbox, **budget)
        trained = Trained(Clock(request.task.budget), request.work / "checkpoint.safetensors")
        status, reason, state = "ok", "", b""
        try:
            train(request, self.data, trained, lambda phase, left_s, loss, tokens=None: None)
            state = trained.state.read_bytes()
        except Fault as fault:
            status, reason = fault.status, fault.reason
        return Ran(trained, status, reason, state)

    def measure(self, source: str, seed: int = 0, sandbox: str = "bubblewrap", **budget: float | None) -> Measurement:
        """Train and score."""
        request = self.request(source, seed, sandbox, **budget)
        found = referee.measure(request)
        assert not (request.work / "checkpoint.safetensors").exists()  # moved to what stays, or gone
        return found

    def command(self, *args: str) -> subprocess.CompletedProcess[str]:
        """The referee as the harness calls it."""
        argv = [sys.executable, "-m", "nanochat_train.referee", *args]
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    """A course without data, its caches in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield Course(tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def course(bare: Course, tmp_path_factory: pytest.TempPathFactory) -> Course:
    """Some of the standard library as a corpus of one's own: few validation rows, quick to score."""
    folder = tmp_path_factory.mktemp("texts")
    for path in sorted(Path(os.__file__).parent.glob("*.py"))[:30]:
        (folder / f"{path.stem}.txt").write_bytes(path.read_bytes())
    prepare("cpu", folder)
    return bare
