"""A guard vetoes what the judge would keep; it is trusted, confined, and must hold for the unchanged code."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab
from stage import Part, Stage, check, home

from harness import config
from harness.models import UserError

__all__ = ["home"]
GUARD = """\
import pathlib, sys
print("looking closely")
if "X = 4" in pathlib.Path("toy/solution.py").read_text():
    sys.exit("four is not allowed here")
"""


def guarded(lab: Lab, body: str = GUARD, more: str = "") -> None:
    (lab.path / "toy/guard.py").write_text(body)
    lab.edit("toy/task.yaml", "outputs:", f"guards: [{{name: four, run: [python, toy/guard.py]{more}}}]\noutputs:")
    lab.git("add", "-A")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a guard")


def record(lab: Lab, number: int = 1, tag: str = "t") -> dict[str, Any]:
    return json.loads(lab.git("show", f"refs/experiments/{tag}/000{number}:record.json"))


def test_what_fails_a_guard_is_not_merged_and_the_next_agent_reads_why(lab: Lab) -> None:
    guarded(lab)
    lab.agent("reader", "cat lab/experiments/0001/guard.log lab/experiments/0001/experiment.md")
    lab.harness("run", "--tag", "t", "--agent", "better", "--agent", "reader", "--experiments", "2")
    verdict = record(lab)["verdict"]
    assert verdict["status"] == "discard"
    assert verdict["reason"].startswith("the guard four failed: four is not allowed here; it would have been kept: distance 1.00")
    assert verdict["gain"] == 1.0
    assert lab.git("rev-parse", "autoresearch/t") == lab.git("rev-parse", "main")
    assert lab.git("branch", "--list", "exp/*") == ""
    assert "the end of the guard's output:\nlooking closely\nfour is not allowed here" in lab.harness("show", "1").stdout
    seen = lab.git("show", "refs/experiments/t/0002:transcript.txt")
    assert seen.startswith("looking closely\nfour is not allowed here")
    told = lab.git("show", "refs/experiments/t/0001:prompt.md")
    assert "kept only if these succeed on it, too: `python toy/guard.py`" in told


def test_without_the_guard_the_same_change_is_merged(lab: Lab) -> None:
    """The control."""
    lab.harness("run", "--tag", "t", "--agent", "better", "--experiments", "1")
    assert record(lab)["verdict"]["status"] == "keep"


@pytest.mark.heavy
def test_a_change_that_passes_is_merged_and_a_worse_one_is_never_asked(lab: Lab) -> None:
    guarded(lab, GUARD.replace("X = 4", "X = 7"))
    lab.harness("run", "--tag", "t", "--agent", "better", "--agent", "worse", "--experiments", "2")
    assert record(lab)["verdict"]["status"] == "keep"
    assert "guard" not in record(lab, 2)["verdict"]["reason"]


def test_a_candidate_cannot_edit_its_guard(lab: Lab) -> None:
    """Attack: the agent rewrites the guard and its own file's name for it; the trusted one still speaks."""
    guarded(lab)
    lab.agent("sly", "sed -i 's/5.0/4.0/' toy/solution.py; echo 'pass' > toy/guard.py; echo pass > toy/sys.py; NOTE")
    lab.harness("run", "--tag", "t", "--agent", "sly", "--experiments", "1")
    assert "four is not allowed here" in record(lab)["verdict"]["reason"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("while True: pass", "the guard four took longer than 1 s"),
        ("open('toy/left', 'w')", "the guard four failed: OSError: [Errno 30] Read-only file system"),
        ("import socket; socket.create_connection(('127.0.0.1', 22), 1)", "the guard four failed: ConnectionRefusedError"),
    ],
)
def test_a_guard_is_confined(lab: Lab, body: str, reason: str) -> None:
    guard = f"import pathlib\nif 'X = 4' in pathlib.Path('toy/solution.py').read_text():\n    {body}\n"
    guarded(lab, guard, ", limit_s: 1" if "while" in body else "")
    lab.harness("run", "--tag", "t", "--agent", "better", "--experiments", "1")
    assert reason in record(lab)["verdict"]["reason"]
    if body.startswith("open"):  # the control: nothing but the sandbox keeps it from writing
        lab.harness("run", "--tag", "u", "--agent", "better", "--experiments", "1", "--sandbox", "none")
        assert record(lab, tag="u")["verdict"]["status"] == "keep"


def test_unchanged_code_that_fails_ends_the_night_at_once(lab: Lab) -> None:
    guarded(lab, "raise SystemExit('never')")
    said = lab.harness("run", "--tag", "t", "--agent", "better", code=1).stderr
    assert "the baseline does not run (discard: the guard four failed: never" in said
    assert "repair the task, then use a new --tag" in said


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("{name: a b, run: [true]}", "line 5: guards.0.name: String should match"),
        ("{name: a, run: []}", "line 5: guards.0.run: at least one entry is expected"),
        ("{name: a, cmd: [true]}", "line 5: the field 'guards.0.run' is missing"),
    ],
)
def test_a_mistake_is_named_with_its_line(lab: Lab, written: str, wanted: str) -> None:
    lab.edit("toy/task.yaml", "outputs:", f"guards: [{written}]\noutputs:")
    with pytest.raises(UserError, match=wanted.replace(".", r"\.")):
        config.load_task(lab.path / "toy/task.yaml")


def test_a_merge_that_came_first_while_a_guard_ran_is_measured_together_with_it_and_guarded_again(home: Path) -> None:
    stage = Stage(home, [Part({name: 4}, takes=1 + index % 2) for index, name in enumerate("ABCDEF")])
    guard = "guards: [{name: slow, run: [sh, -c, 'sleep 0.2; ! grep -q \"E = 4\" toy/solution.py']}]\n"
    task = stage.path / "toy/task.yaml"
    task.write_text(task.read_text() + guard)
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "a guard"], cwd=stage.path, check=True)
    stage.play(3, 3)
    check(stage)
    statuses = [each.verdict and each.verdict.status for each in stage.records]
    assert statuses == ["keep", "keep", "keep", "keep", "keep", "discard", "keep"]
    assert "E = 5" in stage.text("autoresearch/t")
    assert any(each.experiment.joined for each in stage.records)
