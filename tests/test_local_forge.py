"""A bare repository as a forge: a second clone that merges or deletes branches decides."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import Lab
from test_review import branches, lab2, night, record, statuses, tip

__all__ = ["lab2"]


@pytest.fixture
def there(lab2: Lab) -> Lab:
    subprocess.run(["git", "init", "-q", "--bare", str(lab2.path.parent / "bare.git")], check=True)
    lab2.git("remote", "add", "backup", "../bare.git")
    return lab2


def clone(lab: Lab) -> Lab:
    """Somebody else's clone."""
    path = lab.path.parent / "theirs"
    env = {**lab.env, **{f"GIT_{who}_{what}": "g@h" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}}
    subprocess.run(
        ["git", "clone", "-q", "-b", "autoresearch/t", str(lab.path.parent / "bare.git"), str(path)], env=env, check=True
    )
    return Lab(path, env)


def test_a_second_clone_merges_one_and_deletes_one(there: Lab) -> None:
    night(there, "a", "b", "late")
    there.harness("review", "--push")
    other = clone(there)
    other.git("merge", "-q", "--no-ff", "-m", "good", "origin/exp/t/0001-lower-a")
    other.git("push", "-q", "origin", "autoresearch/t", ":exp/t/0002-lower-b")
    there.harness("sync")
    assert tip(there) == other.git("rev-parse", "HEAD")
    assert statuses(there) == ["keep", "keep", "rejected", "waiting"]
    assert record(there, "0001")["review"]["decisions"][0]["by"] == "g@h <g@h>"
    assert branches(there) == ["exp/t/0003-lower-b-too-far"]
    listed = other.git("ls-remote", "origin", "refs/heads/exp/*", "refs/experiments/*").split()[1::2]
    assert listed[0] == "refs/experiments/t/0000"
    assert listed[-1] == "refs/heads/exp/t/0003-lower-b-too-far"
    assert other.git("ls-remote", "origin", "refs/experiments/t/0002").split()[0] == there.git(
        "rev-parse", "refs/experiments/t/0002"
    )


@pytest.mark.heavy
def test_a_fast_forward_there_is_taken_over_and_work_on_a_branch_is_kept(there: Lab) -> None:
    night(there, "a", "b")
    there.harness("review", "--push", "--remote", "backup")
    other = clone(there)
    other.git("merge", "-q", "--ff-only", "origin/exp/t/0001-lower-a")
    other.git("switch", "-q", "exp/t/0002-lower-b")
    other.git("commit", "-q", "--allow-empty", "-m", "a remark")
    other.git("push", "-q", "origin", "autoresearch/t", "exp/t/0002-lower-b")
    there.harness("sync")
    assert tip(there) == record(there, "0001")["experiment"]["commit"]
    there.harness("reject", "2")
    assert "exp/t/0002-lower-b at backup was added to by somebody, so it stays there" in there.harness("sync").stdout
    there.harness("run", "--tag", "t", "--agent", "idle", "--experiments", "3")
    assert record(there, "0003")["experiment"]["base"] == tip(there)


@pytest.mark.heavy
def test_a_remote_has_to_be_there(there: Lab) -> None:
    night(there, "a")
    assert "there is no remote 'nowhere', name one with --remote; there are: backup" in (
        there.harness("review", "--push", "--remote", "nowhere", code=1).stderr
    )
    there.git("remote", "set-url", "backup", str(Path("..") / "gone.git"))
    assert "cannot be reached" in there.harness("sync", code=1).stderr


@pytest.mark.heavy
@pytest.mark.parametrize("how", [["--no-ff", "-m", "good"], ["--ff-only"]])
def test_what_was_rejected_here_and_merged_there_is_taken_in_without_its_change(there: Lab, how: list[str]) -> None:
    night(there, "a")
    there.harness("review", "--push")
    other = clone(there)
    other.git("merge", "-q", *how, "origin/exp/t/0001-lower-a")
    other.git("push", "-q", "origin", "autoresearch/t")
    there.harness("reject", "1")
    there.harness("sync")
    assert statuses(there) == ["keep", "rejected"]
    assert there.git("diff", "main", "autoresearch/t") == ""
    there.harness("run", "--tag", "t", "--agent", "b", "--experiments", "2")  # the baseline is what it has to beat
    assert statuses(there) == ["keep", "rejected", "keep"]


@pytest.mark.heavy
def test_what_somebody_made_of_a_candidate_is_not_taken_for_it(there: Lab) -> None:
    """Another change with the candidate's own message, on the lab branch there."""
    night(there, "a")
    there.harness("review", "--push")
    other = clone(there)
    other.git("merge", "-q", "--ff-only", "origin/exp/t/0001-lower-a")
    (other.path / "toy/solution.py").write_text("A = 3.0\n")
    other.git("commit", "-qa", "--amend", "--no-edit")
    other.git("push", "-q", "origin", "autoresearch/t")
    assert "which is no merged experiment" in there.harness("sync", code=1).stderr
    assert statuses(there) == ["keep", "waiting"]
    assert tip(there) == there.git("rev-parse", "main")
