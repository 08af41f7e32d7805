"""Review mode: what waits for a person, what follows from a decision, and that only measured trees are merged."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pexpect
import pytest
from conftest import Lab

from harness import git
from harness.decisions import decide
from harness.ledger import Ledger, now
from harness.models import Decision

MORTAL = Path(__file__).with_name("mortal.py")
RUN = ("run", "--tag", "t", "--review")
SUM = "import os, pathlib\nA = 5.0\n\n\n\n\n\n\n\n\nB = 2.0\nT = 0.0\npathlib.Path('toy/answer.txt').write_text(str(A + B + T))\n"


@pytest.fixture
def lab2(lab: Lab) -> Lab:
    """A toy with two constants far apart, so that two changes merge: the sum of both is to be three."""
    (lab.path / "toy/solution.py").write_text(SUM)
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "two constants")
    lab.git("config", "user.name", "Ada")
    lab.git("config", "user.email", "ada@localhost")
    lab.agent("a", "sed -i 's/^A = .*/A = 3.0/' toy/solution.py; NOTE", "Lower A")
    lab.agent("b", "sed -i 's/^B = .*/B = 1.0/' toy/solution.py; NOTE", "Lower B")
    lab.agent("c", "sed -i 's/^A = .*/A = 4.0/' toy/solution.py; NOTE", "Lower A a little")
    lab.agent("late", "sed -i 's/^B = .*/B = -2.5/' toy/solution.py; NOTE", "Lower B too far")
    return lab


def night(lab: Lab, *agents: str) -> None:
    names = [part for name in agents for part in ("--agent", name)]
    lab.harness(*RUN, *names, "--experiments", str(len(agents)))


def record(lab: Lab, name: str) -> Any:
    return json.loads(lab.git("show", f"refs/experiments/t/{name}:record.json"))


def statuses(lab: Lab) -> list[str]:
    return [found.status for found in Ledger(git.open_repo(lab.path), "t").records()]


def branches(lab: Lab) -> list[str]:
    return lab.git("for-each-ref", "--format=%(refname:short)", "refs/heads/exp").splitlines()


def tip(lab: Lab) -> str:
    return lab.git("rev-parse", "autoresearch/t")


@pytest.mark.heavy
def test_a_winner_waits_on_its_branch_and_the_search_goes_on_from_the_tip(lab2: Lab) -> None:
    night(lab2, "a", "b")
    assert statuses(lab2) == ["keep", "waiting", "waiting"]
    assert branches(lab2) == ["exp/t/0001-lower-a", "exp/t/0002-lower-b"]
    assert tip(lab2) == lab2.git("rev-parse", "main")
    assert record(lab2, "0002")["experiment"]["base"] == tip(lab2)
    assert record(lab2, "0001")["verdict"]["status"] == "keep"
    assert "0001 waiting 2.00 +2" in " ".join(lab2.harness("log").stdout.split())
    listed = lab2.harness("review").stdout
    assert "0001      2.00         +2  a         Lower A\n     would be merged as it was measured" in listed
    assert [each["experiment"]["id"] for each in json.loads(lab2.harness("review", "--json").stdout)] == ["0001", "0002"]
    one = lab2.harness("review", "2").stdout
    assert "+B = 1.0" in one
    assert "waiting   for a person" in one
    assert "nothing is merged yet, see `harness review`" in lab2.harness("status").stdout
    lab2.harness("resume", "--tag", "t")
    assert branches(lab2) == ["exp/t/0001-lower-a", "exp/t/0002-lower-b"]


@pytest.mark.heavy
def test_accept_merges_the_measured_tree_and_the_reason_ends_in_the_record(lab2: Lab) -> None:
    night(lab2, "a")
    said = lab2.harness("accept", "1", "--reason", "plausible, and small").stdout
    assert said == "0001 merged into autoresearch/t\n"
    assert lab2.git("rev-parse", "autoresearch/t^{tree}") == record(lab2, "0001")["experiment"]["tree"]
    (decision,) = record(lab2, "0001")["review"]["decisions"]
    assert (decision["kind"], decision["reason"]) == ("accept", "plausible, and small")
    assert decision["by"] == "Ada <ada@localhost>"
    assert "Accepted: Ada <ada@localhost>: plausible, and small" in lab2.git("log", "-1", "--format=%B", "autoresearch/t")
    assert branches(lab2) == []
    assert lab2.git("for-each-ref", "refs/decisions") == ""
    assert statuses(lab2) == ["keep", "keep"]
    again = lab2.harness("accept", "1", code=1).stderr
    assert "does not wait for review, it was accepted by Ada" in again
    lab2.harness(*RUN, "--agent", "b", "--experiments", "2")
    assert record(lab2, "0002")["experiment"]["base"] == tip(lab2)


def test_what_was_accepted_late_is_measured_as_merged(lab2: Lab) -> None:
    night(lab2, "a", "b")
    lab2.harness("accept", "1")
    assert "would be measured again, on top of what was merged since" in lab2.harness("review").stdout
    said = lab2.harness("accept", "2", "--reason", "both").stdout
    assert said.startswith("0002 was measured again as 0003, on top of what was merged since: keep: distance 1.00 against 2.00")
    assert statuses(lab2) == ["keep", "keep", "accepted", "keep"]
    new = record(lab2, "0003")
    assert [run["value"] for run in new["measurements"]] == [1.0]
    assert (new["again_of"], new["experiment"]["agent"], new["proposal"]["title"]) == ("0002", "b", "Lower B")
    assert lab2.git("rev-parse", "autoresearch/t^{tree}") == new["experiment"]["tree"]
    assert lab2.git("show", "autoresearch/t:toy/solution.py") == SUM.replace("5.0", "3.0").replace("2.0", "1.0").strip()
    assert branches(lab2) == []
    assert "again     of 0002" in lab2.harness("show", "3").stdout
    assert "measured  again as 0003" in lab2.harness("show", "2").stdout


@pytest.mark.heavy
def test_a_gain_that_does_not_survive_the_merge_is_not_merged(lab2: Lab) -> None:
    night(lab2, "a", "late")
    lab2.harness("accept", "1")
    before = tip(lab2)
    assert "0002 was measured again as 0003, on top of what was merged since: discard" in lab2.harness("accept", "2").stdout
    assert tip(lab2) == before
    assert statuses(lab2) == ["keep", "keep", "accepted", "discard"]


@pytest.mark.heavy
def test_what_cannot_be_merged_is_refused_before_anything_is_touched(lab2: Lab) -> None:
    night(lab2, "c", "a")
    lab2.harness("accept", "2")
    before = lab2.git("for-each-ref")
    said = lab2.harness("accept", "1", code=1).stderr
    assert "experiment 0001 cannot be merged: what was merged since it began changed the same lines of toy/solution.py" in said
    assert lab2.git("for-each-ref") == before
    assert "cannot be merged" in lab2.harness("review", "1").stdout
    lab2.git("switch", "-q", "autoresearch/t")
    lab2.harness("reject", "1")
    assert statuses(lab2) == ["keep", "rejected", "keep"]


@pytest.mark.heavy
def test_a_rejection_is_told_to_the_agents(lab2: Lab) -> None:
    night(lab2, "a")
    assert lab2.harness("reject", "1", "--reason", "A is\nsacred").stdout == "0001 rejected\n"
    assert branches(lab2) == []
    assert tip(lab2) == lab2.git("rev-parse", "main")
    lab2.agent("reader", "cat lab/history.tsv lab/experiments/0001/experiment.md; sed -i 's/^B = .*/B = 1.5/' toy/solution.py")
    lab2.harness(*RUN, "--agent", "reader", "--experiments", "2")
    seen = lab2.git("show", "refs/experiments/t/0002:transcript.txt")
    assert "rejected\ta\tLower A" in seen
    assert "a person rejected it: A is sacred" in seen
    assert "Ada" not in seen
    asked = lab2.git("show", "refs/experiments/t/0002:prompt.md")
    assert "0001 rejected" in asked
    assert "`rejected`: kept by the harness, but a person did not want it merged" in asked
    assert "exp/t/0001-lower-a" in lab2.harness("revive", "1").stdout


@pytest.mark.heavy
def test_a_decision_that_is_not_carried_out_yet_is_not_overruled(lab2: Lab) -> None:
    night(lab2, "a")
    decide(git.open_repo(lab2.path), "t", "0001", Decision(kind="accept", by="Grace", at=now()))
    assert "decided, and not carried out yet" in lab2.harness("review").stdout
    assert "experiment 0001 is about to be accepted" in lab2.harness("reject", "1", code=1).stderr


@pytest.mark.heavy
def test_only_what_waits_can_be_decided(lab2: Lab) -> None:
    lab2.agent("worse2", "sed -i 's/^A = .*/A = 9.0/' toy/solution.py; NOTE")
    night(lab2, "a", "worse2")
    for name, why in (("0", "is merged already"), ("2", "was not kept"), ("9", "there is no experiment 9")):
        assert why in lab2.harness("accept", name, code=1).stderr
    assert lab2.git("for-each-ref", "refs/decisions") == ""


@pytest.mark.heavy
def test_without_review_what_is_kept_is_merged_at_once(lab2: Lab) -> None:
    lab2.edit("toy/task.yaml", "outputs:", "merge: review\noutputs:")
    lab2.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "review")
    lab2.harness("run", "--tag", "t", "--agent", "a", "--experiments", "1")
    lab2.harness("run", "--tag", "t", "--merge", "--agent", "b", "--experiments", "2")
    assert statuses(lab2) == ["keep", "waiting", "keep"]


def mortal(lab: Lab, *words: str) -> int:
    done = subprocess.run(
        [sys.executable, MORTAL, *words], cwd=lab.path, env=lab.env, capture_output=True, text=True, timeout=120
    )
    return done.returncode


@pytest.mark.heavy
@pytest.mark.parametrize("step", ["DECISION_MADE", "DECIDED", "MERGE_WRITTEN", "MERGED", "SETTLED"])
def test_killed_while_something_is_accepted(lab2: Lab, step: str) -> None:
    night(lab2, "a")
    assert mortal(lab2, "kill", step, "1", "accept", "1", "--reason", "yes") == -9
    lab2.harness("resume", "--tag", "t", "--experiments", "2")
    assert statuses(lab2)[:2] == ["keep", "keep"]
    assert lab2.git("for-each-ref", "refs/decisions") == ""
    assert lab2.git("log", "--first-parent", "--merges", "--format=%s", "autoresearch/t").splitlines()[-1] == "keep: Lower A"
    assert len(record(lab2, "0001")["review"]["decisions"]) == 1
    assert "exp/t/0001-lower-a" not in branches(lab2)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "step", ["DECISION_MADE", "PROPOSED", "DECIDED", "BRANCHED", "RUN_GOES_ON", "MEASURED", "CLOSED", "MERGED"]
)
def test_killed_while_something_is_measured_again(lab2: Lab, step: str) -> None:
    night(lab2, "a", "b")
    lab2.harness("accept", "1")
    assert mortal(lab2, "kill", step, "1", "accept", "2") == -9
    lab2.harness("resume", "--tag", "t", "--agent", "idle", "--experiments", "4")
    assert statuses(lab2) == ["keep", "keep", "accepted", "keep", "invalid"]
    assert lab2.git("rev-parse", "autoresearch/t^{tree}") == record(lab2, "0003")["experiment"]["tree"]
    assert (branches(lab2), lab2.git("for-each-ref", "refs/decisions")) == ([], "")


@pytest.mark.heavy
@pytest.mark.parametrize("step", ["CLOSED", "BRANCHED", "MEASURED"])
def test_killed_before_something_waits(lab2: Lab, step: str) -> None:
    assert mortal(lab2, "kill", step, "2" if step != "BRANCHED" else "1", *RUN, "--agent", "a", "--experiments", "1") == -9
    lab2.harness("resume", "--tag", "t")
    assert statuses(lab2) == ["keep", "waiting"]
    assert branches(lab2) == ["exp/t/0001-lower-a"]


@pytest.mark.heavy
def test_a_night_at_work_takes_decisions_up(lab2: Lab) -> None:
    lab2.agent("slow", "while [ ! -e GO ]; do sleep 0.1; done; NOTE".replace("GO", f"'{lab2.path.parent}/go'"))
    lab2.edit("toy/task.yaml", "propose_s: 20", "propose_s: 300")
    night(lab2, "a", "b")
    flags = ("--sandbox", "none", "--agent", "slow", "--experiments", "5")
    running = lab2.start(*RUN, *flags)
    try:
        end = time.monotonic() + 120
        while "0003 slow: propose" not in lab2.harness("status").stdout:
            assert time.monotonic() < end
        assert "a night is at work on 't': it carries that out" in lab2.harness("accept", "1", "--reason", "now").stdout
        while statuses(lab2)[1] != "keep":
            assert time.monotonic() < end
            time.sleep(0.2)
        assert "a night is at work on 't'" in lab2.harness("accept", "2").stdout
        while len(statuses(lab2)) < 5 or statuses(lab2)[4] != "keep":
            assert time.monotonic() < end
            time.sleep(0.2)
        (lab2.path.parent / "go").touch()
        assert running.wait(60) == 0
    finally:
        running.kill()
        running.wait()
    assert statuses(lab2)[:3] == ["keep", "keep", "accepted"]
    new = record(lab2, "0002")["review"]["again"]
    assert (new, record(lab2, new)["verdict"]["status"]) == ("0004", "keep")
    assert lab2.git("rev-parse", "autoresearch/t^{tree}") == record(lab2, new)["experiment"]["tree"]


def test_the_walk_asks_with_keys(lab2: Lab) -> None:
    night(lab2, "a", "b", "late")
    argv = lab2.command("review")
    child = pexpect.spawn(argv[0], argv[1:], cwd=str(lab2.path), env={**lab2.env, "TERM": "dumb"}, timeout=60, encoding="utf-8")
    child.expect(r"\+A = 3.0")
    child.expect(r"0001, 1 of 3: \[a\]ccept")
    child.send("c")
    child.expect("why: ")
    child.sendline("let me think")
    child.expect("0001, 1 of 3")
    child.send("a")
    child.expect("why: ")
    child.sendline("fine")
    child.expect("0002, 2 of 3")
    child.send("s")
    child.expect("0003, 3 of 3")
    child.send("r")
    child.expect("why: ")
    child.sendline("too far")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert statuses(lab2) == ["keep", "keep", "waiting", "rejected"]
    assert [each["reason"] for each in record(lab2, "0001")["review"]["decisions"]] == ["let me think", "fine"]
    assert "comment   Ada <ada@localhost>" in lab2.harness("show", "1").stdout
