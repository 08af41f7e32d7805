"""The commands around a night: what they print, what they change, and what they refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab

RUN = ("run", "--tag", "t", "--agent", "better", "--agent", "worse", "--experiments", "2")


def parsed(lab: Lab, *args: str, code: int = 0) -> Any:
    return json.loads(lab.harness(*args, "--json", code=code).stdout)


def test_revive_brings_a_branch_back_for_good(lab: Lab) -> None:
    lab.harness(*RUN)
    said = lab.harness("revive", "2").stdout
    assert said.startswith("exp/t/0002-worse: ")
    assert "X = 7.0" in lab.git("show", "exp/t/0002-worse:toy/solution.py")
    lab.harness("run", "--tag", "t", "--agent", "better", "--experiments", "3")
    assert lab.git("branch", "--list", "exp/*") == "exp/t/0002-worse"
    assert lab.harness("revive", "2").stdout == said
    assert "experiment 0000 changed nothing" in lab.harness("revive", "0", code=1).stderr


def test_baseline_measures_without_an_agent(lab: Lab) -> None:
    said = lab.harness("baseline", "--tag", "t", "--seeds", "2").stdout
    assert said.splitlines()[-1] == "mean of 2 runs 2.00, standard deviation of a run 0"
    assert [row[3] for row in lab.rows()] == ["keep"]
    lab.harness("run", "--tag", "t", "--agent", "better", "--experiments", "1")
    assert [row[3] for row in lab.rows()] == ["keep", "keep"]


def test_replicate_adds_runs_with_fresh_seeds_and_leaves_the_verdict(lab: Lab) -> None:
    lab.harness(*RUN)
    assert "mean of 3 runs 4.00" in lab.harness("replicate", "2", "--seeds", "2").stdout
    record = parsed(lab, "show", "2")
    assert [run["seed"] for run in record["measurements"]] == [1, 2, 3]
    assert len(parsed(lab, "replicate", "1")["measurements"]) == 2
    assert record["verdict"]["status"] == "discard"
    assert "train-3.log" in lab.git("ls-tree", "--name-only", "refs/experiments/t/0002")
    lab.harness("run", "--tag", "t", "--agent", "idle", "--experiments", "3")
    assert "experiment 0003 has no change that could be run" in lab.harness("replicate", "3", code=1).stderr


def test_measure_takes_the_work_tree_a_file_or_a_commit(lab: Lab) -> None:
    refs = lab.git("for-each-ref")
    lab.edit("toy/solution.py", "5.0", "3.5")
    assert lab.harness("measure").stdout.startswith("distance 0.50\n")
    (lab.path / "variant.py").write_text((lab.path / "toy/solution.py").read_text().replace("3.5", "3.25"))
    assert parsed(lab, "measure", "variant.py", "--seed", "9")["value"] == 0.25
    assert parsed(lab, "measure", "HEAD")["value"] == 2.0
    assert lab.git("for-each-ref") == refs
    assert "'nothing' is neither a file nor a commit" in lab.harness("measure", "nothing", code=1).stderr
    lab.edit("toy/solution.py", "X = 3.5", "X = missing")
    failed = lab.harness("measure", code=1)
    assert failed.stdout.startswith("crash: exit code 1: NameError")
    assert "Traceback" in failed.stdout  # of the candidate, from its log
    assert not list(lab.state.glob("runs/*/*"))


def test_measure_runs_the_candidate_with_the_referee_of_the_last_commit(lab: Lab) -> None:
    """What is measured by an uncommitted evaluate would be nobody's number."""
    lab.edit("toy/evaluate.py", "abs(x - 3)", "-1")
    assert parsed(lab, "measure")["value"] == 2.0


def test_log_in_every_form(lab: Lab) -> None:
    lab.harness(*RUN)
    assert [record["verdict"]["status"] for record in parsed(lab, "log")] == ["keep", "keep", "discard"]
    assert "progress.png shows: 1 discard, 1 keep" in lab.harness("log", "--plot", "progress.png").stdout
    assert (lab.path / "progress.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "give it a name that ends in" in lab.harness("log", "--plot", "progress.exe", code=1).stderr
    status = parsed(lab, "status")
    assert (status["tag"], status["running"], status["now"], status["test_split_opened"]) == ("t", False, [], 0)
    assert status["summary"] == "1 discard, 1 keep; distance 2.00 -> 1.00 with 1 merged"
    assert (status["state"], status["reason"]) == ("ended", "2 experiments are done")


def test_agents_and_doctor_say_what_is_there(lab: Lab) -> None:
    with (lab.path / "agents.yaml").open("a") as file:
        file.write("gone:\n  argv: [no-such-cli]\n  install: npm install -g no-such-cli\n")
        file.write("told:\n  argv: [sh]\n  model: m1\n  version_cmd: [sh, -c, 'echo told 1.2']\n")
    found = {each["name"]: each for each in parsed(lab, "agents")}
    told = {"name": "told", "installed": True, "version": "told 1.2", "model": "m1", "install": ""}
    assert found["told"] == {**told, "key": "no key needed", "last_failure": None, "weaker": ""}
    assert not found["gone"]["installed"]
    assert "not installed: npm install -g no-such-cli" in lab.harness("agents").stdout
    assert all(check["problem"] is None for check in parsed(lab, "doctor"))


def test_gc_frees_what_can_be_made_again_and_keeps_every_record(lab: Lab) -> None:
    lab.harness(*RUN)
    before = lab.git("for-each-ref"), lab.git("rev-list", "--all", "--count")
    void = lab.state / "runs/t/0001-0"
    void.mkdir(parents=True)
    (void / "big").write_bytes(b"x" * 1_000_000)
    old = lab.state / "logs/t/0001.log"
    os.utime(old, (1, 1))
    assert "1.0 MB would be freed" in lab.harness("gc", "--dry-run").stdout
    assert old.exists()
    gone = {each["path"] for each in parsed(lab, "gc")}
    assert {str(old), str(void.parent)} <= gone
    assert not any(Path(path).exists() for path in gone)
    assert (lab.state / "logs/t/0002.log").exists()
    assert (lab.git("for-each-ref"), lab.git("rev-list", "--all", "--count")) == before
    assert lab.git("count-objects").startswith("0 ") or "in-pack: 0" not in lab.git("count-objects", "-v")
    lab.harness("run", "--tag", "t", "--agent", "better", "--experiments", "3")
    assert [row[3] for row in lab.rows()] == ["keep", "keep", "discard", "keep"]


@pytest.mark.heavy
def test_gc_leaves_a_running_night_alone(lab: Lab) -> None:
    lab.agent("slow", "sleep 3; sed -i 's/5.0/4.0/' toy/solution.py")
    night = lab.start("run", "--tag", "t", "--agent", "slow", "--experiments", "1")
    try:
        while not list(lab.path.parent.glob("state/harness/*/worktrees/t/0001")):
            assert night.poll() is None
        lab.harness("gc", "--keep-days", "0")
        assert night.wait(30) == 0
    finally:
        night.kill()
        night.wait()
    assert [row[3] for row in lab.rows()] == ["keep", "keep"]


def test_what_measures_cannot_be_edited(lab: Lab) -> None:
    lab.edit("toy/task.yaml", "editable: [toy/solution.py]", "editable: ['toy/*.py']")
    said = lab.harness(*RUN, code=1).stderr
    assert "task.yaml, line 3: toy/evaluate.py measures the candidates" in said


@pytest.mark.heavy
def test_the_users_defaults_stand_behind_the_options(lab: Lab) -> None:
    config = Path(lab.env["HOME"]) / ".config/harness/config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("agents: [worse]\nexperiments: 1\nsandbox: none\nprofile: gpu\n")  # a profile that the task does not have
    lab.harness("run", "--tag", "t")
    assert [row[3:] for row in lab.rows()][1:] == [["discard", "worse"]]
    assert parsed(lab, "show", "1")["sandbox"] == "none"
    lab.harness("run", "--tag", "u", "--agent", "better", "--sandbox", "bubblewrap")
    assert parsed(lab, "show", "1", "--tag", "u")["sandbox"] == "bubblewrap"


def test_a_repository_with_a_lab_folder_of_its_own(lab: Lab) -> None:
    (lab.path / "lab").mkdir()
    (lab.path / "lab/history.tsv").write_text("mine")
    lab.git("add", "lab")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a lab")
    lab.harness(*RUN)
    assert lab.git("show", "autoresearch/t:lab/history.tsv") == "mine"


@pytest.mark.parametrize("tag", ["a/b", "-x", "..", "a b", "x.lock", "ä"])
def test_a_tag_that_cannot_be_one(lab: Lab, tag: str) -> None:
    done = lab.harness("run", f"--tag={tag}", "--agent", "better", code=1)
    assert "cannot be a tag: use letters, digits" in done.stderr


def test_completion_knows_tags_and_agents(lab: Lab) -> None:
    lab.harness("baseline", "--tag", "nov21")
    for words, wanted in (("harness log --tag n", "nov21"), ("harness run --agent wo", "worse")):
        env = lab.env | {"_HARNESS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "3"}
        command = [Path(sys.executable).with_name("harness")]
        done = subprocess.run(command, cwd=lab.path, env=env, capture_output=True, text=True, check=False)
        assert done.stdout.split() == [wanted], done.stderr


@pytest.mark.parametrize(("command", "loaded"), [("status", {"pygit2"}), ("baseline", {"pygit2", "asyncio", "harness.research"})])
def test_a_command_loads_only_what_it_needs(lab: Lab, command: str, loaded: set[str]) -> None:
    env = lab.env | {"PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(lab.command(command), cwd=lab.path, env=env, capture_output=True, text=True, check=False)
    found = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert found & {"pygit2", "asyncio", "harness.research", "httpx", "rich", "matplotlib", "optuna", "jinja2"} == loaded


def test_usage_errors_exit_with_2(lab: Lab) -> None:
    lab.harness("run", "--no-such-option", code=2)
    lab.harness("measure", "--seed", "minus", code=2)


@pytest.mark.heavy
def test_a_reader_that_goes_away_is_no_bug(lab: Lab) -> None:
    lab.harness(*RUN)
    script = f"'{sys.executable}' -c 'from harness.cli import main; main()' log --json | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], cwd=lab.path, env=lab.env, capture_output=True, text=True, check=True)
    assert done.stdout == "[0\n"
    assert done.stderr == ""
