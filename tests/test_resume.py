"""Interrupted nights: Ctrl-C, kill -9 at the worst moments, and what continues afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Lab

SLOW_RUN = (
    "sed -i 's/5.0/4.0/' toy/solution.py; echo 'import time; time.sleep(float(os.environ.get(\"NAP\", 2)))' >> toy/solution.py"
)


def wait_for(lab: Lab, phase: str) -> None:
    """Wait until `harness status` of experiment 0001 names `phase`."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for path in (Path(lab.env["XDG_STATE_HOME"])).glob("harness/*/status/t.json"):
            text = path.read_text()
            if '"experiment":"0001"' in text and f'"phase":"{phase}' in text:
                return
        time.sleep(0.02)
    raise AssertionError(f"never reached {phase}: {(lab.path.parent / 'night.log').read_text()}")


def strays(lab: Lab) -> list[str]:
    """Processes that still work for this lab."""
    listing = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listing.splitlines() if str(lab.path.parent) in line and "ps -eo" not in line]


def outcome(lab: Lab) -> tuple[str, list[list[str]]]:
    """What a night came to; commits carry the time of day, so they are left out."""
    return lab.git("rev-parse", "autoresearch/t^{tree}"), [row[1:] for row in lab.rows()]


def no_strays(lab: Lab) -> None:
    end = time.monotonic() + 15
    while strays(lab) and time.monotonic() < end:
        time.sleep(0.05)
    assert strays(lab) == []


@pytest.mark.parametrize("phase", ["propose", "run 1"])
@pytest.mark.parametrize("sandbox", ["bubblewrap", "none"])
def test_kill_9_and_resume(lab: Lab, phase: str, sandbox: str) -> None:
    lab.agent("slow", f"sleep {1.5 if phase == 'propose' else 0}; {SLOW_RUN}; NOTE", "Slow and better")
    night = lab.start("run", "--tag", "t", "--agent", "slow", "--experiments", "1", "--sandbox", sandbox)
    wait_for(lab, phase)
    time.sleep(0.3)
    os.kill(night.pid, signal.SIGKILL)
    night.wait()
    no_strays(lab)
    lab.harness("resume", "--tag", "t")
    assert [row[3] for row in lab.rows()] == ["keep", "keep"]
    assert len(lab.git("log", "--first-parent", "--merges", "--format=%s", "autoresearch/t").splitlines()) == 1
    assert lab.git("for-each-ref", "--format=%(refname)", "refs/heads") == "refs/heads/autoresearch/t\nrefs/heads/main"
    assert not list(lab.state.glob("worktrees/*/*"))
    no_strays(lab)


def test_killed_between_record_and_branch(lab: Lab) -> None:
    """The states that a kill leaves between two writes, made by hand: each is finished by resume and counted once."""
    lab.harness("run", "--tag", "t", "--agent", "better", "--agent", "worse", "--experiments", "2")
    finished = outcome(lab)
    kept = lab.git("rev-parse", "autoresearch/t^2")
    # Kept on record, not merged yet, branch still there; the discarded one's branch not deleted yet.
    lab.git("update-ref", "refs/heads/autoresearch/t", "autoresearch/t^1")
    lab.git("update-ref", "refs/heads/exp/t/0001-move-x-towards-three", kept)
    lab.git("update-ref", "-d", "refs/experiments/t/0002")
    lab.harness("resume", "--tag", "t")
    assert outcome(lab) == finished
    # The record says measuring, and the branch was never made.
    lab.git("update-ref", "refs/heads/autoresearch/t", "autoresearch/t^1")
    lab.git("update-ref", "refs/experiments/t/0001", "refs/experiments/t/0001~2")
    lab.git("update-ref", "-d", "refs/experiments/t/0002")
    lab.harness("resume", "--tag", "t")
    assert outcome(lab) == finished
    assert lab.git("for-each-ref", "--format=%(refname)", "refs/heads/exp") == ""


def test_ctrl_c_once_finishes_the_run(lab: Lab) -> None:
    lab.agent("slow", SLOW_RUN + "; NOTE")
    night = lab.start("run", "--tag", "t", "--agent", "slow", "--experiments", "3")
    wait_for(lab, "run 1")
    night.send_signal(signal.SIGINT)
    assert night.wait(20) == 130
    assert [row[3] for row in lab.rows()] == ["keep", "keep"]
    assert "harness resume --tag t" in (lab.path.parent / "night.log").read_text()


def test_ctrl_c_twice_stops_now_and_resumes(lab: Lab) -> None:
    lab.agent("slow", SLOW_RUN + "; NOTE")
    night = lab.start("run", "--tag", "t", "--agent", "slow", "--experiments", "1")
    wait_for(lab, "run 1")
    started = time.monotonic()
    night.send_signal(signal.SIGINT)
    time.sleep(0.2)
    night.send_signal(signal.SIGINT)
    assert night.wait(20) == 130
    assert time.monotonic() - started < 1.9
    no_strays(lab)
    assert [row[3] for row in lab.rows()] == ["keep", "open"]
    lab.harness("resume", "--tag", "t")
    assert [row[3] for row in lab.rows()] == ["keep", "keep"]


def test_ctrl_c_while_an_agent_works_costs_nothing(lab: Lab) -> None:
    lab.agent("slow", "sleep 2; sed -i 's/5.0/4.0/' toy/solution.py")
    night = lab.start("run", "--tag", "t", "--agent", "slow", "--experiments", "1")
    wait_for(lab, "propose")
    night.send_signal(signal.SIGINT)
    assert night.wait(20) == 130
    lab.harness("resume", "--tag", "t")
    assert [row[3] for row in lab.rows()] == ["keep", "keep"]


def test_two_harnesses_on_one_tag_are_refused(lab: Lab) -> None:
    lab.agent("slow", "sleep 3; sed -i 's/5.0/4.0/' toy/solution.py")
    night = lab.start("run", "--tag", "t", "--agent", "slow", "--experiments", "1")
    wait_for(lab, "propose")
    assert "another harness is at work on 't'" in lab.harness("run", "--tag", "t", "--agent", "slow", code=1).stderr
    assert "t: 0001 slow: propose" in lab.harness("status").stdout
    night.kill()
    night.wait()
    no_strays(lab)
    assert "t: not running" in lab.harness("status").stdout
