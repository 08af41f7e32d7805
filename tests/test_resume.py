"""Interrupted nights: Ctrl-C, once and twice, and what continues afterwards. test_crash.py has the kills."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from conftest import Lab


def patient(lab: Lab) -> Path:
    """An agent whose candidates run until the file is there that is returned; outside of a sandbox, where they see it."""
    go = lab.path.parent / "go"
    line = f'import time\nwhile not pathlib.Path("{go}").exists(): time.sleep(0.05)'
    lab.agent("slow", f"sed -i 's/5.0/4.0/' toy/solution.py; printf '%s\\n' '{line}' >> toy/solution.py; NOTE")
    lab.edit("toy/task.yaml", "run_s: 5", "run_s: 120")
    return go


def says(lab: Lab, words: str) -> None:
    """Wait until the night has said it."""
    end = time.monotonic() + 60
    while words not in (lab.path.parent / "night.log").read_text():
        assert time.monotonic() < end
        time.sleep(0.02)


def wait_for(lab: Lab, phase: str) -> None:
    """Wait until `harness status` of experiment 0001 names `phase`."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for path in (Path(lab.env["XDG_STATE_HOME"])).glob("harness/*/status/t.json"):
            text = path.read_text()
            if '"experiment":"0001"' in text and f'"phase":"{phase}' in text:
                return
        time.sleep(0.02)
    raise AssertionError(f"never reached {phase}: {(lab.path.parent / 'night.log').read_text()}")


def test_ctrl_c_once_finishes_the_run(lab: Lab) -> None:
    go = patient(lab)
    night = lab.start("run", "--tag", "t", "--agent", "slow", "--experiments", "3", "--sandbox", "none")
    wait_for(lab, "run 1")
    night.send_signal(signal.SIGINT)
    says(lab, "stopping after the run in progress")
    go.touch()
    assert night.wait(60) == 130
    assert [row[3] for row in lab.rows()] == ["keep", "keep"]
    assert "harness resume --tag t" in (lab.path.parent / "night.log").read_text()


@pytest.mark.heavy
def test_ctrl_c_twice_stops_now_and_resumes(lab: Lab) -> None:
    go = patient(lab)
    night = lab.start("run", "--tag", "t", "--agent", "slow", "--experiments", "1", "--sandbox", "none")
    wait_for(lab, "run 1")
    night.send_signal(signal.SIGINT)
    says(lab, "stopping after the run in progress")
    night.send_signal(signal.SIGINT)
    assert night.wait(60) == 130  # what it runs would go on for two minutes
    assert lab.strays() == []
    assert [row[3] for row in lab.rows()] == ["keep", "open"]
    go.touch()
    lab.harness("resume", "--tag", "t")
    assert [row[3] for row in lab.rows()] == ["keep", "keep"]


@pytest.mark.heavy
def test_ctrl_c_while_an_agent_works_costs_nothing(lab: Lab) -> None:
    lab.agent("slow", "sleep 2; sed -i 's/5.0/4.0/' toy/solution.py")
    night = lab.start("run", "--tag", "t", "--agent", "slow", "--experiments", "1")
    wait_for(lab, "propose")
    night.send_signal(signal.SIGINT)
    assert night.wait(20) == 130
    lab.harness("resume", "--tag", "t")
    assert [row[3] for row in lab.rows()] == ["keep", "keep"]


def test_two_harnesses_on_one_tag_are_refused(lab: Lab) -> None:
    lab.agent("slow", "sleep 15; sed -i 's/5.0/4.0/' toy/solution.py")
    night = lab.start("run", "--tag", "t", "--agent", "slow", "--experiments", "1")
    wait_for(lab, "propose")
    assert "another harness is at work on 't'" in lab.harness("run", "--tag", "t", "--agent", "slow", code=1).stderr
    assert "t: 0001 slow: propose" in lab.harness("status").stdout
    night.kill()
    night.wait()
    assert lab.strays() == []
    assert "t: not running" in lab.harness("status").stdout
