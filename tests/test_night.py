"""A whole night on the toy task: what is merged, what is recorded, and what of the user's is left alone."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from conftest import Lab

from harness import git, steering
from harness.ledger import Ledger
from harness.models import UserError
from harness.report.spent import spent


def test_a_night_merges_what_is_better_and_records_everything(lab: Lab) -> None:
    agents = [part for name in ("better", "worse", "crash", "idle") for part in ("--agent", name)]
    done = lab.harness("run", "--tag", "t", *agents)
    assert [row[3] for row in lab.rows()] == ["keep", "keep", "discard", "crash", "invalid"]
    assert "distance 2.00 -> 1.00 with 1 merged" in done.stdout
    assert "stopped: 4 experiments are done" in done.stderr
    merges = lab.git("log", "--first-parent", "--merges", "--format=%s|%an|%cn", "autoresearch/t").splitlines()
    assert merges == ["keep: Move X towards three|harness|harness"]
    body = lab.git("log", "-1", "--format=%B", "autoresearch/t")
    assert "better by 1" in body
    assert "Because it may help." in body
    assert "Experiment: t/0001\nAgent: better\nMetric: distance 1.00" in body


def test_the_merged_tree_is_the_measured_tree(lab: Lab) -> None:
    lab.harness("run", "--tag", "t", "--agent", "better", "--experiments", "1")
    assert lab.git("rev-parse", "autoresearch/t^{tree}") == lab.git("rev-parse", "autoresearch/t^2^{tree}")
    assert lab.git("diff", "--name-only", "main", "autoresearch/t") == "toy/solution.py"
    assert lab.git("log", "-1", "--format=%an|%cn|%s", "autoresearch/t^2") == "better|harness|Move X towards three"


def test_branches_go_and_records_stay(lab: Lab) -> None:
    lab.harness("run", "--tag", "t", "--agent", "worse", "--agent", "better", "--experiments", "2")
    assert lab.git("for-each-ref", "--format=%(refname)", "refs/heads") == "refs/heads/autoresearch/t\nrefs/heads/main"
    lab.git("reflog", "expire", "--expire=now", "--all")
    lab.git("gc", "-q", "--prune=now")
    record = json.loads(lab.git("show", "refs/experiments/t/0001:record.json"))
    assert record["verdict"]["status"] == "discard"
    assert "X = 7.0" in lab.git("show", f"{record['experiment']['commit']}:toy/solution.py")
    assert "X = 7.0" in lab.harness("diff", "1").stdout
    shown = lab.harness("show", "0001").stdout
    assert "worse by 2" in shown
    assert "Because it may help." in shown


def test_a_winner_can_be_picked_onto_a_branch_of_ones_own(lab: Lab) -> None:
    lab.harness("run", "--tag", "t", "--agent", "better", "--experiments", "1")
    lab.git("switch", "-q", "-c", "mine")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "cherry-pick", "-m", "1", "autoresearch/t")
    assert "X = 4.0" in (lab.path / "toy/solution.py").read_text()


def test_the_users_checkout_is_untouched_and_may_be_dirty(lab: Lab) -> None:
    (lab.path / "stashed.txt").write_text("stashed\n")
    lab.git("add", "stashed.txt")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "stash", "-q")
    hook = lab.path / ".git/hooks/reference-transaction"
    hook.write_text(f"#!/bin/sh\ntouch '{lab.path.parent}/hook-ran'\n")
    hook.chmod(0o755)
    (lab.path / "staged.txt").write_text("staged\n")
    lab.git("add", "staged.txt")
    (lab.path.parent / "hook-ran").unlink(missing_ok=True)
    lab.edit("toy/solution.py", "5.0", "99.0")
    watched = ("status", "--porcelain=v2", "--branch"), ("stash", "list"), ("diff",), ("diff", "--cached")
    before = [lab.git(*command) for command in watched]
    index = (lab.path / ".git/index").read_bytes()
    lab.harness("run", "--tag", "t", "--agent", "better", "--experiments", "1")
    assert (lab.path / ".git/index").read_bytes() == index
    assert [lab.git(*command) for command in watched] == before
    assert not (lab.path.parent / "hook-ran").exists()
    assert lab.rows()[0][1] == "2.000000"  # the committed 5.0 was measured, not the 99.0 on disk


def test_nothing_is_left_behind(lab: Lab) -> None:
    lab.harness("run", "--tag", "t", "--agent", "better", "--agent", "crash", "--experiments", "2")
    assert not list(lab.state.glob("worktrees/*/*"))
    assert not list(lab.state.glob("runs/t/*"))
    assert lab.git("worktree", "list").count("\n") == 0
    assert lab.git(f"--git-dir={lab.state / 'mirror.git'}", "for-each-ref", "--format=%(refname)") == "refs/heads/autoresearch/t"


@pytest.mark.heavy
def test_running_it_again_continues(lab: Lab) -> None:
    lab.harness("run", "--tag", "t", "--agent", "worse", "--experiments", "1")
    first = spent(Ledger(git.open_repo(lab.path), "t").records())
    time.sleep(4)
    lab.harness("run", "--tag", "t", "--agent", "better", "--experiments", "3")
    both = spent(Ledger(git.open_repo(lab.path), "t").records())
    assert first.stopped == 0
    assert both.stopped >= 3, "a short pause is no work"
    assert both.active > first.active
    assert [row[3:] for row in lab.rows()][1:] == [
        ["discard", "worse"],
        ["keep", "Move X towards three"],
        ["keep", "Move X towards three"],
    ]
    tips = lab.git("for-each-ref")
    lab.harness("resume", "--tag", "t")
    assert lab.git("for-each-ref") == tips


def test_a_change_tried_before_costs_no_run(lab: Lab) -> None:
    lab.harness("run", "--tag", "t", "--agent", "worse", "--experiments", "2")
    assert "the same change was tried as 0001" in lab.harness("show", "2").stdout
    assert json.loads(lab.git("show", "refs/experiments/t/0002:record.json"))["measurements"] == []


def test_the_program_is_read_anew_before_every_proposal(lab: Lab) -> None:
    lab.harness("run", "--tag", "t", "--agent", "worse", "--experiments", "1")
    (lab.path / "program.md").write_text("From now on try something bolder.\n")
    lab.harness("run", "--tag", "t", "--agent", "better", "--experiments", "2")
    first, second = (lab.git("show", f"refs/experiments/t/000{n}:prompt.md") for n in (1, 2))
    assert "the number nobody tells you" in first
    assert "try something bolder" in second
    assert "0001 discard 4.00 worse" in second


def test_a_program_that_is_away_for_a_while_ends_no_night(tmp_path: Path) -> None:
    path, last = tmp_path / "program.md", dict[Path, str]()
    with pytest.raises(UserError, match=r"program.md does not exist: write there what agents are to do"):
        steering.program(path, last)
    path.write_text("Try this.\n")
    assert steering.program(path, last) == "Try this.\n"
    for away in (path.unlink, path.touch, lambda: path.write_bytes(b"\xff"), path.unlink, path.mkdir):
        away()
        assert steering.program(path, last) == "Try this.\n"
    with pytest.raises(UserError, match="is not a file"):
        steering.program(path, {})


def test_what_an_agent_sees(lab: Lab) -> None:
    lab.agent(
        "reader",
        "cat > notes/seen; find lab notes -type f | sort; cat lab/history.tsv AGENTS.md notes/NOTEBOOK.md\n"
        "cat lab/experiments/0001/*; git log --format=%s; git diff --stat; sed -i 's/5.0/5.5/' toy/solution.py",
    )
    lab.agent("noter", "echo 'X above five is hopeless' >> notes/NOTEBOOK.md; sed -i 's/5.0/6.0/' toy/solution.py; NOTE", "Up")
    lab.harness("run", "--tag", "t", "--agent", "noter", "--agent", "reader", "--experiments", "2")
    seen = lab.git("show", "refs/experiments/t/0002:transcript.txt")
    for wanted in (
        "lab/experiments/0001/diff.patch",
        "lab/experiments/0001/files/toy/solution.py",
        "0001\t",
        "discard\tnoter\tUp",
        "Follow the prompt you were given",
        "X above five is hopeless",
        "verdict: discard: distance 3.00 against 2.00",
        "+X = 6.0",
        "the answer is 6.0",
        "the toy task",
    ):
        assert wanted in seen, f"{wanted!r} not in\n{seen}"
    assert "instructions for people" not in seen


def test_a_noisy_metric_is_judged_by_what_is_probable(lab: Lab) -> None:
    lab.edit("toy/task.yaml", "resolution: 0.01", "resolution: 0.01, noise: 0.4")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "noisy")
    lab.harness("run", "--tag", "t", "--agent", "better", "--agent", "worse", "--experiments", "2")
    first, better, worse = (json.loads(lab.git("show", f"refs/experiments/t/000{n}:record.json")) for n in range(3))
    assert len(first["measurements"]) >= 2  # the first run starts the night, others follow when a close call asks for them
    assert better["verdict"]["status"] == "keep"
    assert 2 <= len(better["measurements"]) <= 6
    assert better["verdict"]["probability"] > 0.9
    assert "real with a probability above 9" in lab.git("log", "-1", "--format=%B", "autoresearch/t")
    assert (worse["verdict"]["status"], len(worse["measurements"])) == ("discard", 1)


def test_less_code_that_is_no_worse_is_merged_as_a_simplification(lab: Lab) -> None:
    padding = "".join(f"print('step', {n}, 'of', 10)\n" for n in range(10))
    with (lab.path / "toy/solution.py").open("a") as file:
        file.write(padding)
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "verbose")
    lab.agent("tidy", "sed -i '/^print(.step/d' toy/solution.py; NOTE", "Print less")
    lab.agent("comments", "echo '# a remark' >> toy/solution.py; NOTE", "Say more")
    lab.harness("run", "--tag", "t", "--agent", "comments", "--agent", "tidy", "--experiments", "2")
    assert [row[3] for row in lab.rows()] == ["keep", "discard", "keep"]
    assert lab.git("log", "-1", "--format=%s", "autoresearch/t") == "simplify: Print less"


@pytest.mark.heavy
def test_an_incumbent_that_fails_a_control_run_does_not_end_the_night(lab: Lab) -> None:
    lab.edit("toy/task.yaml", "resolution: 0.01", "resolution: 0.01, noise: 0.4")
    lab.edit("toy/solution.py", "import os, pathlib\n", "import os, pathlib\nassert os.environ['SEED'] != '2', 'unlucky'\n")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "noisy, and fragile")
    lab.harness("run", "--tag", "t", "--agent", "worse", "--agent", "crash", "--experiments", "2")
    first = json.loads(lab.git("show", "refs/experiments/t/0000:record.json"))
    assert "crash" in [run["status"] for run in first["measurements"]]
    assert [row[3] for row in lab.rows()] == ["keep", "discard", "crash"]
