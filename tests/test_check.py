"""A candidate that fails the task's check costs no run; the check itself is confined like one."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab

CHECK = """\
import pathlib, sys
print("looking")
text = pathlib.Path("toy/solution.py").read_text()
if "X = 7" in text:
    sys.exit("X is seven, which nobody wants")
"""


def with_check(lab: Lab, body: str = CHECK, field: str = "check: [python, toy/check.py]") -> None:
    (lab.path / "toy/check.py").write_text(body)
    lab.edit("toy/task.yaml", "outputs:", f"{field}\noutputs:")
    lab.git("add", "-A")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a check")


def record(lab: Lab, number: int = 1) -> dict[str, Any]:
    return json.loads(lab.git("show", f"refs/experiments/t/000{number}:record.json"))


def night(lab: Lab, *agents: str) -> None:
    words = [word for name in agents for word in ("--agent", name)]
    lab.harness("run", "--tag", "t", *words, "--experiments", str(len(agents)))


def test_a_candidate_that_fails_costs_no_run_and_says_why(lab: Lab) -> None:
    with_check(lab)
    lab.agent("reader", "cat lab/experiments/0001/check.log lab/experiments/0001/experiment.md")
    night(lab, "worse", "reader", "better")
    failed = record(lab)
    assert failed["verdict"]["status"] == "crash"
    assert failed["verdict"]["reason"] == "the check failed: X is seven, which nobody wants"
    assert failed["measurements"] == []
    assert failed["experiment"]["commit"]
    assert "train-1.log" not in lab.git("ls-tree", "--name-only", "refs/experiments/t/0001")
    assert lab.git("show", "refs/experiments/t/0001:check.log") == "looking\nX is seven, which nobody wants"
    assert "the end of the check's output:\nlooking" in lab.harness("show", "1").stdout
    seen = lab.git("show", "refs/experiments/t/0002:transcript.txt")
    assert seen.startswith("looking\nX is seven, which nobody wants")
    assert "verdict: crash: the check failed: X is seven" in seen
    assert record(lab, 3)["verdict"]["status"] == "keep"
    assert lab.git("branch", "--list", "exp/*") == ""
    assert not list(lab.state.glob("runs/*/*"))


def test_without_the_check_the_same_candidate_is_run(lab: Lab) -> None:
    """The control."""
    night(lab, "worse")
    assert [each["value"] for each in record(lab)["measurements"]] == [4.0]


def test_unchanged_code_that_fails_ends_the_night(lab: Lab) -> None:
    with_check(lab, "raise SystemExit('the check itself is broken')")
    said = lab.harness("run", "--tag", "t", "--agent", "better", code=1).stderr
    assert "the unchanged code cannot be measured, the check failed: the check itself is broken: repair it or the task" in said


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("while True: pass", "the check took longer than 1 s"),
        ("open('toy/left', 'w')", "the check failed: OSError: [Errno 30] Read-only file system"),
        ("import socket; socket.create_connection(('127.0.0.1', 22), 1)", "the check failed: ConnectionRefusedError"),
        ("import os; os.kill(os.getpid(), 9)", "the check failed: exit code 137"),
        (
            "import time; x = [b'x' * (1 << 20) for _ in range(500)]; time.sleep(9)",
            "the check exceeded the memory limit of 100 MB",
        ),
    ],
)
def test_a_check_is_confined(lab: Lab, body: str, reason: str) -> None:
    with_check(lab, body)
    lab.edit("toy/task.yaml", "run_s: 5", "run_s: 5, check_s: 1" if "while" in body else "run_s: 5")
    if "sleep" in body:
        lab.edit("toy/task.yaml", "outputs:", "limits: {memory_mb: 100}\noutputs:")
    done = lab.harness("check", "--json", code=1)
    found = json.loads(done.stdout)
    assert (found["status"], reason in found["reason"]) == ("crash", True), found["reason"]
    if body.startswith("open"):  # the control: nothing but the sandbox keeps it from writing
        assert json.loads(lab.harness("check", "--json", "--sandbox", "none").stdout)["status"] == "ok"


@pytest.mark.heavy
def test_the_command_takes_what_measure_takes(lab: Lab) -> None:
    assert lab.harness("check").stdout == "passed (the task has no check of its own)\n"
    with_check(lab)
    assert lab.harness("check").stdout.startswith("passed in ")
    (lab.path / "variant.py").write_text("X = 7.0\n")
    failed = lab.harness("check", "variant.py", code=1).stdout
    assert failed == "crash: the check failed: X is seven, which nobody wants\nlooking\nX is seven, which nobody wants\n"
    assert json.loads(lab.harness("check", "HEAD", "--json").stdout)["status"] == "ok"


def test_measure_begins_with_the_check_unless_told_otherwise(lab: Lab) -> None:
    with_check(lab)
    lab.edit("toy/solution.py", "5.0", "7.0")
    assert lab.harness("measure", code=1).stdout.startswith("crash: the check failed: X is seven")
    assert lab.harness("measure", "--no-check").stdout.startswith("distance 4.00\n")


def test_agents_are_told_of_the_check_and_can_run_it(lab: Lab) -> None:
    with_check(lab)
    script = "sed -i 's/5.0/7.0/' toy/solution.py; python toy/check.py > notes/EXPERIMENT.md 2>&1"
    lab.agent("careful", f"{script}; sed -i 's/7.0/4.0/' toy/solution.py; python toy/check.py && echo fine")
    night(lab, "careful")
    assert "Check your change with `python toy/check.py`" in lab.git("show", "refs/experiments/t/0001:prompt.md")
    found = record(lab)
    assert (found["proposal"]["title"], found["proposal"]["hypothesis"]) == ("looking", "X is seven, which nobody wants")
    assert found["verdict"]["status"] == "keep"
    assert lab.git("show", "refs/experiments/t/0001:transcript.txt").endswith("fine")


@pytest.mark.heavy
def test_an_interrupted_check_is_no_verdict(lab: Lab) -> None:
    with_check(lab, "import pathlib, time\nif 'X = 4' in pathlib.Path('toy/solution.py').read_text(): time.sleep(2.5)")
    running = lab.start("run", "--tag", "t", "--agent", "better", "--experiments", "1")
    end = time.monotonic() + 60
    while '"experiment":"0001","phase":"check"' not in "".join(p.read_text() for p in told(lab)):
        assert time.monotonic() < end
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGTERM)
    assert running.wait(30) == 130
    assert (record(lab)["state"], record(lab)["measurements"]) == ("measuring", [])
    assert lab.strays() == []
    lab.harness("resume", "--tag", "t")
    assert record(lab)["verdict"]["status"] == "keep"


def told(lab: Lab) -> list[Path]:
    return list(Path(lab.env["XDG_STATE_HOME"]).glob("harness/*/status/t.json"))


def test_data_in_code_costs_no_run(lab: Lab) -> None:
    """An agent that brings its result along: refused, with the line; the control is the same night without the limit."""
    smuggle = (
        "sed -i 's/5.0/3.0/' toy/solution.py; printf 'W = \"%s\"\\n' $(head -c 12000 /dev/zero | tr '\\0' w) >> toy/solution.py"
    )
    lab.agent("smuggler", smuggle)
    night(lab, "smuggler")
    found = record(lab)
    assert found["verdict"]["status"] == "invalid"
    assert (
        found["verdict"]["reason"] == "toy/solution.py: a literal of 12,000 bytes at line 5: data may not be carried in the code"
    )
    assert (found["measurements"], found["proposal"]["outcome"]["kind"]) == ([], "refused_file")
    lab.edit("toy/task.yaml", "outputs:", "limits: {literal_kb: 0}\noutputs:")
    lab.harness("run", "--tag", "u", "--agent", "smuggler", "--experiments", "1")
    assert lab.rows("u")[1][3] == "keep"
    lab.edit("toy/task.yaml", "literal_kb: 0", "editable_kb: 4")
    lab.harness("run", "--tag", "v", "--agent", "smuggler", "--experiments", "1")
    assert "toy/solution.py is larger than 4 KiB" in lab.harness("show", "1", "--tag", "v").stdout


def test_a_night_on_a_file_that_carries_data_itself_is_refused_at_once(lab: Lab) -> None:
    (lab.path / "toy/solution.py").write_text((lab.path / "toy/solution.py").read_text() + f"TABLE = {list(range(600))}\n")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "a table")
    said = lab.harness("run", "--tag", "t", "--agent", "better", code=1).stderr
    assert "task.yaml, line 3: no change of it could be taken: toy/solution.py: a literal of 600 values at line 5" in said
    assert "raise limits.editable_kb or limits.literal_kb" in said
    assert lab.harness("measure").stdout.startswith("distance 2.00")
    lab.edit("toy/task.yaml", "outputs:", "limits: {literal_kb: 16}\noutputs:")
    night(lab, "better")
    assert record(lab)["verdict"]["status"] == "keep"
