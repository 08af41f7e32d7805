"""The quick test of train.py: what it finds, in which words, and that it leaves honest variants alone."""

from __future__ import annotations

import ast
import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_lab

from nanochat_train import check, feed, train
from nanochat_train.prepare import SHAPES

PACKAGE = Path(inspect.getfile(check)).parent
EMBED = "x = x0 = norm(self.embed(tokens).to(self.dtype))"
EVAL = "return model.eval()"
LOGITS = "return model.place(tokens.device.type)(tokens)"
CAUSAL = ("is_causal=seen is None", "is_causal=False")


def checked(top: Path, *changes: tuple[str, str]) -> tuple[int, str]:
    """The exit code and the last line of the check of a changed train.py."""
    shutil.copytree(PACKAGE, top / "nanochat_train", ignore=shutil.ignore_patterns("__pycache__"))
    text = (top / "nanochat_train/train.py").read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    (top / "nanochat_train/train.py").write_text(text)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    words = [sys.executable, "-m", "nanochat_train.check"]
    done = subprocess.run(words, cwd=top, env=env, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout.strip().splitlines()[-1]


def test_train_py_passes(tmp_path: Path) -> None:
    assert checked(tmp_path) == (0, "passed: it trains, saves, loads, and its logits are finite and causal")


@pytest.mark.heavy
def test_attention_without_its_mask_is_found(tmp_path: Path) -> None:
    code, said = checked(tmp_path, CAUSAL)
    assert code == 1
    assert said.startswith("train.py: logits() depend on the future: those up to position 16 change with the tokens after it")


def test_the_rehearsal_is_the_run_that_train_py_gets() -> None:
    def names(kind: type) -> set[str]:
        made = {
            node.attr
            for node in ast.walk(ast.parse(inspect.getsource(kind)))
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
            and isinstance(node.ctx, ast.Store)
        }
        return {name for name in made | set(vars(kind)) if not name.startswith("_")}

    assert names(feed.Run) <= names(check.Rehearsal)
    for name, method in inspect.getmembers(feed.Run, inspect.isfunction):
        if not name.startswith("_"):
            assert list(inspect.signature(method).parameters) == list(
                inspect.signature(getattr(check.Rehearsal, name)).parameters
            )
    assert (SHAPES["cpu"].vocab_size, SHAPES["cpu"].seq_len) == (check.VOCAB_SIZE, check.SEQ_LEN)


def line(text: str) -> int:
    """The line of train.py that begins with a text, spaces aside."""
    return next(n for n, each in enumerate(inspect.getsource(train).splitlines(), 1) if each.strip().startswith(text))


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("def norm(x", "def norm(x:", "SyntaxError: "),
        ("def load(", "def restore(", "train.py: train.py has no function load()"),
        ("self.up(x)", "self.upp(x)", f"has no attribute 'upp' (nanochat_train/train.py line {line('return self.down')})"),
        ("CPU_DIM = 128", "CPU_DIM = 100", "ValueError: a width of 100 does not divide into heads of 64 channels"),
        ("\nDIM = 640", "\nDIM = 650", "ValueError: a width of 650 does not divide into heads of 128 channels"),  # of the GPU
        ('WINDOWS = "SSSSL"', 'WINDOWS = "SX"', "ValueError: WINDOWS = 'SX' is not a sequence of S and L"),
        ('ATTENTION = "auto"', 'ATTENTION = "flash"', "ValueError: ATTENTION = 'flash' is neither auto nor one of flash3, "),
        ("in enumerate(steps(run, model, compute, rows, part)):", "in [(0, 8.0)]:", "asked for no rows"),
        ("    run.save(", "    dict(", "train.py: train(run) ended without run.save(state)"),
        ('{**state, "shape"', '{"shape"', "RuntimeError: Error(s) in loading state_dict for GPT: Missing key(s)"),
        ("        scaler.update()", "        [p.data.mul_(float('nan')) for p in model.parameters()]", "the loss is nan at step"),
        (EMBED, f"{EMBED} + torch.rand(1)", "gives other values when it is called again with the same tokens"),
        (EMBED, f"{EMBED}; x = x - 0.3 * x.mean(0, keepdim=True)", "logits() of a row depend on the other rows of its batch"),
        (EMBED, f"{EMBED}; x = x + 0.1 * torch.cat([x[:, 1:], x[:, :1]], 1)", "logits() depend on the future"),
        (EMBED, f"{EMBED}; x = x + 0.1 * torch.cat([x[:, 64:], 0 * x[:, :64]], 1)", "logits() depend on the future"),
        (LOGITS, "return model.place('cpu')(tokens)[:, :-1]", "logits() have shape [4, 127, 2048], expected"),
        (LOGITS, "return model.place('cpu')(tokens).argmax(-1, True).expand(-1, -1, 2048)", "dtype torch.int64"),
        (LOGITS, "return model.place('cpu')(tokens).tolist()", "logits() returned a list"),
        (LOGITS, "return model.place('cpu')(tokens) / 0", "logits() are not finite"),
        ("    run.start()", "    raise SystemExit(0)", "SystemExit: 0"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    code, last = checked(tmp_path, (old, new))
    assert (code, said in last) == (1, True), last


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (LOGITS, "return torch.compile(model.place(tokens.device.type))(tokens)"),
        ("run.device), max(1,", "'cuda'), max(1,"),  # the compiled loss
        (EVAL, "return model.eval().bfloat16()"),
        ("CPU_BATCH_TOKENS = 1024", "CPU_BATCH_TOKENS = 4096"),
        ("CPU_DEPTH = 4", "CPU_DEPTH = 1"),
        ('WINDOWS = "SSSSL"', 'WINDOWS = "SL"'),
        ("    run.start()", "    run.warmup_rows(2)\n    run.start()\n    run.note('scale', run.scale)"),
        ("rows[:, :-1]", "rows[:, :64]"),
        ("SHORT_WINDOW = 8", "SHORT_WINDOW = 3"),
    ],
)
def test_honest_variants_pass(tmp_path: Path, old: str, new: str) -> None:
    changes = [(old, new)]
    if new == "rows[:, :64]":  # a shorter sequence in training
        changes.append(("rows[:, 1:]", "rows[:, 1:65]"))
    assert checked(tmp_path, *changes) == (0, "passed: it trains, saves, loads, and its logits are finite and causal")


TASK = """\
name: nanochat
program: program.md
editable: [nanochat_train/train.py]
check: [python, -m, nanochat_train.check]
command: [touch, out]
outputs: [out]
evaluate: [cat, one.json]
metric: {name: val_bpb}
budget: {propose_s: 300, check_s: 200}
"""


@pytest.mark.heavy
def test_an_agent_runs_it_in_its_sandbox(tmp_path: Path) -> None:
    """With the command of its prompt, on its own change; the harness finds the same before any run."""
    lab = make_lab(tmp_path)
    shutil.rmtree(lab.path / "toy")
    shutil.copytree(PACKAGE, lab.path / "nanochat_train", ignore=shutil.ignore_patterns("__pycache__"))
    (lab.path / "nanochat_train/task.yaml").write_text(TASK.replace("cat, one.json", "sh, -c, 'cat one.json'"))
    (lab.path / "one.json").write_text('{"value": 1}')
    lab.git("add", "-A")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "nanochat")
    command = "$(cat | grep -o 'python -m nanochat_train.check' | head -1)"
    edit = f"sed -i 's/{CAUSAL[0]}/{CAUSAL[1]}/' {{file}}"
    lab.agent("careful", f"asked={command}; {edit}; $asked > notes/NOTEBOOK.md; NOTE")
    night = lab.command("run", "--tag", "t", "--agent", "careful", "--experiments", "1")
    subprocess.run(night, cwd=lab.path, env=lab.env, check=True, timeout=600)  # two checks: a minute each on a busy machine
    record = json.loads(lab.git("show", "refs/experiments/t/0001:record.json"))
    found = "train.py: logits() depend on the future: those up to position 16 change with the tokens after it"
    assert record["proposal"]["notebook"].splitlines()[-1].startswith(found)
    assert record["verdict"]["reason"].startswith(f"the check failed: {found}")
    assert (record["verdict"]["status"], record["measurements"]) == ("crash", [])
