"""Pull requests that stand on each other, on a small GitHub: what they say, and what merges of every kind there mean here."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Lab
from hub import TOKEN, Hub
from stage import START, Part, Stage, home
from test_review import record, statuses, tip
from test_stacks import LINES, night, stack

from harness import git, review, telling
from harness.forges.local import Local
from harness.ledger import Ledger
from harness.stacks import Stacks
from harness.syncing import Link, converge, listen, publish

__all__ = ["home", "night", "stack"]
pytestmark = pytest.mark.heavy


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(tmp_path) as made:
        yield made


@pytest.fixture
def there(stack: Lab, hub: Hub) -> Lab:
    """Four winners on top of each other, on the hub."""
    stack.git("remote", "add", "origin", "https://github.com/o/r.git")
    stack.git("config", f"url.{hub.bare}.insteadOf", "https://github.com/o/r.git")
    stack.env |= {"GITHUB_API_URL": hub.url, "GH_TOKEN": TOKEN}
    stack.harness("review", "--push")
    return stack


def test_those_above_are_told_of_a_rejection_once(there: Lab, hub: Hub) -> None:
    commit = record(there, "0002")["experiment"]["commit"]
    wanted = f"**Built on 0001, which waits, too.** The branch holds that as well; its own change is commit {commit}."
    assert f"{wanted} Merging this accepts 0001 with it.\n" in hub.pulls[1]["body"]
    assert 'x-axis ["0000", "0001", "0002", "0003", "0004"]' in hub.pulls[3]["body"]
    assert "--task toy --seed 1" in hub.pulls[1]["body"]
    there.harness("reject", "1", "--reason", "not @ada's #1")
    for _ in range(2):
        there.harness("sync")
    assert "**Built on 0001, which was rejected.**" in hub.pulls[1]["body"]
    assert "Without 0001 it is measured again before the lab takes it." in hub.pulls[1]["body"]
    assert "**Built on 0001, which was rejected, and on 0002, which waits, too.**" in hub.pulls[2]["body"]
    assert [number for number, _ in hub.comments] == [1, 2, 3, 4]
    assert "**Rejected: 0001, which this was built on.** If this is merged, only its own change is taken" in hub.comments[2][1]
    assert "**Rejected by Ada**: not @\u2060ada's" in hub.comments[0][1]
    there.harness("accept", "2")
    there.harness("sync")
    assert "which was rejected, and on 0002, which is measured again.**" in hub.pulls[2]["body"]
    assert [number for number, _ in hub.comments[4:]] == [2]
    assert "It was measured again as 0005, on top of what was merged since: keep, distance 3.00" in hub.comments[4][1]
    hub.refresh()
    assert [pull["state"] for pull in hub.pulls] == ["closed", "closed", "open", "open"]


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
@pytest.mark.parametrize("before", ["", "accept", "reject"])
def test_the_upper_one_is_merged_there(there: Lab, hub: Hub, how: str, before: str) -> None:
    """In every way that the button has, with or without a decision here that is not told there yet."""
    if before:
        there.harness(before, "1")
    hub.merge(3, how)
    there.harness("sync")
    first = {"": "keep", "accept": "keep", "reject": "rejected"}[before]
    again = ["accepted", "accepted"] if before == "reject" else ["keep", "keep"]
    assert statuses(there)[:5] == ["keep", first, *again, "waiting"]
    kept = LINES.replace("B = 2.0", "B = 1.0").replace("C = 0.0", "C = -1.0")
    kept = kept if before == "reject" else kept.replace("A = 5.0", "A = 4.0")
    assert there.git("show", "autoresearch/t:toy/solution.py") == kept.strip()
    assert hub.git("rev-parse", "autoresearch/t") == tip(there)
    refs = there.git("for-each-ref"), hub.git("for-each-ref")
    assert "autoresearch/t at origin is up to date, 1 waits there" in there.harness("sync").stdout
    assert (there.git("for-each-ref"), hub.git("for-each-ref")) == refs


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_a_branch_that_somebody_added_to_is_taken_as_it_was_measured_or_not_at_all(there: Lab, hub: Hub, how: str) -> None:
    tree = there.git("rev-parse", "autoresearch/t^{tree}")
    hub.add("exp/t/0001-step-1", tree)  # takes the change back
    assert "exp/t/0001-step-1 at origin was added to by somebody" in there.harness("review", "--push").stdout
    hub.merge(1, how)
    if how == "merge":
        assert "which is no merged experiment: move it to a branch" in there.harness("sync", code=1).stderr
    else:
        there.harness("sync")
        assert hub.git("rev-parse", "autoresearch/t") == tip(there)
        assert "what others had added to its branch was not measured, and is no part of it" in hub.comments[0][1]
    assert statuses(there) == ["keep", "keep", "waiting", "waiting", "waiting"]
    assert there.git("rev-parse", "autoresearch/t^{tree}") == record(there, "0001")["experiment"]["tree"]


def test_a_branch_of_an_earlier_night_is_not_taken_for_ours(stack: Lab, hub: Hub) -> None:
    branch = "exp/t/0001-step-1"
    stack.git("remote", "add", "origin", str(hub.bare))
    stack.git("push", "-q", str(hub.bare), f"main:refs/heads/{branch}")
    hub.git("update-ref", f"refs/heads/{branch}", hub.git("commit-tree", f"{branch}^{{tree}}", "-m", "another root"))
    refused = stack.harness("review", "--push", code=1).stderr
    assert f"{branch} at origin is not of this night: `git push origin :{branch}` deletes it there" in refused
    stack.git("push", "-q", "origin", f":{branch}")
    stack.harness("sync")
    assert statuses(stack) == ["keep"] + ["waiting"] * 4
    stack.harness("review", "--push")
    assert len(hub.branches()) == 5


def test_the_button_that_updates_a_branch_changes_nothing(there: Lab, hub: Hub) -> None:
    there.harness("accept", "1")
    there.harness("reject", "2")
    there.harness("sync")
    branch = "exp/t/0003-step-3"
    tree = hub.git("merge-tree", "--write-tree", branch, "autoresearch/t").splitlines()[0]
    hub.add(branch, tree, "autoresearch/t")
    hub.merge(3)
    there.harness("sync")
    assert statuses(there) == ["keep", "keep", "rejected", "accepted", "waiting", "keep"]
    assert hub.git("rev-parse", "autoresearch/t") == tip(there)


def test_a_lab_branch_that_is_gone_there_rejects_nothing(there: Lab, hub: Hub) -> None:
    hub.git("update-ref", "-d", "refs/heads/autoresearch/t")
    assert "autoresearch/t is gone at origin" in there.harness("sync", code=1).stderr
    assert statuses(there) == ["keep"] + ["waiting"] * 4
    there.git("push", "-q", str(hub.bare), "autoresearch/t")
    for pull in hub.pulls:
        pull["state"] = "open"
    there.harness("sync")
    assert statuses(there) == ["keep"] + ["waiting"] * 4


def test_what_was_merged_there_and_was_tried_before_is_turned_down_once(there: Lab, hub: Hub) -> None:
    """Without what was rejected, the upper one is what another experiment was, which the judge did not want."""
    there.agent("twin", "sed -i 's/^B = .*/B = 1.0/; s/^A = .*/A = 5.0/' toy/solution.py; NOTE")
    there.harness("run", "--tag", "t", "--review", "--review-base", "tip", "--agent", "twin", "--experiments", "5")
    there.harness("reject", "5")
    there.harness("reject", "1")
    there.harness("sync")
    hub.merge(2)
    there.harness("sync")
    assert statuses(there) == ["keep", "rejected", "rejected", "waiting", "waiting", "rejected"]
    (decision,) = record(there, "0002")["review"]["decisions"]
    assert decision["reason"].startswith("merged by grace, but together with what was merged since it began it is what was tried")
    refs = there.git("for-each-ref"), hub.git("for-each-ref")
    there.harness("sync")
    assert (there.git("for-each-ref"), hub.git("for-each-ref")) == refs


def killed(lab: Lab, hub: Hub, request_: int, *words: str) -> None:
    """The command dies when the hub has done what its request of that number asks for, and before it hears of it."""
    with (lab.path.parent / "killed.log").open("wb") as out:
        child = subprocess.Popen(lab.command(*words), cwd=lab.path, env=lab.env, stdout=out, stderr=out)
    hub.dies = (request_, lambda: os.kill(child.pid, signal.SIGKILL))
    assert child.wait() == -signal.SIGKILL
    hub.dies = None


@pytest.mark.parametrize("request_", range(1, 13))
def test_killed_at_any_request_of_a_sync_the_next_one_finishes_it(there: Lab, hub: Hub, request_: int) -> None:
    hub.merge(1, "squash")
    hub.close(4)
    there.harness("reject", "2", "--reason", "no")
    killed(there, hub, request_, "sync")
    there.harness("sync")
    assert statuses(there) == ["keep", "keep", "rejected", "waiting", "rejected"]
    assert [number for number, _ in hub.comments] == [2, 3]
    assert hub.branches() == ["autoresearch/t", "exp/t/0003-step-3"]
    assert hub.git("rev-parse", "autoresearch/t") == tip(there)
    assert there.git("for-each-ref", "refs/decisions") == ""


def test_a_branch_there_holds_what_was_measured_also_where_that_was_joined(home: Path) -> None:
    """Several under way at a time: some are judged as a merge with a winner that they were not built on at first."""
    parts = [Part({name: 4}, takes=takes) for name, takes in zip("ABCDEF", (9, 2, 5, 1, 4, 2), strict=True)]
    stage = Stage(home / "repo", parts, asked={"review": True, "review_base": "winner"})
    stage.play(workers=2, slots=2)
    bare = str(home / "bare.git")
    subprocess.run(["git", "init", "-q", "--bare", bare], check=True)
    said: list[str] = []
    link = lambda: Link(Ledger(stage.repo, "t"), Local(stage.repo, bare), "shared", said.append)  # noqa: E731
    publish(link())
    shared, ledger = git.Repo(bare), Ledger(stage.repo, "t")
    joined = [each for each in ledger.records() if each.experiment.joined]
    assert joined
    for each in ledger.records()[1:]:
        assert str(shared.references[f"refs/heads/{each.experiment.branch}"].target) == each.judged
    top = Stacks(ledger).waiting()[-1]
    assert telling.standing(ledger, joined[0]).startswith("**Built on ")
    shared.references["refs/heads/autoresearch/t"].set_target(shared.references[f"refs/heads/{top.experiment.branch}"].target)
    listen(link())
    assert review.carry_out(Ledger(stage.repo, "t")) == []
    converge(link())
    assert {each.status for each in Ledger(stage.repo, "t").records()} == {"keep"}
    assert stage.text("autoresearch/t") == START.replace("5", "4")
    assert said[-1] == "autoresearch/t at shared is up to date"


@pytest.mark.parametrize("request_", [2, 3, 5, 8])
def test_killed_while_pull_requests_are_opened(stack: Lab, hub: Hub, request_: int) -> None:
    stack.git("remote", "add", "origin", "https://github.com/o/r.git")
    stack.git("config", f"url.{hub.bare}.insteadOf", "https://github.com/o/r.git")
    stack.env |= {"GITHUB_API_URL": hub.url, "GH_TOKEN": TOKEN}
    killed(stack, hub, request_, "review", "--push")
    stack.harness("sync")
    assert statuses(stack) == ["keep"] + ["waiting"] * 4
    stack.harness("review", "--push")
    assert [pull["title"] for pull in hub.pulls] == [f"t/000{number}: Step {number}" for number in range(1, 5)]
    assert [[label["name"] for label in pull["labels"]] for pull in hub.pulls] == [["harness: keep"]] * 4
