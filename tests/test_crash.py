"""Kill -9 at every change of state, then resume: what comes out is what an undisturbed night would have given.

The kills come from inside the child (see mortal.py), at the steps that harness/steps.py lists.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab, make_lab

from harness.steps import Step

MORTAL = Path(__file__).with_name("mortal.py")
# Slow enough to be asked once whether it goes on; the candidate, too. Odd ones are better, even ones worse.
AGENT = """\
i={seed}
test $(( i % 2 )) = 1 && X=3.$(( 900 - i )) || X=9.$i
sed -i "s/^X = .*/X = $X/" toy/solution.py
sleep NAP; echo "import time; time.sleep(NAP)" >> toy/solution.py; NOTE"""
# SENT_BACK is killed at in test_repairs.py, the joins in test_merging.py, those of certificates in test_certify.py,
# decisions in test_review.py.
NEVER_IN_A_NIGHT = {
    Step.REVIVED,
    Step.SENT_BACK,
    Step.JOIN_WRITTEN,
    Step.JOINED,
    Step.OPENED,
    Step.CERTIFICATE_MEASURED,
    Step.CERTIFIED,
    Step.DECISION_MADE,
    Step.DECIDED,
}


def prepare(lab: Lab, nap: float) -> Lab:
    lab.agent("steady", AGENT.replace("NAP", str(nap)), "Better or worse")
    lab.edit("toy/task.yaml", "outputs:", f"check: [python, -c, 'import time; time.sleep({nap})']\noutputs:")
    guard = f"{{name: patient, run: [python, -c, 'import time; time.sleep({nap})']}}"
    lab.edit("toy/task.yaml", "outputs:", f"guards: [{guard}]\noutputs:")
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


def facts(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what differs from night to night: times, and commit ids, which contain times."""
    timed = {
        "started",
        "updated",
        "stints",
        "seconds",
        "cpu_s",
        "peak_memory_mb",
        "base",
        "onto",
        "commit",
        "program",
        "trusted",
        "figures",
    }
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


RUN = ("run", "--tag", "t", "--agent", "steady", "--experiments", "1")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """What a night in a sandbox comes to when nobody kills it."""

    @cache
    def night(sandbox: str) -> dict[str, Any]:
        lab = prepare(make_lab(tmp_path_factory.mktemp("undisturbed")), 0.4)
        lab.harness(*RUN, "--sandbox", sandbox)
        return outcome(lab)

    return night


@pytest.mark.parametrize("sandbox", ["bubblewrap", pytest.param("none", marks=pytest.mark.heavy)])
def test_killed_at_every_step_of_one_night(lab: Lab, sandbox: str, undisturbed: Callable[[str], dict[str, Any]]) -> None:
    """The night dies at its first step, the one that continues it at the next, and so on to the last."""
    prepare(lab, 0.4)
    for step in (step for step in Step if step not in NEVER_IN_A_NIGHT):
        assert mortal(lab, "kill", step.name, "1", *RUN, "--sandbox", sandbox) == -9, step
        assert lab.strays() == [], step
    lab.harness(*RUN, "--sandbox", sandbox)
    same(outcome(lab), undisturbed(sandbox))
    assert lab.strays() == []


@pytest.mark.heavy
@pytest.mark.parametrize("nth", ["1", "2"])
@pytest.mark.parametrize("step", [step for step in Step if step not in NEVER_IN_A_NIGHT])
def test_killed_once(lab: Lab, step: Step, nth: str, undisturbed: Callable[[str], dict[str, Any]]) -> None:
    """In the baseline and in the experiment after it; a step that is reached once only has no second time."""
    prepare(lab, 0.4)
    if mortal(lab, "kill", step.name, nth, *RUN) == -9:
        assert lab.strays() == []
        lab.harness(*RUN)
    same(outcome(lab), undisturbed("bubblewrap"))
    assert lab.strays() == []


@pytest.mark.heavy
def test_killed_while_a_branch_is_revived(lab: Lab) -> None:
    lab.harness("run", "--tag", "t", "--agent", "worse", "--experiments", "1")
    assert mortal(lab, "kill", "REVIVED", "1", "revive", "1") == -9
    assert lab.git("branch", "--list", "exp/*") == ""
    assert "exp/t/0001-worse" in lab.harness("revive", "1").stdout
    lab.harness("resume", "--tag", "t")
    assert lab.git("branch", "--list", "exp/*") == "exp/t/0001-worse"


def test_revived_before_it_was_merged_it_is_merged_first(lab: Lab) -> None:
    assert mortal(lab, "kill", "CLOSED", "2", "run", "--tag", "t", "--agent", "better", "--experiments", "1") == -9
    assert "0001 is not finished: `harness resume --tag t` does that" in lab.harness("revive", "1", code=1).stderr
    lab.harness("resume", "--tag", "t")
    assert "keep: Move X towards three" in lab.git("log", "--format=%s", "autoresearch/t")
    assert "exp/t/0001" in lab.harness("revive", "1").stdout


@pytest.mark.heavy
@pytest.mark.parametrize("step", [Step.CLOSED, Step.SETTLED])
def test_killed_after_a_verdict_what_a_discarded_run_made_goes(lab: Lab, step: Step) -> None:
    run = ("run", "--tag", "t", "--agent", "worse", "--experiments", "1")
    assert mortal(lab, "kill", step.name, "2", *run) == -9
    made = lab.state / "artefacts/t/0001/toy/answer.txt"
    assert made.exists() == (step is Step.CLOSED)
    lab.harness(*run)
    assert not made.exists()
    assert lab.rows()[-1][3] == "discard"


@pytest.mark.heavy
@pytest.mark.parametrize("seed", [1, 2])
def test_five_hundred_kills(tmp_path: Path, seed: int) -> None:
    """Random kills, half of them at a random step and half at a random time, over nights of twenty experiments."""
    rng, kills, nights = random.Random(seed), 0, 0
    (tmp_path / "calm").mkdir()
    calm = prepare(make_lab(tmp_path / "calm"), 0)
    run = ("run", "--tag", "t", "--agent", "steady", "--experiments", "20")
    calm.harness(*run)
    expected = outcome(calm)
    while kills < 500:
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
        assert lab.strays() == []
        same(outcome(lab), expected)
    print(f"{kills} kills in {nights} nights")
