"""The merge queue: what was measured is merged, on the incumbent of now, and what does not go together is made anew once."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from conftest import Lab
from stage import Part, Stage, check, home
from test_crash import mortal

from harness import git, view
from harness.steps import Step

__all__ = ["home"]


def status(stage: Stage) -> list[str]:
    return [record.verdict.status if record.verdict else "open" for record in stage.records]


def test_a_stale_candidate_is_merged_as_it_was_measured_together_with_what_came_first(home: Path) -> None:
    stage = Stage(home / "repo", [Part({"A": 4}, takes=2), Part({"B": 4}, takes=3)])
    stage.play(workers=2, slots=2)
    check(stage)
    first, second = stage.records[1:]
    assert status(stage) == ["keep", "keep", "keep"]
    assert first.experiment.joined is None
    assert second.experiment.base == first.experiment.base
    assert second.experiment.onto == second.ground != second.experiment.base
    commits = [run.commit for run in second.measurements]
    assert commits == [second.experiment.commit, second.experiment.joined]
    assert [run.seed for run in second.measurements] == [1, 1]
    assert "A = 4" in stage.text("autoresearch/t")
    assert "B = 4" in stage.text("autoresearch/t")
    assert git.parents(stage.repo, git.commit_of(stage.repo, "autoresearch/t")) == [second.ground, second.experiment.commit]


def test_under_noise_a_join_has_two_runs_and_the_incumbent_is_what_its_own_runs_say(home: Path) -> None:
    stage = Stage(home / "repo", [Part({"A": 3}, takes=2), Part({"B": 3}, takes=3)], noise=0.1)
    stage.play(workers=2, slots=2)
    check(stage)
    first, *others = stage.records
    assert [record.status for record in others] == ["keep", "keep"]
    assert any(record.experiment.joined for record in others)
    assert all(len(record.values) >= 2 for record in others)
    assert len(first.values) > 1
    assert first.value == pytest.approx(sum(first.values) / len(first.values))


def test_an_agent_is_told_what_others_have_under_way(home: Path) -> None:
    stage = Stage(home / "repo", [Part({"A": 6}, takes=1), Part({"B": 6}, takes=5), Part({"C": 6}, takes=1)], runs=[9])
    stage.play(workers=2, slots=2)
    first, second, third = (stage.prompts[f"000{n}"][0] for n in (1, 2, 3))
    assert "Under way by others, so try something else: 0002, which is being written.\n" in first
    assert "Under way by others, so try something else: 0001, which is being written.\n" in second
    assert "Under way by others, so try something else: 0001 Play 1; 0002, which is being written.\n" in third


def test_merges_are_counted_in_their_order(home: Path) -> None:
    stage = Stage(home / "repo", [Part({"A": 4}, takes=9), Part({"B": 3}, takes=2)])
    stage.play(workers=2, slots=2)
    check(stage)
    assert [record.merge for record in stage.records] == [0, 2, 1]
    assert "distance 12.000 -> 9.000 with 2 merged" in view.summary(stage.records)


@pytest.mark.parametrize("how", ["check: ", *(pytest.param(how, marks=pytest.mark.heavy) for how in ("guards: ",))])
@pytest.mark.parametrize("again", [{"C": 4}, *(pytest.param(again, marks=pytest.mark.heavy) for again in ({}, {"B": 2}))])
def test_what_only_the_joined_tree_fails_is_made_anew_once(home: Path, how: str, again: dict[str, int]) -> None:
    """Each change passes alone. The agent is told, and what it makes then has to pass as well."""
    stage = Stage(home / "repo", [Part({"A": 4}, takes=2), Part({"B": 4}, takes=3, again=again)])
    program = '[sh, -c, \'! grep -q "A = 4" toy/solution.py || grep -q "B = 5" toy/solution.py || { echo both; exit 1; }\']'
    asked = program if how == "check: " else f"[{{name: both, run: {program}}}]"
    task = stage.path / "toy/task.yaml"
    task.write_text(f"{task.read_text()}{how}{asked}\n")
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "a"], cwd=stage.path, check=True)
    stage.play(workers=2, slots=2)
    check(stage)
    second = stage.records[2]
    assert second.proposal is not None
    assert second.verdict is not None
    reasons = [each.verdict.reason for each in second.proposal.tries if each.verdict]
    assert len(reasons) == 1
    assert reasons[0].startswith("not additive: joined with it, ")
    assert "both" in reasons[0]
    assert "both" in stage.prompts["0002"][1]
    assert second.verdict.status == ("keep" if again == {"C": 4} else "discard" if how == "guards: " or not again else "crash")


def test_one_worker_and_one_slot_never_have_a_stale_base(home: Path) -> None:
    stage = Stage(home / "repo", [Part({"A": 4}, takes=2), Part({"B": 4}, takes=3)])
    stage.play(workers=1, slots=1)
    check(stage)
    assert status(stage) == ["keep", "keep", "keep"]
    assert [record.experiment.joined for record in stage.records] == [None] * 3
    assert len(stage.made) == 3


def test_a_hopeless_stale_candidate_costs_no_second_run(home: Path) -> None:
    stage = Stage(home / "repo", [Part({"A": 4}, takes=2), Part({"B": 9}, takes=3)])
    stage.play(workers=2, slots=2)
    check(stage)
    assert status(stage) == ["keep", "keep", "discard"]
    assert len(stage.made) == 3


@pytest.mark.parametrize(
    ("second", "worse", "why"),
    [
        (Part({"A": 3}, takes=3, again={"B": 4}), "", "the texts of both changes conflict"),
        (Part({"B": 4}, takes=3, again={"C": 4}), "AB", "joined with it, distance 14.000 against 11.000: worse by 3.000"),
    ],
)
def test_what_does_not_go_together_is_made_anew_on_what_was_merged(home: Path, second: Part, worse: str, why: str) -> None:
    stage = Stage(home / "repo", [Part({"A": 4}, takes=2), second], worse={worse} if worse else set())
    stage.play(workers=2, slots=2)
    check(stage)
    assert status(stage) == ["keep", "keep", "keep"]
    record = stage.records[2]
    assert record.proposal is not None
    (tried,) = record.proposal.tries
    assert tried.verdict is not None
    assert tried.verdict.reason == f"not additive: {why}"
    assert record.experiment.base == record.ground
    assert record.experiment.base != tried.base
    told = stage.prompts["0002"][-1]
    assert "# Make your idea anew" in told
    assert why in told
    assert "    -A = 5\n    +A = 4\n" in told
    (name, number) = next(iter(second.change.items()))
    assert f"    -{name} = 5\n    +{name} = {number}\n" in told


@pytest.mark.parametrize(
    ("again", "reason"),
    [({}, "not additive: the texts of both changes conflict"), ({"A": 8}, "distance 15.000 against 11.000: worse by 4.000")],
)
def test_it_is_made_anew_only_once(home: Path, again: dict[str, int], reason: str) -> None:
    stage = Stage(home / "repo", [Part({"A": 4}, takes=2), Part({"A": 3}, takes=3, again=again)])
    stage.play(workers=2, slots=2)
    check(stage)
    assert status(stage) == ["keep", "keep", "discard"]
    record = stage.records[2]
    assert record.verdict is not None
    assert record.verdict.reason == reason
    assert len(stage.prompts["0002"]) == 2


def test_an_idea_that_is_stale_twice_and_conflicts_again_is_not_additive(home: Path) -> None:
    """While it is made anew, another change of the same line is merged."""
    parts = [Part({"A": 4}, takes=2), Part({"A": 3, "F": 5}, takes=3, again={"B": 3}), Part({"B": 4}, takes=5)]
    stage = Stage(home / "repo", parts, runs=[1])
    stage.play(workers=3, slots=3)
    check(stage)
    assert sorted(status(stage)) == ["discard", "keep", "keep", "keep"]
    record = stage.records[2]
    assert record.verdict is not None
    assert record.verdict.reason == "not additive: the texts of both changes conflict"


def two_lines(lab: Lab) -> None:
    """A task with two numbers far apart, and an agent for each; the second is ready when the first one's was merged."""
    text = "import os, pathlib\nX = 5.0\n" + "\n" * 9 + "Y = 5.0\npathlib.Path('toy/answer.txt').write_text(str(X + Y - 5))\n"
    (lab.path / "toy/solution.py").write_text(text)
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "two numbers")
    lab.agent("first", "sed -i 's/^X = .*/X = 4.5/' toy/solution.py; NOTE")
    merged = f"git -C '{lab.path}' log --format=%s autoresearch/t | grep -q keep"
    lab.agent("second", f"until {merged}; do sleep 0.1; done; sed -i 's/^Y = .*/Y = 4.5/' toy/solution.py; NOTE")


BEFORE = [Step.PROPOSED, Step.BRANCHED, Step.MEASURED, Step.CLOSED, Step.MERGE_WRITTEN, Step.MERGED]


@pytest.mark.parametrize(
    ("step", "nth"),
    [(Step.JOINED, "1"), *[pytest.param(step, "1", marks=pytest.mark.heavy) for step in (Step.JOIN_WRITTEN, Step.SETTLED)]]
    + [pytest.param(step, nth, marks=pytest.mark.heavy) for step in BEFORE for nth in ("2", "3")],
)
def test_killed_while_it_is_merged(lab: Lab, step: Step, nth: str) -> None:
    two_lines(lab)
    run = ("run", "--tag", "t", "--agent", "first", "--agent", "second", "--experiments", "2")
    run += ("--workers", "2", "--slots", "2", "--sandbox", "none")
    died = mortal(lab, "kill", step.name, nth, *run)
    lab.harness(*run)
    assert (died, lab.strays()) == (-9, []) or step not in (Step.JOINED, Step.JOIN_WRITTEN)
    assert [row[3] for row in lab.rows()] == ["keep", "keep", "keep"]
    told = json.loads(lab.git("show", "refs/experiments/t/0002:record.json"))
    assert len(told["measurements"]) == (2 if told["experiment"]["joined"] else 1)
    solution = lab.git("show", "autoresearch/t:toy/solution.py")
    assert "X = 4.5" in solution
    assert "Y = 4.5" in solution
    assert lab.git("for-each-ref", "--format=%(refname)", "refs/heads") == "refs/heads/autoresearch/t\nrefs/heads/main"
