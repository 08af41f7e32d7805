"""Leave one out: which merges the tip still needs, and taking back what it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab
from stage import Part, Scorer, Stage, check, home

from harness.ablation import Left, ablate
from harness.models import Measurement, Request
from harness.night import Night
from harness.protocols import Cancel

__all__ = ["home"]

MORTAL = Path(__file__).with_name("mortal.py")
SOLUTION = """\
import pathlib

A = 5.0

# here

total = A

# there

pathlib.Path("toy/answer.txt").write_text(str(total))
"""
# 1 improves a line; 2 improves the same one again; 3 improves by much code; 4 makes what 3 did needless, and 2 as well.
MERGES = r"""
case {seed} in
1) sed -i 's/^A = .*/A = 4.0/' toy/solution.py;;
2) sed -i 's/^A = .*/A = 3.5/' toy/solution.py;;
3) for part in 'if A == 3.5:' '    for step in range(3):' '        for other in range(3):' \
  '            if step == other == 1:' '                A = A - 0.25'; do
  sed -i "s/^# here/$part\n# here/" toy/solution.py; done;;
*) sed -i 's/^# there/total = 3.1/' toy/solution.py;;
esac
printf 'Merge {seed}\n' > notes/EXPERIMENT.md"""


@pytest.fixture
def merged(lab: Lab) -> Lab:
    """A lab with four merges."""
    (lab.path / "toy/solution.py").write_text(SOLUTION)
    lab.agent("steps", MERGES)
    lab.git("add", "-A")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "parts")
    lab.harness("run", "--tag", "t", "--agent", "steps", "--experiments", "4")
    assert [row[3] for row in lab.rows()] == ["keep"] * 5
    return lab


def ablated(lab: Lab, *words: str) -> list[dict[str, Any]]:
    return json.loads(lab.harness("ablate", "--json", *words).stdout)


def test_each_merge_is_asked_and_nothing_moves_unless_told(merged: Lab) -> None:
    tip = merged.git("rev-parse", "autoresearch/t")
    found = ablated(merged)
    assert [(each["id"], each["says"]) for each in found] == [
        ("0001", "later merges build on it, so it cannot be taken out alone"),
        ("0002", "no loss was found, and too little code to be simpler without it"),
        ("0003", "not needed: `--keep` takes it back"),
        ("0004", "still helps"),
    ]
    assert (found[3]["worth"], found[2]["worth"]) == (pytest.approx(0.15), 0.0)
    assert found[2]["tokens"] > 30
    assert merged.git("rev-parse", "autoresearch/t") == tip
    assert merged.git("branch", "--list", "exp/*") == ""
    record = json.loads(merged.git("show", f"refs/experiments/t/{found[2]['experiment']}:record.json"))
    assert record["verdict"]["status"] == "discard"
    assert record["verdict"]["reason"].startswith("only measured, it was not to be merged: distance 0.10")
    assert len(merged.rows()) == 8
    shown = merged.harness("ablate").stdout  # nothing is run again
    assert "0004                  +0.15     1" in shown
    assert "Merge 4" in shown
    assert len(merged.rows()) == 8
    found = ablated(merged, "--keep")  # by the runs that are there
    assert found[2]["says"] == "not needed: taken back by 0006"
    assert [each["taken_back"] for each in found] == [False, False, True, False]
    assert merged.git("log", "--first-parent", "-1", "--format=%s", "autoresearch/t") == "simplify: Take back 0003: Merge 3"
    tree = merged.git("show", "autoresearch/t:toy/solution.py")
    assert "range(3)" not in tree
    assert "total = 3.1" in tree
    assert "Agent: ablate" in merged.git("log", "-1", "--format=%B", "autoresearch/t")
    assert [each["id"] for each in ablated(merged)] == ["0001", "0002", "0004"]


@pytest.mark.heavy
def test_with_keep_at_once(merged: Lab) -> None:
    assert [each["taken_back"] for each in ablated(merged, "--keep")] == [False, False, True, False]


@pytest.mark.heavy
@pytest.mark.parametrize("step", ["PROPOSED", "MEASURED", "MERGED"])
def test_killed_on_the_way_it_goes_on(merged: Lab, step: str) -> None:
    command = [sys.executable, MORTAL, "kill", step, "1", "ablate", "--keep", "--json"]
    assert subprocess.run(command, cwd=merged.path, env=merged.env, timeout=120).returncode == -9
    found = ablated(merged, "--keep")
    assert [each["id"] for each in found if each["taken_back"]] == ([] if step == "MERGED" else ["0003"])
    assert "range(3)" not in merged.git("show", "autoresearch/t:toy/solution.py")
    assert merged.git("branch", "--list", "exp/*") == ""
    experiments = [each["experiment"] for each in found if each["experiment"]]
    assert len(experiments) == len(set(experiments))


PARTS = [Part({"A": 4}), Part({"B": 3, "C": 3, "D": 3}), Part({"E": 4}, variants=({"E": 3},))]


def merged_on_stage(home: Path) -> Stage:
    """0001 does harm since 0002 was merged, though that gained more; 0004 is a variant that took the place of 0003."""
    stage = Stage(home, PARTS, worse={"AB"})
    stage.play(1, 1, 4)
    assert [each.status for each in stage.records] == ["keep"] * 5
    return stage


def ask(stage: Stage, *keeps: bool) -> list[list[Left]]:
    """What is said of each merge by `harness ablate`, one command after the other, each with or without `--keep`.

    After an interrupt the next one begins.
    """
    found, left = list[list[Left]](), list(keeps)

    async def story(night: Night) -> str:
        found.append(await ablate(night, left.pop(0)))
        return "said"

    while left:
        stage.play(1, 1, story=story)
    return found


def test_of_variants_the_one_that_was_beaten_is_said_to_be_replaced(home: Path) -> None:
    stage = merged_on_stage(home)
    (found,) = ask(stage, False)
    assert [(each.id, each.says) for each in found] == [
        ("0001", "not needed: `--keep` takes it back"),
        ("0002", "still helps"),
        ("0003", "0004, a variant of the same idea, took its place"),
        ("0004", "still helps"),
    ]
    check(stage)


def test_what_failed_for_another_reason_is_asked_again(home: Path) -> None:
    class Broken(Scorer):
        def measure(self, request: Request, cancel: Cancel) -> Measurement | None:
            return Measurement(status="void", reason="the GPU is gone")

    stage = merged_on_stage(home)
    stage.runner = Broken
    assert {each.says for each in ask(stage, False)[0] if each.id != "0003"} == {"unknown: the GPU is gone"}
    stage.runner = Scorer
    assert [each.says for each in ask(stage, False)[0]][1::2] == ["still helps"] * 2


@pytest.mark.parametrize("after", [4, *(pytest.param(after, marks=pytest.mark.heavy) for after in range(1, 12))])
@pytest.mark.parametrize("keep", [True, False])
def test_whether_it_is_taken_back_is_what_the_last_command_says(home: Path, keep: bool, after: int) -> None:
    """The first command is interrupted while it measures the tip without 0001; where it was done with that, it stays done."""
    stage = merged_on_stage(home)
    stage.hasty = [stage.steps + after]
    first, *_, last = ask(stage, not keep, keep)
    assert last[0].id == "0001" or first[0].taken_back
    undecided = not first or first[0].says == "not finished"
    assert undecided or after > 4
    assert ("A = 5" in stage.text("autoresearch/t")) == (keep if undecided else keep or first[0].taken_back)
    assert len({record.experiment.id for record in stage.records if record.proposal and record.proposal.reverts == "0001"}) == 1
    check(stage)


@pytest.mark.heavy
def test_a_night_without_merges_has_nothing_to_take_back(lab: Lab) -> None:
    lab.harness("run", "--tag", "t", "--agent", "worse", "--experiments", "1")
    assert lab.harness("ablate").stdout == "nothing was merged into autoresearch/t yet\n"


@pytest.mark.heavy
def test_without_what_it_needs_the_code_crashes_and_no_agent_is_asked_to_mend_it(lab: Lab) -> None:
    (lab.path / "toy/solution.py").write_text(SOLUTION)
    first = "sed -i 's/^A = .*/A = 4.0/; s/^# here/HELP = 1/' toy/solution.py"
    lab.agent(
        "pair", f"case {{seed}} in 1) {first};; *) sed -i 's/^# there/total = A - HELP * 0.5/' toy/solution.py;; esac; NOTE"
    )
    with (lab.path / "agents.yaml").open("a") as file:
        file.write("  repairs: 1\n")
    lab.git("add", "-A")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "parts")
    lab.harness("run", "--tag", "t", "--agent", "pair", "--experiments", "2")
    assert [row[3] for row in lab.rows()] == ["keep"] * 3
    assert ablated(lab)[0]["says"] == "needed: without it the code does not run"


@pytest.mark.heavy
def test_in_review_a_person_decides(merged: Lab) -> None:
    tip = merged.git("rev-parse", "autoresearch/t")
    merged.harness("resume", "--tag", "t", "--review")
    found = ablated(merged, "--keep")[2]
    assert (found["status"], found["taken_back"]) == ("waiting", False)
    assert found["says"] == "not needed: whether it is taken back is for a person to decide, see `harness review 0006`"
    assert merged.git("rev-parse", "autoresearch/t") == tip
    merged.harness("accept", "6")
    assert "range(3)" not in merged.git("show", "autoresearch/t:toy/solution.py")


@pytest.mark.heavy
def test_what_a_forge_squashed_or_rebased_is_asked_as_well(merged: Lab) -> None:
    """A second clone merges with one commit and no second parent, as the button "Squash and merge" does."""
    merged.agent("fifth", "sed -i 's/^total = 3.1/total = 3.05/' toy/solution.py; NOTE", "Merge 5")
    merged.agent("sixth", "sed -i 's/^# here/print(1, 2, 3)/' toy/solution.py; sed -i 's/3.05/3.02/' toy/solution.py; NOTE")
    subprocess.run(["git", "init", "-q", "--bare", str(merged.path.parent / "bare.git")], check=True)
    merged.git("remote", "add", "origin", "../bare.git")
    who = {f"GIT_{who}_{what}": "g@h" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for number, agent, how in ((5, "fifth", ("merge", "--squash")), (6, "sixth", ("cherry-pick", "-n"))):
        merged.harness("run", "--tag", "t", "--review", "--agent", agent, "--experiments", str(number))
        merged.harness("review", "--push")
        other = Lab(merged.path.parent / f"theirs-{number}", {**merged.env, **who})
        bare, branch = str(merged.path.parent / "bare.git"), merged.git("branch", "--list", f"exp/t/000{number}*").strip()
        subprocess.run(["git", "clone", "-q", "-b", "autoresearch/t", bare, str(other.path)], env=other.env, check=True)
        other.git(*how, f"origin/{branch}")
        other.git("commit", "-qm", f"their words for {number}")
        other.git("push", "-q", "origin", "autoresearch/t")
        merged.harness("sync")
        assert merged.git("log", "-1", "--format=%s %P", "autoresearch/t").split()[:4] == ["their", "words", "for", str(number)]
        assert len(merged.git("log", "-1", "--format=%P", "autoresearch/t").split()) == 1
    found = ablated(merged)
    assert [each["id"] for each in found] == ["0001", "0002", "0003", "0004", "0005", "0006"]
    assert found[4]["says"] == "later merges build on it, so it cannot be taken out alone"
    assert (found[5]["says"], found[5]["worth"]) == ("still helps", pytest.approx(0.03))
    tip = merged.git("rev-parse", "autoresearch/t")
    without = merged.git("show", f"refs/experiments/t/{found[5]['experiment']}:record.json")
    commit = json.loads(without)["experiment"]["commit"]
    assert merged.git("diff", f"{tip}~1", commit) == ""  # to leave it out is the tree before it


@pytest.mark.heavy
def test_what_a_person_rejects_to_take_back_is_said(merged: Lab) -> None:
    merged.harness("resume", "--tag", "t", "--review")
    assert ablated(merged, "--keep")[2]["status"] == "waiting"
    merged.harness("reject", "6")
    assert ablated(merged, "--keep")[2]["says"] == "not needed, but a person did not want it taken back"
