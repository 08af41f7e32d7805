"""The user's mistakes: one plain sentence that names the place and the next step, exit code 1, nothing written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Lab


def says(lab: Lab, *args: str) -> str:
    """The one sentence of a command that has to fail, with nothing written into the repository."""
    before = lab.git("for-each-ref")
    done = lab.harness(*args, code=1)
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("harness: ")
    assert done.stderr.count("\n") == 1
    assert lab.git("for-each-ref") == before
    return done.stderr


RUN = ("run", "--tag", "t", "--agent", "better", "--experiments", "1")


def test_not_a_repository(lab: Lab, tmp_path: Path) -> None:
    (lab.path / ".git").rename(tmp_path / "moved")
    done = lab.harness(*RUN, code=1)
    assert "is not in a git repository: run `git init`" in done.stderr


def test_no_commits(lab: Lab) -> None:
    lab.git("update-ref", "-d", "HEAD")
    assert "has no commits" in says(lab, *RUN)


def test_unknown_agent(lab: Lab) -> None:
    assert "has no agent 'bettr'; did you mean 'better'?" in says(lab, "run", "--agent", "bettr")


def test_missing_program_of_an_agent(lab: Lab) -> None:
    with (lab.path / "agents.yaml").open("a") as file:
        file.write("gone:\n  argv: [no-such-cli]\n  install: npm install -g no-such-cli\n")
    said = says(lab, "run", "--agent", "gone")
    assert "'no-such-cli', which is not on your PATH: install it with `npm install -g no-such-cli`" in said


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("metric: {", "metric: [", "line 7: not valid YAML"),
        ("evaluate:", "evaluat:", "line 6: unknown field 'evaluat'; did you mean 'evaluate'?"),
        ("direction: minimize", "direction: down", "line 7: metric.direction: Input should be 'minimize' or 'maximize'"),
        ("propose_s: 20", "propose_s: -1", "line 8: budget.propose_s: Input should be greater than 0"),
        ("run_s: 5", "rum_s: 5", "line 8: unknown field 'budget.rum_s'; did you mean 'run_s'?"),
        ("program: program.md\n", "", "the field 'program' is missing"),
        ("[toy/solution.py]", "[../solution.py]", "is not a file below the root of the repository"),
        ("evaluate: [python, toy/evaluate.py]", "", "line 1: the field 'evaluate' is missing: the trusted program"),
        ("[python, toy/evaluate.py]", "[python, toy/evalute.py]", "line 6: toy/evalute.py is not in commit"),
        ("[toy/answer.txt]", "[toy]", "line 5: the output toy is a folder: name each file"),
        ("[toy/answer.txt]", "[toy/solution.py]", "line 5: the output toy/solution.py is an editable file"),
        ("[toy/solution.py]", "[toy/solutoin.py]", "the editable file toy/solutoin.py is not in commit"),
    ],
)
def test_a_broken_task(lab: Lab, old: str, new: str, wanted: str) -> None:
    lab.edit("toy/task.yaml", old, new)
    said = says(lab, *RUN)
    assert wanted in said
    assert "task.yaml" in said


def test_unknown_field_in_agents(lab: Lab) -> None:
    with (lab.path / "agents.yaml").open("a") as file:
        file.write("odd:\n  argv: [sh]\n  promt: {via: arg}\n")
    assert "unknown field 'promt'; did you mean 'prompt'?" in says(lab, *RUN)


def test_no_bubblewrap(lab: Lab, tmp_path: Path) -> None:
    only = tmp_path / "bin"
    only.mkdir()
    for name in ("git", "sh", "sed"):
        (only / name).symlink_to(f"/usr/bin/{name}")
    path, lab.env["PATH"] = lab.env["PATH"], str(only)
    done = lab.harness(*RUN, code=1)
    lab.env["PATH"] = path
    assert re.search(
        r"bubblewrap is not installed: run `.*install.* bubblewrap`; .*`--sandbox none` would run agents", done.stderr
    )


def test_a_referee_without_its_data(lab: Lab) -> None:
    lab.edit("toy/evaluate.py", "print(json.dumps", "print('no prepared data: run make')  #")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "broken")
    done = lab.harness(*RUN, code=1)
    assert "no prepared data: run make" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_lab_branch_that_is_checked_out(lab: Lab) -> None:
    lab.git("switch", "-q", "-c", "autoresearch/t")
    assert "autoresearch/t is checked out" in says(lab, *RUN)


def test_another_profile_is_refused(lab: Lab) -> None:
    profiles = "profiles: {fast: {budget: {run_s: 3}}, slow: {}}\n"
    (lab.path / "toy/task.yaml").write_text((lab.path / "toy/task.yaml").read_text() + profiles)
    lab.harness(*RUN, "--profile", "fast")
    assert "was started with --profile fast" in says(lab, *RUN, "--profile", "slow")
    assert "has no profile 'x'; choose one of: fast, slow" in says(lab, *RUN, "--profile", "x")


def test_a_lab_branch_moved_by_somebody_else(lab: Lab) -> None:
    lab.harness(*RUN)
    tree, tip = lab.git("rev-parse", "main^{tree}"), lab.git("rev-parse", "autoresearch/t")
    mine = lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", tree, "-p", tip, "-m", "mine")
    lab.git("update-ref", "refs/heads/autoresearch/t", mine)
    done = lab.harness("run", "--tag", "t", "--agent", "better", "--experiments", "2", code=1)
    assert "autoresearch/t was moved by somebody else" in done.stderr


def test_questions_about_nights_that_do_not_exist(lab: Lab) -> None:
    assert "there is no night here yet" in says(lab, "log")
    lab.harness(*RUN)
    assert "there is no night 'u' here; there are: t" in says(lab, "log", "--tag", "u")
    assert "there is no experiment 77 in 't'" in says(lab, "show", "77")
    assert "experiment 0000 has no change" in says(lab, "diff", "0")


def test_a_record_that_cannot_be_read(lab: Lab) -> None:
    lab.harness(*RUN)
    lab.git("update-ref", "refs/experiments/t/0007", lab.git("rev-parse", "main"))
    assert "refs/experiments/t/0007 holds no record that this version of the harness can read" in says(lab, "log")


def test_a_record_whose_objects_are_lost(lab: Lab) -> None:
    lab.harness(*RUN)
    tree = lab.git("rev-parse", "refs/experiments/t/0001^{tree}")
    (lab.path / ".git/objects" / tree[:2] / tree[2:]).unlink()
    assert "refs/experiments/t/0001 holds no record that this version of the harness can read" in says(lab, "log")


def test_a_bug_of_ours_leaves_its_traceback_in_a_file(lab: Lab, tmp_path: Path) -> None:
    lab.env["TMPDIR"] = str(tmp_path)
    lab.harness(*RUN)
    script = "import harness.view; harness.view.table = None; main()"
    done = subprocess.run(
        [sys.executable, "-c", f"from harness.cli import main; {script}", "log"], cwd=lab.path, env=lab.env, capture_output=True
    )
    assert done.returncode == 3
    assert b"Traceback" not in done.stderr
    assert any("Traceback" in path.read_text() for path in tmp_path.glob("harness-bug-*"))
