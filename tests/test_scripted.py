from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.agents.scripted import due

ROOT = Path(__file__).parents[1]
PATCH = """\
{title}

Because it was asked for.

diff --git a/train.py b/train.py
--- a/train.py
+++ b/train.py
@@ -1 +1 @@
-A = {old}
+A = {new}
"""
ROW = "{number:04}\tabc\t1.0\t0.1\t{status}\t{agent}\tsome title\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A worktree with one file, an empty history and three steps beside it."""
    tree, steps = tmp_path / "tree", tmp_path / "steps"
    (tree / "lab").mkdir(parents=True)
    steps.mkdir()
    subprocess.run(["git", "init", "-q", str(tree)], check=True)
    (tree / "train.py").write_text("A = 1\n")
    (steps / "01-two.patch").write_text(PATCH.format(title="A is two", old=1, new=2))
    (steps / "02-three.patch").write_text(PATCH.format(title="A is three", old=9, new=3))
    (steps / "03-rude.sh").write_text("echo rude; rm train.py; exit 7\n")
    (steps / "README.md").write_text("no step\n")
    return tree


def play(tree: Path, *others: tuple[str, str]) -> subprocess.CompletedProcess[str]:
    """The agent's run after a baseline and experiments of (agent, status)."""
    header = "id\tcommit\tmetric\tmemory_gb\tstatus\tagent\ttitle\n"
    rows = [
        ROW.format(number=number, agent=agent, status=status) for number, (agent, status) in enumerate([("-", "keep"), *others])
    ]
    (tree / "lab/history.tsv").write_text(header + "".join(rows))
    argv = [sys.executable, "-P", "-m", "harness.agents.scripted", str(tree.parent / "steps")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(argv, cwd=tree, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def test_the_first_patch_is_applied_and_its_preamble_becomes_the_notes(tree: Path) -> None:
    ended = play(tree, ("tuner", "keep"), ("scripted", "void"))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tree / "train.py").read_text() == "A = 2\n"
    assert (tree / "notes/EXPERIMENT.md").read_text() == "A is two\n\nBecause it was asked for.\n"


def test_a_folder_of_patches_is_one_step_with_a_variant_for_each(tree: Path) -> None:
    grid = tree.parent / "steps/02-grid"
    grid.mkdir()
    for name, new in (("a", 4), ("b", 5)):
        (grid / f"{name}.patch").write_text(PATCH.format(title=f"A is {new}", old=1, new=new))
    ended = play(tree, ("scripted", "keep"))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tree / "train.py").read_text() == "A = 1\n"
    assert (tree / "notes/EXPERIMENT.md").read_text() == "02-grid\n"
    assert [(tree / f"variants/{n}/train.py").read_text() for n in (1, 2)] == ["A = 4\n", "A = 5\n"]
    assert (tree / "variants/2/EXPERIMENT.md").read_text().startswith("A is 5\n")


def test_variants_of_one_proposal_are_one_step(tree: Path) -> None:
    first = {"id": "0001", "agent": "scripted", "status": "keep", "variant_of": "0001"}
    step = due(tree.parent / "steps", [first, {**first, "id": "0002"}, {**first, "id": "0003"}], "scripted")
    assert step is not None
    assert step.name == "02-three.patch"


def test_a_patch_that_does_not_apply_fails_and_changes_nothing(tree: Path) -> None:
    ended = play(tree, ("scripted", "open"))
    assert ended.returncode != 0
    assert "patch does not apply" in ended.stderr
    assert (tree / "train.py").read_text() == "A = 1\n"


def test_a_script_becomes_the_process(tree: Path) -> None:
    ended = play(tree, ("scripted", "discard"), ("scripted", "crash"))
    assert ended.returncode == 7
    assert ended.stdout.splitlines()[-1] == "rude"
    assert not (tree / "train.py").exists()
    assert (tree / "notes/EXPERIMENT.md").read_text() == "03-rude\n"


def test_after_the_last_step_nothing_happens(tree: Path) -> None:
    ended = play(tree, *[("scripted", "keep")] * 3)
    assert (ended.returncode, ended.stdout) == (0, "no patch left\n")
    assert (tree / "train.py").read_text() == "A = 1\n"
    assert not (tree / "notes").exists()


def test_a_missing_folder_is_one_sentence(tree: Path) -> None:
    (tree.parent / "steps").rename(tree.parent / "elsewhere")
    ended = play(tree)
    assert ended.returncode == 1
    assert ended.stderr.startswith("scripted cannot read ")
    assert len(ended.stderr.splitlines()) == 1
