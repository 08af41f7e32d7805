"""A night in hostile surroundings: what the machine, the user and other programs do to it while it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Lab, heavy, make_lab
from test_crash import MORTAL, NEVER_IN_A_NIGHT

from harness.steps import Step

RUN = ("run", "--tag", "t", "--agent", "better", "--agent", "worse", "--experiments", "2")
PERSON = ("-c", "user.name=a", "-c", "user.email=a@b")


def disturbed(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the harness as a child to which something happens; see mortal.py."""
    return subprocess.run(
        [sys.executable, MORTAL, *words], cwd=lab.path, env=lab.env, capture_output=True, text=True, timeout=120
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a child that had to give up."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def finished(lab: Lab) -> None:
    """The night came to what it always comes to, and git finds nothing wrong."""
    assert [row[3] for row in lab.rows() if row[3] != "void"] == ["keep", "keep", "discard"]
    assert lab.git("log", "--first-parent", "--merges", "--format=%s", "autoresearch/t") == "keep: Move X towards three"
    assert lab.git("rev-parse", "autoresearch/t^{tree}") == lab.git("rev-parse", "autoresearch/t^2^{tree}")
    assert lab.git("branch", "--list", "exp/*") == ""
    assert lab.git("fsck", "--full", "--no-dangling") == ""


def mounted(*argv: str) -> None:
    done = subprocess.run(["mount", *argv], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the right to mount: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with a disk of its own, of eight megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted("-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


SOON, LATER = (
    (Step.HARVESTED, Step.MERGED),
    (Step.BEGUN, Step.BRANCHED, Step.PROPOSED, Step.EXPORTED, Step.RUN_ENDED, Step.CLOSED),
)


@pytest.mark.parametrize("step", [*SOON, *heavy(*LATER)])
def test_a_full_disk_stops_the_night_and_costs_nothing(small_disk: Path, step: Step) -> None:
    """Objects, refs, worktrees, logs and status are all on the disk that is full from one step on."""
    lab = make_lab(small_disk)
    filler = small_disk / "filler"
    in_the_baseline_too = step in (Step.BEGUN, Step.EXPORTED, Step.RUN_ENDED, Step.CLOSED)
    done = disturbed(lab, "sh", step.name, "2" if in_the_baseline_too else "1", f"cat /dev/zero > '{filler}' || true", *RUN)
    assert "No space left on device" in refused(done)
    assert "nothing that was recorded is lost" in refused(done)
    filler.unlink()
    lab.harness("resume", "--tag", "t")
    finished(lab)


@pytest.mark.parametrize("what", ["repository", *heavy("state")])
def test_no_permission_to_write(lab: Lab, what: str) -> None:
    Path(lab.env["XDG_STATE_HOME"]).mkdir()
    folder = lab.path if what == "repository" else Path(lab.env["XDG_STATE_HOME"])
    mounted("--bind", str(folder), str(folder))
    try:
        mounted("-o", "remount,bind,ro", str(folder))
        assert "Read-only file system" in refused(disturbed(lab, "kill", "REVIVED", "1", *RUN))
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    lab.harness(*RUN)
    finished(lab)


def test_a_person_commits_to_the_lab_branch(lab: Lab) -> None:
    """The sentence names the commands that put it back; they work when pasted, and the person's commit is not lost."""
    commit = "git -c user.name=a -c user.email=a@b commit-tree $(git mktree </dev/null) -p autoresearch/t -m mine"
    done = disturbed(lab, "sh", "RUN_ENDED", "2", f"git update-ref refs/heads/autoresearch/t $({commit})", *RUN)
    said = refused(done)
    assert "autoresearch/t was moved by somebody else" in said
    command = said.split("`")[1]
    assert command.startswith("git branch mine autoresearch/t && git branch -f autoresearch/t ")
    subprocess.run(["sh", "-c", command], cwd=lab.path, env=lab.env, check=True, capture_output=True)
    lab.harness("resume", "--tag", "t")
    finished(lab)
    assert lab.git("log", "-1", "--format=%s", "mine") == "mine"


@pytest.mark.parametrize("ref", ["heads/autoresearch/t", *heavy("experiments/t/0001")])
def test_a_ref_moved_in_the_very_moment(lab: Lab, ref: str) -> None:
    """Between the harness's reading of a ref and its writing: nobody's work is overwritten."""
    step = "MERGE_WRITTEN" if "heads" in ref else "RUN_ENDED"
    mine = lab.git(*PERSON, "commit-tree", "main^{tree}", "-p", "main", "-m", "mine")
    done = disturbed(lab, "sh", step, "1" if "heads" in ref else "2", f"git update-ref refs/{ref} {mine}", *RUN)
    assert f"refs/{ref} was moved by somebody else" in refused(done)
    assert lab.git("rev-parse", f"refs/{ref}") == mine


@pytest.mark.heavy
def test_two_harnesses_with_state_folders_of_their_own(lab: Lab) -> None:
    """The lock lies in the repository that it protects."""
    other = f"XDG_STATE_HOME=$PWD/../other '{sys.executable}' -c 'from harness.cli import main; main()'"
    command = f"{other} run --tag t --agent better 2> ../said || true"
    assert disturbed(lab, "sh", "AGENT_AT_WORK", "1", command, *RUN[:4], "slow", *RUN[4:]).returncode == 1  # no such agent
    lab.agent("slow", "sleep 0.4; sed -i 's/^X = 5.0/X = 4.0/' toy/solution.py; NOTE", "Move X towards three")
    done = disturbed(lab, "sh", "AGENT_AT_WORK", "1", command, "run", "--tag", "t", "--agent", "slow", "--experiments", "1")
    assert done.returncode == 0, done.stderr
    assert "another harness is at work on 't'" in (lab.path.parent / "said").read_text()


def test_garbage_is_collected_at_every_step(lab: Lab) -> None:
    lab.git("config", "gc.reflogExpire", "now")
    done = disturbed(lab, "sh", "ANY", "0", "git reflog expire --expire=now --all; git gc -q --prune=now", *RUN)
    assert done.returncode == 0, done.stderr
    finished(lab)


@pytest.mark.heavy
def test_garbage_is_collected_all_the_time(lab: Lab) -> None:
    """Whatever a collection deletes because no ref named it yet is written again."""
    script = "while :; do git gc -q --prune=now 2>/dev/null; done"
    collector = subprocess.Popen(["sh", "-c", script], cwd=lab.path, env=lab.env, start_new_session=True)
    try:
        lab.harness(*RUN)
    finally:
        os.killpg(collector.pid, 9)
        collector.wait()
    for lock in (lab.path / ".git").rglob("*.lock"):  # of the git that was killed
        if lock.parent.name != "harness":
            lock.unlink()
    finished(lab)


@pytest.mark.heavy
def test_objects_deleted_under_a_running_night_are_written_again(lab: Lab) -> None:
    """The worst of it: everything loose that is not packed is gone while a candidate is measured."""
    gone = "find .git/objects -type f -newer program.md -path '*/[0-9a-f][0-9a-f]/*' -delete"
    lab.git("gc", "-q")
    os.utime(lab.path / "program.md")
    assert disturbed(lab, "sh", "RUN_ENDED", "2", gone, *RUN).returncode == 0
    finished(lab)


@pytest.mark.heavy
def test_the_clock_jumps(lab: Lab) -> None:
    done = disturbed(lab, "clock", *RUN, "--hours", "1")
    assert done.returncode == 0, done.stderr
    assert "2 experiments are done" in done.stderr
    finished(lab)


def test_the_user_deletes_the_worktree(lab: Lab) -> None:
    lab.agent("slow", "sleep 0.4; sed -i 's/^X = 5.0/X = 4.0/' toy/solution.py; NOTE")
    gone = f"rm -rf '{lab.env['XDG_STATE_HOME']}'/harness/*/worktrees"
    done = disturbed(lab, "sh", "AGENT_AT_WORK", "1", gone, "run", "--tag", "t", "--agent", "slow", "--experiments", "1")
    assert done.returncode == 0, done.stderr
    assert [row[3] for row in lab.rows()] == ["keep", "void", "keep"]
    assert "the worktree was deleted while the agent worked in it" in lab.harness("show", "1").stdout


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("git switch -qc other", marks=pytest.mark.heavy),
        pytest.param("git -c user.name=a -c user.email=a@b commit -q --amend -m rewritten", marks=pytest.mark.heavy),
        "git switch -q --detach; git branch -qD main; git reflog expire --expire=now --all; git gc -q --prune=now",
        "rm -rf toy; git config core.hooksPath /nowhere",
    ],
)
def test_the_user_works_on(lab: Lab, command: str) -> None:
    """Switching, rewriting and deleting branches, and a work tree without the task: none of it is the night's."""
    assert disturbed(lab, "sh", "RUN_ENDED", "1", command, *RUN).returncode == 0
    finished(lab)


@pytest.mark.heavy
def test_the_lab_branch_is_checked_out_during_the_night(lab: Lab) -> None:
    done = disturbed(lab, "sh", "RUN_ENDED", "2", "git worktree add -q ../look autoresearch/t", *RUN)
    assert "autoresearch/t is checked out: switch to another branch" in refused(done)
    assert (lab.path.parent / "look/toy/solution.py").read_text() == (lab.path / "toy/solution.py").read_text()
    lab.git("-C", "../look", "switch", "-q", "--detach", "autoresearch/t")
    lab.harness("resume", "--tag", "t")
    finished(lab)


@pytest.mark.heavy
def test_locks_of_the_dead_and_of_the_living(lab: Lab) -> None:
    lab.harness("run", "--tag", "t", "--agent", "better", "--experiments", "1")
    for stale in ("refs/heads/autoresearch/t.lock", "refs/experiments/t/0002.lock"):
        (lab.path / ".git" / stale).touch()
    busy = "git pack-refs --all; touch .git/packed-refs.lock"  # anybody's: not ours to break
    assert "packed-refs.lock" in refused(disturbed(lab, "sh", "RUN_ENDED", "1", busy, *RUN))
    (lab.path / ".git/packed-refs.lock").unlink()
    lab.harness(*RUN)
    finished(lab)


def test_a_repository_like_nobody_tests_with(tmp_path: Path) -> None:
    """Its path, submodules, LFS, line ends, a linked work tree: the candidate's bytes go through none of it."""
    lab = make_lab(tmp_path / "Größe 漢字 'quoted'")
    (lab.path / ".gitattributes").write_text("*.py text eol=crlf filter=lfs diff=lfs merge=lfs\n*.txt ident\n")
    (lab.path / ".gitmodules").write_text('[submodule "sub"]\n\tpath = sub\n\turl = https://example.invalid/sub.git\n')
    (lab.path / "größe.txt").write_text("$Id$\n")
    lab.git("add", ".gitattributes", ".gitmodules", "größe.txt")
    lab.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
    lab.git(*PERSON, "commit", "-qm", "odd things")
    lab.git("worktree", "add", "-q", "../linked", "-b", "linked")
    first, lab.path = lab.path, lab.path.parent / "linked"
    lab.harness(*RUN)
    finished(lab)
    changed = lab.git("diff", "--raw", "--no-renames", "linked", "autoresearch/t").splitlines()
    assert [line.split("\t")[1] for line in changed] == ["toy/solution.py"]
    blob = subprocess.run(["git", "cat-file", "blob", "autoresearch/t:toy/solution.py"], cwd=lab.path, capture_output=True)
    assert b"X = 4.0" in blob.stdout
    assert b"\r" not in blob.stdout
    lab.path = first  # a night is every work tree's
    assert "2 experiments are done" in lab.harness("status").stdout
    assert "ends after 2 experiments" in lab.harness("resume").stderr


@pytest.mark.heavy
def test_a_shallow_clone_and_a_history_that_agents_do_not_need(lab: Lab, tmp_path: Path) -> None:
    """The view repository begins with the lab branch: gigabytes of history cost nothing, and show nothing."""
    (lab.path / "big").write_bytes(os.urandom(3 << 20))
    lab.git("add", "big")
    lab.git(*PERSON, "commit", "-qm", "big and old")
    big = lab.git("rev-parse", "HEAD:big")
    lab.git("rm", "-q", "big")
    lab.git(*PERSON, "commit", "-qm", "gone again")
    lab.agent("reader", "git log --format=%s; git status --short; sed -i 's/^X = .*/X = 7.0/' toy/solution.py", "worse")
    run = ("run", "--tag", "t", "--agent", "better", "--agent", "reader", "--experiments", "2")
    lab.harness(*run)
    finished(lab)
    mirror = next(Path(lab.env["XDG_STATE_HOME"]).glob("harness/*/mirror.git"))
    assert subprocess.run(["git", f"--git-dir={mirror}", "cat-file", "-e", big], capture_output=True).returncode != 0
    assert lab.git("show", "refs/experiments/t/0002:transcript.txt").splitlines()[:3] == [
        "keep: Move X towards three",
        "Move X towards three",
        "gone again",
    ]
    lab.git("clone", "-q", "--depth", "1", f"file://{lab.path}", str(tmp_path / "shallow"))
    agents = (lab.path / "agents.yaml").read_text()
    lab.path = tmp_path / "shallow"
    (lab.path / "agents.yaml").write_text(agents)
    lab.harness(*run)
    finished(lab)


@pytest.mark.heavy
def test_two_gigabytes_of_history(lab: Lab) -> None:
    for part in range(8):
        with (lab.path / "big").open("wb") as file:
            for _ in range(256):
                file.write(os.urandom(1 << 20))
        lab.git("-c", "core.compression=0", "add", "big")
        lab.git(*PERSON, "commit", "-qm", f"part {part}")
    lab.git("rm", "-q", "big")
    lab.git(*PERSON, "commit", "-qm", "gone again")
    lab.harness(*RUN)
    finished(lab)
    mirror = next(Path(lab.env["XDG_STATE_HOME"]).glob("harness/*/mirror.git"))
    assert sum(path.stat().st_size for path in mirror.rglob("*") if path.is_file()) < 5_000_000


def test_every_step_is_reached_by_some_night(lab: Lab) -> None:
    """Otherwise a test that kills at it would kill nothing."""
    lab.agent("slow", "sleep 0.4; echo 'import time; time.sleep(0.4)' >> toy/solution.py")
    slow = "[python, -c, 'import time; time.sleep(0.4)']"
    lab.edit("toy/task.yaml", "outputs:", f"check: {slow}\nguards: [{{name: slow, run: {slow}}}]\noutputs:")
    steps = [step for step in Step if step not in NEVER_IN_A_NIGHT]
    log = lab.path.parent / "steps"
    script = f"import sys; sys.addaudithook(lambda e, a: e == 'harness.step' and print(a[0].name, file=open({str(log)!r}, 'a')))"
    args = ["run", "--tag", "t", "--agent", "better", "--agent", "slow", "--experiments", "2"]
    command = [sys.executable, "-c", f"{script}; from harness.cli import main; main()", *args]
    subprocess.run(command, cwd=lab.path, env=lab.env, check=True, capture_output=True)
    assert set(log.read_text().split()) == {step.name for step in steps}
