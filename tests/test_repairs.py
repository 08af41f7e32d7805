"""A change that crashes goes back to its agent with the error, on the same experiment, and a kill in between loses nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import Lab
from test_crash import mortal

from harness.steps import Step

# Crashes at first; when it is told, it mends what it finds in its worktree.
MENDER = """\
if grep -q 'Mend your change' && grep -q ValueError toy/solution.py && grep -q 'A bold step' notes/EXPERIMENT.md; then
  sed -i 's/^raise.*//; s/^X = .*/X = 4.0/' toy/solution.py
else echo 'raise ValueError(7)' >> toy/solution.py; NOTE; fi"""


def mender(lab: Lab, name: str, script: str, repairs: int = 1) -> None:
    lab.agent(name, script, "A bold step")
    with (lab.path / "agents.yaml").open("a") as file:
        file.write(f"  repairs: {repairs}\n")


def record(lab: Lab, experiment: str = "0001") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.git("show", f"refs/experiments/t/{experiment}:record.json"))
    return found


def test_a_change_that_crashed_is_mended_by_its_agent(lab: Lab) -> None:
    mender(lab, "mender", MENDER)
    lab.harness("run", "--tag", "t", "--agent", "mender", "--experiments", "1")
    told = record(lab)
    assert told["verdict"]["status"] == "keep"
    assert len(told["measurements"]) == 1
    (failed,) = told["proposal"]["tries"]
    assert failed["verdict"]["status"] == "crash"
    assert "raise ValueError(7)" in lab.git("show", f"{failed['commit']}:toy/solution.py")
    assert "ValueError: 7" in lab.git("show", "refs/experiments/t/0001:failed-1.log")
    assert "ValueError: 7" in lab.git("show", "refs/experiments/t/0001:prompt.md")
    assert lab.git("branch", "--list", "exp/*") == ""
    assert lab.git("log", "--first-parent", "--merges", "--format=%s", "autoresearch/t") == "keep: A bold step"
    assert "crash" in lab.harness("show", "1").stdout


@pytest.mark.heavy
def test_tries_are_counted_and_the_crash_stays_the_verdict(lab: Lab) -> None:
    mender(lab, "hopeless", "echo 'raise ValueError({seed})' >> toy/solution.py; NOTE", repairs=2)
    mender(lab, "stubborn", "grep -q Mend || echo 'raise ValueError(8)' >> toy/solution.py; NOTE", repairs=1)
    lab.harness("run", "--tag", "t", "--agent", "hopeless", "--agent", "stubborn", "--agent", "crash", "--experiments", "3")
    hopeless, stubborn, without = (record(lab, f"000{n}") for n in (1, 2, 3))
    assert [each["verdict"]["status"] for each in (hopeless, stubborn, without)] == ["crash"] * 3
    assert len(hopeless["proposal"]["tries"]) == 2
    assert without["proposal"]["tries"] == []
    assert lab.git("branch", "--list", "exp/*") == ""


STEPS = [step for step in Step if step not in (Step.REVIVED, Step.LAB_MADE)]


@pytest.mark.parametrize("step", [Step.SENT_BACK, *[pytest.param(s, marks=pytest.mark.heavy) for s in STEPS]])
@pytest.mark.parametrize("nth", ["1", pytest.param("2", marks=pytest.mark.heavy), pytest.param("3", marks=pytest.mark.heavy)])
def test_killed_while_it_is_mended(lab: Lab, step: Step, nth: str) -> None:
    mender(lab, "mender", MENDER)
    run = ("run", "--tag", "t", "--agent", "mender", "--experiments", "1")
    if mortal(lab, "kill", step.name, nth, *run) == -9:
        lab.harness(*run)
    told = record(lab)
    assert told["verdict"]["status"] == "keep"
    assert len(told["proposal"]["tries"]) == 1
    assert lab.git("for-each-ref", "--format=%(refname)", "refs/heads") == "refs/heads/autoresearch/t\nrefs/heads/main"
    assert lab.strays() == []
