"""Runs are made of the trusted files and a candidate's editable ones, and nights go on only where their numbers compare."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab

from harness.process import PACKAGE

RUN = ("run", "--tag", "t", "--agent", "better")


def commit(lab: Lab, message: str = "work") -> str:
    lab.git("add", "-A")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", message)
    return lab.git("rev-parse", "HEAD")


def aside(lab: Lab) -> str:
    """A commit of the work tree on a branch of its own; the checkout goes back to main."""
    lab.git("switch", "-qc", "theirs")
    made = commit(lab)
    lab.git("switch", "-q", "main")
    return made


def parsed(lab: Lab, *args: str) -> Any:
    return json.loads(lab.harness(*args, "--json").stdout)


def test_a_commit_that_changes_what_measures_is_measured_without_that(lab: Lab) -> None:
    lab.edit("toy/solution.py", "5.0", "3.5")
    lab.edit("toy/evaluate.py", "abs(x - 3)", "-1")
    (lab.path / "toy/new.txt").write_text("x")
    theirs = aside(lab)
    done = lab.harness("measure", theirs)
    assert done.stdout.startswith("distance 0.50\n")
    assert f"warning: {theirs} differs in toy/evaluate.py and 1 more, which no experiment may change" in done.stderr
    lab.git("merge", "-q", "theirs")  # the control: as trusted files they count
    done = lab.harness("measure", theirs)
    assert done.stdout.startswith("distance -1.00\n")
    assert "warning" not in done.stderr


def test_a_run_sees_the_files_that_a_candidate_added_and_not_those_that_it_deleted(lab: Lab) -> None:
    lab.edit("toy/task.yaml", "[toy/solution.py]", "[toy/solution.py, 'toy/parts/*.txt']")
    listing = "print(sorted(p.name for p in pathlib.Path('toy').rglob('*.txt')))"
    (lab.path / "toy/solution.py").write_text((lab.path / "toy/solution.py").read_text() + listing)
    (lab.path / "toy/parts").mkdir()
    for name in ("parts/old.txt", "frozen.txt"):
        (lab.path / "toy" / name).write_text("1")
    commit(lab)
    (lab.path / "toy/parts/old.txt").rename(lab.path / "toy/parts/new.txt")
    (lab.path / "toy/frozen.txt").unlink()
    assert "['answer.txt', 'frozen.txt', 'new.txt']" in parsed(lab, "measure", aside(lab))["log_tail"]


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        ("ln -sf /etc/passwd toy/solution.py", "toy/solution.py is a link"),
        ("git rm -q toy/solution.py", "toy/solution.py is gone"),
        ("mkdir -p toy/parts; ln -s /etc toy/parts/etc.txt", "toy/parts/etc.txt is a link"),
        ("git rm -q toy/link.d; mkdir toy/link.d; echo x > toy/link.d/x.txt", "toy/link.d/x.txt takes the place of another file"),
        ("echo '#' >> toy/solution.py; head -c 70000 /dev/zero | tr '\\0' '#' >> toy/solution.py", "larger than 64 KiB"),
        ("echo \"W = '$(head -c 9000 /dev/zero | tr '\\0' w)'\" >> toy/solution.py", "a literal of 9,000 bytes at line 5"),
    ],
)
def test_a_commit_whose_files_cannot_be_taken_is_refused(lab: Lab, work: str, reason: str) -> None:
    """The control is the work itself, which git takes: only the harness's look at the commit keeps it from being run."""
    lab.edit("toy/task.yaml", "[toy/solution.py]", "[toy/solution.py, 'toy/*.d/*.txt', 'toy/parts/*.txt']")
    (lab.path / "toy/link.d").symlink_to("/tmp")
    (lab.path / "toy/some.d").mkdir()
    (lab.path / "toy/some.d/x.txt").write_text("x")
    (lab.path / "toy/parts").mkdir()
    (lab.path / "toy/parts/x.txt").write_text("x")
    commit(lab)
    (lab.path / "work.sh").write_text(work)
    lab.git("-c", "alias.do=!sh work.sh", "do")
    (lab.path / "work.sh").unlink()
    said = lab.harness("measure", aside(lab), code=1).stderr
    assert reason in said
    assert "so it cannot be measured" in said


def test_the_hash_is_of_the_content_that_no_experiment_may_change(lab: Lab) -> None:
    first = parsed(lab, "measure")
    assert first["harness"]
    lab.edit("toy/solution.py", "5.0", "4.0")
    commit(lab)
    assert parsed(lab, "measure")["trusted"] == first["trusted"]
    lab.edit("toy/evaluate.py", "abs(x - 3)", "abs(x - 2)")
    assert parsed(lab, "measure")["trusted"] == first["trusted"]  # not committed, so not what measured
    commit(lab)
    assert parsed(lab, "measure")["trusted"] != first["trusted"]


@pytest.mark.heavy
def test_a_night_does_not_go_on_under_another_version(lab: Lab, tmp_path: Path) -> None:
    lab.harness(*RUN, "--experiments", "1")
    shutil.copytree(PACKAGE, tmp_path / "other/harness")
    version = tmp_path / "other/harness/__init__.py"
    version.write_text(re.sub(r'__version__ = ".*"', '__version__ = "9.9"', version.read_text()))
    lab.env["PYTHONPATH"] = str(tmp_path / "other")
    for words in (("resume", "--tag", "t"), ("replicate", "1", "--tag", "t")):
        said = lab.harness(*words, code=1).stderr
        assert "'t' cannot go on, its numbers would not compare: its baseline was measured by harness 0.1.0" in said
        assert "and this is 9.9" in said
        assert "`git switch --detach autoresearch/t` and `harness run --tag NEW`" in said
    assert len(lab.rows()) == 2  # reading still works
    lab.git("switch", "-q", "--detach", "autoresearch/t")  # what it says to do
    lab.harness("run", "--tag", "new", "--agent", "better", "--experiments", "1")
    assert parsed(lab, "show", "0", "--tag", "new")["measurements"][0]["harness"] == "9.9"
    del lab.env["PYTHONPATH"]
    lab.harness(*RUN, "--experiments", "2")
    assert len(lab.rows()) == 3


def test_a_night_does_not_go_on_under_other_terms(lab: Lab) -> None:
    lab.harness(*RUN, "--experiments", "1")
    lab.edit("toy/task.yaml", "run_s: 5", "run_s: 50")
    assert "or the length of a run changed since its baseline was measured" in lab.harness("resume", "--tag", "t", code=1).stderr
    lab.edit("toy/task.yaml", "run_s: 50", "run_s: 5")
    lab.edit("toy/task.yaml", "propose_s: 20", "propose_s: 30")  # says nothing about a number
    lab.harness(*RUN, "--experiments", "2")
    assert len(lab.rows()) == 3


def test_a_night_does_not_go_on_with_another_program_outside(lab: Lab, tmp_path: Path) -> None:
    program = tmp_path / "score.py"
    program.write_text((lab.path / "toy/evaluate.py").read_text())
    lab.edit("toy/task.yaml", "python, toy/evaluate.py", f"python, {program}")
    lab.harness(*RUN, "--experiments", "1")
    program.write_text(program.read_text().replace("abs(x - 3)", "-9"))
    said = lab.harness("resume", "--tag", "t", "--experiments", "2", code=1).stderr
    assert "another program that measures, which lies outside the repository changed" in said
    assert len(lab.rows()) == 2
