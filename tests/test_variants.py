"""Several variants in one proposal: each an experiment on one incumbent, none lost or tried twice, and the best one wins."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab, make_lab
from stage import Part, Stage, Wanted, check, drain, home
from test_crash import mortal, outcome, same
from test_submit import branch

from harness import grid, view
from harness.ledger import Ledger
from harness.models import Outcome, Record
from harness.report.detail import facts
from harness.stacks import Stacks
from harness.steps import Step

__all__ = ["home"]
SET = "sed 's/^X = .*/X = {}/' toy/solution.py > {}"
GRID = "\n".join(
    [
        "cat lab/history.tsv; cat lab/experiments/0002/experiment.md; ls -a variants",
        "mkdir -p variants/1/toy variants/2 variants/3 variants/4 variants/5",
        SET.format("4.5", "variants/1/toy/solution.py"),
        "printf 'Four and a half\\n\\nA step.\\n' > variants/1/EXPERIMENT.md",
        SET.format("3.5", "variants/2/solution.py"),
        SET.format("4.5", "variants/3/solution.py"),
        "ln -s /etc/passwd variants/4/solution.py",
        SET.format("3.0", "variants/5/solution.py"),
        "NOTE",
    ]
)
RUN = ("run", "--tag", "t", "--agent", "gridder", "--experiments", "3")


def record(lab: Lab, number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.git("show", f"refs/experiments/t/000{number}:record.json"))
    return found


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A night that was killed just after a record named its variants, and from which git then removed what no ref names."""
    lab = make_lab(tmp_path_factory.mktemp("grid"))
    lab.agent("gridder", GRID, "Steps towards three")
    assert mortal(lab, "kill", "PROPOSED", "1", *RUN) == -9
    assert [each["folder"] for each in record(lab, 1)["variants"] if not each["dropped"]] == ["2"]
    lab.git("gc", "-q", "--prune=now")
    lab.harness("resume", "--tag", "t")
    return lab


def test_each_is_an_experiment_on_the_same_incumbent(night: Lab) -> None:
    first, second, third = (record(night, number) for number in (1, 2, 3))
    assert [each["variant"] for each in (first, second, third)] == [
        {"of": "0001", "n": 1, "k": 2},
        {"of": "0001", "n": 2, "k": 2},
        None,  # what it left was tried, or cannot be taken: that is one proposal for nothing
    ]
    start = night.git("rev-parse", "main")
    for each in (first, second):
        assert night.git("rev-parse", f"{each['experiment']['commit']}^@") == start
        assert night.git("diff", "--name-only", start, each["experiment"]["commit"]) == "toy/solution.py"
    assert night.git("log", "--format=%s", "--first-parent", "--merges", "autoresearch/t").splitlines() == [
        "keep: Steps towards three (variant 2)",
        "keep: Four and a half",
    ]
    assert "X = 3.5" in night.git("show", "autoresearch/t:toy/solution.py")
    assert "\nVariant: 2/2 of 0001\n" in night.git("log", "-1", "--format=%B", "autoresearch/t") + "\n"
    assert night.git("branch", "--list", "exp/*") == ""


def test_what_is_not_tried_is_named_with_the_reason(night: Lab) -> None:
    dropped = {each["folder"]: each["dropped"] for each in record(night, 1)["variants"]}
    assert dropped == {
        "2": "",
        "3": "it is the same as variants/1",
        "4": "variants/4/solution.py is a link or unreadable (Too many levels of symbolic links)",
        "5": "4 variants are the most",
    }
    assert record(night, 3)["verdict"]["reason"] == "the same change was tried as 0001"
    assert record(night, 3)["variants"][0]["dropped"] == "it leaves the editable files as they are"
    told = night.harness("show", "1").stdout
    assert "variant   1/2 of 0001; 0002 keep\n" in told
    assert "variant   variants/5 is not tried: 4 variants are the most\n" in told


def test_what_an_agent_cost_is_told_once(night: Lab) -> None:
    assert record(night, 1)["proposal"]["seconds"] > 0
    assert record(night, 2)["proposal"]["seconds"] == 0
    assert record(night, 2)["proposal"]["exit_code"] is None


def test_siblings_stand_together_in_what_people_and_agents_read(night: Lab) -> None:
    rows = night.harness("log").stdout.splitlines()
    assert rows[2].split(maxsplit=5)[5] == "[1/2 of 0001] Four and a half"
    assert rows[3].split(maxsplit=5)[5] == "[2/2 of 0001] Steps towards three (variant 2)"
    asked = night.git("show", "refs/experiments/t/0003:prompt.md")
    assert "- 2 variants of one idea:\n  - 0001 keep 1.50 Four" in asked
    assert "\n  - 0002 keep 0.50 Steps towards three (variant 2)\n" in asked
    assert "up to 4 variants of your idea" in asked
    seen = night.git("show", "refs/experiments/t/0003:transcript.txt")
    assert "\tSteps towards three (variant 2)\t0001\n" in seen
    assert "variants of this idea:\n\nid\tcommit" in seen
    assert ("Variant", "2/2 of 0001") in facts(Record.model_validate(record(night, 2)))


def test_none_are_asked_for_or_taken_where_they_are_switched_off(lab: Lab) -> None:
    lab.edit("toy/task.yaml", "stop:", "variants: 1\nstop:")
    lab.agent("gridder", "mkdir -p variants/1; " + SET.format("3.0", "variants/1/solution.py") + "; true", "One")
    lab.harness("run", "--tag", "t", "--agent", "gridder", "--experiments", "1")
    assert record(lab, 1)["verdict"]["status"] == "invalid"
    assert "variants" not in lab.git("show", "refs/experiments/t/0001:prompt.md")


GRIDS = [Part({"A": 4}, variants=({"A": 3}, {"A": 2})), Part({"B": 4})]


def test_a_better_value_takes_the_place_of_its_sibling_and_no_agent_is_asked(home: Path) -> None:
    stage = Stage(home, GRIDS)
    stage.play(1, 1, 4)
    assert [each.status for each in stage.records] == ["keep", "keep", "keep", "discard", "keep"]
    assert "A = 3\n" in stage.text("autoresearch/t")
    assert [len(asked) for asked in stage.prompts.values()] == [1, 1]
    assert len(stage.made) == len(set(stage.made)) == 5  # nothing is run again on a tree that was run
    check(stage)


def test_a_better_value_takes_the_place_of_a_sibling_that_waits(home: Path) -> None:
    stage = Stage(home, GRIDS, asked={"review": True, "review_base": "winner"})
    stage.play(1, 1, 4)
    assert [each.status for each in stage.records] == ["keep", "waiting", "waiting", "discard", "waiting"]
    stacks = Stacks(Ledger(stage.repo, "t"))
    assert [each.id for each in stacks.below(stage.records[4])] == ["0001", "0002"]
    assert "A = 3\n" in stage.text(stacks.head())
    assert [len(asked) for asked in stage.prompts.values()] == [1, 1]
    assert len(stage.made) == 5


def test_parts_are_tried_alone_and_together(home: Path) -> None:
    """Each alone is a gain, together they do harm. That is found when the second is joined with the first: then it is known."""
    stage = Stage(home, [Part({}, variants=({"A": 4}, {"B": 3}, {"A": 4, "B": 3}))], worse={"AB"})
    stage.play(1, 1, 3)
    assert [each.status for each in stage.records] == ["keep", "keep", "discard", "invalid"]
    assert stage.records[3].verdict is not None
    assert stage.records[3].verdict.reason == "the same change was tried as 0002"
    assert [len(asked) for asked in stage.prompts.values()] == [1]
    assert len(stage.made) == 4
    check(stage)


def test_what_a_night_has_no_room_for_is_tried_when_it_goes_on(home: Path) -> None:
    stage = Stage(home, GRIDS)
    assert stage.play(1, 1, 2) == "2 experiments are done"
    (first, second, third) = stage.records
    assert [each.dropped for each in second.variants] == ["", ""]
    assert second.variant is not None
    assert second.variant.k == 3
    assert grid.waiting([first, second]) == [(second, 2, second.variants[0]), (second, 3, second.variants[1])]
    assert grid.waiting(stage.records) == [(second, 3, second.variants[1])]
    assert "variant   2/3 of 0001; 0001 keep, 1 more to be tried" in view.full(third, lambda _: "", stage.records)
    check(stage)
    stage.free_disk()
    assert stage.play(1, 1, 3) == "3 experiments are done"
    assert [each.variant.n for each in stage.records if each.variant] == [1, 2, 3]
    assert list(stage.prompts) == ["0001"], "they come before anything that an agent is asked for"
    check(stage)


@pytest.mark.parametrize("workers", [1, 3])
def test_what_people_ask_for_goes_before_the_variants_that_wait(home: Path, workers: int) -> None:
    """A submission is the next experiment, also when it is what a variant would be; an idea is the next agent's."""
    grids = Part({"A": 60}, variants=({"B": 61}, {"B": 62}, {"B": 63}))
    stage = Stage(home, [grids, *(Part({"D": 60 + n}, variants=({"E": 60 + n},)) for n in range(9))], runs=[3])
    stage.wanted = [Wanted(20), Wanted(21, {"B": 63}), Wanted(22, {"C": 4})]
    stage.play(workers, 1, 9)
    drain(stage, workers, 1)
    by = {(each.wish.kind, each.wish.number): each for each in reversed(stage.records) if each.wish}
    same, better, idea = by["submission", 1], by["submission", 2], by["idea", 1]
    assert (same.status, better.status) == ("discard", "keep")
    last = next(each for each in stage.records if each.variant and each.variant.n == 4)
    assert last.verdict is not None
    assert last.verdict.reason == f"the same change was tried as {same.id}"
    assert same.id < better.id < last.id < idea.id
    assert "try 0" in stage.prompts[idea.id][0]
    assert [each.id for each in stage.records if each.wish and each.wish.kind == "idea"] == [
        each.id for each in grid.family(stage.records, idea)
    ]
    check(stage)


def test_a_submission_needs_no_worker_only_room_in_the_queue(home: Path) -> None:
    """While the only agent is at work, the other run slot is not left idle."""
    stage = Stage(home, [Part({"A": 4}), Part({"B": 4}, takes=50)])
    stage.wanted = [Wanted(25, {"C": 4})]
    stage.play(1, 2, 3)
    agents = {each.id: each.experiment.agent for each in stage.records[1:]}
    slow = next(name for name in stage.prompts if name != "0001")
    person = next(name for name, agent in agents.items() if agent == "person")
    by_id = {each.id: each for each in stage.records}
    assert (by_id[person].merge or 0) < (by_id[slow].merge or 0)
    check(stage)


def test_turns_are_fair_and_nobody_waits_for_the_slowest(home: Path) -> None:
    """One agent always crashes, one never changes anything, one is slow; check() says that no slot was ever free for nothing."""
    parts = [part for n in range(5) for part in (Part({"A": 90 + n}), Part({}), Part({"B": 60 + n}, takes=30))]
    stage = Stage(home, parts, runs=[4], agents=("crasher", "idler", "slow"), wanted=[Wanted(30, {"C": 4})])
    stage.play(3, 2, 13)
    check(stage)
    assert Counter(each.experiment.agent for each in stage.records[1:]) == {"crasher": 4, "idler": 4, "slow": 4, "person": 1}
    turns = [each.experiment.agent for each in stage.records[1:] if each.experiment.agent != "person"]
    assert turns == ["crasher", "idler", "slow"] * 4


@pytest.mark.parametrize("workers", [1, 3])
def test_variants_wait_in_the_queue_and_agents_take_turns_by_proposals(home: Path, workers: int) -> None:
    many = tuple({"A": number} for number in (3, 2, 4, 6))
    stage = Stage(home, [Part({"B": 60 + number}, variants=many if number == 0 else ()) for number in range(12)])
    stage.play(workers, 1, 10)
    assert stage.most_waiting <= max(workers, 1) + (workers > 1)
    siblings = [each for each in stage.records if each.variant]
    assert len(siblings) == 5
    base = {each.experiment.base for each in siblings}
    assert len(base) == 1
    assert stage.prompts.keys().isdisjoint(each.id for each in siblings[1:])
    check(stage)


def test_they_are_tried_though_no_agent_can_work_any_more(home: Path) -> None:
    """The key is refused just after the first proposal. What that left is measured all the same, and then the night ends."""
    stage = Stage(home, [Part({"A": 4}, variants=({"B": 4}, {"C": 4}))])

    def refused(step: Step) -> None:
        if step is Step.PROPOSED and stage.night:
            stage.night.pause("player", Outcome(kind="auth", reason="no"))
        told(step)

    told, stage.reached = stage.reached, refused  # type: ignore[method-assign]
    assert stage.play(1, 1, 9).startswith("no agent can work")
    assert [each.status for each in stage.records] == ["keep"] * 4


def test_a_variant_that_crashes_goes_back_alone(home: Path) -> None:
    stage = Stage(home, [Part({"A": 4}, variants=({"B": 95}, {"C": 4})), Part({"B": 4}), Part({"D": 90})])
    (stage.path / "agents.yaml").write_text("player: {argv: [sh], repairs: 1}\n")
    stage.play(1, 1, 3)
    first, mended, last = stage.records[1:]
    assert [each.status for each in (first, mended, last)] == ["keep"] * 3
    assert mended.proposal is not None
    assert mended.proposal.tries[0].verdict is not None
    assert mended.proposal.tries[0].verdict.status == "crash"
    assert mended.proposal.title == "Play 2"
    assert list(stage.prompts) == ["0001", "0002"]
    assert "# Mend your change" in stage.prompts["0002"][0]
    assert "variants of your idea" not in stage.prompts["0002"][0]
    check(stage)


def test_a_conflict_with_what_somebody_else_merged_sends_a_variant_back(home: Path) -> None:
    first, other = Part({"B": 4}, 3, variants=({"A": 4},)), Part({"A": 3})
    stage = Stage(home, [first, other, Part({"E": 60}, 9), Part({}, again={"D": 4})])
    stage.play(2, 1, 4)
    variant = next(each for each in stage.records if each.variant and each.variant.n == 2)
    assert variant.status == "keep"
    assert variant.proposal is not None
    assert [each.verdict.reason for each in variant.proposal.tries if each.verdict] == [
        "not additive: the texts of both changes conflict"
    ]
    (asked,) = stage.prompts[variant.id]
    assert "# Make your idea anew" in asked
    assert "variants of your idea" not in asked
    check(stage)


def test_the_same_as_what_waits_is_no_new_idea(home: Path) -> None:
    """Another agent that makes what is to be tried next is turned back, before it costs a run."""
    stage = Stage(home, [Part({"A": 60}, variants=({"B": 61}, {"B": 62}, {"B": 63})), Part({"B": 63}, takes=3)], runs=[9])
    stage.play(2, 1, 5)
    status = {each.id: each.status for each in stage.records}
    twin = next(each for each in stage.records[1:] if not each.variant)
    assert status[twin.id] == "invalid"
    assert twin.verdict is not None
    assert twin.verdict.reason.startswith("the same change was tried as 000")
    check(stage)


def test_show_counts_those_that_wait(home: Path) -> None:
    stage = Stage(home, GRIDS)
    stage.play(1, 1, 3)
    records: list[Record] = stage.records
    assert "variant   1/3 of 0001; 2 more to be tried" in view.full(records[1], lambda _: "", records[:2])
    assert "variant   2/3 of 0001; 0001 keep, 0003 discard\n" in view.full(records[2], lambda _: "", records)


def until(lab: Lab, experiment: str, running: subprocess.Popen[bytes]) -> None:
    """Wait for an experiment to begin."""
    end = time.monotonic() + 120
    while f"refs/experiments/t/{experiment}" not in lab.git("for-each-ref", "--format=%(refname)"):
        assert running.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.heavy
def test_whatever_people_do_to_a_real_night_with_variants_nothing_is_lost_or_tried_twice(lab: Lab) -> None:
    """Asked for things, interrupted, its disk freed, killed, and resumed with more experiments than before."""
    lab.edit("toy/solution.py", "import os, pathlib\n", "import os, pathlib, time\ntime.sleep(1)\n")
    steps = "".join(f"mkdir -p variants/{n}; {SET.format(f'4.{n}', f'variants/{n}/solution.py')}\n" for n in range(1, 5))
    lab.agent("gridder", f"if [ {{seed}} = 1 ]; then\n{steps}else sed -i 's/^X = .*/X = 5.{{seed}}/' toy/solution.py; fi; NOTE")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "slow")
    running = lab.start("run", "--tag", "t", "--agent", "gridder", "--experiments", "3")
    until(lab, "0001", running)
    lab.harness("idea", "--tag", "t", "try five and a bit")
    until(lab, "0002", running)
    tip = lab.git("show", "autoresearch/t:toy/solution.py") + "\n"
    branch(lab, "mine", {"toy/solution.py": tip.replace("X = 4.1", "X = 3.9")}, "autoresearch/t")
    assert "takes it up" in lab.harness("submit", "mine", "--tag", "t").stdout
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130
    lab.harness("gc", "--keep-days", "0", "--keep-checkpoints", "1")
    lab.git("gc", "-q", "--prune=now")
    lab.harness("resume", "--tag", "t")
    agents = [record(lab, number)["experiment"]["agent"] for number in (1, 2, 3)]
    assert agents == ["gridder", "gridder", "person"]
    assert "2 more to be tried" in lab.harness("show", "1").stdout
    running = lab.start("resume", "--tag", "t", "--experiments", "7")
    until(lab, "0004", running)
    running.kill()
    running.wait()
    lab.harness("resume", "--tag", "t")
    found = [record(lab, number) for number in range(1, 8)]
    assert [each["variant"] and each["variant"]["n"] for each in found] == [1, 2, None, 3, 4, None, None]
    assert [each["wish"] and each["wish"]["kind"] for each in found] == [None, None, "submission", None, None, "idea", None]
    assert [each["verdict"]["status"] for each in found[:5]] == ["keep", "discard", "keep", "discard", "discard"]
    assert lab.strays() == []
    assert lab.git("branch", "--list", "exp/*") == ""


STEPS = [step for step in Step if step not in (Step.REVIVED, Step.LAB_MADE)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a night with a grid comes to when nobody kills it."""
    lab = make_lab(tmp_path_factory.mktemp("undisturbed"))
    lab.agent("gridder", GRID, "Steps towards three")
    lab.harness(*RUN)
    return outcome(lab)


@pytest.mark.heavy
@pytest.mark.parametrize("nth", ["1", "2", "3"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_once(lab: Lab, step: Step, nth: str, undisturbed: dict[str, Any]) -> None:
    lab.agent("gridder", GRID, "Steps towards three")
    if mortal(lab, "kill", step.name, nth, *RUN) == -9:
        assert lab.strays() == []
        subprocess.run(["git", "prune", "--expire=now"], cwd=lab.path, env=lab.env, check=True)
        lab.harness(*RUN)
    same(outcome(lab), undisturbed)
