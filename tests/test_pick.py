"""Picking experiments onto a branch of one's own: all or none, in memory, and nobody's work tree."""

from __future__ import annotations

import pytest
from conftest import Lab
from test_review import SUM, lab2, night, record

__all__ = ["lab2"]


def solution(**values: float) -> str:
    return SUM.replace("A = 5.0", f"A = {values.get('A', 5.0)}").replace("B = 2.0", f"B = {values.get('B', 2.0)}").strip()


def test_picks_go_onto_a_branch_and_nothing_else_is_touched(lab2: Lab) -> None:
    night(lab2, "a", "late")
    lab2.git("branch", "mine")
    (lab2.path / "toy/solution.py").write_text("my own work, not committed\n")
    before = lab2.git("status", "--porcelain"), lab2.git("rev-parse", "HEAD")
    said = lab2.harness("pick", "2", "1", "--onto", "mine").stdout
    assert [line[:4] for line in said.splitlines()] == ["0001", "0002"]
    assert lab2.git("show", "mine:toy/solution.py") == solution(A=3.0, B=-2.5)
    assert lab2.git("log", "--format=%an|%s", "main..mine").splitlines() == ["late|Lower B too far", "a|Lower A"]
    commit = record(lab2, "0001")["experiment"]["commit"]
    assert f"(cherry picked from commit {commit})" in lab2.git("log", "-1", "--format=%B", "mine~1")
    assert (lab2.git("status", "--porcelain"), lab2.git("rev-parse", "HEAD")) == before


@pytest.mark.heavy
def test_what_cannot_be_picked_is_refused_before_anything_is_touched(lab2: Lab) -> None:
    night(lab2, "a", "late", "c")
    lab2.git("branch", "mine")
    lab2.harness("pick", "1", "--onto", "mine")
    tip = lab2.git("rev-parse", "mine")
    assert "0001 is in mine already" in lab2.harness("pick", "1", "--onto", "mine").stdout
    refused = lab2.harness("pick", "2", "3", "--onto", "mine", code=1).stderr
    assert "nothing was picked, these do not merge into mine: 0003 in toy/solution.py" in refused
    assert lab2.git("rev-parse", "mine") == tip
    assert "main is checked out, and your work tree is not touched: run `git cherry-pick" in (
        lab2.harness("pick", "1", "--onto", "main", code=1).stderr
    )
    assert "make it with `git branch nothing`" in lab2.harness("pick", "1", "--onto", "nothing", code=1).stderr
    assert "the harness's own" in lab2.harness("pick", "1", "--onto", "autoresearch/t", code=1).stderr
    assert "0000 has no change" in lab2.harness("pick", "0", "--onto", "mine", code=1).stderr


@pytest.mark.heavy
def test_what_an_experiment_builds_on_is_named(lab2: Lab) -> None:
    lab2.agent("a2", "sed -i 's/^A = .*/A = 2.0/' toy/solution.py; NOTE", "Lower A more")
    lab2.agent("a0", "sed -i 's/^A = .*/A = 1.0/' toy/solution.py; NOTE", "Lower A most")
    lab2.harness("run", "--tag", "t", "--agent", "a", "--agent", "a2", "--agent", "a0", "--experiments", "3")
    lab2.git("branch", "mine")
    said = lab2.harness("pick", "3", "--onto", "mine", code=1).stderr
    assert "0003 in toy/solution.py (it builds on 0001, 0002: pick those as well)" in said
    lab2.harness("pick", "3", "2", "1", "--onto", "mine")
    assert lab2.git("show", "mine:toy/solution.py") == solution(A=1.0)


@pytest.mark.heavy
def test_a_combination_is_measured_before_it_is_picked(lab2: Lab) -> None:
    lab2.agent("trap", "sed -i 's/^T = 0.0/T = 1 \\/ (A - 3)/' toy/solution.py; NOTE", "Divide by what A may be")
    night(lab2, "a", "b", "trap")
    lab2.git("branch", "mine")
    start = lab2.git("rev-parse", "mine")
    failed = lab2.harness("pick", "1", "3", "--onto", "mine", "--measure", code=1)
    assert "ZeroDivisionError" in failed.stdout
    assert "the combination does not run, so nothing was picked" in failed.stderr
    assert lab2.git("rev-parse", "mine") == start
    assert lab2.harness("pick", "1", "2", "--onto", "mine", "--measure").stdout.startswith("distance 1.00\n")
    assert lab2.git("show", "mine:toy/solution.py") == solution(A=3.0, B=1.0)
