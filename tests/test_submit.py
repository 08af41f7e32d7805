"""A person's commit: measured and judged like any other, with their name on it, and with nothing in it but what may change."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab
from stage import Part, Stage, check, home

from harness import git
from harness.wishes import Wishes

__all__ = ["home"]
MORTAL = Path(__file__).with_name("mortal.py")
ADA = ("-c", "user.name=Ada Example", "-c", "user.email=ada@example.org")


def record(lab: Lab, number: int) -> dict[str, Any]:
    return json.loads(lab.git("show", f"refs/experiments/t/000{number}:record.json"))


def branch(lab: Lab, name: str, edits: dict[str, str], start: str = "main", message: str = "Try four\n\nIt is closer.") -> str:
    """A branch with one commit of Ada's, made without touching the work tree."""
    lab.git("worktree", "add", "-q", "-b", name, f"../{name}", start)
    for path, text in edits.items():
        (lab.path.parent / name / path).write_text(text)
    lab.git("-C", f"../{name}", "add", "-A")
    lab.git("-C", f"../{name}", *ADA, "commit", "-q", "--allow-empty", "-m", message)
    return name


def solution(lab: Lab, old: str = "5.0", new: str = "4.0") -> dict[str, str]:
    return {"toy/solution.py": (lab.path / "toy/solution.py").read_text().replace(old, new)}


@pytest.fixture
def night(lab: Lab) -> Lab:
    """A lab whose night has a baseline and one discarded experiment."""
    lab.harness("run", "--tag", "t", "--agent", "worse", "--experiments", "1")
    return lab


def test_it_is_measured_at_once_when_no_night_runs(night: Lab) -> None:
    branch(night, "mine", solution(night))
    assert night.harness("submit", "mine").stdout.startswith("experiment 0002, keep: distance 1.00 against 2.00")
    assert night.git("log", "-1", "--format=%an|%ae|%cn|%s", "autoresearch/t^2") == "Ada Example|ada@example.org|harness|Try four"
    body = night.git("log", "-1", "--format=%B", "autoresearch/t")
    assert "keep: Try four" in body
    assert "It is closer." in body
    assert "Experiment: t/0002\nSubmitted-by: Ada Example <ada@example.org>\nMetric: distance 1.00" in body
    assert "Agent:" not in body
    assert night.git("branch", "--list", "exp/*") == ""
    assert night.rows()[2][3:] == ["keep", "Try four"]
    assert "experiment 0002, keep" in night.harness("submit", "--list").stdout


@pytest.mark.heavy
def test_a_running_night_takes_it_up_before_its_next_proposal(lab: Lab) -> None:
    go = lab.path.parent / "go"
    lab.agent("slow", f"while [ ! -e '{go}' ]; do sleep 0.1; done; sed -i 's/^X = .*/X = 7.{{seed}}/' toy/solution.py; NOTE")
    lab.edit("toy/task.yaml", "propose_s: 20", "propose_s: 300")
    running = lab.start("run", "--tag", "t", "--agent", "slow", "--experiments", "3", "--sandbox", "none")
    end = time.monotonic() + 60
    while "refs/experiments/t/0001" not in lab.git("for-each-ref", "--format=%(refname)"):
        assert time.monotonic() < end
        time.sleep(0.05)
    branch(lab, "mine", solution(lab))
    assert "the night that runs takes it up before its next proposal" in lab.harness("submit", "mine", "--tag", "t").stdout
    go.touch()
    assert running.wait(90) == 0
    assert [record(lab, number)["experiment"]["agent"] for number in (1, 2, 3)] == ["slow", "person", "slow"]
    assert record(lab, 2)["verdict"]["status"] == "keep"


def test_what_may_not_be_changed_is_refused_in_a_sentence(night: Lab) -> None:
    """The control is the same branch without that file."""
    branch(night, "sly", {**solution(night), "toy/evaluate.py": "print('{\"value\": 0}')\n", "README": "x\n"})
    said = night.harness("submit", "sly", code=1).stderr
    assert "sly cannot be submitted to autoresearch/t: it changes README and 1 more" in said
    assert "an experiment may change only toy/solution.py" in said
    branch(night, "honest", solution(night))
    assert "keep" in night.harness("submit", "honest").stdout


@pytest.mark.parametrize(
    ("edits", "wanted"),
    [
        ({}, "it changes nothing that the tip of the lab branch does not have"),
        ({"toy/solution.py": "W = '" + "w" * 12000 + "'\n"}, "a literal of 12,000 bytes at line 1"),
    ],
)
def test_what_cannot_be_an_experiment_is_refused(night: Lab, edits: dict[str, str], wanted: str) -> None:
    branch(night, "mine", edits)
    assert wanted in night.harness("submit", "mine", code=1).stderr
    assert night.harness("submit", "--list").stdout == "nothing was submitted to t\n"


@pytest.mark.heavy
def test_a_link_in_the_place_of_the_file_is_refused(night: Lab) -> None:
    branch(night, "mine", {})
    where = night.path.parent / "mine" / "toy/solution.py"
    where.unlink()
    where.symlink_to("/etc/passwd")
    night.git("-C", "../mine", *ADA, "commit", "-qam", "A link")
    assert "toy/solution.py is a link" in night.harness("submit", "mine", code=1).stderr


def test_an_old_branch_is_carried_to_the_tip_and_a_conflict_is_said(lab: Lab) -> None:
    lab.harness("run", "--tag", "t", "--agent", "better", "--experiments", "1")
    branch(lab, "near", {"toy/solution.py": "import os, pathlib\nX = 3.0\n"}, message="Three")
    said = lab.harness("submit", "near", code=1).stderr
    assert "it conflicts with what was merged since it left the lab branch: rebase it onto its tip" in said
    branch(lab, "apart", solution(lab, 'print("the answer', 'X and print("the answer'), message="Print less")
    lab.harness("submit", "apart")
    assert record(lab, 2)["verdict"]["status"] == "discard"
    tried = lab.git("show", f"{record(lab, 2)['experiment']['commit']}:toy/solution.py")
    assert "X = 4.0" in tried
    assert 'X and print("the answer' in tried


@pytest.mark.heavy
def test_a_crash_of_a_persons_is_not_sent_to_an_agent(lab: Lab) -> None:
    lab.agent("mender", "sed -i 's/^X = .*/X = 7.0/' toy/solution.py; NOTE")
    with (lab.path / "agents.yaml").open("a") as file:
        file.write("  repairs: 1\n")
    lab.harness("run", "--tag", "t", "--agent", "mender", "--experiments", "1")
    branch(lab, "mine", solution(lab, "5.0", "1 / 0"))
    lab.harness("submit", "mine")
    assert (record(lab, 2)["verdict"]["status"], record(lab, 2)["proposal"]["tries"]) == ("crash", [])


@pytest.mark.heavy
def test_the_same_code_is_not_run_again(night: Lab) -> None:
    branch(night, "again", solution(night, "5.0  # tune: 0..8", "7.0"))
    said = night.harness("submit", "again", code=1).stderr
    assert "the code of again was tried already, as experiment 0001" in said


@pytest.mark.parametrize("step", ["PROPOSED", *(pytest.param(step, marks=pytest.mark.heavy) for step in ("MEASURED", "CLOSED"))])
def test_killed_on_the_way_it_is_one_experiment(night: Lab, step: str) -> None:
    branch(night, "mine", solution(night))
    done = subprocess.run(
        [sys.executable, MORTAL, "kill", step, "1", "submit", "mine"], cwd=night.path, env=night.env, timeout=120
    )
    assert done.returncode == -9
    night.harness("resume", "--tag", "t", "--experiments", "2")
    assert [row[3] for row in night.rows()] == ["keep", "discard", "keep"]
    assert night.git("branch", "--list", "exp/*") == ""


@pytest.mark.parametrize("first", [2, *(pytest.param(first, marks=pytest.mark.heavy) for first in (3, 4, 5, 6))])
def test_whatever_kills_a_night_each_wish_is_tried_once(home: Path, first: int) -> None:
    """Two submissions, one of which is better, and an idea, among the experiments of two agents."""
    stage = Stage(home, [Part({"A": 4}), Part({"B": 4}), Part({"C": 4}), Part({"D": 70})], kills=list(range(first, 400, 9)))
    base = git.commit_of(stage.repo, "main")
    for number in (1, 2):
        text = stage.text("main").replace("F = 5", f"F = {number}").encode()
        tree = git.tree_with(stage.repo, base, {"toy/solution.py": git.write(stage.repo, text)})
        commit = git.commit(stage.repo, tree, [base], f"F is {number}\n", ("Ada", "ada@example.org"))
        Wishes(stage.repo, "t", "submission").add("Ada <ada@example.org>", f"F is {number}", commit)
    Wishes(stage.repo, "t", "idea").add("Ada <ada@example.org>", "try C")
    stage.play(2, 2, 7)
    check(stage)
    taken = {(each.wish.kind, each.wish.number): each for each in stage.records if each.wish}
    assert sorted(taken) == [("idea", 1), ("submission", 1), ("submission", 2)]
    assert sum(each.wish is not None for each in stage.records) == 3
    kept = taken["submission", 2].verdict, taken["submission", 1].verdict
    assert [verdict and verdict.status for verdict in kept] == ["keep", "discard"]
