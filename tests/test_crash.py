"""Kill -9 at every change of state, then resume: what comes out is what an undisturbed night would have given.

The kills come from inside the child (see mortal.py), at the steps that harness/steps.py lists.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab, make_lab

from harness.steps import Step

MORTAL = Path(__file__).with_name("mortal.py")
# Slow enough to be asked once whether it goes on; the candidate, too. Odd ones are better, even ones worse.
AGENT = """\
i=$(( {seed} / 100 ))
test $(( i % 2 )) = 1 && X=3.$(( 900 - i )) || X=9.$i
sed -i "s/^X = .*/X = $X/" toy/solution.py
sleep NAP; echo "import time; time.sleep(NAP)" >> toy/solution.py; NOTE"""
NEVER_IN_A_NIGHT = {Step.REVIVED}


def prepare(lab: Lab, nap: float) -> Lab:
    lab.agent("steady", AGENT.replace("NAP", str(nap)), "Better or worse")
    (lab.path.parent / "tmp").mkdir()
    lab.env["TMPDIR"] = str(lab.path.parent / "tmp")
    return lab


def mortal(lab: Lab, *words: str) -> int:
    """Run the harness as a child that kills itself; its exit code, -9 if it did."""
    done = subprocess.run(
        [sys.executable, MORTAL, *words], cwd=lab.path, env=lab.env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode in (0, -9), done.stdout + done.stderr
    return done.returncode


def strays(lab: Lab) -> list[str]:
    """Processes that still work for this lab, given a moment to be dead."""
    end = time.monotonic() + 15
    while True:
        listing = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
        found = [line for line in listing.splitlines() if str(lab.path.parent) in line and "ps -eo" not in line]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.05)


def facts(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what differs from night to night: times, and commit ids, which contain times."""
    timed = {"started", "updated", "seconds", "cpu_s", "peak_memory_mb", "base", "commit", "program", "trusted", "figures"}
    return {
        name: facts(value)
        if isinstance(value, dict)
        else [facts(each) if isinstance(each, dict) else each for each in value]
        if isinstance(value, list)
        else value
        for name, value in record.items()
        if name not in timed
    }


def outcome(lab: Lab) -> dict[str, Any]:
    """Everything that a night leaves: the lab's tree, the refs, the records, and each file that is not an object of git."""
    refs = lab.git("for-each-ref", "--format=%(refname)").splitlines()
    records = [json.loads(lab.git("show", f"{ref}:record.json")) for ref in refs if ref.startswith("refs/experiments")]
    folders = [lab.state, lab.path / ".git", lab.path.parent / "tmp"]
    files = {str(path.relative_to(lab.path.parent)) for folder in folders for path in folder.rglob("*") if path.is_file()}
    return {
        "tree": lab.git("rev-parse", "autoresearch/t^{tree}"),
        "refs": refs,
        "merges": lab.git("log", "--first-parent", "--merges", "--format=%s", "autoresearch/t"),
        "records": [facts(record) for record in records],
        "files": {re.sub(r"[0-9a-f]{40}|-[0-9a-f]{8}(?=/)", "*", name) for name in files if not is_object(name)},
    }


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found["files"] ^ wanted["files"] == set()
    assert found == wanted


def is_object(name: str) -> bool:
    """Objects that no ref names are git's to prune; a lock, an index or a reflog that is left is another matter."""
    return "/objects/" in name and not name.endswith(".lock")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    lab = prepare(make_lab(tmp_path_factory.mktemp("undisturbed")), 0.4)
    lab.harness("run", "--tag", "t", "--agent", "steady", "--experiments", "1")
    return outcome(lab)


@pytest.mark.parametrize("step", [step for step in Step if step not in NEVER_IN_A_NIGHT])
def test_killed_at_a_step_and_resumed(lab: Lab, step: Step, undisturbed: dict[str, Any]) -> None:
    prepare(lab, 0.4)
    in_the_baseline_too = {Step.BEGUN, Step.EXPORTED, Step.RUN_STARTED, Step.RUN_ENDED, Step.MEASURED, Step.CLOSED, Step.SETTLED}
    nth = "2" if step in in_the_baseline_too else "1"
    run = ("run", "--tag", "t", "--agent", "steady", "--experiments", "1")
    assert mortal(lab, "kill", step.name, nth, *run) == -9
    assert strays(lab) == []
    lab.harness(*run)
    same(outcome(lab), undisturbed)
    assert strays(lab) == []


@pytest.mark.parametrize("step", [Step.BEGUN, Step.LAB_MADE, Step.MEASURED, Step.CLOSED])
def test_killed_in_the_baseline_and_resumed(lab: Lab, step: Step, undisturbed: dict[str, Any]) -> None:
    prepare(lab, 0.4)
    run = ("run", "--tag", "t", "--agent", "steady", "--experiments", "1")
    assert mortal(lab, "kill", step.name, "1", *run) == -9
    lab.harness(*run)
    same(outcome(lab), undisturbed)


def test_killed_while_a_branch_is_revived(lab: Lab) -> None:
    lab.harness("run", "--tag", "t", "--agent", "worse", "--experiments", "1")
    assert mortal(lab, "kill", "REVIVED", "1", "revive", "1") == -9
    assert lab.git("branch", "--list", "exp/*") == ""
    assert "exp/t/0001-worse" in lab.harness("revive", "1").stdout
    lab.harness("resume", "--tag", "t")
    assert lab.git("branch", "--list", "exp/*") == "exp/t/0001-worse"


@pytest.mark.heavy
def test_a_thousand_kills(tmp_path: Path) -> None:
    """Random kills, half of them at a random step and half at a random time, over nights of twenty experiments."""
    rng, kills, nights = random.Random(20), 0, 0
    (tmp_path / "calm").mkdir()
    calm = prepare(make_lab(tmp_path / "calm"), 0)
    run = ("run", "--tag", "t", "--agent", "steady", "--experiments", "20")
    calm.harness(*run)
    expected = outcome(calm)
    while kills < 1000:
        folder = tmp_path / f"night-{nights}"
        folder.mkdir()
        lab, nights = prepare(make_lab(folder), 0), nights + 1
        while True:
            how = (
                ("kill-after", str(rng.randint(1, 25))) if rng.random() < 0.5 else ("kill-within", f"{rng.uniform(0.2, 1.5):.3f}")
            )
            if mortal(lab, *how, *run) == 0:
                break
            kills += 1
        assert strays(lab) == []
        same(outcome(lab), expected)
    print(f"{kills} kills in {nights} nights")
