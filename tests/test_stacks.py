"""`review_base: winner`: proposals built on winners that wait, and what becomes of them when a person accepts or rejects one."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from conftest import Lab, heavy, make_lab
from stage import START, Part, Stage, check, home
from test_review import branches, mortal, record, statuses, tip

from harness import git, review
from harness.decisions import decide
from harness.ledger import Ledger, now
from harness.models import Decision
from harness.stacks import Stacks

__all__ = ["home"]

RUN = ("run", "--tag", "t", "--review", "--review-base", "winner")
LINES = (
    "import pathlib\nA = 5.0\n\n\n\n\n\nB = 2.0\n\n\n\n\n\nC = 0.0\npathlib.Path('toy/answer.txt').write_text(str(A + B + C))\n"
)
# Each sets a line of its own, the fourth one that of the third again.
STEPS = r"""case {seed} in 1) S='A = 4.0';; 2) S='B = 1.0';; 3) S='C = -1.0';; *) S='C = -1.5';; esac
N=$(echo "$S" | cut -c1); sed -i "s/^$N = .*/$S/" toy/solution.py; printf 'Step {seed}\n' > notes/EXPERIMENT.md"""


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Four winners, each built on the one before."""
    lab = make_lab(tmp_path_factory.mktemp("stacks"))
    (lab.path / "toy/solution.py").write_text(LINES)
    lab.agent("steps", STEPS)
    lab.git("add", "-A")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "three constants")
    lab.git("config", "user.name", "Ada")
    lab.git("config", "user.email", "ada@localhost")
    lab.harness(*RUN, "--agent", "steps", "--experiments", "4")
    return lab


@pytest.fixture
def stack(night: Lab, tmp_path: Path) -> Iterator[Lab]:
    """That night, to decide about; it is put back afterwards."""
    shutil.copytree(night.path.parent, tmp_path / "as it was", symlinks=True)
    yield night
    shutil.rmtree(night.path.parent)
    shutil.move(tmp_path / "as it was", night.path.parent)


def test_the_search_goes_on_from_the_newest_winner(night: Lab) -> None:
    assert statuses(night) == ["keep"] + ["waiting"] * 4
    assert tip(night) == night.git("rev-parse", "main")
    found = [record(night, f"000{n}") for n in range(5)]
    assert [each["experiment"]["base"] for each in found[1:]] == [each["experiment"]["commit"] for each in found[:4]]
    assert [each["measurements"][0]["value"] for each in found] == [4.0, 3.0, 2.0, 1.0, 0.5]
    assert found[3]["verdict"]["reason"].startswith("distance 1.00 against 2.00")
    assert len(night.git("show", "refs/experiments/t/0003:prompt.md").split("The incumbent's value: 2.00 (experiment 0002)")) == 2
    assert "your worktree begins from the newest of them" in night.git("show", "refs/experiments/t/0003:prompt.md")


def test_what_comes_first_is_said_and_the_last_is_not_accepted_alone(night: Lab) -> None:
    said = night.harness("review").stdout
    assert "Step 1\n     would be merged as it was measured" in said
    assert "Step 3\n     built on 0001, 0002, to be accepted first; then would be merged as it was measured" in said
    before = night.git("for-each-ref")
    refused = night.harness("accept", "3", code=1).stderr
    assert "experiment 0003 was built on 0001, 0002, to be accepted first: `harness accept 0003 --stack --tag t`" in refused
    assert night.git("for-each-ref") == before
    assert [each["stack"]["first"] for each in json.loads(night.harness("review", "--json").stdout)][:3] == [
        [],
        ["0001"],
        ["0001", "0002"],
    ]
    assert "built on 0001, to be accepted first" in night.harness("show", "2").stdout


def test_accepted_in_their_order_each_is_merged_as_it_was_measured(stack: Lab) -> None:
    assert stack.harness("accept", "1").stdout == "0001 merged into autoresearch/t\n"
    stack.harness("accept", "3", "--stack", "--reason", "good")
    assert statuses(stack) == ["keep", "keep", "keep", "keep", "waiting"]
    line = stack.git("log", "--first-parent", "--merges", "--reverse", "--format=%s %T", "autoresearch/t").splitlines()
    assert line == [f"keep: Step {n} {record(stack, f'000{n}')['experiment']['tree']}" for n in (1, 2, 3)]
    assert [len(record(stack, f"000{n}")["measurements"]) for n in (1, 2, 3)] == [1, 1, 1]
    assert "Step 4\n     would be merged as it was measured" in stack.harness("review").stdout
    assert branches(stack) == ["exp/t/0004-step-4"]


def test_what_was_built_on_a_rejected_one_is_measured_without_it(stack: Lab) -> None:
    said = stack.harness("reject", "1", "--reason", "no").stdout
    assert "0002, 0003, 0004 built on it, and would be measured again without it" in said
    listed = stack.harness("review").stdout
    assert "Step 2\n     built on rejected 0001: would be measured again without it" in listed
    assert "Step 3\n     built on rejected 0001" in listed
    assert "built on rejected 0001" in stack.harness("show", "3").stdout
    said = stack.harness("accept", "2").stdout
    assert "0002 was measured again as 0005, on top of what was merged since: keep: distance 3.00 against 4.00" in said
    assert stack.git("show", "autoresearch/t:toy/solution.py") == LINES.replace("B = 2.0", "B = 1.0").strip()
    assert stack.git("rev-parse", "autoresearch/t^{tree}") == record(stack, "0005")["experiment"]["tree"]
    assert not stack.git("branch", "--contains", record(stack, "0001")["experiment"]["commit"], "autoresearch/t")


@pytest.mark.heavy
def test_what_conflicts_without_the_rejected_one_is_refused_and_nothing_more_is_built_on_it(stack: Lab) -> None:
    for name in ("1", "3"):
        stack.harness("reject", name)
    stack.harness("accept", "2")
    refused = stack.harness("accept", "4", code=1).stderr
    assert "cannot be merged: it was built on rejected 0001, 0003 and changed the same lines of toy/solution.py" in refused
    assert "built on rejected 0001, 0003: cannot be merged: it changed the same lines" in stack.harness("review").stdout
    stack.harness(*RUN, "--agent", "steps", "--experiments", "6")
    assert record(stack, "0006")["experiment"]["base"] == tip(stack)  # what was built on a rejected one is nobody's base


@pytest.mark.heavy
@pytest.mark.parametrize("step", ["DECISION_MADE", "DECIDED", "MERGE_WRITTEN", "MERGED", "SETTLED"])
@pytest.mark.parametrize("nth", [1, 2])
def test_killed_while_a_stack_is_accepted(stack: Lab, step: str, nth: int) -> None:
    assert mortal(stack, "kill", step, str(nth), "accept", "2", "--stack") == -9
    stack.harness("resume", "--tag", "t", "--experiments", "4")
    if step == "DECISION_MADE" and nth == 1:  # nothing was said of the second one yet
        assert statuses(stack) == ["keep", "keep", "waiting", "waiting", "waiting"]
        stack.harness("accept", "2")
    assert statuses(stack) == ["keep", "keep", "keep", "waiting", "waiting"]
    assert stack.git("rev-parse", "autoresearch/t^{tree}") == record(stack, "0002")["experiment"]["tree"]
    assert stack.git("for-each-ref", "refs/decisions") == ""
    assert [len(record(stack, f"000{n}")["measurements"]) for n in (1, 2)] == [1, 1]


@pytest.mark.heavy
@pytest.mark.parametrize("step", ["DECIDED", "PROPOSED", "RUN_GOES_ON", "MEASURED", "CLOSED", "MERGED"])
def test_killed_while_a_stack_is_measured_without_what_was_rejected(stack: Lab, step: str) -> None:
    stack.harness("reject", "1")
    assert mortal(stack, "kill", step, "1", "accept", "3", "--stack") == -9
    stack.harness("resume", "--tag", "t", "--experiments", "4")
    assert statuses(stack) == ["keep", "rejected", "accepted", "accepted", "waiting", "keep", "keep"]
    assert record(stack, "0006")["experiment"]["base"] != record(stack, "0005")["experiment"]["base"]  # one after the other
    changed = LINES.replace("B = 2.0", "B = 1.0").replace("C = 0.0", "C = -1.0").strip()
    assert stack.git("show", "autoresearch/t:toy/solution.py") == changed
    assert stack.git("for-each-ref", "refs/decisions") == ""


@pytest.mark.heavy
def test_what_waits_on_something_that_cannot_be_merged_waits_on(stack: Lab) -> None:
    stack.harness("reject", "3")
    repo = git.open_repo(stack.path)
    stack.harness("reject", "1")
    decide(repo, "t", "0004", Decision(kind="accept", by="Grace", at=now()))  # as a forge says it, whatever is below
    stack.harness("resume", "--tag", "t", "--experiments", "4")
    assert statuses(stack) == ["keep", "rejected", "waiting", "rejected", "waiting"]
    assert "accepted, but not merged: 0002, which it was built on, still waits" in stack.harness("show", "4").stdout


@pytest.mark.heavy
@pytest.mark.parametrize("step", ["PROPOSED", "BRANCHED", "MEASURED", "CLOSED"])
def test_killed_while_something_is_built_on_a_winner(stack: Lab, step: str) -> None:
    stack.agent("fifth", "sed -i 's/^B = .*/B = 0.75/' toy/solution.py; NOTE")
    assert mortal(stack, "kill", step, "1", *RUN, "--agent", "fifth", "--experiments", "5") == -9
    stack.harness("resume", "--tag", "t", "--experiments", "5")
    assert statuses(stack) == ["keep"] + ["waiting"] * 5
    assert record(stack, "0005")["experiment"]["base"] == record(stack, "0004")["experiment"]["commit"]


@pytest.mark.heavy
def test_the_walk_accepts_what_comes_first_with_the_same_key(stack: Lab) -> None:
    argv = stack.command("review")
    env = {**stack.env, "TERM": "dumb"}
    child = pexpect.spawn(argv[0], argv[1:], cwd=str(stack.path), env=env, timeout=60, encoding="utf-8")
    for question, key in (("0001, 1 of 4", "s"), (r"0002, 2 of 4: \[a\]ccept with 0001 ", "a")):
        child.expect(question)
        child.send(key)
    child.expect("why: ")
    child.sendline("both")
    child.expect(r"would be merged as it was measured\s+0003, 3 of 4: \[a\]ccept  ")
    child.send("r")
    child.expect("why: ")
    child.sendline("no")
    child.expect("built on rejected 0003")
    child.expect("0004, 4 of 4")
    child.send("q")
    child.expect(pexpect.EOF)
    child.close()
    assert statuses(stack) == ["keep", "keep", "keep", "rejected", "waiting"]
    assert record(stack, "0001")["review"]["decisions"][0]["reason"] == "both"


def test_it_is_for_nights_in_review(night: Lab) -> None:
    said = night.harness("run", "--tag", "u", "--review-base", "winner", "--agent", "steps", code=1).stderr
    assert "--review-base is for nights in which what is kept waits for a person: add --review" in said


@pytest.mark.heavy
def test_a_night_that_merges_by_itself_goes_on_from_the_tip(stack: Lab) -> None:
    stack.agent("fifth", "sed -i 's/^A = .*/A = 3.0/' toy/solution.py; NOTE")
    stack.harness("run", "--tag", "t", "--merge", "--agent", "fifth", "--experiments", "5")
    assert statuses(stack) == ["keep"] + ["waiting"] * 4 + ["keep"]
    assert stack.git("show", "autoresearch/t:toy/solution.py") == LINES.replace("A = 5.0", "A = 3.0").strip()


@pytest.mark.heavy
def test_a_merge_that_is_taken_back_is_about_the_tip(stack: Lab) -> None:
    stack.harness("accept", "1")
    (found,) = json.loads(stack.harness("ablate", "--json").stdout)
    assert (found["says"], found["worth"]) == ("still helps", 1.0)
    assert record(stack, found["experiment"])["experiment"]["base"] == tip(stack)


def winners(home: Path, kills: list[int], **more: Any) -> Stage:
    """Six winners, several under way at a time, some slower than those that began after them."""
    parts = [Part({name: 4}, takes=takes) for name, takes in zip("ABCDEF", (9, 2, 5, 1, 4, 2), strict=True)]
    stage = Stage(home / "repo", parts, kills=kills, asked={"review": True, "review_base": "winner"}, **more)
    stage.play(workers=2, slots=2)
    return stage


@pytest.mark.parametrize("kills", [[], *heavy([20, 31, 60], [45, 90, 91, 140], list(range(25, 200, 25)))])
def test_several_at_once_make_one_stack_of_measured_trees(home: Path, kills: list[int]) -> None:
    stage = winners(home, kills)
    ledger = Ledger(stage.repo, "t")
    stacks = Stacks(ledger)
    assert [each.status for each in ledger.records()] == ["keep"] + ["waiting"] * 6
    assert all(stacks.sound(each) for each in stacks.waiting())
    assert [len(stacks.below(each)) for each in stacks.waiting()] == list(range(6))
    assert stacks.waiting() != ledger.records()[1:]  # not in the order of their numbers
    for each in stacks.waiting():
        assert any(run.commit == each.judged and run.status == "ok" for run in each.measurements)
    assert stage.text(stacks.head()) == START.replace("5", "4")
    runs = len(stage.made)
    for each in stacks.waiting():
        decide(stage.repo, "t", each.id, Decision(kind="accept", by="Ada", at=now()))
    assert review.carry_out(Ledger(stage.repo, "t")) == []
    assert (len(stage.made), stage.text("autoresearch/t")) == (runs, START.replace("5", "4"))
    check(stage)


@pytest.mark.heavy
def test_noise_is_judged_against_the_winner(home: Path) -> None:
    stage = winners(home, [], noise=0.2)
    found = {each.judged: each for each in stage.records}
    assert sum(each.status == "waiting" for each in stage.records) >= 4
    controls = [each for each in stage.records if len(each.values) > (each.verdict.runs if each.verdict else 0)]
    for each in stage.records[1:]:
        assert each.ground in found
        assert each.verdict is not None
        assert each.verdict.value is not None
        assert each.verdict.gain == pytest.approx(1.0, abs=0.6)
    assert controls


def pushed(lab: Lab) -> Lab:
    """That night on a forge, and a second clone of it."""
    subprocess.run(["git", "init", "-q", "--bare", str(lab.path.parent / "bare.git")], check=True)
    lab.git("remote", "add", "origin", "../bare.git")
    lab.harness("review", "--push")
    env = {**lab.env, **{f"GIT_{who}_{what}": "g@h" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}}
    bare, path = str(lab.path.parent / "bare.git"), lab.path.parent / "theirs"
    subprocess.run(["git", "clone", "-q", "-b", "autoresearch/t", bare, str(path)], env=env, check=True)
    return Lab(path, env)


@pytest.mark.parametrize("how", [["--no-ff", "-m", "both"], *heavy(["--squash"], ["--ff-only"])])
def test_who_merges_the_upper_one_there_has_accepted_the_lower_one(stack: Lab, how: list[str]) -> None:
    other = pushed(stack)
    other.git("merge", "-q", *how, "origin/exp/t/0002-step-2")
    if how == ["--squash"]:
        other.git("commit", "-qm", "both in one")
    other.git("push", "-q", "origin", "autoresearch/t")
    said = stack.harness("sync").stdout
    who = f"somebody at {stack.path.parent}" if how == ["--ff-only"] else "g@h <g@h>"
    assert f"0001: accepted by {who}" in said
    assert statuses(stack) == ["keep", "keep", "keep", "waiting", "waiting"]
    reason = "" if how == ["--ff-only"] else "merged with 0002, which was built on it"  # that one moved to the lower one, too
    assert record(stack, "0001")["review"]["decisions"][0]["reason"] == reason
    assert stack.git("rev-parse", "autoresearch/t^{tree}") == record(stack, "0002")["experiment"]["tree"]
    assert other.git("ls-remote", "origin", "autoresearch/t").split()[0] == tip(stack)
    assert [each["id"] for each in json.loads(stack.harness("ablate", "--json").stdout)] == ["0001", "0002"]


@pytest.mark.heavy
def test_what_was_rejected_here_does_not_come_back_with_what_was_built_on_it(stack: Lab) -> None:
    other = pushed(stack)
    stack.harness("reject", "1")
    other.git("merge", "-q", "--no-ff", "-m", "both", "origin/exp/t/0002-step-2")
    other.git("push", "-q", "origin", "autoresearch/t")
    stack.harness("sync")
    assert statuses(stack) == ["keep", "rejected", "accepted", "waiting", "waiting", "keep"]
    assert stack.git("show", "autoresearch/t:toy/solution.py") == LINES.replace("B = 2.0", "B = 1.0").strip()
    assert other.git("ls-remote", "origin", "autoresearch/t").split()[0] == tip(stack)
