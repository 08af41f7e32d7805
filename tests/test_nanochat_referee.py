"""The referee on real processes in real sandboxes: honest runs, and train.py files that are not."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from harness.models import Budget, Measurement, Metric, Request, Task
from nanochat_train import corpus
from nanochat_train.data import Data, Meta

ROOT = Path(__file__).resolve().parents[1]
FILES = shutil.ignore_patterns("__pycache__", "train.py")
HONEST = """
import os, sys, time
import torch
from safetensors.torch import load_file

def train(run):
    torch.manual_seed(run.seed)
    counts = torch.full((run.vocab_size, run.vocab_size), 0.1)
    run.start()
    step = 0
    while (rows := run.next_rows(8)) is not None:
        pairs = torch.from_numpy(rows.astype("int64"))
        counts.index_put_((pairs[:, :-1].flatten(), pairs[:, 1:].flatten()), torch.ones(()), accumulate=True)
        step += 1
        run.log(step, 5.0)
    run.note("seen", int(counts.sum()))
    run.save({"table": counts.log()})

def load(path):
    return load_file(path)["table"]

def logits(model, tokens):
    return model[tokens]
"""


@dataclass
class Course:
    """A place to measure candidates on prepared data."""

    cache: Path
    scratch: Path

    @property
    def data(self) -> Data:
        path = self.cache / "nanochat_train/cpu"
        return Data(Meta.model_validate_json((path / "meta.json").read_text()), path)

    def measure(self, source: str | None, seed: int = 0, sandbox: str = "bubblewrap", **budget: float | None) -> Measurement:
        work = self.scratch / str(len(list(self.scratch.iterdir())))
        shutil.copytree(ROOT / "nanochat_train", work / "tree/nanochat_train", ignore=FILES)
        if source is not None:
            (work / "tree/nanochat_train/train.py").write_text(source)
        limits = Budget.model_validate({"run_s": None, "run_tokens": 8192, "limit_s": 60, "grace_s": 1, **budget})
        task = Task(
            name="t", program="p", editable=["nanochat_train/train.py"], metric=Metric(name="m"), budget=limits, profile="cpu"
        )
        hidden = [Path(line) for line in self.run("nanochat_train.hidden").splitlines()]
        request = Request(task=task, tree=work / "tree", work=work, commit="0" * 40, seed=seed, sandbox=sandbox, hidden=hidden)
        (work / "request.json").write_text(request.model_dump_json())
        self.run("nanochat_train.referee", str(work / "request.json"))
        assert not (work / "checkpoint.safetensors").exists()
        return Measurement.model_validate_json(request.result.read_text())

    def run(self, module: str, *args: str) -> str:
        env = {**os.environ, "XDG_CACHE_HOME": str(self.cache)}
        done = subprocess.run(
            [sys.executable, "-m", module, *args], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """Some of the standard library as a corpus of our own: few validation rows, quick to score."""
    folder = tmp_path_factory.mktemp("texts")
    for number, document in enumerate(corpus.standard_library().train[:40]):
        (folder / f"{number}.txt").write_text(document.text, encoding="utf-8")
    made = Course(tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("work"))
    made.run("nanochat_train.prepare", "--source", str(folder))
    return made


@pytest.fixture(scope="module")
def honest(course: Course) -> Measurement:
    return course.measure(HONEST)


def test_an_honest_run_carries_its_evidence(course: Course, honest: Measurement) -> None:
    assert honest.status == "ok", honest.reason
    assert honest.value is not None
    assert 1 < honest.value < 8
    assert honest.figures["tokens"] == 8192
    assert honest.figures["steps"] == 8
    assert honest.figures["parameters"] == course.data.meta.vocab_size**2
    assert honest.curve[0] == (1, 5.0)
    assert "seen" in honest.notes
    assert honest.cpu_s > 0
    assert honest.peak_memory_mb > 50
    assert honest.versions["corpus"] == course.data.meta.corpus
    assert set(honest.seconds) == {"startup", "train", "evaluate", "audit", "total"}
    assert honest.hardware["cpu"]
    assert int(honest.hardware["cores"]) > 0
    assert {"python", "torch", "numpy", "corpus", "tokenizer"} <= set(honest.versions)
    assert honest.audit is not None
    assert honest.audit.passed
    assert honest.audit.summary == f"audit passed, {honest.audit.figures['cuts']:.0f} cuts"
    assert honest.audit.figures["certified"] == pytest.approx(honest.value, abs=1e-6)


def test_a_model_that_knows_nothing_scores_what_arithmetic_says(course: Course) -> None:
    found = course.measure(HONEST.replace("counts.log()", "0 * counts"))
    targets, sizes = course.data.rows("val")[:, 1:], course.data.token_bytes()
    counted = np.count_nonzero(sizes[targets])
    assert found.value == pytest.approx(counted * math.log2(course.data.meta.vocab_size) / sizes[targets].sum(), rel=1e-6)


def test_the_same_seed_gives_the_same_score(course: Course) -> None:
    source = (ROOT / "nanochat_train/train.py").read_text()
    first, again = (course.measure(source, seed=1, run_tokens=4096) for _ in range(2))
    assert first.status == "ok", first.reason
    assert first.value is not None
    assert again.value is not None
    assert round(first.value, 5) == round(again.value, 5)
    assert first.curve == again.curve


def test_without_data_it_is_void_and_says_what_to_run(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    found = Course(tmp_path / "cache", tmp_path / "work").measure(HONEST)
    assert (found.status, found.value) == ("void", None)
    assert found.reason == "no prepared data for profile 'cpu': run `python -m nanochat_train.prepare`"


def test_a_referee_says_beforehand_that_its_data_is_missing(tmp_path: Path, course: Course) -> None:
    said = {}
    for name, cache in (("empty", tmp_path), ("prepared", course.cache)):
        env = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        argv = [sys.executable, "-m", "nanochat_train.referee", "--ready", "cpu"]
        said[name] = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True)
    assert (said["empty"].returncode, said["prepared"].returncode) == (1, 0)
    assert said["empty"].stdout == "no prepared data for profile 'cpu': run `python -m nanochat_train.prepare`\n"


def test_what_is_printed_changes_nothing(course: Course, honest: Measurement) -> None:
    shout = 'run.start()\n    for _ in range(50): print("x" * 2**20)\n    print("val_bpb: 0.001", flush=True)\n'
    found = course.measure(HONEST.replace("run.start()\n", shout))
    assert found.value == honest.value
    assert len(found.log_tail) < 100_000
    assert "val_bpb: 0.001" in found.log_tail


@pytest.mark.parametrize(
    ("old", "new", "status", "reason"),
    [
        ("import torch\n", "def broken(:\n", "crash", "SyntaxError: invalid syntax (nanochat_train/train.py line 3)"),
        (HONEST, None, "crash", "FileNotFoundError: nanochat_train/train.py is gone"),
        ("step = 0", "step = x", "crash", "NameError: name 'x' is not defined (nanochat_train/train.py line 10)"),
        ("run.log(step, 5.0)", "run.log(step, float('nan'))", "crash", "loss is NaN at step 1"),
        ("step = 0", "os.kill(os.getpid(), 9)", "crash", "killed by signal 9"),
        ("step = 0", "sys.exit(3)", "crash", "SystemExit: 3 (nanochat_train/train.py line 10)"),
        ("    run.save(", "    dict(", "invalid", "ended without a state that was saved in time"),
        ("step = 0", "os.write(run._sock.fileno(), b'[' * 5000); time.sleep(9)", "invalid", "does not understand"),
        ("step = 0", "run._ask({'do': 'rows', 'n': 10**12})", "invalid", "not an integer between"),
        ("counts.log()", "counts.log()[:, :-1]", "invalid", "logits have shape [32, 128, "),
        ("counts.log()", "counts * float('nan')", "invalid", "logits are not finite"),
        ("return load_file", "return oops", "crash", "NameError: name 'oops' is not defined"),
    ],
)
def test_a_broken_train_py_is_a_verdict_with_a_reason(
    course: Course, old: str, new: str | None, status: str, reason: str
) -> None:
    assert old in HONEST
    found = course.measure(None if new is None else HONEST.replace(old, new))
    assert (found.status, found.value) == (status, None)
    assert reason in found.reason


def test_a_run_that_never_ends_is_killed(course: Course) -> None:
    found = course.measure(HONEST.replace("    run.note", "    while True: time.sleep(1)\n    run.note"), limit_s=1.5)
    assert (found.status, found.reason) == ("invalid", "still running 1 s after its deadline")
    assert found.curve


def test_a_run_that_never_starts_is_killed(course: Course) -> None:
    found = course.measure(HONEST.replace("    run.start()", "    time.sleep(60)"), startup_s=4)
    assert (found.status, found.reason) == ("invalid", "did not start within 4 s")


def test_a_budget_in_seconds_ends_the_rows(course: Course) -> None:
    found = course.measure(HONEST, run_s=4, run_tokens=None, grace_s=5)
    assert found.status == "ok", found.reason
    assert found.figures["tokens"] > 8192
    assert 3 < found.seconds["train"] < 9


def test_a_state_that_comes_late_does_not_count(course: Course) -> None:
    found = course.measure(
        HONEST.replace("    run.save", "    time.sleep(1.2)\n    run.save"), run_s=1, run_tokens=None, grace_s=9
    )
    assert found.status == "invalid"
    assert "saved in time" in found.reason


def test_what_validation_rows_make_it_raise_is_not_told(course: Course) -> None:
    leak = "if not hasattr(load, 'n'): load.n = 1\n    else: raise ValueError(str(tokens.tolist()))\n    return model[tokens]"
    found = course.measure(HONEST.replace("return model[tokens]", leak))
    assert (found.status, found.reason) == ("crash", "logits() raised on validation rows")
    assert "tokens" not in found.log_tail


SEARCH = """
    found = []
    text = {text!r}[::-1].encode()
    ids = bytes.fromhex({ids!r})[::-1]
    for root in {roots!r}:
        for folder, folders, files in os.walk(root):
            folders[:] = [name for name in folders if name != "site-packages"]
            for name in files:
                try:
                    content = open(os.path.join(folder, name), "rb").read()
                except OSError:
                    continue
                if text in content or ids in content:
                    found.append(name)
    run.note("found", sorted(found))
    raise LookupError("searched")
"""


def test_training_finds_no_validation_text_anywhere(course: Course, tmp_path: Path) -> None:
    lab = Course(tmp_path / "cache", tmp_path / "work")
    lab.scratch.mkdir()
    lab.run("nanochat_train.prepare")
    split = corpus.standard_library()
    training = "".join(document.text for document in split.train)
    lines = {line.strip(): document.name for document in split.val for line in document.text.splitlines()}
    line = max((line for line in lines if line.isascii() and line not in training), key=len)
    ids = lab.data.rows("val")[0].tobytes()[::-1].hex()
    roots = [str(Path(os.__file__).resolve().parent), "/usr/local/lib", str(tmp_path / "cache")]
    source = HONEST.replace("    run.start()\n", SEARCH.format(text=line[::-1], ids=ids, roots=roots))
    confined, free = lab.measure(source, startup_s=60), lab.measure(source, sandbox="none", startup_s=60)
    assert "LookupError: searched" in confined.reason
    assert confined.notes["found"] == "[]"
    assert "val.npy" in free.notes["found"]
    assert Path(lines[line]).name in free.notes["found"]
    assert json.loads((lab.cache / "nanochat_train/cpu/meta.json").read_text())["held_out"]
